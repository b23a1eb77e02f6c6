"""The run store: one directory a run, written so that a kill at any moment loses only seconds.

    runs/store.json                    version of the format
    runs/<slug>-<12 hex>/recipe.json   what the run is
                         metrics.jsonl appended to while it trains
                         checkpoint    sealed state to resume from; gone once the run is done
                         relabeled     sealed labels that its teacher made for it alone; gone, too
                         model.safetensors, logits.safetensors    averaged weights, pool logits
                         outcomes.safetensors   which test images it got right, and its predictions
                         labels/00003-of-01000   instead of the logits of a large pool, made when a
                                       student needs them: see `ns_bench.execute.label`
                         result.json   published last: a run is done when this is there and whole
                         measured-GROUP.json   what was measured of the finished run, where asked
                         failure.json  why it failed, with the traceback
                         lease.json    who works on it now (advisory)

Files are published whole (`ns_bench.files.publish`).
"""

import contextlib
import hashlib
import json
import math
import os
import socket
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from ns_bench.errors import UserError, unknown
from ns_bench.fields import build, convert, interval
from ns_bench.files import Corrupt, publish, publish_json, sealed_json, unsealed_json
from ns_bench.recipe import Recipe, own_code
from ns_bench.robustness import version
from ns_bench.runs.lease import Lease

SCHEMA = 1
"""Version of the files in a store. A store of a newer version is refused, never rewritten."""

State = Literal["done", "unmeasured", "running", "failed", "partial", "missing"]
LOGITS, MODEL, CHECKPOINT = "logits.safetensors", "model.safetensors", "checkpoint"
OUTCOMES, RELABELED = "outcomes.safetensors", "relabeled"
RECIPE, METRICS = "recipe.json", "metrics.jsonl"


@dataclass(frozen=True)
class Result:
    """What a finished run reports. Top-1 and calibration error in %, loss in nats.

    Attributes:
        test: scores on the test rows, read once, by the averaged weights after the last step.
        pseudo: quality of the teacher's labels against the hidden truth (a diagnostic), or None.
        artifacts: {file: {"sha256", "bytes"}}; old runs have no outcomes.
        teacher_logits: SHA-256 of the logits that this student learned from, or None. Those of a
            large pool are a file that names the weights its labels are made by.
        seconds: of training, over all attempts; `images` went through the network in them.
        data: facts of a data set in files, see `ns_bench.data.split.Dataset`.
        records: as `artifacts`, of what training wrote as it went; old runs have none of them.
    """

    id: str
    recipe: dict[str, Any]
    test: dict[str, float]
    validation: dict[str, float]
    pseudo: dict[str, Any] | None
    artifacts: dict[str, dict[str, Any]]
    teacher_logits: str | None
    steps: int
    images: int
    seconds: float
    images_per_second: float
    resumed: int
    provenance: dict[str, Any]
    schema: int = SCHEMA
    data: dict[str, Any] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """A group's metrics of one run, {name: %}, and the seconds it took to measure them."""

    values: dict[str, float]
    seconds: float


def _record(line: bytes) -> list[Any]:
    with contextlib.suppress(ValueError):
        return [json.loads(line)]
    return []


@lru_cache(maxsize=100_000)
def _parse(path: Path, *stat: int) -> Result:
    """Read a result.json; `stat` tells a published one from what it replaced.

    A plan looks at a run and at its teacher, and a command plans more than once.
    """
    values = json.loads(path.read_bytes())
    if not isinstance(values, dict):
        raise Corrupt("result.json is not this run's")
    if isinstance(schema := values.get("schema"), int) and schema > SCHEMA:
        _refuse_newer(path, schema)
    old = not values.keys() & {"sha256", "records"}  # from before results were sealed
    try:
        result: Result = build(Result, values if old else unsealed_json(values))
        known = result.artifacts | result.records
        for entry in (known.get(name, {}) for name in {MODEL, LOGITS, *known}):
            convert(entry.get("sha256"), str, "sha256"), convert(entry.get("bytes"), int, "bytes")
        for name in {"top1", "top5", "ece"} & result.test.keys():
            convert(result.test[name], float, f"test.{name}", interval("[0, 100]"))
        convert(result.schema, int, "schema", interval(f"[1, {SCHEMA}]"))
        if old and Recipe.from_dict(result.recipe).id != result.id:
            raise Corrupt("its recipe is another run's")
    except (UserError, Corrupt) as damage:
        raise Corrupt(f"result.json: {damage}") from None
    return result


