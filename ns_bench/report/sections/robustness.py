"""What was measured beside top-1: corruptions, perturbations, attacks, images out of domain."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
import pandas as pd

from ns_bench.report import blocks as b
from ns_bench.report import multiples
from ns_bench.report.numbers import MISSING, interval, points
from ns_bench.robustness import (
    CORRUPTIONS,
    EPSILONS,
    EXTRA,
    OVERLAPPING,
    PERTURBATIONS,
    PGD_EPSILONS,
    SEVERITIES,
)
from ns_bench.verdicts import paper
from ns_bench.verdicts.analysis import Analysis, ArmSummary
from ns_bench.verdicts.statistics import mean_interval


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return the section on what was measured; none where nothing was asked for."""
    measured = [
        block
        for group in analysis.metrics
        for block in _GROUPS.get(group, partial(_own, group=group))(analysis)
    ]
    if not measured:
        return []
    summary = b.Paragraph(_summary(analysis))
    return [b.Heading("Robustness"), summary, *measured, _papers()]


def tables(analysis: Analysis) -> list[b.Table]:
    """Return the tables of the section that go into a paper."""
    return [block for block in blocks(analysis) if isinstance(block, b.Table)]


def _summary(analysis: Analysis) -> str:
    seconds = [analysis.runs[f"{group}_seconds"].mean() for group in analysis.metrics]
    return (
        "Measured on the test images, with the averaged weights after the last step. Random draws "
        "depend on the seed alone: all arms see the same. Means over seeds with 95 % t-intervals, "
        "in %. Relative values (CE, FR) are an arm's mean in percent of the mean of "
        f"{analysis.baseline}, at the seeds that both have. Measuring took {sum(seconds):.0f} s a "
        "run on average."
    )


def _corruption(analysis: Analysis) -> list[b.Block]:
    overlapping = ", ".join(f"{name} ({why})" for name, why in OVERLAPPING.items())
    fifteen = _names("corruption", CORRUPTIONS)
    return [
        *_by_arm(
            analysis,
            "Corruptions by arm",
            "means over 15 corruptions in the manner of ImageNet-C at 5 severities (Hendrycks and "
            "Dietterich 2019). A drop is clean top-1 minus corrupted top-1; mCE is the mean of the "
            "CE below. RandAugment overlaps some of them (the paper's footnote 4); counted as "
            f"overlapping are {overlapping}.",
            {
                "top-1": "corruption_top1",
                "drop": "corruption_drop",
                "drop, overlapping": "corruption_overlapping_drop",
                "drop, others": "corruption_other_drop",
                "calibration error": "corruption_ece",
            },
            ("mCE", lambda arm: points(_relative(analysis, arm.name, fifteen.values(), 100))),
        ),
        *_by_arm(
            analysis,
            "Top-1 by severity",
            "means over the 15 corruptions.",
            {f"severity {s}": f"corruption_severity_{s}" for s in SEVERITIES},
        ),
        *multiples.blocks(
            analysis,
            "severities",
            f"Mean with 95 % t-interval over seeds; dashed: {analysis.baseline}.",
        ),
        *_by_metric(
            analysis,
            "Error by corruption (CE)",
            "means over severities. The last four are ImageNet-C's validation corruptions and are "
            "in no mean; frost is drawn, not photographed; saturate changes no grey image.",
            _names("corruption", [*CORRUPTIONS, *EXTRA]),
            100,
        ),
    ]


def _perturbation(analysis: Analysis) -> list[b.Block]:
    names = _names("perturbation", PERTURBATIONS)
    return [
        *_by_arm(
            analysis,
            "Perturbations by arm",
            "in the manner of ImageNet-P, how often the predicted class changes from one frame of "
            "a sequence to the next (noise: from the clean first frame). mFR is the mean of the "
            "FR below.",
            {"flip probability": "perturbation_flips"},
            ("mFR", lambda arm: points(_relative(analysis, arm.name, names.values(), 0))),
        ),
        *_by_metric(
            analysis,
            "Flip probability by perturbation (FR)",
            "means over images and frames.",
            names,
            0,
        ),
    ]


def _adversarial(analysis: Analysis) -> list[b.Block]:
    fgsm = {f"FGSM {e}" if e else "clean": f"adversarial_fgsm_{e}" for e in EPSILONS}
    pgd = {f"PGD {e}": f"adversarial_pgd_{e}" for e in PGD_EPSILONS}
    return _by_arm(
        analysis,
        "Top-1 under attack",
        "by the largest change of a pixel, in 255ths of its range. FGSM takes one step, PGD ten "
        "from a random start. One-step figures are no measure of true adversarial robustness.",
        fgsm | pgd,
        turned=True,
    )


