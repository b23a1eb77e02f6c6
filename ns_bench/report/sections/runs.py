"""What the runs share, every run by name, where they were made, and the commands to make them."""

import shlex

import pandas as pd

from ns_bench.recipe import own_code
from ns_bench.report import blocks as b
from ns_bench.report import figure
from ns_bench.report.numbers import MISSING, points
from ns_bench.robustness import groups
from ns_bench.verdicts.analysis import Analysis


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return what varies and what is held, the runs, and how to make them again."""
    return [
        b.Heading("What varies, what is held"),
        b.Paragraph(_held(analysis)),
        b.Heading("Runs"),
        *_runs(analysis),
        b.Heading("Reproduce it"),
        *_commands(analysis),
    ]


def _held(analysis: Analysis) -> str:
    spec = analysis.profile.fields
    return (
        "What varies is the seed. It sets the split, the teacher's and the student's initial "
        "weights, the order of rows and every draw of noise; arms of one seed share all of these "
        f"and are compared in pairs. What is held: {spec['data.labeled']} labels, "
        f"{spec['data.validation']} validation and {spec['data.test']} test rows, and the recipe. "
        "The test rows are used once, by the averaged weights after the last step."
        f"{_files(analysis.runs)}"
    )


def _files(runs: pd.DataFrame) -> str:
    """Return what is to be known of a data set in files: what was left out, and which one it is."""
    if "data_fingerprint" not in runs:
        return ""
    done = runs[runs["data_fingerprint"] != ""]

    def most(column: str) -> str:
        low, high = int(done[column].min()), int(done[column].max())
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    # counted since November 2026
    known = "data_duplicates_labeled" in done and done["data_duplicates_labeled"].notna().any()
    labeled = (
        " Labeled images that are also test or validation images, and were kept: "
        f"{most('data_duplicates_labeled')} a seed."
        if known
        else ""
    )
    return (
        " Images left out of the pool because they are also test or validation images (equal "
        f"pixels): {most('data_duplicates_left_out')} a seed.{labeled} Unreadable images of the "
        f"whole set: {most('data_unreadable')}. Fingerprint of the data: "
        f"{', '.join(sorted(set(done['data_fingerprint'])))}."
    )


def _runs(analysis: Analysis) -> list[b.Block]:
    blocks: list[b.Block] = []
    if analysis.unfinished:
        items: list[b.Text] = [
            [b.Span(run.state, bold=True), " ", b.Span(run.id, code=True), f" {run.reason}"]
            for run in analysis.unfinished
        ]
        blocks += [b.Paragraph("Not done:"), b.Items(items)]
    table = b.tabulate(
        "Every run",
        analysis.runs[analysis.runs["arm"] != ""].to_dict("records"),
        ("arm", lambda run: run["arm"]),
        ("seed", lambda run: str(run["seed"])),
        ("state", lambda run: run["state"]),
        ("top-1 (%)", lambda run: points(run["test_top1"])),
        ("run", lambda run: b.Span(run["run"], code=True)),
    )
    blocks.append(b.Details("every run", [table]))
    if "git" in analysis.runs:
        made = _provenance(analysis.runs)
        if when := analysis.record.verified:
            made += f" Every file of what was done held against its checksum at {when}."
        blocks.append(b.Details("provenance", [b.Paragraph(made)]))
    return blocks


def _provenance(runs: pd.DataFrame) -> str:
    done = runs.dropna(subset=["test_top1"])

    def values(column: str) -> str:
        return ", ".join(sorted({str(v) for v in done.get(column, ())} - {""})) or MISSING

    dirty = " (with uncommitted changes)" if "True" in values("dirty") else ""
    parts = done["parts"].dropna() if "parts" in done else pd.Series()
    how = ""
    if len(parts):
        most = f"{parts.min():.0f}" + (f" to {parts.max():.0f}" if parts.nunique() > 1 else "")
        how += (
            f" {len(parts)} of {len(done)} runs worked through their batches in {most} parts "
            "(gradient accumulation): batch statistics are those of a part."
        )
    if "compiled" in done:
        how += f" {done['compiled'].notna().sum()} of {len(done)} runs used torch.compile."
    if "pretrained" in done:
        how += f" Networks began with weights that were trained before: {values('pretrained')}."
    return (
        f"Made with torch {values('torch')}, timm {values('timm')} on {values('device')} "
        f"(host {values('host')}), commit {values('git')}{dirty}.{how}"
    )


def _commands(analysis: Analysis) -> list[b.Block]:
    words = analysis.study.words(analysis.profile)
    sets = [f"{field}={value}" for field, value in analysis.changed.items()]
    changed = "".join(f" --set {shlex.quote(each)}" for each in sets)
    known = groups(analysis.study.metrics)
    more = [own_code.written(group) for group in analysis.metrics if group not in known]
    changed += f" --metrics {shlex.quote(','.join(more))}" if more else ""
    again: list[b.Block] = [
        b.Paragraph("Write this report again from its tables, in the folder above this one:"),
        b.Code(f"python -m ns_bench.report {words} --from ."),
    ]
    if analysis.tuning:
        changed, again = f"{changed} --tuned {analysis.tuning.tuned.search}", []
    seeds = f"--seeds {analysis.seeds}"
    if not analysis.fixed:
        seeds = f"--until-decided --max-seeds {analysis.seeds}"
    files = ["runs.csv", "curves.csv", "tables.tex"]
    files += [f"{stem}.{suffix}" for stem in figure.stems(analysis) for suffix in figure.FORMATS]
    links = [part for file in files for part in (", ", b.Span(file, file=file))]
    return [
        b.Paragraph("Train what is missing, and write this report:"),
        b.Code(f"python -m ns_bench.study {words} {seeds}{changed}"),
        *again,
        b.Paragraph(["Beside this page: ", *links[1:], "."]),
    ]
