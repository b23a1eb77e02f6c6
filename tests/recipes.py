"""Recipes as tables: every field, with another value of it."""

from typing import Any

from ns_bench.recipe import (
    HISTORICAL_DEFAULTS,
    Recipe,
)

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
}
"""Another valid value of every field. A new field needs one, or the tests below fail."""

GLYPHS = {
    "data.glyphs.classes": 20,
    "data.glyphs.pixels": 16,
    "data.glyphs.difficulty": 0.5,
    "data.glyphs.foreign": "noise",
}
"""The same, of fields that only the data set `glyphs` uses."""

FILES = {
    "data.pixels": 16,
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


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {dotted name: value} of `Recipe.to_dict`'s tables, without the teacher."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and name != "teacher":
            flat |= leaves(value, f"{prefix}{name}.")
        elif name != "teacher":
            flat[f"{prefix}{name}"] = value
    return flat


def full(
    changes: dict[str, Any] | None = None, teacher: dict[str, Any] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Return `Recipe.to_dict`'s form with every field spelled out, independent of any default."""
    values: dict[str, Any] = {"seed": seed, "teacher": teacher}
    for dotted, value in {**HISTORICAL_DEFAULTS, **(changes or {})}.items():
        *path, leaf = dotted.split(".")
        place = values
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = value
    return values


SUPERVISED = Recipe.from_dict(full())
STUDENT = Recipe.from_dict(full(teacher=full()))