def _out_of_domain(analysis: Analysis) -> list[b.Block]:
    return _by_arm(
        analysis,
        "Images out of domain",
        "AUROC is how often the largest probability is higher on a test image than on a drawn "
        "character that is no class; 50 is chance.",
        {
            "AUROC": "out_of_domain_auroc",
            "confidence, out of domain": "out_of_domain_confidence",
            "confidence, test": "out_of_domain_confidence_in_domain",
            "calibration error, test": "ece",
        },
    )


def _own(analysis: Analysis, group: str) -> list[b.Block]:
    name, _, digits = group.partition("@")
    note = f"Measured by code of one's own, whose SHA-256 begins with {digits}."
    return _by_arm(analysis, name, note, {name: group})


_GROUPS: dict[str, Callable[[Analysis], list[b.Block]]] = {
    "corruption": _corruption,
    "perturbation": _perturbation,
    "adversarial": _adversarial,
    "out_of_domain": _out_of_domain,
}


def _by_arm(
    analysis: Analysis,
    title: str,
    note: str,
    columns: dict[str, str],
    *more: b.Column[ArmSummary],
    turned: bool = False,
) -> list[b.Block]:
    """Return a row an arm: {heading: metric} as mean and interval, then the other columns.

    With many of these it is `turned`: a column an arm.
    """
    tables = {heading: analysis.values(metric) for heading, metric in columns.items()}
    first = next(iter(tables.values()))
    table = b.tabulate(
        title,
        analysis.arms,
        ("arm", lambda arm: arm.name),
        ("n", lambda arm: f"{int(first[arm.name].notna().sum())}/{analysis.seeds}"),
        *((heading, _mean(values)) for heading, values in tables.items()),
        *more,
    )
    return _titled(table.turned() if turned else table, note)


def _titled(table: b.Table, note: str) -> list[b.Block]:
    return [b.Paragraph([b.Span(table.title, bold=True), f": {note}"]), table]


def _mean(table: pd.DataFrame) -> Callable[[ArmSummary], str]:
    def cell(arm: ArmSummary) -> str:
        values = table[arm.name].dropna().to_numpy()
        mean = mean_interval(values) if len(values) else None
        return f"{points(mean.mean)} {interval(mean)}" if mean else MISSING

    return cell


def _by_metric(
    analysis: Analysis, title: str, note: str, metrics: Mapping[str, str], whole: float
) -> list[b.Block]:
    """Return a row a corruption or sequence: each arm's mean, and relative to the baseline's."""

    def cells(arm: str) -> Callable[[tuple[str, str]], str]:
        def cell(metric: tuple[str, str]) -> str:
            mean = _amount(analysis, metric[1], whole)[arm].mean()
            return f"{points(mean)} ({points(_relative(analysis, arm, metric[1:], whole))})"

        return cell

    table = b.tabulate(
        title,
        metrics.items(),
        ("", lambda metric: metric[0].replace("_", " ")),
        *((arm.name, cells(arm.name)) for arm in analysis.arms),
    )
    return _titled(table, note)


def _names(group: str, names: Iterable[str]) -> dict[str, str]:
    """Return {name: its metric}."""
    return {name: f"{group}_{name}" for name in names}


def _amount(analysis: Analysis, metric: str, whole: float) -> pd.DataFrame:
    """Return errors (100, `whole`, minus top-1) or flips (0: as they are), by seed and arm."""
    values = analysis.values(metric)
    return whole - values if whole else values


def _relative(analysis: Analysis, arm: str, metrics: Iterable[str], whole: float) -> float:
    """Return the mean over `metrics` of 100 times the arm's mean amount over the baseline's."""
    ratios = []
    for metric in metrics:
        amounts = _amount(analysis, metric, whole)
        both = amounts[[arm]].assign(base=amounts[analysis.baseline]).dropna()
        mean, base = both[arm].mean(), both["base"].mean()
        ratios.append(100 * mean / base if base else np.nan)
    return float(np.mean(ratios))


def _papers() -> b.Details:
    """Return the paper's Tables 3 to 5 and Figure 4, folded away."""
    table = b.tabulate(
        "The paper's robustness",
        paper.rows("robustness"),
        ("the paper's arm", lambda row: row.arm),
        ("metric", lambda row: row.metric),
        ("value (%)", lambda row: points(row.value)),
        ("version", lambda row: row.version),
        ("source", lambda row: row.where),
    )
    return b.Details("the paper's robustness: ImageNet-A, -C, -P and attacks", [table])
