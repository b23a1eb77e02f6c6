"""`python -m ns_bench.report compare A B`: what changed between two sets of results.

A and B are each a store of runs or a folder of published tables. Exit codes: 0, 1 if a verdict
changed and --fail-on-change was given, 2 bad input.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ns_bench.design.definition import study_names
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe
from ns_bench.verdicts.sources import Source, load_all, usual_profiles

if TYPE_CHECKING:
    from ns_bench.report.blocks import Page
    from ns_bench.verdicts.analysis import Analysis, ClaimResult
    from ns_bench.verdicts.statistics import Interval


INCOMPLETE = "incomplete"
"""In place of a verdict where seeds are missing: there is none before all are in."""


@dataclass(frozen=True)
class Change:
    """A claim in A and in B, of which one may not have it.

    Attributes:
        where: the profile, or both.
        words: the verdicts; None where there is no such claim.
        effects: each side's effect on the contrast that is compared, as text.
        difference: B's effect minus A's, or None where either has no data.
        how: how the difference was made.
    """

    study: str
    where: str
    claim: str
    words: tuple[str | None, str | None]
    effects: tuple[str, str]
    difference: "Interval | None"
    how: str

    @property
    def changed(self) -> bool:
        """Whether B says otherwise than A, or nothing any more; what is new in B is no change."""
        return self.words[0] not in (None, INCOMPLETE) and self.words[0] != self.words[1]

    @property
    def state(self) -> str:
        if None in self.words:
            return "only in B" if self.words[0] is None else "only in A"
        return "changed" if self.changed else "same"


@dataclass(frozen=True)
class Fields:
    """A recipe field in which runs of one arm and seed differ, with its values in A and in B."""

    study: str
    where: str
    field: str
    values: tuple[str, str]
    arms: str


@dataclass(frozen=True)
class Only:
    """Finished runs (arm and seed) of a study that just one side has."""

    study: str
    where: str
    runs: tuple[list[str], list[str]]


@dataclass(frozen=True)
class Comparison:
    a: Path
    b: Path
    commits: tuple[str, str]
    changes: list[Change]
    only: list[Only]
    fields: list[Fields]
    unknown: int
    """Runs of another id on the other side, of which one recipe is not there to be read."""

    @property
    def changed(self) -> list[Change]:
        return [change for change in self.changes if change.changed]


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    a, b = Source(options.a), Source(options.b)
    names = options.study or study_names()
    if options.between and options.profile:
        raise UserError("--between names both profiles already: --profile has no place beside it")
    pairs = (
        [tuple(options.between)]
        if options.between
        else [(name, name) for name in dict.fromkeys(options.profile or usual_profiles())]
    )
    found = compare(a, b, names, pairs)
    _show(found)
    if options.out:
        for path in write(found, options.out):
            print(f"comparison: {path}")
    return 1 if options.fail_on_change and found.changed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ns_bench.report compare",
        description="Show which verdicts, effects, runs and recipes differ between A and B.",
    )
    add = parser.add_argument
    either = "a store of runs, or a folder of published results"
    add("a", type=Path, metavar="A", help=either)
    add("b", type=Path, metavar="B", help=either)
    add("--study", action="append", metavar="STUDY", help="may be given several times")
    add("--profile", action="append", metavar="PROFILE", help="may be given several times")
    add("--between", nargs=2, metavar=("P", "Q"), help="A's results in P with B's in Q")
    add("--out", type=Path, metavar="DIR", help="also write compare.md and compare.html there")
    add("--fail-on-change", action="store_true", help="exit code 1 if a verdict changed")
    return parser


def compare(
    a: Source, b: Source, names: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> Comparison:
    """Compare every study that either has, in A's and B's profile of each pair.

    Raises:
        UserError: there is no study that both have.
    """
    changes: list[Change] = []
    only: list[Only] = []
    fields: list[Fields] = []
    unknown, common = 0, 0
    commits: tuple[set[str], set[str]] = (set(), set())
    both_names = list(dict.fromkeys(chain.from_iterable(pairs)))
    studies, loaded = load_all(names, both_names)
    profiles = dict(zip(both_names, loaded, strict=True))
    for study in studies:
        for p, q in pairs:
            both = a.analysis(study, profiles[p]), b.analysis(study, profiles[q])
            where = p if p == q else f"{p} | {q}"
            for side, analysis in zip(commits, both, strict=True):
                if analysis is not None and "git" in analysis.runs:
                    side.update(set(analysis.runs["git"].astype(str)) - {""})
            if both == (None, None):
                continue
            common += None not in both
            changes += _claims(study.name, where, *both)
            only += _runs(study.name, where, *both)
            if both[0] is not None and both[1] is not None:
                more, unread = _recipes(study.name, where, (a, both[0]), (b, both[1]))
                fields += more
                unknown += unread
    if not common:
        raise UserError(f"{a.root} and {b.root} have results of no study in common")
    said = tuple(", ".join(sorted(commit[:12] for commit in side)) for side in commits)
    return Comparison(a.root, b.root, (said[0], said[1]), changes, only, fields, unknown)


def _claims(study: str, where: str, a: "Analysis | None", b: "Analysis | None") -> list[Change]:
    sides = [_by_text(a), _by_text(b)]
    changes = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        first, second = (side.get(key) for side in sides)
        words = (
            _word(a, first) if a and first else None,
            _word(b, second) if b and second else None,
        )
        difference, how, effects = None, "", ("", "")
        if a and b and first and second:
            difference, how, effects = _difference(a, first, b, second)
        changes.append(Change(study, where, key[0], words, effects, difference, how))
    return changes


def _word(analysis: "Analysis", result: "ClaimResult") -> str:
    missing = result.claim.contrasts and result.n < analysis.seeds
    return INCOMPLETE if missing else analysis.word(result)


def _by_text(analysis: "Analysis | None") -> dict[tuple[str, int], "ClaimResult"]:
    """Return claims by their text; a study may say the same twice."""
    found: dict[tuple[str, int], ClaimResult] = {}
    for result in analysis.claims if analysis else []:
        count = sum(text == result.claim.text for text, _ in found)
        found[result.claim.text, count] = result
    return found


def _difference(
    a: "Analysis", first: "ClaimResult", b: "Analysis", second: "ClaimResult"
) -> tuple["Interval | None", str, tuple[str, str]]:
    """Return B's effect minus A's with its interval, how it was made, and both effects in words.

    Of a claim about several contrasts the one that B shows, its weakest, is compared.
    """
    from ns_bench.report.numbers import interval, signed
    from ns_bench.verdicts.analysis import by_seed
    from ns_bench.verdicts.statistics import mean_interval, unpaired_difference

    ours, theirs = (
        by_seed(result.claim, analysis.values(result.claim.metric))
        for analysis, result in ((a, first), (b, second))
    )
    which = second.verdict.shown
    if len(ours) <= which or len(theirs) <= which:
        return None, "", ("", "")
    x, y = ours[which], theirs[which]
    effects = tuple(
        f"{signed(i.mean)} {interval(i, sign=True)}" for i in map(mean_interval, (x, y))
    )
    where = f", {second.label}" if second.label else ""
    shared = x.index.intersection(y.index)
    if len(shared) > 1:
        found = mean_interval(y[shared] - x[shared])
        how = f"paired by {len(shared)} seeds{where}"
    else:
        found = unpaired_difference(y, x)
        how = f"not paired, {len(x)} and {len(y)} seeds{where}"
    return found, how, (effects[0], effects[1])


def _done(analysis: "Analysis | None") -> dict[tuple[str, int], str]:
    """Return {(arm, seed): run} of what is done."""
    if analysis is None:
        return {}
    rows = analysis.runs[(analysis.runs["arm"] != "") & (analysis.runs["state"] == "done")]
    return {(arm, int(s)): run for arm, s, run in rows[["arm", "seed", "run"]].to_numpy()}


def _runs(study: str, where: str, a: "Analysis | None", b: "Analysis | None") -> list[Only]:
    ours, theirs = _done(a), _done(b)
    missing = (
        [run for key, run in ours.items() if key not in theirs],
        [run for key, run in theirs.items() if key not in ours],
    )
    return [Only(study, where, missing)] if any(missing) else []


def _recipes(
    study: str, where: str, a: tuple[Source, "Analysis"], b: tuple[Source, "Analysis"]
) -> tuple[list[Fields], int]:
    """Return the fields in which runs of one arm and seed differ, and how many are not readable."""
    ours, theirs = _done(a[1]), _done(b[1])
    designs = [{arm.name: arm.recipe for arm in x.study.design(x.profile).arms} for _, x in (a, b)]
    arms: dict[tuple[str, str, str], list[str]] = {}
    unread = 0
    for key in ours.keys() & theirs.keys():
        if ours[key] == theirs[key]:
            continue
        first = _recipe(a[0], designs[0], key, ours[key])
        second = _recipe(b[0], designs[1], key, theirs[key])
        if first is None or second is None:
            unread += 1
            continue
        for field in dict.fromkeys([*first, *second]):
            values = (first.get(field, "none"), second.get(field, "none"))
            if values[0] != values[1]:
                arms.setdefault((field, *values), []).append(key[0])
    every = {arm for arm, _ in ours.keys() & theirs.keys()}
    found = []
    for (field, x, y), names in sorted(arms.items()):
        some = sorted(set(names))
        found.append(
            Fields(study, where, field, (x, y), "all" if set(some) == every else ", ".join(some))
        )
    return found, unread


def _recipe(
    source: Source, design: Mapping[str, Recipe], key: tuple[str, int], run_id: str
) -> dict[str, str] | None:
    """Return a run's recipe as {dotted field: value}: as it was stored, or as the study has it."""
    stored = source.recipe(run_id)
    if stored is None:
        recipe = design[key[0]].at_seed(key[1])
        stored = recipe.to_dict() if recipe.id == run_id else None
    return None if stored is None else _dotted(stored)


