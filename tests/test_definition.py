"""Studies, profiles and the rooms they are in."""

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ns_bench import definition, resources
from ns_bench.data import catalog
from ns_bench.definition import (
    Arm,
    Claim,
    Design,
    Profile,
    Study,
    combine,
    difference,
    interaction,
    load_profile,
    load_study,
    minus,
    profile_names,
    study_names,
    trend,
    untestable,
)
from ns_bench.errors import UserError
from ns_bench.recipe import HISTORICAL_DEFAULTS, Recipe

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""

STUDY_FILE = """
from ns_bench.definition import Arm, Design, Study

def design(profile):
    arm = Arm("only", profile.supervised(profile.rungs[0], train__epochs=3))
    return Design([arm], arm.name, [])

STUDY = Study("mine", "Does it load?", "nothing", design, "nowhere")
"""


def refusal(function: Any, *arguments: Any) -> str:
    """Return the message of the UserError that a call raises: one line."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- profiles -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_can_be_used(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.title
    assert profile.machine
    assert profile.seeds >= 1
    assert profile.fields.keys() <= HISTORICAL_DEFAULTS.keys()
    assert profile.rungs[0] == "small"
    assert profile.rungs[-1] == "large"
    assert len(set(profile.ladder.values())) == len(profile.ladder)
    assert profile.gpu or profile.step_seconds.keys() >= set(profile.ladder.values())
    families = profile.architectures.values()
    assert not families or profile.ladder["small"] in families
    assert len({profile.supervised("small", model=model).id for model in families}) == len(families)
    recipes = [profile.supervised(rung) for rung in profile.rungs]
    recipes += [profile.student(rung, recipes[0]) for rung in profile.rungs]
    assert [recipe.model for recipe in recipes] == list(profile.ladder.values()) * 2
    assert all(profile.estimate(recipe) > 0 for recipe in recipes)
    costs = [profile.estimate(recipe) for recipe in recipes]
    assert costs[: len(profile.rungs)] == sorted(costs[: len(profile.rungs)])
    assert profile.estimate(recipes[len(profile.rungs)]) > profile.estimate(recipes[0])


def test_the_profiles_there_are():
    assert {"digits", "smoke"} <= set(profile_names())
    assert load_profile("digits").seeds >= 8  # published studies
    assert load_profile("digits").verdict
    assert not load_profile("smoke").verdict


def test_smoke_is_digits_on_a_smaller_budget():
    digits, smoke = load_profile("digits"), load_profile("smoke")
    assert smoke.ladder == digits.ladder
    assert smoke.step_seconds == digits.step_seconds
    assert smoke.supervised("small").data == digits.supervised("small").data
    differs = {n for n in digits.fields if smoke.fields[n] != digits.fields[n]}
    assert smoke.fields.keys() == digits.fields.keys()
    assert differs == {"train.epochs"}
    assert smoke.seeds < digits.seeds
    small, other = smoke.supervised("small"), digits.supervised("small")
    assert smoke.estimate(small) < digits.estimate(other)
    assert load_profile("digits") == digits  # loading one leaves the other alone


def test_a_profile_has_the_fields_of_its_file():
    recipe = load_profile("digits").supervised("large")
    train, noise = recipe.train, recipe.noise.labeled
    assert (recipe.model, recipe.data.name) == ("micro-b4", "digits")
    values = load_profile("digits").fields
    assert train.epochs == values["train.epochs"] != HISTORICAL_DEFAULTS["train.epochs"]
    assert noise.randaugment_m == values["noise.labeled.randaugment_m"]


def test_fields_of_an_arm_come_on_top_of_the_profile():
    profile = load_profile("smoke")
    teacher = profile.supervised("large", train__lr=0.5)
    student = profile.student("small", teacher, noise__unlabeled__dropout=0, pseudo__kind="hard")
    assert (teacher.train.lr, teacher.model, teacher.teacher) == (0.5, "micro-b4", None)
    assert (student.model, student.teacher) == ("micro-b0", teacher)
    assert student.noise.unlabeled.dropout == 0
    assert student.pseudo.kind == "hard"
    assert student.train.lr == profile.fields["train.lr"]
    assert student.noise.labeled == profile.supervised("small").noise.labeled


def test_assignments_reach_every_recipe():
    profile = load_profile("smoke", {"train.epochs": "7", "pseudo.kind": "hard"})
    teacher = profile.supervised("medium")
    student = profile.student("small", teacher)
    assert (teacher.train.epochs, student.train.epochs) == (7, 7)
    assert student.pseudo.kind == "hard"
    assert load_profile("smoke").supervised("medium").train.epochs != 7


def test_assignments_of_data_reach_teacher_and_student():
    profile = load_profile("smoke", {"data.labeled": "100"})
    student = profile.student("small", profile.supervised("large"))
    assert student.teacher is not None
    assert student.data.labeled == student.teacher.data.labeled == 100


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ({"train.lrr": "1"}, "unknown field 'train.lrr': did you mean 'train.lr'?"),
        ({"train.epochs": "many"}, "train.epochs=many: expected a number"),
        ({"train.lr": "-1"}, "train.lr=-1.0: expected a value above 0"),
        ({"pseudo.kind": "firm"}, "pseudo.kind=firm: expected one of soft, hard"),
        ({"seed": "1"}, "'seed' is not set by hand"),
        ({"model": "resnet18"}, "'model' is not set by hand: profile 'digits' maps its ladder"),
    ],
)
def test_assignments_that_are_refused(assignments, message):
    assert refusal(load_profile, "digits", assignments).startswith(message)


def test_unknown_names_name_the_nearest():
    assert refusal(load_profile, "digts") == "unknown profile 'digts': did you mean 'digits'?"
    assert "smoke" in refusal(load_profile, "xyzzy")
    message = "unknown study 'teacher_sise': did you mean 'teacher_size'?"
    assert refusal(load_study, "teacher_sise") == message
    assert "architecture" in refusal(load_study, "xyzzy")
    profile = load_profile("digits")
    message = "unknown rung of profile 'digits' 'smal': did you mean 'small'?"
    assert refusal(profile.supervised, "smal") == message
    assert "did you mean 'large'" in refusal(profile.student, "larg", profile.supervised("small"))
    assert refusal(lambda: profile.supervised("small", train__lrr=1)).endswith("'train.lr'?")


MODELS = """
extends = "smoke"

