"""Rows of text in columns."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], numbers: bool = False) -> list[str]:
    """Return a line for each row, cells of a column under each other, two spaces between.

    Args:
        numbers: whether all columns but the first are numbers, which end under each other.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [str.ljust, *[str.rjust if numbers else str.ljust] * (len(widths) - 1)]
    return [
        "  ".join(
            side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
