"""Values of fields: how text is read, and what is refused in one line."""

import dataclasses
import math
import re
from typing import Any, get_args

import pytest
from builders import present
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipes import OTHER, STUDENT, SUPERVISED, full, leaves

from ns_bench.errors import UserError
from ns_bench.fields import (
    Field,
    build,
    declared,
    default,
    in_words,
    interval,
    needed,
    replaced,
    table,
)
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
        ("train.epochs", "0.5", "train.epochs=0.5: expected a number from 1 to 1e9"),
        ("train.epochs", "many", "train.epochs=many: expected a number"),
        ("train.epochs", True, "train.epochs=True: expected a number"),
        ("train.epochs", "nan", "train.epochs=nan: expected a number"),
        ("train.epochs", None, "train.epochs=None: expected a number"),
        ("train.lr", "fast", "train.lr=fast: expected a number"),
        ("train.lr", "1\n2", "train.lr='1\\n2': expected a number"),
        ("train.lr", True, "train.lr=True: expected a number"),
        ("train.lr", "nan", "train.lr=nan: expected a number"),
        ("train.lr", float("nan"), "train.lr=nan: expected a number"),
        ("train.lr", [0.1], "train.lr=[0.1]: expected a number"),
        ("train.lr", "inf", "train.lr=inf: expected a number above 0, at most 1000"),
        ("train.lr", "0", "train.lr=0: expected a number above 0, at most 1000"),
        ("train.momentum", "-inf", "train.momentum=-inf: expected a number from 0 to below 1"),
        ("train.momentum", "1", "train.momentum=1: expected a number from 0 to below 1"),
        (
            "train.batch_size",
            "1",
            "train.batch_size=1: expected a whole number from 2 to 1e9 (batch stat",
        ),
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
    "train.clip_grad": (-0.1, 1e7),
    "resized_crop": (-0.1, 1.1),
}


@pytest.mark.parametrize(
    "name", [n for n, v in OTHER.items() if isinstance(v, int | float) and type(v) is not bool]
)
def test_every_number_has_a_range(name):
    key = name.rpartition(".")[2] if name.startswith("noise.") else name
    for value in OUTSIDE[key]:
        message = refused(STUDENT, name, value)
        expected = r"expected a (whole )?number (from|above) "
        assert re.match(rf"{re.escape(name)}={value}: {expected}", message), message


def test_a_seed_is_a_whole_number():
    seven: Any = 7.0
    assert STUDENT.at_seed(seven).to_dict() == STUDENT.at_seed(7).to_dict()
    assert type(STUDENT.at_seed(seven).seed) is int
    with pytest.raises(
        UserError, match=r"^seed=1\.5: expected a whole number from 0 to 2147483647$"
    ):
        STUDENT.at_seed(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_the_seed_has_a_range(seed):
    with pytest.raises(
        UserError, match=f"^seed={seed}: expected a whole number from 0 to 2147483647$"
    ):
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


def test_what_is_read_as_it_is_stays_what_it_is():
    recipe = Recipe.of({"train.lr": 0.5, "noise.labeled.dropout": 0.0})
    copy = dataclasses.replace(recipe)
    for part in ("data", "noise", "pseudo", "train", "distillation", "consistency"):
        assert getattr(copy, part) is getattr(recipe, part)
    assert str(Recipe.of({"noise.labeled.dropout": -0.0}).noise.labeled.dropout) == "0.0"


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"train": Train(optimizer="adam")}, "train.optimizer"),  # type: ignore[arg-type]
        ({"train": Train(schedule="linear")}, "train.schedule"),  # type: ignore[arg-type]
        ({"pseudo": PseudoLabels(kind="Hard"), "teacher": SUPERVISED}, "pseudo.kind"),  # type: ignore[arg-type]
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
    mine = {"data.name": "mine", "data.files.test.images": 60}
    with pytest.raises(UserError, match=r"^data\.files\.test\.images=60: its teacher has 0;"):
        Recipe.from_dict(full(mine, teacher=full({"data.name": "mine"})))


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
        ({"teacher": {"train": {"lr": "x"}}}, "teacher.train.lr='x': expected a number"),
        ({"train": 5}, "train=5: expected a table of fields"),
        ({"noise": None}, "noise=None: expected a table of fields"),
        ({"seed": "zero"}, "seed='zero': expected a whole number"),
        ({"train": {"epochs": 0}}, "train.epochs=0: expected a number from 1 to 1e9"),
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
        ({"train": {"lr": "0.1"}}, "train.lr='0.1': expected a number"),
        ({"teacher": {"train": {"lr": -1}}}, "teacher.train.lr=-1: expected a number above 0"),
        ({"pseudo": {"balance": 1}}, "pseudo.balance=1: expected true or false"),
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


