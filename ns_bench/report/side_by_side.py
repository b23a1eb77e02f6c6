"""The scorecard's section on claims that several profiles have an effect of."""

from collections.abc import Sequence

from ns_bench.report import blocks as b
from ns_bench.report.numbers import MISSING, effect, p_value, points
from ns_bench.verdicts.analysis import Analysis
from ns_bench.verdicts.heterogeneity import POOLED_FROM, Heterogeneity, SideBySide, side_by_side


def blocks(analyses: Sequence[Analysis]) -> list[b.Block]:
    """Return a line a contrast: its effect in each profile, and whether these differ."""
    rows = side_by_side(analyses)
    if not rows:
        return []
    profiles = sorted({profile for row in rows for profile in row.effects})

    def number(name: str, row: SideBySide) -> float | None:
        return getattr(row.difference, name) if row.difference else None

    def pooled(row: SideBySide) -> str:
        found: Heterogeneity | None = row.difference
        return effect(found.pooled) if found and found.pooled else MISSING

    table = b.tabulate(
        "Profiles side by side",
        rows,
        ("study", lambda row: row.study),
        ("claim", lambda row: row.claim),
        *((name, lambda row, name=name: effect(row.effects.get(name))) for name in profiles),
        ("Q", lambda row: points(number("q", row))),
        ("p", lambda row: p_value(number("p", row))),
        ("tau", lambda row: points(number("tau", row))),
        ("pooled", pooled),
    )
    any_pooled = any(row.difference and row.difference.pooled for row in rows)
    return [
        b.Heading("Profiles side by side"),
        table if any_pooled else table.without("pooled"),
        b.Paragraph(
            "Effects are differences of the log odds of a right answer (log ratios, of claims "
            "about shares), so that profiles of other accuracies compare, with 95 % t-intervals "
            "over the seeds that the verdict rests on. Q is Cochran's, p is of no difference "
            "between the profiles (Welch's test, each line for itself: one in 20 is below .05 by "
            "chance), and tau the standard deviation of true effects between profiles "
            "(DerSimonian and Laird). A pooled effect (random effects, Hartung and Knapp) is of "
            f"{POOLED_FROM} profiles or more: fewer do not say how far profiles differ, so they "
            "are shown and not pooled."
        ),
    ]
