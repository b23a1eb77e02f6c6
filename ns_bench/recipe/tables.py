"""The tables of a recipe: the fields of a training run, with their defaults and what they may be.

A field is one line (`ns_bench.fields.default`): its default, what it means and which values it may
take; `used` says in which runs it counts (`ns_bench.recipe.recipe.USES`), `off` is the value of a
noise that is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ns_bench.fields import declared, default, table


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


NO_NOISE: dict[str, Any] = {
    name: field.off for name, field in declared(RowNoise).items() if field.off is not None
}
"""{noise of `RowNoise`: its value where there is none}."""


def without_noise(*rows: str, noises: Iterable[str] = tuple(NO_NOISE)) -> dict[str, Any]:
    """Return the dotted fields of `labeled` or `unlabeled` rows, or both, without these noises."""
    return {f"noise.{kind}.{name}": NO_NOISE[name] for kind in rows for name in noises}
