"""A recipe: the full, frozen description of one training run, and its identity.

The identity covers what is computed and nothing of how (device, workers, paths): `Recipe.id` is a
readable slug and 12 hex digits of SHA-256 over the canonical JSON. A student's recipe holds its
teacher's, so the graph of runs follows from the recipes alone.
"""

import copy
import dataclasses
import functools
import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ns_bench.errors import UserError, unknown
from ns_bench.fields import build, check_range, convert, typed, types_of

SCHEMA = 1
"""Version of the recipe format; part of every id."""

NO_FILES = ("digits", "glyphs")
"""Data sets that come with installed packages; every other one is in files."""


@dataclass(frozen=True)
class Glyphs:
    """How the images of the data set `glyphs` are drawn; idle for every other data set.

    Attributes:
        classes: characters that are classes.
        pixels: side of an image.
        difficulty: strength of the variation; 0 is upright and plain.
        foreign: kind of the images that show none of the classes: `characters` of other
            kinds, `blends` (graded between class and foreign), `noise`.
    """

    classes: int = 10
    pixels: int = 8
    difficulty: float = 1.0
    foreign: Literal["characters", "blends", "noise"] = "blends"


@dataclass(frozen=True)
class Part:
    """A split of a data set in files, by its name there, and how many images it has.

    Attributes:
        source: another set that it is a split of, by a name of one's own that --data gives a place,
            or by its name on the hub; "" is the set itself.
    """

    split: str = ""
    images: int = 0
    source: str = ""


@dataclass(frozen=True)
class Files:
    """What is in the files of a data set of one's own. A set of the catalog takes of it a pool
    from another source, and nothing else.

    Where the files are is no part of it: that differs from machine to machine.

    Attributes:
        image, label: names of the columns. A folder of images has `image` and `label`.
        classes: number of classes; 0 is a set of the catalog.
        channels: 3 (colour) or 1 (grey), to which every image is converted.
        labeled: labeled and validation rows are drawn from it; test rows and the unlabeled pool,
            too, where they have no split of their own.
        test, unlabeled: splits of their own; an empty name is none.
    """

    image: str = "image"
    label: str = "label"
    classes: int = 0
    channels: int = 3
    labeled: Part = field(default_factory=Part)
    test: Part = field(default_factory=Part)
    unlabeled: Part = field(default_factory=Part)


@dataclass(frozen=True)
class Data:
    """Which images, and how many rows of each part.

    Attributes:
        labeled: the same number of each class; or, where it is as many as the other parts leave of
            the set, all of them.
        unlabeled: images in the pool; 0 is all that the other parts leave of the set.
        imbalance: of the pool: its most frequent class has this many times the images of its
            rarest, the others in between on an exponential; which class is which is the seed's.
        out_of_domain: share of the pool that shows none of the classes.
        pixels: side to which the images of a set in files are resized; 0 is as they are.
        source: data set of another domain that the pool is from; empty is the same set. Of it
            `unlabeled` images are taken, with 0 as many as the pool would have else.
    """

    name: str = "digits"
    labeled: int = 50
    validation: int = 100
    test: int = 500
    unlabeled: int = 0
    imbalance: float = 1.0
    out_of_domain: float = 0.0
    glyphs: Glyphs = field(default_factory=Glyphs)
    pixels: int = 0
    files: Files = field(default_factory=Files)
    source: str = ""


@dataclass(frozen=True)
class RowNoise:
    """The noise on one kind of rows (paper, section 3.1).

    Attributes:
        randaugment_n: operations an image (N); 0 turns RandAugment off.
        randaugment_m: magnitude (M); 10 is the nominal maximum, 27 is 2.7 times that.
        crop_padding: pixels of reflect padding before a random crop (the standard augmentation).
        flip: whether every second image, at random, is mirrored left to right.
        cutout: side in pixels of a grey square; 0 turns it off.
        resized_crop: smallest share of an image that a random crop has, which is resized to the
            whole (the standard augmentation of large images); 0 turns it off.
        randaugment_cutout: whether Cutout is one of RandAugment's operations, as in the official
            code, on top of the square of `cutout`.
        dropout: rate before the classifier.
        stochastic_depth: drop rate at full depth; block i of n (from 0) has i/n of it, as in the
            official code, and of a ResNet i/(n - 1), as timm has it.
    """

    randaugment_n: int = 2
    randaugment_m: float = 9.0
    crop_padding: int = 0
    cutout: int = 0
    dropout: float = 0.2
    stochastic_depth: float = 0.2
    flip: bool = False
    resized_crop: float = 0.0
    randaugment_cutout: bool = False