@dataclass(frozen=True)
class Run:
    """A recipe and its directory in a store.

    Attributes:
        wanted: groups of metrics of `ns_bench.robustness`, asked for beside the result. They are no
            part of what the run is; it is `unmeasured` until it has them.
    """

    recipe: Recipe
    path: Path
    wanted: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.recipe.id

    @cached_property
    def teacher(self) -> "Run | None":
        teacher = self.recipe.teacher
        return None if teacher is None else Run(teacher, self.path.parent / teacher.id)

    def result(self) -> Result | None:
        """Return the published result, or None if there is none yet.

        Raises:
            Corrupt: result.json or an artifact's size is not what was published, or it learned
                from other logits than its teacher now has. UserError: from a newer ns_bench.
        """
        result = self._recorded()
        if result is None:
            return None
        for name, known in (result.artifacts | result.records).items():
            bytes_ = known["bytes"]
            try:
                size = (self.path / name).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                raise Corrupt(f"{name} is missing") from None
            if size != bytes_:
                raise Corrupt(f"{name} has {size} bytes instead of {bytes_}")
        if self.teacher is not None:
            try:
                teacher = self.teacher._recorded()
            except Corrupt:
                teacher = None  # reported when the teacher itself is looked at
            if teacher and teacher.artifacts[LOGITS]["sha256"] != result.teacher_logits:
                raise Corrupt("its teacher has been trained again since, with other logits")
        return result

    def _recorded(self) -> Result | None:
        """Return what result.json says, or None if there is none."""
        path = self.path / "result.json"
        try:
            stat = path.stat()
            result = _parse(path, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError, IsADirectoryError, NotADirectoryError) as error:
            # no other OSError: a file server that hiccups must not have a finished run redone
            raise Corrupt(f"result.json cannot be read ({error})") from None
        if result.id != self.id:
            raise Corrupt("result.json is not this run's")
        return result

    def artifact(self, name: str) -> Path:
        """Return the path of a published artifact after checking its SHA-256.

        Raises:
            Corrupt: the run is not done, or the file is not what was published.
        """
        result = self.result()
        if result is None:
            raise Corrupt("it has no result")
        path = self.path / name
        known = result.artifacts | result.records
        if hashlib.sha256(path.read_bytes()).hexdigest() != known[name]["sha256"]:
            raise Corrupt(f"the checksum of {name} does not match")
        return path

    def publish(self, result: Result) -> None:
        """Publish a result, which makes the run done."""
        publish_json(self.path / "result.json", sealed_json(asdict(result)))

    @property
    def unmeasured(self) -> list[str]:
        """Groups of metrics that are asked for and not there."""
        return [group for group in self.wanted if self.measured(group) is None]

    def measured(self, group: str) -> Measured | None:
        """Return what was measured of the published weights.

        None if nothing was, or by another version, or of other weights, or the file is damaged.
        """
        try:
            result = self._recorded()
            entry = json.loads((self.path / f"measured-{group}.json").read_bytes())
            entry = unsealed_json(entry) if "sha256" in entry else entry
            if result is None or entry["model"] != result.artifacts[MODEL]["sha256"]:
                return None
            values = {str(name): float(value) for name, value in entry["values"].items()}
            whole = entry["version"] == version(group) and all(map(math.isfinite, values.values()))
            return Measured(values, float(entry["seconds"])) if whole and values else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, Corrupt):
            return None

    def keep(self, group: str, measured: Measured) -> None:
        """Publish what was measured of the published weights."""
        result = self._recorded()
        assert result is not None
        model = result.artifacts[MODEL]["sha256"]
        entry = {"version": version(group), "model": model, **asdict(measured)}
        publish_json(self.path / f"measured-{group}.json", sealed_json(entry))

    def discard(self) -> None:
        """Take back `done`, so that the run is done again; the old result is kept aside."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "result.json").replace(_free_name(self.path, "result", "json"))
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def failure(self) -> dict[str, Any] | None:
        """Return {"error", "traceback", ...} of the last attempt, or None if it did not fail."""
        try:
            entry = json.loads((self.path / "failure.json").read_bytes())
            return {**entry, "error": entry["error"], "traceback": entry["traceback"]}
        except FileNotFoundError:
            return None
        except (ValueError, OSError, TypeError, KeyError) as error:
            return {"error": f"failed; failure.json cannot be read ({error})", "traceback": ""}

    def fail(self, error: str, traceback: str) -> None:
        """Record a failure. Nothing of the run's state is removed."""
        self.path.mkdir(parents=True, exist_ok=True)
        entry = {"error": error, "traceback": traceback, "time": time.time()}
        with contextlib.suppress(Corrupt):
            if self._recorded() is not None and self.unmeasured:
                entry["group"] = self.unmeasured[0]  # they are measured in their order
        publish_json(self.path / "failure.json", {**entry, "host": socket.gethostname()})

    def _is_over(self, failure: Path) -> bool:
        """Whether a trained run failed before that, or at a measurement that is not asked for."""
        group = (self.failure() or {}).get("group")
        asked = group is None or group in self.unmeasured
        return not asked or _older(failure, self.path / "result.json")

    def forgive(self) -> None:
        """Let a failed run be tried again; the old failure is kept aside."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "failure.json").replace(_free_name(self.path, "failure", "json"))

    def state(self) -> State:
        """Return where the run stands, from its files alone. A corrupt result is `partial`."""
        try:
            trained = self.result() is not None
        except Corrupt:
            return "partial"
        if trained and not self.unmeasured:
            return "done"
        if Lease(self.path).holder() is not None:
            return "running"
        failure = self.path / "failure.json"
        if failure.exists() and not (trained and self._is_over(failure)):
            return "failed"
        if trained:
            return "unmeasured"
        return "partial" if (self.path / CHECKPOINT).exists() else "missing"

    def log(self, record: dict[str, Any]) -> None:
        """Append a record to metrics.jsonl; a torn last line of a killed writer is closed first."""
        with (self.path / "metrics.jsonl").open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
            else:
                torn = False
            file.write((b"\n" if torn else b"") + json.dumps(record).encode() + b"\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the records by step; what a resumed run wrote again counts once."""
        try:
            lines = (self.path / "metrics.jsonl").read_bytes().splitlines()
        except (FileNotFoundError, IsADirectoryError):
            return []
        try:
            records = json.loads(b"[" + b",".join(lines) + b"]")
        except ValueError:  # a torn line of a killed writer
            records = [record for line in lines for record in _record(line)]
        by_step: dict[int, dict[str, Any]] = {}
        for record in records:
            with contextlib.suppress(KeyError, TypeError, AttributeError):
                looked = "loss" in by_step.get(record["step"], {})
                if "loss" in record or not looked:  # no event in place of what was measured
                    by_step[record["step"]] = record
        return [by_step[step] for step in sorted(by_step)]


