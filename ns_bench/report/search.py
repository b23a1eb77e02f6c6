"""The report of one arm's search: what was tried, what it scored, and the best recipe to take."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from ns_bench.files import publish
from ns_bench.report import figure as figures
from ns_bench.report import html, style
from ns_bench.report import markdown as md
from ns_bench.report.blocks import (
    Block,
    Code,
    Heading,
    Items,
    Notes,
    Page,
    Panel,
    Paragraph,
    Picture,
    Span,
    Table,
    Text,
)
from ns_bench.report.numbers import MISSING, points, signed
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
    shown = [s for s in standings if s.score is not None]
    drawings = {}
    if shown:
        for stem, drawn in (("history", history(search, shown)), ("slices", slices(search, shown))):
            figures.write(style.lay_out(drawn), folder / stem)
        drawings = {
            "history": style.inline(style.lay_out(history(search, shown, 4.6)), "history", _ALT),
            "slices": style.inline(style.lay_out(slices(search, shown, 2)), "slices", _SLICES),
        }
    said = content(search, standings)
    publish(folder / "search.html", html.render(said, drawings).encode())
    path = folder / "search.md"
    publish(path, md.render(said).encode())
    return path


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
    fields = changes(search.space, best.trial.params)
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


def content(search: Search, standings: Sequence[Standing]) -> Page:
    """Return the page."""
    settings = search.settings
    title = f"Search: {settings.study} · {settings.profile} · {search.arm}"
    best = best_of(standings)
    counts = pd.Series([s.state for s in standings]).value_counts()
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    hours = sum(s.seconds for s in standings) / 3600
    blocks: list[Block] = [
        Paragraph(
            f"{len(standings)} trials ({states}) by {settings.sampler}, sampler seed "
            f"{settings.seed}, {hours:.2f} hours of training. Scored by validation top-1 of the "
            f"averaged weights, mean over tuning seeds 1000 to {999 + settings.seeds}: no test "
            "row and no reporting seed was read."
        )
    ]
    if best is None:
        reasons = sorted({s.reason for s in standings if s.reason})
        items: list[Text] = [[Span("No trial is complete.", bold=True)], *reasons]
        return Page(title, [*blocks, Notes(items), _trials(search, standings)])
    blocks += [
        Heading("Best recipe"),
        Paragraph(
            [
                Span(f"Trial {best.trial.number}: {points(best.score)} %.", bold=True),
                f" {_place(standings, best)}",
                " The best of many is flattered by chance: its worth is what fresh seeds show, ",
                Span("--tuned", code=True),
                ".",
            ]
        ),
        Code(_command(search, best)),
        Paragraph(["The same as a file: ", Span("best.toml", file="best.toml"), "."]),
        Picture("history", _ALT, [Panel("history", _ALT)]),
        Picture("slices", _SLICES, [Panel("slices", _SLICES)]),
        *_front(search, standings),
        *_importances(search, standings),
        Heading("Space"),
        Items([_range(dimension) for dimension in search.space]),
        *_left_out(search),
        Heading("Trials"),
        _trials(search, standings),
    ]
    return Page(title, blocks)


_ALT = "The score of every trial in the order of the search, and the best so far"
_SLICES = "The score of every trial by the value of each parameter"


def _place(standings: Sequence[Standing], best: Standing) -> str:
    ranked = sorted(
        (s for s in standings if s.state == "complete"),
        key=lambda s: (-(s.score or 0.0), s.trial.number),
    )
    place = next((i for i, s in enumerate(ranked, 1) if s.trial.number == 0), None)
    if place is None:
        return "The arm's own recipe (trial 0) is not complete."
    own = standings[0].score
    assert own is not None and best.score is not None
    return (
        f"The arm's own recipe (trial 0, {points(own)} %) is number {place} of {len(ranked)} "
        f"complete trials, {signed(own - best.score)} points from the best."
    )


def _command(search: Search, best: Standing) -> str:
    fields = changes(search.space, best.trial.params)
    sets = " \\\n".join(f"  --set {name}={value}" for name, value in sorted(fields.items()))
    settings = search.settings
    command = f"python -m ns_bench.study {settings.study} --profile {settings.profile}"
    return f"{command} \\\n{sets}"


def _front(search: Search, standings: Sequence[Standing]) -> list[Block]:
    if len(search.settings.objectives) == 1:
        return []
    rows: list[list[Text]] = [
        [str(s.trial.number), points(s.score), f"{s.cost:.1f}"] for s in front_of(standings)
    ]
    header = ["trial", "top-1 (%)", "training a network (s, estimated)"]
    return [
        Heading("Pareto front"),
        Paragraph("No other trial is both better and cheaper than one of these."),
        Table("Pareto front", header, rows),
    ]


def _importances(search: Search, standings: Sequence[Standing]) -> list[Block]:
    shares = importances(search, standings)
    if not shares:
        return []
    rows: list[list[Text]] = [[name, f"{100 * share:.0f}"] for name, share in shares.items()]
    return [
        Heading("Importances"),
        Paragraph(
            "Each parameter's share of the variance of the scores (fANOVA over complete trials)."
        ),
        Table("Importances", ["parameter", "share (%)"], rows),
    ]


def _range(d: Dimension) -> Text:
    if d.choices:
        said = "one of " + ", ".join(map(str, d.choices))
    else:
        said = f"{d.low:g} to {d.high:g}"
        said += f" in steps of {d.step:g}" if d.step else ""
        said += ", even in the logarithm" if d.log else ""
    if d.when:
        said += ", where " + " and ".join(f"{name} = {value}" for name, value in d.when)
    return [Span(d.name, code=True), f": {said}"]


def _left_out(search: Search) -> list[Block]:
    tuned = {d.name for d in search.space}
    names = [d.name for d in search.settings.space if d.name not in tuned]
    if not names:
        return []
    said = "Left as they are, since the arm does not use them or the study varies them: "
    return [Paragraph([said, Span(", ".join(names), code=True), "."])]


def _trials(search: Search, standings: Sequence[Standing]) -> Table:
    ranked = sorted(
        standings,
        key=lambda s: (s.state != "complete", -(s.score or 0.0), s.trial.number),
    )
    names = [d.name for d in search.space]
    rows: list[list[Text]] = [
        [
            str(s.trial.number),
            s.state,
            points(s.score),
            f"{len(s.values)}/{search.settings.seeds}",
            *(_short(s.trial.params.get(name)) for name in names),
            s.reason,
        ]
        for s in ranked
    ]
    header = ["trial", "state", "top-1 (%)", "seeds", *names, "reason"]
    found = Table("Trials", header, rows, sortable=True)
    return found if any(s.reason for s in standings) else found.without("reason")


def _short(value: Any) -> str:
    if value is None:
        return MISSING
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def history(search: Search, shown: Sequence[Standing], width: float = 9.0) -> Figure:
    """Return the figure of scores by trial; `shown` have a score."""
    figure = Figure(figsize=(width, 3.2))
    axes = figure.subplots()
    _dots(axes, [(s.trial.number, s) for s in shown])
    top: float | None = None
    line = []
    for s in shown:
        if s.state == "complete" and (top is None or (s.score or 0.0) > top):
            top = s.score
        line.append(math.nan if top is None else top)
    axes.step([s.trial.number for s in shown], line, where="post", color=MEAN, lw=1.4, zorder=1)
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
        mine = [s for s in shown if dimension.name in s.trial.params]
        choices = list(map(str, dimension.choices))
        if choices:
            own = [str(s.trial.params[dimension.name]) for s in mine]
            choices += [c for c in dict.fromkeys(own) if c not in choices]
            _dots(axes, [(choices.index(c), s) for c, s in zip(own, mine, strict=True)])
            axes.set_xticks(range(len(choices)), choices)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        else:
            values = [float(s.trial.params[dimension.name]) for s in mine]
            _dots(axes, list(zip(values, mine, strict=True)))
            ends = [float(dimension.low or 0), float(dimension.high or 0)]
            low, high = min(ends + values), max(ends + values)
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
        axes.set_title(dimension.name, fontsize=7, loc="left")
        axes.tick_params(labelsize=7)
    for axes in grid[:, 0]:
        axes.set_ylabel("top-1 (%)", fontsize=7)
    for axes in list(grid.flat)[len(search.space) :]:
        axes.set_visible(False)
    return figure


def _dots(axes: Axes, where: Sequence[tuple[float, Standing]]) -> None:
    """Draw the scores of complete trials; the others, after less training, at the foot."""
    axes.grid(axis="y", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    for x, s in where:
        own = s.trial.number == 0
        if s.state != "complete":
            foot = axes.get_xaxis_transform()
            axes.plot(x, 0.03, "o", ms=3.5, mfc="none", mec=RULE, mew=0.8, transform=foot)
            continue
        axes.plot(
            x,
            s.score or 0.0,
            "D" if own else "o",
            ms=5.5 if own else 4,
            mfc=MEAN if own else POINT,
            mec=INK if own else POINT,
            zorder=3 if own else 2,
        )
    axes.margins(y=0.15)
