"""Runs as SLURM jobs through submitit: submit the graph once and leave; ask where it stands.

The store's files say first where a run stands; then one `squeue` call, then `sacct` where there is
accounting. What was submitted is recorded in `<store>/slurm/`:

    code/<hash>/        snapshot of the code that the jobs run
    arrays/<name>.json  one sbatch call: job id, dependency, and the recipes of each element
    logs/               submitit's folder: pickles, stdout and stderr of every job
"""

import contextlib
import hashlib
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ns_bench.errors import UserError
from ns_bench.execute.slurm.cluster import Cluster
from ns_bench.execute.slurm.packing import Array, dependency, make_arrays, make_packs
from ns_bench.execute.slurm.queue import ALIVE, JobState, ask, hides_jobs, job_states
from ns_bench.execute.slurm.snapshot import snapshot
from ns_bench.files import locked, publish_json
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Run, Store

HIDDEN_SECONDS = 7 * 86_400
"""For how long the job of another user counts as queued where SLURM hides those (PrivateData)."""

TRIES = 4
"""How often a refused or unanswered submission is tried, waiting 1, 2, 4 s between."""

REPORT = "the report"
"""The job that comes after all others, where it is named beside arrays."""


@dataclass(frozen=True)
class Submission:
    """What a call of `submit` did: sbatch calls that went through, and what they carry."""

    jobs: dict[str, str]  # array name: job id
    missing: dict[str, str]  # array name, or `REPORT`: why it could not be submitted
    runs: int = 0  # that were to be submitted


def plan_arrays(
    runs: list[Run], seconds: Callable[[Recipe], float], cluster: Cluster, largest: int
) -> list[Array]:
    """Return the sbatch calls that `runs` need, in order; `seconds` as the profile estimates."""
    limit = cluster.pack_minutes * 60 * cluster.side_by_side * cluster.speed
    return make_arrays(make_packs(runs, seconds, limit), largest)


def array_name(array: Array) -> str:
    """Return the job name: the same runs in the same store always give the same one."""
    first = array.runs[0]
    text = json.dumps([str(first.path.parent.resolve()), [run.id for run in array.runs]])
    return f"ns_bench-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