# --- every field, from its declaration ------------------------------------------------------

FIELDS = declared(Recipe)
NUMBERS = (int, float, int | float)
patient = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_every_field_is_declared():
    assert FIELDS.keys() == {*HISTORICAL_DEFAULTS, "seed"}
    for name, field in FIELDS.items():
        assert field.name == name and field.meaning and field.expected
        assert (field.type in NUMBERS) == (field.within is not None)
        assert field.read(field.default) == field.default


def test_the_reference_of_a_field():
    field = FIELDS["train.ratio"]
    assert (field.type, field.default, field.before) == (int, 3, 3)
    assert field.expected == "a whole number from 1 to 1000"
    assert field.used == ("with unlabeled rows",)
    assert FIELDS["distillation.temperature"].used[1:] == ("with distillation",)


def bad_values(field: Field) -> st.SearchStrategy[Any]:
    """Values that JSON or TOML can hold and a field may not: of another type, out of range, NaN."""
    wrong: list[st.SearchStrategy[Any]] = [
        st.none(),
        st.lists(st.integers(), max_size=2),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    ]
    if field.type not in (bool, str | bool):
        wrong.append(st.booleans())
    if field.type in (str, str | bool):
        return st.one_of(*wrong, st.integers(), st.floats())
    if field.type is bool:
        return st.one_of(*wrong, st.integers(2), st.floats(), st.just("maybe"))
    if field.type not in NUMBERS:
        words = get_args(field.type)
        others = st.integers() | st.text(max_size=9) | st.sampled_from([f"{w} " for w in words])
        return st.one_of(*wrong, others.filter(lambda value: value not in words))
    within = present(field.within)
    low, high = within.low, within.high
    wrong += [
        st.floats(max_value=low, exclude_max=True),
        st.floats(min_value=high, exclude_min=True),
        st.integers(max_value=math.ceil(low) - 1),
        st.integers(min_value=math.floor(high) + 1),
        st.just(math.nan),
        st.sampled_from(["nan", "many", "1,5", "\n", ""]),
    ]
    if field.type is int:
        wrong.append(st.integers(math.ceil(low), 10**6).map(lambda whole: whole + 0.5))
    return st.one_of(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
@patient
@given(st.data())
def test_a_bad_value_of_any_field_is_one_line(name, data):
    """However it comes: from JSON, by --set, or in a dataclass made in Python."""
    field = FIELDS[name]
    value = data.draw(bad_values(field))
    whole = STUDENT.to_dict()
    *path, leaf = name.split(".")
    place = whole
    for part in path:
        place = place[part]
    place[leaf] = value
    ways = [
        lambda: Recipe.from_dict(whole),
        lambda: dataclasses.replace(STUDENT, **replaced(STUDENT, {name: value})),
    ]
    if name != "seed":
        ways.append(lambda: STUDENT.set({name: value}))
    for way in ways:
        with pytest.raises(UserError) as caught:
            way()
        message = str(caught.value)
        assert message.startswith(f"{name}=") and message.endswith(f"expected {field.expected}")
        assert message.isprintable() and len(message) < 200


# --- dataclasses of fields ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Inner:
    rates: list[float] = default([], "rates", "[0, 1]")


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = needed("name")
    pair: tuple[int, float] = default((1, 2.0), "pair", "[0, 9]")
    words: dict[str, str] = default({}, "words")
    options: dict[str, str | int | bool] = default({}, "options")
    several: tuple[Inner, ...] = ()
    number: int | float | None = default(None, "as it is written")
    one: Inner | None = None
    inner: Inner = table(Inner)


def test_a_dataclass_is_built_from_a_table():
    values = {
        "name": "x",
        "pair": [3, 4],
        "words": {"a": "b"},
        "options": {"c": 1, "d": True},
        "several": [{"rates": [0, 1]}],
        "number": 1.0,
        "one": {},
        "inner": {"rates": [0.5]},
    }
    inner = Inner([0.0, 1.0])
    built = build(Outer, values)
    assert built == Outer(
        "x", (3, 4.0), {"a": "b"}, {"c": 1, "d": True}, (inner,), 1.0, Inner(), Inner([0.5])
    )
    assert type(built.pair[1]) is float and type(built.number) is float
    assert type(build(Outer, {"name": "x", "number": 1}).number) is int
    assert build(Outer, {}, name="given") == Outer("given")
    assert Outer("x").words is not Outer("x").words


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "there is no name"),
        ({"name": ""}, "there is no name"),
        ({"nam": "x"}, "unknown field 'nam': did you mean 'name'?"),
        ({"pair": 3}, "pair=3: expected a list [a whole number from 0 to 9, a number from 0 to 9]"),
        ({"pair": [3]}, "pair=[3]: expected a list [a whole number"),
        ({"pair": [3, 10]}, "pair[1]=10: expected a number from 0 to 9"),
        ({"pair": [3, "4"]}, "pair[1]='4': expected a number from 0 to 9"),
        ({"pair": "34"}, "pair='34': expected a list ["),
        ({"words": {"a": 1}}, "words.a=1: expected text"),
        ({"words": [1]}, "words=[1]: expected a table {name = text}"),
        ({"options": {"a": 1.5}}, "options.a=1.5: expected text or a whole number or true or f"),
        ({"several": [{"rate": 1}]}, "unknown field 'several[0].rate': did you mean"),
        ({"several": [{"rates": [2]}]}, "several[0].rates[0]=2: expected a number from 0 to 1"),
        ({"number": True}, "number=True: expected a number"),
        ({"number": math.nan}, "number=nan: expected a number"),
        ({"number": math.inf}, "number=inf: expected a number"),
        ({"one": 3}, "one=3: expected a table of fields"),
        ({"inner": []}, "inner=[]: expected a table of fields"),
        ({"inner": {"rates": {}}}, "inner.rates={}: expected a list [a number from 0 to 1, ...]"),
        ([], "=[]: expected a table of fields"),
    ],
)
def test_tables_that_are_refused(values, message):
    complete = {"name": "x", **values} if values and isinstance(values, dict) else values
    with pytest.raises(UserError) as caught:
        build(Outer, complete)
    assert str(caught.value).startswith(message) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "words", "inside", "outside"),
    [
        ("[0, 1]", "from 0 to 1", (0, 0.5, 1), (-1e-9, 1 + 1e-9, math.nan)),
        ("[0, 1)", "from 0 to below 1", (0, 1 - 1e-9), (1, -0.1, math.inf)),
        ("(0, 1]", "above 0, at most 1", (1e-300, 1), (0, 1.1)),
        ("(0, 1)", "above 0, below 1", (0.5,), (0, 1)),
        ("[2, 1e9] of them", "from 2 to 1e9 of them", (2, 10**9), (1, 10**9 + 1)),
    ],
)
def test_an_interval_in_words(text, words, inside, outside):
    limits = interval(text)
    assert in_words(float, limits) == f"a number {words}"
    assert all(number in limits for number in inside)
    assert not any(number in limits for number in outside)
