"""The tidy tables of a study's results: runs and curves, from a store or from published CSV."""

import base64
import csv
import io
import re
import zlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ns_bench.design.definition import TUNING_SEEDS, Design
from ns_bench.errors import UserError, located
from ns_bench.fields import convert, interval
from ns_bench.files import Corrupt
from ns_bench.robustness import metric_name
from ns_bench.runs import outcomes
from ns_bench.runs.plan import Plan
from ns_bench.runs.store import OUTCOMES, Result, Run, State

TEXT = [
    *("arm", "run", "state", "reason", "teacher", "model"),
    *("host", "device", "device_name", "git", "dirty", "time", "torch", "timm"),
    *("pillow", "matplotlib"),
    "pretrained",
    *("outcomes_of", "outcomes_tested", "outcomes_right"),
    *("outcomes_per_class", "outcomes_confused"),
    *("pseudo_per_class_pool", "pseudo_per_class_used"),
    *("pseudo_per_tenth", "pseudo_per_tenth_right", "data_fingerprint"),
]
"""Columns of the table of runs that hold words; "" where there is none."""

LIMITS = {
    "seed": interval(f"[0, {TUNING_SEEDS})"),
    r".*(top1|top5|ece|coverage|flips)": interval("[0, 100]"),
    r"step|steps|images|.*seconds|images_per_second|weights|.*loss|lr": interval("[0, 1e18]"),
    ".*": interval("[-1e18, 1e18]"),
}
"""Columns of numbers, the first that fits, and what these may be."""

STATES = (*get_args(State), "blocked")

COMPUTATION = ("torch", "timm", "pillow", "matplotlib", "device", "device_name")
"""Those that say by what a run was computed."""


def collect(design: Design, plan: Plan, seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (runs, curves) as tidy tables, which hold everything a report shows.

    Every arm and seed that the plan asks for is a row of runs, whatever its state; so is a
    teacher that is not done and is no arm itself, its arm being "".
    """
    rows, curves = [], []
    recipes = {at: r for at, r in design.recipes(range(seeds)).items() if r.id in plan.runs}
    asked = {recipe.id for recipe in recipes.values()}
    needed: dict[str, int] = {}
    for (_, seed), recipe in recipes.items():
        link = recipe.teacher
        while link is not None:
            needed.setdefault(link.id, seed)
            link = link.teacher
    for run_id, seed in needed.items():
        if run_id not in asked and plan.states[run_id] != "done":
            rows.append({"arm": "", "seed": seed, **row(plan, run_id)})
    for (arm, seed), recipe in recipes.items():
        rows.append({"arm": arm, "seed": seed, **row(plan, recipe.id)})
        log = plan.runs[recipe.id].metrics()
        curves += [{"arm": arm, "seed": seed, **r} for r in log if "loss" in r]
    runs = pd.DataFrame(rows)
    words = [column for column in runs if column in TEXT]
    runs[words] = runs[words].astype(object).fillna("")
    return runs, pd.DataFrame(curves)


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Load what `page.write` wrote: (runs, curves), to the last bit.

    Raises:
        UserError: there is no runs.csv, or it is not a table of runs.
    """
    path = folder / "runs.csv"
    runs = _read(path)
    for column in ("arm", "seed", "run", "state", "test_top1"):
        if column not in runs:
            raise UserError(f"{path}: not a table of runs, it has no column '{column}'")
    if runs.empty:
        raise UserError(f"{path}: it holds no runs")
    for state in runs["state"]:
        if state not in STATES:
            raise UserError(f"{path}: state={state}: expected one of {', '.join(STATES)}")
    if (runs["state"].isin(["done", "unmeasured"]) & runs["test_top1"].isna()).any():
        raise UserError(f"{path}: a run that is done has no test_top1")
    if runs[runs["arm"] != ""].duplicated(["arm", "seed"]).any():
        raise UserError(f"{path}: an arm has two rows of one seed")
    for i in runs.index[runs["outcomes_right"] != ""] if "outcomes_right" in runs else ():
        with located(f"{path}, line {i + 2}"):
            _check_outcomes(runs.loc[i])
    curves = _read(path := folder / "curves.csv") if (folder / "curves.csv").exists() else None
    if curves is None or curves.empty:
        return runs, pd.DataFrame()
    for column in ("arm", "seed", "step", "loss"):
        if column not in curves:
            raise UserError(f"{path}: not a table of curves, it has no column '{column}'")
    return runs, curves


def _check_outcomes(run: "pd.Series[Any]") -> None:
    """Refuse outcomes of test images that no run has, or that are not what its top-1 says."""
    try:
        count = sum(map(int, run["outcomes_per_class"].split()))
        right = flags(run["outcomes_right"], count)
        pairs = [re.fullmatch(r"(\d+)>(\d+):(\d+)", p) for p in run["outcomes_confused"].split()]
        wrong = sum(int(pair[3]) for pair in pairs if pair)
        whole = None not in pairs and wrong == count - right.sum() and 0 < count == len(right)
        if tested := run["outcomes_tested"]:
            whole = whole and flags(tested).sum() == count
        whole = whole and abs(100 * right.mean() - run["test_top1"]) < 0.01
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"not outcomes of test images: {error!r}") from None
    if not whole:
        raise UserError(
            f"outcomes of {count} test images, {right.sum()} of them right, do not fit each other "
            f"or test_top1={run['test_top1']}"
        )


