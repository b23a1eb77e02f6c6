"""A recipe: the full, frozen description of one training run, and its identity.

The identity covers what is computed and nothing of how (device, workers, paths): `Recipe.id` is a
readable slug and 12 hex digits of SHA-256 over the canonical JSON. A student's recipe holds its
teacher's, so the graph of runs follows from the recipes alone.

A field is one line (`ns_bench.fields.default`): its default, what it means and which values it may
take; `used` says in which runs it counts, `off` is the value of a noise that is left out.
"""

import dataclasses
import hashlib
import json
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, Self

from ns_bench import own_code, pretrained
from ns_bench.errors import UserError, unknown
from ns_bench.fields import amendments, build, declared, default, flat, replaced, table

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
"""Fields that may name code of your own (`ns_bench.own_code`), with the names that they know."""

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
class Glyphs:
    """How the images of the data set `glyphs` are drawn; idle for every other data set.

    Foreign images show none of the classes: `characters` of other kinds, `blends` (graded between
    class and foreign) or `noise`.
    """

    classes: int = default(10, "characters that are classes", "[2, 36]")
    pixels: int = default(8, "side of an image", "[8, 64]")
    difficulty: float = default(1.0, "of the variation; 0 is upright and plain", "[0, 2]")
    foreign: Literal["characters", "blends", "noise"] = default("blends", "kind of foreign images")
    fixed_test: bool = default(
        False, "whether all seeds have the same test images", used="with drawn test images"
    )


@dataclass(frozen=True)
class Part:
    """A split of a data set in files, or of another set: its `source` is a name of your own that
    --data gives a place, or its name on the hub."""

    split: str = default("", "its name there")
    images: int = default(0, "how many it has", "[0, 1e12]")
    source: str = default("", "set that it is a split of; empty is the set itself")


@dataclass(frozen=True)
class Files:
    """What is in the files of a data set of your own. A set of the catalog takes of it a pool from
    another source, and nothing else.

    Where the files are is no part of it: that differs from machine to machine. `labeled` and
    validation rows are drawn from the first split; `test` rows and the `unlabeled` pool, too, where
    they have no split of their own (an empty name is none).
    """

    image: str = default("image", "column of the images; in a folder of images, `image`")
    label: str = default("label", "column of the labels; in a folder of images, `label`")
    classes: int = default(0, "number of classes; 0 is a set of the catalog", "[0, 1000000]")
    channels: Literal[1, 3] = default(3, "3 (colour) or 1 (grey): what images are converted to")
    labeled: Part = table(Part)
    test: Part = table(Part)
    unlabeled: Part = table(Part)


@dataclass(frozen=True)
class Data:
    """Which images, and how many rows of each part.

    Labeled rows are as many of each class; or, where they are as many as the other parts leave of
    the set, all of them. An unlabeled pool of 0 is all that the other parts leave; from another
    `source`, as many. With `out_of_domain` only that share is from the source, which has to be
    `glyphs`. In an imbalanced pool the other classes lie between the most frequent and the rarest
    on an exponential; which class is which is the seed's.

    Images that are not resized once are cut square in their middle and resized when they are
    needed; or, as in the official code, a resized crop is cut from the whole photo, and without it
    the middle R / (R + 32) of its shorter side is taken for a resolution of R, both bicubic.
    """

    name: str = default("digits", "data set")
    labeled: int = default(50, "labeled images", "[1, 1e12]")
    validation: int = default(100, "validation images", "[0, 1e12]")
    test: int = default(500, "test images", "[1, 1e12]")
    unlabeled: int = default(0, "images in the pool; 0 is what there is", "[0, 1e12]")
    imbalance: float = default(1.0, "pool's largest class over its smallest", "[1, 1000000]")
    out_of_domain: float = default(0.0, "share of the pool without any of the classes", "[0, 0.99]")
    glyphs: Glyphs = table(Glyphs, used="of glyphs")
    pixels: int = default(0, "side of resized images; 0: as they are", "[0, 1024]", used="in files")
    files: Files = table(Files, used="in files")
    crop: Literal["square", "photo"] = default(
        "square", "what images of many sizes are cropped from", used="in files"
    )
    source: str = default("", "data set of another domain that the pool is from; empty: the same")


