"""The study of the number of labels: equal steps, shared runs, and what is refused."""

import pytest

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile


def test_the_labels_are_a_quarter_once_and_four_times_the_profiles():
    profile = load_profile("cifar10")
    design = load_study("labels").design(profile)
    assert [arm.recipe.data.labeled for arm in design.arms] == [
        1000,
        1000,
        4000,
        4000,
        16000,
        16000,
    ]
    assert {arm.recipe.model for arm in design.arms} == {profile.ladder["small"]}
    assert {arm.recipe.steps for arm in design.arms} == {37_500}
    assert len({arm.recipe.batch[0] for arm in design.arms}) == 1
    lowest = {
        round(arm.recipe.train.epochs / arm.recipe.train.decay_epochs, 2) for arm in design.arms
    }
    assert len(lowest) == 1  # the rate ends as far down
    for claim, teacher, student in zip(
        design.claims, design.arms[::2], design.arms[1::2], strict=True
    ):
        assert student.recipe.teacher == teacher.recipe
        assert claim.contrasts == ({student.name: 1.0, teacher.name: -1.0},)


@pytest.mark.parametrize("name", ["digits", "cifar10", "svhn"])
def test_with_the_profiles_own_labels_the_runs_are_those_of_other_studies(name):
    profile = load_profile(name)
    arms = load_study("labels").design(profile).arms
    others = load_study("teacher_size").design(profile).arms[:2]
    assert {arm.recipe.id for arm in others} <= {arm.recipe.id for arm in arms}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("digits", "train.batch_size=50 is larger than the labeled set (data.labeled=10)"),
        ("svhn", "are more than the 73257 images of 'svhn'"),
    ],
)
def test_numbers_that_a_set_has_not_are_untestable_and_say_why(name, line):
    design = load_study("labels").design(load_profile(name))
    reasons = [claim.untestable for claim in design.claims if claim.untestable]
    assert len(reasons) == 1 and line in reasons[0]
    assert len(design.arms) == 4
