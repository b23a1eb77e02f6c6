"""What SLURM's own commands are asked: its queue, its accounting, its limits."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from ns_bench.errors import UserError

COMMAND_SECONDS = 60
"""A scheduler that does not answer for this long counts as not answering."""

ALIVE = (
    "PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "REQUEUE_HOLD",
    "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT", "REQUEUE_FED", "RESV_DEL_HOLD",
)  # fmt: skip
"""States in which a job may still run."""


@dataclass(frozen=True)
class JobState:
    """Where SLURM has an array element: its state, why it waits, where it runs, for how long."""

    job: str
    state: str
    name: str = ""
    reason: str = ""
    node: str = ""
    elapsed: str = ""


def require_slurm() -> None:
    """Raise UserError if this machine cannot submit."""
    for tool in ("sbatch", "squeue", "scontrol"):
        if shutil.which(tool) is None:
            raise UserError(
                f"no {tool} on the path: this is not a SLURM login node; use --cluster local, or "
                "try slurm/local_cluster.sh up"
            )


def ask(*command: str) -> str:
    """Return what a SLURM command prints; RuntimeError with its last line if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} does not answer") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise RuntimeError(f"{command[0]}: {lines[-1]}")
    return done.stdout


def spread(job: str) -> list[str]:
    """Return the elements of a job: SLURM lists those that never started as `7_[0-2,5%3]`."""
    array, bracket, inside = job.partition("_[")
    if not bracket:
        return [job]
    elements = []
    for part in inside.rstrip("]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            elements += [f"{array}_{i}" for i in range(int(first), int(last or first) + 1)]
    return elements


def largest_array() -> int:
    """Return how many elements the cluster takes in one array (MaxArraySize is one more)."""
    with contextlib.suppress(RuntimeError):
        limit = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"))
        if limit:
            return max(int(limit[1]) - 1, 1)
    return 1000


def hides_jobs() -> bool:
    """Whether SLURM shows nobody the jobs of others (PrivateData)."""
    with contextlib.suppress(RuntimeError):
        return bool(re.search(r"PrivateData\s*=.*\bjobs\b", ask("scontrol", "show", "config")))
    return False


def job_states() -> dict[str, JobState]:
    """Return {job element: its state} of all jobs of ns_bench. UserError: SLURM does not answer."""
    try:
        listing = ask(
            # others' too: a store may be shared, and what is queued is not to be done twice
            "squeue", "--noheader", "--array", "--states=all",
            "--format=%i|%T|%r|%N|%M|%j",
        )  # fmt: skip
    except RuntimeError as error:
        raise UserError(f"SLURM cannot be asked for its jobs: {error}") from None
    states = {}
    for line in listing.splitlines():
        job, state, reason, node, elapsed, name = line.split("|", 5)
        if name.startswith("ns_bench-"):
            for element in spread(job):
                states[element] = JobState(element, state, name, reason, node, elapsed)
    return states


def endings(jobs: Sequence[str]) -> dict[str, str]:
    """Return {job element: how it failed} from `sacct`; empty where there is no accounting.

    Accounting lags by seconds: what it says of a job may be a state that is past, or COMPLETED
    under the name "allocation" before it knows more. Neither says how a job ended.
    """
    if not jobs:
        return {}
    parents = sorted({job.partition("_")[0] for job in jobs})
    ended: dict[str, str] = {}
    with contextlib.suppress(RuntimeError):
        listing = ask(
            "sacct", "--noheader", "--parsable2", "--allocations", "--duplicates",
            "--format=JobID,State,ExitCode", "--jobs", ",".join(parents),
        )  # fmt: skip
        for line in listing.splitlines():
            job, state, code = line.split("|")
            if state in ALIVE or state == "COMPLETED":
                continue
            how = state + (f" (exit code {code})" if code != "0:0" else "")
            ended |= dict.fromkeys(spread(job), how)
    return {job: ended[job] for job in jobs if job in ended}
