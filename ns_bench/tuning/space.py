"""What a search may change: recipe fields and their ranges, as data in a profile or a file."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ns_bench.errors import UserError, unknown
from ns_bench.recipe import HISTORICAL_DEFAULTS, Recipe, idle_fields

ROWS = ("labeled", "unlabeled")


@dataclass(frozen=True)
class Dimension:
    """One thing a trial chooses: a number in a range, or one of several values.

    Attributes:
        name: a recipe field; `noise.*.x` is that of labeled and unlabeled rows alike.
        low, high: ends of the range, both included. Whole numbers make a whole number.
        step: of the grid that the range is cut into, if any.
        log: whether the range is even in the logarithm.
        choices: instead of a range.
        when: {name: value} that other choices, or else the recipe, must have for this to matter.
    """

    name: str
    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    when: tuple[tuple[str, Any], ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The recipe fields it sets."""
        if ".*." not in self.name:
            return (self.name,)
        return tuple(self.name.replace(".*.", f".{rows}.") for rows in ROWS)

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


def load_space(tables: Mapping[str, Any], source: str) -> list[Dimension]:
    """Read dimensions from a table {field: {low, high, step, log} or {choices}, and when}.

    Raises:
        UserError: an unknown field or key, a range that is empty or reversed, no choice.
    """
    if not tables:
        raise UserError(f"{source}: the space is empty; expected fields with ranges")
    space = [_dimension(name, values, source) for name, values in _flat(tables).items()]
    names = [name for dimension in space for name in dimension.fields]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{source}: {name} is there twice")
    return space


def read_space(path: Path) -> list[Dimension]:
    """Read a TOML file of dimensions; see `load_space`."""
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"space {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"space {path} is not TOML: {error}") from None
    return load_space(tables, f"space {path}")


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Let `[train]` with `lr = {...}` be `"train.lr" = {...}`."""
    flat: dict[str, Any] = {}
    keys = {f.name for f in fields(Dimension)}
    for name, value in tables.items():
        leaf = not isinstance(value, Mapping) or not value or keys & value.keys()
        flat |= {f"{prefix}{name}": value} if leaf else _flat(value, f"{prefix}{name}.")
    return flat


def _dimension(name: str, values: Any, source: str) -> Dimension:
    where = f"{source}: {name}"
    known = [f.name for f in fields(Dimension) if f.name != "name"]
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected a table with low and high, or with choices")
    for key in values:
        if key not in known:
            raise unknown(f"key of {name} in {source}", key, known)
    when = tuple(dict(values.get("when", {})).items())
    choices = tuple(values.get("choices", ()))
    dimension = Dimension(name, **{**values, "choices": choices, "when": when})
    for field in (*dimension.fields, *(other for other, _ in when)):
        if field not in HISTORICAL_DEFAULTS:
            raise unknown("field", field, HISTORICAL_DEFAULTS)
    if "choices" in values:
        if not choices or {"low", "high", "step", "log"} & values.keys():
            raise UserError(f"{where}: expected one choice or more, and then no range")
        for choice in choices:
            Recipe.of(dict.fromkeys(dimension.fields, choice), Recipe())
        return dimension
    low, high = dimension.low, dimension.high
    if not all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high)):
        raise UserError(f"{where}: expected low and high, or choices")
    assert low is not None and high is not None
    if low >= high:
        raise UserError(f"{where}: low={low:g} is not below high={high:g}")
    if dimension.log and (low <= 0 or dimension.step):
        raise UserError(f"{where}: a range in the logarithm starts above 0 and has no step")
    if dimension.step is not None and not 0 < dimension.step <= high - low:
        raise UserError(f"{where}: step={dimension.step:g} does not fit from {low:g} to {high:g}")
    for end in (low, high):
        Recipe.of(dict.fromkeys(dimension.fields, end), Recipe())
    return dimension


def for_arm(space: Sequence[Dimension], recipe: Recipe, varied: Sequence[str]) -> list[Dimension]:
    """Return the dimensions that an arm is tuned over.

    Args:
        recipe: the arm's. What it does not use is left out.
        varied: fields in which the arms of its study differ: tuning them would undo the study.
    """
    idle = set(idle_fields(recipe))
    return [d for d in space if not set(d.fields) & set(varied) and not set(d.fields) <= idle]


def varied_fields(recipes: Sequence[Recipe]) -> list[str]:
    """Return the fields in which recipes differ, where each uses them."""
    varied = []
    for name in HISTORICAL_DEFAULTS:
        used = [recipe.field(name) for recipe in recipes if name not in idle_fields(recipe)]
        if any(value != used[0] for value in used):
            varied.append(name)
    return varied


def applies(dimension: Dimension, chosen: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a dimension matters, given what a trial has chosen so far."""
    return all(chosen.get(name, recipe.field(name)) == value for name, value in dimension.when)


def changes(space: Sequence[Dimension], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return {recipe field: value} of a trial's parameters."""
    by_name = {dimension.name: dimension for dimension in space}
    return {field: v for name, v in params.items() for field in by_name[name].fields}
