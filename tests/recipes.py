"""Recipes as tables: every field, with another value of it."""

from typing import Any

from ns_bench.fields import flat
from ns_bench.recipe import Recipe

HISTORY: dict[str, Any] = {
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
    "data.glyphs.fixed_test": False,
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
    "train.criterion": "cross-entropy",
    "noise.labeled.custom": "",
    "noise.unlabeled.custom": "",
    "pseudo.confidence": "labels",
    "train.decay_biases": False,
    "train.beta2": 0.999,
    "train.clip_grad": 0.0,
    "pretrained": "",
    "data.crop": "square",
}
"""Frozen: what each field meant before it existed. Append for a new field, never edit: stores have
ids that leave these values out."""

OTHER: dict[str, Any] = {
    "data.name": "other",
    "data.labeled": 60,
    "data.validation": 90,
    "data.test": 400,
    "model": "micro-b4",
    **{
        f"noise.{rows}.{name}": value
        for rows in ("labeled", "unlabeled")
        for name, value in (
            ("randaugment_n", 0),
            ("randaugment_m", 27.0),
            ("crop_padding", 1),
            ("cutout", 2),
            ("dropout", 0.5),
            ("stochastic_depth", 0.0),
            ("flip", True),
            ("resized_crop", 0.5),
            ("custom", "mine.noise@0123456789ab"),
            ("randaugment_cutout", True),
        )
    },
    "pseudo.kind": "hard",
    "pseudo.temperature": 2.0,
    "pseudo.threshold": 0.0,
    "pseudo.balance": False,
    "pseudo.per_class": 7,
    "train.epochs": 40,
    "train.batch_size": 25,
    "train.ratio": 7,
    "train.loss": "sum",
    "train.criterion": "mine.loss@0123456789ab",
    "train.optimizer": "sgd",
    "train.lr": 0.1,
    "train.momentum": 0.0,
    "train.weight_decay": 0.0,
    "train.label_smoothing": 0.0,
    "train.warmup_epochs": 0.0,
    "train.schedule": "cosine",
    "train.decay_rate": 0.5,
    "train.decay_epochs": 10.0,
    "train.ema": 0.99,
    "data.unlabeled": 300,
    "data.imbalance": 10.0,
    "data.out_of_domain": 0.5,
    "noise.unlabeled_schedule": "fading",
    "pseudo.ceiling": 0.9,
    "pseudo.limit": 70,
    "pseudo.noised_teacher": True,
    "train.rows": "unlabeled",
    "train.start": "teacher",
    "data.source": "glyphs",
    "pseudo.views": 4,
    "distillation.weight": 0.5,
    "train.resolution": 16,
    "train.frozen": 2,
    "train.decay_biases": True,
    "train.clip_grad": 1.0,
    "pretrained": "weights.safetensors@0123456789ab",
}
"""Another valid value of every field. A new field needs one, or the tests below fail."""

GLYPHS = {
    "data.glyphs.classes": 20,
    "data.glyphs.pixels": 16,
    "data.glyphs.difficulty": 0.5,
    "data.glyphs.foreign": "noise",
    "data.glyphs.fixed_test": True,
}
"""The same, of fields that only the data set `glyphs` uses."""

FILES = {
    "data.pixels": 16,
    "data.crop": "photo",
    "data.files.image": "img",
    "data.files.label": "fine_label",
    "data.files.classes": 3,
    "data.files.channels": 1,
    **{
        f"data.files.{part}.{name}": value
        for part in ("labeled", "test", "unlabeled")
        for name, value in (("split", "extra"), ("images", 70), ("source", "elsewhere"))
    },
}
"""The same, of fields that only data sets in files use."""

ONLINE = {
    "consistency.weight": 2.0,
    "consistency.ramp": 0.5,
    "consistency.threshold": 0.7,
    "consistency.temperature": 0.4,
}
"""The same, of fields that only runs use which label unlabeled rows themselves."""

IDLE = {name for name in OTHER if name.startswith(("pseudo.", "noise.unlabeled"))} | {
    "train.ratio",
    "train.loss",
    "train.rows",
    "train.start",
    "distillation.weight",
}
"""What no supervised run uses."""


def leaves(values: dict[str, Any]) -> dict[str, Any]:
    """Return {dotted name: value} of `Recipe.to_dict`'s tables, without the teacher."""
    return flat({name: value for name, value in values.items() if name != "teacher"})


def full(
    changes: dict[str, Any] | None = None, teacher: dict[str, Any] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Return `Recipe.to_dict`'s form with every field spelled out, independent of any default."""
    values: dict[str, Any] = {"seed": seed, "teacher": teacher}
    for dotted, value in {**HISTORY, **(changes or {})}.items():
        *path, leaf = dotted.split(".")
        place = values
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = value
    return values


SUPERVISED = Recipe.from_dict(full())
STUDENT = Recipe.from_dict(full(teacher=full()))
