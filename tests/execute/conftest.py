"""What tests of the local pool share."""

import pytest

from ns_bench.execute import local


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread a worker, whatever the machine: its number may change the last bits."""
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda pid: {0})
