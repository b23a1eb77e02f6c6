"""How many seeds a study's claims need: from tuning seeds, by their spread alone."""

import math

import numpy as np
import pandas as pd
from builders import present
from fakes import fake_runs
from hypothesis import given
from hypothesis import strategies as st

from ns_bench.design.definition import Arm, Claim, Design, load_study, minus
from ns_bench.design.profile import load_profile
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Store
from ns_bench.study import main
from ns_bench.verdicts.pilot import needs
from ns_bench.verdicts.statistics import Kind, seeds_needed


def one_claim(kind: Kind, smallest_effect: float = 1.0) -> Design:
    arms = [Arm("a", Recipe()), Arm("b", Recipe().set({"train.epochs": 1}))]
    return Design(arms, "a", [Claim("b is as claimed", (minus("b", "a"),), smallest_effect, kind)])


def table(differences: list[float]) -> pd.DataFrame:
    zeros = np.zeros(len(differences))
    return pd.DataFrame(
        {"a": zeros, "b": np.array(differences)}, index=range(1000, 1000 + len(differences))
    )


def test_the_seeds_are_those_that_find_the_smallest_effect_at_the_pilots_spread():
    values = [0.4, -0.9, 0.2, 1.1, -0.5, -0.3]
    (need,) = needs(one_claim("greater"), {"top1": table(values)}, seeds=8)
    assert need.sd == np.std(values, ddof=1)
    assert need.seeds == seeds_needed(np.array(values) - np.mean(values) + 1.0)
    assert 0.5 < need.detectable < 2


@given(
    st.lists(st.floats(-5, 5).map(lambda x: round(x, 2)), min_size=3, max_size=9),
    st.floats(-50, 50).map(lambda x: round(x, 1)),
    st.sampled_from(["greater", "not worse", "equivalent"]),
)
def test_the_effect_seen_decides_nothing(differences, shift, kind):
    if np.std(differences) < 0.1:
        return
    (still,) = needs(one_claim(kind), {"top1": table(differences)}, seeds=8)
    (moved,) = needs(one_claim(kind), {"top1": table([d + shift for d in differences])}, seeds=8)
    assert math.isclose(still.sd, moved.sd, rel_tol=1e-6)
    assert (still.seeds or math.inf) - (moved.seeds or math.inf) in (0, 1, -1) or (
        still.seeds is None and moved.seeds is None
    )


def test_a_wider_spread_needs_more_seeds_and_a_seed_that_lacks_an_arm_is_left_out():
    narrow = table([0.1, -0.2, 0.3, -0.1, 0.2])
    (few,) = needs(one_claim("equivalent"), {"top1": narrow}, seeds=8)
    (many,) = needs(one_claim("equivalent"), {"top1": 4 * narrow}, seeds=8)
    assert present(few.seeds) < present(many.seeds)
    narrow.loc[1001, "b"] = np.nan
    (gap,) = needs(one_claim("equivalent"), {"top1": narrow}, seeds=8)
    assert gap.n == 4


def test_the_command_reads_tuning_seeds_and_shows_no_effect(tmp_path, capsys):
    profile = load_profile("digits")
    design = load_study("confidence_threshold").design(profile)
    store = Store(tmp_path / "runs")
    arms = {
        arm.recipe.at_seed(s).id: i for s in range(1000, 1004) for i, arm in enumerate(design.arms)
    }

    def top1(recipe: Recipe) -> float:
        arm = arms.get(recipe.id, 0)
        return 70 + 3 * arm + 0.1 * ((recipe.seed * (arm + 2)) % 5)

    fake_runs(store, design.recipes(range(1000, 1004)).values(), top1=top1)
    words = ["confidence_threshold", "--pilot", "4", "--runs", str(tmp_path / "runs")]
    assert main([*words, "--read-only"]) == 0
    said = capsys.readouterr().out
    assert "pilot of 4 tuning seeds" in said
    assert "over 4 tuning seeds" in said
    assert "mean" not in said
    assert not (tmp_path / "runs" / "reports").exists()


def test_reporting_seeds_end_where_tuning_seeds_begin(capsys):
    assert main(["teacher_size", "--seeds", "1001", "--dry-run"]) == 2
    assert "--seeds 1001: expected at most 1000" in capsys.readouterr().err
