"""The report of one arm's search: what was tried, what it scored, and the best recipe to take."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from ns_bench.files import publish
from ns_bench.recipe import own_code
from ns_bench.report import blocks as b
from ns_bench.report import figure as figures
from ns_bench.report import formats, style
from ns_bench.report.numbers import MISSING, points, rounded, signed
from ns_bench.report.style import GRID, INK, MEAN, POINT, RULE
from ns_bench.tuning.sampler import as_study
from ns_bench.tuning.space import Dimension, changes
from ns_bench.tuning.trials import Search, Standing, best_of, front_of

LEAST_FOR_IMPORTANCES = 8
"""Complete trials below which importances are noise."""


def write(search: Search, standings: Sequence[Standing], folder: Path) -> Path:
    """Write the page, trials.csv, best.toml and the figures into `folder`; returns search.md."""
    folder.mkdir(parents=True, exist_ok=True)
    publish(folder / "trials.csv", trials_table(search, standings).to_csv(index=False).encode())
    best = best_of(standings)
    if best is not None:
        publish(folder / "best.toml", recipe_toml(search, best).encode())
    style.theme()
    drawings = {}
    shown = [s for s in standings if s.score is not None]
    if shown:
        for name, wide, narrow, alt in (
            ("history", history(shown), history(shown, figures.NARROW), _ALT),
            ("slices", slices(search, shown), slices(search, shown, 2), _SLICES),
        ):
            figures.write(style.lay_out(wide), folder / name)
            drawings[name] = style.inline(style.lay_out(narrow), name, alt)
    return formats.write(content(search, standings), folder / "search", drawings)


def trials_table(search: Search, standings: Sequence[Standing]) -> pd.DataFrame:
    """Return one row a trial: its state, score, seeds, seconds and parameters."""
    return pd.DataFrame(
        {
            "trial": s.trial.number,
            "batch": s.trial.batch,
            "state": s.state,
            "validation_top1": math.nan if s.score is None else s.score,
            "seeds": len(s.values),
            "rungs": len(s.rungs),
            "seconds": s.seconds,
            "cost": s.cost,
            **{d.name: s.trial.params.get(d.name) for d in search.space},
            "reason": s.reason,
        }
        for s in standings
    )


def recipe_toml(search: Search, best: Standing) -> str:
    """Return the best trial's fields as TOML, which `ns_bench.study --recipe` takes."""
    lines = [
        f"# {search.settings.study}, profile {search.settings.profile}, arm {search.arm!r}",
        f"# search {search.settings.id}, trial {best.trial.number}: "
        f"validation top-1 {points(best.score)} %",
    ]
    fields = _fields(search, best)
    return "\n".join([*lines, *(f"{n} = {_toml(v)}" for n, v in sorted(fields.items()))]) + "\n"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def importances(search: Search, standings: Sequence[Standing]) -> dict[str, float]:
    """Return each parameter's share of the variance of the scores (fANOVA); {} of too few."""
    import optuna

    complete = [s for s in standings if s.state == "complete"]
    if len(complete) < LEAST_FOR_IMPORTANCES or len({s.score for s in complete}) < 2:
        return {}
    study = as_study(search, complete)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    target = (lambda trial: trial.values[0]) if len(search.settings.objectives) > 1 else None
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator, target=target))


