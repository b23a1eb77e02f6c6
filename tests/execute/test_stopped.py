"""Calls that share a store, that signals stop, and whose disk fills: they go on where they were."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import fill, mounted
from fakes import contents
from pools import (
    LONG,
    LONGER,
    Once,
    dotless,
    planned,
    seconds,
    states,
    student,
    supervised,
    until,
)
from processes import session

from ns_bench.errors import UserError
from ns_bench.execute import local
from ns_bench.execute.local import Progress, execute
from ns_bench.execute.run_one import run_one
from ns_bench.recipe import Recipe
from ns_bench.runs.store import CHECKPOINT, Store

pytestmark = pytest.mark.slow

torch.set_num_threads(1)

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


@pytest.mark.usefixtures("one_thread")
def test_two_calls_on_one_store_train_every_run_once(
    tmp_path: Path, call: Callable[..., "subprocess.Popen[str]"]
) -> None:
    root = tmp_path / "store"
    recipes = [student(supervised(seed), train__epochs=40) for seed in range(6)]
    runs = planned(root, *recipes)
    # Ours has imported all by then, so that it begins before the other is through.
    assert execute(planned(tmp_path / "first", supervised()), seconds, workers=2).done == 1
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
