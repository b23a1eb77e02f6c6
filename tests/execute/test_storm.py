"""A storm of signals on the command, drawn by a seed, and what is left of it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import contents
from processes import session

from ns_bench.runs.lease import Lease
from ns_bench.runs.store import Run, run_in

pytestmark = pytest.mark.slow

STUDY = """
from ns_bench.design.definition import Arm, Design, Study

def design(profile):
    plain = profile.supervised("small")
    arms = [Arm("plain", plain), Arm("student", profile.student("small", plain))]
    return Design(arms, "plain", [])

STUDY = Study("storm", "What is left?", "signals", design, "nowhere")
"""
WORDS = [sys.executable, "-m", "ns_bench.study", "storm.py", "--profile", "smoke"]
WORDS += ["--seeds", "2", "--workers", "1", "--retry-failed"]
WORDS += ["--set", "train.epochs=200", "--set", "pseudo.threshold=0"]
RUNS = 4

ASKED = ("SIGTERM", "SIGINT", "SIGHUP")
"""Signals that ask the command to end, which it does with exit code 130."""

SIGNALS = ("SIGKILL", "SIGSEGV", *ASKED, "SIGSTOP")
FAULTS = [(name, who) for name in SIGNALS for who in ("driver", "group", "worker", "its parent")]
"""Who is hit: the command, all of its processes, the one that trains, what that was forked from."""

Call = subprocess.Popen[bytes]
Start = Callable[[Path], Call]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts the command in a folder, in a session of its own."""
    calls: list[Call] = []

    def heard() -> None:  # they are not where tests began in the background, or with nohup
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    def start(root: Path) -> Call:
        with (root / "said").open("ab") as out:
            calls.append(
                subprocess.Popen(
                    WORDS,
                    cwd=root,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    preexec_fn=heard,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            )
        return calls[-1]

    yield start
    for call in calls:
        for pid in session(call.pid):
            os.kill(pid, signal.SIGKILL)
        call.wait()


def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def logged(root: Path) -> int:
    """Return how many bytes of metrics there are: they become more as runs train."""
    return sum(path.stat().st_size for path in root.glob("runs/*/metrics.jsonl"))


def results(root: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in root.glob("runs/*/result.json")}


def worker(root: Path) -> int | None:
    """Return the process that trains now: it holds the lease of its run."""
    holders = (Lease(path.parent).holder() for path in root.glob("runs/*/lease.json"))
    return next((int(holder["pid"]) for holder in holders if holder), None)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def at_work(call: Call, start: Start, root: Path) -> tuple[Call, int]:
    """Wait until another evaluation is logged; returns the call and the process that trains.

    A call that has lost runs to faults does what needs none of them and ends: another goes on.
    """
    before, deadline = logged(root), time.monotonic() + 300
    while logged(root) == before or (pid := worker(root)) is None:
        if call.poll() is not None:
            assert call.returncode == 1, "all is done: give it more to do"
            call = start(root)
        assert time.monotonic() < deadline, f"nothing goes on\n{(root / 'said').read_text()}"
        time.sleep(0.01)
    return call, pid


def test_a_storm_of_signals_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, start: Start
) -> None:
    calm, storm = tmp_path / "calm", tmp_path / "storm"
    for root in (calm, storm):
        root.mkdir()
        (root / "storm.py").write_text(STUDY)
    undisturbed, call = start(calm), start(storm)
    draw, done = random.Random(0), dict[str, bytes]()
    faults = draw.sample(FAULTS, 16)
    for name, who in faults:
        for _ in range(draw.randint(1, 3)):
            call, pid = at_work(call, start, storm)
        target = {"worker": pid, "its parent": parent(pid)}.get(who, call.pid)
        assert target in session(call.pid), f"{who} is gone, and no other process is to be hit"
        send = os.killpg if who == "group" else os.kill
        send(target, signal.Signals[name])
        if name == "SIGSTOP":
            time.sleep(draw.uniform(0.2, 1))
            send(target, signal.SIGCONT)
        elif who in ("driver", "group"):
            code = call.wait(60)
            assert code == (130 if name in ASKED else -signal.Signals[name]), (name, who)
            until(lambda: not session(call.pid), f"orphans after {name} of {who}")  # noqa: B023
            call = start(storm)
        now = results(storm)
        assert now == now | done, f"lost or done again after {name} of {who}"
        done = now
    call.wait(300)
    call = start(storm)
    assert (call.wait(300), undisturbed.wait(300)) == (0, 0), (storm / "said").read_text()
    until(lambda: not session(call.pid), "orphans at the end")
    now = results(storm)
    assert now == now | done and now.keys() == results(calm).keys() and len(now) == RUNS
    assert not list(storm.glob("runs/*/result.*.json")), "done twice"
    resumed = 0
    for name in now:
        run, like = (run_in(root / "runs" / name) for root in (storm, calm))
        assert contents(run) == contents(like), "bit for bit"
        resumed += whole(run)
    said = (storm / "said").read_text()
    assert "Traceback" not in said
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(sum(faults, ())).items())
    print(
        f"{len(faults)} faults ({kinds}); {resumed} attempts resumed; 0 results lost, 0 done twice"
    )
    print("0 processes left behind, 0 tracebacks")


def whole(run: Run) -> int:
    """Hold a run's files against their checksums; returns how often it was resumed."""
    result = run.result()
    assert result is not None
    for name in result.artifacts | result.records:
        run.artifact(name)
    return result.resumed