def content(search: Search, standings: Sequence[Standing]) -> b.Page:
    """Return the page."""
    settings = search.settings
    title = f"Search: {settings.study} · {settings.profile} · {search.arm}"
    best = best_of(standings)
    counts = pd.Series([s.state for s in standings]).value_counts()
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    hours = sum(s.seconds for s in standings) / 3600
    blocks: list[b.Block] = [
        b.Paragraph(
            f"{len(standings)} trials ({states}) by {settings.sampler}, sampler seed "
            f"{settings.seed}, {rounded(hours)} hours of training. Scored by validation top-1 of "
            f"the averaged weights, mean over tuning seeds 1000 to {999 + settings.seeds}: no test "
            "row and no reporting seed was read."
        )
    ]
    if best is None:
        reasons = sorted({s.reason for s in standings if s.reason})
        items: list[b.Text] = [[b.Span("No trial is complete.", bold=True)], *reasons]
        return b.Page(title, [*blocks, b.Notes(items), _trials(search, standings)])
    blocks += [
        b.Heading("Best recipe"),
        b.Paragraph(
            [
                b.Span(f"Trial {best.trial.number}: {points(best.score)} %.", bold=True),
                f" {_place(standings, best)}",
                " The best of many is flattered by chance: its worth is what fresh seeds show, ",
                b.Span("--tuned", code=True),
                ".",
            ]
        ),
        b.Code(_command(search, best)),
        b.Paragraph(["The same as a file: ", b.Span("best.toml", file="best.toml"), "."]),
        b.Picture("history", _ALT, [b.Panel("history", _ALT)]),
        b.Picture("slices", _SLICES, [b.Panel("slices", _SLICES)]),
        *_front(search, standings),
        *_importances(search, standings),
        b.Heading("Space"),
        b.Items([_range(dimension) for dimension in search.space]),
        *_left_out(search),
        b.Heading("Trials"),
        _trials(search, standings),
    ]
    return b.Page(title, blocks)


_ALT = "The score of every trial in the order of the search, and the best so far"
_SLICES = "The score of every trial by the value of each parameter"


def _place(standings: Sequence[Standing], best: Standing) -> str:
    complete = [s for s in _ranked(standings) if s.state == "complete"]
    numbers = [s.trial.number for s in complete]
    if 0 not in numbers:
        return "The arm's own recipe (trial 0) is not complete."
    place = numbers.index(0)
    score, top = complete[place].score, best.score
    assert score is not None and top is not None
    return (
        f"The arm's own recipe (trial 0, {points(score)} %) is number {place + 1} of "
        f"{len(complete)} complete trials, {signed(score - top)} points from the best."
    )


def _fields(search: Search, best: Standing) -> dict[str, Any]:
    """Return what a study has to be given to run as the trial did."""
    return {**search.changed, **changes(search.space, best.trial.params)}


def _command(search: Search, best: Standing) -> str:
    fields = [(n, own_code.written(str(v))) for n, v in sorted(_fields(search, best).items())]
    sets = " \\\n".join(f"  --set {shlex.quote(f'{name}={value}')}" for name, value in fields)
    return f"python -m ns_bench.study {search.words} \\\n{sets}"


def _front(search: Search, standings: Sequence[Standing]) -> list[b.Block]:
    if len(search.settings.objectives) == 1:
        return []
    return [
        b.Heading("Pareto front"),
        b.Paragraph("No other trial is both better and cheaper than one of these."),
        b.tabulate(
            "Pareto front",
            front_of(standings),
            ("trial", lambda s: str(s.trial.number)),
            ("top-1 (%)", lambda s: points(s.score)),
            ("training a network (s, estimated)", lambda s: f"{s.cost:.1f}"),
        ),
    ]


def _importances(search: Search, standings: Sequence[Standing]) -> list[b.Block]:
    shares = importances(search, standings)
    if not shares:
        return []
    return [
        b.Heading("Importances"),
        b.Paragraph(
            "Each parameter's share of the variance of the scores (fANOVA over complete trials)."
        ),
        b.tabulate(
            "Importances",
            shares.items(),
            ("parameter", lambda item: item[0]),
            ("share (%)", lambda item: f"{100 * item[1]:.0f}"),
        ),
    ]


def _range(d: Dimension) -> b.Text:
    if d.choices:
        values = "one of " + ", ".join(map(str, d.choices))
    else:
        values = f"{d.low:g} to {d.high:g}"
        values += f" in steps of {d.step:g}" if d.step else ""
        values += ", even in the logarithm" if d.log else ""
    if d.when:
        values += ", where " + " and ".join(f"{name} = {value}" for name, value in d.when)
    return [b.Span(d.name, code=True), f": {values}"]


def _left_out(search: Search) -> list[b.Block]:
    tuned = {d.name for d in search.space}
    names = ", ".join(d.name for d in search.settings.space if d.name not in tuned)
    why = "Left as they are, since the arm does not use them or the study varies them: "
    return [b.Paragraph([why, b.Span(names, code=True), "."])] if names else []


