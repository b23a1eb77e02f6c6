"""A recipe's identity is a promise about every store that exists: it may never move by accident."""

import ast
import hashlib
import json
import operator
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import present
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipes import FILES, GLYPHS, HISTORY, IDLE, ONLINE, OTHER, STUDENT, SUPERVISED, full, leaves

from ns_bench import recipe as recipe_room
from ns_bench.errors import UserError
from ns_bench.recipe import (
    HISTORICAL_DEFAULTS,
    Consistency,
    Data,
    Noise,
    PseudoLabels,
    Recipe,
    RowNoise,
    Train,
)

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""

VIT_DATA = {"data.labeled": 100, "data.validation": 0, "data.test": 400}
VIT = full(
    {
        **VIT_DATA,
        "model": "hf-hub:timm/vit_tiny.in1k",
        "noise.labeled.randaugment_n": 0,
        "noise.labeled.randaugment_m": 27.0,
        "noise.unlabeled.dropout": 0.0,
        "pseudo.kind": "hard",
        "pseudo.temperature": 2.0,
        "pseudo.threshold": 0.0,
        "pseudo.balance": False,
        "train.epochs": 40,
        "train.lr": 0.05,
        "train.schedule": "cosine",
        "train.loss": "sum",
        "train.ratio": 7,
    },
    teacher=full({**VIT_DATA, "model": "micro-b2"}, seed=12),
    seed=12,
)
GOLDEN: dict[str, dict[str, Any]] = {
    "digits-micro-b0-sup-s0-dd925919223f": full(),
    "digits-micro-b0-gen1-of-micro-b0-s0-feebff3f0267": full(teacher=full()),
    "digits-micro-b4-gen2-of-micro-b0-s0-bc8d3be20893": full(
        {"model": "micro-b4"}, teacher=full(teacher=full())
    ),
    "digits-hf-hub_timm_vit_tiny.in1k-gen1-of-micro-b2-s12-8eb9cdd51b20": VIT,
}
"""Ids as they are on people's disks. Never edit one: that orphans every run it names."""


def future(monkeypatch: pytest.MonkeyPatch, edit: Callable[[ast.Module], None]) -> Any:
    """Return tables.py and recipe.py, in one module, as a later version of them would be: with an
    edit of their syntax tree."""
    room = Path(recipe_room.__file__).parent
    tree, rest = (ast.parse((room / name).read_text()) for name in ("tables.py", "recipe.py"))
    its_own = "ns_bench.recipe.tables"
    tree.body += [
        n for n in rest.body if not (isinstance(n, ast.ImportFrom) and n.module == its_own)
    ]
    edit(tree)
    source = ast.unparse(ast.fix_missing_locations(tree))
    module = types.ModuleType("recipe_of_the_future")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, "recipe_of_the_future.py", "exec"), module.__dict__)
    return module


def class_of(tree: ast.Module, name: str) -> ast.ClassDef:
    """Return the class in which a dotted field is declared."""
    part, _, _ = name.rpartition(".")
    cls = type(operator.attrgetter(part)(STUDENT) if part else STUDENT).__name__
    return next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == cls)


def line_of(body: list[ast.stmt], name: str) -> int:
    """Return which statement of a class declares a field."""
    leaf = name.rpartition(".")[2]
    declares = (isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == leaf for n in body)
    return list(declares).index(True)


# --- the id ---------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", GOLDEN)
def test_golden_ids(expected):
    assert Recipe.from_dict(GOLDEN[expected]).id == expected


def test_an_id_is_the_sha256_of_the_canonical_json():
    text = '{"schema": 1, "seed": 3, "teacher": {"model": "micro-b2", "seed": 3}, "train.lr": 0.1}'
    values = full({"train.lr": 0.1}, teacher=full({"model": "micro-b2"}, seed=3), seed=3)
    recipe = Recipe.from_dict(values)
    assert recipe.canonical() == text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert recipe.id == f"digits-micro-b0-gen1-of-micro-b2-s3-{digest}"


def test_historical_defaults_are_what_they_were():
    """Without `before=` beside it, a changed default shows here."""
    assert HISTORICAL_DEFAULTS == HISTORY
    assert [type(v) for v in HISTORICAL_DEFAULTS.values()] == [
        type(HISTORY[name]) for name in HISTORICAL_DEFAULTS
    ]
    fields = leaves(Recipe().to_dict())
    assert fields.pop("seed") == 0
    assert fields.keys() == HISTORICAL_DEFAULTS.keys()
    assert Recipe.from_dict(full()) == Recipe()


