"""What a search may change: reading spaces, and what of them an arm is tuned over."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile, profile_names
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe
from ns_bench.tuning.sampler import distribution
from ns_bench.tuning.space import (
    applies,
    changes,
    for_arm,
    load_space,
    read_space,
    varied_fields,
)

STUDENT = Recipe(teacher=Recipe())


def space(**tables):
    return load_space({name.replace("__", "."): table for name, table in tables.items()}, "here")


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_has_a_space_of_the_fields_the_field_tunes(name):
    names = {d.name for d in load_space(load_profile(name).space, name)}
    assert names >= {"train.lr", "train.weight_decay", "train.ema", "train.label_smoothing"}
    assert names >= {f"noise.*.randaugment_{x}" for x in "nm"}
    assert names >= {"noise.*.dropout", "noise.*.stochastic_depth", "train.ratio"}
    assert names >= {"pseudo.threshold", "pseudo.temperature"}


@pytest.mark.parametrize("name", profile_names())
def test_no_two_choices_of_the_average_are_one(name):
    """Its decay warms up, (1 + step) / (10 + step): a run of few steps gets to no slower one."""
    profile = load_profile(name)
    if not profile.verdict:
        return  # a trial run's steps average nothing to speak of
    steps = profile.supervised("small").steps
    choices = profile.space["train"]["ema"]["choices"]
    assert len({min(decay, (1 + steps) / (10 + steps)) for decay in choices}) == len(choices)
    assert sum(decay > (1 + steps) / (10 + steps) for decay in choices) <= 1


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"train__lr": {"low": 0.1, "high": 0.01}}, "low=0.1 is not below high=0.01"),
        ({"train__lr": {"low": 0.1, "high": 0.1}}, "low=0.1 is not below high=0.1"),
        ({"train__ler": {"low": 0.1, "high": 0.2}}, "did you mean 'train.lr'"),
        ({"train__lr": {"low": 0.1, "hihg": 0.2}}, "did you mean 'high'"),
        ({"train__lr": {"low": 0, "high": 0.2, "log": True}}, "starts above 0"),
        ({"train__lr": {"low": 0.1, "high": 0.2, "step": 0.5}}, "step=0.5 does not fit"),
        ({"train__lr": {"low": -0.1, "high": 0.2}}, "train.lr"),
        ({"train__lr": {"low": 0.1}}, "expected low and high"),
        ({"train__lr": 0.1}, "expected a table"),
        ({"train__loss": {"choices": []}}, "expected one choice or more"),
        ({"train__loss": {"choices": ["summ"]}}, "summ"),
        ({"train__loss": {"choices": ["sum"], "low": 1}}, "then no range"),
        ({"train__loss": {"choices": 3}}, "here: train.loss: choices=3: expected a list"),
        ({"train__loss": {"choices": "sum"}}, "here: train.loss: choices='sum': expected a list"),
        ({"train__lr": {"choices": ["0.1"]}}, "here: train.lr: train.lr='0.1': expected a number"),
        ({"train__lr": {"choices": [{}]}}, "here: train.lr: train.lr={}: expected a number"),
        ({"train__lr": {"low": "a", "high": 1}}, "here: train.lr: low='a': expected a number"),
        ({"train__lr": {"low": 0.1, "high": math.inf}}, "here: train.lr: high=inf: expected a n"),
        ({"train__lr": {"low": math.nan, "high": 1}}, "here: train.lr: low=nan: expected a number"),
        ({"train__lr": {"low": 0.1, "high": 1, "step": "a"}}, "train.lr: step='a': expected a num"),
        ({"train__lr": {"low": 0.1, "high": 1, "step": [1]}}, "train.lr: step=[1]: expected a num"),
        ({"train__lr": {"low": 0.1, "high": 1, "log": 1}}, "train.lr: log=1: expected true or fal"),
        ({"train__lr": {"low": 0.1, "high": 1, "when": 3}}, "train.lr: when=3: expected a table"),
        ({"train__lr": {"low": 0.1, "high": 1, "when": ["a"]}}, "when=['a']: expected a table"),
        ({"train__lr": {"low": 0.1, "high": 1, "when": {"pseudo.kin": 1}}}, "'pseudo.kind'"),
        (
            {"train__lr": {"low": 0.1, "high": 1, "when": {"pseudo.kind": "sof"}}},
            "here: train.lr: pseudo.kind='sof': expected one of soft, hard",
        ),
        ({"seed": {"low": 0, "high": 9}}, "here: seed: 'seed' is not set by hand"),
        ({}, "the space is empty"),
        (
            {
                "noise__labeled__dropout": {"low": 0.0, "high": 0.2},
                "noise__*__dropout": {"low": 0.0, "high": 0.2},
            },
            "noise.labeled.dropout is there twice",
        ),
    ],
)
def test_a_bad_space_is_one_line(tables, said):
    with pytest.raises(UserError) as error:
        space(**tables)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_is_toml(tmp_path: Path):
    file = tmp_path / "space.toml"
    file.write_text(
        'train.lr = { low = 0.01, high = 0.1 }\n"noise.*.dropout" = { low = 0.0, high = 0.5 }'
    )
    assert [d.name for d in read_space(file)] == ["train.lr", "noise.*.dropout"]
    file.write_text("train.lr = {")
    with pytest.raises(UserError, match="is not TOML"):
        read_space(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_space(tmp_path / "none.toml")


def test_an_arm_is_tuned_over_what_it_uses_and_the_study_does_not_vary():
    everything = space(
        train__lr={"low": 0.01, "high": 0.1},
        train__ratio={"choices": [1, 3]},
        pseudo__threshold={"low": 0.0, "high": 0.9},
    )
    assert [d.name for d in for_arm(everything, Recipe(), [])] == ["train.lr"]
    assert [d.name for d in for_arm(everything, STUDENT, ["train.ratio"])] == [
        "train.lr",
        "pseudo.threshold",
    ]


def test_a_study_varies_what_its_arms_differ_in_where_they_use_it():
    profile = load_profile("digits")

    def varied(name: str) -> list[str]:
        return varied_fields([arm.recipe for arm in load_study(name).design(profile).arms])

    assert varied("confidence_threshold") == ["pseudo.threshold"]
    assert varied("teacher_size") == []  # only teachers differ, which are not tuned
    assert varied("batch_ratio") == ["model", "train.ratio"]


def test_a_dimension_can_depend_on_another():
    kind, temperature = space(
        pseudo__kind={"choices": ["soft", "hard"]},
        pseudo__temperature={"low": 0.5, "high": 2.0, "when": {"pseudo.kind": "soft"}},
    )
    assert applies(temperature, {"pseudo.kind": "soft"}, STUDENT)
    assert not applies(temperature, {"pseudo.kind": "hard"}, STUDENT)
    assert applies(temperature, {}, STUDENT)  # the arm's own kind is soft
    assert applies(kind, {}, STUDENT)


def test_a_star_is_labeled_and_unlabeled_rows_alike():
    (dimension,) = space(**{"noise__*__dropout": {"low": 0.0, "high": 0.5}})
    assert changes([dimension], {"noise.*.dropout": 0.3}) == {
        "noise.labeled.dropout": 0.3,
        "noise.unlabeled.dropout": 0.3,
    }


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.booleans())
def test_optuna_draws_from_the_very_range(a, b, log):
    low, high = sorted((a, b))
    if low == high:
        return
    (dimension,) = space(train__lr={"low": low, "high": high, "log": log})
    kind = distribution(dimension)
    assert isinstance(kind, FloatDistribution)
    assert (kind.low, kind.high, kind.log, kind.step) == (low, high, log, None)


def test_whole_ends_make_whole_numbers():
    (dimension,) = space(**{"noise__*__randaugment_n": {"low": 1, "high": 3}})
    assert type(distribution(dimension)).__name__ == "IntDistribution"
