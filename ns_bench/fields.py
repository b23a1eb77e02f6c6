"""Fields: declared in one line each, and held against that line however they are given.

The line of a field has its default, its meaning and the values it may take:

    lr: float = default(0.01, "learning rate after the warm-up", "(0, 1000]")

`build` reads dataclasses of such fields from JSON or TOML; `declared` lists them.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from functools import cache, cached_property
from typing import Any, Literal, TypeVar, get_args, get_origin

from ns_bench.errors import UserError, unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included; `words` as in "from 0 to below 1"."""

    low: float
    high: float
    words: str

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


def interval(text: str) -> Interval:
    """Read "[0, 1)", from 0 to below 1, or "(0, 1], and more words"."""
    ends = re.fullmatch(r"([\[(])(\S+), (\S+)([\])])(.*)", text)
    assert ends is not None, text
    opens, low, high, closes, more = ends.groups()
    first = float(low) if opens == "[" else math.nextafter(float(low), math.inf)
    last = float(high) if closes == "]" else math.nextafter(float(high), -math.inf)
    words = f"from {low} to " if opens == "[" else f"above {low}, "
    words += {"[]": "", "(]": "at most ", "[)": "below ", "()": "below "}[opens + closes]
    return Interval(first, last, f"{words}{high}{more}")


@dataclass(frozen=True)
class Field:
    """A field as it was declared.

    Attributes:
        name: dotted, from the outermost dataclass on.
        type: hint of its values; `expected` says it in words, with the interval of its numbers.
        default: MISSING where it is needed.
        before: what the field meant before it existed.
        off: of a noise: the value without it.
        used: what the field is used for, and each table that it is in.
    """

    name: str
    type: Any
    default: Any
    meaning: str = ""
    within: Interval | None = None
    before: Any = None
    off: Any = None
    used: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        return in_words(self.type, self.within)

    def read(self, value: Any, prefix: str = "", *, text: bool = False) -> Any:
        """Return a value as the field has it; see `convert`."""
        plain = type(value) in self._simple
        plain = plain and (value is None or self._values is None or value in self._values)
        if plain and (type(value) is not float or math.copysign(1, value) > 0 or value):
            return value  # the way that thousands of recipes take; -0.0, which is to be 0.0, not
        return convert(value, self.type, f"{prefix}{self.name}", self.within, text=text)

    @cached_property
    def _simple(self) -> set[Any]:
        """Types of values that need no conversion if they are among `_values`."""
        kinds = get_args(self.type) if isinstance(self.type, types.UnionType) else (self.type,)
        if get_origin(self.type) is Literal:
            kinds = tuple(map(type, get_args(self.type)))
        numbers = {int} if self.within is None else {int, float}
        return {str, bool, types.NoneType, *numbers}.intersection(kinds)

    @cached_property
    def _values(self) -> "tuple[Any, ...] | Interval | None":
        return get_args(self.type) if get_origin(self.type) is Literal else self.within


def default(
    value: T, meaning: str, within: str = "", *, before: Any = None, off: Any = None, used: str = ""
) -> T:
    """Declare a field of a dataclass: its value where nothing is said, and see `Field`.

    Args:
        within: interval of its number or numbers: "[0, 1)" is from 0 to below 1.
        before: only where `value` has become another than it was.
    """
    metadata = {
        "meaning": meaning,
        "within": interval(within) if within else None,
        "before": value if before is None else before,
        "off": off,
        "used": (used,) if used else (),
    }
    if isinstance(value, list | dict):
        made: Any = dataclasses.field(default_factory=value.copy, metadata=metadata)
    else:
        made = dataclasses.field(default=value, metadata=metadata)
    return made  # type checkers take it for the default, as they do `dataclasses.field`


def needed(meaning: str, within: str = "") -> Any:
    """Declare a field without a default: `build` refuses a table without it."""
    limits = interval(within) if within else None
    return dataclasses.field(metadata={"meaning": meaning, "within": limits})


def table(cls: type[T], used: str = "") -> T:
    """Declare a field that is a dataclass of fields."""
    return dataclasses.field(default_factory=cls, metadata={"used": (used,) if used else ()})


@cache
def declared(cls: Any) -> dict[str, Field]:
    """Return {dotted name: field} of a dataclass and of its tables, in order.

    A field that was not declared with `default`, `needed` or `table` is left out.
    """
    fields: dict[str, Field] = {}
    for field in _own(cls).values():
        if _is_table(field.type):
            for inner in declared(field.type).values():
                name, used = f"{field.name}.{inner.name}", field.used + inner.used
                fields[name] = dataclasses.replace(inner, name=name, used=used)
        elif field.meaning:
            fields[field.name] = field
    return fields


@cache
def _own(cls: Any) -> dict[str, Field]:
    """Return {name: field} of a dataclass, declared or not, its tables as one field each."""
    hints = typing.get_type_hints(cls)
    fields = {}
    for field in dataclasses.fields(cls):
        made = field.default if field.default_factory is MISSING else field.default_factory()
        fields[field.name] = Field(field.name, hints[field.name], made, **field.metadata)
    return fields


def _is_table(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint)


def flat(
    table: Mapping[str, Any],
    leaf: Callable[[str, Any], bool] = lambda name, value: False,
    prefix: str = "",
) -> dict[str, Any]:
    """Return nested tables as {dotted name: value}.

    Args:
        leaf: whether a table is itself a value, by its dotted name and what is in it.
    """
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and not leaf(name, value):
            values |= flat(value, leaf, f"{name}.")
        else:
            values[name] = value
    return values


