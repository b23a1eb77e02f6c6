"""The local pool: real worker processes that fail, hang and are killed, and a store that fills."""

import json
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import fill, mounted
from fakes import contents
from processes import session

from ns_bench.errors import UserError
from ns_bench.execute import local
from ns_bench.execute.local import Progress, execute
from ns_bench.execute.run_one import run_one
from ns_bench.recipe import Recipe
from ns_bench.runs.lease import Lease, process_started
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import CHECKPOINT, LOGITS, Run, Store

pytestmark = pytest.mark.slow

torch.set_num_threads(1)

FIELDS = {"train.epochs": 4, "pseudo.threshold": 0.0, "train.warmup_epochs": 1, "train.ema": 0.9}
DIVERGES = {"train.lr": 1000, "train.optimizer": "sgd", "train.epochs": 300}
LONG = {"train.epochs": 24, "train.batch_size": 10}  # 120 steps: some 2 seconds
LONGER = {"train.epochs": 48, "train.batch_size": 10}


def supervised(seed: int = 0, **fields: Any) -> Recipe:
    own = {name.replace("__", "."): value for name, value in fields.items()}
    return Recipe().set({**FIELDS, **own}).at_seed(seed)


def student(teacher: Recipe, **fields: Any) -> Recipe:
    own = {name.replace("__", "."): value for name, value in fields.items()}
    return Recipe(seed=teacher.seed, teacher=teacher).set({**FIELDS, **own})


def planned(root: Path, *recipes: Recipe) -> list[Run]:
    """Return the runs of `recipes` and of their teachers, in the order that the pool takes."""
    return make_plan(Store(root), recipes).missing


def seconds(recipe: Recipe) -> float:
    return 0.02 * recipe.steps


def states(root: Path, *recipes: Recipe) -> list[str]:
    plan = make_plan(Store(root), recipes)
    return [str(plan.states[recipe.id]) for recipe in recipes]


def holder(run: Run) -> int | None:
    """Return the number of the process that works on a run."""
    found = Lease(run.path).holder()
    return None if found is None else int(found["pid"])


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread a worker, whatever the machine: its number may change the last bits."""
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda pid: {0})


class Once:
    """Does something once, as soon as a run has trained for a while."""

    def __init__(self, run: Run, act: Callable[[int], None], records: int = 1) -> None:
        self.run, self.act, self.records, self.done = run, act, records, False

    def __call__(self, progress: Progress) -> None:
        if self.done or len(self.run.metrics()) < self.records:
            return
        pid = holder(self.run)
        if pid is not None and self.run.id in progress.running:
            self.done = True
            self.act(pid)


def sends(sent: signal.Signals) -> Callable[[int], None]:
    return lambda pid: os.kill(pid, sent)


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


def dotless(values: dict[str, Any]) -> dict[str, Any]:
    return {name.replace(".", "__"): value for name, value in values.items()}


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


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from ns_bench.execute.local import execute
from ns_bench.runs.plan import make_plan
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Store

if __name__ == "__main__":
    # ignored where the tests were started in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and with nohup
    os.sched_getaffinity = lambda pid: {0}
    recipes = [Recipe.from_dict(values) for values in json.loads(sys.argv[2])]
    runs = make_plan(Store(Path(sys.argv[1])), recipes).missing
    print("planned", flush=True)
    progress = execute(runs, lambda recipe: 0.02 * recipe.steps, workers=2)
    print(json.dumps([progress.done, progress.images, progress.failed]), flush=True)
"""


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a function that executes recipes in a process and session of its own."""
    script = tmp_path / "call.py"
    script.write_text(SCRIPT)
    started: list[subprocess.Popen[str]] = []

    def start(root: Path, *recipes: Recipe) -> "subprocess.Popen[str]":
        values = json.dumps([recipe.to_dict() for recipe in recipes])
        process = subprocess.Popen(
            [sys.executable, str(script), str(root), values],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[2])},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def until(condition: Callable[[], Any], what: str, limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"took too long: {what}"
        time.sleep(0.02)


@pytest.mark.usefixtures("one_thread")
def test_two_calls_on_one_store_train_every_run_once(
    tmp_path: Path, call: Callable[..., "subprocess.Popen[str]"]
) -> None:
    root = tmp_path / "store"
    recipes = [student(supervised(seed), train__epochs=20) for seed in range(6)]
    runs = planned(root, *recipes)
    other = call(root, *recipes)
    assert other.stdout is not None
    assert other.stdout.readline() == "planned\n"
    until(lambda: any(run.state() == "running" for run in runs), "the other's first run")
    ours = execute(runs, seconds, workers=2)
    out, errors = other.communicate(timeout=180)
    done, images, failed = json.loads(out)
    assert (ours.failed, failed, errors) == ({}, {}, "")
    assert ours.done == done == 12
    assert ours.images > 0
    assert images > 0
    assert ours.images + images == sum(run.recipe.images for run in runs)
    for run in runs:
        result = run.result()
        assert result is not None
        assert result.resumed == 0
        lines = (run.path / "metrics.jsonl").read_text().splitlines()
        steps = Counter(json.loads(line)["step"] for line in lines)
        assert set(steps.values()) == {1}
        assert not list(run.path.glob("result.*.json"))
    assert states(root, *recipes) == ["done"] * 6


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what long runs end in that nobody disturbs."""
    root = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local.os, "sched_getaffinity", lambda pid: {0})
        runs = planned(root, *long_recipes())
        assert execute(runs, seconds, workers=2).done == 2
    return {run.id: contents(run) for run in runs}


