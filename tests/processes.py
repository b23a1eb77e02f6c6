"""Processes of their own for tests of kills and races."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any


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
