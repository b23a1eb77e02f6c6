"""Values of fields: how text is read, and what is refused in one line."""

import re
from typing import Any

import pytest
from recipes import OTHER, STUDENT, SUPERVISED, full, leaves

from ns_bench.errors import UserError
from ns_bench.recipe import (
    HISTORICAL_DEFAULTS,
    Data,
    Noise,
    PseudoLabels,
    Recipe,
    RowNoise,
    Train,
)


def refused(recipe: Recipe, name: str, value: Any) -> str:
    """Return the message with which `set` refuses a value: one line."""
    with pytest.raises(UserError) as caught:
        recipe.set({name: value})
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("train.epochs", "7", 7),
        ("train.epochs", 7.0, 7),
        ("train.epochs", "1.5", 1.5),
        ("train.lr", "1e-1", 0.1),
        ("train.lr", "1", 1.0),
        ("train.lr", 1, 1.0),
        ("noise.unlabeled.randaugment_m", "27", 27.0),
        ("pseudo.kind", "hard", "hard"),
        ("pseudo.balance", "false", False),
        ("pseudo.balance", "No", False),
        ("pseudo.balance", "0", False),
        ("pseudo.balance", False, False),
        ("model", "resnet18", "resnet18"),
        ("data.name", "007", "007"),
    ],
)
def test_text_is_read_as_the_fields_type(name, text, value):
    above = {name: value} if name.startswith("data.") else {}
    student = Recipe.from_dict(full(above, teacher=full(above))).set({name: text})
    read = leaves(student.to_dict())
    assert read[name] == value
    assert type(read[name]) is type(value)
    assert read == {**HISTORICAL_DEFAULTS, "seed": 0, name: value}


@pytest.mark.parametrize("text", ["true", "True", "YES", "1"])
def test_true_in_its_spellings(text):
    assert STUDENT.set({"pseudo.balance": False}).set({"pseudo.balance": text}) == STUDENT


def test_set_leaves_the_teacher_and_the_original_alone():
    before = STUDENT.to_dict()
    changed = STUDENT.set({"train.lr": "0.1", "model": "micro-b4"})
    assert (changed.train.lr, changed.model) == (0.1, "micro-b4")
    assert changed.teacher == SUPERVISED
    assert STUDENT.to_dict() == before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.lrr", "1", "unknown field 'train.lrr': did you mean 'train.lr'?"),
        ("train.epoch", "1", "unknown field 'train.epoch': did you mean 'train.epochs'?"),
        ("pseudo.treshold", "1", "unknown field 'pseudo.treshold': did you mean"),
        ("train", "1", "unknown field 'train': did you mean 'train."),
        ("noise.labeled", "1", "unknown field 'noise.labeled': did you mean 'noise.labeled."),
        ("xyzzy", "1", "unknown field 'xyzzy': valid: consistency.method, "),
        ("train.ratio", "2.5", "train.ratio=2.5: expected a whole number"),
        ("train.ratio", 2.5, "train.ratio=2.5: expected a whole number"),
        ("train.epochs", "0.5", "train.epochs=0.5: expected a value at least 1"),
        ("train.epochs", "many", "train.epochs=many: expected a number"),
        ("train.epochs", True, "train.epochs=True: expected a number"),
        ("train.epochs", "nan", "train.epochs=nan: expected a number"),
        ("train.epochs", None, "train.epochs=None: expected a number"),
        ("train.lr", "fast", "train.lr=fast: expected a number"),
        ("train.lr", True, "train.lr=True: expected a number"),
        ("train.lr", "nan", "train.lr=nan: expected a number"),
        ("train.lr", float("nan"), "train.lr=nan: expected a number"),
        ("train.lr", [0.1], "train.lr=[0.1]: expected a number"),
        ("train.lr", "inf", "train.lr=inf: expected a value above 0"),
        ("train.lr", "0", "train.lr=0.0: expected a value above 0"),
        ("train.momentum", "-inf", "train.momentum=-inf: expected a value from 0 to below 1"),
        ("train.momentum", "1", "train.momentum=1.0: expected a value from 0 to below 1"),
        ("train.batch_size", "1", "train.batch_size=1: expected a value at least 2 (batch stat"),
        (
            "train.batch_size",
            "51",
            "train.batch_size=51 is larger than the labeled set (data.labeled=50)",
        ),
        ("train.loss", "max", "train.loss=max: expected one of sum, mean, ratio"),
        ("pseudo.kind", "Soft", "pseudo.kind=Soft: expected one of soft, hard"),
        ("pseudo.balance", "maybe", "pseudo.balance=maybe: expected true or false"),
        ("seed", "1", "'seed' is not set by hand: studies and --seeds give it"),
        ("teacher", None, "'teacher' is not set by hand"),
        ("teacher.model", "micro-b4", "'teacher.model' is not set by hand"),
    ],
)
def test_messages(name, value, message):
    assert refused(STUDENT, name, value).startswith(message)


OUTSIDE: dict[str, tuple[Any, ...]] = {
    "data.labeled": (0, -50),
    "data.validation": (-1,),
    "data.test": (0, -1),
    "data.unlabeled": (-1,),
    "data.imbalance": (0.5, 1e7),
    "data.out_of_domain": (-0.1, 1.0),
    "randaugment_n": (-1, 33),
    "randaugment_m": (-0.1, 101),
    "crop_padding": (-1, 513),
    "cutout": (-1, 1025),
    "dropout": (-0.1, 1.0),
    "stochastic_depth": (-0.1, 1.0),
    "pseudo.temperature": (0, -1, 1e4),
    "pseudo.threshold": (-0.1, 1.0),
    "pseudo.ceiling": (0, -0.1, 1.1),
    "pseudo.limit": (-1,),
    "pseudo.per_class": (-1,),
    "pseudo.views": (0, 1001),
    "distillation.weight": (-0.1, 1.1),
    "train.epochs": (0, -1),
    "train.batch_size": (0, 1),
    "train.ratio": (0, 1001),
    "train.lr": (0, -0.1),
    "train.momentum": (-0.1, 1.0),
    "train.weight_decay": (-1e-9, 11),
    "train.label_smoothing": (-0.1, 1.0),
    "train.warmup_epochs": (-1,),
    "train.decay_rate": (0, 1.1),
    "train.decay_epochs": (0, -1),
    "train.ema": (-0.1, 1.0),
    "train.resolution": (-1, 1025),
    "train.frozen": (-1, 1001),
    "resized_crop": (-0.1, 1.1),
}


