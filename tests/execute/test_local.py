"""The local pool: order, and real worker processes that fail, hang and are killed."""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pools import (
    DIVERGES,
    LONG,
    Once,
    dotless,
    planned,
    seconds,
    sends,
    states,
    student,
    supervised,
    until,
)

from ns_bench.errors import UserError
from ns_bench.execute import local
from ns_bench.execute.local import Progress, execute
from ns_bench.execute.run_one import run_one
from ns_bench.runs.lease import Lease, process_started
from ns_bench.runs.store import CHECKPOINT, LOGITS, Run, Store

pytestmark = pytest.mark.slow

torch.set_num_threads(1)


# Order


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("most", "expected"), [("", 4), ("3", 3), ("8", 4), ("0", 4), ("many", 4)])
def test_a_worker_has_its_share_of_the_cores_or_what_the_environment_says(
    monkeypatch, most, expected
):
    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", most)
    assert local.threads(2) == expected


def test_teachers_come_before_their_students(tmp_path: Path) -> None:
    recipes = []
    for seed in (0, 1):
        teacher = supervised(seed)
        recipes += [student(student(teacher), train__epochs=3), student(teacher, train__epochs=2)]
    runs = planned(tmp_path, *recipes)
    shown: list[int] = []
    progress = execute(runs, seconds, workers=2, show=lambda p: shown.append(p.done))
    assert progress.done == len(runs) == 8
    assert not progress.failed
    assert not progress.running
    assert progress.images == sum(run.recipe.images for run in runs)
    assert shown == sorted(shown)
    assert shown[-1] == 8
    for run in runs:
        result = run.result()
        assert result is not None
        if run.teacher is not None:
            taught = run.teacher.result()
            assert taught is not None
            assert result.teacher_logits == taught.artifacts[LOGITS]["sha256"]
            published = (run.teacher.path / "result.json").stat().st_mtime
            assert published <= (run.path / "recipe.json").stat().st_mtime
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("one_thread")
def test_the_longest_chain_goes_first(tmp_path: Path) -> None:
    alone = [supervised(seed) for seed in (1, 2)]
    chain = student(student(supervised(0)))
    runs = planned(tmp_path, *alone, chain)
    execute(runs, seconds, workers=1)
    ends = {run.id: (run.path / "result.json").stat().st_mtime_ns for run in runs}
    assert chain.teacher is not None
    assert chain.teacher.teacher is not None
    first = [chain.teacher.teacher.id, chain.teacher.id]
    assert sorted(ends, key=ends.__getitem__)[:2] == first


@pytest.mark.usefixtures("one_thread")
def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    recipe = supervised()
    runs = planned(tmp_path, recipe)
    execute(runs, seconds, workers=1)
    written = (runs[0].path / "result.json").stat().st_mtime_ns
    assert planned(tmp_path, recipe) == []
    progress = execute(runs, seconds, workers=1)
    assert (progress.done, progress.images) == (1, 0)
    assert (runs[0].path / "result.json").stat().st_mtime_ns == written


# Failures


