"""`report export --track mlflow` or `trackio`: finished runs, shown in a tracker of experiments.

After the fact and from the store alone: nothing that trains knows of it, so that it can stop no
run. Where to is said as the tracker has it (MLFLOW_TRACKING_URI, TRACKIO_DIR). An experiment is a
study in a profile; a run that it has already is left as it is.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ns_bench.errors import UserError
from ns_bench.recipe import HISTORICAL_DEFAULTS

if TYPE_CHECKING:
    import pandas as pd

    from ns_bench.verdicts.analysis import Analysis


@dataclass(frozen=True)
class Tracked:
    """A run: its recipe by field, its scores, and {name: value} of each look by step."""

    name: str
    recipe: dict[str, Any]
    scores: dict[str, float]
    looks: list[tuple[int, dict[str, float]]]


def track(
    tracker: str, analyses: "Sequence[Analysis]", runs: "pd.DataFrame", curves: "pd.DataFrame"
) -> Iterator[str]:
    """Add what is done to a tracker; yields a line an experiment.

    Args:
        tracker: one of `TRACKERS`.
        runs, curves: of the store, see `ns_bench.read_runs` and `read_curves`.

    Raises:
        UserError: the tracker is not installed, or cannot be used.
    """
    for analysis in analyses:
        name = f"{analysis.study.name}-{analysis.profile.name}"
        try:
            added = TRACKERS[tracker](name, [*_done(analysis, runs, curves)])
        except ModuleNotFoundError as error:
            raise UserError(
                f"--track {tracker}: pip install 'ns_bench[{tracker}]' ({error})"
            ) from None
        except Exception as error:  # the tracker's, its server's or its database's
            why = " ".join(str(error).split())[:200]
            raise UserError(f"--track {tracker}: {why}") from None
        yield f"{tracker}: {name}: {added} runs added"


def _done(analysis: "Analysis", runs: "pd.DataFrame", curves: "pd.DataFrame") -> Iterator[Tracked]:
    by_id = runs.set_index("run")
    looks = dict([*curves.groupby("run")]) if len(curves) else {}
    arms = analysis.runs[analysis.runs["arm"] != ""]
    for arm, run_id in arms[["arm", "run"]].itertuples(index=False):
        if run_id not in by_id.index:
            continue
        row = by_id.loc[run_id].to_dict()
        records = looks[run_id].to_dict("records") if run_id in looks else []
        yield Tracked(
            f"{arm} · {run_id}",
            {"arm": arm, "seed": row["seed"], **{name: row[name] for name in HISTORICAL_DEFAULTS}},
            _numbers({name: row[name] for name in row if name not in HISTORICAL_DEFAULTS}),
            [(int(record.pop("step")), _numbers(record)) for record in records],
        )


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    numbers = {k: float(v) for k, v in row.items() if isinstance(v, int | float) and k != "seed"}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _mlflow(experiment: str, runs: list[Tracked]) -> int:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient()
    known = client.get_experiment_by_name(experiment)
    place = known.experiment_id if known else client.create_experiment(experiment)
    there, token = set(), None
    while token != "":
        page = client.search_runs([place], "attributes.status = 'FINISHED'", page_token=token)
        there |= {run.info.run_name for run in page}
        token = page.token or ""
    fresh = [run for run in runs if run.name not in there]
    for run in fresh:
        to = client.create_run(place, run_name=run.name).info.run_id
        params = [Param(name, str(value)) for name, value in run.recipe.items()]
        last = max((step for step, _ in run.looks), default=0)
        metrics = [
            Metric(name, value, 0, step)
            for step, values in [*run.looks, (last, run.scores)]
            for name, value in values.items()
        ]
        for start in range(0, len(params), 100):  # as many as a call takes
            client.log_batch(to, params=params[start : start + 100])
        for start in range(0, len(metrics), 1000):
            client.log_batch(to, metrics=metrics[start : start + 1000])
        client.set_terminated(to)
    return len(fresh)


def _trackio(experiment: str, runs: list[Tracked]) -> int:
    import trackio

    there = set()
    with contextlib.suppress(ValueError):  # there is no such project yet
        there = {run.name for run in trackio.Api().runs(experiment)}
    fresh = [run for run in runs if run.name not in there]
    for run in fresh:
        to = trackio.init(experiment, name=run.name, config=run.recipe, embed=False)
        for step, values in run.looks:
            to.log(values, step=step)
        to.log(run.scores, step=max((step for step, _ in run.looks), default=0))
        to.finish()
    return len(fresh)


TRACKERS: dict[str, Callable[[str, list[Tracked]], int]] = {"mlflow": _mlflow, "trackio": _trackio}