def _read(path: Path) -> pd.DataFrame:
    try:
        # All as words first: an arm may be called NA, and pandas' floats may be off by a bit.
        table = pd.read_csv(path, dtype=object, keep_default_na=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as a table: {why}") from None
    text = path.read_text(encoding="utf-8")
    if len({*map(len, csv.reader(io.StringIO(text)))}) > 1 or not text.endswith("\n"):
        raise UserError(f"{path}: a line of it is cut")
    for column in table.columns.difference(TEXT, sort=False):
        with located(str(path)):
            table[column] = _numbers(column, table[column])
    return table


def _numbers(column: str, cells: pd.Series) -> pd.Series:
    """Return a column's numbers, nan where a cell is empty."""
    within = next(limits for name, limits in LIMITS.items() if re.fullmatch(name, column))
    kind = int if column == "seed" else float
    for cell in dict.fromkeys(cells):
        if cell or column == "seed":
            convert(cell, kind, column, within, text=True)
    try:
        return cells.map(int).astype(np.int64)
    except (ValueError, OverflowError):
        return cells.map(lambda cell: float(cell) if cell else np.nan).astype(np.float64)


def row(plan: Plan, run_id: str) -> dict[str, object]:
    """Return the columns of a run, but for arm and seed."""
    run, state = plan.runs[run_id], plan.states[run_id]
    reason = ""
    if state == "failed":
        reason = " ".join(str((run.failure() or {}).get("error", "")).split())
    elif state == "blocked" and run.teacher is not None:
        reason = f"below {run.teacher.id}, which has no result"
    return {
        "run": run.id,
        "state": state,
        "teacher": run.teacher.id if run.teacher else None,
        "model": run.recipe.model,
        # A run that finished after the plan was made is not half in.
        **_columns(result := _result(run) if state in ("done", "unmeasured") else None),
        **_outcomes(run, result),
        **_measured(run),
        **_chain(run),
        "teacher_test_top1": _teacher_top1(run),
        "reason": reason,
    }


def _chain(run: Run) -> dict[str, object]:
    """Return what a run and its teachers take together, and the weights they began with."""
    chain = [run]
    while chain[-1].teacher is not None:
        chain.append(chain[-1].teacher)
    results = [_result(link) for link in chain]
    weights = {str(link.recipe.pretrained) for link in chain} - {""}
    seconds = sum(result.seconds if result else np.nan for result in results)
    return {
        "chain_steps": sum(link.recipe.steps for link in chain),
        "chain_images": sum(link.recipe.images for link in chain),
        "chain_seconds": seconds,
        **({"pretrained": ", ".join(sorted(weights))} if weights else {}),
    }


def _measured(run: Run) -> dict[str, float]:
    columns: dict[str, float] = {}
    for group in run.wanted:
        if (measured := run.measured(group)) is not None:
            values = measured.values.items()
            columns |= {f"test_{metric_name(group, name)}": value for name, value in values}
            columns[f"{group}_seconds"] = measured.seconds
    return columns


def _outcomes(run: Run, result: Result | None) -> dict[str, str]:
    """Return what is known of a run's test rows image by image, as words for a cell.

    `outcomes_tested` and `outcomes_right` are flags as `flags` reads them, the former empty where
    every image is a test row. `outcomes_per_class` counts test rows, and `outcomes_confused` those
    that are wrong: `3>5:2` are two of class 3 that the network says are 5.
    """
    if result is None or OUTCOMES not in result.artifacts:
        return {}
    try:
        found = outcomes.read(run.artifact(OUTCOMES))
    except Corrupt:
        return {}
    wrong = np.column_stack([found.labels, found.predicted])[~found.right]
    pairs, counts = np.unique(wrong, axis=0, return_counts=True)
    confused = [f"{a}>{b}:{n}" for (a, b), n in zip(pairs, counts, strict=True)]
    return {
        "outcomes_of": found.digest,
        "outcomes_tested": "" if found.tested.all() else _cell(found.tested),
        "outcomes_right": _cell(found.right),
        "outcomes_per_class": " ".join(map(str, np.bincount(found.labels))),
        "outcomes_confused": " ".join(confused),
    }


def computations(runs: pd.DataFrame) -> list[str]:
    """Return in what the runs of a table are not one computation, e.g. `torch 2.6.0 (8 runs) and
    2.7.0 (40 runs)`. What a run does not tell, as old ones do not, is not compared."""
    done = runs[runs["test_top1"].notna()]
    usual = {"numerics": 1, "parts": 1, "compiled": 0, "onednn": 0}  # where the table does not say
    found = []
    for column in (*COMPUTATION, *usual):
        told = done.get(column, pd.Series(index=done.index, dtype=float))
        told = told.fillna(usual[column]).astype(int) if column in usual else told.dropna()
        if column == "device":  # which of several GPUs is none
            told = told.map(lambda name: name.partition(":")[0])
        ways = told[told != ""].value_counts().sort_index()
        if len(ways) > 1:
            each = " and ".join(f"{value} ({count} runs)" for value, count in ways.items())
            found.append(f"{column.replace('_', ' ')} {each}")
    sizes = done.dropna(subset="weights") if "weights" in done else done[:0]
    for model, several in sizes.groupby("model"):
        if several["weights"].nunique() > 1:
            counts = " and ".join(f"{size:,.0f}" for size in np.unique(several["weights"]))
            found.append(f"{model} with {counts} weights")
    return found


def suspicions(runs: pd.DataFrame) -> list[str]:
    """Return what arms have that says that something is not as it was meant.

    An arm at chance has not learned: its mean top-1 is within two standard errors of the share of
    the most frequent class. Arms with other runs, of the same top-1 and loss at every seed to the
    last bit, have the same networks: what they differ in does nothing.
    """
    done = runs[runs["test_top1"].notna() & (runs["arm"] != "")]
    found, same = [], dict[tuple[object, ...], list[str]]()
    for arm, several in done.groupby("arm", sort=False):
        counts = several.get("outcomes_per_class", pd.Series(dtype=object)).iloc[:1]
        rows = [int(count) for count in " ".join(counts).split()]
        if rows:
            chance = max(rows) / sum(rows)
            error = np.sqrt(chance * (1 - chance) / (sum(rows) * len(several)))
            if several["test_top1"].mean() <= 100 * (chance + 2 * error):
                found.append(f"'{arm}' is at chance ({100 * chance:.1f} %): it has not learned")
        ordered = several.sort_values("seed")
        if "test_loss" in ordered and len(rows):
            key = (*ordered["seed"], *ordered["test_loss"], *ordered["test_top1"])
            same.setdefault(key, []).append(str(arm))
    for arms in same.values():
        ids = [tuple(done[done["arm"] == arm]["run"]) for arm in arms]
        if len(set(ids)) > 1:
            named = " and ".join(f"'{arm}'" for arm in arms)
            found.append(f"{named} have the same networks at every seed: they differ in nothing")
    return found


def _cell(bits: NDArray[np.bool_]) -> str:
    return base64.b64encode(zlib.compress(np.packbits(bits).tobytes(), 9)).decode()


def flags(cell: str, count: int | None = None) -> NDArray[np.bool_]:
    """Return the flags that a cell holds, bool [`count`], or with up to 7 more that are False.

    Raises:
        UserError: it holds no flags.
    """
    try:
        packed = zlib.decompress(base64.b64decode(cell, validate=True))
    except (ValueError, zlib.error):
        raise UserError(f"a table of runs has a cell that holds no flags: {cell[:20]}") from None
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(bool)


def _result(run: Run) -> Result | None:
    try:
        return run.result()
    except Corrupt:
        return None


def _teacher_top1(run: Run) -> float:
    result = _result(run.teacher) if run.teacher else None
    return result.test["top1"] if result else np.nan


def _columns(result: Result | None) -> dict[str, object]:
    if result is None:
        return {"test_top1": np.nan}
    code = result.provenance
    return {
        **{f"test_{name}": value for name, value in result.test.items()},
        **{f"validation_{name}": value for name, value in result.validation.items()},
        **{
            f"pseudo_{name}": " ".join(map(str, value)) if isinstance(value, list) else value
            for name, value in (result.pseudo or {}).items()
        },
        **{f"data_{name}": value for name, value in result.data.items()},
        "steps": result.steps,
        "images": result.images,
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
        "resumed": result.resumed,
        "host": code["host"],
        "device": code["device"],
        "device_name": code["device_name"],
        "threads": code.get("threads", np.nan),
        "git": code["git"],
        "dirty": str(code["dirty"]),
        "time": code["time"],
        "torch": code["packages"]["torch"],
        "timm": code["packages"]["timm"],
        **{name: code[name] for name in ("numerics", "weights") if name in code},
        # what most runs are not
        **_drawn_by(result),
        **({"parts": code["parts"]} if code.get("parts", 1) > 1 else {}),
        **({"compiled": 1} if code.get("compiled") else {}),
        **({"onednn": 1} if code.get("onednn") else {}),
    }


def _drawn_by(result: Result) -> dict[str, str]:
    """Return the versions of what draws glyphs, where there are such among the images."""
    data, packages = result.recipe.get("data", {}), result.provenance["packages"]
    if "glyphs" not in (data.get("name"), data.get("source")):
        return {}
    return {name: packages[name] for name in ("pillow", "matplotlib") if packages.get(name)}
