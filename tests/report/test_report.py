"""The report of a study from a store of made-up results: numbers, verdicts and what is missing."""

import contextlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import present
from fakes import fake_runs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

from ns_bench.design import definition
from ns_bench.design.definition import Arm, Claim, Design, difference, minus, untestable
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.report import figure, style
from ns_bench.report.numbers import interval, p_value, points, share, signed
from ns_bench.report.page import markdown, write
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Store
from ns_bench.verdicts import paper, record
from ns_bench.verdicts.analysis import analyse, label
from ns_bench.verdicts.record import PROTOCOL
from ns_bench.verdicts.sources import folder_name, from_tables
from ns_bench.verdicts.statistics import mean_interval
from ns_bench.verdicts.table import TEXT, _cell, collect, read

pytestmark = pytest.mark.slow

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
    chosen = load_profile(profile)
    design = study.design(chosen)
    plan = make_plan(store, design.recipes(range(seeds)).values())
    return analyse(study, chosen, design, *collect(design, plan, seeds), seeds)


def study_of(arms: int, claims=lambda names: (), name: str = "arm"):
    """A study of `arms` students that differ in their epochs, named after `name`."""
    names = [f"{name} {i}" for i in range(arms)]

    def design(profile):
        made = [
            Arm(names[i], profile.supervised("small", train__epochs=i + 1)) for i in range(arms)
        ]
        return Design(made, names[0], list(claims(names)))

    return definition.Study("made_up", "What if?", "epochs", design, "nowhere")


def filled(folder: Path, study, top1, seeds: int = SEEDS) -> Store:
    """A store with a study's every run in digits; `top1` takes the arm's number and the seed."""
    store = Store(folder)
    design = study.design(load_profile("digits"))
    fake_runs(store, design.recipes(range(seeds)).values(), lambda r: top1(r.train.epochs, r.seed))
    return store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    design = STUDY.design(load_profile("digits"))
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
    design = STUDY.design(load_profile("digits"))
    draw = np.random.default_rng(0)
    fake_runs(store, design.recipes(range(SEEDS)).values(), lambda r: float(draw.normal(88, 2)))
    words = {c.verdict.word for c in analysis_of(store).claims}
    assert "reproduced" not in words
    page = markdown(analysis_of(store))
    assert "at 8 seeds, a number that was fixed" in page


def test_what_was_seen_before_a_claim_or_a_number_of_seeds_was_stated_is_said(tmp_path):
    def claims(names):
        later = {"seen": {"digits": 3}, "in_paper": False}
        return [
            difference("Stated before.", names[1], names[0], 1.0),
            difference("Stated later.", names[1], names[0], 1.0, **later),
        ]

    study = study_of(2, claims)
    store = filled(tmp_path / "runs", study, lambda arm, seed: 80 + 2 * arm + SPREAD[seed] * arm)
    page = markdown(analysis_of(store, study=study))
    assert "with results at hand is not: Stated later.\n" in page
    assert page.count("; stated after seeds 0 to 2 had been run.") == 1
    assert re.search(r"\| Stated later\. .*\| not in the paper \|\n", page)
    assert "Seeds were added" not in page
    extended = replace(study, looked_at={"digits": 4})
    assert "**Seeds were added after a look at 4 of them**" in markdown(
        analysis_of(store, study=extended)
    )


def test_arms_that_are_one_computation_are_pointed_out(tmp_path):
    study = study_of(3)
    store = filled(tmp_path / "runs", study, lambda arm, seed: 80 + seed + max(arm, 2))
    analysis = analysis_of(store, study=study)
    losses = analysis.runs.assign(test_loss=analysis.runs["test_top1"] / 100)
    assert "One computation under 2 names: arm 0, arm 1." in markdown(
        replace(analysis, runs=losses)
    )
    other = losses.assign(test_loss=range(len(losses)))  # the same accuracy may be chance
    assert "One computation" not in markdown(replace(analysis, runs=other))


def test_a_missing_run_shows_and_withholds_the_verdict(store):
    design = STUDY.design(load_profile("digits"))
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
    assert {c.n for c in analysis.claims} == {7, 8}
    assert "only 7 of 8 seeds" in page


def test_a_failed_run_is_named_with_its_reason(store):
    design = STUDY.design(load_profile("digits"))
    lost = store.run(design.recipes([0])[("small teacher", 0)])
    lost.discard()
    lost.fail("Diverged: <b>loss</b> | pipe", "Traceback ...")
    page = markdown(analysis_of(store))
    assert "Incomplete: 1 failed" in page
    assert "**failed**" in page and "Diverged: &lt;b>loss&lt;/b> \\| pipe" in page


