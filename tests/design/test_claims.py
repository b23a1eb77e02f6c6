"""Claims of the shipped studies: each says what the paper says, in the direction it says it."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from ns_bench.design.definition import Claim, Design, load_study, study_names
from ns_bench.design.profile import load_profile, profile_names
from ns_bench.verdicts import paper
from ns_bench.verdicts.analysis import by_seed


def design(study: str, profile: str = "digits") -> Design:
    return load_study(study).design(load_profile(profile))


def claim(study: str, words: str, profile: str = "digits") -> Claim:
    (found,) = [each for each in design(study, profile).claims if words in each.text]
    return found


@pytest.mark.parametrize("name", study_names())
def test_the_paper_has_the_effect_that_a_claim_of_it_states(name):
    """In the claim's direction, and nothing where it says that there is nothing."""
    for each in design(name, "fashion").claims:
        if not each.paper:
            continue
        found = paper.effect(name, each.paper, each.paper_metric, logarithm=each.logarithm)
        at_least = {"greater": 0.0, "not worse": -0.2, "equivalent": 0.0}[each.kind]
        assert found.value >= at_least, each.text
        assert found.value < 0.05 or each.kind != "equivalent", each.text
        assert each.in_paper


def test_a_claim_of_no_effect_is_one_of_equivalence():
    small = claim("batch_ratio", "no difference to the small student")
    large = claim("balancing", "no difference to the large student")
    for each in (small, large):
        assert each.kind == "equivalent"
        assert paper.effect(
            "batch_ratio" if each is small else "balancing", each.paper
        ).value == pytest.approx(0)
    assert claim("batch_ratio", "helps the large student").kind == "greater"
    assert claim("balancing", "helps the small student.").kind == "greater"


def test_soft_labels_are_compared_with_labels_alone_in_every_bin():
    each = claim("soft_vs_hard", "at every confidence, in a pool half", "glyphs")
    assert len(each.contrasts) == 4
    assert all(weights["supervised, mixed pool"] == -1 for weights in each.contrasts)
    assert all(any(arm.startswith("soft ") for arm in weights) for weights in each.contrasts)
    assert claim("soft_vs_hard", "at every confidence, in a pool half").untestable
    own = claim("soft_vs_hard", "in the pool as it is")
    assert own.contrasts == ({"soft, whole pool": 1, "supervised": -1},)
    assert not [c for c in design("soft_vs_hard").claims if "hard ones in the pool" in c.text]


def test_a_student_of_its_own_size_at_every_rung():
    each = claim("student_size", "of its own size")
    rungs = load_profile("digits").rungs
    assert each.contrasts == tuple({f"{r} of {r}": 1, f"{r} supervised": -1} for r in rungs)
    arms = {arm.name: arm.recipe for arm in design("student_size").arms}
    for rung in rungs:
        student = arms[f"{rung} of {rung}"]
        assert student.teacher == arms[f"{rung} supervised"] and student.model == (
            student.teacher.model
        )


def test_three_rounds_against_one():
    assert claim("iterations", "Three rounds").contrasts == ({"round 3": 1, "round 1": -1},)


def test_without_noise_the_student_is_below_its_teacher():
    """So that a student that exceeds it contradicts the claim, whatever the margin."""
    each = claim("noise", "falls below")
    assert (each.kind, each.contrasts) == ("greater", ({"teacher": 1, "no noise": -1},))


@pytest.mark.parametrize("profile", profile_names())
def test_a_pool_that_is_drawn_says_nothing_of_the_papers_other_pool(profile):
    if not load_profile(profile).other_pool:
        return
    own = claim("unlabeled_source", "still exceeds", profile)
    less = claim("unlabeled_source", "own domain", profile)
    near = profile in ("cifar10", "stl10")
    assert (not own.untestable, less.in_paper) == (near, near)


def test_related_methods_have_both_noises_of_both_kinds_of_labels_and_longer_runs():
    arms = {arm.name: arm.recipe for arm in design("related_methods").arms}
    four = ("noisy student", "noisy student, hard labels", "soft pseudo-labels", "pseudo-labels")
    kinds = [(arms[name].pseudo.kind, arms[name].noise.unlabeled.dropout) for name in four]
    assert kinds == [("soft", 0.2), ("hard", 0.2), ("soft", 0), ("hard", 0)]
    each = claim("related_methods", "worth more to soft")
    assert each.contrasts == (dict(zip(four, (1, -1, -1, 1), strict=True)),)
    for name in ("supervised", "FixMatch", "Mean Teacher"):
        short, longer = arms[name].train, arms[f"{name}, longer"].train
        factor = 1 + arms["noisy student"].train.ratio
        for field in ("epochs", "warmup_epochs", "decay_epochs"):  # so its rate ends as far down
            assert getattr(longer, field) == pytest.approx(factor * getattr(short, field))
        assert longer.lr == short.lr


