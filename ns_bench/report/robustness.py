"""What was measured beside top-1: corruptions, perturbations, attacks, images out of domain."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from ns_bench.report.blocks import Block, Details, Heading, Paragraph, Span, Table, Text
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
from ns_bench.verdicts.analysis import Analysis
from ns_bench.verdicts.statistics import mean_interval


def blocks(analysis: Analysis) -> list[Block]:
    """Return the section on what was measured; none where nothing was asked for."""
    found: list[Block] = []
    for group in analysis.metrics:
        found += _GROUPS[group](analysis)
    if not found:
        return []
    return [Heading("Robustness"), Paragraph(_said(analysis)), *found, _papers()]


def tables(analysis: Analysis) -> list[Table]:
    """Return the tables of the section that go into a paper."""
    return [block for block in blocks(analysis) if isinstance(block, Table)]


def _said(analysis: Analysis) -> str:
    base = _baseline(analysis)
    seconds = [analysis.runs[f"{group}_seconds"].mean() for group in analysis.metrics]
    return (
        "Of the test images, by the averaged weights after the last step; every draw is the seed's "
        "and the same for all arms. Means over seeds with 95 % t-intervals, in %. Relative figures "
        f"(CE, FR) are 100 times an arm's mean over that of {base}, at the seeds that both have. "
        f"Measuring took {sum(seconds):.0f} s a run on average."
    )


def _corruption(analysis: Analysis) -> list[Block]:
    overlapping = ", ".join(f"{name} ({why})" for name, why in OVERLAPPING.items())
    names = (*CORRUPTIONS, *EXTRA)
    summary = {
        "top-1": "corruption_top1",
        "drop": "corruption_drop",
        "drop, overlapping": "corruption_overlapping_drop",
        "drop, others": "corruption_other_drop",
        "calibration error": "corruption_ece",
    }
    fifteen = _names("corruption", CORRUPTIONS)
    mce = {"mCE": lambda arm: _relative(analysis, arm, fifteen, 100)}
    return [
        *_titled(
            _by_arm(analysis, "Corruptions by arm", summary, mce),
            "means over 15 corruptions in the manner of ImageNet-C at 5 severities (Hendrycks and "
            "Dietterich 2019). A drop is clean top-1 minus corrupted top-1; mCE is the mean of the "
            "CE below. RandAugment overlaps some of them (the paper's footnote 4); counted as "
            f"overlapping are {overlapping}.",
        ),
        *_titled(
            _by_arm(
                analysis,
                "Top-1 by severity",
                {f"severity {s}": f"corruption_severity_{s}" for s in SEVERITIES},
            ),
            "means over the 15 corruptions.",
        ),
        *_titled(
            _relative_table(analysis, "Error by corruption (CE)", "corruption", names, 100),
            "means over severities. The last four are ImageNet-C's validation corruptions and in "
            "no mean; frost is drawn, not photographed; saturate changes no grey image.",
        ),
    ]


def _perturbation(analysis: Analysis) -> list[Block]:
    names = _names("perturbation", PERTURBATIONS)
    title = "Flip probability by perturbation (FR)"
    return [
        *_titled(
            _by_arm(
                analysis,
                "Perturbations by arm",
                {"flip probability": "perturbation_flips"},
                {"mFR": lambda arm: _relative(analysis, arm, names, 0)},
            ),
            "in the manner of ImageNet-P, how often the predicted class changes from one frame of "
            "a sequence to the next (noise: from the clean first frame). mFR is the mean of the "
            "FR below.",
        ),
        *_titled(
            _relative_table(analysis, title, "perturbation", PERTURBATIONS, 0),
            "means over images and frames.",
        ),
    ]


def _adversarial(analysis: Analysis) -> list[Block]:
    fgsm = {f"FGSM {e}" if e else "clean": f"adversarial_fgsm_{e}" for e in EPSILONS}
    pgd = {f"PGD {e}": f"adversarial_pgd_{e}" for e in PGD_EPSILONS}
    return _titled(
        _by_arm(analysis, "Top-1 under attack", {**fgsm, **pgd}),
        "by the largest change of a pixel, in 255ths of its range. FGSM takes one step, PGD ten "
        "from a random start. One-step figures are no measure of true adversarial robustness.",
    )


def _out_of_domain(analysis: Analysis) -> list[Block]:
    columns = {
        "AUROC": "out_of_domain_auroc",
        "confidence, out of domain": "out_of_domain_confidence",
        "confidence, test": "out_of_domain_confidence_in_domain",
        "calibration error, test": "ece",
    }
    return _titled(
        _by_arm(analysis, "Images out of domain", columns),
        "AUROC is how often the largest probability is higher on a test image than on a drawn "
        "character that is no class; 50 is chance.",
    )


_GROUPS: dict[str, Callable[[Analysis], list[Block]]] = {
    "corruption": _corruption,
    "perturbation": _perturbation,
    "adversarial": _adversarial,
    "out_of_domain": _out_of_domain,
}


def _titled(table: Table, note: str) -> list[Block]:
    return [Paragraph([Span(table.title, bold=True), f": {note}"]), table]


def _by_arm(
    analysis: Analysis,
    title: str,
    columns: dict[str, str],
    more: Mapping[str, Callable[[str], float]] = MappingProxyType({}),
) -> Table:
    """Return a row an arm: {heading: metric} with intervals, then {heading: figure of an arm}."""
    tables = [analysis.values(metric) for metric in columns.values()]
    rows: list[list[Text]] = []
    for arm in analysis.arms:
        cells: list[Text] = []
        for table in tables:
            values = table[arm.name].dropna().to_numpy()
            found = mean_interval(values) if len(values) else None
            cells.append(f"{points(found.mean)} {interval(found)}" if found else MISSING)
        counted = int(tables[0][arm.name].notna().sum())
        relative = [points(figure(arm.name)) for figure in more.values()]
        rows.append([arm.name, f"{counted}/{analysis.seeds}", *cells, *relative])
    return Table(title, ["arm", "n", *columns, *more], rows)


def _relative_table(
    analysis: Analysis, title: str, group: str, names: Sequence[str], whole: float
) -> Table:
    """Return a row a corruption or sequence: each arm's mean, and relative to the baseline's."""
    rows: list[list[Text]] = []
    for name, metric in zip(names, _names(group, names), strict=True):
        cells = []
        for arm in analysis.arms:
            own = _amount(analysis, metric, whole)[arm.name].mean()
            relative = _relative(analysis, arm.name, [metric], whole)
            cells.append(f"{points(own)} ({points(relative)})")
        rows.append([name.replace("_", " "), *cells])
    return Table(title, ["", *(arm.name for arm in analysis.arms)], rows)


def _names(group: str, names: Iterable[str]) -> list[str]:
    return [f"{group}_{name}" for name in names]


def _amount(analysis: Analysis, metric: str, whole: float) -> pd.DataFrame:
    """Return errors (100, `whole`, minus top-1) or flips (0: as they are), by seed and arm."""
    values = analysis.values(metric)
    return whole - values if whole else values


def _relative(analysis: Analysis, arm: str, metrics: Sequence[str], whole: float) -> float:
    """Return the mean over `metrics` of 100 times the arm's mean amount over the baseline's."""
    base = _baseline(analysis)
    ratios = []
    for metric in metrics:
        amounts = _amount(analysis, metric, whole)
        both = amounts[[arm]].assign(base=amounts[base]).dropna()
        own, other = both[arm].mean(), both["base"].mean()
        ratios.append(100 * own / other if other else np.nan)
    return float(np.mean(ratios))


def _baseline(analysis: Analysis) -> str:
    return next(arm.name for arm in analysis.arms if arm.is_baseline)


def _papers() -> Details:
    """Return the paper's Tables 3 to 5 and Figure 4, folded away."""
    rows: list[list[Text]] = [
        [
            row.arm,
            row.metric,
            points(row.value),
            row.version,
            row.source + ("" if row.verified else " (unverified)"),
        ]
        for row in paper.rows("robustness")
    ]
    header = ["the paper's arm", "metric", "value (%)", "version", "source"]
    table = Table("The paper's robustness", header, rows)
    return Details("the paper's robustness: ImageNet-A, -C, -P and attacks", [table])
