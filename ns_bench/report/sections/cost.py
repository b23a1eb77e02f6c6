"""What the runs of a study cost, and what one training of each arm takes."""

import pandas as pd

from ns_bench.report import blocks as b
from ns_bench.report.numbers import MISSING, points, rounded
from ns_bench.verdicts.analysis import Analysis


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return the budget of each arm, and the sums over its runs."""
    if "seconds" not in analysis.runs:
        why = "The stored results do not say what they cost."
        return [b.Heading("Cost"), b.Paragraph(why)]
    done = analysis.runs.dropna(subset=["test_top1"]).drop_duplicates("run")
    done = done.reindex(columns=["arm", "images", "seconds", "threads", "device"])
    of_arm = analysis.by_arm(done)
    rows: list[tuple[b.Text, pd.DataFrame]] = [
        (arm.name, of_arm.get(arm.name, done[:0])) for arm in analysis.arms
    ]
    rows.append((b.Span("all arms", bold=True), done))
    return [
        b.Heading("Cost"),
        *_budget(analysis),
        b.tabulate(
            "Cost",
            rows,
            ("arm", lambda row: row[0]),
            ("runs", lambda row: str(len(row[1]))),
            ("images", lambda row: f"{int(row[1]['images'].sum()):,}"),
            ("seconds", lambda row: f"{row[1]['seconds'].sum():,.0f}"),
            ("hours", lambda row: _hours(row[1])),
        ),
        b.Paragraph(
            "Sums over finished runs; a run that two arms share counts once. Hours are GPU-hours "
            "of runs on a GPU, and core-hours (seconds times threads) of the others. Teachers "
            "that are not an arm themselves are left out. Energy is not measured."
        ),
    ]


def _hours(runs: pd.DataFrame) -> str:
    seconds = runs["seconds"].fillna(0)
    gpu = runs["device"].astype(str).str.startswith("cuda")
    hours = {
        "GPU-hours": seconds[gpu].sum() / 3600,
        "core-hours": (seconds * runs["threads"].fillna(1))[~gpu].sum() / 3600,
    }
    return (
        ", ".join(f"{rounded(value)} {unit}" for unit, value in hours.items() if value) or MISSING
    )


def _budget(analysis: Analysis) -> list[b.Block]:
    """Return what one training of each arm takes, alone and with its teachers."""
    if not {"chain_steps", "steps"} <= set(analysis.runs):  # results from before it was counted
        return []
    columns = ["steps", "images", "chain_steps", "chain_images", "chain_seconds"]
    done = analysis.by_arm(analysis.runs.dropna(subset=["test_top1"]))
    means = {name: runs[columns].mean() for name, runs in done.items()}
    return [
        b.tabulate(
            "Budget",
            means.items(),
            ("arm", lambda item: item[0]),
            ("steps", lambda item: f"{item[1]['steps']:,.0f}"),
            ("images", lambda item: f"{item[1]['images']:,.0f}"),
            ("steps in all", lambda item: f"{item[1]['chain_steps']:,.0f}"),
            ("images in all", lambda item: f"{item[1]['chain_images']:,.0f}"),
            ("seconds in all", lambda item: points(item[1]["chain_seconds"])),
        ),
        b.Paragraph(
            'Gradient steps and images of one training; "in all" adds those of its teacher, of '
            "the teacher's teacher and so on. Means over seeds. The time to label images and to "
            "evaluate is part of the seconds."
        ),
    ]