def run_in(path: Path) -> Run:
    """Return the run in a folder. UserError: it is none, or has another run's name."""
    try:
        run = Run(Recipe.from_dict(json.loads((path / "recipe.json").read_bytes())), path)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a run: its recipe.json cannot be read ({error})") from None
    if run.id != path.name:
        raise UserError(f"{path} holds the recipe of {run.id}: the folder must have its name")
    own_code.look_in(path.parent / "code")
    return run


class Store:
    """A folder of runs.

    Raises:
        UserError: the folder cannot be used: not writable, or written by a newer ns_bench.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.root = root
        marker = root / "store.json"
        try:
            version = json.loads(marker.read_bytes())["schema"] if marker.exists() else SCHEMA
            _refuse_newer(marker, version)
            if not read_only:
                root.mkdir(parents=True, exist_ok=True)
                if not marker.exists():
                    publish_json(marker, {"schema": SCHEMA})
                publish(root / ".writable", b"")
        except OSError as error:
            raise UserError(f"store {root} is not writable: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"store {root}: store.json is not a store's marker file") from None

    def run(self, recipe: Recipe, wanted: tuple[str, ...] = ()) -> Run:
        return Run(recipe, self.root / recipe.id, wanted)

    def find(self, run_id: str, among: list[Run]) -> Run:
        """Return the run whose id is or uniquely begins or ends with `run_id`."""
        exact = [r for r in among if r.id == run_id or r.id.endswith(f"-{run_id}")]
        hits = exact or [r for r in among if run_id and r.id.startswith(run_id)]
        if len(hits) != 1:
            raise unknown("run", run_id, [r.id for r in among])
        return hits[0]


def _refuse_newer(path: Path, version: Any) -> None:
    if not isinstance(version, int) or not 1 <= version <= SCHEMA:
        raise UserError(
            f"{path} has schema {version}: this ns_bench reads up to {SCHEMA}; "
            "upgrade ns_bench or choose another --runs folder"
        )


def _older(path: Path, other: Path) -> bool:
    return path.stat().st_mtime_ns < other.stat().st_mtime_ns


def _free_name(folder: Path, stem: str, suffix: str) -> Path:
    number = 1
    while (folder / f"{stem}.{number}.{suffix}").exists():
        number += 1
    return folder / f"{stem}.{number}.{suffix}"
