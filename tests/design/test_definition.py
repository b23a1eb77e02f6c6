"""Studies: their arms, claims and designs, and the files they are loaded from."""

from pathlib import Path

import numpy as np
import pytest
from builders import present
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refusal

from ns_bench.data import catalog
from ns_bench.design import definition
from ns_bench.design.cost import check_labels
from ns_bench.design.definition import (
    Arm,
    Claim,
    Design,
    Study,
    combine,
    difference,
    interaction,
    load_study,
    minus,
    study_names,
    trend,
    untestable,
)
from ns_bench.design.profile import load_profile, profile_names
from ns_bench.recipe import Recipe

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""

STUDY_FILE = """
from ns_bench.design.definition import Arm, Design, Study

def design(profile):
    arm = Arm("only", profile.supervised(profile.rungs[0], train__epochs=3))
    return Design([arm], arm.name, [])

STUDY = Study("mine", "Does it load?", "nothing", design, "nowhere")
"""


# --- loading studies ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("name", study_names())
def test_every_study_can_be_planned_in_every_profile(name, profile):
    study = load_study(name)
    assert study.name == name
    assert study.question.endswith("?")
    assert study.factor
    assert study.source
    design = study.design(load_profile(profile))
    assert design.claims
    tested = [claim for claim in design.claims if not claim.untestable]
    assert all(claim.smallest_effect > 0 and claim.contrasts for claim in tested)
    assert all(not claim.contrasts for claim in design.claims if claim.untestable)
    contrasts = [weights for claim in tested for weights in claim.contrasts]
    assert all(weights and abs(sum(weights.values())) < 1e-12 for weights in contrasts)
    # With the sign-flip test's floor at n = 8, Holm over a larger family could never reject.
    assert len(tested) * 2 / 2**8 <= 0.05
    for arm in design.arms:
        catalog.check(arm.recipe)
        check_labels(arm.recipe)
    recipes = design.recipes(range(3))
    assert len(recipes) == 3 * len(design.arms)
    assert len({recipe.id for recipe in recipes.values()}) == len(recipes)


def test_a_command_names_files_of_ones_own_by_their_path(tmp_path):
    (tmp_path / "mine.py").write_text(STUDY_FILE)
    (tmp_path / "own.toml").write_text("extends = 'digits'\n")
    profile = load_profile(f"{tmp_path}/own.toml")
    own, shipped = load_study(f"{tmp_path}/mine.py"), load_study("teacher_size")
    assert own.words(profile) == f"mine.py --profile {tmp_path}/own.toml"
    assert shipped.words(load_profile("digits")) == "teacher_size --profile digits"


def test_teacher_size():
    profile = load_profile("digits")
    design = load_study("teacher_size").design(profile)
    assert [arm.name for arm in design.arms] == [
        "supervised",
        "small teacher",
        "medium teacher",
        "large teacher",
    ]
    assert design.baseline == "supervised"
    assert {arm.recipe.model for arm in design.arms} == {profile.ladder["small"]}
    teachers = [arm.recipe.teacher for arm in design.arms]
    assert [t.model if t else None for t in teachers] == [None, *profile.ladder.values()]
    # The supervised arm is the small teacher: it trains once.
    assert design.arms[0].recipe == teachers[1]


def test_a_study_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(STUDY_FILE)
    study = load_study(str(path))
    assert (study.name, study.question) == ("mine", "Does it load?")
    design = study.design(load_profile("smoke"))
    assert design.arms[0].recipe.train.epochs == 3


def test_a_relative_study_file(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(STUDY_FILE)
    monkeypatch.chdir(tmp_path)
    assert load_study("mine.py").name == "mine"


def test_a_study_file_is_ordinary_python(tmp_path):
    """Dataclasses look their own module up, which has to be found under its name."""
    path = tmp_path / "mine.py"
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    body = "@dataclass\nclass Level:\n    name: str\n    size: int = 0\n"
    path.write_text(f"{head}{STUDY_FILE}{body}")
    assert load_study(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import a_module_that_is_not_there\n", "ModuleNotFoundError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("from ns_bench.design.definition import Studdy\n", "ImportError"),
        ("raise ValueError('one line\\nand another')\n", "ValueError"),
        ("", "sets STUDY = Study"),
        ("STUDY = 'teacher_size'\n", "sets STUDY = Study"),
        ("study = None\n", "sets STUDY = Study"),
        ("from ns_bench.design.definition import Study as STUDY\n", "sets STUDY = Study"),
    ],
)
def test_a_broken_study_file_is_one_line(tmp_path, text, problem):
    path = tmp_path / "broken.py"
    path.write_text(text)
    message = refusal(load_study, str(path))
    assert message.startswith(f"study {path}:")
    assert problem in message


def test_a_study_file_that_is_not_there(tmp_path):
    message = refusal(load_study, str(tmp_path / "nothing.py"))
    assert message == f"study {tmp_path / 'nothing.py'}: there is no such file"
    (tmp_path / "folder.py").mkdir()
    assert "no such file" in refusal(load_study, str(tmp_path / "folder.py"))


def test_private_files_are_no_studies(tmp_path, monkeypatch):
    for name in ("mine", "_helpers", "__init__"):
        (tmp_path / f"{name}.py").write_text(STUDY_FILE)
    monkeypatch.setattr(definition, "folder", lambda name: tmp_path)
    assert study_names() == ["mine"]
    assert load_study("mine").name == "mine"
    assert refusal(load_study, "_helpers").startswith("unknown study '_helpers'")


# --- claims ---------------------------------------------------------------------------------


