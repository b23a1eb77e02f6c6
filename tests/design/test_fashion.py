"""The profile `fashion`: what its ladder, its recipe and its pool have to be for the findings."""

from dataclasses import replace

import pytest
from builders import present

from ns_bench.data.catalog import check, describe
from ns_bench.design.cost import network, shape_of
from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile


@pytest.mark.parametrize(
    ("name", "sides"), [("fashion", [12, 16, 20]), ("fashion28", [17, 22, 28])]
)
def test_the_ladder_spans_forty_times_the_weights_and_larger_networks_see_larger_images(
    name, sides
):
    profile = load_profile(name)
    shapes = [shape_of(profile.supervised(rung)) for rung in profile.rungs]
    assert [shape.side for shape in shapes] == sides
    assert {(shape.channels, shape.classes) for shape in shapes} == {(1, 10)}
    networks = [present(network(shape)) for shape in shapes]
    assert all(known.exact for known in networks)
    weights = [known.parameters for known in networks]
    assert weights == sorted(set(weights)) and weights[-1] >= 40 * weights[0]


def test_a_student_costs_a_minute_at_the_foot_and_four_at_the_top_at_most():
    profile = load_profile("fashion")
    teacher = profile.supervised("small")
    assert profile.estimate(profile.student("small", teacher)) <= 60
    assert profile.estimate(profile.student("large", teacher)) <= 240


def test_training_is_the_same_at_every_rung_and_noise_grows_with_the_network():
    profile = load_profile("fashion")
    recipes = [profile.student(rung, profile.supervised("small")) for rung in profile.rungs]
    assert len({replace(recipe.train, resolution=0) for recipe in recipes}) == 1
    for kind in ("labeled", "unlabeled"):
        for noise in ("dropout", "stochastic_depth", "randaugment_n"):
            rates = [recipe.field(f"noise.{kind}.{noise}") for recipe in recipes]
            assert rates == sorted(rates)


def test_the_test_set_is_the_whole_of_it_and_the_rest_is_the_pool():
    profile = load_profile("fashion")
    data = profile.supervised("small").data
    assert data.test == 10_000
    assert profile.pool == 60_000 - data.labeled - data.validation


@pytest.mark.parametrize("name", ["fashion", "fashion28"])
def test_its_pool_does_for_every_ratio_imbalance_and_another_domain(name):
    profile = load_profile(name)
    teacher = profile.supervised("small")
    student = profile.student("large", teacher, train__ratio=14)
    assert student.batch[1] * 30 <= profile.pool
    thinned = {"data__imbalance": 50.0}
    check(profile.student("small", profile.supervised("small", **thinned), **thinned))
    assert profile.other_images == profile.pool


def test_half_of_its_pool_can_be_glyphs():
    profile = load_profile("fashion")
    mixed = profile.mixed_pool(0.5)
    assert mixed == {"data__out_of_domain": 0.5, "data__source": "glyphs"}
    data = profile.supervised("small", **mixed).data
    assert data.glyphs.pixels == data.pixels == 20 and describe(data).pool == profile.pool
    claims = load_study("soft_vs_hard").design(profile).claims
    assert not [claim for claim in claims if claim.untestable]


@pytest.mark.parametrize("kind", ["labeled", "unlabeled"])
def test_every_noise_is_on_so_that_it_can_be_taken_away(kind):
    noise = load_profile("fashion").base(f"noise.{kind}.dropout")
    assert noise > 0 and load_profile("fashion").base(f"noise.{kind}.stochastic_depth") > 0
    assert load_profile("fashion").base(f"noise.{kind}.flip")


def test_the_number_of_labels_has_a_quarter_and_four_times():
    design = load_study("labels").design(load_profile("fashion"))
    labels = [arm.recipe.data.labeled for arm in design.arms]
    assert labels == [120, 120, 500, 500, 2000, 2000]
    assert len({arm.recipe.steps for arm in design.arms}) == 1