def test_a_smoke_run_gives_no_verdict(tmp_path):
    store = Store(tmp_path / "smoke")
    design = STUDY.design(load_profile("smoke"))
    fake_runs(store, design.recipes(range(2)).values(), top1)
    page = markdown(analysis_of(store, "smoke", 2))
    assert "Smoke run" in page and "no verdict" in page
    assert not re.search(r"reproduced|contradicted|inconclusive", page)


def test_a_run_that_finishes_while_its_plan_is_reported_is_not_half_in(store):
    design = STUDY.design(load_profile("digits"))
    plan = make_plan(store, design.recipes(range(SEEDS)).values())
    lost = store.run(design.recipes([0])[("small teacher", 0)])
    plan.states[lost.id] = "running"
    runs, curves = collect(design, plan, SEEDS)
    row = runs[runs["run"] == lost.id].iloc[0]
    assert row["state"] == "running" and np.isnan(row["test_top1"])
    analysis = analyse(STUDY, load_profile("digits"), design, runs, curves, SEEDS)
    assert [run.id for run in analysis.unfinished] == [lost.id]


def test_a_failed_teacher_that_is_no_arm_is_named(tmp_path):
    store = Store(tmp_path / "runs")
    design = STUDY.design(load_profile("digits"))
    fake_runs(store, design.recipes(range(SEEDS)).values(), top1)
    student = store.run(design.recipes([2])[("large teacher", 2)])
    shutil.rmtree(student.path)
    teacher = present(student.teacher)
    teacher.discard()
    teacher.fail("Diverged:  loss\nis nan", "Traceback ...")
    page = markdown(analysis_of(store))
    assert "Incomplete: 1 blocked, 1 failed" in page
    assert f"**failed** `{teacher.id}` Diverged: loss is nan" in page
    assert f"**blocked** `{student.id}` below {teacher.id}" in page
    assert "| large teacher | 2 | blocked |" in page and page.count("| 7/8 |") >= 2


# --- claims of every kind --------------------------------------------------------------------


def judged(tmp_path, top1, *claims: Claim):
    study = study_of(3, lambda names: claims)
    return analysis_of(filled(tmp_path / "runs", study, top1), study=study).claims


def test_a_claim_of_several_contrasts_shows_the_weakest(tmp_path):
    both = Claim("Both gain.", (minus("arm 1", "arm 0"), minus("arm 2", "arm 0")), 0.5)
    gain = {1: 0.0, 2: 4.0, 3: 2.0}
    wiggle = [0.1, -0.2, 0.3, 0.0, -0.1, 0.2, -0.3, 0.05]
    claim = judged(tmp_path, lambda arm, seed: 80 + gain[arm] + arm * wiggle[seed], both)[0]
    assert claim.verdict.word == "reproduced"
    assert claim.contrast.mean == pytest.approx(2.0, abs=0.05)
    assert (claim.label, claim.n, claim.p) == ("arm 2 - arm 0", 8, 2 / 2**8)
    assert claim.verdict.reason.startswith("weakest of 2 contrasts, arm 2 - arm 0: mean")


@pytest.mark.parametrize(
    ("kind", "shift", "word"),
    [
        ("not worse", -0.2, "reproduced"),
        ("not worse", -3.0, "contradicted"),
        ("not worse", -1.0, "inconclusive"),
        ("equivalent", 0.2, "reproduced"),
        ("equivalent", 3.0, "contradicted"),
    ],
)
def test_claims_about_what_matters(tmp_path, kind, shift, word):
    claim = difference("It is so.", "arm 1", "arm 0", 1.0, kind=kind)
    wiggle = [0.1, -0.2, 0.3, 0.0, -0.1, 0.2, -0.3, 0.05]
    found = judged(tmp_path, lambda arm, s: 80 + (arm == 2) * (shift + wiggle[s]), claim)[0]
    assert found.verdict.word == word


def test_a_claim_that_cannot_be_tested_says_why_and_leaves_the_family(tmp_path):
    easy = difference("It gains.", "arm 1", "arm 0", 1.0)
    none = untestable("It flies.", "there is no <air> in this profile", note="Table 9")
    found = judged(tmp_path, lambda arm, seed: 80 + 5 * arm + 0.1 * seed * arm, easy, none)
    assert found[0].p_holm == found[0].p == 2 / 2**8
    assert (found[1].verdict.word, found[1].n, found[1].contrast) == ("not testable", 0, None)
    study = study_of(3, lambda names: (easy, none))
    page = markdown(analysis_of(Store(tmp_path / "runs"), study=study))
    assert "| It flies. | **not testable** |" in page and "Table 9" in page
    assert "there is no &lt;air> in this profile." in page