[model.micro-b2]
train = { epochs = 7, lr = 0.5 }
noise.unlabeled.dropout = 0.4
"""


def test_fields_of_a_model_come_before_those_of_all(tmp_path):
    (tmp_path / "mine.toml").write_text(MODELS)
    file = str(tmp_path / "mine.toml")
    profile, smoke = load_profile(file), load_profile("smoke")
    teacher = profile.supervised("small")
    student = profile.student("medium", teacher)
    assert teacher == smoke.supervised("small")
    assert (student.train.epochs, student.train.lr) == (7, 0.5)
    assert (student.noise.unlabeled.dropout, student.noise.labeled.dropout) == (0.4, 0.2)
    assert student.teacher == teacher
    # what an arm says goes first, then --set, then the model
    assert profile.student("medium", teacher, train__lr=0.1).train.lr == 0.1
    told = load_profile(file, {"train.lr": "0.3"})
    assert told.student("medium", teacher).train.lr == 0.3
    assert told.student("medium", teacher).train.epochs == 7
    assert told.student("medium", teacher, train__lr=0.1).train.lr == 0.1


def test_what_a_study_starts_from_is_the_small_models(tmp_path):
    (tmp_path / "mine.toml").write_text(MODELS.replace("micro-b2", "micro-b0"))
    profile = load_profile(str(tmp_path / "mine.toml"))
    assert profile.base("train.epochs") == 7
    assert profile.shortened(0.5)["train__epochs"] == 4
    assert profile.supervised("large").train.epochs == load_profile("smoke").base("train.epochs")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lr = 0.5", "lrr = 0.5", "[model.micro-b2]: unknown field 'train.lrr': did you mean"),
        ("lr = 0.5", "lr = -1", "[model.micro-b2]: train.lr=-1.0: expected a value above 0"),
        ("epochs = 7", 'epochs = "many"', "train.epochs=many: expected a number"),
        ("noise.unlabeled.dropout = 0.4", "data.labeled = 7", "data.labeled in [model.micro-b2]"),
        ("noise.unlabeled.dropout = 0.4", 'model = "a"', "model in [model.micro-b2]: expected in"),
        ("[model.micro-b2]", "[model]\nmicro-b0 = 3", "model.micro-b0 = 3: expected a table"),
        ("[model.micro-b2]", "[model.micro-bb2]", ": 'micro-bb2': did you mean 'micro-b2'?"),
        ("[model.micro-b2]", "[model.xyzzy]", ": 'xyzzy': valid: micro-b0, micro-b2, micro-b4,"),
    ],
)
def test_tables_of_models_that_are_refused(old, new, said, tmp_path):
    (tmp_path / "mine.toml").write_text(MODELS.replace(old, new))
    assert said in refusal(load_profile, str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("model", ["small-b3", "resnet18", "tf_efficientnet_l2"])
def test_a_table_may_be_of_a_model_that_is_not_on_the_ladder(model, tmp_path):
    (tmp_path / "mine.toml").write_text(MODELS.replace("micro-b2", model))
    assert load_profile(str(tmp_path / "mine.toml")).by_model[model]["train.epochs"] == 7


@pytest.mark.parametrize("name", ["", "../digits", "/etc/passwd"])
def test_a_profile_is_no_path(name):
    assert refusal(load_profile, name).startswith("unknown profile")


def test_an_estimate_is_a_rate_times_the_work():
    profile = Profile("p", "t", {}, {"small": "a"}, 1, 1.0, step_seconds={"a": [2.0, 0.5]})
    supervised = profile.supervised("small", train__epochs=4)
    assert (supervised.steps, supervised.images) == (4, 200)
    assert profile.estimate(supervised) == 4 * 2 + 200 * 0.5
    student = profile.student("small", supervised, train__epochs=4)
    assert profile.estimate(student) == 4 * 2 + 800 * 0.5
    rates = {"a": [2.0, 0.5], "b": [3.0, 0.5]}
    unknown = Profile("p", "t", {}, {"small": "c"}, 1, 1.0, step_seconds=rates)
    assert unknown.estimate(unknown.supervised("small", train__epochs=4)) == 4 * 3 + 200 * 0.5
    assert Profile("p", "t", {}, {"small": "c"}, 1, 1.0).estimate(supervised) > 0


# --- loading studies ------------------------------------------------------------------------


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
    recipes = design.recipes(range(3))
    assert len(recipes) == 3 * len(design.arms)
    assert len({recipe.id for recipe in recipes.values()}) == len(recipes)


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
        ("from ns_bench.definition import Studdy\n", "ImportError"),
        ("raise ValueError('one line\\nand another')\n", "ValueError"),
        ("", "sets STUDY = Study"),
        ("STUDY = 'teacher_size'\n", "sets STUDY = Study"),
        ("study = None\n", "sets STUDY = Study"),
        ("from ns_bench.definition import Study as STUDY\n", "sets STUDY = Study"),
    ],
)
def test_a_broken_study_file_is_one_line(tmp_path, text, problem):
    path = tmp_path / "broken.py"
    path.write_text(text)
    message = refusal(load_study, str(path))
    assert message.startswith(f"study {path}: ")
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


def test_a_shortened_run_ends_at_the_same_rate():
    profile = load_profile("digits")
    short = profile.supervised("small", **profile.shortened(0.1, rate=0.5)).train
    whole = profile.supervised("small").train
    assert (short.epochs, short.lr) == (whole.epochs / 10, whole.lr / 2)
    assert short.epochs / short.decay_epochs == pytest.approx(whole.epochs / whole.decay_epochs)
    assert short.warmup_epochs == whole.warmup_epochs / 10


def test_facts_of_a_profile():
    profile = load_profile("digits", {"train.epochs": "7"})
    assert (profile.base("train.epochs"), profile.base("train.ratio")) == (7, 3)
    assert profile.pool == 1797 - 50 - 100 - 500
    assert not profile.out_of_domain


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
    assert recipes["b", 3].teacher.teacher == teacher.at_seed(3)


def test_a_study_is_a_value():
    study = load_study("teacher_size")
    assert isinstance(study, Study)
    with pytest.raises(AttributeError):
        study.name = "other"


# --- rooms ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "inside"), [("studies", "teacher_size.py"), ("reports", "paper.csv")]
)
def test_rooms_are_found(room, inside):
    assert (resources.folder(room) / inside).is_file()


def test_rooms_of_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "ns_bench"
    package.mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.folder("studies") == tmp_path / "studies"


def test_rooms_of_a_wheel_come_first(tmp_path, monkeypatch):
    package = tmp_path / "ns_bench"
    shipped = package / "_share" / "studies"
    shipped.mkdir(parents=True)
    (tmp_path / "studies").mkdir()  # somebody else's folder in site-packages
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.folder("studies") == shipped
    assert resources.folder("reports") == tmp_path / "reports"


def test_rooms_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    before = resources.folder("studies")
    monkeypatch.chdir(tmp_path)
    assert resources.folder("studies") == before
    assert before.is_absolute()


def test_the_wheel_ships_every_room_that_is_read():
    """Both layouts are named in one place each; they have to agree."""
    root = Path(resources.__file__).parents[1]
    source = "".join(path.read_text() for path in (root / "ns_bench").rglob("*.py"))
    read = set(re.findall(r'folder\("(\w+)"\)', source))
    assert {"studies", "reports"} <= read
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    places = build["targets"]["wheel"]["force-include"]
    for top, inside in places.items():
        assert inside == f"ns_bench/_share/{top}"
        assert (root / top).exists()
    assert read <= {Path(top).parts[0] for top in places}
