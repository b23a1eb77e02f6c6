"""A study whose arms have the best recipes of their searches."""

from pathlib import Path

import pytest
from builders import present
from searches import DESIGN, PROFILE, STUDENT, STUDY, budget, finish, search

from ns_bench.design.definition import load_study, study_names
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.runs.store import Store
from ns_bench.tuning.driver import Driver
from ns_bench.tuning.sampler import own_values
from ns_bench.tuning.space import changes, load_space
from ns_bench.tuning.trials import Search, Settings, best_of
from ns_bench.tuning.tuned_arms import fingerprint, search_of, tuned

pytestmark = pytest.mark.slow


def two_searches(root: Path, trials: tuple[int, int] = (8, 8)) -> tuple[Search, Search]:
    pair = (search(root), search(root, STUDENT))
    for found, count in zip(pair, trials, strict=True):
        finish(found, count)
    return pair


def arms() -> list[str]:
    return [arm.name for arm in DESIGN.arms]


def test_a_tuned_design_has_each_arms_best_recipe_and_its_teachers_as_they_were(tmp_path):
    for arm in arms():
        finish(search(tmp_path, arm), 8)
    found = tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    for best_arm, before in zip(found.design.arms, DESIGN.arms, strict=True):
        mine = search(tmp_path, best_arm.name)
        best = present(best_of(mine.standings(mine.trials())))
        assert best_arm.recipe == best.recipe
        assert best_arm.recipe.teacher == before.recipe.teacher
        assert found.choices[best_arm.name].trials == 8
    assert found.before is DESIGN


@pytest.mark.parametrize("scale", ["digits", "fashion", "glyphs"])
def test_trial_0_of_every_arm_is_its_own_recipe(scale):
    """Also of those that see no labeled rows, whose noise is then of no use."""
    profile, store = load_profile(scale), Store(Path("runs"), read_only=True)
    space = tuple(load_space(profile.space, "here"))
    for name in study_names():
        study = load_study(name)
        design = study.design(profile)
        settings = Settings(name, scale, fingerprint(design), space)
        for arm in design.arms:
            found = search_of(settings, study, design, arm.name, store, profile)
            if found is not None:
                recipe = arm.recipe.set(changes(found.space, own_values(found)))
                assert recipe == arm.recipe, (name, arm.name)


def test_arms_without_the_same_chance_are_refused(tmp_path):
    with pytest.raises(UserError, match="has no search of soft_vs_hard"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    for i, arm in enumerate(arms()[:-1]):
        finish(search(tmp_path, arm), 8 if i else 4)
    with pytest.raises(UserError, match="has nothing of"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    finish(search(tmp_path, arms()[-1]), 8)
    with pytest.raises(UserError, match="had not the same chance"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    driver = Driver([search(tmp_path, arms()[0])], budget(8))
    assert driver.advance()
    with pytest.raises(UserError, match="is not over"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    with pytest.raises(UserError, match="did you mean"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path), search(tmp_path).settings.id[:-1])
