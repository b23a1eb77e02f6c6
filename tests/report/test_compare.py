"""`compare A B`: verdicts, effects by seed, runs and recipes of two sets of results."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import fake_runs
from pages import SPREAD, filled, hostile
from scipy import stats

from ns_bench.design import definition
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.files import folder
from ns_bench.report.__main__ import main
from ns_bench.report.compare import content, write
from ns_bench.runs.store import Store
from ns_bench.verdicts.changes import compare
from ns_bench.verdicts.sources import Source
from ns_bench.verdicts.statistics import unpaired_difference

pytestmark = pytest.mark.slow

PUBLISHED = Path(definition.__file__).parents[2] / "reports/published"
SMALL = "The noisy student of the small teacher beats the supervised student."
PAIR = [("digits", "digits")]
DIGITS = ["--profile", "digits"]


def store(folder, gain: float, seeds=range(8), wiggle: float = 0.0, **assignments):
    """A store of teacher_size whose students gain so much, by seed a bit more or less."""
    found = Store(folder)
    profile = load_profile("digits", assignments)
    recipes = definition.load_study("teacher_size").design(profile).recipes(seeds)
    fake_runs(
        found,
        recipes.values(),
        lambda r: (
            88 + SPREAD[r.seed % 8] + (gain + wiggle * SPREAD[-1 - r.seed % 8]) * bool(r.teacher)
        ),
    )
    return folder


def change(found, text=SMALL):
    return next(c for c in found.changes if c.claim == text)


def test_a_difference_of_effects_is_paired_by_seed(tmp_path):
    a, b = store(tmp_path / "a", 3.0, wiggle=0.2), store(tmp_path / "b", 4.0, wiggle=-0.5)
    found = compare(Source(a), Source(b), ["teacher_size"], PAIR)
    per_seed = 1.0 - 0.7 * np.array(SPREAD[::-1])  # the offset of a seed cancels
    low, high = stats.ttest_1samp(per_seed, 0).confidence_interval()
    d = change(found).difference
    assert (d.mean, d.low, d.high) == pytest.approx((per_seed.mean(), low, high))
    assert change(found).how == "paired by 8 seeds" and found.changed == []
    assert change(found).effects[0].mean == pytest.approx(3.0 + 0.2 * np.mean(SPREAD))


def test_without_common_seeds_it_is_welchs(tmp_path):
    a = store(tmp_path / "a", 3.0, wiggle=0.2)
    b = store(tmp_path / "b", 4.0, seeds=range(4), wiggle=0.5)
    main(["teacher_size", "--runs", str(b), "--out", str(tmp_path / "tables"), *DIGITS])
    path = tmp_path / "tables/teacher_size-digits/runs.csv"
    runs = pd.read_csv(path)
    missing, done = runs[runs["seed"] >= 4], runs[runs["seed"] < 4]
    parts = [missing.assign(seed=missing["seed"] - 4), missing, done.assign(seed=done["seed"] + 8)]
    pd.concat(parts).to_csv(path, index=False)
    shutil.rmtree(b)
    found = compare(Source(a), Source(tmp_path / "tables"), ["teacher_size"], PAIR)
    ours = 3.0 + 0.2 * np.array(SPREAD[::-1])
    theirs = 4.0 + 0.5 * np.array(SPREAD[::-1])[:4]
    low, high = stats.ttest_ind(theirs, ours, equal_var=False).confidence_interval()
    d = change(found).difference
    assert (d.low, d.high) == pytest.approx((low, high))
    assert change(found).how == "not paired, 8 and 4 seeds"


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 9), (8, 8)])
def test_welchs_interval_is_scipys(n, m):
    draw = np.random.default_rng(n)
    a, b = draw.normal(1, 1, n), draw.normal(0, 3, m)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    found = unpaired_difference(a, b)
    assert (found.mean, found.low, found.high) == pytest.approx((a.mean() - b.mean(), low, high))
    assert np.isnan(unpaired_difference(a[:1], b).low)
    same = unpaired_difference([1.0, 1.0], [0.5, 0.5])
    assert (same.low, same.high) == (0.5, 0.5)


def test_a_changed_verdict_makes_the_exit_code_1(tmp_path, capsys):
    a, b = store(tmp_path / "a", 3.0), store(tmp_path / "b", -3.0)
    words = ["compare", str(a), str(b), "--out", str(tmp_path / "out")]
    words += ["--study", "teacher_size"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "3 of 4 verdicts changed." in said and "contradicted" in said and "only in" not in said
    assert main([*words, "--fail-on-change"]) == 1
    assert main(["compare", str(a), str(a), "--fail-on-change"]) == 0
    page = (tmp_path / "out/compare.md").read_text()
    assert (
        f"| teacher_size | {SMALL} | digits | **changed** | **reproduced** | **contradicted** |"
        in page
    )
    assert "-6.00 [-6.00, -6.00]" in page
    assert "<strong>changed</strong>" in (tmp_path / "out/compare.html").read_text()


def test_a_verdict_that_is_gone_is_a_change_and_a_new_one_is_not(tmp_path):
    a = store(tmp_path / "a", 3.0)
    shutil.copytree(a, tmp_path / "b")
    filled(tmp_path / "b", "noise_schedule")
    words = ["--fail-on-change", *DIGITS]
    assert main(["compare", str(a), str(tmp_path / "b"), *words]) == 0
    assert main(["compare", str(tmp_path / "b"), str(a), *words]) == 1
    same = [*words, "--study", "teacher_size"]
    assert main(["compare", str(tmp_path / "b"), str(a), *same]) == 0
    found = compare(Source(tmp_path / "b"), Source(a), ["teacher_size", "noise_schedule"], PAIR)
    assert [only.study for only in found.only] == ["noise_schedule"]
    assert len(found.only[0].runs[0]) == 16 and found.only[0].runs[1] == []  # the rest are shared
    assert {c.words[1] for c in found.changes if c.study == "noise_schedule"} == {"incomplete"}


def test_a_claim_that_was_decided_before_others_has_its_verdict():
    """Of 24 seeds, three of four claims needed 12."""
    fashion = [("fashion", "fashion")]
    found = compare(Source(PUBLISHED), Source(PUBLISHED), ["teacher_size"], fashion)
    words = [change.words for change in found.changes]
    assert words == [(word, word) for word in ("reproduced", "equivalent", *["reproduced"] * 2)]


def test_runs_that_only_one_has(tmp_path):
    a = store(tmp_path / "a", 3.0)
    shutil.copytree(a, tmp_path / "b")
    recipes = definition.load_study("teacher_size").design(load_profile("digits"))
    lost = recipes.recipes([5])[("large teacher", 5)].id
    shutil.rmtree(tmp_path / "b" / lost)
    found = compare(Source(a), Source(tmp_path / "b"), ["teacher_size"], PAIR)
    assert found.only[0].runs == ([lost], [])
    page = write(found, tmp_path / "out")[0].read_text()
    assert "<summary>1 run only in A</summary>" in page and "only in B" not in page
    assert f"`{lost}`" in page and "| teacher_size | digits | 1 |" in page
    assert change(found).how == "paired by 8 seeds"


def test_what_only_one_side_has_is_counted_and_folded(tmp_path, capsys):
    published = folder("reports") / "published"
    for side, names in (("a", ["teacher_size", "noise_schedule"]), ("b", ["teacher_size"])):
        for name in names:
            shutil.copytree(published / f"{name}-digits", tmp_path / side / f"{name}-digits")
    assert main(["compare", *map(str, (tmp_path / "a", tmp_path / "b")), *DIGITS]) == 0
    said = capsys.readouterr().out
    assert "only in A: 2 claims and 32 runs" in said and "noise_schedule" not in said
    assert "only in B" not in said and "0 of 4 verdicts changed, 2 more are only in A." in said
    names = ["teacher_size", "noise_schedule"]
    found = compare(Source(tmp_path / "a"), Source(tmp_path / "b"), names, PAIR)
    first, folded = write(found, tmp_path)[0].read_text().split("2 claims only in A</summary>")
    assert "| noise_schedule |" in folded and "| noise_schedule |" not in first


def test_recipe_fields_that_differ(tmp_path):
    """Runs of --set are not what today's study asks for: the store's own report names them."""
    a, b = store(tmp_path / "a", 3.0), store(tmp_path / "b", 4.0, **{"train.lr": 0.05})
    assert Source(b).analysis(
        definition.load_study("teacher_size"), load_profile("digits")
    ) is None  # fmt: skip
    profile = load_profile("digits", {"train.lr": 0.05})
    study = definition.load_study("teacher_size")
    from ns_bench.report.page import write as write_page
    from ns_bench.runs.plan import make_plan
    from ns_bench.verdicts.analysis import analyse
    from ns_bench.verdicts.table import collect

    design = study.design(profile)
    plan = make_plan(Store(b), design.recipes(range(8)).values())
    tables = collect(design, plan, 8)
    write_page(analyse(study, profile, design, *tables, 8), b / "reports/teacher_size-digits")
    found = compare(Source(a), Source(b), ["teacher_size"], PAIR)
    assert found.unknown == 0
    said = {(f.field, f.arms): f.values for f in found.fields}
    students = "large teacher, medium teacher, small teacher"
    assert said[("train.lr", "all")][1] == "0.05"
    assert said[("teacher.train.lr", students)][1] == "0.05"
    assert {f.field.removeprefix("teacher.") for f in found.fields} == {"train.lr"}
    assert "| `train.lr` |" in write(found, tmp_path / "out")[0].read_text()
    # Tables alone have no recipes, but their ids may be those of today's study.
    (tmp_path / "t").mkdir()
    shutil.copytree(b / "reports/teacher_size-digits", tmp_path / "t/teacher_size-digits")
    found = compare(Source(a), Source(tmp_path / "t"), ["teacher_size"], PAIR)
    assert found.unknown == 32 and found.fields == []


def test_two_profiles(tmp_path):
    a = store(tmp_path / "a", 3.0)
    filled(a, "teacher_size", profile="smoke", seeds=2)
    words = ["--between", "digits", "smoke", "--study", "teacher_size"]
    assert main(["compare", str(a), str(a), *words]) == 0
    found = compare(Source(a), Source(a), ["teacher_size"], [("digits", "smoke")])
    assert change(found).words == ("reproduced", "no verdict") and change(found).changed
    assert {f.field for f in found.fields} >= {"train.epochs"}


def test_the_same_bytes(tmp_path):
    a, b = store(tmp_path / "a", 3.0), store(tmp_path / "b", 4.0)
    found = [compare(Source(a), Source(b), ["teacher_size"], PAIR) for _ in range(2)]
    paths = [write(f, tmp_path / str(i)) for i, f in enumerate(found)]
    assert [p.read_bytes() for p in paths[0]] == [p.read_bytes() for p in paths[1]]


def test_bad_input_is_one_line_and_2(tmp_path, capsys):
    a = store(tmp_path / "a", 3.0)
    (tmp_path / "empty").mkdir()
    Store(tmp_path / "new")

    def refused(*words):
        assert main(["compare", *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("ns_bench: ") and err.count("\n") == 1
        return err

    assert "no such folder" in refused(a, tmp_path / "nowhere")
    assert "neither a store of runs" in refused(tmp_path / "empty", a)
    assert "no study in common" in refused(a, tmp_path / "new", *DIGITS)
    assert "did you mean 'digits'" in refused(a, a, "--profile", "digitz")
    assert "did you mean 'teacher_size'" in refused(a, a, "--study", "teacher_sise")
    assert "--between" in refused(a, a, "--between", "digits", "smoke", "--profile", "digits")
    with pytest.raises(SystemExit) as caught:
        main(["compare", str(a)])
    assert caught.value.code == 2
    with pytest.raises(UserError):
        Source(tmp_path / "nowhere")


def test_names_stay_text(tmp_path, monkeypatch):
    study = hostile()
    monkeypatch.setattr("ns_bench.design.definition.load_study", lambda name: study)
    a = filled(tmp_path / "a", study).root
    found = compare(Source(a), Source(a), ["hostile"], PAIR)
    for path in write(found, tmp_path / "out"):
        text = path.read_text().replace("<script>\n", "")  # our own
        assert not re.search(r"<(script|b|img)[ >]", text)
    assert "<script>" in "".join(str(row) for row in content(found).blocks)
