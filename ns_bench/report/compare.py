"""`python -m ns_bench.report compare A B`: what changed between two sets of results.

A and B are each a store of runs or a folder of published tables. Exit codes: 0, 1 if a verdict
changed and --fail-on-change was given, 2 bad input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ns_bench.arguments import option, parse, positional
from ns_bench.design.definition import study_names
from ns_bench.errors import UserError
from ns_bench.report import blocks as b
from ns_bench.report.numbers import MISSING, counted, effect
from ns_bench.verdicts.changes import Change, Comparison, compare
from ns_bench.verdicts.sources import Source, usual_profiles

_EITHER = "a store of runs, or a folder of published results"


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What `python -m ns_bench.report compare` is asked."""

    a: Path = positional(_EITHER, type=Path, metavar="A")
    b: Path = positional(_EITHER, type=Path, metavar="B")
    study: tuple[str, ...] = option("may be given several times", default=(), metavar="STUDY")
    profile: tuple[str, ...] = option("may be given several times", default=(), metavar="PROFILE")
    between: tuple[str, str] | None = option(
        "A's results in P with B's in Q", nargs=2, metavar=("P", "Q")
    )
    out: Path | None = option(
        "also write compare.md and compare.html there", type=Path, metavar="DIR"
    )
    fail_on_change: bool = option("exit code 1 if a verdict changed", default=False)


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = parse(
        CompareOptions,
        arguments,
        prog="python -m ns_bench.report compare",
        description="Show which verdicts, effects, runs and recipes differ between A and B.",
    )
    if options.between and options.profile:
        raise UserError("--between names both profiles already: --profile has no place beside it")
    pairs = [(name, name) for name in dict.fromkeys(options.profile or usual_profiles())]
    if options.between:
        pairs = [options.between]
    sources = Source(options.a), Source(options.b)
    comparison = compare(*sources, options.study or study_names(), pairs)
    _show(comparison)
    if options.out:
        for path in write(comparison, options.out):
            print(f"comparison: {path}")
    return 1 if options.fail_on_change and comparison.changed else 0


def content(comparison: Comparison) -> b.Page:
    """Return the comparison as a page."""
    sides = zip("AB", (comparison.a, comparison.b), comparison.commits, strict=True)
    return b.Page(
        "Comparison",
        [
            b.Notes([b.Span(_summary(comparison), bold=True)]),
            b.Items(
                [
                    [f"{name}: ", b.Span(str(path), code=True), f", commit {commits or MISSING}"]
                    for name, path, commits in sides
                ]
            ),
            b.Heading("Verdicts and effects"),
            _verdicts(comparison.common),
            b.Paragraph(
                "B - A is the mean difference of the two effects with its 95 % t-interval: by seed "
                "where they share two seeds or more, else Welch's. A claim that is new in B is no "
                "change, nor is one that A had no "
                "verdict on for want of seeds; one that B has no more is."
            ),
            *_alone(comparison),
            b.Heading("Runs that only one has"),
            *_only(comparison),
            b.Heading("Recipe fields that differ"),
            *_fields(comparison),
        ],
    )


def _verdicts(changes: Sequence[Change]) -> b.Table:
    table = b.tabulate(
        "Verdicts and effects",
        changes,
        ("study", lambda change: change.study),
        ("claim", lambda change: change.claim),
        ("profile", lambda change: change.where),
        ("verdict", lambda change: b.Span(change.state, bold=change.changed)),
        ("in A", lambda change: b.Span(change.words[0] or MISSING, verdict=True)),
        ("in B", lambda change: b.Span(change.words[1] or MISSING, verdict=True)),
        ("effect in A", lambda change: effect(change.effects and change.effects[0])),
        ("effect in B", lambda change: effect(change.effects and change.effects[1])),
        ("B - A", lambda change: effect(change.difference, change.how)),
    )
    filters = {
        "study": [{change.study} for change in changes],
        "verdict": [{change.state} for change in changes],
    }
    return replace(table, sortable=True, filters=filters)


