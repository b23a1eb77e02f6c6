"""What a result says of where it was made."""

import platform
import sys
from pathlib import Path

import pytest

from ns_bench.execute.provenance import processor


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_the_kind_of_processor_is_told() -> None:
    told = Path("/proc/cpuinfo").read_text()
    name, _, family = processor.__wrapped__().rpartition(", family ")
    assert name and f": {name}\n" in told and (f": {family}\n" in told or family == "unknown")


def test_where_the_system_does_not_tell_it_is_that_of_python(monkeypatch) -> None:
    def denied(path: Path) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", denied)
    assert processor.__wrapped__() == (platform.processor() or platform.machine())
