"""Profiles: what they hold, what --set and their tables for a model change, what is refused."""

from dataclasses import replace

import pytest
from refusals import refusal

from ns_bench.design.definition import load_study
from ns_bench.design.profile import Profile, load_profile, profile_names
from ns_bench.recipe import HISTORICAL_DEFAULTS


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
        ({"train.lr": "-1"}, "train.lr=-1: expected a number above 0"),
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
        ("lr = 0.5", "lr = -1", "[model.micro-b2]: train.lr=-1: expected a number above 0"),
        ("epochs = 7", 'epochs = "many"', "train.epochs=many: expected a number"),
        (
            "noise.unlabeled.dropout = 0.4",
            "data.labeled = 7",
            "[model.micro-b2]: data.labeled: expected in [recipe]",
        ),
        (
            "noise.unlabeled.dropout = 0.4",
            'model = "a"',
            "[model.micro-b2]: model: expected in [recipe]",
        ),
        (
            "[model.micro-b2]",
            "[model]\nmicro-b0 = 3",
            "mine.toml: model.micro-b0=3: expected a table",
        ),
    ],
)
def test_tables_of_models_that_are_refused(old, new, said, tmp_path):
    (tmp_path / "mine.toml").write_text(MODELS.replace(old, new))
    assert said in refusal(load_profile, str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[estimate]\nrun_megabyte = 1", "unknown field 'estimate.run_megabyte': did you mean"),
        ("[estimate]\nrun_megabytes = nan", "estimate.run_megabytes=nan: expected a number from 0"),
        ("[estimate]\nrun_megabytes = -1", "estimate.run_megabytes=-1: expected a number from 0"),
        ("[estimate]\nrun_megabytes = inf", "estimate.run_megabytes=inf: expected a number from"),
        ('[estimate]\nrun_megabytes = "1"', "estimate.run_megabytes='1': expected a number from 0"),
        ("[estimate]\nmachine = 3", "estimate.machine=3: expected text"),
        ("[estimate.step_seconds]\na = 1", "estimate.step_seconds.a=1: expected a list [a number"),
        ("[estimate.step_seconds]\na = [1]", "estimate.step_seconds.a=[1]: expected a list [a num"),
        ("[estimate.step_seconds]\na = [1, nan]", "estimate.step_seconds.a[1]=nan: expected a num"),
        (
            "[estimate.step_seconds]\na = [-1, 1]",
            "estimate.step_seconds.a[0]=-1: expected a number",
        ),
        ("[estimate.step_seconds]\na = ['1', 1]", "estimate.step_seconds.a[0]='1': expected a num"),
        ("estimate = 3", "estimate=3: expected a table"),
        (
            "[estimate.gpu]\nname = 'a'\nsource = 'b'\ntflops = nan",
            "estimate.gpu.tflops=nan: expect",
        ),
        ("seeds = 0", "seeds=0: expected a whole number from 1 to 1000"),
        (
            "seeds = 1_000_000_000_000",
            "seeds=1000000000000: expected a whole number from 1 to 1000",
        ),
        ("seeds = '3'", "seeds='3': expected a whole number"),
        ("smallest_effect = nan", "smallest_effect=nan: expected a number from 0 to 100"),
        ("smallest_effect = -1", "smallest_effect=-1: expected a number from 0 to 100"),
        ("verdict = 1", "verdict=1: expected true or false"),
        ("title = ['a']", "title=['a']: expected text"),
        ("ladder = 'a'", "ladder='a': expected a table {name = text}"),
        ("[ladder]\nsmall = 3", "ladder.small=3: expected text"),
        ("[architectures]\nsmall = [3]", "architectures.small=[3]: expected text"),
        ("data = 'a'", "data='a': expected a table"),
        ("other_pool = 3", "other_pool=3: expected text"),
        ("[recipe.train]\nlrr = 1", "unknown field 'train.lrr': did you mean 'train.lr'?"),
        ("[recipe.train]\nlr = nan", "train.lr=nan: expected a number above 0"),
        ("recipe.train = 3", "unknown field 'train': did you mean"),
        ("recipe = 3", "recipe=3: expected a table"),
        ("search = 3", "search=3: expected a table"),
        ("model = 3", "model=3: expected a table {name = a table}"),
    ],
)
@pytest.mark.parametrize("above", [False, True])
def test_files_that_are_refused(text, said, above, tmp_path):
    """The line names the file that is wrong, also where another one extends it."""
    (tmp_path / "mine.toml").write_text(f'extends = "smoke"\n{text}\n')
    (tmp_path / "above.toml").write_text('extends = "mine.toml"\n')
    name = str(tmp_path / ("above.toml" if above else "mine.toml"))
    message = refusal(load_profile, name)
    assert message.startswith(f"profile {tmp_path / 'mine.toml'}: {said}")


def test_part_of_a_gpu_may_come_from_the_profile_below(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "imagenet"\n[estimate.gpu]\ntflops = 9\n')
    mine, whole = load_profile(str(tmp_path / "mine.toml")), load_profile("imagenet")
    assert mine.gpu is not None and whole.gpu is not None
    assert (mine.gpu.tflops, mine.gpu.name) == (9.0, whole.gpu.name)


@pytest.mark.parametrize("name", ["", "../digits", "/etc/passwd"])
def test_a_profile_is_no_path(name):
    assert refusal(load_profile, name).startswith("unknown profile")


def test_an_estimate_is_a_rate_times_the_work():
    profile = Profile("p", "t", {}, {"small": "a"}, 1, 1.0, step_seconds={"a": (2.0, 0.5)})
    supervised = profile.supervised("small", train__epochs=4)
    assert (supervised.steps, supervised.images) == (4, 200)
    assert profile.estimate(supervised) == 4 * 2 + 200 * 0.5
    student = profile.student("small", supervised, train__epochs=4)
    assert profile.estimate(student) == 4 * 2 + 800 * 0.5
    # an image of 16 x 16 pixels has four times the area of one at which it was measured
    large = replace(profile, pixels={"a": 8}).supervised("small", train__resolution=16)
    assert replace(profile, pixels={"a": 8}).estimate(large) == 2 * large.steps + 2 * large.passes
    fast = replace(profile, speed=2.0)
    assert fast.estimate(supervised) == profile.estimate(supervised) / 2
    rates = {"a": (2.0, 0.5), "b": (3.0, 0.5)}
    unknown = Profile("p", "t", {}, {"small": "c"}, 1, 1.0, step_seconds=rates)
    assert unknown.estimate(unknown.supervised("small", train__epochs=4)) == 4 * 3 + 200 * 0.5
    assert Profile("p", "t", {}, {"small": "c"}, 1, 1.0).estimate(supervised) > 0


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
    assert profile.mixed_pool(0.5) == {}  # the glyphs of its other pool are digits, too
    assert load_profile("cifar10").mixed_pool(0.5) == {}  # nor are STL-10's classes others
    assert load_profile("glyphs").mixed_pool(0.5) == {"data__out_of_domain": 0.5}
