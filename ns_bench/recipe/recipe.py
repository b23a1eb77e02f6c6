"""A recipe: the full, frozen description of one training run, and its identity.

The identity covers what is computed and nothing of how (device, workers, paths): `Recipe.id` is a
readable slug and 12 hex digits of SHA-256 over the canonical JSON. A student's recipe holds its
teacher's, so the graph of runs follows from the recipes alone.
"""

import dataclasses
import hashlib
import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Self

from ns_bench.errors import UserError, unknown
from ns_bench.fields import amendments, build, declared, default, flat, replaced, table
from ns_bench.recipe import own_code, pretrained
from ns_bench.recipe.tables import (
    Consistency,
    Data,
    Distillation,
    Noise,
    PseudoLabels,
    Train,
    without_noise,
)

SCHEMA = 1
"""Version of the recipe format; part of every id."""

EVALUATIONS = 10
"""How often a run looks at its validation rows while it trains."""

NO_FILES = ("digits", "glyphs")
"""Data sets that come with installed packages; every other one is in files."""

_ALL = ("threshold", "temperature")

METHODS: dict[str, tuple[str, ...]] = {
    "none": (),
    "pi-model": (),
    "mean-teacher": (),
    "uda": _ALL,
    "fixmatch": ("threshold",),
    "co-training": ("threshold",),
}
"""Methods of `consistency`, with those of its fields that not all of them use; a method of your own
may use all."""

CODE: dict[str, tuple[str, ...]] = {
    "model": (),  # of which timm knows the names
    "consistency.method": tuple(METHODS),
    "train.criterion": ("cross-entropy",),
    "noise.labeled.custom": ("",),
    "noise.unlabeled.custom": ("",),
}
"""Fields that may name code of your own (`own_code`), with the names that they know."""

USES: dict[str, Callable[["Recipe"], bool]] = {
    "with a teacher": lambda run: run.teacher is not None,
    "with labeled rows": lambda run: run.batch[0] > 0,
    "with unlabeled rows": lambda run: run.batch[1] > 0,
    "with pseudo-labels": lambda run: run.teacher is not None and run.batch[1] > 0,
    "with a teacher of labeled rows": lambda run: run.teacher is not None and run.batch[0] > 0,
    "with a teacher of both kinds": lambda run: run.teacher is not None and all(run.batch),
    "at another temperature": lambda run: run.pseudo.temperature != 1,
    "with distillation": lambda run: run.distillation.weight > 0,
    "of glyphs": lambda run: "glyphs" in (run.data.name, run.data.source),
    "with drawn test images": lambda run: run.data.name == "glyphs",
    "in files": lambda run: run.data.name not in NO_FILES,
    "with a method": lambda run: run.teacher is None and run.consistency.method != "none",
    "where confident": lambda run: "threshold" in METHODS.get(run.consistency.method, _ALL),
    "from scratch": lambda run: run.train.start == "scratch",
    "with two betas": lambda run: run.train.optimizer in ("adamw", "lion"),
    "sharpened": lambda run: "temperature" in METHODS.get(run.consistency.method, _ALL),
}
"""What a field can be `used` for. Unused, it must not split one run into several identities."""