@dataclass(frozen=True)
class Noise:
    """Noise by kind of row: Table 6 removes it from unlabeled rows only.

    Attributes:
        unlabeled_schedule: of their noise over training: `fading` from all of it to none,
            `rising` from none to all, in the share of augmented rows and in both model noises.
    """

    labeled: RowNoise = field(default_factory=RowNoise)
    unlabeled: RowNoise = field(default_factory=RowNoise)
    unlabeled_schedule: Literal["constant", "fading", "rising"] = "constant"


@dataclass(frozen=True)
class PseudoLabels:
    """How a teacher's stored logits become targets (paper, section 3.2 and Algorithm 1).

    Attributes:
        kind: `soft` probabilities or the `hard` most likely class.
        temperature: of the softmax over the teacher's logits.
        threshold: rows whose top probability is not above it are left out.
        ceiling: rows whose top probability is above it are left out.
        limit: no more than this many of the rows that are left, chosen at random; 0 takes all.
            A smaller choice is part of a larger one.
        balance: keep the same number of rows in each predicted class.
        per_class: that number; 0 is the size of the pool (or `limit`, if less) over the number of
            classes.
        noised_teacher: label with the noise that the teacher was trained with, instead of clean
            images and the whole network (Table 6, last row).
        views: predictions of the teacher that a label is the mean of: of the clean image, and of
            this many less one weakly augmented copies (data distillation, Radosavovic et al. 2018,
            arXiv 1712.04440).
    """

    kind: Literal["soft", "hard"] = "soft"
    temperature: float = 1.0
    threshold: float = 0.3
    ceiling: float = 1.0
    limit: int = 0
    balance: bool = True
    per_class: int = 0
    noised_teacher: bool = False
    views: int = 1


@dataclass(frozen=True)
class Distillation:
    """Knowledge distillation on labeled rows (Hinton et al. 2015, arXiv 1503.02531, section 2).

    Attributes:
        weight: of the cross entropy with the teacher's distribution, which takes the place of this
            share of the cross entropy with the labels; 0 is a student that learns from labels.
        temperature: of both distributions; the gradient is scaled by its square, as there.
    """

    weight: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True)
class Consistency:
    """Unlabeled rows without a teacher before: labels are made in each step, of another view.

    The noised view is that of a noisy student (`noise.unlabeled`); the loss is the mean cross
    entropy of the labeled rows and `weight` times the mean loss of the unlabeled ones. See
    `ns_bench.selftrain.consistency` for each method and its source.

    Attributes:
        weight: of the unlabeled rows' loss, after the ramp.
        ramp: share of the steps over which the weight rises to that, by a Gaussian.
        threshold: unlabeled rows that are labeled with less confidence have no loss.
        temperature: that sharpens UDA's labels.
    """

    method: Literal["none", "pi-model", "mean-teacher", "uda", "fixmatch", "co-training"] = "none"
    weight: float = 1.0
    ramp: float = 0.0
    threshold: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True)
class Train:
    """Optimisation. Epochs, also fractional ones, are passes over the labeled rows.

    Attributes:
        rows: a student's batches hold labeled and unlabeled rows (`joint`, Algorithm 1), or one
            kind alone, as in the two stages of pretraining and fine-tuning (appendix study #6).
        start: a student's first weights are new (`scratch`) or its teacher's averaged ones.
        ratio: unlabeled rows for each labeled row of a batch.
        loss: weighting of the two losses: `sum` of both means (Algorithm 1), `mean` over the
            concatenated batch (section 3.1), `ratio` = labeled + ratio x unlabeled (official code).
        schedule: `cosine` to 0, or `staircase` by `decay_rate` every `decay_epochs`.
        ema: decay of the averaged weights that are evaluated and that label the pool.
        resolution: side to which images are resized for this network, in training and after; 0 is
            as the data set has them. A teacher's may differ: its logits are of the same pool.
        frozen: stages, from the input on, whose weights and batch statistics stay as they are; the
            first is the stem (paper, section 4.1: shallow layers, in fixing the train-test
            resolution discrepancy).
    """

    epochs: int | float = 300
    batch_size: int = 50
    rows: Literal["joint", "labeled", "unlabeled"] = "joint"
    start: Literal["scratch", "teacher"] = "scratch"
    ratio: int = 3
    loss: Literal["sum", "mean", "ratio"] = "mean"
    optimizer: Literal["sgd", "rmsprop"] = "rmsprop"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-5
    label_smoothing: float = 0.1
    warmup_epochs: float = 5.0
    schedule: Literal["cosine", "staircase"] = "staircase"
    decay_rate: float = 0.97
    decay_epochs: float = 2.4
    ema: float = 0.9999
    resolution: int = 0
    frozen: int = 0


