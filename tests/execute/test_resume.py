"""Exact resume: real processes, really killed, end in the same bytes as one that was not."""

import contextlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import contents

from ns_bench.design.profile import load_profile
from ns_bench.execute import checkpoint, worker
from ns_bench.execute.execution import PLAIN
from ns_bench.execute.run_one import main, run_one
from ns_bench.files import publish, seal, unseal
from ns_bench.recipe import Recipe
from ns_bench.runs.lease import Lease
from ns_bench.runs.store import CHECKPOINT, MODEL, Run, Store

pytestmark = pytest.mark.slow

torch.set_num_threads(1)

FIELDS = {"train.epochs": 6, "pseudo.threshold": 0.0, "train.warmup_epochs": 1, "train.ema": 0.9}
TEACHER = Recipe().set({**FIELDS, "train.epochs": 4})
STUDENT = Recipe(teacher=TEACHER).set({**FIELDS, "train.epochs": 12, "train.batch_size": 10})

# Processes are forked from a server that has torch imported, so that each starts in no time.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ns_bench.execute.run_one", "pytest"])


def work(root: str, recipe: dict[str, Any], checkpoint_seconds: float) -> None:
    """Do a run in a process of its own."""
    torch.set_num_threads(1)
    run = Store(Path(root)).run(Recipe.from_dict(recipe))
    run_one(run, checkpoint_seconds=checkpoint_seconds)


def start(run: Run, checkpoint_seconds: float = 0.0) -> BaseProcess:
    arguments = (str(run.path.parent), run.recipe.to_dict(), checkpoint_seconds)
    process = CONTEXT.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def until(condition: Callable[[], Any], process: BaseProcess | None = None) -> None:
    """Wait for a condition, or for the end of `process`."""
    deadline = time.monotonic() + 60
    while not condition() and (process is None or process.is_alive()):
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.01)