def test_contrasts_have_names():
    assert label({"b": -1.0, "a": 1.0}) == "a - b"
    assert label({"a": -0.5, "b": 0.0, "c": 0.5}) == "-0.5 a +0 b +0.5 c"


# --- the paper -------------------------------------------------------------------------------


def test_the_papers_effect_takes_v4_before_v2_and_says_what_was_not_read():
    weights = {"B6 student of B6": 1.0, "B6 supervised": -1.0}
    assert str(paper.effect("teacher_size", weights)) == "+1.40 [v4]"  # 85.9 in v4, 85.6 in v2
    weights = {"B0 student of L2": 1.0, "B0 supervised": -1.0}
    assert paper.effect("teacher_size", weights) == paper.Effect(1.5, ("v4", "v2"), True)
    weights = {"B0 joint": 1.0, "B0 pretraining only": -1.0}
    assert str(paper.effect("joint_vs_finetune", weights)) == "+5.30 [unknown, unverified]"
    with pytest.raises(UserError, match="did you mean 'B0 supervised'"):
        paper.effect("teacher_size", {"B0 superwised": 1.0})


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
        "report.html",
        "runs.csv",
        "curves.csv",
        "tables.tex",
        "protocol.json",
        *(
            f"teacher_size{kind}.{suffix}"
            for kind in ("", "_curves", "_calibration")
            for suffix in ("png", "svg", "pdf")
        ),
    }
    assert first["teacher_size.png"].startswith(b"\x89PNG")
    runs = pd.read_csv(tmp_path / "a/runs.csv")
    assert len(runs) == 4 * SEEDS and set(runs["state"]) == {"done"}
    assert runs["run"].nunique() == 4 * SEEDS


# --- from tables alone -----------------------------------------------------------------------


def test_tables_alone_rebuild_the_report(store, tmp_path):
    """Missing and failed runs, and words that look like numbers or like nothing, included."""
    study = study_of(3, lambda names: [difference("A.", names[1], names[0], 1.0)], name="NA")
    design = study.design(load_profile("digits"))
    design = replace(
        design, arms=[replace(a, name="nan") if a.name == "NA 2" else a for a in design.arms]
    )
    study = replace(study, design=lambda profile: design)
    store = filled(tmp_path / "mine", study, lambda arm, seed: 80 + arm / 3 + seed / 7)
    lost = store.run(design.recipes([1])[("nan", 1)])
    lost.discard()
    lost.fail('Broken: "a", b', "Traceback ...")
    shutil.rmtree(store.run(design.recipes([2])[("NA 0", 2)]).path)
    analysis = analysis_of(store, study=study)
    write(analysis, tmp_path / "a")
    runs, curves = read(tmp_path / "a")
    pd.testing.assert_frame_equal(runs, analysis.runs, check_dtype=False)
    again = analyse(study, analysis.profile, design, runs, curves, SEEDS)
    write(again, tmp_path / "b")
    first = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    assert b"Broken" in first["report.md"] and b"| 7/8 |" in first["report.md"]


