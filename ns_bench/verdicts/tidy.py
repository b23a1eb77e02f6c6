"""All finished runs of a store, whichever studies they are of, as tidy tables."""

import sys
from pathlib import Path

import pandas as pd

from ns_bench.errors import UserError
from ns_bench.files import Corrupt
from ns_bench.recipe import HISTORICAL_DEFAULTS
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Run, Store, run_in
from ns_bench.verdicts.table import row


def runs_of(folder: Path) -> pd.DataFrame:
    """Return a row a run, in the order of ids; see `ns_bench.read_runs`."""
    found = _finished(folder)
    measured = {run.id: _groups(run) for run in found}
    plan = make_plan(Store(folder, read_only=True), [run.recipe for run in found], measured)
    rows = []
    for run in found:
        fields = {name: run.recipe.field(name) for name in HISTORICAL_DEFAULTS}
        about = {"seed": run.recipe.seed, "generation": run.recipe.generation}
        rows.append({**row(plan, run.id), **about, **fields})
    return pd.DataFrame(rows).drop(columns=["reason"], errors="ignore")


def curves_of(folder: Path) -> pd.DataFrame:
    """Return a row a look of each run; see `ns_bench.read_curves`."""
    records = [
        {"run": run.id, **record}
        for run in _finished(folder)
        for record in run.metrics()
        if "loss" in record
    ]
    return pd.DataFrame(records)


def _groups(run: Run) -> tuple[str, ...]:
    names = (path.stem.removeprefix("measured-") for path in run.path.glob("measured-*.json"))
    return tuple(sorted(group for group in names if run.measured(group)))


def _finished(folder: Path) -> list[Run]:
    """Return the runs that have a result, by id; what is damaged is said and left out."""
    if not (folder / "store.json").is_file():
        raise UserError(f"{folder}: there is no store of runs (store.json)")
    found = []
    for path in sorted(file.parent for file in folder.glob("*/result.json")):
        try:
            run = run_in(path.resolve())
            run.result()
        except (Corrupt, UserError) as damage:
            print(f"ns_bench: {path.name} is left out: {damage}", file=sys.stderr)
        else:
            found.append(run)
    return found
