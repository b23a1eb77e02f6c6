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
from ns_bench.report.numbers import MISSING, effect
from ns_bench.verdicts.changes import Change, Comparison, Only, compare
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
            _verdicts(comparison.changes),
            b.Paragraph(
                "B - A is the mean difference of the two effects with its 95 % t-interval: by seed "
                "where they share two seeds or more, else Welch's. A claim that is new in B is no "
                "change, nor is one that A had no "
                "verdict on for want of seeds; one that B has no more is."
            ),
            b.Heading("Runs that only one has"),
            *_only(comparison.only),
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
        ("in A", lambda change: change.words[0] or MISSING),
        ("in B", lambda change: change.words[1] or MISSING),
        ("effect in A", lambda change: effect(change.effects and change.effects[0])),
        ("effect in B", lambda change: effect(change.effects and change.effects[1])),
        ("B - A, 95 % interval", lambda change: effect(change.difference)),
        ("how", lambda change: change.how or MISSING),
    )
    filters = {
        "study": [{change.study} for change in changes],
        "verdict": [{change.state} for change in changes],
    }
    return replace(table, sortable=True, filters=filters)


def _only(only: Sequence[Only]) -> list[b.Block]:
    if not only:
        return [b.Paragraph("None: both have every arm at the same seeds.")]
    blocks: list[b.Block] = [
        b.tabulate(
            "Runs that only one has",
            only,
            ("study", lambda runs: runs.study),
            ("profile", lambda runs: runs.where),
            ("only A", lambda runs: str(len(runs.runs[0]))),
            ("only B", lambda runs: str(len(runs.runs[1]))),
        )
    ]
    for i, name in enumerate("AB"):
        ids: list[b.Text] = [b.Span(run, code=True) for runs in only for run in runs.runs[i]]
        if ids:
            blocks.append(b.Details(f"only in {name}", [b.Items(ids)]))
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
    both = sum(None not in change.words for change in comparison.changes)
    lost = sum(change.words[1] is None for change in comparison.changed)
    text = f"{len(comparison.changed) - lost} of {both} verdicts changed"
    gone = f", {lost} more are only in A" if lost else ""
    return f"{text}{gone}."


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
    for change in comparison.changes:
        if None not in change.words:  # where one side has no such study or claim: counted below
            style = "bold red" if change.changed else ""
            cells = [change.study, change.where, change.claim, change.words[0] or ""]
            table.add_row(
                *map(Text, cells),
                Text(change.words[1] or "", style=style),
                Text(effect(change.difference)),
            )
    console.print(table)
    for only in comparison.only:
        for name, runs in zip("AB", only.runs, strict=True):
            if runs:
                note = f"only in {name}: {len(runs)} runs of {only.study} ({only.where})"
                console.print(Text(note, style="yellow"), soft_wrap=True)
    for row in comparison.fields:
        values = f"{row.field} is {row.values[0]} in A, {row.values[1]} in B"
        console.print(Text(f"{row.study} ({row.where}), {row.arms}: {values}"), soft_wrap=True)
    if comparison.unknown:
        console.print(f"{comparison.unknown} pairs of runs have other ids; no recipe to compare")
    style = "bold red" if comparison.changed else "bold"
    console.print(Text(_summary(comparison), style=style))
