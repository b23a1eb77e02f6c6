"""The section on what the ± covers, from made-up outcomes by image."""

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fakes import fake_outcomes, fake_result, fake_runs

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile
from ns_bench.report.numbers import MISSING
from ns_bench.report.page import markdown, write
from ns_bench.report.sections.covers import over
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Store
from ns_bench.verdicts.analysis import Analysis, analyse
from ns_bench.verdicts.images import by_image, matrix
from ns_bench.verdicts.table import collect, computations, read, suspicions

pytestmark = pytest.mark.slow

STUDY, SEEDS = load_study("teacher_size"), 4
CLAIM = "small teacher - supervised"


def analysis_of(store: Store, profile: str = "digits", **changed) -> Analysis:
    chosen = load_profile(profile, changed)
    design = STUDY.design(chosen)
    plan = make_plan(store, design.recipes(range(SEEDS)).values())
    return analyse(STUDY, chosen, design, *collect(design, plan, SEEDS), SEEDS)


def filled(folder, profile: str = "digits", test: int = 100, **changed) -> Store:
    """A store of runs with outcomes; top-1 is what these say."""
    store = Store(folder)
    for recipe in STUDY.design(load_profile(profile, changed)).recipes(range(SEEDS)).values():
        for link in (recipe.teacher, recipe):
            if link is not None and store.run(link).result() is None:
                wrong = 0.3 if link.teacher else 0.4
                content = fake_outcomes(link, wrong, test)
                run = store.run(link)
                fake_result(run, images=content)
                fake_result(run, top1(run), images=content)
    return store


def top1(run) -> float:
    from ns_bench.runs import outcomes

    return float(100 * outcomes.read(run.path / "outcomes.safetensors").right.mean())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("covers") / "runs")


def row(page: str, difference: str) -> list[str]:
    section = page[page.index("## What the ± covers") :]
    line = next(line for line in section.splitlines() if line.startswith(f"| {difference} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_differences_by_image_are_the_differences(store):
    analysis = analysis_of(store)
    weights = {"small teacher": 1.0, "supervised": -1.0}
    found = by_image(analysis.runs, weights)
    differences = analysis.top1["small teacher"] - analysis.top1["supervised"]
    np.testing.assert_allclose(np.nanmean(matrix(found), axis=1), differences)


def test_digits_have_the_resampled_interval_beside_the_one_over_seeds(store):
    page = markdown(analysis_of(store))
    cells = row(page, CLAIM)
    bounds = [list(map(float, re.findall(r"[-+][\d.]+(?=[],])", cell))) for cell in cells[2:4]]
    ratio = np.ptp(bounds[1]) / np.ptp(bounds[0])
    assert ratio == pytest.approx(math.sqrt(1 + SEEDS * 500 / 1197), abs=0.02)
    shares = [int(cell.split()[0]) for cell in cells[4:]]
    assert sum(shares) in (99, 100, 101)
    assert "Verdicts rest on the interval over seeds" in page


def test_mcnemar_classes_and_confusions_are_those_of_the_outcomes(store):
    analysis = analysis_of(store)
    page = markdown(analysis)
    first = {
        arm: by_image(analysis.runs, {arm: 1.0})[0][1] for arm in ("small teacher", "supervised")
    }
    better, worse = (
        int((a > b).sum()) for a, b in (list(first.values()), list(first.values())[::-1])
    )
    assert f"| {CLAIM} | {better} | {worse} |" in page
    runs = analysis.runs[analysis.runs["arm"] == "supervised"]
    table = re.search(
        r"\| supervised \| ([\d. |]+) \|\n", page[page.index("confusions</summary>") :]
    )
    assert table is not None
    per_class = np.sum([list(map(int, c.split())) for c in runs["outcomes_per_class"]], axis=0)
    recalls = np.array(list(map(float, table[1].split(" | "))))
    assert recalls @ per_class / per_class.sum() == pytest.approx(runs["test_top1"].mean(), abs=0.1)
    assert re.search(r"\| 3 \| 6 \|", page) and not re.search(r"\| 3 \| 5 \|", page)


def test_the_page_comes_again_from_its_tables(store, tmp_path):
    analysis = analysis_of(store)
    write(analysis, tmp_path)
    runs, curves = read(tmp_path)
    design = STUDY.design(analysis.profile)
    again = analyse(STUDY, analysis.profile, design, runs, curves, SEEDS)
    assert markdown(again) == markdown(analysis) == (tmp_path / "report.md").read_text()


def test_old_runs_have_no_split_and_digits_their_second_interval_all_the_same(tmp_path):
    store = Store(tmp_path)
    recipes = STUDY.design(load_profile("digits")).recipes(range(SEEDS)).values()
    fake_runs(store, recipes, lambda recipe: 90 + recipe.seed + 2 * (recipe.teacher is not None))
    page = markdown(analysis_of(store))
    assert len(row(page, CLAIM)) == 4 and "| beyond these images |" in page
    assert "confusions" not in page


def test_glyphs_draw_new_images_and_need_no_second_interval(tmp_path):
    page = markdown(analysis_of(filled(tmp_path, "glyphs"), "glyphs"))
    assert "test images of its own" in page and "beyond these images" not in page


def test_a_fixed_test_set_of_glyphs_has_the_crossed_interval(tmp_path):
    fixed = {"data.glyphs.fixed_test": True}
    page = markdown(analysis_of(filled(tmp_path, "glyphs", **fixed), "glyphs", **fixed))
    assert "seeds at one fixed set of 2,000 test images" in page
    assert "| beyond these images |" in page and len(row(page, CLAIM)) == 7


@pytest.mark.parametrize(
    ("test", "words"),
    [(10_000, "one fixed set of 10,000"), (2_000, "draws 2,000 of 10,000 test images")],
)
def test_test_splits_of_their_own_are_fixed_or_drawn_from(store, test, words):
    analysis = analysis_of(store, "cifar10", **{"data.test": test})
    assert words in over(analysis)


# --- one computation -------------------------------------------------------------------------


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"test_top1": 90.0, "model": "m", **columns}, index=range(4))