class Scheduler:
    """The SLURM side of one store.

    Raises:
        UserError: the store's path has what a job's script or SLURM's names of logs cannot hold.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = store.root.resolve() / "slurm"
        if not str(self.root).isprintable() or set("\\%") & set(str(self.root)):
            raise UserError(
                f"store {str(store.root.resolve())!r}: on SLURM its path must be one line without "
                "'\\' and '%', which have a meaning in names of logs"
            )

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let one call at a time look and submit: two must not submit the same runs twice."""
        self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.root / "lock"):
            yield

    def records(self) -> list[dict[str, Any]]:
        """Return what was submitted, oldest first: {"name", "job", "runs": [[id, ...], ...]}."""
        return [record for record in self._all_records() if record.get("job")]

    def _all_records(self) -> list[dict[str, Any]]:
        records = []
        for path in (self.root / "arrays").glob("*.json"):
            with contextlib.suppress(ValueError, OSError):
                records.append(json.loads(path.read_bytes()))
        return sorted(records, key=lambda record: record["time"])

    def recover(self, cluster: Cluster) -> None:
        """Note the job ids of arrays that an interrupted call handed in, or may have handed in.

        Raises:
            UserError: SLURM does not answer.
        """
        torn = [record for record in self._all_records() if not record.get("job")]
        alive = self._alive() if torn else {}
        for record in torn:
            file = self._file(record["name"])
            if record["name"] in alive:
                self._note(record, alive[record["name"]], cluster)
            else:
                file.unlink()

    def _file(self, name: str) -> Path:
        return self.root / "arrays" / f"{name}.json"

    def _calls(self, record: dict[str, Any]) -> list[Callable[[], None]]:
        from ns_bench.execute.slurm import job

        file = str(self._file(record["name"]))
        return [job.Pack(file, index) for index in range(len(record["packs"]))]

    def _note(self, record: dict[str, Any], job: str, cluster: Cluster) -> None:
        self._hand_over(job, self._calls(record), cluster)
        publish_json(self._file(record["name"]), {**record, "job": job})

    def _hand_over(self, job: str, calls: Sequence[Callable[[], Any]], cluster: Cluster) -> None:
        """Write the pickles of `job` where submitit did not come to it; its elements wait 60 s."""
        from submitit.core.utils import DelayedSubmission, JobPaths

        for index, call in enumerate(calls):
            element = job if len(calls) == 1 else f"{job}_{index}"
            pickle = JobPaths(self.root / "logs", element).submitted_pickle
            if not pickle.exists():
                submission = DelayedSubmission(call)
                submission.set_timeout(cluster.time_minutes, cluster.requeues)
                unfinished = pickle.with_suffix(".tmp")
                submission.dump(unfinished)
                unfinished.replace(pickle)

    def elements(self) -> dict[str, str]:
        """Return {run id: job element} of the latest submission of each run."""
        latest: dict[str, str] = {}
        for record in self.records():
            for index, ids in enumerate(record["runs"]):
                # submitit submits a single element as a plain job
                element = record["job"] if len(record["runs"]) == 1 else f"{record['job']}_{index}"
                latest |= dict.fromkeys(ids, element)
        return latest

    def states(self) -> dict[str, JobState]:
        """Return {run id: where SLURM has it} for all runs that were submitted and are not gone.

        One `squeue` call whatever the number of runs. Raises UserError if SLURM does not answer:
        then nothing is known, and nothing must be submitted again.
        """
        elements = self.elements()
        if not elements:
            return {}
        queue = job_states()
        queue |= self._hidden(set(elements.values()) - queue.keys())
        return {run: queue[element] for run, element in elements.items() if element in queue}

    def _hidden(self, elements: set[str]) -> dict[str, JobState]:
        """Return those of `elements` that others submitted, where SLURM does not show such."""
        me, now = os.getuid(), time.time()
        theirs = {
            record["job"]: record["user"]
            for record in self.records()
            if record.get("user", me) != me and now - record["time"] < HIDDEN_SECONDS
        }
        hidden = {e: theirs[job] for e in elements if (job := e.partition("_")[0]) in theirs}
        if not hidden or not hides_jobs():
            return {}
        return {
            element: JobState(element, "PENDING", reason=f"unseen: a job of user {user}")
            for element, user in hidden.items()
        }

    def _alive(self) -> dict[str, str]:
        """Return {array name: job id} of what is in the queue or runs."""
        return {
            state.name: state.job.partition("_")[0]
            for state in job_states().values()
            if state.state in ALIVE
        }

    def parameters(
        self, cluster: Cluster, name: str, waits_for: str | None, code: Path
    ) -> dict[str, Any]:
        """Return submitit's parameters of one array."""
        # A failed teacher would leave its students pending for ever.
        extra = {"kill-on-invalid-dep": "yes", **cluster.extra}
        parameters = {
            **cluster.parameters(),
            "job_name": name,
            # Workers checkpoint every few seconds, so a short notice is enough; SLURM may give the
            # signal up to a minute early.
            "signal_delay_s": 60,
            "stderr_to_stdout": True,
            # Without PYTHONSAFEPATH `python -m` looks in the working folder first, which is often
            # the checkout.
            "setup": [
                *cluster.setup,
                f'export PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(code))}:"$PYTHONPATH"',
            ],
            # Killed, but not by SLURM, which would be ending the job: it goes again. A run that
            # fails by itself ends python with another code than SIGKILL's.
            "teardown": [
                "ended=$?",
                f"if [ $ended = 137 ] && [ ${{SLURM_RESTART_COUNT:-0}} -lt {cluster.requeues} ] &&",
                '  [ "$(squeue -h -j $SLURM_JOB_ID -o %T)" = RUNNING ]',
                "then scontrol requeue $SLURM_JOB_ID; fi",
                "exit $ended",
            ],
            "additional_parameters": extra,
        }
        return parameters if waits_for is None else {**parameters, "dependency": waits_for}

    def scripts(self, arrays: list[Array], cluster: Cluster) -> list[str]:
        """Return the sbatch scripts that `submit` would hand in, with `<name>` for job ids."""
        from submitit.slurm.slurm import _make_sbatch_string

        scripts = []
        code = self.root / "code" / "SNAPSHOT"
        for array in arrays:
            above = array.parent
            waits = None if above is None else dependency(array, f"<{array_name(above)}>")
            parameters = self.parameters(cluster, array_name(array), waits, code)
            count = len(array.packs) if len(array.packs) > 1 else None
            python = cluster.python or shlex.quote(sys.executable)
            logs = self.root / "logs"
            command = f"{python} -u -m submitit.core._submit {shlex.quote(str(logs))}"
            text = _make_sbatch_string(command, logs, map_count=count, **parameters)
            scripts.append(f"# {len(array.runs)} runs in {len(array.packs)} jobs\n{text}")
        return scripts

    def submit(
        self,
        arrays: list[Array],
        seconds: Callable[[Recipe], float],
        cluster: Cluster,
        last: Callable[[], Any] | None = None,
        say: Callable[[str], None] = print,
    ) -> Submission:
        """Submit `arrays` in order and, after them all, a job that calls `last`, if any.

        What is refused for good (after `TRIES`) is left out with what waits for it, and named.

        Args:
            seconds: estimated for a recipe; kept with the array, for its jobs.
            last: is pickled, and has a `checkpoint` as `job.Pack` has; `own` are its files, where
                it has such, as `snapshot` takes them.
        """
        code = snapshot(self.root / "code", getattr(last, "own", {}))
        jobs: dict[str, str] = {}
        missing: dict[str, str] = {}
        queued = self._queued()
        for array in arrays:
            name = array_name(array)
            if name in queued:
                jobs[name] = queued[name]
                continue
            waits_for = None
            if array.parent is not None:
                parent = array_name(array.parent)
                if parent not in jobs:
                    missing[name] = f"it waits for {parent}, which was not submitted"
                    continue
                waits_for = dependency(array, jobs[parent])
            record = self._record(array, seconds, cluster)
            try:
                parameters = self.parameters(cluster, name, waits_for, code)
                jobs[name] = self._hand_in(record, parameters, cluster, say)
            except RuntimeError as error:
                missing[name] = str(error)
        if jobs and last is not None:
            ids = ":".join(sorted(set(jobs.values())))
            name = f"ns_bench-report-{min(jobs.values(), key=int)}"
            parameters = self.parameters(cluster, name, f"afterany:{ids}", code)
            for key in ("gpus_per_node", "ntasks_per_node"):
                parameters.pop(key, None)
            parameters |= {"cpus_per_task": 1, "time": 15}
            try:
                self._sbatch(cluster, parameters, [last], say)
            except RuntimeError as error:
                missing[REPORT] = str(error)
        return Submission(jobs, missing)

    def _queued(self) -> dict[str, str]:
        """Return {array name: job id} of what was submitted and may still run."""
        alive = self._alive().values()
        return {r["name"]: r["job"] for r in self.records() if r["job"] in alive}

    def _record(
        self, array: Array, seconds: Callable[[Recipe], float], cluster: Cluster
    ) -> dict[str, Any]:
        """Return what the jobs of an array have to know; `job.Pack` reads it."""
        packs = [pack.runs if pack else [] for pack in array.packs]
        return {
            "name": array_name(array),
            "time": time.time(),
            "user": os.getuid(),
            "store": str(self.store.root.resolve()),
            "seconds": {run.id: seconds(run.recipe) for run in array.runs},
            "side_by_side": cluster.side_by_side,
            "execution": asdict(cluster.execution),
            "tasks": cluster.tasks,
            "runs": [[run.id for run in runs] for runs in packs],
            "packs": [[run.recipe.to_dict() for run in runs] for runs in packs],
            "wanted": {run.id: run.wanted for run in array.runs if run.wanted},
        }

    def _hand_in(
        self,
        record: dict[str, Any],
        parameters: dict[str, Any],
        cluster: Cluster,
        say: Callable[[str], None],
    ) -> str:
        """Submit an array and note its job; returns the id. RuntimeError: it was refused."""
        file = self._file(record["name"])
        file.parent.mkdir(parents=True, exist_ok=True)
        publish_json(file, record)
        try:
            job = self._sbatch(cluster, parameters, self._calls(record), say)
        except RuntimeError:
            with contextlib.suppress(UserError):  # no answer: `recover` asks again
                if record["name"] not in self._alive():
                    file.unlink()
            raise
        self._note(record, job, cluster)
        return job

    def _sbatch(
        self,
        cluster: Cluster,
        parameters: dict[str, Any],
        calls: Sequence[Callable[[], Any]],
        say: Callable[[str], None],
    ) -> str:
        """Hand in one array; returns its job id. RuntimeError after `TRIES` refusals."""
        import submitit

        executor = submitit.SlurmExecutor(
            self.root / "logs", max_num_timeout=cluster.requeues, python=cluster.python or None
        )
        executor.update_parameters(**parameters)
        why = ""
        for attempt in range(TRIES):
            if attempt:
                say(f"sbatch refused ({why}); trying again in {2 ** (attempt - 1)} s")
                time.sleep(2 ** (attempt - 1))
            try:
                # sbatch may give up waiting for the answer to a job that SLURM has taken
                if attempt and (taken := self._alive().get(parameters["job_name"])):
                    self._hand_over(taken, calls, cluster)
                    return taken
                # submitit prints what sbatch says; its last line is in the error
                with contextlib.redirect_stderr(io.StringIO()), executor.batch():
                    jobs = [executor.submit(call) for call in calls]
                return str(jobs[0].job_id).partition("_")[0]
            except (submitit.core.utils.FailedJobError, UserError) as error:
                # submitit's message ends in sbatch's own line
                why = (str(error).strip().splitlines() or ["without a word"])[-1].strip()
                if "nvalid" in why:  # invalid partition, account, qos: no use in asking again
                    raise RuntimeError(why) from None
        raise RuntimeError(f"sbatch refused {TRIES} times: {why}")

    def cancel(self, runs: Sequence[str]) -> list[str]:
        """Cancel the queued job elements of `runs`; returns the elements."""
        states = self.states()
        elements = {states[r].job for r in runs if r in states and states[r].state in ALIVE}
        together: dict[str, set[str]] = {}
        for state in job_states().values():
            if state.state in ALIVE:
                together.setdefault(state.job.partition("_")[0], set()).add(state.job)
        # SLURM forgets at once an element that is cancelled by itself before it starts; of an
        # array that is cancelled as a whole it remembers what became of it.
        jobs: list[str] = []
        for array, alive in together.items():
            jobs += [array] if alive <= elements else sorted(alive & elements)
        for start in range(0, len(jobs), 500):
            try:
                ask("scancel", "--quiet", *jobs[start : start + 500])
            except RuntimeError as error:
                raise UserError(f"not all jobs could be cancelled: {error}") from None
        for record in self.records():
            mine = {e for e in elements if e.partition("_")[0] == record["job"]}
            if mine:
                noted = sorted(mine.union(record.get("cancelled", ())))
                publish_json(self._file(record["name"]), {**record, "cancelled": noted})
        return sorted(elements)

    def cancelled(self) -> set[str]:
        """Return the job elements that `cancel` ended: to be done by the next call, not failed."""
        return {element for record in self.records() for element in record.get("cancelled", ())}

    def out_of_space(self) -> set[str]:
        """Return the job elements that ended because the disk was full: to be done again, too."""
        from ns_bench.execute.slurm.job import FULL

        ending = f"_submitted{FULL}"
        marks = (self.root / "logs").glob(f"*{ending}")
        return {mark.name.removesuffix(ending) for mark in marks}

    def logs(self, run_id: str) -> list[Path]:
        """Return the log files of the latest job of a run."""
        element = self.elements().get(run_id)
        return sorted((self.root / "logs").glob(f"{element}_*_log.out")) if element else []
