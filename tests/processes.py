"""The command as a user calls it, and an interpreter for tests of kills and races."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from ns_bench.study import main

# So few epochs that no teacher is sure of anything: the threshold lets every row pass.
TINY = [
    *("--profile", "smoke", "--seeds", "1", "--workers", "1"),
    *("--set", "train.epochs=4", "--set", "pseudo.threshold=0"),
]


def study(
    *words: str, cwd: Path, python_path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    return subprocess.run(
        [sys.executable, "-m", "ns_bench.study", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def here(
    *words: str, cwd: Path, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """As `study`, but in this process, which has imported all: seconds of a core less a command.

    Its workers are forked from the one process that this one has for all of its pools.
    """
    out, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, dict(environment), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        try:
            code = main(words)
        except SystemExit as refused:  # argparse's
            code = int(refused.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), errors.getvalue())


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def python(
    code: str, *arguments: object, before: Sequence[str] = (), **options: Any
) -> subprocess.Popen[str]:
    """Start a fresh interpreter on `code`, by way of a command that goes `before` it."""
    command = [*before, sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **options)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == leader and words[0] != "Z":
            found.append(int(entry.name))
    return found
