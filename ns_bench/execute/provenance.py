"""Where and with what a result was made."""

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import time
from functools import lru_cache
from pathlib import Path
from typing import Any


def provenance(device: str) -> dict[str, Any]:
    """Return where and with what a result was made."""
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor()
    return {
        **code(),
        "host": socket.gethostname(),
        "device": device,
        "device_name": name or platform.machine(),
        "threads": torch.get_num_threads(),
        "slurm": {
            k: v for k, v in os.environ.items() if k in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID")
        },
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


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
    packages = ("ns_bench", "torch", "timm", "numpy", "scikit-learn")
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "git": git("rev-parse", "HEAD") if inside else None,
        "dirty": bool(git("status", "--porcelain")) if inside else None,
        "python": platform.python_version(),
        "packages": versions,
    }