@pytest.mark.parametrize(
    "name", [n for n, v in OTHER.items() if isinstance(v, int | float) and type(v) is not bool]
)
def test_every_number_has_a_range(name):
    key = name.rpartition(".")[2] if name.startswith("noise.") else name
    for value in OUTSIDE[key]:
        message = refused(STUDENT, name, value)
        assert re.match(rf"{re.escape(name)}={value}(\.0)?: expected a value ", message), message


def test_a_seed_is_a_whole_number():
    assert STUDENT.at_seed(7.0).to_dict() == STUDENT.at_seed(7).to_dict()
    assert type(STUDENT.at_seed(7.0).seed) is int
    with pytest.raises(UserError, match=r"^seed=1\.5: expected a whole number$"):
        STUDENT.at_seed(1.5)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_the_seed_has_a_range(seed):
    with pytest.raises(UserError, match=f"^seed={seed}: expected a value from 0 to 2147483647$"):
        STUDENT.at_seed(seed)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Recipe(train=Train(lr=float("nan"))),
        lambda: Recipe(train=Train(lr=0.0)),
        lambda: Recipe(data=Data(labeled=40)),
        lambda: Recipe(noise=Noise(RowNoise(), RowNoise(dropout=1.0))),
    ],
)
def test_a_recipe_is_checked_however_it_is_made(make):
    with pytest.raises(UserError):
        make()


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"train": Train(optimizer="adam")}, "train.optimizer"),
        ({"train": Train(schedule="linear")}, "train.schedule"),
        ({"pseudo": PseudoLabels(kind="Hard"), "teacher": SUPERVISED}, "pseudo.kind"),
    ],
)
def test_a_word_that_is_no_choice_is_refused_however_a_recipe_is_made(part, name):
    """It would train as the last choice: `optimizer="adam"` as SGD."""
    with pytest.raises(UserError, match=f"^{name}=.*: expected one of "):
        Recipe(**part)


def test_a_teacher_of_another_seed_is_refused():
    with pytest.raises(UserError, match=r"^seed=1: its teacher has seed 0; .* both must be"):
        Recipe(seed=1, teacher=SUPERVISED)
    with pytest.raises(UserError, match=r"^seed=0: its teacher has seed 3"):
        Recipe.from_dict(full(teacher=full(seed=3)))


def test_a_teacher_of_other_data_is_refused():
    """Its logits are those of another pool: 50 + 100 and 100 + 50 rows leave pools of one size."""
    teacher = full({"data.labeled": 50, "data.validation": 100})
    with pytest.raises(UserError, match=r"^data\.labeled=100: its teacher has 50"):
        Recipe.from_dict(full({"data.labeled": 100, "data.validation": 50}, teacher=teacher))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": "micro-b0"}, "unknown field 'modle': did you mean 'model'?"),
        ({"train": {"lrr": 1}}, "unknown field 'train.lrr': did you mean 'train.lr'?"),
        (
            {"noise": {"labeled": {"dropuot": 1}}},
            "unknown field 'noise.labeled.dropuot': did you mean 'noise.labeled.dropout'?",
        ),
        ({"teacher": {"modle": "x"}}, "unknown field 'teacher.modle': did you mean"),
        ({"teacher": {"train": {"lr": "x"}}}, "teacher.train.lr=x: expected a number"),
        ({"train": 5}, "train=5: expected a table of fields"),
        ({"noise": None}, "noise=None: expected a table of fields"),
        ({"seed": "zero"}, "seed=zero: expected a whole number"),
        ({"train": {"epochs": 0}}, "train.epochs=0: expected a value at least 1"),
    ],
)
def test_messages_of_from_dict(values, message):
    with pytest.raises(UserError) as caught:
        Recipe.from_dict(values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teacher": 5}, "teacher=5: expected a table of fields"),
        ({"teacher": "micro-b4"}, "teacher='micro-b4': expected a table of fields"),
        ({"model": 5}, "model=5: expected text"),
        ({"data": {"name": ["digits"]}}, "data.name=['digits']: expected text"),
        ({"train": {"lr": {}}}, "train.lr={}: expected a number"),
        ({"model": None}, "model=None: expected text"),
    ],
)
def test_wrong_types_from_json(values, message):
    with pytest.raises(UserError) as caught:
        Recipe.from_dict(values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("value", [float("inf"), 10**400], ids=["inf", "huge"])
@pytest.mark.parametrize("name", ["train.epochs", "train.lr"])
def test_numbers_beyond_all_bounds_are_refused(name, value):
    """TOML and JSON can hold both."""
    assert refused(STUDENT, name, value).startswith(f"{name}=")


def test_a_seed_is_checked_although_an_equal_one_was_asked_for_before():
    recipe = Recipe()
    first = recipe.at_seed(1)
    assert recipe.at_seed(1) is first  # plan, table and report share its id
    with pytest.raises(UserError, match="seed"):
        recipe.at_seed(True)
    assert recipe.at_seed(2).id != first.id
    assert first.at_seed(0).id == recipe.id