@pytest.mark.usefixtures("one_thread")
def test_a_failing_run_costs_itself_and_its_students(tmp_path: Path) -> None:
    bad, good, barely = supervised(0, **dotless(DIVERGES)), supervised(1), supervised(2)
    impossible = student(barely, pseudo__threshold=0.9999)
    below = [student(bad), student(impossible), student(student(bad))]
    fine = [student(good), student(barely)]
    runs = planned(tmp_path, *below, *fine)
    assert len(runs) == 9
    progress = execute(runs, seconds, workers=2)
    assert set(progress.failed) == {bad.id, impossible.id}
    assert progress.done == 4
    assert states(tmp_path, bad, impossible) == ["failed"] * 2
    assert states(tmp_path, *below) == ["blocked"] * 3
    assert states(tmp_path, good, barely, *fine) == ["done"] * 4
    store = Store(tmp_path)
    diverged, unsure = (store.run(recipe).failure() for recipe in (bad, impossible))
    assert diverged is not None
    assert unsure is not None
    assert "Diverged" in diverged["error"]
    assert "train.lr=1000" in diverged["error"]
    assert diverged["traceback"].startswith("Traceback")
    assert unsure["error"].startswith("pseudo.threshold=0.9999: the teacher is that sure of none")
    assert unsure["traceback"].startswith("Traceback")
    assert diverged["error"] == progress.failed[bad.id]
    assert not any((store.run(recipe).path / "result.json").exists() for recipe in below)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("sent", "reason"), [(signal.SIGKILL, "signal 9"), (signal.SIGTERM, "told to stop")]
)
def test_a_killed_worker_costs_its_run(tmp_path: Path, sent: signal.Signals, reason: str) -> None:
    """One worker: what comes after the kill is done by the one that replaces it.

    Forgiven, the run goes on, and so do its students.
    """
    victim, others = supervised(0, **dotless(LONG)), [supervised(seed) for seed in (1, 2)]
    below = student(victim)
    runs = planned(tmp_path, victim, below, *others)
    kill = Once(runs[0], sends(sent))
    progress = execute(runs, seconds, workers=1, show=kill)
    assert kill.done
    assert list(progress.failed) == [victim.id]
    assert reason in progress.failed[victim.id]
    assert progress.done == 2
    assert states(tmp_path, victim, below, *others) == ["failed", "blocked", "done", "done"]
    failure = runs[0].failure()
    assert failure is not None
    assert reason in failure["error"]
    if sent == signal.SIGTERM:  # it had the time to save what it had
        assert (runs[0].path / CHECKPOINT).exists()
    assert planned(tmp_path, below) == []
    runs[0].forgive()
    assert execute(planned(tmp_path, below), seconds, workers=1).done == 2
    result = runs[0].result()
    assert result is not None
    assert result.resumed == (sent == signal.SIGTERM)


@pytest.mark.usefixtures("one_thread")
def test_a_hanging_worker_is_killed(tmp_path: Path) -> None:
    victim, other = supervised(0, **dotless(LONG)), supervised(1)
    runs = planned(tmp_path, victim, other)
    pids: list[int] = []

    def stop(pid: int) -> None:
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    began = time.monotonic()
    progress = execute(runs, seconds, workers=1, hang_seconds=6, show=Once(runs[0], stop))
    assert time.monotonic() - began > 6
    assert list(progress.failed) == [victim.id]
    assert "no sign of life for 6 s" in progress.failed[victim.id]
    assert progress.done == 1
    assert not Path(f"/proc/{pids[0]}").exists()
    assert states(tmp_path, victim, other) == ["failed", "done"]


