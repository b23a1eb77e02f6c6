"""One rule for every number a person reads: points and percent with two decimals, p with three."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ns_bench.verdicts.statistics import Interval

MISSING = "–"  # noqa: RUF001


def mean_of(value: "Interval | None") -> float | None:
    """Return the mean of an interval or contrast, None where there is none."""
    return None if value is None else value.mean


def points(value: float | None) -> str:
    """Return a percentage or a number of points, e.g. `88.40`."""
    return MISSING if value is None or math.isnan(value) else f"{value:.2f}".replace("inf", "∞")


def signed(value: float | None) -> str:
    """Return a difference in points, e.g. `+3.10`."""
    return MISSING if value is None or math.isnan(value) else f"{value:+.2f}".replace("inf", "∞")


def interval(value: "Interval | None", *, sign: bool = False) -> str:
    """Return the bounds, e.g. `[86.90, 89.90]`; a dash where one seed gives none."""
    if value is None or math.isnan(value.low):
        return MISSING
    show = signed if sign else points
    return f"[{show(value.low)}, {show(value.high)}]"


def effect(value: "Interval | None", unit: str = "") -> str:
    """Return a mean difference with its bounds, e.g. `+3.10 [+2.90, +3.30] points`."""
    if value is None:
        return MISSING
    return " ".join(filter(None, [signed(value.mean), interval(value, sign=True), unit]))


def counted(number: int, thing: str) -> str:
    """Return a number of things, e.g. `1 run` or `1,234 runs`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def rounded(value: float) -> str:
    """Return a rough number as people say it: 0.25, 2.5, 27, 1,234."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


def p_value(value: float | None) -> str:
    """Return a p-value, e.g. `.008`, or `<.001`."""
    if value is None or math.isnan(value):
        return MISSING
    return "<.001" if value < 0.0005 else f"{min(value, 1):.3f}".removeprefix("0")


def share(value: float | None) -> str:
    """Return a share as a percentage without decimals, e.g. `88 %`."""
    return MISSING if value is None or math.isnan(value) else f"{100 * value:.0f} %"