@dataclass(frozen=True)
class Recipe:
    """One training run. Without a teacher it is supervised, or labels unlabeled rows itself
    (`consistency`); with one it is its noisy student.

    Raises:
        UserError: a field has a value outside its range; the line names field and range.
    """

    data: Data = table(Data)
    model: str = default("micro-b0", "network")
    noise: Noise = table(Noise)
    pseudo: PseudoLabels = table(PseudoLabels, used="with pseudo-labels")
    train: Train = table(Train)
    distillation: Distillation = table(Distillation, used="with a teacher of labeled rows")
    consistency: Consistency = table(Consistency, used="with a method")
    seed: int = default(0, "of all that is drawn, its teachers' too", "[0, 2147483647]")
    pretrained: str | bool = default(
        "", "first weights: true (timm's, from the hub) or a file", used="from scratch"
    )
    teacher: "Recipe | None" = None

    def __post_init__(self) -> None:
        # 27 where the field is 27.0 must be the same recipe, however it was made
        vars(self).update(amendments(self))
        named = {name: own_code.reference(self.field(name)) for name in CODE}
        named["pretrained"] = pretrained.reference(self.pretrained, self.model)
        vars(self).update(replaced(self, {n: v for n, v in named.items() if self.field(n) != v}))
        _check(self)
        values = {name: HISTORICAL_DEFAULTS[name] for name in idle_fields(self)}
        vars(self).update(replaced(self, {n: v for n, v in values.items() if self.field(n) != v}))
        _check_teachers_data(self)

    @property
    def generation(self) -> int:
        """0 for a run without a teacher, 1 for its student, and so on."""
        return 0 if self.teacher is None else self.teacher.generation + 1

    @property
    def generations(self) -> tuple["Recipe", ...]:
        """The chain that ends in this run: the first teacher, its student, and so on."""
        return (*(() if self.teacher is None else self.teacher.generations), self)

    @property
    def code(self) -> set[str]:
        """References to code of one's own, its teachers' too."""
        values = {run.field(name) for run in self.generations for name in CODE}
        return {value for value in values if own_code.is_reference(value)}

    def field(self, name: str) -> Any:
        """Return the value of a dotted field, e.g. `train.lr`; its teacher's are not its own."""
        return _GETTERS[name](self)

    @property
    def steps(self) -> int:
        """Gradient steps: epochs over the labeled rows, rounded down to whole batches."""
        return int(self.train.epochs * self.data.labeled // self.train.batch_size)

    @property
    def batch(self) -> tuple[int, int]:
        """Labeled and unlabeled rows of a batch."""
        labeled, kind = self.train.batch_size, self.train.rows
        unlabeled = labeled * self.train.ratio
        if self.teacher is None:
            return labeled, 0 if self.consistency.method == "none" else unlabeled
        return 0 if kind == "unlabeled" else labeled, 0 if kind == "labeled" else unlabeled

    @property
    def images(self) -> int:
        """Images through the network in training, labeled and unlabeled."""
        return self.steps * sum(self.batch)

    @property
    def passes(self) -> int:
        """Images that a network works through in training: other views of unlabeled rows, too, and
        all of them twice where two networks learn together."""
        labeled, unlabeled = self.batch
        method = self.consistency.method
        views, networks = 1 if method == "none" else 2, 2 if method == "co-training" else 1
        return self.steps * networks * (labeled + views * unlabeled)

    @cached_property
    def id(self) -> str:
        """Slug and 12 hex digits; the same on any machine and for any way of running it."""
        of = "" if self.teacher is None else f"-of-{self.teacher.model}"
        method = self.consistency.method
        alone = "sup" if method == "none" else method
        role = alone if self.teacher is None else f"gen{self.generation}"
        slug = f"{self.data.name}-{self.model}-{role}{of}"
        slug = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in slug)
        digits = hashlib.sha256(self.canonical().encode()).hexdigest()[:12]
        return f"{slug[:150]}-s{self.seed}-{digits}"  # file systems take 255 bytes

    def canonical(self) -> str:
        """Return the JSON that the id hashes: fields at their historical default are omitted."""
        return json.dumps({"schema": SCHEMA, **_identity(self)}, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain JSON values, the teacher's included."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a recipe from `to_dict`'s output. Unknown fields and wrong types: UserError."""
        recipe: Self = build(cls, values)
        return recipe

    @staticmethod
    def of(fields: Mapping[str, Any], teacher: "Recipe | None" = None) -> "Recipe":
        """Build a recipe from dotted fields, e.g. `{"train.lr": "0.1"}`, and else the defaults.

        Text is read as the field's type.

        Raises:
            UserError: unknown field (names the nearest), or a value of the wrong type or range.
        """
        start, values = _plain(), {**_NEW_DEFAULTS, **read_fields(fields)}
        return dataclasses.replace(start, **replaced(start, values), teacher=teacher)

    def set(self, fields: Mapping[str, Any]) -> Self:
        """Return a copy with dotted fields replaced; see `of`. The teacher keeps its own values.

        A field that this run does not use and the copy does is at its default, as in `of`.
        """
        idle = {n: _NEW_DEFAULTS[n] for n in idle_fields(self) if n in _NEW_DEFAULTS}
        return dataclasses.replace(self, **replaced(self, {**idle, **read_fields(fields)}))

    def at_seed(self, seed: int) -> "Recipe":
        """Return the same recipe at another seed, its teachers' too."""
        seed = declared(Recipe)["seed"].read(seed)
        if seed not in self._at_seeds:
            teacher = None if self.teacher is None else self.teacher.at_seed(seed)
            moved = object.__new__(Recipe)  # the rest has been checked, and plans make thousands
            vars(moved).update(vars(self), explicit=self.explicit, seed=seed, teacher=teacher)
            for name in ("id", "_at_seeds"):
                vars(moved).pop(name, None)
            self._at_seeds[seed] = moved
        return self._at_seeds[seed]

    @cached_property
    def _at_seeds(self) -> "dict[int, Recipe]":
        return {}  # plan, table and report ask for the same

    @cached_property
    def explicit(self) -> dict[str, Any]:
        """The fields that are not at their historical default, and so make up the id, as seed and
        teacher do."""
        defaults = HISTORICAL_DEFAULTS.items()
        return {name: value for name, old in defaults if (value := self.field(name)) != old}

    def at_higher_resolution(
        self, resolution: int, epochs: float = 1.5, frozen: int = 4
    ) -> "Recipe":
        """Return what fixes the train-test resolution discrepancy of this run (paper, section 4.1).

        Its weights go on for 1.5 epochs on labeled images alone, which are larger and not
        augmented; the first stages stay as they are, as in FixRes (Touvron et al., arXiv
        1906.06423). How many, and at which learning rate, the paper does not say: here it is the
        rate that the run ended with, or a hundredth of a cosine's highest.
        """
        train = self.train
        falls = int(train.epochs / train.decay_epochs)
        share = train.decay_rate**falls if train.schedule == "staircase" else 0.01
        fields = {
            "train.rows": "labeled",
            "train.start": "teacher",
            "train.resolution": resolution,
            "train.frozen": frozen,
            "train.epochs": epochs,
            "train.lr": share * train.lr,
            "train.warmup_epochs": 0.0,
            "train.schedule": "staircase",
            "train.decay_rate": 1.0,
            **without_noise("labeled"),
        }
        return dataclasses.replace(self, teacher=self).set(fields)


@cache
def _plain() -> Recipe:
    return Recipe()


_FIELDS = {name: field for name, field in declared(Recipe).items() if name != "seed"}

HISTORICAL_DEFAULTS: dict[str, Any] = {name: field.before for name, field in _FIELDS.items()}
"""What each field meant before it existed. A dataclass default may change, this may not: no id
moves by a changed default (say `before=`) or by a new field at its old meaning."""

_NEW_DEFAULTS = {name: f.default for name, f in _FIELDS.items() if f.default != f.before}

_GETTERS = {name: operator.attrgetter(name) for name in declared(Recipe)}


def dotted(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested tables of recipe fields as {dotted field: value}."""
    return flat(tables, leaf=lambda name, _: name in HISTORICAL_DEFAULTS)


def idle_fields(recipe: Recipe) -> list[str]:
    """Return the fields that this run does not use; they are at their historical defaults."""
    unused = {use for use, holds in USES.items() if not holds(recipe)}
    return [n for uses, names in _by_use().items() if unused.intersection(uses) for n in names]


@cache
def _by_use() -> dict[tuple[str, ...], list[str]]:
    fields: dict[tuple[str, ...], list[str]] = {}
    for name, field in _FIELDS.items():
        fields.setdefault(field.used, []).append(name)
    return fields


def _identity(recipe: Recipe) -> dict[str, Any]:
    identity = {**recipe.explicit, "seed": recipe.seed}
    return (
        identity if recipe.teacher is None else {**identity, "teacher": _identity(recipe.teacher)}
    )


def read_fields(fields: Mapping[str, Any], *, text: bool = True) -> dict[str, Any]:
    """Return dotted fields as they were declared, read from `text` where that is allowed.

    Raises:
        UserError: unknown field (names the nearest), or a value of the wrong type or range.
    """
    values = {}
    for name, value in fields.items():
        if name.split(".")[0] in ("teacher", "seed"):
            raise UserError(f"'{name}' is not set by hand: studies and --seeds give it")
        if name not in _FIELDS:
            raise unknown("field", name, _FIELDS)
        values[name] = _FIELDS[name].read(value, text=text)
    return values


def _check(recipe: Recipe) -> None:
    """Raise UserError where fields do not go together, or name what is not known."""
    for name, known in CODE.items():
        value = recipe.field(name)
        if known and value not in known and not own_code.is_reference(value):
            listed = ", ".join(filter(None, known))
            words = f"one of {listed}, or" if listed else "code of your own,"
            raise UserError(f"{name}={value}: expected {words} PATH/mine.py:NAME")
    batch, labeled = recipe.train.batch_size, recipe.data.labeled
    if batch > labeled:
        raise UserError(
            f"train.batch_size={batch} is larger than the labeled set (data.labeled={labeled})"
        )
    if recipe.teacher is None:
        return
    if recipe.pseudo.ceiling <= recipe.pseudo.threshold:
        raise UserError(
            f"pseudo.ceiling={recipe.pseudo.ceiling:g}: expected more than "
            f"pseudo.threshold={recipe.pseudo.threshold:g}"
        )
    if recipe.train.start == "teacher" and recipe.model != recipe.teacher.model:
        raise UserError(
            f"train.start=teacher: model {recipe.model} cannot take the weights of its teacher's "
            f"{recipe.teacher.model}"
        )
    if recipe.train.start == "teacher" and recipe.teacher.consistency.method == "co-training":
        raise UserError(
            "train.start=teacher: its teacher is a pair of networks (consistency.method="
            "co-training), of which one network cannot take the weights"
        )
    alone = recipe.train.start == "scratch" and recipe.train.rows == "labeled"
    if alone and not recipe.distillation.weight:
        raise UserError(
            "train.rows=labeled: expected train.start=teacher or a distillation.weight with it, "
            "since a student from scratch on labels alone learns nothing from its teacher"
        )
    if recipe.pseudo.noised_teacher and recipe.pseudo.views > 1:
        raise UserError(
            "pseudo.views: expected 1 with pseudo.noised_teacher, whose labels are of one noised "
            "image each"
        )
    if recipe.teacher.seed != recipe.seed:
        raise UserError(
            f"seed={recipe.seed}: its teacher has seed {recipe.teacher.seed}; "
            "a seed is end to end, so both must be the same"
        )


def _check_teachers_data(recipe: Recipe) -> None:
    """Refuse other data than the teacher's, of which idle fields are no part."""
    if recipe.teacher is not None and recipe.data != recipe.teacher.data:
        # its logits would be those of another pool
        differ = [n for n in declared(Recipe) if recipe.field(n) != recipe.teacher.field(n)]
        name = next(name for name in differ if name.startswith("data."))
        ours, theirs = recipe.field(name), recipe.teacher.field(name)
        raise UserError(f"{name}={ours}: its teacher has {theirs}; both must have the same data")
