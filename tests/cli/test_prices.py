"""What a plan costs, as --dry-run shows it: FLOPs, time, storage, the longest chain."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import present

from ns_bench.cli.prices import price_lines, time_of
from ns_bench.design.cost import flops
from ns_bench.design.profile import Profile, load_profile
from ns_bench.runs.plan import longest_chain, make_plan
from ns_bench.runs.store import Run, Store

pytestmark = pytest.mark.slow


def runs_of(profile: Profile, folder: Path) -> list[Run]:
    small, large = profile.supervised("small"), profile.supervised("large")
    first = profile.student("small", large)
    second = profile.student("large", first)
    return list(make_plan(Store(folder), [small, second]).runs.values())


def test_the_longest_chain(tmp_path):
    runs = runs_of(load_profile("digits"), tmp_path / "runs")
    chain = longest_chain(runs, load_profile("digits").estimate)
    assert [run.recipe.generation for run in chain] == [0, 1, 2]
    assert chain[-1] == runs[-1] and chain[0].recipe.model == "micro-b4"
    assert longest_chain(runs, lambda recipe: 1.0 if recipe.teacher is None else 0.1) == chain
    alone = longest_chain(runs, lambda r: 99.0 if r == runs[0].recipe else 1.0)
    assert alone == [runs[0]]
    assert longest_chain([runs[-1]], lambda recipe: 1.0) == [runs[-1]]  # its teachers are done
    assert longest_chain([], lambda recipe: 1.0) == []


def test_the_price_of_a_plan(tmp_path):
    profile = load_profile("imagenet-mini")
    runs = runs_of(profile, tmp_path / "runs")
    said = "\n".join(price_lines(runs, profile))
    seconds = sum(map(profile.estimate, (run.recipe for run in runs)))
    assert seconds == sum(present(flops(run.recipe)) for run in runs) / 7.1e12
    assert re.search(r"tf_efficientnet_b7 +64 +2 +\d", said)
    assert "one A100 80 GB, at 7.1 TFLOP/s (NVIDIA DeepLearningExamples" in said
    assert "data: 16.4 GB, 'imagenet' decoded once" in said
    assert "longest chain: 3 runs" in said and runs[-1].id in said
    assert "*" not in said
    assert list(price_lines([], profile)) == []


def test_a_large_pool_is_labeled_for_students_only(tmp_path):
    profile = load_profile("imagenet")
    runs = runs_of(profile, tmp_path / "runs")  # four, of which two teach
    assert "labels of the pool 8 GB" in "\n".join(price_lines(runs, profile))
    assert "labels of the pool 4 GB" in "\n".join(price_lines(runs[:3], profile))
    alone = Store(tmp_path / "runs").run(runs[0].recipe.at_higher_resolution(320))
    assert "labels of the pool 0 B" in "\n".join(price_lines([runs[0], alone], profile))
    small = load_profile("digits")
    runs = runs_of(small, tmp_path / "runs")
    assert "labels of the pool 91.8 kB" in "\n".join(price_lines(runs, small))


def test_models_that_were_not_counted(tmp_path):
    profile = load_profile("digits")
    own = dataclasses.replace(profile, ladder={"small": "resnet18", "large": "micro-b0"})
    run = Store(tmp_path / "runs").run(own.supervised("small"))
    said = "\n".join(price_lines([run], own))
    assert re.search(r"resnet18 +8 +1 +10,000 +\? +\? +unknown", said)
    assert "a guess for 1 of 1 run, whose network was not counted" in said
    assert "models not counted 1 MB" in said
    larger = own.supervised("large", train__resolution=16)
    assert "*" in "\n".join(price_lines([Store(tmp_path / "runs").run(larger)], own))


def test_times_are_written_as_people_say_them():
    said = [time_of(seconds) for seconds in (1, 40, 96, 4860, 9000, 3.6e6)]
    assert said == [
        "1 second",
        "40 seconds",
        "1.6 minutes",
        "81 minutes",
        "2.5 hours",
        "1,000 hours",
    ]


def test_with_a_cluster_all_hours_are_its_own(tmp_path):
    """Those of the profile's machine are not beside them: one number of GPU-hours."""
    words = ["teacher_size", "--profile", "cifar10", "--cluster", "a100x8", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", "ns_bench.study", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = re.sub(r"\s+", " ", done.stdout)
    assert "time: about 9 hours of a worker of a100x8, 3 times as fast as one A100" in said
    assert "1 sbatch call, about 3 GPU-hours, 3 runs side by side in a job" in said
    assert done.stdout.count("GPU-hours") == 1


def test_pricing_needs_no_torch():
    code = (
        "import sys; from ns_bench.study import main\n"
        "assert main(['teacher_size', '--profile', 'imagenet', '--dry-run']) == 0\n"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "total FLOPs" in shown.stdout and "longest chain" in shown.stdout
