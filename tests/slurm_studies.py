"""Studies on the clusters of `slurm_cluster`: commands, what is queued, what was submitted."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import here

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Run

Env = dict[str, str]
ROOT = Path(__file__).resolve().parent.parent
# So few epochs that no teacher is sure of anything: the threshold lets every row pass.
TINY = [
    *("--profile", "smoke", "--seeds", "1"),
    *("--set", "train.epochs=4", "--set", "pseudo.threshold=0"),
]
ALONE = TINY[:-2]
"""The same for a study without a student."""

SPLIT, TOGETHER = 0.001, 10.0
"""Minutes of a pack: every run a job of its own, or a whole study in one."""

ONE_RUN = """
from ns_bench.design.definition import Arm, Design, Study
def design(p):
    return Design([Arm('only', p.supervised('small'))], 'only', [])
STUDY = Study('one', 'Does it run?', 'nothing', design, 'none')
"""
TWO_STUDENTS = """
from ns_bench.design.definition import Arm, Design, Study, difference
def design(p):
    teacher = p.supervised('small')
    soft = Arm('soft', p.student('small', teacher))
    hard = Arm('hard', p.student('small', teacher, pseudo__kind='hard'))
    return Design([soft, hard], 'hard', [difference('Soft is better.', 'soft', 'hard', 0.5)])
STUDY = Study('two', 'Soft or hard?', 'labels', design, 'none')
"""


def command(env: Env, *words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ns_bench.study", *words],
        cwd=cwd,
        env={**env, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def study(env: Env, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: what it does is the scheduler's from there on."""
    return here(*words, cwd=cwd, environment={**env, "OMP_NUM_THREADS": "1"})


def apart(env: Env, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, which imports what `env` leads it to."""
    process = command(env, *words, cwd=cwd)
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def ask(env: Env, *words: str) -> str:
    return subprocess.run(
        words, env=env, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def until(condition: Callable[[], object], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def queue(env: Env, *options: str) -> list[str]:
    """One "job name state" a job element that is not over; `options` for squeue."""
    return ask(env, "squeue", "-h", "-r", "-o", "%i %j %T", *options).splitlines()


def arrays(env: Env) -> list[str]:
    """Elements in the queue that do runs: all but the one that writes the report."""
    return sorted(line for line in queue(env) if "ns_bench-report" not in line)


def idle(env: Env) -> Callable[[], bool]:
    return lambda: not queue(env)


def cluster_file(folder: Path, pack_minutes: float = TOGETHER, **keys: object) -> tuple[str, str]:
    """Write a cluster file; returns the options that use it."""
    values = {"gpus": 0, "cpus": 1, "mem_gb": 1, "time_minutes": 15, "pack_minutes": pack_minutes}
    path = folder / "cluster.toml"
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in (values | keys).items()]
    path.write_text("".join(lines))
    return "--cluster", str(path)


def records(folder: Path) -> list[dict]:
    found = [json.loads(p.read_bytes()) for p in (folder / "runs/slurm/arrays").glob("*.json")]
    return sorted(found, key=lambda record: record["time"])


def written(folder: Path, pattern: str) -> dict[str, bytes]:
    """{run id: content} of a file of every run."""
    return {path.parent.name: path.read_bytes() for path in folder.glob(f"runs/*/{pattern}")}


@contextmanager
def closed(env: Env) -> Iterator[None]:
    """Nothing starts meanwhile; at the end all that waits is cancelled."""
    ask(env, "scontrol", "update", "PartitionName=debug", "State=DOWN")
    try:
        yield
    finally:
        if waiting := {line.split()[0].partition("_")[0] for line in queue(env)}:
            ask(env, "scancel", *sorted(waiting))
        ask(env, "scontrol", "update", "PartitionName=debug", "State=UP")
        until(idle(env), 60)


def recipes(name: str, epochs: int) -> list[Recipe]:
    profile = load_profile("smoke", {"train.epochs": str(epochs), "pseudo.threshold": "0"})
    return list(load_study(name).design(profile).recipes(range(1)).values())


def trained_here(result: dict, folder: Path) -> bytes:
    """The weights of an uninterrupted run of the same recipe, on as many threads."""
    import torch

    from ns_bench.execute.run_one import run_one

    recipe = Recipe.from_dict(result["recipe"])
    threads = torch.get_num_threads()
    torch.set_num_threads(result["provenance"]["threads"])
    try:
        link: Recipe | None = recipe
        chain: list[Run] = []
        while link is not None:
            chain.insert(0, Run(link, folder / link.id))
            link = link.teacher
        for run in chain:
            run_one(run)
    finally:
        torch.set_num_threads(threads)
    return (folder / recipe.id / "model.safetensors").read_bytes()
