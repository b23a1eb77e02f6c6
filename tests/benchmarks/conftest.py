"""What a benchmark's JSON says of the machine, for `ratios.py`'s page."""

import importlib.metadata
import os
import shutil
import subprocess
from typing import Any

from ns_bench.execute.local import cores
from ns_bench.execute.provenance import processor

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "kornia",
    "modssc",
    "numpy",
    "pandas",
    "datasets",
    "optuna",
)


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Add processor, cores, memory (GiB), GPUs and the versions of packages that are there."""
    gpus = ""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpus = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine_info |= {
        "processor": processor(),
        "cores": cores(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "gpus": gpus.split("\n")[:-1],
        "packages": versions,
    }