def test_runs_of_another_recipe_are_counted(store):
    analysis = analysis_of(store)
    assert analysis.foreign == 0 and "another recipe" not in markdown(analysis)
    runs = analysis.runs.replace({"run": {analysis.runs["run"].iloc[0]: "digits-other-s0-0"}})
    design = STUDY.design(analysis.profile)
    old = analyse(STUDY, analysis.profile, design, runs, analysis.curves, SEEDS)
    assert old.foreign == 1 and "**1 runs have another recipe**" in markdown(old)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "no column 'arm'"),
        ("a,b\n1,2\n", "no column 'arm'"),
        ("arm,seed,run,state\n", "no column 'test_top1'"),
        *(
            (f"arm,seed,run,state,test_top1\nx,{row}\n", f"{name}=.*: expected {words}")
            for row, name, words in (
                ("0,r,done,high", "test_top1", "a number from 0 to 100"),
                ("0,r,done,inf", "test_top1", "a number from 0 to 100"),
                ("0,r,done,NaN", "test_top1", "a number from 0 to 100"),
                ("0,r,done,150", "test_top1", "a number from 0 to 100"),
                ("0,r,done,-5", "test_top1", "a number from 0 to 100"),
                ("0.5,r,done,90", "seed", "a whole number from 0 to below 1000"),
                ("99999999,r,done,90", "seed", "a whole number from 0 to below 1000"),
                (",r,done,90", "seed", "a whole number"),
                ("0,r,finished,90", "state", "one of done, unmeasured"),
            )
        ),
        ("arm,seed,run,state,test_top1\nx,0,r,done,90\nx,1,r,do", "a line of it is cut"),
        ("arm,seed,run,state,test_top1\nx,0,r,done,90\nx,1,r\n", "a line of it is cut"),
        ("arm,seed,run,state,test_top1\nx,0,r,done,90", "a line of it is cut"),
        ("arm,seed,run,state,test_top1\nx,0,r,done,\n", "is done has no test_top1"),
        ("arm,seed,run,state,test_top1\n" + "x,0,r,done,90\n" * 2, "two rows of one seed"),
        ("arm,seed,run,state,test_top1\n", "holds no runs"),
        ('arm,"seed\n1,2,3\n4,5,6,7,8', "cannot be read as a table"),
    ],
)
def test_a_table_that_is_not_ours_is_refused(tmp_path, content, why):
    (tmp_path / "runs.csv").write_text(content)
    with pytest.raises(UserError, match=why) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value) and "runs.csv" in str(caught.value)


def test_edits_of_published_tables_are_refused(store, tmp_path):
    """Every cell of a run and of a step: none of a number that is text, is none, or is beyond what
    it can be; and no top-1 but that of the outcomes beside it."""
    write(analysis_of(store), tmp_path)
    accepted = []
    for name in ("runs.csv", "curves.csv"):
        path = tmp_path / name
        whole = path.read_text()
        table = pd.read_csv(path, dtype=object, keep_default_na=False)
        for column in table.columns.difference(TEXT):
            for value in ("x", "NaN", "inf", "-1e99", "1" * 30):
                changed = table.copy()
                changed.loc[1, column] = value
                path.write_text(changed.to_csv(index=False))
                with contextlib.suppress(UserError):
                    accepted.append((column, value, read(tmp_path)))
        path.write_text(whole)
    assert not accepted
    read(tmp_path)


def test_what_a_killed_writer_left_is_removed_a_day_later(store, tmp_path):
    new, old = tmp_path / ".report.html.1.ab.tmp", tmp_path / ".runs.csv.2.cd.tmp"
    new.touch(), old.touch()
    os.utime(old, (0, 0))
    write(analysis_of(store), tmp_path)
    assert new.exists() and not old.exists()


@pytest.mark.parametrize("cut", [2, 20, -1])
def test_tables_of_which_rows_are_cut_are_refused(store, tmp_path, cut):
    analysis = analysis_of(store)
    folder = tmp_path / folder_name(analysis.study, analysis.profile)
    write(analysis, folder)
    assert from_tables(analysis.study, analysis.profile, tmp_path)
    lines = (folder / "runs.csv").read_text().splitlines(keepends=True)
    del lines[cut]
    (folder / "runs.csv").write_text("".join(lines))
    with pytest.raises(
        UserError, match=r"runs.csv: it has no row of arm '.*' at seed \d+; a report"
    ):
        from_tables(analysis.study, analysis.profile, tmp_path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("test_top1", "80"),
        ("outcomes_right", "x"),
        ("outcomes_right", _cell(np.ones(4, bool))),
        ("outcomes_per_class", "2 3"),
        ("outcomes_per_class", "two two"),
        ("outcomes_confused", "0>1:2"),
        ("outcomes_confused", "nothing"),
        ("outcomes_tested", _cell(np.ones(5, bool))),
    ],
)
def test_outcomes_fit_each_other_and_the_top1(tmp_path, column, value):
    row = {
        "arm": "x",
        "seed": 0,
        "run": "r",
        "state": "done",
        "test_top1": 75.0,
        "outcomes_of": "0" * 16,
        "outcomes_tested": "",
        "outcomes_confused": "0>1:1",
        "outcomes_right": _cell(np.arange(4) > 0),
        "outcomes_per_class": "2 2",
    }
    pd.DataFrame([row]).to_csv(tmp_path / "runs.csv", index=False)
    read(tmp_path)
    pd.DataFrame([{**row, column: value}]).to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(UserError, match=r"runs.csv, line 2: .*outcomes|line 2: a table") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", "[" * 100_000),
        '{"looks": [8], "spending": [1], "held": -1, "judged": [], "stated": null}',
        '{"looks": "8", "spending": [1], "held": 1, "judged": [], "stated": {"commit": 5}}',
    ],
)
def test_a_protocol_that_is_none_is_refused(tmp_path, content):
    (tmp_path / PROTOCOL).write_text(content)
    with pytest.raises(UserError, match="not a protocol of looks") as caught:
        record.read(tmp_path)
    assert "\n" not in str(caught.value)


