"""What holds for all tests: threads and order; and no test is about seconds."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Test processes share the machine's cores: more threads in each only get in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # a machine that does something else as well is no failure


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: those with a scheduler, with kills and with leases mostly wait.

    With `-n auto`, pyproject's.
    """
    from ns_bench.execute.local import cores

    return cores() + 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real headless Chromium, for the tests marked `browser`."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


LONGEST = (
    *("test_slurm_interrupted", "test_storm", "test_study", "test_slurm", "test_local"),
    *("test_stopped", "test_search_command"),
    *("test_browser", "test_scorecard", "test_resume", "test_measured", "test_parallel"),
    *("test_until_decided", "test_label", "test_compare", "test_algorithm", "test_accumulate"),
    *("test_own_data", "test_report", "test_published", "test_slurm_until_decided"),
)
"""Files of about a minute or more: one that began last would end alone, on one core."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; with `--no-loadscope-reorder` processes take them in turn."""
    rank = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