def replaced(whole: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return {field: value} of those fields of a dataclass that dotted fields change."""
    changes: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        first, _, rest = name.partition(".")
        if rest:
            parts.setdefault(first, {})[rest] = value
        else:
            changes[first] = value
    for name, values in parts.items():
        old = getattr(whole, name)
        changes[name] = dataclasses.replace(old, **replaced(old, values))
    return changes


def build(cls: Any, table: Any, prefix: str = "", **given: Any) -> Any:
    """Make a dataclass of plain values.

    Args:
        table: its fields, as JSON or TOML has them.
        prefix: goes before the name of a field in messages.
        given: fields that are not the table's.

    Raises:
        UserError: no table; an unknown field (names the nearest), a needed one that is not there or
            empty, a value of another type or outside its interval.
    """
    if not isinstance(table, Mapping):
        raise UserError(f"{prefix[:-1]}={table!r}: expected a table of fields")
    fields = {name: field for name, field in _own(cls).items() if name not in given}
    for name in table:
        if name not in fields:
            raise unknown("field", f"{prefix}{name}", [f"{prefix}{n}" for n in fields])
    for name, field in fields.items():
        if field.default is MISSING and table.get(name, "") == "":
            raise UserError(f"there is no {prefix}{name}")
    values = {name: fields[name].read(value, prefix) for name, value in table.items()}
    return cls(**values, **given)


def amendments(whole: Any, prefix: str = "") -> dict[str, Any]:
    """Return {field: value} of those fields of a dataclass that are read otherwise than they are:
    27 as 27.0. UserError: a value of another type or outside its interval."""
    changes = {}
    for name, field in _own(whole.__class__).items():
        value = getattr(whole, name)
        if (new := field.read(value, prefix)) is not value:
            changes[name] = new
    return changes


def convert(
    value: Any, hint: Any, name: str, within: Interval | None = None, *, text: bool = False
) -> Any:
    """Read a value of JSON or TOML as the type `hint`, its numbers `within` an interval.

    Args:
        text: whether it may also be text as on a command line: `0.1`, `no`.

    Raises:
        UserError: it is of another type, or outside; the line has `name` and what was expected.
    """
    try:
        return _read(value, hint, name, within, text)
    except (TypeError, ValueError, OverflowError):
        plain = text and isinstance(value, str) and value.isprintable()
        shown = value if plain else repr(value)
        raise UserError(f"{name}={shown[:60]}: expected {in_words(hint, within)}") from None


def _read(value: Any, hint: Any, name: str, within: Interval | None, text: bool) -> Any:
    """Return the value as `hint`; ValueError or TypeError where it is none."""
    if hint in (int, float):
        return _number(value, hint, within, text)
    if hint is Any:
        return value
    if _is_table(hint):
        if type(value) is not hint:
            return build(hint, value, f"{name}.")
        changes = amendments(value, f"{name}.")
        return dataclasses.replace(value, **changes) if changes else value
    origin, kinds = get_origin(hint) or hint, get_args(hint)
    if origin is types.UnionType:
        return _one_of(value, kinds, name, within, text)
    if origin is Literal:
        word = {str(kind): kind for kind in kinds}.get(value, value) if text else value
        if word not in kinds or isinstance(word, bool):
            raise ValueError
        return word
    if origin is dict and isinstance(value, Mapping):
        return {k: convert(v, kinds[1], f"{name}.{k}", within) for k, v in value.items()}
    if origin in (list, tuple) and isinstance(value, list | tuple):
        each = kinds[:1] * len(value) if origin is list or ... in kinds else kinds
        pairs = enumerate(zip(value, each, strict=True))
        return origin(convert(v, kind, f"{name}[{i}]", within) for i, (v, kind) in pairs)
    if origin is bool and text:
        value = _TRUTH.get(str(value).lower(), value)
    if type(value) is not origin:
        raise TypeError
    return value


_TRUTH = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def _number(value: Any, kind: type, within: Interval | None, text: bool) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and not text):
        raise TypeError
    number = kind(value)
    inside = math.isfinite(number) if within is None else number in within
    if number != float(value) or not inside:  # 2.5 as a whole number; NaN
        raise ValueError
    return number + 0  # -0.0 is 0.0


def _one_of(
    value: Any, hints: tuple[Any, ...], name: str, within: Interval | None, text: bool
) -> Any:
    """Return the value as one of several types, None among them: `int | float` stays as it is."""
    kinds = [kind for kind in hints if kind is not types.NoneType]
    if value is None and len(kinds) < len(hints):
        return None
    if text and isinstance(value, str) and str not in kinds:
        value = int(value) if value.lstrip("+-").isdecimal() else float(value)
    kind = type(value) if len(kinds) > 1 else kinds[0]
    if kind not in kinds:
        raise TypeError
    return _read(value, kind, name, within, text)


def in_words(hint: Any, within: Interval | None = None) -> str:
    """Return what is expected of a value: "a whole number from 1 to 1000"."""
    origin, kinds = get_origin(hint) or hint, get_args(hint)
    several = [kind for kind in kinds if kind not in (types.NoneType, ...)]
    if origin is types.UnionType:
        said = [kind for kind in several if kind is not int or float not in several]
        return " or ".join(in_words(kind, within) for kind in said)
    if origin is Literal:
        return f"one of {', '.join(map(str, kinds))}"
    if origin in (list, tuple):
        inner = ", ".join(in_words(kind, within) for kind in several)
        return f"a list [{inner}{', ...' if origin is list or ... in kinds else ''}]"
    if origin is dict:
        return "a table" if kinds[1] is Any else f"a table {{name = {in_words(kinds[1], within)}}}"
    if hint in (int, float):
        number = "a whole number" if hint is int else "a number"
        return number if within is None else f"{number} {within.words}"
    return {str: "text", bool: "true or false", Any: "a value"}.get(hint, "a table of fields")
