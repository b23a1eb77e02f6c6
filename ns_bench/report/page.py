"""The report of one study: Markdown, the table of every run, and the figure."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ns_bench import paper
from ns_bench.report import figure
from ns_bench.report.analysis import Analysis
from ns_bench.report.numbers import MISSING, interval, mean_of, p_value, points, share, signed
from ns_bench.store import publish


def write(analysis: Analysis, folder: Path) -> Path:
    """Write report.md, runs.csv, curves.csv and the figure into `folder`; returns the page.

    Built from stored results alone: the same results give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure.save(analysis, folder)
    for name, frame in (("runs", analysis.runs), ("curves", analysis.curves)):
        publish(folder / f"{name}.csv", frame.to_csv(index=False).encode())
    path = folder / "report.md"
    publish(path, markdown(analysis).encode())
    return path


def markdown(analysis: Analysis) -> str:
    """Return the page as Markdown."""
    study, profile = analysis.study, analysis.profile
    sections = [
        f"# {_escape(analysis.title)}",
        f"**{_escape(study.question)}** (paper: {_escape(study.source)})",
        _banner(analysis),
        "## Verdicts",
        _verdicts(analysis),
        f"![{_escape(study.name)}: test top-1 of every seed by arm, and the effect of each claim]"
        f"({study.name}.png)",
        "## Arms",
        _arms(analysis),
        "## The paper beside it",
        _paper(analysis),
        "## Pseudo-labels (diagnostic, against the hidden truth)",
        _pseudo(analysis),
        "## What varies, what is held",
        _held(analysis),
        "## Runs",
        _runs(analysis),
        f"Profile: {_escape(profile.title)}.",
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _banner(analysis: Analysis) -> str:
    lines = []
    if not analysis.profile.verdict:
        lines.append("> **Smoke run.** The budget is too small to judge anything: no verdict.")
    if analysis.unfinished:
        states = pd.Series([run.state for run in analysis.unfinished]).value_counts().sort_index()
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        lines.append(f"> **Incomplete: {counts}.** See the runs below.")
    if analysis.changed:
        changed = ", ".join(f"`{field}={value}`" for field, value in analysis.changed.items())
        lines.append(f"> Fields set by hand: {changed}.")
    return "\n>\n".join(lines)


def _verdicts(analysis: Analysis) -> str:
    rows = []
    for result in analysis.claims:
        c = result.contrast
        rows.append(
            [
                result.claim.text,
                f"**{analysis.word(result)}**",
                f"{signed(mean_of(c))} {interval(c, sign=True)} {result.claim.unit}",
                p_value(c.p if c else None),
                p_value(result.p_holm),
                share(c.wins if c else None),
                result.claim.paper or MISSING,
            ]
        )
    header = ["claim", "verdict", "effect, 95 % interval", "p", "Holm p", "seeds won", "the paper"]
    lines = [_table(header, rows), ""]
    for result in analysis.claims if analysis.profile.verdict else []:
        needed = ""
        if result.verdict.word == "inconclusive" and result.contrast is not None:
            more = None if result.seeds is None else result.seeds - result.contrast.n
            if more is None:
                needed = " Seeds for a verdict: not to be had with fewer than 1,000."
            elif more > 0:
                needed = f" At this mean and spread a verdict needs about {more} more seeds."
            if result.contrast.n < analysis.seeds:
                needed = ""
        text = f"{result.claim.text} **{result.verdict.word}**: {result.verdict.reason}.{needed}"
        lines.append(f"- {_escape(text)}")
    lines += [
        "",
        "Effects are means of paired differences (or slopes) by seed with 95 % t-intervals; p is "
        "an exact two-sided sign-flip test, Holm over this study's claims. `equivalent` means "
        "that the whole interval is smaller than the smallest effect of interest, stated before "
        "any run: "
        + "; ".join(
            f"{r.claim.smallest_effect:g} {r.claim.unit}"
            for r in {r.claim.unit: r for r in analysis.claims}.values()
        )
        + ".",
    ]
    return "\n".join(lines)


def _arms(analysis: Analysis) -> str:
    rows = []
    for arm in analysis.arms:
        d = arm.difference
        rows.append(
            [
                arm.name,
                f"{arm.n}/{analysis.seeds}",
                points(mean_of(arm.interval)),
                interval(arm.interval),
                "baseline" if arm.is_baseline else signed(mean_of(d)),
                MISSING if arm.is_baseline else interval(d, sign=True),
                MISSING if arm.is_baseline else share(d.wins if d else None),
                MISSING if arm.is_baseline else points(d.effect_size if d else None),
                points(arm.training_seconds),
            ]
        )
    header = [
        "arm",
        "n",
        "top-1 (%)",
        "95 % interval",
        "vs baseline",
        "95 % interval",
        "seeds won",
        "d_z",
        "training (s)",
    ]
    return _table(header, rows)


def _paper(analysis: Analysis) -> str:
    published = paper.rows(analysis.study.name)
    rows = []
    for arm in analysis.arms:
        for row in published:
            if arm.paper and row.arm == arm.paper and row.metric == "top1":
                rows.append(
                    [
                        arm.name,
                        points(mean_of(arm.interval)),
                        row.arm,
                        points(row.value),
                        row.version,
                        row.source + ("" if row.verified else " (unverified)"),
                    ]
                )
    if not rows:
        return ""
    header = ["our arm", "ours (%)", "the paper's arm", "its top-1 (%)", "version", "source"]
    return (
        _table(header, rows) + "\n\nThe paper reports single runs on ImageNet, without error bars: "
        "directions can be compared, sizes hardly."
    )


def _pseudo(analysis: Analysis) -> str:
    runs = analysis.runs
    if "pseudo_accuracy_used" not in runs:
        return ""
    rows = []
    for arm in analysis.arms:
        mine = runs[(runs["arm"] == arm.name) & runs["pseudo_accuracy_used"].notna()]
        if len(mine):
            mean = mine[
                [
                    "teacher_test_top1",
                    "pseudo_coverage",
                    "pseudo_accuracy_pool",
                    "pseudo_accuracy_used",
                    "pseudo_confidence",
                ]
            ].mean()
            rows.append([arm.name, points(mean.iloc[0]), *map(share, mean.iloc[1:])])
    header = [
        "arm",
        "teacher's top-1 (%)",
        "pool used",
        "right in the pool",
        "right where used",
        "mean confidence",
    ]
    return _table(header, rows)


def _held(analysis: Analysis) -> str:
    spec = analysis.profile.fields
    return (
        f"A seed is end to end: it sets the split, the teacher's and the student's initial "
        f"weights, the order of rows and every draw of noise; arms of one seed share all of "
        f"these and are compared in pairs. Held: {spec['data.labeled']} labels, "
        f"{spec['data.validation']} validation and {spec['data.test']} test rows, and the recipe. "
        "The test rows are read once, by the averaged weights after the last step."
    )


def _runs(analysis: Analysis) -> str:
    lines = []
    if analysis.unfinished:
        lines += ["Not done:", ""]
        lines += [f"- **{r.state}** `{r.id}` {_escape(r.reason)}" for r in analysis.unfinished]
        lines.append("")
    rows = [
        [row["arm"], str(row["seed"]), row["state"], points(row["test_top1"]), f"`{row['run']}`"]
        for row in analysis.runs.to_dict("records")
    ]
    table = _table(["arm", "seed", "state", "top-1 (%)", "run"], rows)
    lines += ["<details><summary>every run</summary>", "", table, "", "</details>"]
    if "git" in analysis.runs:
        lines += ["", _provenance(analysis.runs)]
    changed = "".join(f" --set {field}={value}" for field, value in analysis.changed.items())
    command = (
        f"python -m ns_bench.study {analysis.study.name} --profile {analysis.profile.name} "
        f"--seeds {analysis.seeds}{changed}"
    )
    lines += ["", "To reproduce:", "", f"    {command}"]
    return "\n".join(lines)


def _provenance(runs: pd.DataFrame) -> str:
    done = runs.dropna(subset=["test_top1"])

    def values(column: str) -> str:
        return ", ".join(sorted({str(v) for v in done[column].dropna()})) or MISSING

    dirty = " (with uncommitted changes)" if (done["dirty"] == True).any() else ""  # noqa: E712
    return (
        f"Made with torch {values('torch')}, timm {values('timm')} on {values('device')}, "
        f"commit {values('git')}{dirty}."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Keep names and messages from being read as markup."""
    text = " ".join(str(text).split())
    return text.replace("|", "\\|").replace("<", "&lt;")
