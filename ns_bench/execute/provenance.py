"""Where and with what a result was made."""

import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

NUMERICS = 2
"""The version of what training and labelling round: raised by hand where a change of the code
changes a result's last bits, so that a store tells apart what it made before and since. Results
without it are of version 1: torch's own layers on a CPU. 2: `ns_bench.selftrain.fast_cpu`."""


HISTORY = "history.json"
"""Beside the studies that a submission copied: the commits of each, as of `commits_of`."""


def provenance(device: str) -> dict[str, Any]:
    """Return where and with what a result was made."""
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
    return {
        **code(),
        "numerics": NUMERICS,
        "host": socket.gethostname(),
        "device": device,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "slurm": {
            k: v for k, v in os.environ.items() if k in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID")
        },
        "time": utc(time.time()),
    }


@lru_cache
def processor() -> str:
    """Return what kind of processor this is, by which last bits differ: `AMD EPYC, family 26`."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in told:
        return platform.processor() or platform.machine()
    return f"{told['model name']}, family {told.get('cpu family', 'unknown')}"


PACKAGES = ("ns_bench", "torch", "timm", "numpy", "scikit-learn", "pillow", "matplotlib")
"""Whose versions are kept: the last two draw the images of `glyphs`."""


def other_code(made: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return in what the code that made some results differs from the code that runs here.

    A run's id is of its recipe alone, and what is done is not done again. What a result does not
    tell is not compared.
    """
    here, results = {**code(), "numerics": NUMERICS}, list(made)
    differs = []
    for name in ("torch", "timm"):
        there = {result["packages"].get(name) for result in results} - {None}
        if others := there - {here["packages"][name]}:
            differs.append(f"{name} {', '.join(sorted(others))} (here {here['packages'][name]})")
    if others := {result.get("numerics", 1) for result in results} - {here["numerics"]}:
        numbers = ", ".join(map(str, sorted(others)))
        differs.append(f"numerics {numbers} (here {here['numerics']})")
    if {result["models"] for result in results if "models" in result} - {here.get("models")}:
        differs.append("another ns_bench/selftrain/models.py, which defines the networks")
    return differs


@lru_cache(maxsize=1)
def code() -> dict[str, Any]:
    """Return commit, uncommitted changes, and package versions of the code that runs here."""
    root = Path(__file__).parents[2]
    snapshot = root / "ns_bench" / "snapshot.json"
    if snapshot.is_file():  # a copy that a submission made: it is what the checkout was then
        return dict(json.loads(snapshot.read_bytes()))

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(root), *words]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    inside = git("ls-files", "--error-unmatch", "ns_bench/__init__.py") is not None
    models = (root / "ns_bench" / "selftrain" / "models.py").read_bytes()
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "git": git("rev-parse", "HEAD") if inside else None,
        "dirty": bool(git("status", "--porcelain")) if inside else None,
        "python": platform.python_version(),
        "packages": versions,
        "models": hashlib.sha256(models).hexdigest()[:12],
    }


def commits_of(file: Path) -> list[tuple[str, str]]:
    """Return (short hash, UTC time) of the commits that touch a file, youngest first; [] where git
    does not know it. Beside a study in the copy that a submission made, they lie in HISTORY."""
    copied = file.parent / HISTORY
    if copied.is_file():
        return [(short, time) for short, time in json.loads(copied.read_bytes()).get(file.name, [])]
    return git_log(file.parent, "HEAD", "--", file.name)


def git_log(folder: Path, *words: str) -> list[tuple[str, str]]:
    """Return (short hash, UTC time) of the commits that `git log` lists, [] where it fails."""
    command = ["git", "-C", str(folder), "log", "--format=%h %ct", *words]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    pairs = (line.split() for line in lines.splitlines())
    return [(short, utc(int(seconds))) for short, seconds in pairs]


def utc(seconds: float) -> str:
    """Return a time since the epoch as results and records have it, in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