def saved_step(run: Run) -> int:
    """Return the step of the checkpoint, 0 without one."""
    try:
        sealed = (run.path / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return 0
    return int(torch.load(io.BytesIO(unseal(sealed)), weights_only=True)["step"])


def saved(run: Run) -> int:
    """Return a number that changes with every checkpoint."""
    try:
        return (run.path / CHECKPOINT).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a finished teacher."""
    root = tmp_path_factory.mktemp("resume") / "taught"
    run_one(Store(root).run(TEACHER))
    return root


@pytest.fixture(scope="module")
def straight(taught: Path) -> dict[str, Any]:
    """Return what a run that nobody disturbs ends in."""
    shutil.copytree(taught, taught.parent / "straight")
    run = Store(taught.parent / "straight").run(STUDENT)
    assert run_one(run, checkpoint_seconds=1000).resumed == 0
    return contents(run)


@pytest.fixture
def run(taught: Path, tmp_path: Path) -> Iterator[Run]:
    shutil.copytree(taught, tmp_path / "store")
    yield Store(tmp_path / "store").run(STUDENT)
    for process in multiprocessing.active_children():
        process.kill()


def test_killed_at_any_moment_a_run_ends_in_the_same_bytes(
    run: Run, straight: dict[str, Any]
) -> None:
    moments = random.Random(0)
    steps = [0]
    for _ in range(6):
        before, process = saved(run), start(run)
        until(lambda: saved(run) != before, process)  # noqa: B023
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        assert run.result() is None
        steps.append(saved_step(run))
    assert len(set(steps)) >= 4, f"killed too late to mean anything: {steps}"
    assert steps == sorted(steps)
    last = start(run)
    last.join(60)
    assert last.exitcode == 0
    assert contents(run) == straight
    result = run.result()
    assert result is not None
    assert result.resumed == len(steps) - 1
    assert not (run.path / CHECKPOINT).exists()
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) >= 10


def test_a_kill_before_the_first_checkpoint_starts_over(run: Run, straight: dict[str, Any]) -> None:
    process = start(run, checkpoint_seconds=1000)
    until(lambda: len(run.metrics()) >= 3, process)
    process.kill()
    process.join()
    assert not (run.path / CHECKPOINT).exists()
    assert run.state() == "missing"
    assert run_one(run).resumed == 0
    assert contents(run) == straight  # the records of both attempts count once


def leave_checkpoint(run: Run) -> None:
    process = start(run)
    until(lambda: len(run.metrics()) >= 2, process)
    process.kill()
    process.join()
    assert run.state() == "partial"


def of_another_form(checkpoint: bytes) -> bytes:
    state = torch.load(io.BytesIO(unseal(checkpoint)), weights_only=True)
    buffer = io.BytesIO()
    torch.save({**state, "form": state["form"] - 1}, buffer)
    return seal(buffer.getvalue())


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "of another form"])
def test_a_damaged_checkpoint_is_discarded_and_said_so(
    run: Run, straight: dict[str, Any], damage: str
) -> None:
    leave_checkpoint(run)
    whole = (run.path / CHECKPOINT).read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    content = {
        "truncated": whole[:middle],
        "flipped": flipped,
        "empty": b"",
        "of another form": of_another_form(whole),
    }[damage]
    (run.path / CHECKPOINT).write_bytes(content)
    result = run_one(run)
    assert result.resumed == 0
    assert contents(run) == straight
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    events = [record["event"] for record in records if "event" in record]
    assert len(events) == 1
    assert "checkpoint" in events[0]
    assert "started over" in events[0]


def test_killed_writers_leave_nothing_that_counts(run: Run, straight: dict[str, Any]) -> None:
    """Half-written files and lines are not taken for anything, and the lease is free."""
    leave_checkpoint(run)
    assert (run.path / "lease.json").exists()
    assert Lease(run.path).holder() is None
    (run.path / f".{MODEL}.1.abcd.tmp").write_bytes(b"half")
    (run.path / ".result.json.1.abcd.tmp").write_bytes(b"{")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "loss": 2.')
    assert run.state() == "partial"
    assert run_one(run).resumed == 1
    assert contents(run) == straight
    assert not (run.path / "lease.json").exists()


def test_terminated_a_worker_leaves_a_checkpoint(run: Run, straight: dict[str, Any]) -> None:
    """SIGTERM, what schedulers send: long before the next checkpoint would have been due."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=worker.main, args=(theirs, {"OMP_NUM_THREADS": "1"}))
    process.start()
    theirs.close()
    assert ours.poll(60)
    assert ours.recv().word == "ready"
    ours.send((str(run.path), run.recipe.to_dict(), (), None, PLAIN))
    until(lambda: len(run.metrics()) >= 2, process)
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    words = []
    with contextlib.suppress(EOFError):
        while ours.poll(60):
            words.append(ours.recv().word)
    process.join(30)
    assert process.exitcode == 0
    assert words[-1] == "stopped"
    assert 12 <= saved_step(run) < STUDENT.steps
    assert Lease(run.path).holder() is None
    assert run.state() == "partial"
    assert run_one(run).resumed == 1
    assert contents(run) == straight


@pytest.mark.parametrize(("share", "least", "most"), [(1e-6, 1, 1), (1.0, 5, 40)])
def test_checkpoints_are_a_share_of_the_time(tmp_path, monkeypatch, share, least, most):
    """However often they are wanted, of a network that takes long to write there are few."""
    written = []

    def watched(path: Path, content: bytes) -> None:
        written.append(path.name)
        publish(path, content)

    monkeypatch.setattr(checkpoint, "publish", watched)
    monkeypatch.setattr(checkpoint, "WRITING_SHARE", share)
    recipe = load_profile("smoke").supervised("small", train__epochs=40)
    run_one(Store(tmp_path).run(recipe), checkpoint_seconds=0.001)
    assert least <= written.count(CHECKPOINT) <= most


@pytest.mark.parametrize("content", [None, "[", "[]", "5", '{"seed": 0}', "[" * 100_000])
def test_a_folder_that_is_no_run_ends_with_exit_code_2(content, tmp_path, monkeypatch, capsys):
    if content is not None:
        (tmp_path / "recipe.json").write_text(content)
    monkeypatch.setattr(sys, "argv", ["run_one", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.count("\n") == 1, said
