"""The command that compares benchmarks with their baseline, as one would call it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def bench(folder: Path, ratios: dict[str, Any], name: str = "bench.json", **more: Any) -> Path:
    """Write what pytest-benchmark would, with the ratios of some benchmarks."""
    entries = [
        {
            "fullname": f"tests/benchmarks/test_bench_x.py::test_{test}",
            "param": test,
            "extra_info": {**more, **i},
        }
        for test, i in ((t, r if isinstance(r, dict) else {"ratio": r}) for t, r in ratios.items())
    ]
    machine = {
        "processor": "A CPU", "python_version": "3.11.7",
        "system": "Linux", "release": "6.1", "cores": 2, "memory_gib": 23.4, "gpus": ["A GPU"],
        "packages": {"torch": "2.6.0"},
    }  # fmt: skip
    content = {
        "machine_info": machine, "benchmarks": entries, "datetime": "2020-01-02T03:04:05",
        "commit_info": {"id": "0123456789abcdef"},
    }  # fmt: skip
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def ratios(*words: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks.ratios", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """A baseline of two benchmarks, written by the command."""
    path = tmp_path / "baseline.json"
    done = ratios(bench(tmp_path, {"a": 10.0, "b[1]": 0.5}), "--baseline", path, "--update")
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_text()) == {"A CPU, A GPU": {"x::a": 10.0, "x::b[1]": 0.5}}
    return path


@pytest.mark.parametrize(
    ("now", "code", "word"),
    [
        ({"a": 10.0, "b[1]": 0.5}, 0, ""),
        ({"a": 8.6, "b[1]": 0.5}, 0, ""),  # within the tolerance
        ({"a": 8.4, "b[1]": 0.5}, 1, "x::a"),
        ({"a": 100.0, "b[1]": 0.4}, 1, "x::b[1]"),  # nothing makes up for another
        ({"a": 10.0}, 1, "x::b[1]"),  # a benchmark that is gone proves nothing
        ({"a": 10.0, "b[1]": {"seconds": 3}}, 1, "x::b[1]"),  # nor one that notes no ratio any more
        ({"a": 10.0, "b[1]": 0.5, "c": 1.0}, 0, ""),  # a new one has nothing to be compared with
    ],
)
def test_a_regression_shows(baseline, tmp_path, now, code, word) -> None:
    before = baseline.read_bytes()
    done = ratios(bench(tmp_path, now), "--baseline", baseline)
    assert done.returncode == code, done.stdout + done.stderr
    assert (word in done.stdout.splitlines()[-1]) if word else ("worse" not in done.stdout)
    assert baseline.read_bytes() == before, "only --update writes it"
    assert all(name in done.stdout for name in ("x::a", "x::b[1]"))


def test_the_committed_baseline_is_of_benchmarks_that_are_there() -> None:
    committed = ROOT / "tests" / "benchmarks" / "baseline.json"
    baselines = json.loads(committed.read_text()).values()
    for name, ratio in (pair for ratios in baselines for pair in ratios.items()):
        file, _, test = name.partition("::")
        code = (committed.parent / f"test_bench_{file}.py").read_text()
        assert f"def test_{test.partition('[')[0]}(" in code, name
        assert ratio > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "is not of pytest-benchmark"),
        ({"a": "fast"}, "x::a: ratio 'fast': expected a number above 0"),
        ({"a": {"ratio": 1.0, "aim": -1}}, "x::a: aim -1: expected a number above 0"),
        ({"a": {"seconds": 1.0}}, "no benchmark notes a ratio"),
    ],
)
def test_bad_input_gets_one_line(baseline, tmp_path, content, message) -> None:
    path = tmp_path / "bad.json"
    if isinstance(content, dict):
        bench(tmp_path, content, "bad.json")
    elif content is not None:
        path.write_text(content)
    done = ratios(path, "--baseline", baseline)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("content", ["{", "[1]", '{"A CPU": {"x::a": "fast"}}', '{"x::a": 1.0}'])
def test_a_bad_baseline_gets_one_line(tmp_path, content) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text(content)
    done = ratios(bench(tmp_path, {"a": 1.0}), "--baseline", baseline)
    assert done.returncode == 2 and "baseline.json" in done.stderr and done.stderr.count("\n") == 1


def test_another_processor_is_compared_with_nothing_and_says_so(baseline, tmp_path) -> None:
    """With half of the ratio: that of another processor's baseline would call it worse."""
    other = bench(tmp_path, {"a": 5.0}, "other.json")
    content = json.loads(other.read_text())
    content["machine_info"]["processor"] = "A CPU, family 26"
    other.write_text(json.dumps(content))
    done = ratios(other, "--baseline", baseline)
    assert done.returncode == 2 and "x::a" in done.stdout and "worse" not in done.stdout
    assert "nothing of A CPU, family 26, A GPU: --update adds it" in done.stderr
    assert ratios(other, "--baseline", baseline, "--update").returncode == 0
    one, two = json.loads(baseline.read_text()).values()
    assert one["x::a"] == 10.0 and two == {"x::a": 5.0}
    assert ratios(bench(tmp_path, {"a": 8.4, "b[1]": 0.5}), "--baseline", baseline).returncode == 1