def test_robustness_is_claimed_as_in_tables_4_and_5():
    accuracy = claim("robustness", "corrupted images")
    assert accuracy.metric == "corruption_top1" and accuracy.contrasts[0]["noisy student"] == 1
    flips = claim("robustness", "flip less often")
    assert flips.logarithm and flips.contrasts[0]["supervised"] == 1
    assert 2**-flips.smallest_effect == pytest.approx(0.9, abs=0.002)
    assert claim("robustness", "under PGD").metric == "adversarial_pgd_16"
    assert claim("robustness", "natural images").untestable
    tables = {"imagenet_c_top1": 13.9, "mfr": math.log2(27.2 / 14.2), "pgd_top1": 3.3}
    for each in design("robustness").claims:
        if each.paper_metric in tables:
            effect = paper.effect(
                "robustness", each.paper, each.paper_metric, logarithm=each.logarithm
            )
            assert effect.value == pytest.approx(tables[each.paper_metric], abs=1e-5)


def test_the_effect_on_a_logarithm_is_a_share():
    values = pd.DataFrame({"a": [4.0, 8.0, 0.0], "b": [2.0, 2.0, 0.02]})
    each = Claim("a is more", ({"a": 1.0, "b": -1.0},), 0.15, logarithm=True)
    (series,) = by_seed(each, values)
    assert series.tolist() == pytest.approx([1, 2, -1])  # nothing counts as a hundredth
    (plain,) = by_seed(Claim("a is more", each.contrasts, 0.15), values)
    assert plain.tolist() == pytest.approx([2, 6, -0.02])


def test_claims_stated_after_runs_name_profiles():
    for name in study_names():
        for each in design(name).claims:
            assert set(each.seen) <= set(profile_names())
            assert all(seeds > 0 for seeds in each.seen.values())


def test_noise_by_size_goes_on_where_noise_ends():
    """At the foot it has the runs of `noise`; up the ladder it adds those without noise alone."""
    found = {arm.name: arm.recipe for arm in design("noise_by_size", "fashion").arms}
    noise = {arm.name: arm.recipe for arm in design("noise", "fashion").arms}
    assert found["small student"] == noise["all noise"]
    assert found["small student, no noise"] == noise["no noise"]
    there = {arm.recipe.id for arm in design("student_size", "fashion").arms}
    assert [name for name, recipe in found.items() if recipe.id not in there] == [
        f"{rung} student, no noise" for rung in ("small", "medium", "large")
    ]


def test_a_size_that_gains_a_point_more_of_noise_than_the_last_has_a_slope_of_one():
    """Noise worth -1, 0 and 1 points from foot to top."""
    values = pd.DataFrame(
        {
            f"{rung} student{end}": [70.0 + 5 * i + worth]
            for i, rung in enumerate(("small", "medium", "large"))
            for end, worth in (("", i - 1), (", no noise", 0))
        }
    )
    (series,) = by_seed(claim("noise_by_size", "the more noise"), values)
    assert series.to_list() == pytest.approx([1])


def test_a_pool_too_large_to_be_labeled_anew_has_no_noised_teacher():
    large = claim("noise", "noised teacher", "imagenet")
    assert large.untestable.startswith("the pool is too large")
    assert not claim("noise", "noised teacher", "imagenet-mini").untestable
    arms = [{arm.name for arm in design("noise", name).arms} for name in ("imagenet", "digits")]
    assert arms[1] - arms[0] == {"noised teacher"}


def test_ratio_by_teacher_has_the_runs_of_batch_ratio_and_those_of_another_teacher():
    found = {arm.name: arm.recipe for arm in design("ratio_by_teacher", "fashion").arms}
    ratios = {arm.name: arm.recipe for arm in design("batch_ratio", "fashion").arms}
    for ratio in (1, 3, 7):
        of_small, of_own = (found[f"of {rung} {ratio}:1"] for rung in ("small", "large"))
        assert of_small == ratios[f"large {ratio}:1"]
        assert of_own.teacher == found["large supervised"]
        assert of_own == replace(of_small, teacher=of_own.teacher)


def test_a_ratio_that_costs_a_point_more_of_the_small_teacher_has_a_slope_of_one():
    values = pd.DataFrame(
        {
            f"of {rung} {ratio}:1": [80.0 - step * costs]
            for rung, costs in (("small", 1.5), ("large", 0.5))
            for step, ratio in enumerate((1, 3, 7))
        }
    )
    (series,) = by_seed(claim("ratio_by_teacher", "worth more"), values)
    assert series.to_list() == pytest.approx([1])
    (harm,) = by_seed(claim("ratio_by_teacher", "no harm"), values)
    assert harm.to_list() == pytest.approx([-0.5])