@dataclass(frozen=True)
class Recipe:
    """One training run. Without a teacher it is supervised, or labels unlabeled rows itself
    (`consistency`); with one it is its noisy student.

    Raises:
        UserError: a field has a value outside its range; the line names field and range.
    """

    data: Data = field(default_factory=Data)
    model: str = "micro-b0"
    noise: Noise = field(default_factory=Noise)
    pseudo: PseudoLabels = field(default_factory=PseudoLabels)
    train: Train = field(default_factory=Train)
    distillation: Distillation = field(default_factory=Distillation)
    consistency: Consistency = field(default_factory=Consistency)
    seed: int = 0
    teacher: "Recipe | None" = None

    def __post_init__(self) -> None:
        for name in (f.name for f in dataclasses.fields(self) if f.name != "teacher"):
            # 27 where the field is 27.0 must be the same recipe, however it was made
            value = typed(getattr(self, name), types_of(Recipe)[name], name)
            object.__setattr__(self, name, value)
        _check(self)
        # What a run does not use must not split it into several identities.
        for dotted in idle_fields(self):
            if _getters()[dotted](self) != HISTORICAL_DEFAULTS[dotted]:
                *path, leaf = dotted.split(".")
                _put(self, path, leaf, HISTORICAL_DEFAULTS[dotted])
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
        return _getters()[name](self)

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

    @property
    def id(self) -> str:
        """Slug and 12 hex digits; the same on any machine and for any way of running it."""
        cached = self.__dict__.get("_id")
        if cached is None:
            of = "" if self.teacher is None else f"-of-{self.teacher.model}"
            method = self.consistency.method
            alone = "sup" if method == "none" else method
            role = alone if self.teacher is None else f"gen{self.generation}"
            slug = f"{self.data.name}-{self.model}-{role}{of}"
            slug = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in slug)
            digits = hashlib.sha256(self.canonical().encode()).hexdigest()[:12]
            cached = f"{slug[:150]}-s{self.seed}-{digits}"  # file systems take 255 bytes
            object.__setattr__(self, "_id", cached)
        return cached

    def canonical(self) -> str:
        """Return the JSON that the id hashes: fields at their historical default are omitted."""
        return json.dumps({"schema": SCHEMA, **_explicit(self)}, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain JSON values, the teacher's included."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a recipe from `to_dict`'s output. Unknown fields and wrong types: UserError."""
        return build(cls, values, "")

    @classmethod
    def of(cls, fields: Mapping[str, Any], teacher: "Recipe | None" = None) -> Self:
        """Build a recipe from dotted fields, e.g. `{"train.lr": "0.1"}`, and else the defaults.

        Text is read as the field's type.

        Raises:
            UserError: unknown field (names the nearest), or a value of the wrong type or range.
        """
        return dataclasses.replace(cls(), **_replaced(cls(), fields), teacher=teacher)

    def set(self, fields: Mapping[str, Any]) -> Self:
        """Return a copy with dotted fields replaced; see `of`. The teacher keeps its own values."""
        return dataclasses.replace(self, **_replaced(self, fields))

    def at_seed(self, seed: int) -> "Recipe":
        """Return the same recipe at another seed, its teachers' too."""
        moves = self.__dict__.setdefault("_moves", {})  # plan, table and report ask for the same
        if type(seed) is int and seed in moves:  # True is no seed, though it equals 1
            return moves[seed]
        moved = copy.copy(self)  # the rest has been checked, and plans make thousands of these
        for name in ("_id", "_moves"):
            moved.__dict__.pop(name, None)
        object.__setattr__(moved, "seed", typed(seed, int, "seed"))
        check_range("seed", moved.seed)
        if self.teacher is not None:
            object.__setattr__(moved, "teacher", self.teacher.at_seed(seed))
        moves[moved.seed] = moved
        return moved


HISTORICAL_DEFAULTS: dict[str, Any] = {
    "data.name": "digits",
    "data.labeled": 50,
    "data.validation": 100,
    "data.test": 500,
    "model": "micro-b0",
    **{
        f"noise.{rows}.{name}": value
        for rows in ("labeled", "unlabeled")
        for name, value in (
            ("randaugment_n", 2),
            ("randaugment_m", 9.0),
            ("crop_padding", 0),
            ("cutout", 0),
            ("dropout", 0.2),
            ("stochastic_depth", 0.2),
        )
    },
    "pseudo.kind": "soft",
    "pseudo.temperature": 1.0,
    "pseudo.threshold": 0.3,
    "pseudo.balance": True,
    "pseudo.per_class": 0,
    "train.epochs": 300,
    "train.batch_size": 50,
    "train.ratio": 3,
    "train.loss": "mean",
    "train.optimizer": "rmsprop",
    "train.lr": 0.01,
    "train.momentum": 0.9,
    "train.weight_decay": 1e-5,
    "train.label_smoothing": 0.1,
    "train.warmup_epochs": 5.0,
    "train.schedule": "staircase",
    "train.decay_rate": 0.97,
    "train.decay_epochs": 2.4,
    "train.ema": 0.9999,
    "data.unlabeled": 0,
    "data.imbalance": 1.0,
    "data.out_of_domain": 0.0,
    "data.glyphs.classes": 10,
    "data.glyphs.pixels": 8,
    "data.glyphs.difficulty": 1.0,
    "data.glyphs.foreign": "blends",
    "noise.unlabeled_schedule": "constant",
    "pseudo.ceiling": 1.0,
    "pseudo.limit": 0,
    "pseudo.noised_teacher": False,
    "train.rows": "joint",
    "train.start": "scratch",
    "noise.labeled.flip": False,
    "noise.unlabeled.flip": False,
    "data.pixels": 0,
    "data.files.image": "image",
    "data.files.label": "label",
    "data.files.classes": 0,
    "data.files.channels": 3,
    "data.files.labeled.split": "",
    "data.files.labeled.images": 0,
    "data.files.test.split": "",
    "data.files.test.images": 0,
    "data.files.unlabeled.split": "",
    "data.files.unlabeled.images": 0,
    "data.source": "",
    "pseudo.views": 1,
    "distillation.weight": 0.0,
    "distillation.temperature": 1.0,
    "consistency.method": "none",
    "consistency.weight": 1.0,
    "consistency.ramp": 0.0,
    "consistency.threshold": 0.0,
    "consistency.temperature": 1.0,
    "train.resolution": 0,
    "train.frozen": 0,
    "noise.labeled.resized_crop": 0.0,
    "noise.unlabeled.resized_crop": 0.0,
    "noise.labeled.randaugment_cutout": False,
    "noise.unlabeled.randaugment_cutout": False,
    "data.files.labeled.source": "",
    "data.files.test.source": "",
    "data.files.unlabeled.source": "",
}
"""Frozen: what each field meant before it existed. Append for a new field, never edit: changing a
dataclass default must not change an id, and a new field at its old meaning must not either."""

_UNLABELED = (
    "pseudo.",
    "noise.unlabeled.",
    "noise.unlabeled_schedule",
    "train.ratio",
    "train.loss",
)
"""Fields that a run without unlabeled rows does not use."""


def idle_fields(recipe: "Recipe") -> tuple[str, ...]:
    """Return the fields that this run does not use; they are at their historical defaults."""
    return _idle(
        recipe.teacher is not None,
        recipe.train.rows,
        "glyphs" in (recipe.data.name, recipe.data.source),
        recipe.data.name in NO_FILES,
        recipe.distillation.weight > 0,
        recipe.consistency.method,
    )


@functools.cache
def _idle(
    taught: bool, rows: str, drawn: bool, packaged: bool, distilled: bool, method: str
) -> tuple[str, ...]:
    prefixes: tuple[str, ...]
    if not taught:
        prefixes = ("pseudo.", "train.loss", "train.rows", "train.start", "distillation.")
        prefixes += _UNLABELED if method == "none" else ()
        prefixes += _CONSISTENCY_IDLE[method]
    elif rows == "labeled":
        prefixes = (*_UNLABELED, "consistency.")
    elif rows == "unlabeled":
        prefixes = ("noise.labeled.", "train.loss", "distillation.", "consistency.")
    else:
        prefixes = ("consistency.",)
    if not distilled:
        prefixes += ("distillation.temperature",)
    if not drawn:
        prefixes += ("data.glyphs.",)
    if packaged:
        prefixes += ("data.pixels", "data.files.")
    return tuple(name for name in HISTORICAL_DEFAULTS if name.startswith(prefixes))


_CONSISTENCY_IDLE: dict[str, tuple[str, ...]] = {
    "none": ("consistency.",),
    "pi-model": ("consistency.threshold", "consistency.temperature"),
    "mean-teacher": ("consistency.threshold", "consistency.temperature"),
    "uda": (),
    "fixmatch": ("consistency.temperature",),
    "co-training": ("consistency.temperature",),
}


@functools.cache
def _getters() -> dict[str, Callable[[Any], Any]]:
    """Return {dotted name: function of a recipe} of its own fields, without its teacher's."""

    def names(part: Any, prefix: str) -> Iterator[str]:
        for name, hint in types_of(part).items():
            if dataclasses.is_dataclass(hint):
                yield from names(hint, f"{prefix}{name}.")
            elif name != "teacher":
                yield f"{prefix}{name}"

    return {name: operator.attrgetter(name) for name in names(Recipe, "")}


def _explicit(recipe: Recipe) -> dict[str, Any]:
    """Return the fields that are not at their historical default, and so make up the id."""
    shape = recipe.__dict__.get("_shape")
    if shape is None:
        shape = {
            name: value
            for name, get in _getters().items()
            if (value := get(recipe)) != HISTORICAL_DEFAULTS.get(name, _NEVER)
        }
        object.__setattr__(recipe, "_shape", shape)  # `at_seed` hands it on
    explicit = {**shape, "seed": recipe.seed}
    if recipe.teacher is not None:
        explicit["teacher"] = _explicit(recipe.teacher)
    return explicit


_NEVER = object()


def _replaced(recipe: Recipe, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the top-level parts of `recipe` that dotted fields change, with these changes."""
    changes: dict[str, Any] = {}
    for dotted, value in fields.items():
        if dotted.split(".")[0] in ("teacher", "seed"):
            raise UserError(f"'{dotted}' is not set by hand: studies and --seeds give it")
        if dotted not in HISTORICAL_DEFAULTS:
            raise unknown("field", dotted, HISTORICAL_DEFAULTS)
        *path, leaf = dotted.split(".")
        place = changes
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = value

    def changed(part: Any, values: dict[str, Any], prefix: str) -> dict[str, Any]:
        new, hints = {}, types_of(part.__class__)
        for name, value in values.items():
            hint, old, full = hints[name], getattr(part, name), f"{prefix}{name}"
            if dataclasses.is_dataclass(hint):
                new[name] = dataclasses.replace(old, **changed(old, value, f"{full}."))
            else:
                new[name] = convert(value, hint, full)
        return new

    return changed(recipe, changes, "")


def _put(recipe: Recipe, path: list[str], leaf: str, value: Any) -> None:
    """Replace one leaf of a recipe under construction; parts may be shared, so they are copied."""
    place: Any = recipe
    for name in path:
        part = copy.copy(getattr(place, name))
        object.__setattr__(place, name, part)
        place = part
    object.__setattr__(place, leaf, value)


def _check(recipe: Recipe) -> None:
    for name, get in _getters().items():
        check_range(name, get(recipe))
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
    if recipe.teacher is None:
        return
    for f in dataclasses.fields(Data):
        ours, theirs = getattr(recipe.data, f.name), getattr(recipe.teacher.data, f.name)
        if ours != theirs:  # its logits would be those of another pool
            raise UserError(
                f"data.{f.name}={ours}: its teacher has {theirs}; both must have the same data"
            )
