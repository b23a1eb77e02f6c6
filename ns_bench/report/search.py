"""The report of a search: what was tried, what it scored, and the best recipe to take away."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd

from ns_bench.report.numbers import points, signed
from ns_bench.report.page import table
from ns_bench.store import publish
from ns_bench.tuning.space import changes
from ns_bench.tuning.trials import Search, Standing, best_of, frozen

INK, DONE, PRUNED, BEST = "#333333", "#8da9c4", "#c9c9c9", "#134074"


def write_search(search: Search, standings: Sequence[Standing], folder: Path) -> Path:
    """Write search.md, trials.csv, best.toml and the figure into `folder`; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = trials_table(search, standings)
    publish(folder / "trials.csv", frame.to_csv(index=False).encode())
    best = best_of(standings)
    if best is not None:
        publish(folder / "best.toml", recipe_toml(search, best).encode())
        draw(search, standings, folder / "search.png")
    path = folder / "search.md"
    publish(path, markdown(search, standings).encode())
    return path


def trials_table(search: Search, standings: Sequence[Standing]) -> pd.DataFrame:
    """Return one row a trial: its state, score, seeds, seconds and parameters."""
    return pd.DataFrame(
        {
            "trial": s.trial.number,
            "state": s.state,
            "validation_top1": s.value if s.values else float("nan"),
            "seeds": len(s.values),
            "seconds": s.seconds,
            **{d.name: s.trial.params.get(d.name) for d in search.space},
            "reason": s.reason,
        }
        for s in standings
    )


def recipe_toml(search: Search, best: Standing) -> str:
    """Return the best trial's fields as TOML that `ns_bench.study --recipe` takes."""
    lines = [f"# {search.study}, profile {search.profile}, arm {search.arm}: {search.id}"]
    lines.append(f"# trial {best.trial.number}: validation top-1 {best.value:.2f} %")
    fields = changes(search.space, best.trial.params)
    lines += [f"{name} = {_toml(value)}" for name, value in sorted(fields.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def importances(search: Search, standings: Sequence[Standing]) -> dict[str, float]:
    """Return each parameter's share of the variance of the scores (fANOVA); {} if unknown."""
    import optuna

    complete = [s for s in standings if s.state == "complete"]
    if len(complete) < 8 or len({s.value for s in complete}) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    for standing in complete:
        study.add_trial(frozen(standing, search.space, search.recipe))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def markdown(search: Search, standings: Sequence[Standing]) -> str:
    """Return the page as Markdown."""
    best = best_of(standings)
    seeds = f"{search.seeds} tuning seeds from 1000 on"
    lines = [
        f"# Search: {search.study} · {search.profile} · {search.arm}",
        f"{len(standings)} trials by {search.sampler}, scored by validation top-1, mean over "
        f"{seeds}. No test row and no reporting seed was read.",
    ]
    if best is None:
        reasons = sorted({s.reason for s in standings if s.reason})
        return "\n\n".join([*lines, "**No trial finished.**", *reasons]) + "\n"
    fields = changes(search.space, best.trial.params)
    sets = " ".join(f"--set {name}={value}" for name, value in sorted(fields.items()))
    ranked = sorted(
        (s for s in standings if s.state == "complete"), key=lambda s: (-s.value, s.trial.number)
    )
    first = next((i for i, s in enumerate(ranked, 1) if s.trial.number == 0), None)
    place = (
        f"The default recipe (trial 0) is number {first} of {len(ranked)} finished trials, "
        f"{signed(standings[0].value - best.value)} points from the best."
        if first
        else "The default recipe (trial 0) did not finish."
    )
    lines += [
        f"**Best: trial {best.trial.number}, {points(best.value)} %.** {place}",
        f"```\n{sets}\n```",
        "![score of every trial, and by parameter](search.png)",
    ]
    shares = importances(search, standings)
    if shares:
        rows = [[name, f"{100 * share:.0f} %"] for name, share in shares.items()]
        lines += ["## Importances (fANOVA)", table(["parameter", "share of variance"], rows)]
    names = [d.name for d in search.space]
    rows = [
        [
            str(s.trial.number),
            s.state,
            points(s.value if s.values else None),
            f"{len(s.values)}/{search.seeds}",
            *(_short(s.trial.params.get(name)) for name in names),
        ]
        for s in [*ranked, *(s for s in standings if s.state != "complete")]
    ]
    lines += ["## Trials", table(["trial", "state", "top-1 (%)", "seeds", *names], rows)]
    return "\n\n".join(lines) + "\n"


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def draw(search: Search, standings: Sequence[Standing], path: Path) -> None:
    """Draw the history, and the score over each parameter."""
    matplotlib.use("agg")
    panels = 1 + len(search.space)
    rows = -(-panels // 4)
    figure, grid = plt.subplots(
        rows, min(panels, 4), figsize=(11, 2.6 * rows), layout="constrained", squeeze=False
    )
    done = [s for s in standings if s.values]
    history = grid.flat[0]
    colors = [DONE if s.state == "complete" else PRUNED for s in done]
    history.scatter([s.trial.number for s in done], [s.value for s in done], c=colors, s=14)
    top, line = -1.0, []
    for s in done:
        top = max(top, s.value if s.state == "complete" else -1.0)
        line.append(top if top >= 0 else float("nan"))
    history.step([s.trial.number for s in done], line, where="post", color=BEST, lw=1.2)
    history.set_title("history; line: best so far; pale: pruned", fontsize=8, loc="left")
    history.set_ylabel("validation top-1 (%)", fontsize=8)
    for axes, dimension in zip(list(grid.flat)[1:], search.space, strict=False):
        mine = [s for s in done if dimension.name in s.trial.params]
        values = [s.trial.params[dimension.name] for s in mine]
        if dimension.choices:
            values = [str(value) for value in values]
        axes.scatter(
            values,
            [s.value for s in mine],
            c=[DONE if s.state == "complete" else PRUNED for s in mine],
            s=14,
        )
        if dimension.log:
            axes.set_xscale("log")
        axes.set_title(dimension.name, fontsize=8, loc="left")
    for axes in list(grid.flat)[panels:]:
        axes.set_visible(False)
    for axes in grid.flat:
        axes.tick_params(labelsize=7)
    publish_figure(figure, path)


def publish_figure(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=140, metadata={"Software": None})
    plt.close(figure)
