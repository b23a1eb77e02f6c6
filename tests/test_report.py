"""The report of a study from a store of made-up results: numbers, verdicts and what is missing."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from fakes import fake_runs
from scipy import stats

from ns_bench import definition
from ns_bench.plan import make_plan
from ns_bench.report import analyse, write
from ns_bench.report.numbers import interval, p_value, points, share, signed
from ns_bench.report.page import markdown
from ns_bench.statistics import mean_interval
from ns_bench.store import Store

STUDY = definition.load_study("teacher_size")
SEEDS = 8
SPREAD = [0.0, 0.4, -0.6, 1.2, -1.0, 0.2, 0.8, -0.4]


def top1(recipe):
    """Supervised 88; students 91, 92, 93 by their teacher; every seed with its own offset."""
    gain = {"micro-b0": 3.0, "micro-b2": 4.0, "micro-b4": 5.0}
    score = 88 + SPREAD[recipe.seed]
    if recipe.teacher is not None:
        score += gain[recipe.teacher.model] + 0.1 * SPREAD[-1 - recipe.seed]
    return score


def analysis_of(store: Store, profile: str = "digits", seeds: int = SEEDS, study=STUDY):
    chosen = definition.load_profile(profile)
    design = study.design(chosen)
    plan = make_plan(store, design.recipes(range(seeds)).values())
    return analyse(study, chosen, design, plan, seeds)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    design = STUDY.design(definition.load_profile("digits"))
    fake_runs(store, design.recipes(range(SEEDS)).values(), top1)
    return store


def test_means_intervals_and_differences_are_scipys(store):
    analysis = analysis_of(store)
    baseline, small = analysis.arms[0], analysis.arms[1]
    values = 88 + np.array(SPREAD)
    low, high = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    assert baseline.interval is not None and small.difference is not None
    assert (baseline.interval.low, baseline.interval.high) == pytest.approx((low, high))
    gains = 3 + 0.1 * np.array(SPREAD[::-1])
    assert small.difference.mean == pytest.approx(gains.mean())
    assert small.difference.low == pytest.approx(
        stats.ttest_1samp(gains, 0).confidence_interval()[0]
    )
    assert small.difference.p == 2 / 2**8 and small.difference.wins == 1


def test_claims_are_judged_with_holm_over_the_study(store):
    analysis = analysis_of(store)
    assert [c.verdict.word for c in analysis.claims] == ["reproduced"] * 4
    assert analysis.claims[0].contrast is not None
    assert analysis.claims[0].contrast.mean == pytest.approx(1.0)  # 91, 92, 93: a point a rung
    assert all(c.p_holm == pytest.approx(4 * 2 / 2**8) for c in analysis.claims)


def test_a_null_effect_is_not_reproduced(tmp_path):
    store = Store(tmp_path / "null")
    design = STUDY.design(definition.load_profile("digits"))
    draw = np.random.default_rng(0)
    fake_runs(store, design.recipes(range(SEEDS)).values(), lambda r: float(draw.normal(88, 2)))
    words = {c.verdict.word for c in analysis_of(store).claims}
    assert "reproduced" not in words
    page = markdown(analysis_of(store))
    assert "more seeds" in page or "Seeds for a verdict" in page


def test_a_missing_run_shows_and_withholds_the_verdict(store):
    design = STUDY.design(definition.load_profile("digits"))
    lost = store.run(design.recipes([3])[("large teacher", 3)])
    shutil.rmtree(lost.path)
    analysis = analysis_of(store)
    assert {arm.name: arm.n for arm in analysis.arms}["large teacher"] == 7
    words = {c.claim.text: c.verdict.word for c in analysis.claims}
    assert words["The noisy student of the small teacher beats the supervised student."] == (
        "reproduced"
    )
    assert words["A larger teacher gives a better student."] == "inconclusive"
    page = markdown(analysis)
    assert "7/8" in page and "Incomplete: 1 missing" in page and f"`{lost.id}`" in page
    assert "only 7 of 8 seeds" in page


def test_a_failed_run_is_named_with_its_reason(store):
    design = STUDY.design(definition.load_profile("digits"))
    lost = store.run(design.recipes([0])[("small teacher", 0)])
    lost.discard()
    lost.fail("Diverged: <b>loss</b> | pipe", "Traceback ...")
    page = markdown(analysis_of(store))
    assert "Incomplete: 1 failed" in page
    assert "**failed**" in page and "Diverged: &lt;b>loss&lt;/b> \\| pipe" in page


def test_a_smoke_run_gives_no_verdict(tmp_path):
    store = Store(tmp_path / "smoke")
    design = STUDY.design(definition.load_profile("smoke"))
    fake_runs(store, design.recipes(range(2)).values(), top1)
    page = markdown(analysis_of(store, "smoke", 2))
    assert "Smoke run" in page and "no verdict" in page
    assert not re.search(r"reproduced|contradicted|inconclusive", page)


def test_the_paper_stands_beside_ours_with_its_version(store):
    page = markdown(analysis_of(store))
    assert re.search(r"\| supervised \| 88\.0\d \| B0 supervised \| 77\.30 \| v4 \|", page)
    assert re.search(r"\| large teacher \| 93\.\d\d \| B0 student of L2 \| 78\.80 \| v2 \|", page)
    assert "single runs" in page


def test_written_twice_gives_the_same_bytes(store, tmp_path):
    for folder in ("a", "b"):
        write(analysis_of(store), tmp_path / folder)
    first = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    assert set(first) == {
        "report.md",
        "runs.csv",
        "curves.csv",
        "teacher_size.png",
        "teacher_size.svg",
    }
    assert first["teacher_size.png"].startswith(b"\x89PNG")
    runs = pd.read_csv(tmp_path / "a/runs.csv")
    assert len(runs) == 4 * SEEDS and set(runs["state"]) == {"done"}
    assert runs["run"].nunique() == 4 * SEEDS


def test_names_of_a_users_study_stay_text(store):
    script = "<script>alert(1)</script>"
    mine = definition.Study("mine", script, "f", STUDY.design, script)
    page = markdown(analysis_of(store, study=mine))
    assert "<script>" not in page and "&lt;script>" in page


def test_one_rule_for_numbers():
    assert points(88.4) == "88.40" and signed(3.1) == "+3.10" and signed(-0.004) == "-0.00"
    assert p_value(0.0078125) == ".008" and p_value(0.0001) == "<.001" and p_value(1.0) == "1.000"
    assert share(0.875) == "88 %"
    assert {points(None), points(float("nan")), p_value(None), share(None)} == {"–"}  # noqa: RUF001
    assert interval(mean_interval([1.0, 2.0, 3.0])) == "[-0.48, 4.48]"
    assert interval(mean_interval([1.0])) == "–"  # noqa: RUF001