def _dotted(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _dotted(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def content(found: Comparison) -> "Page":
    """Return the comparison as a page."""
    from ns_bench.report.blocks import (
        Block,
        Details,
        Heading,
        Items,
        Notes,
        Page,
        Paragraph,
        Span,
        Table,
        Text,
    )
    from ns_bench.report.numbers import MISSING, interval, mean_of, signed

    rows: list[list[Text]] = [
        [
            change.study,
            change.claim,
            change.where,
            Span(change.state, bold=change.changed),
            *(word or MISSING for word in change.words),
            *(effect or MISSING for effect in change.effects),
            f"{signed(mean_of(change.difference))} {interval(change.difference, sign=True)}"
            if change.difference
            else MISSING,
            change.how or MISSING,
        ]
        for change in found.changes
    ]
    header = ["study", "claim", "profile", "verdict", "in A", "in B", "effect in A", "effect in B"]
    blocks: list[Block] = [
        Notes([Span(_summary(found), bold=True)]),
        Items(
            [
                [Span(f"{name}: "), Span(str(path), code=True), f", commit {commits or MISSING}"]
                for name, path, commits in zip("AB", (found.a, found.b), found.commits, strict=True)
            ]
        ),
        Heading("Verdicts and effects"),
        Table(
            "Verdicts and effects",
            [*header, "B - A, 95 % interval", "how"],
            rows,
            sortable=True,
            filters={
                "study": [{change.study} for change in found.changes],
                "verdict": [{change.state} for change in found.changes],
            },
        ),
        Paragraph(
            "B - A is the mean difference of the two effects with its 95 % t-interval: by seed "
            "where they share two seeds or more, else Welch's. A claim that is new in B is no "
            "change, nor is one that A had no "
            "verdict on for want of seeds; one that B has no more is."
        ),
        Heading("Runs that only one has"),
    ]
    if found.only:
        counts: list[list[Text]] = [
            [o.study, o.where, *(str(len(runs)) for runs in o.runs)] for o in found.only
        ]
        blocks.append(
            Table("Runs that only one has", ["study", "profile", "only A", "only B"], counts)
        )
        for i, name in enumerate("AB"):
            ids: list[Text] = [Span(run, code=True) for o in found.only for run in o.runs[i]]
            if ids:
                blocks.append(Details(f"only in {name}", [Items(ids)]))
    else:
        blocks.append(Paragraph("None: both have every arm at the same seeds."))
    blocks.append(Heading("Recipe fields that differ"))
    if found.fields:
        fields: list[list[Text]] = [
            [f.study, f.where, Span(f.field, code=True), *f.values, f.arms] for f in found.fields
        ]
        blocks.append(
            Table(
                "Recipe fields that differ",
                ["study", "profile", "field", "in A", "in B", "arms"],
                fields,
            )
        )
    elif not found.unknown:
        blocks.append(Paragraph("None: runs of one arm and seed have one recipe."))
    if found.unknown:
        blocks.append(
            Paragraph(
                f"{found.unknown} pairs of runs have other ids, and one recipe is not there to be "
                "read: tables have none."
            )
        )
    return Page("Comparison", blocks)


def _summary(found: Comparison) -> str:
    both = sum(None not in change.words for change in found.changes)
    lost = sum(change.changed and change.words[1] is None for change in found.changes)
    text = f"{len(found.changed) - lost} of {both} verdicts changed"
    gone = f", {lost} more are only in A" if lost else ""
    return f"{text}{gone}."


def write(found: Comparison, folder: Path) -> list[Path]:
    """Write compare.md and compare.html; the same results give the same bytes."""
    from ns_bench.files import publish
    from ns_bench.report import html, markdown

    folder.mkdir(parents=True, exist_ok=True)
    said = content(found)
    paths = [folder / "compare.md", folder / "compare.html"]
    publish(paths[0], markdown.render(said).encode())
    publish(paths[1], html.render(said, {}).encode())
    return paths


def _show(found: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ns_bench.report.numbers import MISSING, interval, signed

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    table = Table(title=Text(f"A: {found.a}   B: {found.b}"), title_justify="left")
    for column in ("study", "profile", "claim", "A", "B", "B - A, 95 % interval"):
        table.add_column(column)
    for change in found.changes:
        if None in change.words:  # one side has no such study or claim: counted below
            continue
        d = change.difference
        style = "bold red" if change.changed else ""
        table.add_row(
            Text(change.study),
            Text(change.where),
            Text(change.claim),
            change.words[0] or MISSING,
            Text(change.words[1] or MISSING, style=style),
            MISSING
            if d is None or math.isnan(d.mean)
            else Text(f"{signed(d.mean)} {interval(d, sign=True)}"),
        )
    console.print(table)
    for o in found.only:
        for name, runs in zip("AB", o.runs, strict=True):
            if runs:
                note = f"only in {name}: {len(runs)} runs of {o.study} ({o.where})"
                console.print(Text(note, style="yellow"), soft_wrap=True)
    for f in found.fields:
        note = (
            f"{f.study} ({f.where}), {f.arms}: {f.field} is {f.values[0]} in A, {f.values[1]} in B"
        )
        console.print(Text(note), soft_wrap=True)
    if found.unknown:
        console.print(f"{found.unknown} pairs of runs have other ids; no recipe to compare")
    console.print(Text(_summary(found), style="bold red" if found.changed else "bold"))