# --- the figure ------------------------------------------------------------------------------


@pytest.mark.parametrize("arms", [2, 6, 7, 22])
def test_no_text_of_the_figure_covers_a_point_or_leaves_it(tmp_path, arms):
    long = "a quite long name of an arm, with $its$ settings,"
    study = study_of(
        arms,
        lambda names: (
            [
                Claim(
                    "A claim that takes more words than any claim should, so that it is wrapped "
                    "onto a second line and then onto a third one.",
                    tuple(minus(name, names[0]) for name in names[1:]),
                    0.5,
                )
            ]
            * 3
        ),
        name=long,
    )
    store = filled(tmp_path / "runs", study, lambda arm, seed: 80 + arm + (seed * 7 % 5), 3)
    drawn = figure.draw(analysis_of(store, seeds=3, study=study))
    FigureCanvasAgg(drawn).draw()
    page = drawn.bbox
    left, right = drawn.axes
    texts = [
        t
        for t in [
            *left.texts,
            *right.texts,
            *left.get_yticklabels(),
            *left.get_xticklabels(),
            *drawn.texts,
        ]
        if t.get_text()
    ]
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= page.x1 and box.y0 >= 0 and box.y1 <= page.y1, text
    claims = [text.get_window_extent() for text in right.texts]
    for line in right.lines:
        y = np.asarray(line.get_ydata())
        if len(set(y)) == 1:  # an interval, a mean, the smallest effect
            height = right.transData.transform((0, y[0]))[1]
            assert not any(box.y0 - 2 < height < box.y1 + 2 for box in claims)
    narrow = style.lay_out(figure._narrow_arms(analysis_of(store, seeds=3, study=study)))
    FigureCanvasAgg(narrow).draw()
    for axes in (left, narrow.axes[0]):
        labels = axes.get_yticklabels() if arms > 6 else axes.get_xticklabels()
        boxes = [text.get_window_extent() for text in labels]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_names_of_a_users_study_stay_text(store):
    script = "<script>alert(1)</script>"
    mine = definition.Study("mine", script, "f", STUDY.design, script)
    page = markdown(analysis_of(store, study=mine))
    assert "<script>" not in page and "&lt;script>" in page


def test_an_arm_with_a_hostile_name_stays_text(tmp_path):
    name = "<b>|[x](javascript:1) $\\frac$"
    study = study_of(2, lambda names: [difference(names[1], names[1], names[0], 1.0)], name=name)
    analysis = analysis_of(filled(tmp_path / "r", study, lambda a, s: 80 + a + s), study=study)
    page = markdown(analysis)
    assert "<b>" not in page and "](javascript" not in page and "\\|[x]" in page
    FigureCanvasAgg(figure.draw(analysis)).draw()  # a name is not mathematics


def test_one_rule_for_numbers():
    assert points(88.4) == "88.40" and signed(3.1) == "+3.10" and signed(-0.004) == "-0.00"
    assert p_value(0.0078125) == ".008" and p_value(0.0001) == "<.001" and p_value(1.0) == "1.000"
    assert share(0.875) == "88 %"
    assert {points(None), points(float("nan")), p_value(None), share(None)} == {"–"}  # noqa: RUF001
    assert interval(mean_interval([1.0, 2.0, 3.0])) == "[-0.48, 4.48]"
    assert interval(mean_interval([1.0])) == "–"  # noqa: RUF001


def test_labeled_images_that_are_tested_on_are_counted_on_the_page(store):
    runs = analysis_of(store).runs.assign(
        data_fingerprint="0f", data_unreadable=0, data_duplicates_left_out=12
    )
    page = markdown(replace(analysis_of(store), runs=runs))
    assert "validation images (equal pixels): 12 a seed. Unreadable" in page  # an older table
    counted = runs.assign(data_duplicates_labeled=[3, *[1] * (len(runs) - 1)])
    page = markdown(replace(analysis_of(store), runs=counted))
    assert "Labeled images that are also test or validation images, and were kept: 1 to 3" in page