def test_ids_do_not_depend_on_the_process():
    code = (
        "import json, sys\n"
        "from ns_bench.recipe import Recipe\n"
        "print(*(Recipe.from_dict(v).id for v in json.load(sys.stdin)), sep='\\n')"
    )
    for hash_seed in ("1", "4242"):
        printed = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            input=json.dumps(list(GOLDEN.values())),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert printed == list(GOLDEN)


def test_the_order_of_fields_does_not_matter():
    def backwards(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: backwards(value[name]) for name in reversed(value)}

    assert list(backwards(VIT)) != list(VIT)
    assert Recipe.from_dict(backwards(VIT)).id == Recipe.from_dict(VIT).id


def test_every_field_has_another_value_in_these_tests():
    every = {**OTHER, **GLYPHS, **FILES, **ONLINE}
    every |= {"consistency.method": "uda", "distillation.temperature": 4.0}
    every |= {"pseudo.confidence": "teacher", "train.beta2": 0.99}
    assert every.keys() == HISTORICAL_DEFAULTS.keys()
    assert not [name for name, value in every.items() if value == HISTORICAL_DEFAULTS[name]]


@pytest.mark.parametrize("name", GLYPHS)
def test_fields_of_glyphs_count_for_glyphs_alone(name):
    change = {name: GLYPHS[name]}
    assert Recipe.from_dict(full(change)).id == SUPERVISED.id
    drawn = Recipe.from_dict(full({"data.name": "glyphs"}))
    assert Recipe.from_dict(full({"data.name": "glyphs", **change})).id != drawn.id


def test_a_fixed_test_set_counts_where_test_images_are_drawn():
    """Not where glyphs are the pool of another set, which has test images of its own."""
    for fields, counts in (({"data.name": "glyphs"}, True), ({"data.source": "glyphs"}, False)):
        recipe = SUPERVISED.set(fields)
        assert (recipe.set({"data.glyphs.fixed_test": True}).id != recipe.id) == counts


@pytest.mark.parametrize("name", ONLINE)
def test_fields_of_consistency_count_for_the_methods_that_use_them(name):
    change = {name: ONLINE[name]}
    for recipe in (SUPERVISED, STUDENT):
        assert recipe.set(change).id == recipe.id
    for method in ("pi-model", "mean-teacher", "uda", "fixmatch", "co-training"):
        recipe = SUPERVISED.set({"consistency.method": method})
        thresholds = method in ("uda", "fixmatch", "co-training")
        used = {"threshold": thresholds, "temperature": method == "uda"}.get(name[12:], True)
        assert (recipe.set(change).id != recipe.id) == used


def test_a_run_that_labels_itself_has_unlabeled_rows_and_no_other_teaching():
    recipe = SUPERVISED.set({"consistency.method": "fixmatch"})
    assert recipe.id.startswith("digits-micro-b0-fixmatch-s0-")
    assert recipe.batch == (50, 150) and SUPERVISED.batch == (50, 0)
    assert recipe.set({"noise.unlabeled.dropout": 0.5}).id != recipe.id
    assert recipe.set({"pseudo.kind": "hard", "distillation.weight": 0.5}).id == recipe.id
    assert (recipe.images, recipe.passes) == (recipe.steps * 200, recipe.steps * 350)
    pair = SUPERVISED.set({"consistency.method": "co-training"})
    assert pair.passes == 2 * recipe.passes
    assert STUDENT.passes == STUDENT.images and SUPERVISED.passes == SUPERVISED.images
    taught = Recipe(teacher=recipe)  # a student of it has its teacher's labels
    assert taught.set({"consistency.method": "uda"}).id == taught.id != STUDENT.id


def test_distillation_is_a_students_and_its_temperature_counts_with_it():
    assert STUDENT.set({"distillation.temperature": 4.0}).id == STUDENT.id
    distilled = STUDENT.set({"distillation.weight": 0.5})
    assert distilled.set({"distillation.temperature": 4.0}).id != distilled.id
    alone = distilled.set({"train.rows": "labeled"})  # without it: refused
    assert alone.batch == (50, 0)
    with pytest.raises(UserError, match=r"distillation\.weight"):
        STUDENT.set({"train.rows": "labeled"})


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw", "lion"])
def test_a_second_beta_counts_for_optimizers_that_have_one(optimizer):
    recipe = SUPERVISED.set({"train.optimizer": optimizer})
    moved = recipe.set({"train.beta2": 0.99}).id != recipe.id
    assert moved == (optimizer in ("adamw", "lion"))


