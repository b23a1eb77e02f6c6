"""Jobs of a real SLURM that end before their runs do, and what becomes of these.

The numbers of traps are in tests/test_slurm.py.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from disks import fill, mounted
from slurm_cluster import missing, slurm_fixture  # noqa: F401 (gives the fixture `slurm`)
from slurm_studies import (
    ONE_RUN,
    ROOT,
    TINY,
    TWO_STUDENTS,
    Env,
    arrays,
    ask,
    cluster_file,
    idle,
    queue,
    recipes,
    records,
    study,
    trained_here,
    until,
)

from ns_bench.execute.slurm import job
from ns_bench.execute.slurm.cluster import Cluster
from ns_bench.execute.slurm.scheduler import Scheduler
from ns_bench.execute.slurm.snapshot import snapshot
from ns_bench.files import publish_json
from ns_bench.runs.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=missing() or "installed"),
]

# Of ten evaluations an interruption waits for one: most of it is still to be done after the third.
LONG = ["--profile", "smoke", "--seeds", "1", "--set", "train.epochs=200"]


def training(run: Path) -> Callable[[], bool]:
    """Whether more of `run` has been trained than now."""
    metrics = run / "metrics.jsonl"

    def size() -> int:
        return metrics.stat().st_size if metrics.exists() else 0

    before = size()
    return lambda: size() > before


def restarts(env: Env, element: str, count: int) -> Callable[[], bool]:
    """Whether SLURM has started this job again so many times."""
    return lambda: f" Restarts={count} " in ask(env, "scontrol", "show", "job", element)


def test_interruptions_resume_to_the_same_bytes(slurm, tmp_path):
    """Requeued, told of its time limit, and preempted: three times the same job starts again."""
    (tmp_path / "one.py").write_text(ONE_RUN)
    words = ["one.py", *LONG, *cluster_file(tmp_path, partition="preempt")]
    submitted = study(slurm, *words, cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    (record,) = records(tmp_path)
    element, ((run_id,),) = record["job"], record["runs"]
    run = tmp_path / "runs" / run_id

    for count, interrupt in enumerate(
        [
            ["scontrol", "requeue", element],
            ["scancel", "--signal=USR2", element],
            ["sbatch", "-p", "debug", "-c", "8", "-o", "/dev/null", "--wrap", "sleep 1"],
        ],
        start=1,
    ):
        until(training(run))
        ask(slurm, *interrupt)
        until(restarts(slurm, element, count))
        assert study(slurm, *words, cwd=tmp_path).returncode == 0, "queued is not failed"
    until(idle(slurm))
    result = json.loads((run / "result.json").read_bytes())
    assert 1 <= result["resumed"] <= 3  # a killed attempt on a slow machine leaves no checkpoint
    assert trained_here(result, tmp_path / "here") == (run / "model.safetensors").read_bytes()
    assert records(tmp_path) == [record], "the calls in between submitted nothing"


def process_of(env: Env, element: str, *words: bytes) -> int:
    """The oldest process with these words in its command line that a job of this cluster has."""
    ours = {
        f"{name}={value}".encode()
        for name, value in (("SLURM_CONF", env["SLURM_CONF"]), ("SLURM_JOB_ID", element))
    }
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().split(b"\0")
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if ours <= set(variables) and {*words} <= {*line}:
            found.append(int(process.name))
    assert found, f"job {element} has no process {words!r}"
    return min(found)


def test_cancelled_jobs_are_shown_and_resumed_on_demand(slurm, tmp_path):
    (tmp_path / "one.py").write_text(ONE_RUN)
    words = ["one.py", *LONG, *cluster_file(tmp_path)]
    submitted = study(slurm, *words, cwd=tmp_path)
    assert "submitted 1 run in" in submitted.stdout, submitted.stdout + submitted.stderr
    (record,) = records(tmp_path)
    element, ((run_id,),) = record["job"], record["runs"]
    run = tmp_path / "runs" / run_id
    until(training(run))
    ask(slurm, "scancel", element)
    until(idle(slurm))

    looked = study(slurm, *words, "--status", cwd=tmp_path).stdout
    assert "CANCELLED" in looked and "1 partial" in looked and "running" not in looked
    shown = study(slurm, *words, cwd=tmp_path)
    assert shown.returncode == 1 and "submitted" not in shown.stdout
    assert f"failed: {run_id}" in shown.stdout
    looked = study(slurm, *words, "--status", cwd=tmp_path).stdout
    assert f"job {element}: CANCELLED" in looked and "1 failed" in looked
    unasked = study(slurm, *words, cwd=tmp_path)
    assert unasked.returncode == 1 and records(tmp_path) == [record]
    finished = study(slurm, *words, "--retry-failed", cwd=tmp_path)
    assert "submitted 1 run in" in finished.stdout
    until(idle(slurm))
    assert study(slurm, *words, cwd=tmp_path).returncode == 0
    assert json.loads((run / "result.json").read_bytes())["resumed"] >= 1

    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    verified = study(slurm, *words, "--verify", cwd=tmp_path)
    assert "1 runs damaged" in verified.stdout
    assert "submitted 1 run in" in verified.stdout, "an old job that ended is no failure"
    until(idle(slurm))
    forced = study(slurm, *words, "--force", run_id[:-1], cwd=tmp_path)
    assert "submitted 1 run in" in forced.stdout
    assert "cancelled 1 jobs" in study(slurm, *words, "--cancel", cwd=tmp_path).stdout
    until(idle(slurm))


def test_a_killed_job_goes_again_as_often_as_the_cluster_says(slurm, tmp_path):
    """Its python is killed, then its srun; python once more is once too often."""
    (tmp_path / "one.py").write_text(ONE_RUN)
    words = ["one.py", *LONG, *cluster_file(tmp_path, requeues=2)]
    assert study(slurm, *words, cwd=tmp_path).returncode == 0
    (record,) = records(tmp_path)
    element, ((run_id,),) = record["job"], record["runs"]
    run = tmp_path / "runs" / run_id
    python = b"submitit.core._submit"
    for count, victim in enumerate((python, b"srun", python), start=1):
        until(training(run))
        os.kill(process_of(slurm, element, victim), 9)
        if count <= 2:
            until(restarts(slurm, element, count), 60)
            assert study(slurm, *words, cwd=tmp_path).returncode == 0, "queued is not failed"
    until(idle(slurm))
    shown = study(slurm, *words, cwd=tmp_path)
    assert shown.returncode == 1 and f"failed: {run_id}" in shown.stdout
    assert records(tmp_path) == [record], "the calls in between submitted nothing"
    assert "submitted 1 run in" in study(slurm, *words, "--retry-failed", cwd=tmp_path).stdout
    until(idle(slurm))
    result = json.loads((run / "result.json").read_bytes())
    assert trained_here(result, tmp_path / "here") == (run / "model.safetensors").read_bytes()


def test_a_full_disk_is_said_and_fails_no_run(slurm, tmp_path):
    (tmp_path / "one.py").write_text(ONE_RUN)
    words = ["one.py", *LONG, *cluster_file(tmp_path)]
    with mounted(tmp_path / "runs", "32m"):
        assert study(slurm, *words, cwd=tmp_path).returncode == 0
        (record,) = records(tmp_path)
        ((run_id,),) = record["runs"]
        run = tmp_path / "runs" / run_id
        until(training(run), 60)
        filler = fill(tmp_path / "runs")
        until(idle(slurm), 120)
        shown = study(slurm, *words, cwd=tmp_path)
        assert shown.returncode == 2, shown.stdout
        assert "No space left" in shown.stderr and len(shown.stderr.splitlines()) == 1
        filler.unlink()
        shown = study(slurm, *words, cwd=tmp_path)
        assert "the store's disk was full: 1 runs go on" in shown.stdout, shown.stdout
        assert shown.returncode == 0 and "submitted 1 run in" in shown.stdout
        until(idle(slurm), 120)
        assert study(slurm, *words, cwd=tmp_path).returncode == 0
        assert (run / "result.json").exists() and not (run / "failure.json").exists()


def in_this_process(env: Env, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Scheduler:
    monkeypatch.setenv("SLURM_CONF", env["SLURM_CONF"])
    return Scheduler(Store(folder / "runs"))


def test_a_student_refuses_without_its_teacher(slurm, tmp_path, monkeypatch):
    """SLURM takes a dependency on a job that it does not know (any more) for satisfied."""
    scheduler = in_this_process(slurm, monkeypatch, tmp_path)
    student = recipes("teacher_size", 4)[1]
    assert student.teacher is not None
    name = "ns_bench-orphan"
    record = {
        "name": name,
        "time": 0.0,
        "store": str(scheduler.store.root),
        "seconds": {student.id: 1.0},
        "side_by_side": 1,
        "execution": {},
        "tasks": 1,
        "runs": [[student.id]],
        "packs": [[student.to_dict()]],
        "wanted": {},
    }
    file = scheduler.root / "arrays" / f"{name}.json"
    file.parent.mkdir(parents=True)
    machine = Cluster("test", gpus=0, cpus=1, mem_gb=1, time_minutes=15, pack_minutes=10)
    parameters = scheduler.parameters(
        machine, name, "afterok:4242", snapshot(scheduler.root / "code")
    )
    publish_json(file, record)
    element = scheduler._sbatch(machine, parameters, [job.Pack(str(file), 0)], print)
    publish_json(file, {**record, "job": element})
    until(idle(slurm))
    assert scheduler.states()[student.id].state == "FAILED"
    (log,) = scheduler.logs(student.id)
    assert f"{student.id}: its teacher {student.teacher.id} is missing" in log.read_text()
    assert scheduler.store.run(student).state() == "missing"


def test_a_requeued_job_does_not_redo_what_failed(tmp_path):
    store = Store(tmp_path / "runs")
    student = recipes("teacher_size", 4)[1]
    assert student.teacher is not None
    store.run(student.teacher).fail("diverged", "")
    plan = {
        "store": str(store.root),
        "seconds": {student.teacher.id: 1.0, student.id: 1.0},
        "side_by_side": 1,
        "execution": {},
        "tasks": 1,
        "packs": [[student.teacher.to_dict(), student.to_dict()]],
        "wanted": {},
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(RuntimeError, match=r"2 of 2 .*-sup-.*: it failed before"):
        job.Pack(str(tmp_path / "plan.json"), 0)()
    assert store.run(student.teacher).state() == "failed"
    assert not store.run(student).path.exists()


def test_two_tasks_train_one_run_together(slurm, tmp_path):
    """One process a GPU, here two on CPUs: the result is the single process's but for rounding."""
    import torch
    from safetensors.torch import load, load_file

    (tmp_path / "two.py").write_text(TWO_STUDENTS)
    done = study(slurm, "two.py", *TINY, *cluster_file(tmp_path, tasks=2), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    until(idle(slurm))
    results = sorted((tmp_path / "runs").glob("*/result.json"))
    assert len(results) == 3
    for path in results:
        result = json.loads(path.read_bytes())
        assert result["provenance"]["processes"] == 2
        together = load_file(path.parent / "model.safetensors")
        single = load(trained_here(result, tmp_path / "alone"))
        for name, value in single.items():
            torch.testing.assert_close(together[name], value, rtol=2e-4, atol=2e-4)


def test_a_search_killed_while_it_waits_goes_on_with_its_jobs(slurm, tmp_path):
    (tmp_path / "two.py").write_text(TWO_STUDENTS)
    (tmp_path / "space.toml").write_text("train.lr = { low = 0.005, high = 0.05, log = true }")
    words = [sys.executable, "-m", "ns_bench.search", "two.py", *cluster_file(tmp_path)]
    words += ["--profile", "smoke", "--space", "space.toml", "--arm", "hard", "--runs", "runs"]
    words += ["--set", "train.epochs=4", "--set", "pseudo.threshold=0"]
    words += ["--trials", "4", "--batch", "3", "--tuning-seeds", "1"]
    environment = {**slurm, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )

    first = start()
    until(lambda: arrays(slurm))
    first.kill()
    first.wait()
    submitted = len(records(tmp_path))
    again = start()
    out, _ = again.communicate(timeout=240)
    assert again.returncode == 0, out
    assert "best" in out
    ids = [r for record in records(tmp_path) for pack in record["runs"] for r in pack]
    assert len(ids) == len(set(ids)), "a run was submitted twice"
    assert len(records(tmp_path)) > submitted  # the second batch
    (trials,) = tmp_path.glob("runs/searches/*/hard-*.json")
    assert len(json.loads(trials.read_bytes())["trials"]) == 4
    assert not queue(slurm)  # no collector of a study's report either