def long_recipes() -> list[Recipe]:
    return [supervised(seed, **dotless(LONGER)) for seed in (0, 1)]


def test_what_workers_are_forked_from_says_nothing_of_a_ctrl_c(
    tmp_path: Path, call: Callable[..., "subprocess.Popen[str]"]
) -> None:
    """It takes some seconds to import torch, in which a terminal's signal reaches it, too."""
    process = call(tmp_path / "store", *long_recipes())

    def begun() -> bool:
        lines = [Path(f"/proc/{pid}/cmdline") for pid in session(process.pid)]
        return any(b"forkserver" in line.read_bytes() for line in lines if line.exists())

    until(begun, "what workers are forked from")
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    until(lambda: not session(process.pid), "the end of all its processes", limit=30)
    assert process.stderr is not None
    said = process.stderr.read()
    assert said.count("Traceback") == 1 and "forkserver" not in said


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP", "kill -9 of the parent"])
def test_a_stopped_call_goes_on_where_it_was(
    tmp_path: Path,
    call: Callable[..., "subprocess.Popen[str]"],
    undisturbed: dict[str, dict[str, Any]],
    how: str,
) -> None:
    root = tmp_path / "store"
    runs = planned(root, *long_recipes())
    process = call(root, *long_recipes())
    until(lambda: all(run.metrics() for run in runs), "some steps of both")
    assert len(session(process.pid)) >= 3
    if how in ("Ctrl-C", "SIGHUP"):  # a terminal sends it to the whole group
        os.killpg(process.pid, signal.SIGINT if how == "Ctrl-C" else signal.SIGHUP)
    else:
        os.kill(process.pid, signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    process.wait(180)
    until(lambda: not session(process.pid), "the end of all its processes", limit=30)
    assert process.stderr is not None
    if how == "kill -9 of the parent":
        assert process.returncode == -signal.SIGKILL
    else:  # an exception for the caller, and nothing from the workers
        assert process.stderr.read().count("Traceback") == 1
    for run in runs:
        assert run.result() is None
        assert run.failure() is None
        assert (run.path / CHECKPOINT).exists()
    assert states(root, *long_recipes()) == ["partial", "partial"]
    progress = execute(planned(root, *long_recipes()), seconds, workers=2)
    assert progress.done == 2
    assert 0 < progress.images < sum(run.recipe.images for run in runs)
    for run in runs:
        result = run.result()
        assert result is not None
        assert result.resumed == 1
        assert contents(run) == undisturbed[run.id]


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with 4 MiB of space: room for two checkpoints, not for many runs."""
    with mounted(tmp_path / "disk", "4m") as folder:
        yield folder


@pytest.mark.usefixtures("one_thread")
def test_a_full_disk_stops_the_call_and_fails_no_run(small_disk: Path) -> None:
    recipes = [supervised(seed) for seed in (0, 1, 2)]
    store = Store(small_disk / "runs")
    run_one(store.run(recipes[0]))
    filler = fill(small_disk, leave=48 * 1024)  # less than a network takes
    runs = planned(small_disk / "runs", *recipes)
    with pytest.raises(UserError) as error:
        execute(runs, seconds, workers=2)
    message = str(error.value)
    assert "\n" not in message
    assert str(small_disk / "runs") in message
    assert "No space left on device" in message
    assert not [run for run in runs if (run.path / "failure.json").exists()]
    assert not list(small_disk.rglob("*.tmp"))
    assert multiprocessing.active_children() == []
    assert states(small_disk / "runs", *recipes)[0] == "done"
    filler.unlink()
    assert execute(planned(small_disk / "runs", *recipes), seconds, workers=2).done == 2
    assert states(small_disk / "runs", *recipes) == ["done"] * 3


@pytest.mark.usefixtures("one_thread")
def test_a_full_disk_and_a_killed_worker_are_still_one_line(small_disk: Path) -> None:
    """There is no room to write down why the run failed."""
    runs = planned(small_disk / "runs", supervised(0, **dotless(LONG)))

    def fill_and_kill(pid: int) -> None:
        fill(small_disk)
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(UserError) as error:
        execute(runs, seconds, workers=1, show=Once(runs[0], fill_and_kill))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("one_thread")
def test_a_full_disk_at_ctrl_c_keeps_the_last_checkpoint(small_disk: Path) -> None:
    """Saving fails; what was saved before is still there, and the call ends."""
    runs = planned(small_disk / "runs", supervised(0, **dotless({"train.epochs": 1000})))

    def fill_and_interrupt(pid: int) -> None:
        fill(small_disk)
        raise KeyboardInterrupt

    def show(progress: Progress) -> None:
        if (runs[0].path / CHECKPOINT).exists():
            interrupt(progress)

    interrupt = Once(runs[0], fill_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        execute(runs, seconds, workers=1, show=show)
    assert multiprocessing.active_children() == []
    (small_disk / "filler").unlink()
    assert runs[0].state() == "partial"
    assert runs[0].failure() is None


def test_an_unwritable_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as error:
        Store(tmp_path / "file")
    assert "\n" not in str(error.value)