@dataclass(frozen=True)
class RowNoise:
    """The noise on one kind of rows (paper, section 3.1).

    A padded crop is the standard augmentation of small images, a resized one that of large images.
    RandAugment may have Cutout among its operations, as in the official code, on top of the square
    of `cutout`. Of stochastic depth, block i of n (from 0) has i/n, as in the official code, and of
    a ResNet i/(n - 1), as timm has it.
    """

    randaugment_n: int = default(2, "RandAugment's operations an image", "[0, 32]", off=0)
    randaugment_m: float = default(9.0, "their magnitude; 10 is the nominal maximum", "[0, 100]")
    crop_padding: int = default(0, "reflected pixels around a random crop", "[0, 512]", off=0)
    cutout: int = default(0, "side in pixels of a grey square", "[0, 1024]", off=0)
    dropout: float = default(0.2, "rate before the classifier", "[0, 0.99]", off=0.0)
    stochastic_depth: float = default(0.2, "drop rate of the last block", "[0, 0.99]", off=0.0)
    flip: bool = default(False, "whether half of the images are mirrored left to right", off=False)
    resized_crop: float = default(0.0, "least share of an image in a crop", "[0, 1]", off=0.0)
    custom: str = default("", "input noise of your own: mine.py:NAME", off="")
    randaugment_cutout: bool = default(False, "whether Cutout is one of those operations")


@dataclass(frozen=True)
class Noise:
    """Noise by kind of row: Table 6 removes it from unlabeled rows only.

    On these it may fade from all of it to none over training, or rise from none to all: in the
    share of augmented rows and in both model noises.
    """

    labeled: RowNoise = table(RowNoise, used="with labeled rows")
    unlabeled: RowNoise = table(RowNoise, used="with unlabeled rows")
    unlabeled_schedule: Literal["constant", "fading", "rising"] = default(
        "constant", "of the noise on unlabeled rows", used="with unlabeled rows"
    )


@dataclass(frozen=True)
class PseudoLabels:
    """How a teacher's stored logits become targets (paper, section 3.2 and Algorithm 1).

    Rows are used whose `confidence`, the top probability, is above `threshold` and not above
    `ceiling`: the teacher's, as in the official code, or that of the labels after the temperature.
    Of these, at random, no more than `limit` (a smaller choice is part of a larger one); then
    classes are balanced, the surest first, to the size of the pool, or of the limit, over the
    number of classes. A noised teacher labels with the noise that it was trained with (Table 6,
    last row). Views are of the clean image and of weakly augmented copies (data distillation,
    Radosavovic et al. 2018, arXiv 1712.04440).
    """

    kind: Literal["soft", "hard"] = default("soft", "probabilities, or the most likely class")
    temperature: float = default(1.0, "of the softmax over the teacher's logits", "[0.001, 1000]")
    threshold: float = default(0.3, "top probability that a row must exceed", "[0, 1)")
    ceiling: float = default(1.0, "top probability that a row must not exceed", "(0, 1]")
    limit: int = default(0, "most rows that are used; 0 is all", "[0, 1e12]")
    balance: bool = default(True, "whether each predicted class has the same number of rows")
    per_class: int = default(0, "that number; 0 is an equal share", "[0, 1e12]")
    noised_teacher: bool = default(False, "whether the teacher has noise when it labels")
    views: int = default(1, "predictions that a label is the mean of", "[1, 1000]")
    confidence: Literal["teacher", "labels"] = default(
        "teacher",
        "at a temperature of 1, or at that of the labels",
        before="labels",
        used="at another temperature",
    )


@dataclass(frozen=True)
class Distillation:
    """Knowledge distillation on labeled rows (Hinton et al. 2015, arXiv 1503.02531, section 2).

    The cross entropy with the teacher's distribution takes the place of a share of that with the
    labels; its gradient is scaled by the square of the temperature, as there.
    """

    weight: float = default(0.0, "that share; 0 learns from labels alone", "[0, 1]")
    temperature: float = default(
        1.0, "of both distributions", "[0.001, 1000]", used="with distillation"
    )