def test_a_pair_of_networks_starts_no_student():
    pair = Recipe(consistency=Consistency("co-training"))
    with pytest.raises(UserError, match="pair of networks"):
        Recipe(teacher=pair).set({"train.start": "teacher"})


@pytest.mark.parametrize("name", FILES)
def test_fields_of_files_count_for_sets_in_files_alone(name):
    change = {name: FILES[name]}
    assert Recipe.from_dict(full(change)).id == SUPERVISED.id
    assert (
        Recipe.from_dict(full({**change, "data.name": "glyphs"})).set({"data.name": "digits"}).id
        == SUPERVISED.id
    )
    mine = Recipe.from_dict(full({"data.name": "mine"}))
    assert Recipe.from_dict(full({"data.name": "mine", **change})).id != mine.id


def ids(*changes: dict[str, Any]) -> set[str]:
    """Return the ids of students of one teacher with these fields."""
    return {Recipe.from_dict(full(change, teacher=full())).id for change in changes}


def test_a_student_on_one_kind_of_rows_has_no_fields_of_the_other():
    """What a run does not use must not train it twice."""
    tuned = {"train.rows": "labeled", "train.start": "teacher"}
    unused = {"pseudo.kind": "hard", "noise.unlabeled.dropout": 0.5, "train.ratio": 7}
    assert len(ids(tuned, {**tuned, **unused, "noise.unlabeled_schedule": "rising"})) == 1
    assert len(ids(tuned, {**tuned, "noise.labeled.dropout": 0.5})) == 2
    alone = {"train.rows": "unlabeled"}
    assert len(ids(alone, {**alone, "noise.labeled.dropout": 0.5, "train.loss": "sum"})) == 1
    assert len(ids(alone, {**alone, "train.ratio": 7})) == 2


def test_images_count_the_rows_that_a_batch_has():
    teacher = Recipe()
    student = Recipe(teacher=teacher)
    unlabeled = student.set({"train.rows": "unlabeled"})
    labeled = student.set({"train.rows": "labeled", "train.start": "teacher"})
    batches = [recipe.batch for recipe in (teacher, student, unlabeled, labeled)]
    assert batches == [(50, 0), (50, 150), (0, 150), (50, 0)]
    assert [r.images for r in (student, unlabeled, labeled)] == [60_000, 45_000, 15_000]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "micro-b4", "train.start": "teacher"}, "train.start=teacher: model micro-b4"),
        ({"train.rows": "labeled"}, "train.rows=labeled: expected train.start=teacher"),
        ({"pseudo.ceiling": 0.3}, "pseudo.ceiling=0.3: expected more than pseudo.threshold=0.3"),
    ],
)
def test_combinations_that_are_refused(changes, message):
    with pytest.raises(UserError) as caught:
        Recipe.from_dict(full(changes, teacher=full()))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", OTHER)
def test_every_field_of_a_student_is_in_its_id(name):
    change = {name: OTHER[name]}
    # Teacher and student have one data set.
    above = change if name.startswith("data.") else {}
    changed = Recipe.from_dict(full(change, teacher=full(above)))
    assert changed.id.rpartition("-")[2] != STUDENT.id.rpartition("-")[2]
    assert changed != STUDENT


@pytest.mark.parametrize("name", sorted(OTHER.keys() - IDLE))
def test_every_field_of_a_teacher_is_in_its_students_id(name):
    change = {name: OTHER[name]}
    below = change if name.startswith("data.") else {}
    changed = Recipe.from_dict(full(below, teacher=full(change)))
    same_teacher = Recipe.from_dict(full(below, teacher=full(below)))
    assert changed.id.rpartition("-")[2] != STUDENT.id.rpartition("-")[2]
    assert present(changed.teacher).id != present(STUDENT.teacher).id
    assert name.startswith("data.") or changed.id != same_teacher.id


@pytest.mark.parametrize("name", OTHER)
def test_a_supervised_id_has_what_supervised_runs_use(name):
    changed = SUPERVISED.set({name: OTHER[name]})
    assert (changed.id == SUPERVISED.id) == (name in IDLE)
    assert (changed == SUPERVISED) == (name in IDLE)