def test_one_computation_is_not_worth_a_word(store):
    assert computations(analysis_of(store).runs) == []
    gpus = ["cuda:0", "cuda:1", "cuda:0", "cuda"]
    assert computations(table(device=gpus, numerics=1, torch=["", "2", "2", ""])) == []


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"torch": ["2.6.0", "2.6.0", "2.6.0", "2.7.0"]}, "torch 2.6.0 (3 runs) and 2.7.0 (1 runs"),
        ({"numerics": [np.nan, 1, 2, 2]}, "numerics 1 (2 runs) and 2 (2 runs)"),
        ({"parts": [np.nan, np.nan, np.nan, 4]}, "parts 1 (3 runs) and 4 (1 runs)"),
        ({"compiled": [np.nan, 1, 1, 1]}, "compiled 0 (1 runs) and 1 (3 runs)"),
        ({"onednn": [np.nan, 1, 1, 1]}, "onednn 0 (1 runs) and 1 (3 runs)"),
        ({"device": ["cpu", "cuda:0", "cuda:1", "cpu"]}, "device cpu (2 runs) and cuda (2 runs)"),
        (
            {"device_name": ["A, family 25", *["A, family 26"] * 3]},
            "device name A, family 25 (1 runs) and A, family 26 (3 runs)",
        ),
        ({"pillow": ["11", "12", "", ""]}, "pillow 11 (1 runs) and 12 (1 runs)"),
        ({"weights": [44024, 44024, 50000, np.nan]}, "m with 44,024 and 50,000 weights"),
    ],
)
def test_several_computations_are_named(columns, words):
    (found,) = computations(table(**columns))
    assert words in found


def test_a_mixed_table_says_so_above_it(store, tmp_path):
    analysis = analysis_of(store)
    other = analysis.runs.copy()
    other.loc[0, "torch"] = "9.9"
    design = STUDY.design(analysis.profile)
    mixed = analyse(STUDY, analysis.profile, design, other, analysis.curves, SEEDS)
    page = markdown(mixed)
    assert page.index("**Not one computation:** torch") < page.index("## Verdicts")
    assert "Not one computation" not in markdown(analysis)


def test_arms_at_chance_and_arms_with_the_same_networks_are_named() -> None:
    """Three seeds of four arms on 100 test rows of four classes."""

    def arm(name: str, top1: float, loss: float) -> list[dict[str, object]]:
        rows = {"arm": name, "test_top1": top1, "outcomes_per_class": "25 25 25 25"}
        return [
            {**rows, "seed": seed, "run": f"{name}-{seed}", "test_loss": loss + seed}
            for seed in range(3)
        ]

    learned, again, other = arm("a", 60, 0.25), arm("b", 60, 0.25), arm("c", 60, 0.5)
    assert suspicions(pd.DataFrame(learned + other)) == []
    assert suspicions(pd.DataFrame(learned + again + other)) == [
        "'a' and 'b' have the same networks at every seed: they differ in nothing"
    ]
    twice = [{**row, "arm": "b"} for row in learned]  # the same runs, as a study may have them
    assert suspicions(pd.DataFrame(learned + twice)) == []
    assert suspicions(pd.DataFrame(arm("d", 26, 0.75) + other)) == [
        "'d' is at chance (25.0 %): it has not learned"
    ]


@pytest.mark.filterwarnings("error")
def test_a_class_without_test_images_has_no_share(store) -> None:
    """Its row is 0 of 0, as in a small part of a data set with many classes."""
    analysis = analysis_of(store)
    runs = analysis.runs.assign(outcomes_per_class="60 0 40", outcomes_confused="2>0:20")
    page = markdown(replace(analysis, runs=runs))
    rows = page[page.index("confusions</summary>") :].splitlines()
    assert f"| supervised | 100.00 | {MISSING} | 50.00 |" in rows
    assert any(row.startswith("| 2 | 0 | 50.00 |") for row in rows)
    assert not any(row.startswith("| 1 |") for row in rows)