@dataclass(frozen=True)
class Consistency:
    """Unlabeled rows without a teacher before: labels are made in each step, of another view.

    The noised view is that of a noisy student (`noise.unlabeled`); the loss is the mean cross
    entropy of the labeled rows and `weight` times the mean loss of the unlabeled ones.
    `ns_bench.selftrain.methods` has each method and its source.
    """

    method: str = default("none", "how labels are made, or your own: mine.py:NAME")
    weight: float = default(1.0, "of unlabeled rows, in the end", "[0, 1000000]")
    ramp: float = default(0.0, "share of the steps in which it rises", "[0, 1]")
    threshold: float = default(
        0.0, "confidence below which is no loss", "[0, 1)", used="where confident"
    )
    temperature: float = default(1.0, "that sharpens labels", "[0.001, 1000]", used="sharpened")


@dataclass(frozen=True)
class Train:
    """Optimisation. Epochs, also fractional ones, are passes over the labeled rows.

    A student's batches hold labeled and unlabeled rows (`joint`, Algorithm 1), or one kind alone,
    as in the two stages of pretraining and fine-tuning (appendix study #6). Its loss is the `sum`
    of both means (Algorithm 1), the `mean` over the whole batch (section 3.1), or `ratio`: labeled
    + ratio x unlabeled (official code). A teacher may have another resolution than its student: its
    logits are of the same pool. Frozen stages keep weights and batch statistics; the first is the
    stem (section 4.1: shallow layers, in fixing the train-test resolution discrepancy).
    """

    epochs: int | float = default(300, "passes over the labeled rows", "[1, 1e9]")
    batch_size: int = default(50, "labeled rows", "[2, 1e9] (batch statistics need two rows)")
    rows: Literal["joint", "labeled", "unlabeled"] = default(
        "joint", "of a batch", used="with a teacher"
    )
    start: Literal["scratch", "teacher"] = default(
        "scratch", "first weights", used="with a teacher"
    )
    ratio: int = default(3, "unlabeled for a labeled row", "[1, 1000]", used="with unlabeled rows")
    criterion: str = default("cross-entropy", "loss of a row with a target; or mine.py:NAME")
    loss: Literal["sum", "mean", "ratio"] = default(
        "mean", "of both kinds", used="with a teacher of both kinds"
    )
    optimizer: Literal["sgd", "rmsprop", "adamw", "lion"] = default(
        "rmsprop", "that makes the steps"
    )
    lr: float = default(0.01, "learning rate after the warm-up", "(0, 1000]")
    momentum: float = default(0.9, "of the optimizer; AdamW's and Lion's beta1", "[0, 1)")
    weight_decay: float = default(1e-5, "of weights, not of norms", "[0, 10]")
    label_smoothing: float = default(0.1, "share of a label that is spread evenly", "[0, 0.99]")
    warmup_epochs: float = default(5.0, "epochs in which the rate rises from 0", "[0, 1e9]")
    schedule: Literal["cosine", "staircase"] = default("staircase", "to 0, or down by steps")
    decay_rate: float = default(0.97, "factor of the rate at a step down", "[0.000001, 1]")
    decay_epochs: float = default(2.4, "epochs from step to step", "[0.000001, 1e9]")
    ema: float = default(0.9999, "decay of the averaged weights, which are what is used", "[0, 1)")
    resolution: int = default(0, "side of resized images; 0: as the data has them", "[0, 1024]")
    frozen: int = default(0, "stages, from the input on, that stay as they are", "[0, 1000]")
    decay_biases: bool = default(False, "whether biases decay, too, as in the official code")
    beta2: float = default(
        0.999, "AdamW's and Lion's; Lion's paper has 0.99", "[0, 1)", used="with two betas"
    )
    clip_grad: float = default(0.0, "norm to which gradients are cut; 0: not", "[0, 1000000]")

    def __post_init__(self) -> None:
        if isinstance(self.epochs, float) and self.epochs.is_integer():
            vars(self)["epochs"] = int(self.epochs)  # as before there were fractions of an epoch


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


NO_NOISE: dict[str, Any] = {
    name: field.off for name, field in declared(RowNoise).items() if field.off is not None
}
"""{noise of `RowNoise`: its value where there is none}."""


def without_noise(*rows: str, noises: Iterable[str] = tuple(NO_NOISE)) -> dict[str, Any]:
    """Return the dotted fields of `labeled` or `unlabeled` rows, or both, without these noises."""
    return {f"noise.{kind}.{name}": NO_NOISE[name] for kind in rows for name in noises}


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
