"""The report of one study: Markdown, the table of every run, and the figure."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ns_bench import paper
from ns_bench.definition import Profile, Study
from ns_bench.report import figure
from ns_bench.report.analysis import Analysis, ClaimResult
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


def folder_name(study: Study, profile: Profile) -> str:
    """Return the name of the folder that a study's report in a profile is in."""
    return f"{study.name}-{profile.name}"


def markdown(analysis: Analysis) -> str:
    """Return the page as Markdown."""
    study, profile = analysis.study, analysis.profile
    sections = [
        f"# {escape(analysis.title)}",
        f"**{escape(study.question)}** (paper: {escape(study.source)})",
        _banner(analysis),
        "## Verdicts",
        _verdicts(analysis),
        f"![{escape(study.name)}: test top-1 of every seed by arm, and the effect of each claim]"
        f"({study.name}.png)",
        "## Arms",
        _arms(analysis),
        _paper(analysis),
        _pseudo(analysis),
        "## What varies, what is held",
        _held(analysis),
        "## Runs",
        _runs(analysis),
        f"Profile: {escape(profile.title)}.",
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _banner(analysis: Analysis) -> str:
    lines = []
    usual = analysis.profile.seeds
    if not analysis.profile.verdict:
        lines.append("> **Smoke run.** The budget is too small to judge anything: no verdict.")
    if analysis.unfinished:
        states = pd.Series([run.state for run in analysis.unfinished]).value_counts().sort_index()
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        lines.append(f"> **Incomplete: {counts}.** See the runs below.")
    if analysis.foreign:
        lines.append(
            f"> **{analysis.foreign} runs have another recipe** than this study gives them in this "
            "profile now."
        )
    if analysis.seeds != usual:
        lines.append(f"> {analysis.seeds} seeds, where the profile has {usual}.")
    if analysis.changed:
        changed = ", ".join(f"`{field}={value}`" for field, value in analysis.changed.items())
        lines.append(f"> Fields set by hand: {changed}.")
    return "\n>\n".join(lines)


def _verdicts(analysis: Analysis) -> str:
    rows = []
    for result in analysis.claims:
        c = result.contrast
        where = f"; weakest contrast: {result.label}" if result.label else ""
        rows.append(
            [
                result.claim.text,
                f"**{analysis.word(result)}**",
                MISSING
                if c is None
                else f"{signed(c.mean)} {interval(c, sign=True)} {result.claim.unit}{where}",
                seeds_of(analysis, result),
                p_value(result.p),
                p_value(result.p_holm),
                share(c.wins if c else None),
                papers(result),
            ]
        )
    header = ["claim", "verdict", "effect, 95 % interval", "n", "p", "Holm p", "seeds won"]
    lines = [table([*header, "the paper"], rows), ""]
    for result in analysis.claims if analysis.profile.verdict else []:
        text = f"{result.claim.text} **{result.verdict.word}**: {result.verdict.reason}."
        lines.append(f"- {escape(text)}{_more_seeds(analysis, result)}")
    smallest = dict.fromkeys(
        f"{r.claim.smallest_effect:.3g} {r.claim.unit}"
        for r in analysis.claims
        if r.claim.contrasts
    )
    lines += [
        "",
        "Effects are means of paired differences (or slopes) by seed with 95 % t-intervals; p is "
        "an exact sign-flip test of what the claim has to beat: no difference, or for `not worse` "
        "and `equivalent` claims one that matters; Holm over this study's claims. A claim about "
        "several contrasts holds if each does: the weakest is shown. `equivalent` means that the "
        "whole interval is smaller than the smallest effect of interest, stated before any run"
        + (f": {'; '.join(smallest)}." if smallest else "."),
    ]
    return "\n".join(lines)


def seeds_of(analysis: Analysis, result: ClaimResult) -> str:
    """Return how many seeds a claim has, of how many, or a dash where it has no data at all."""
    return MISSING if result.claim.untestable else f"{result.n}/{analysis.seeds}"


def papers(result: ClaimResult) -> str:
    """Return the paper's effect and what has to be known of it, or a dash."""
    return "; ".join(filter(None, [str(result.paper or ""), result.claim.note])) or MISSING


def _more_seeds(analysis: Analysis, result: ClaimResult) -> str:
    if result.verdict.word != "inconclusive" or not 0 < result.n == analysis.seeds:
        return ""
    if result.seeds is None:
        return " Seeds for a verdict: not to be had with fewer than 1,000."
    more = result.seeds - result.n
    return f" At this mean and spread a verdict needs about {more} more seeds." if more > 0 else ""


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
    return table(header, rows)


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
        f"## The paper beside it\n\n{table(header, rows)}\n\n"
        "The paper reports single runs on ImageNet, without error bars: directions can be "
        "compared, sizes hardly."
    )


def _pseudo(analysis: Analysis) -> str:
    runs = analysis.runs
    if "pseudo_accuracy_used" not in runs:
        return ""
    rows = []
    for arm in analysis.arms:
        mine = runs[(runs["arm"] == arm.name) & runs["pseudo_accuracy_used"].notna()]
        if len(mine):
            mean = mine.reindex(
                columns=[
                    "teacher_test_top1",
                    "pseudo_coverage",
                    "pseudo_accuracy_pool",
                    "pseudo_accuracy_used",
                    "pseudo_confidence",
                ]
            ).mean()
            rows.append([arm.name, points(mean.iloc[0]), *map(share, mean.iloc[1:])])
    header = [
        "arm",
        "teacher's top-1 (%)",
        "pool used",
        "right in the pool",
        "right where used",
        "mean confidence",
    ]
    if not rows:
        return ""
    title = "## Pseudo-labels (diagnostic, against the hidden truth)"
    return f"{title}\n\n{table(header, rows)}"


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
        lines += [f"- **{r.state}** `{r.id}` {escape(r.reason)}" for r in analysis.unfinished]
        lines.append("")
    rows = [
        [row["arm"], str(row["seed"]), row["state"], points(row["test_top1"]), f"`{row['run']}`"]
        for row in analysis.runs.to_dict("records")
        if row["arm"]
    ]
    every = table(["arm", "seed", "state", "top-1 (%)", "run"], rows)
    lines += ["<details><summary>every run</summary>", "", every, "", "</details>"]
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
        return ", ".join(sorted({str(v) for v in done.get(column, ())} - {""})) or MISSING

    dirty = " (with uncommitted changes)" if "True" in values("dirty") else ""
    return (
        f"Made with torch {values('torch')}, timm {values('timm')} on {values('device')}, "
        f"commit {values('git')}{dirty}."
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain texts."""
    return markup_table(header, [[escape(cell) for cell in row] for row in rows])


def markup_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that may hold links; names in them have to be escaped before."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escape(text: str) -> str:
    """Keep names and messages from being read as markup."""
    text = " ".join(str(text).split())
    return text.replace("|", "\\|").replace("<", "&lt;").replace("](", "]\\(")