def _alone(comparison: Comparison) -> list[b.Block]:
    """Return the claims that only one side has, folded away."""
    blocks: list[b.Block] = []
    for i, name in enumerate("AB"):
        if changes := comparison.alone(i):
            header = ["study", "claim", "profile", "verdict"]
            rows: list[list[b.Text]] = [
                [
                    change.study,
                    change.claim,
                    change.where,
                    b.Span(change.words[i] or MISSING, verdict=True),
                ]
                for change in changes
            ]
            table = b.Table(f"Claims only in {name}", header, rows)
            blocks.append(b.Details(f"{counted(len(changes), 'claim')} only in {name}", [table]))
    return blocks


def _only(comparison: Comparison) -> list[b.Block]:
    if not comparison.only:
        return [b.Paragraph("None: both have every arm at the same seeds.")]
    blocks: list[b.Block] = []
    for i, name in enumerate("AB"):
        if runs := comparison.runs(i):
            rows: list[list[b.Text]] = [
                [only.study, only.where, str(len(only.runs[i]))]
                for only in comparison.only
                if only.runs[i]
            ]
            table = b.Table(f"Runs only in {name}", ["study", "profile", "runs"], rows)
            ids: list[b.Text] = [b.Span(run, code=True) for run in runs]
            title = f"{counted(len(runs), 'run')} only in {name}"
            blocks.append(b.Details(title, [table, b.Items(ids)]))
    return blocks


def _fields(comparison: Comparison) -> list[b.Block]:
    blocks: list[b.Block] = []
    if comparison.fields:
        table = b.tabulate(
            "Recipe fields that differ",
            comparison.fields,
            ("study", lambda row: row.study),
            ("profile", lambda row: row.where),
            ("field", lambda row: b.Span(row.field, code=True)),
            ("in A", lambda row: row.values[0]),
            ("in B", lambda row: row.values[1]),
            ("arms", lambda row: row.arms),
        )
        blocks.append(table)
    elif not comparison.unknown:
        blocks.append(b.Paragraph("None: runs of one arm and seed have one recipe."))
    if comparison.unknown:
        blocks.append(
            b.Paragraph(
                f"{comparison.unknown} pairs of runs have other ids, and one recipe is not there "
                "to be read: tables have none."
            )
        )
    return blocks


def _summary(comparison: Comparison) -> str:
    lost = sum(change.words[1] is None for change in comparison.changed)
    both = counted(len(comparison.common), "verdict")
    gone = f", {lost} more {'is' if lost == 1 else 'are'} only in A" if lost else ""
    return f"{len(comparison.changed) - lost} of {both} changed{gone}."


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write compare.md and compare.html; the same results give the same bytes."""
    from ns_bench.report import formats

    path = formats.write(content(comparison), folder / "compare")
    return [path, path.with_suffix(".html")]


def _show(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    table = Table(title=Text(f"A: {comparison.a}   B: {comparison.b}"), title_justify="left")
    for column in ("study", "profile", "claim", "A", "B", "B - A, 95 % interval"):
        table.add_column(column)
    for change in comparison.common:
        cells = [change.study, change.where, change.claim, change.words[0] or ""]
        table.add_row(
            *map(Text, cells),
            Text(change.words[1] or "", style="bold red" if change.changed else ""),
            Text(effect(change.difference)),
        )
    console.print(table)
    for i, name in enumerate("AB"):
        found = {"claim": len(comparison.alone(i)), "run": len(comparison.runs(i))}
        if any(found.values()):
            counts = " and ".join(counted(n, thing) for thing, n in found.items() if n)
            console.print(Text(f"only in {name}: {counts}", style="yellow"))
    for row in comparison.fields:
        values = f"{row.field} is {row.values[0]} in A, {row.values[1]} in B"
        console.print(Text(f"{row.study} ({row.where}), {row.arms}: {values}"), soft_wrap=True)
    if comparison.unknown:
        console.print(f"{comparison.unknown} pairs of runs have other ids; no recipe to compare")
    style = "bold red" if comparison.changed else "bold"
    console.print(Text(_summary(comparison), style=style))