@pytest.mark.parametrize("name", sorted(IDLE))
def test_unused_fields_of_a_teacher_do_not_split_its_students(name):
    changed = Recipe.from_dict(full(teacher=full({name: OTHER[name]})))
    assert changed.id == STUDENT.id


def test_a_supervised_recipe_of_a_students_parts_leaves_the_student_alone():
    together = IDLE - {"pseudo.views"}  # refused with a noised teacher
    student = STUDENT.set({name: OTHER[name] for name in together})
    before = student.to_dict()
    names = ("data", "noise", "pseudo", "train", "distillation")
    parts = {name: getattr(student, name) for name in names}
    assert Recipe(**parts) == SUPERVISED
    assert student.to_dict() == before
    assert Recipe(**parts, teacher=SUPERVISED).to_dict() == before


def test_the_generation_is_in_the_id():
    grandchild = Recipe.from_dict(full(teacher=full(teacher=full())))
    chain = [SUPERVISED, STUDENT, grandchild]
    assert [recipe.generation for recipe in chain] == [0, 1, 2]
    assert len({recipe.id for recipe in chain}) == 3
    assert [present(re.search(r"-(sup|gen\d)-", r.id))[1] for r in chain] == ["sup", "gen1", "gen2"]


def test_the_seed_is_in_the_id():
    assert len({SUPERVISED.at_seed(seed).id for seed in range(20)}) == 20


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Train(lr=1), Train(lr=1.0)),
        (Train(warmup_epochs=7), Train(warmup_epochs=7.0)),
        (Train(momentum=-0.0), Train(momentum=0.0)),
    ],
)
def test_equal_recipes_have_one_id(one, other):
    """A study may write 27 where the field is 27.0; the run on disk must be the same."""
    one, other = Recipe(train=one), Recipe(train=other)
    assert one == other
    assert one.id == other.id
    assert one.id == Recipe.from_dict(one.to_dict()).id


def test_a_whole_number_as_magnitude_is_the_same_run():
    noise = Noise(RowNoise(randaugment_m=27), RowNoise(randaugment_m=27))
    values = full(
        {"noise.labeled.randaugment_m": 27.0, "noise.unlabeled.randaugment_m": 27.0},
        teacher=full(),
    )
    assert Recipe(noise=noise, teacher=Recipe()).id == Recipe.from_dict(values).id


# --- names of folders -----------------------------------------------------------------------

ODD_MODELS = [
    "hf-hub:org/name",
    "../../up",
    "..",
    "a b\tc\n",
    "a\\b",
    "a\0b",
    'q"<>|*?',
    "$(rm)`;&",
    "-rf",
    "~",
    "CON",
    "Grüße-模型-٣",
]


@pytest.mark.parametrize("model", ODD_MODELS)
def test_ids_are_safe_as_file_names(model, tmp_path):
    teacher = Recipe(model=model)
    for recipe in (teacher, Recipe(model=model, teacher=teacher)):
        assert re.fullmatch(r"[\w.-]+-[0-9a-f]{12}", recipe.id)
        assert not recipe.id.startswith(("-", "."))
        place = tmp_path / recipe.id
        place.mkdir()
        assert place.resolve().parent == tmp_path.resolve()
        assert [p.name for p in tmp_path.iterdir()] == [recipe.id]
        place.rmdir()


@pytest.mark.parametrize("model", ["m" * 300, "模" * 90], ids=["letters", "bytes"])
def test_ids_of_long_names_are_file_names_too(model, tmp_path):
    recipe = Recipe(model=model, teacher=Recipe(model=model))
    (tmp_path / recipe.id).mkdir()
    assert recipe.id.endswith(hashlib.sha256(recipe.canonical().encode()).hexdigest()[:12])


def test_names_that_are_made_safe_in_one_way_stay_apart():
    assert len({Recipe(model=m).id for m in ("a/b", "a:b", "a_b", "a b")}) == 4


def test_a_slug_names_the_teacher_once():
    recipe = Recipe(model="a-gen1-b", teacher=Recipe(model="micro-b2"))
    assert recipe.id.startswith("digits-a-gen1-b-gen1-of-micro-b2-s0-")


# --- later versions of recipe.py ------------------------------------------------------------