def test_a_difference():
    paper = {"row": 1.0}
    claim = difference(
        "text", "new", minus="old", smallest_effect=0.5, kind="equivalent", paper=paper
    )
    weights = {"new": 1.0, "old": -1.0}
    assert claim == Claim("text", (weights,), 0.5, "equivalent", "points", paper)
    assert minus("new", "old") == weights
    assert difference("text", "new", minus="old", smallest_effect=0.5).kind == "greater"


@patient
@given(st.lists(st.floats(0, 100), min_size=2, max_size=9))
def test_a_trend_is_the_least_squares_slope(top1):
    arms = [f"arm {i}" for i in range(len(top1))]
    claim = trend("text", arms, 0.25)
    (weights,) = claim.contrasts
    slope = np.polyfit(np.arange(len(top1)), top1, 1)[0]
    contrast = sum(weights[arm] * y for arm, y in zip(arms, top1, strict=True))
    assert contrast == pytest.approx(slope, abs=1e-9)
    assert list(weights) == arms
    assert (claim.unit, claim.kind) == ("points a step", "greater")
    assert claim.smallest_effect * (len(arms) - 1) == pytest.approx(0.25)


def test_a_trend_takes_another_unit():
    claim = trend("text", ["a", "b"], 0.25, unit="points a doubling", note="n")
    assert (claim.unit, claim.note) == ("points a doubling", "n")
    assert claim.contrasts == ({"a": -1.0, "b": 1.0},)


def test_an_interaction_is_the_difference_of_two_contrasts():
    claim = interaction("text", minus("a", "b"), minus("c", "b"), 0.5)
    assert claim.contrasts == ({"a": 1.0, "c": -1.0},)  # b cancels
    gains = interaction("text", minus("a", "b"), minus("c", "d"), 0.5).contrasts[0]
    assert gains == {"a": 1.0, "b": -1.0, "c": -1.0, "d": 1.0}
    assert combine((2, {"a": 1.0}), (0.5, {"a": 2.0, "b": -6.0})) == {"a": 3.0, "b": -3.0}


def test_a_claim_that_a_profile_cannot_test():
    claim = untestable("text", "no such images")
    assert (claim.contrasts, claim.untestable) == ((), "no such images")


@pytest.mark.parametrize("arms", [["only"], []])
def test_a_trend_needs_two_arms(arms):
    """As a ladder of one rung would give it."""
    assert "trend" in refusal(trend, "text", arms, 0.25)


# --- designs --------------------------------------------------------------------------------


def arm(name: str) -> Arm:
    return Arm(name, Recipe(model=name))


def test_a_design_refuses_unknown_arms():
    arms = [arm("small teacher"), arm("large teacher")]
    claim = difference("text", "large teacher", minus="small techer", smallest_effect=1)
    message = "unknown arm 'small techer': did you mean 'small teacher'?"
    assert refusal(Design, arms, "large teacher", [claim]) == message
    assert "'large teacher'" in refusal(Design, arms, "larg teacher", [])
    trended = trend("text", ["small teacher", "huge"], 1)
    assert refusal(Design, arms, "small teacher", [trended]).startswith("unknown arm 'huge'")
    assert refusal(Design, [], "supervised", []).startswith("unknown arm 'supervised'")


def test_a_design_refuses_two_arms_of_one_name():
    arms = [arm("a"), arm("b"), Arm("a", Recipe(model="other"))]
    assert refusal(Design, arms, "a", []) == "two arms have one name: a, b, a"


def test_recipes_of_a_design_are_end_to_end_seeds():
    teacher = Recipe(model="teacher")
    arms = [arm("a"), Arm("b", Recipe(teacher=Recipe(teacher=teacher)))]
    recipes = Design(arms, "a", []).recipes([3, 1])
    assert list(recipes) == [("a", 3), ("b", 3), ("a", 1), ("b", 1)]
    for (name, seed), recipe in recipes.items():
        assert recipe == {a.name: a for a in arms}[name].recipe.at_seed(seed)
    assert present(recipes["b", 3].teacher).teacher == teacher.at_seed(3)


def test_a_study_is_a_value():
    study = load_study("teacher_size")
    assert isinstance(study, Study)
    with pytest.raises(AttributeError):
        study.name = "other"  # type: ignore[misc]


CHECKED = """
from ns_bench.design.definition import Arm, Design, Study, difference

def design(profile):
    alone = profile.supervised("small")
    arms = [Arm("alone", alone), Arm("student", profile.student("small", alone))]
    return Design(arms, "alone", [difference("It helps.", "student", "alone", 1.0)])

STUDY = Study("mine", "Does it help?", "teacher", design, "nowhere")
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    alone =", "    1 / 0\n    alone =", "mine.py:5: ZeroDivisionError: division by zero"),
        ("return Design", "Design", "mine.py: design returns None: expected a Design"),
        ("import Arm", "import Armm, Arm", "mine.py:2: ImportError"),
        ("\ndef", "import sys; sys.exit(0)\ndef", "mine.py:3: SystemExit: 0"),
        ('profile.student("small", alone)', "7", "recipe=7, paper='') is no arm: expected Arm"),
        ('"alone"', "5", "mine.py:7: an arm is named 5: expected text"),
        ("1.0", "float('nan')", "claim 'It helps.': smallest_effect=nan: expected a number above"),
        ("1.0", "-1.0", "smallest_effect=-1.0: expected a number above 0"),
        ("1.0", "1.0, kind='more'", "kind=more: expected one of greater, not worse, equivalent"),
        ('"mine"', '"../../mine"', "name='../../mine': expected letters, digits"),
    ],
)
def test_a_study_of_ones_own_is_checked_before_anything_runs(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(CHECKED)
    assert load_study(str(path)).in_profile(load_profile("smoke")).claims
    path.write_text(CHECKED.replace(old, new))
    assert message in refusal(lambda: load_study(str(path)).in_profile(load_profile("smoke")))