@pytest.mark.usefixtures("one_thread")
def test_a_pool_that_was_suspended_does_not_take_its_workers_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scontrol suspend` and Ctrl-Z stop them all; here its clock jumps as if it had slept."""
    runs = planned(tmp_path, supervised(0, **dotless(LONG)))
    slept = 0.0
    monkeypatch.setattr(local.time, "monotonic", lambda: time.perf_counter() + slept)

    def sleep(_: int) -> None:
        nonlocal slept
        slept = 10_000.0

    progress = execute(runs, seconds, workers=1, hang_seconds=60, show=Once(runs[0], sleep))
    assert slept
    assert not progress.failed
    assert progress.done == 1


@pytest.mark.usefixtures("one_thread")
def test_a_worker_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, killed = local._Pool._start, list[int | None]()

    def start_and_kill(pool: Any, slot: int) -> Any:
        worker = start(pool, slot)
        if len(killed) < times:
            killed.append(worker.process.pid)
            worker.process.kill()
        return worker

    monkeypatch.setattr(local._Pool, "_start", start_and_kill)
    runs, times = planned(tmp_path, supervised(0)), 2
    assert execute(runs, seconds, workers=1).done == 1
    assert len(killed) == 2
    times = 100
    with pytest.raises(UserError, match="cannot start: it was killed by signal 9"):
        execute(planned(tmp_path, supervised(1)), seconds, workers=1)


@pytest.mark.usefixtures("one_thread")
def test_what_workers_are_forked_from_is_killed_and_begins_again(tmp_path: Path) -> None:
    server: Any = vars(multiprocessing.forkserver)["_forkserver"]
    server._stop()

    def kill() -> None:
        until(lambda: server._forkserver_pid is not None, "what workers are forked from")
        os.kill(server._forkserver_pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert execute(planned(tmp_path, supervised(0)), seconds, workers=1).done == 1
    killer.join()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_does_not_mind_a_signal_to_what_its_worker_is_forked_from(
    tmp_path: Path, sent: signal.Signals
) -> None:
    """As a signal to the whole group reaches it, or one who looks for what takes memory."""
    server: Any = vars(multiprocessing.forkserver)["_forkserver"]
    server._stop()
    vars(multiprocessing.resource_tracker)["_resource_tracker"]._stop()
    runs = planned(tmp_path, supervised(0, **dotless(LONG)), supervised(1))
    send = Once(runs[0], lambda _: os.kill(server._forkserver_pid, sent))
    progress = execute(runs, seconds, workers=1, show=send)
    assert send.done
    assert (progress.failed, progress.done) == ({}, 2)
    assert (process_started(server._forkserver_pid) is None) == (sent == signal.SIGKILL)


@pytest.mark.usefixtures("one_thread")
def test_a_worker_killed_with_what_it_was_forked_from_costs_its_run(tmp_path: Path) -> None:
    """Its parent is not there to say which signal it was."""
    server: Any = vars(multiprocessing.forkserver)["_forkserver"]
    victim, other = supervised(0, **dotless(LONG)), supervised(1)

    def act(pid: int) -> None:
        for killed in (server._forkserver_pid, pid):
            os.kill(killed, signal.SIGKILL)

    runs = planned(tmp_path, victim, other)
    progress = execute(runs, seconds, workers=1, show=Once(runs[0], act))
    assert progress.done == 1
    assert progress.failed == {
        victim.id: "worker ended, and so did what it was forked from, which would know how"
    }


# Teachers with damaged logits


def damage(run: Run) -> None:
    """Flip a byte of the stored logits; the file keeps its size."""
    content = bytearray((run.path / LOGITS).read_bytes())
    content[-5] ^= 1
    (run.path / LOGITS).write_bytes(content)
    assert run.state() == "done"  # a look at the sizes does not show it


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("students", [1, 3])
def test_a_teacher_with_damaged_logits_is_done_again(tmp_path: Path, students: int) -> None:
    """Also if several students find the damage at once."""
    teacher = supervised()
    store = Store(tmp_path)
    run_one(store.run(teacher))
    whole = (store.run(teacher).path / LOGITS).read_bytes()
    damage(store.run(teacher))
    below = [student(teacher, train__epochs=2 + i) for i in range(students)]
    progress = execute(planned(tmp_path, *below), seconds, workers=2)
    assert progress.failed == {}
    assert progress.done == students + 1
    assert len(progress.notes) == 1
    assert teacher.id in progress.notes[0]
    assert "checksum" in progress.notes[0]
    assert "done again" in progress.notes[0]
    assert states(tmp_path, teacher, *below) == ["done"] * (students + 1)
    assert (store.run(teacher).path / LOGITS).read_bytes() == whole


@pytest.mark.usefixtures("one_thread")
def test_damage_further_up_is_healed_from_the_top(tmp_path: Path) -> None:
    top, store = supervised(), Store(tmp_path)
    middle = student(top)
    execute(planned(tmp_path, middle), seconds, workers=1)
    for recipe in (top, middle):
        damage(store.run(recipe))
    progress = execute(planned(tmp_path, student(middle)), seconds, workers=1)
    assert progress.failed == {}
    assert len(progress.notes) == 2
    assert states(tmp_path, top, middle, student(middle)) == ["done"] * 3


# Other processes


@pytest.mark.usefixtures("one_thread")
def test_a_run_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    held, free = supervised(0), supervised(1)
    runs = planned(tmp_path, held, free)
    lease = Lease(runs[0].path)
    lease.acquire()
    seen: list[set[str]] = []

    def show(progress: Progress) -> None:
        seen.append(set(progress.elsewhere))
        if progress.done == 1 and len(seen) > 6:
            lease.release()

    progress = execute(runs, seconds, workers=2, show=show)
    assert {held.id} in seen
    assert progress.done == 2
    assert not progress.elsewhere
    assert states(tmp_path, held, free) == ["done", "done"]