PLACES = {  # of a new field: the field it is put in front of
    "data.extra": "labeled",
    "noise.labeled.extra": "randaugment_n",
    "pseudo.extra": "kind",
    "train.extra": "epochs",
    "extra": "model",
}


def with_new_field(monkeypatch: pytest.MonkeyPatch, name: str, declaration: str) -> Any:
    """Return recipe.py with a field that meant 1.5 before it existed."""

    def add(tree: ast.Module) -> None:
        body = class_of(tree, name).body
        body.insert(line_of(body, PLACES[name]), *ast.parse(f"extra: float = {declaration}").body)

    return future(monkeypatch, add)


@pytest.mark.parametrize("name", PLACES)
def test_a_new_field_at_its_old_meaning_changes_no_id(monkeypatch, name):
    later = with_new_field(monkeypatch, name, 'default(1.5, "new", "[0, 9]")')
    for expected, values in GOLDEN.items():
        assert later.Recipe.from_dict(values).id == expected  # a recipe.json from before
    for teacher in (None, full()):
        recipe = later.Recipe.from_dict(full(teacher=teacher))
        unused = teacher is None and name == "pseudo.extra"
        assert recipe.set({name: "1.5"}).id == recipe.id
        if teacher is None or name != "data.extra":  # a student has its teacher's data
            assert (recipe.set({name: "2.5"}).id == recipe.id) == unused
    both = later.Recipe.from_dict(full({name: 2.5}, teacher=full({name: 2.5})))
    assert both.id != STUDENT.id


@pytest.mark.parametrize("name", PLACES)
def test_a_new_field_with_another_default_changes_no_old_id(monkeypatch, name):
    """The new default is a new recipe; the old meaning, spelled out, is the old one."""
    later = with_new_field(monkeypatch, name, 'default(2.5, "new", "[0, 9]", before=1.5)')
    old = dict.fromkeys(later.HISTORICAL_DEFAULTS.keys() - HISTORY.keys(), 1.5)
    student = later.Recipe.from_dict(full(old, teacher=full(old)))
    assert student.teacher.id == SUPERVISED.id
    assert student.id == STUDENT.id
    assert later.Recipe(teacher=later.Recipe()).id != STUDENT.id


def with_changed_default(monkeypatch: pytest.MonkeyPatch, name: str, before: bool = True) -> Any:
    """Return recipe.py with another default of a field, and what it was `before` beside it."""

    def change(tree: ast.Module) -> None:
        body = class_of(tree, name).body
        line = body[line_of(body, name)]
        assert isinstance(line, ast.AnnAssign) and isinstance(line.value, ast.Call)
        call = line.value
        if before:
            call.keywords.append(ast.keyword("before", call.args[0]))
        call.args[0] = ast.Constant(OTHER[name])

    later = future(monkeypatch, change)
    assert leaves(later.Recipe(teacher=later.Recipe()).to_dict())[name] == OTHER[name]
    return later


