"""What is known of a study beside its tables: seeds in the store, earlier looks, when claims were
stated. It is kept in a file beside the tables, so that a report made of these says the same."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ns_bench.design.definition import Design, Study
from ns_bench.design.profile import Profile
from ns_bench.design.schedule import Schedule
from ns_bench.errors import UserError
from ns_bench.execute.provenance import commits_of, git_log, utc
from ns_bench.fields import build, convert, default, needed
from ns_bench.files import publish_json
from ns_bench.runs.store import Store

PROTOCOL = "protocol.json"
"""Beside the tables of a study: its looks, and its record."""


VERIFIED = "verified.json"
"""In a store: {study-profile: when `--verify` found all whole}."""


@dataclass(frozen=True)
class Stated:
    """When a study's claims were stated, against its first run; times are UTC, as in ISO 8601.

    Attributes:
        commit, time: the last commit of the study's file that is no younger than the first run; its
            first commit where none is.
        first_run: when the oldest result was made; of old tables, which do not say, when its code
            was committed.
        older, results: how many results are older than the statement, of how many. A study may
            share runs with others that ran before it.
        changes: commits of the file since, of which the last is `last_commit`.
    """

    commit: str
    time: str
    first_run: str
    older: int
    results: int
    changes: int
    last_commit: str
    last_time: str


@dataclass(frozen=True)
class Record:
    """What is known of a study beside its tables.

    Attributes:
        held: how many seeds the store has of every arm, without a gap; None where it is not known.
        judged: looks at which the store was judged by another schedule, or another fixed number.
        stated: None where the study's file is in no git repository, or no run is done.
        verified: when every file of what was done held against its checksum (UTC); "" is never.
    """

    held: int | None = None
    judged: tuple[int, ...] = ()
    stated: Stated | None = None
    verified: str = ""


@dataclass(frozen=True)
class _Protocol:
    """The file beside the tables: a `Schedule` and a `Record`."""

    stated: Stated | None
    looks: tuple[int, ...] = needed("of the schedule", "[1, 1000]")
    spending: tuple[float, ...] = needed("of the schedule", "[0, 1]")
    held: int | None = needed("of the record", "[0, 1000]")
    judged: tuple[int, ...] = needed("of the record", "[1, 1000]")
    verified: str = default("", "of the record; older ones do not say")


def seeds_held(design: Design, store: Store, complete: int, seeds: int) -> int:
    """Return how many seeds a store has of every arm, given how many of `seeds` are complete."""
    count = complete
    while count >= seeds:
        recipes = design.recipes([count]).values()
        if any(store.run(recipe).state() != "done" for recipe in recipes):
            break
        count += 1
    return count


def note_verified(store: Store, study: Study, profile: Profile) -> None:
    """Keep in the store that every file of a study's runs has just been found whole."""
    known = {**_verified(store), f"{study.name}-{profile.name}": utc(time.time())}
    publish_json(store.root / VERIFIED, known)


def last_verified(store: Store, study: Study, profile: Profile) -> str:
    """Return when every file of a study's runs was found whole; "" if it never was."""
    return _verified(store).get(f"{study.name}-{profile.name}", "")


def _verified(store: Store) -> dict[str, str]:
    try:
        known = json.loads((store.root / VERIFIED).read_bytes())
        times: dict[str, str] = convert(known, dict[str, str], VERIFIED)
    except (OSError, ValueError, RecursionError, UserError):
        return {}
    return times


def stated(study: Study, runs: pd.DataFrame) -> Stated | None:
    """Return when a study's claims were stated, by the history of its file."""
    done = runs[runs["test_top1"].notna()]
    if not study.file or done.empty:
        return None
    file = Path(study.file).resolve()
    history = commits_of(file)
    times = _made(done, file.parent) if history else []
    if not times:
        return None
    first_run = min(times)
    before = [commit for commit in history if commit[1] <= first_run]
    commit, time = before[0] if before else history[-1]
    older = sum(made < time for made in times)
    changes = len(history) - max(len(before), 1)
    return Stated(commit, time, first_run, older, len(times), changes, *history[0])


def _made(done: pd.DataFrame, folder: Path) -> list[str]:
    """Return when results were made, or their code was committed where they do not say."""
    made = done.drop_duplicates("run")
    if "time" in made:
        return sorted(made[made["time"] != ""]["time"])
    commits = made["git"] if "git" in made else pd.Series(dtype=object)
    known = {commit: git_log(folder, "-1", commit) for commit in set(commits) - {"", "None"}}
    return sorted(known[commit][0][1] for commit in commits if known.get(commit))


def to_json(schedule: Schedule, record: Record) -> dict[str, Any]:
    """Return what the file beside the tables says."""
    return {**asdict(schedule), **asdict(record)}


def read(folder: Path) -> tuple[Schedule, Record] | None:
    """Return what the file beside the tables says, None without one.

    Raises:
        UserError: there is one that says something else.
    """
    path = folder / PROTOCOL
    if not path.is_file():
        return None
    try:
        given = json.loads(path.read_bytes())
        whole: _Protocol = build(_Protocol, given)
        record = Record(whole.held, whole.judged, whole.stated, whole.verified)
        return Schedule(whole.looks, whole.spending), record
    except (ValueError, RecursionError, OSError, UserError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: not a protocol of looks: {why}") from None
