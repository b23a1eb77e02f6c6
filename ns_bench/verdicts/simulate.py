"""`python -m ns_bench.verdicts.simulate`: the operating characteristics of the verdicts, simulated.

How often a study gets a false word, how often it finds what is so, and how many seeds that takes,
by the code that judges real studies. Writes one Markdown table. Differences have a standard
deviation of 1, and those of a study's claims are correlated, as they are where arms are shared.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ns_bench.arguments import option, parse, whole_number
from ns_bench.data.streams import stream_seed
from ns_bench.design.schedule import Schedule
from ns_bench.errors import exit_code
from ns_bench.verdicts.judge import Decision, Evidence, judge_studies
from ns_bench.verdicts.sequential import Array
from ns_bench.verdicts.statistics import Kind, Word

Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

SHAPES: dict[str, Draw] = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "heavy-tailed": lambda draw, shape: draw.standard_t(3, shape) / np.sqrt(3),
    "discrete": lambda draw, shape: np.round(2 * draw.normal(size=shape)) / 2,
    "skewed": lambda draw, shape: (draw.gamma(2.0, size=shape) - 2) / np.sqrt(2),
}
"""Differences around 0. All but `skewed` are symmetric, which the tests ask for."""

FAMILIES = (1, 4, 8)
EFFECTS = (0.25, 0.5, 1.0, 2.0)
MARGIN = 0.83
AT_A_TIME = 50
"""Studies whose tests are run together."""

PATTERNS = 12
"""log2 of the sign patterns: a quarter of those of real verdicts, for speed."""

FALSE: dict[str, tuple[Kind, float, float, set[Word]]] = {
    "greater, 0": ("greater", 0.0, 0.0, {"reproduced", "contradicted"}),
    "greater, +margin": ("greater", MARGIN, MARGIN, {"equivalent", "contradicted"}),
    "not worse, -margin": ("not worse", MARGIN, -MARGIN, {"reproduced", "contradicted"}),
    "equivalent, +margin": ("equivalent", MARGIN, MARGIN, {"reproduced", "contradicted"}),
}
"""Where a word is false most easily: (kind, smallest effect, true effect, false words)."""


@dataclass(frozen=True)
class Rates:
    """Of simulated studies: with a false or right word, share of claims, and mean seeds a claim."""

    any_claim: float
    claims: float
    seeds: float


def simulate(
    family: int,
    shape: str,
    kind: Kind,
    smallest_effect: float,
    effect: float,
    words: set[Word],
    studies: int,
    schedule: Schedule | None = None,
) -> Rates:
    """Return how often claims get one of `words`, over `studies` of `family` claims each."""
    plan = schedule or Schedule()
    draw = np.random.default_rng(stream_seed(family, shape, kind, f"{effect:g}"))
    noise = SHAPES[shape](draw, (studies, family + 1, plan.maximum))
    paths = noise[:, 1:] if family == 1 else (noise[:, :1] + noise[:, 1:]) / np.sqrt(2)
    rows = []
    for first in range(0, studies, AT_A_TIME):
        batch = paths[first : first + AT_A_TIME] + effect
        for decisions in _followed(batch, kind, smallest_effect, plan):
            right = [d.word in words for d in decisions]
            seeds = [d.seeds for d in decisions]
            rows.append([float(any(right)), sum(right) / family, sum(seeds) / family])
    return Rates(*(float(mean) for mean in np.mean(rows, axis=0)))


def _followed(paths: Array, kind: Kind, smallest: float, plan: Schedule) -> list[list[Decision]]:
    """Judge studies' paths [study, claim, seed]; most that are decided are so after few seeds."""
    done: dict[int, list[Decision]] = {}
    for seeds in (plan.looks[len(plan.looks) // 2], plan.maximum):
        rest = [i for i in range(len(paths)) if i not in done]
        studies = [[Evidence(kind, smallest, (p[:seeds],)) for p in paths[i]] for i in rest]
        for i, decisions in zip(rest, judge_studies(studies, plan, exact=PATTERNS), strict=True):
            if seeds == plan.maximum or all(d.word != "inconclusive" for d in decisions):
                done[i] = decisions
    return [done[i] for i in range(len(paths))]


def table(studies: int, schedule: Schedule | None = None) -> list[str]:
    """Return the lines of two Markdown tables; `studies` is for one claim, fewer for more."""
    false = [[*("differences", "claims"), *FALSE]]
    power = [
        ["differences", "claims", *(f"{e:g} sd" for e in EFFECTS), f"0, equivalent within {MARGIN}"]
    ]
    for shape in SHAPES:
        for family in FAMILIES:
            run = partial(simulate, family, shape, schedule=schedule)
            count = max(studies // family, min(studies, 200))
            false.append(
                [
                    *(shape, str(family)),
                    *(_share(run(*case, count).any_claim) for case in FALSE.values()),
                ]
            )
            found = [run("greater", 0.0, e, {"reproduced"}, count) for e in EFFECTS]
            found.append(run("equivalent", MARGIN, 0.0, {"reproduced"}, count))
            power.append(
                [shape, str(family), *(f"{_share(f.claims)} / {f.seeds:.1f}" for f in found)]
            )
    return [
        "Studies with a false word, of any claim (at most .05 by design, where differences are "
        "symmetric). The columns say the kind of claim and the true effect, which is where a word "
        "is false most easily:",
        "",
        *_rows(false),
        "",
        "Claims reproduced / mean seeds a claim, by the true effect of all claims of the study:",
        "",
        *_rows(power),
    ]


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else "1"


def _rows(cells: Sequence[Sequence[str]]) -> list[str]:
    rows = [f"| {' | '.join(row)} |" for row in cells]
    return [rows[0], f"|{'---|' * len(cells[0])}", *rows[1:]]


@dataclass(frozen=True, kw_only=True)
class _Options:
    studies: int = option("how many (default: 2000)", default=2000, type=whole_number, metavar="N")
    out: Path | None = option("default: standard output", type=Path, metavar="FILE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse(
        _Options,
        arguments,
        prog="python -m ns_bench.verdicts.simulate",
        description="Simulate how often verdicts err and find; writes a Markdown table.",
    )
    return exit_code(lambda: _run(options), "stopped")


def _run(options: _Options) -> int:
    start, plan = time.process_time(), Schedule()
    lines = [
        "# Operating characteristics of the verdicts",
        "",
        f"Looks at {', '.join(map(str, plan.looks))} seeds, which may spend "
        f"{', '.join(f'{share:g}' for share in plan.spending)} of alpha = .05. Differences have a "
        f"standard deviation of 1; smallest effect of interest {MARGIN} where one matters; the "
        "claims of a study correlate by .5.",
        "",
        *table(options.studies),
    ]
    minutes = (time.process_time() - start) / 60
    lines += [
        "",
        f"Made by `python -m ns_bench.verdicts.simulate --studies {options.studies}` in "
        f"{minutes:.0f} minutes of one core: {options.studies} studies a cell of one claim, "
        f"{max(options.studies // 4, min(options.studies, 200))} of four and "
        f"{max(options.studies // 8, min(options.studies, 200))} of eight. `skewed` (skewness 1.4) "
        "is outside of what the tests promise: arms that are alike have symmetric differences, "
        "arms with unequal tails may not.",
    ]
    text = "\n".join(lines) + "\n"
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