def ids_after_changing_default(monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[str, str]:
    """Return the ids of the supervised recipe and its student with every field spelled out."""
    later = with_changed_default(monkeypatch, name)
    assert later.HISTORICAL_DEFAULTS == HISTORY
    student = later.Recipe.from_dict(full(teacher=full()))
    return student.teacher.id, student.id


@pytest.mark.parametrize("name", ["train.lr", "noise.labeled.dropout", "pseudo.kind"])
def test_a_changed_default_without_its_old_meaning_is_noticed(monkeypatch, name):
    later = with_changed_default(monkeypatch, name, before=False)
    assert later.HISTORICAL_DEFAULTS[name] == OTHER[name] != HISTORY[name]


@pytest.mark.slow
def test_changing_a_default_does_not_change_the_id_of_an_equal_supervised_recipe(monkeypatch):
    now = {name: ids_after_changing_default(monkeypatch, name)[0] for name in OTHER}
    assert now == dict.fromkeys(OTHER, SUPERVISED.id)


@pytest.mark.slow
def test_changing_a_default_does_not_change_the_id_of_an_equal_student(monkeypatch):
    now = {name: ids_after_changing_default(monkeypatch, name)[1] for name in OTHER}
    assert now == dict.fromkeys(OTHER, STUDENT.id)


# --- JSON -----------------------------------------------------------------------------------

rates = st.floats(0, 0.99)
row_noises = st.builds(
    RowNoise,
    randaugment_n=st.integers(0, 32),
    randaugment_m=st.floats(0, 100),
    crop_padding=st.integers(0, 512),
    cutout=st.integers(0, 1024),
    dropout=rates,
    stochastic_depth=rates,
)
pseudo_labels = st.builds(
    PseudoLabels,
    kind=st.sampled_from(["soft", "hard"]),
    temperature=st.floats(0.001, 1000),
    threshold=rates,
    balance=st.booleans(),
    per_class=st.integers(0, 10**9),
)
datas = st.builds(
    Data,
    name=st.text(max_size=8),
    labeled=st.integers(50, 10**9),
    validation=st.integers(0, 10**9),
    test=st.integers(1, 10**9),
)
trains = st.builds(
    Train,
    epochs=st.integers(1, 10**6),
    batch_size=st.integers(2, 50),
    ratio=st.integers(1, 1000),
    loss=st.sampled_from(["sum", "mean", "ratio"]),
    optimizer=st.sampled_from(["sgd", "rmsprop"]),
    lr=st.floats(1e-6, 100),
    momentum=rates,
    weight_decay=st.floats(0, 10),
    label_smoothing=rates,
    warmup_epochs=st.floats(0, 1e6),
    schedule=st.sampled_from(["cosine", "staircase"]),
    decay_rate=st.floats(1e-6, 1),
    decay_epochs=st.floats(1e-6, 1e6),
    ema=rates,
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Valid recipes of up to three generations; a chain has one data set and one seed."""
    data, seed = draw(datas), draw(st.integers(0, 2**31 - 1))
    recipe = None
    for _ in range(draw(st.integers(1, 3))):
        recipe = Recipe(
            data=data,
            model=draw(st.text(max_size=8)),
            noise=draw(st.builds(Noise, row_noises, row_noises)),
            pseudo=draw(pseudo_labels),
            train=draw(trains),
            seed=seed,
            teacher=recipe,
        )
    assert recipe is not None
    return recipe


@pytest.mark.slow
@patient
@given(recipes())
def test_json_and_back(recipe):
    back = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert back == recipe
    assert back.id == recipe.id
    assert back.generation == recipe.generation


@pytest.mark.slow
@patient
@given(recipes(), recipes())
def test_ids_are_equal_when_recipes_are(one, other):
    assert (one.id == other.id) == (one == other)


@pytest.mark.slow
@patient
@given(recipes(), st.integers(0, 2**31 - 1))
def test_at_seed_goes_through_the_chain(recipe, seed):
    here = recipe.id  # also once the ids have been looked at
    assert (recipe.at_seed(seed).id == here) == (recipe.seed == seed)
    assert recipe.at_seed(seed).id == Recipe.from_dict(recipe.at_seed(seed).to_dict()).id
    moved: Recipe | None = recipe.at_seed(seed)
    link: Recipe | None = recipe
    while moved is not None and link is not None:
        assert moved.seed == seed
        assert leaves(moved.to_dict()) == {**leaves(link.to_dict()), "seed": seed}
        moved, link = moved.teacher, link.teacher
    assert moved is link is None
    assert recipe.at_seed(seed).at_seed(recipe.seed) == recipe
    assert recipe.id == here


@patient
@given(recipes())
def test_steps_and_images_follow_from_the_fields(recipe):
    train, data = recipe.train, recipe.data
    assert train.batch_size * recipe.steps <= train.epochs * data.labeled
    assert train.batch_size * (recipe.steps + 1) > train.epochs * data.labeled
    rows = train.batch_size * (1 if recipe.teacher is None else 1 + train.ratio)
    assert recipe.images == recipe.steps * rows
    assert recipe.steps >= 1


def test_to_dict_has_the_teachers_fields():
    values = Recipe.from_dict(VIT).to_dict()
    assert values == VIT
    assert values["teacher"]["teacher"] is None


def test_idle_fields_of_the_data_do_not_part_a_student_from_its_teacher():
    """A profile says how large glyphs are, for the one study in which the pool is of glyphs."""
    idle = {"data.glyphs.pixels": 14}
    student = Recipe.of(idle, Recipe.of(idle))
    assert student == Recipe.of({}, Recipe.of({}))
    with pytest.raises(UserError, match="both must have the same data"):
        Recipe.of({**idle, "data.name": "glyphs"}, Recipe.of({"data.name": "glyphs"}))
