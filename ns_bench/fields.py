"""What a recipe's fields may hold: values read as their types, and the range of each."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from ns_bench.errors import UserError, unknown

_RANGES: dict[str, tuple[float, float, str]] = {
    "data.labeled": (1, 1e12, "at least 1"),
    "data.validation": (0, 1e12, "at least 0"),
    "data.test": (1, 1e12, "at least 1"),
    "data.unlabeled": (0, 1e12, "at least 0"),
    "data.imbalance": (1, 1e6, "at least 1"),
    "data.out_of_domain": (0, 0.99, "from 0 to 0.99"),
    "data.glyphs.classes": (2, 36, "from 2 to 36"),
    "data.glyphs.pixels": (8, 64, "from 8 to 64"),
    "data.glyphs.difficulty": (0, 2, "from 0 to 2"),
    "data.pixels": (0, 1024, "from 0 to 1024"),
    "data.files.classes": (0, 1e6, "from 2 to 1000000"),
    "data.files.channels": (1, 3, "of 1 (grey) or 3 (colour)"),
    **{
        f"data.files.{part}.images": (0, 1e12, "at least 0")
        for part in ("labeled", "test", "unlabeled")
    },
    "noise.*.randaugment_n": (0, 32, "from 0 to 32"),
    "noise.*.randaugment_m": (0, 100, "from 0 to 100"),
    "noise.*.crop_padding": (0, 512, "from 0 to 512"),
    "noise.*.cutout": (0, 1024, "from 0 to 1024"),
    "noise.*.resized_crop": (0, 1, "from 0 to 1"),
    "noise.*.dropout": (0, 0.99, "from 0 to 0.99"),
    "noise.*.stochastic_depth": (0, 0.99, "from 0 to 0.99"),
    "pseudo.temperature": (1e-3, 1e3, "from 0.001 to 1000"),
    "pseudo.threshold": (0, 0.9999, "from 0 to below 1"),
    "pseudo.ceiling": (1e-4, 1, "above 0, at most 1"),
    "pseudo.limit": (0, 1e12, "at least 0"),
    "pseudo.per_class": (0, 1e12, "at least 0"),
    "pseudo.views": (1, 1000, "from 1 to 1000"),
    "distillation.weight": (0, 1, "from 0 to 1"),
    "distillation.temperature": (1e-3, 1e3, "from 0.001 to 1000"),
    "consistency.weight": (0, 1e6, "from 0 to 1000000"),
    "consistency.ramp": (0, 1, "from 0 to 1"),
    "consistency.threshold": (0, 0.9999, "from 0 to below 1"),
    "consistency.temperature": (1e-3, 1e3, "from 0.001 to 1000"),
    "train.epochs": (1, 1e9, "at least 1"),
    "train.batch_size": (2, 1e9, "at least 2 (batch statistics need two rows)"),
    "train.ratio": (1, 1000, "from 1 to 1000"),
    "train.lr": (1e-12, 1e3, "above 0"),
    "train.momentum": (0, 0.9999, "from 0 to below 1"),
    "train.weight_decay": (0, 10, "from 0 to 10"),
    "train.label_smoothing": (0, 0.99, "from 0 to 0.99"),
    "train.warmup_epochs": (0, 1e9, "at least 0"),
    "train.decay_rate": (1e-6, 1, "above 0, at most 1"),
    "train.decay_epochs": (1e-6, 1e9, "above 0"),
    "train.ema": (0, 0.999999, "from 0 to below 1"),
    "train.resolution": (0, 1024, "from 0 to 1024"),
    "train.frozen": (0, 1000, "from 0 to 1000"),
    "seed": (0, 2**31 - 1, "from 0 to 2147483647"),
}


@functools.cache
def _rule(name: str) -> tuple[float, float, str] | None:
    either = name.replace(".labeled.", ".*.").replace(".unlabeled.", ".*.")
    return _RANGES.get(name) or _RANGES.get(either)


def check_range(name: str, value: Any) -> None:
    """Raise UserError if the value of a dotted field is outside its range."""
    rule = _rule(name)
    if rule and not rule[0] <= value <= rule[1]:
        raise UserError(f"{name}={value}: expected a value {rule[2]}")


@functools.cache
def types_of(cls: Any) -> dict[str, Any]:
    """Return {field: type} of a dataclass."""
    return typing.get_type_hints(cls)


def typed(value: Any, hint: Any, name: str) -> Any:
    """Return `value` with every leaf as its field's type; a part that has been read stays as is."""
    if hint in (int, str, bool) and type(value) is hint:
        return value  # the way that plans of thousands of recipes take
    if type(value) is not hint or not dataclasses.is_dataclass(hint):
        return convert(value, hint, name)
    if "_read" not in value.__dict__:
        hints = types_of(hint)
        leaves = {n: typed(getattr(value, n), hints[n], f"{name}.{n}") for n in hints}
        value = hint(**leaves)
        object.__setattr__(value, "_read", True)
    return value


def build(cls: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """Make a dataclass of plain values. UserError: an unknown field (names the nearest), or a value
    of another type; `prefix` goes before the field's name."""
    hints = types_of(cls)
    for name in values:
        if name not in hints:
            raise unknown("field", f"{prefix}{name}", [f"{prefix}{n}" for n in hints])
    return cls(**{n: convert(v, hints[n], f"{prefix}{n}") for n, v in values.items()})


def convert(value: Any, hint: Any, name: str) -> Any:
    """Read `value` (JSON or command-line text) as the type `hint`; UserError if it is not one."""
    if hint == int | float:  # whole where it can be, as it was before fractions were allowed
        number = convert(value, float, name)
        return int(number) if number.is_integer() else number
    if isinstance(hint, types.UnionType):  # a part that there may be, or None
        if value is None:
            return None
        (hint,) = (kind for kind in get_args(hint) if kind is not types.NoneType)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise UserError(f"{name}={value!r}: expected a table of fields")
        return build(hint, value, f"{name}.")
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise UserError(f"{name}={value}: expected one of {', '.join(get_args(hint))}")
        return value
    if hint is bool:
        known = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
        if isinstance(value, bool) or str(value).lower() in known:
            return known[str(value).lower()]
        raise UserError(f"{name}={value}: expected true or false")
    if hint is str:
        if not isinstance(value, str):
            raise UserError(f"{name}={value}: expected text")
        return value
    try:
        converted = hint(value)
        if isinstance(value, bool) or converted != float(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        expected = "a whole number" if hint is int else "a number"
        raise UserError(f"{name}={str(value)[:40]}: expected {expected}") from None
    return converted + 0  # -0.0 is 0.0
