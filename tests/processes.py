"""Processes of their own for tests of kills and races."""

import subprocess
import sys
from typing import Any


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start a fresh interpreter on `code`."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **options)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