def _trials(search: Search, standings: Sequence[Standing]) -> b.Table:
    def parameter(name: str) -> b.Column[Standing]:
        return name, lambda s: _short(s.trial.params.get(name))

    table = b.tabulate(
        "Trials",
        _ranked(standings),
        ("trial", lambda s: str(s.trial.number)),
        ("state", lambda s: s.state),
        ("top-1 (%)", lambda s: points(s.score)),
        ("seeds", lambda s: f"{len(s.values)}/{search.settings.seeds}"),
        *(parameter(d.name) for d in search.space),
        ("reason", lambda s: s.reason),
    )
    table = replace(table, sortable=True)
    return table if any(s.reason for s in standings) else table.without("reason")


def _ranked(standings: Sequence[Standing]) -> list[Standing]:
    """Return complete trials first, the best of them first."""
    return sorted(
        standings, key=lambda s: (s.state != "complete", -(s.score or 0.0), s.trial.number)
    )


def _short(value: Any) -> str:
    if value is None:
        return MISSING
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def history(shown: Sequence[Standing], width: float = 9.0) -> Figure:
    """Return the figure of scores by trial; `shown` have a score."""
    figure = Figure(figsize=(width, 3.2))
    axes = figure.subplots()
    numbers = [s.trial.number for s in shown]
    _dots(axes, numbers, shown)
    scores = [s.score if s.state == "complete" else math.nan for s in shown]
    best = np.fmax.accumulate(np.array(scores, dtype=float))
    axes.step(numbers, best, where="post", color=MEAN, lw=1.4, zorder=1)
    axes.set_xlabel("trial")
    axes.set_ylabel("validation top-1 (%)")
    axes.set_title(
        "line: best so far; diamond: the arm's own recipe;\nhollow, at the foot: stopped early",
        fontsize=8,
        loc="left",
    )
    return figure


def slices(search: Search, shown: Sequence[Standing], columns: int = 4) -> Figure:
    """Return the figure of scores by the value of each parameter."""
    columns = min(columns, len(search.space))
    rows = -(-len(search.space) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.1 * rows))
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, dimension in zip(grid.flat, search.space, strict=False):
        trials = [s for s in shown if dimension.name in s.trial.params]
        values = [s.trial.params[dimension.name] for s in trials]
        if dimension.choices:
            choices = list(dict.fromkeys(map(str, [*dimension.choices, *values])))
            _dots(axes, [choices.index(str(value)) for value in values], trials)
            axes.set_xticks(range(len(choices)), choices)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        else:
            _dots(axes, values, trials)
            _scale(axes, dimension, values)
        axes.set_title(dimension.name, fontsize=7, loc="left")
        axes.tick_params(labelsize=7)
    for axes in grid[:, 0]:
        axes.set_ylabel("top-1 (%)", fontsize=7)
    for axes in list(grid.flat)[len(search.space) :]:
        axes.set_visible(False)
    return figure


def _scale(axes: Axes, dimension: Dimension, values: Sequence[float]) -> None:
    """Show a dimension from end to end, and values beyond them."""
    ends = [float(dimension.low or 0), float(dimension.high or 0)]
    low, high = min(*ends, *values), max(*ends, *values)
    if dimension.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(ends))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{end:g}" for end in ends])
        room = (high / low) ** 0.06
        axes.set_xlim(low / room, high * room)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=dimension.whole))
        axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))


def _dots(axes: Axes, places: Sequence[float], trials: Sequence[Standing]) -> None:
    """Draw the scores of complete trials; the others, after less training, at the foot."""
    axes.grid(axis="y", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    for x, s in zip(places, trials, strict=True):
        first = s.trial.number == 0
        if s.state != "complete":
            foot = axes.get_xaxis_transform()
            axes.plot(x, 0.03, "o", ms=3.5, mfc="none", mec=RULE, mew=0.8, transform=foot)
            continue
        axes.plot(
            x,
            s.score or 0.0,
            "D" if first else "o",
            ms=5.5 if first else 4,
            mfc=MEAN if first else POINT,
            mec=INK if first else POINT,
            zorder=3 if first else 2,
        )
    axes.margins(y=0.15)