def test_the_page_has_every_ratio_its_machine_and_the_figure(baseline, tmp_path) -> None:
    points = {"one": [[100, 1.0], [1000, 9.0]], "two": [[100, 2.0], [1000, 3.0]]}
    panel = {"title": "T", "x": "runs", "y": "seconds", "log": "xy", "series": points}
    now = {
        "a": {"ratio": 10.04, "aim": 5, "peer": "timm", "scaling": [panel]},
        "b[1]": {"ratio": 0.948, "aim": 0.95, "peer": "a bare step"},
        "step[b0]": {"kernels": {"aten::mm": 0.7, "aten::add": 0.25, "aten::mul": 0.03}},
        "step[b4]": {"kernels": {"aten::mm": 0.9, "aten::add": 0.02, "aten::mul": 0.03}},
        "study": {"user_gets": "a study", "runs_an_hour": 360.4, "seeds_an_hour": 60.1},
        "c": {"ratio": 1.0, "parts_ms": {"bare": 9.0, "noise": 1.0}},
        "d": {
            "peer": "another",
            "images_per_second": 300.4,
            "peer_images_per_second": 200.0,
            "cpu_ratio": 1.25,
            "top1": 95.04,
            "peer_top1": 94.0,
            "settings": "threads 1",
            "peer_settings": "workers 2",
        },
    }
    page = tmp_path / "published" / "performance.md"
    done = ratios(bench(tmp_path, now), "--baseline", baseline, "--page", page)
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    assert "| x::a | 10 | 5: met | timm |" in text
    assert "| x::b[1] | 0.948 | 0.95: not met | a bare step |" in text
    assert "| x::c | 1 | none |" in text
    assert "| bare | 9.00 (90.0 %) |\n| noise | 1.00 (10.0 %) |\n" in text
    assert "| kernel | b0 | b4 |\n|---|---:|---:|\n| aten::mm | 70.0 % | 90.0 % |\n" in text
    assert "| aten::add | 25.0 % | 2.0 % |\n| the rest | 5.0 % | 8.0 % |\n" in text
    assert "| a study | 360 | 60 |" in text
    assert "| another | 300 | 200 | 1.25 | 95.0 | 94.0 | threads 1 | workers 2 |" in text
    for word in ("A CPU, A GPU", "A GPU", "2 cores", "23 GiB", "Python 3.11.7", "torch 2.6.0"):
        assert word in text, word
    assert "2020-01-02" in text and "0123456789ab" in text
    assert "](performance/scaling.svg)" in text
    drawn = sorted(path.name for path in (page.parent / "performance").iterdir())
    assert drawn == ["a-cpu-a-gpu.json", "scaling.pdf", "scaling.png", "scaling.svg"]
    assert "seconds" in (page.parent / "performance" / "scaling.svg").read_text()
    before = {path: path.read_bytes() for path in page.parent.rglob("*.*") if path.is_file()}
    ratios(bench(tmp_path, now), "--baseline", baseline, "--page", page)
    assert {path: path.read_bytes() for path in before} == before, "the same results, the same page"
