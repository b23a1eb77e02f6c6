"""What a search may change: recipe fields and their ranges, as data in a profile or a file."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ns_bench.errors import UserError, located
from ns_bench.fields import build, convert, flat
from ns_bench.files import read_toml
from ns_bench.recipe import HISTORICAL_DEFAULTS, Recipe, idle_fields, read_fields

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

    def __contains__(self, value: Any) -> bool:
        """Whether a trial can have chosen this."""
        if self.choices:
            return value in self.choices
        assert self.low is not None and self.high is not None
        number = isinstance(value, int if self.whole else int | float)
        return number and self.low <= value <= self.high


def load_space(tables: Mapping[str, Any], source: str) -> list[Dimension]:
    """Read dimensions from a table {field: {low, high, step, log} or {choices}, and when}.

    Raises:
        UserError: an unknown field or key, a value of the wrong type, a range that is empty or
            reversed, no choice.
    """
    if not tables:
        raise UserError(f"{source}: the space is empty; expected fields with ranges")
    space = []
    keys = {f.name for f in dataclasses.fields(Dimension)}
    # `[train]` with `lr = {...}` is `"train.lr" = {...}`
    for name, table in flat(
        tables, lambda _, table: not table or bool(keys & table.keys())
    ).items():
        with located(f"{source}: {name}"):
            space.append(_dimension(name, table))
    names = [name for dimension in space for name in dimension.fields]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{source}: {name} is there twice")
    return space


def read_space(path: Path) -> list[Dimension]:
    """Read a TOML file of dimensions; see `load_space`."""
    return load_space(read_toml(path, f"space {path}"), f"space {path}")


def _dimension(name: str, table: Any) -> Dimension:
    if not isinstance(table, Mapping):
        raise UserError(f"{table!r}: expected a table with low and high, or with choices")
    when = convert(table.get("when", {}), dict[str, Any], "when")
    rest = {key: value for key, value in table.items() if key != "when"}
    dimension: Dimension = build(Dimension, rest, name=name, when=tuple(when.items()))
    read_fields(when, text=False)
    if "choices" in table:
        if not dimension.choices or {"low", "high", "step", "log"} & table.keys():
            raise UserError("expected one choice or more, and then no range")
        values: Sequence[Any] = dimension.choices
    else:
        values = _ends(dimension)
    for value in values:
        Recipe.of(read_fields(dict.fromkeys(dimension.fields, value), text=False), Recipe())
    return dimension


def _ends(dimension: Dimension) -> tuple[float, float]:
    """Return the ends of a range. UserError: there is none, or step or logarithm do not fit it."""
    low, high, step = dimension.low, dimension.high, dimension.step
    if low is None or high is None:
        raise UserError("expected low and high, or choices")
    if low >= high:
        raise UserError(f"low={low:g} is not below high={high:g}")
    if dimension.log and (low <= 0 or step):
        raise UserError("a range in the logarithm starts above 0 and has no step")
    if step is not None and not 0 < step <= high - low:
        raise UserError(f"step={step:g} does not fit from {low:g} to {high:g}")
    return low, high


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
    idle = [idle_fields(recipe) for recipe in recipes]
    for name in HISTORICAL_DEFAULTS:
        used = [
            r.field(name) for r, unused in zip(recipes, idle, strict=True) if name not in unused
        ]
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
