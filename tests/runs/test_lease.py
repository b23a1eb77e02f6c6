"""Leases: who works on a run, and who takes over from whom, with real processes."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from processes import python, said

from ns_bench.files import publish_json
from ns_bench.recipe import Recipe
from ns_bench.runs.lease import LEASE_SECONDS, Held, Lease, process_started
from ns_bench.runs.store import Run, Store

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""

TEACHER = Recipe()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def run(store: Store) -> Run:
    """A run with a folder and nothing in it."""
    run = store.run(TEACHER)
    run.path.mkdir()
    return run


HOLD = """
import pathlib, sys
from ns_bench.runs.lease import Lease
Lease(pathlib.Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(run: Run) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease of `run`."""
    with python(HOLD, run.path) as process:
        try:
            assert said(process) == "held"
            yield process
        finally:
            process.kill()


def write_lease(run: Run, age: float = 0.0, **changes: Any) -> Path:
    """Write the lease of a living process of another host, `age` seconds after its last sign."""
    values = {"host": "elsewhere", "pid": os.getpid(), "started": 1.0, "token": "theirs"}
    path = run.path / "lease.json"
    publish_json(path, {**values, **changes})
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_acquire_renew_release(run):
    lease = Lease(run.path)
    assert lease.holder() is None
    lease.acquire()
    holder = lease.holder()
    assert holder is not None
    assert (holder["host"], holder["pid"]) == (socket.gethostname(), os.getpid())
    lease.acquire()  # its own
    lease.renew()
    lease.release()
    assert lease.holder() is None
    assert not (run.path / "lease.json").exists()
    lease.release()


def test_acquire_makes_the_folder(store):
    run = store.run(TEACHER)
    Lease(run.path).acquire()
    assert run.state() == "running"


def test_two_leases_of_one_process_exclude_each_other(run):
    mine, other = Lease(run.path), Lease(run.path)
    mine.acquire()
    with pytest.raises(Held, match=str(os.getpid())):
        other.acquire()
    other.release()  # not its to release
    assert run.state() == "running"
    mine.renew()
    mine.release()
    other.acquire()


def test_the_lease_of_a_living_process_is_respected(run, holder):
    lease = Lease(run.path)
    assert run.state() == "running"
    with pytest.raises(Held, match=f"held by process {holder.pid} on "):
        lease.acquire()
    old = time.time() - 100 * LEASE_SECONDS
    os.utime(run.path / "lease.json", (old, old))  # a process that is stopped is alive
    with pytest.raises(Held):
        lease.acquire()
    with pytest.raises(Held):
        lease.renew()


def test_the_lease_of_a_killed_process_is_taken_over_at_once(run, holder):
    holder.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Lease(run.path).holder() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert Lease(run.path).holder() is None  # not reaped yet: a zombie is dead too
    holder.wait()
    assert run.state() == "missing"
    Lease(run.path).acquire()
    assert run.state() == "running"


def test_a_reused_process_number_is_another_process(run, holder):
    path = run.path / "lease.json"
    values = json.loads(path.read_bytes())
    assert values["pid"] == holder.pid
    publish_json(path, {**values, "started": values["started"] - 1})
    assert run.state() == "missing"
    Lease(run.path).acquire()
    publish_json(path, values)
    assert run.state() == "running"


def test_process_started(holder):
    started = process_started(holder.pid)
    assert started is not None
    assert started == process_started(holder.pid)
    assert started > process_started(os.getpid())  # which has been here for a while
    assert process_started(2**22 + 1) is None  # above the largest number Linux gives


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="no /proc here")
def test_the_start_of_a_process_whose_name_has_brackets(holder, run):
    code = """
import pathlib, sys
pathlib.Path("/proc/self/comm").write_text(") Z 1 (2")
from ns_bench.runs.lease import process_started
import os
print(process_started(os.getpid()), flush=True)
sys.stdin.readline()
"""
    with python(code) as process:
        started = float(said(process))
        assert process_started(process.pid) == started
        assert started >= json.loads((run.path / "lease.json").read_bytes())["started"]


def test_the_lease_of_another_host_expires(run):
    for age in (-60.0, 0.0, LEASE_SECONDS - 30):  # also with a clock that is ahead of ours
        write_lease(run, age)
        assert run.state() == "running"
        with pytest.raises(Held, match="on elsewhere"):
            Lease(run.path).acquire()
    write_lease(run, LEASE_SECONDS + 1)
    assert run.state() == "missing"
    Lease(run.path).acquire()
    assert run.state() == "running"


def test_renewing_keeps_a_lease_from_expiring(run):
    lease = Lease(run.path)
    lease.acquire()
    path = run.path / "lease.json"
    os.utime(path, (0, 0))
    lease.renew()
    assert abs(time.time() - path.stat().st_mtime) < 60


def test_who_was_taken_over_learns_of_it(run):
    lease, other = Lease(run.path), Lease(run.path)
    lease.acquire()
    path = run.path / "lease.json"
    publish_json(path, {**json.loads(path.read_bytes()), "host": "elsewhere"})
    os.utime(path, (0, 0))  # as the others see a host that was cut off
    other.acquire()
    with pytest.raises(Held, match="took over"):
        lease.renew()
    lease.release()
    assert run.state() == "running"
    other.renew()


def test_a_lease_that_is_gone_cannot_be_renewed(run):
    lease = Lease(run.path)
    lease.acquire()
    (run.path / "lease.json").unlink()
    with pytest.raises(Held):
        lease.renew()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"{}", b"[]", b"null", b"5", b'"x"', b"[[1, 2]]", b"\xff", b'{"host": "x"}'),
        b'{"host": "x", "pid": 1, "started": 0.0}',
        b'{"host": "x", "pid": 1, "token": "t"}',
    ],
)
def test_a_damaged_lease_holds_nothing(run, content):
    (run.path / "lease.json").write_bytes(content)
    with pytest.raises(Held):
        Lease(run.path).renew()
    lease = Lease(run.path)
    try:
        lease.acquire()
    except Held:  # as a lease of another host that will expire
        os.utime(run.path / "lease.json", (0, 0))
        lease.acquire()
    lease.renew()
    assert run.state() == "running"


def test_one_of_eight_processes_wins(tmp_path):
    """They start at once on the lease of a dead process, again and again."""
    code = """
import os, pathlib, sys
from ns_bench.files import publish_json
from ns_bench.runs.lease import Held, Lease
for i in range(15):
    path = pathlib.Path(sys.argv[1]) / str(i)
    path.mkdir()
    publish_json(path / "lease.json", {"host": "gone", "pid": 1, "started": 0.0, "token": "old"})
    os.utime(path / "lease.json", (0, 0))
    start, go = os.pipe()
    answers, answer = os.pipe()
    over, end = os.pipe()
    pids = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            os.close(go), os.close(end)
            os.read(start, 1)
            try:
                Lease(path).acquire()
                os.write(answer, b"won ")
            except Held:
                os.write(answer, b"held ")
            os.read(over, 1)  # the winner holds it until all have answered
            os._exit(0)
        pids.append(pid)
    os.close(go)
    os.close(answer)
    os.close(start)
    said = b""
    while len(said.split()) < 8 or not said.endswith(b" "):
        part = os.read(answers, 100)
        assert part, said
        said += part
    os.close(end), os.close(over), os.close(answers)
    for pid in pids:
        os.waitpid(pid, 0)
    print(*sorted(said.decode().split()), flush=True)
"""
    with python(code, tmp_path) as process:
        assert process.stdout is not None
        rounds = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert rounds == [" ".join(["held"] * 7 + ["won"])] * 15


def test_eight_fresh_interpreters_race(run):
    """The same from eight separate commands, as eight users would start them."""
    code = """
import pathlib, sys
from ns_bench.runs.lease import Held, Lease
print("ready", flush=True)
sys.stdin.readline()
try:
    Lease(pathlib.Path(sys.argv[1])).acquire()
    print("won", flush=True)
except Held:
    print("held", flush=True)
sys.stdin.readline()
"""
    processes = [python(code, run.path) for _ in range(8)]
    try:
        assert [said(p) for p in processes] == ["ready"] * 8
        for p in processes:
            assert p.stdin is not None
            p.stdin.write("\n")
            p.stdin.flush()
        assert sorted(said(p) for p in processes) == ["held"] * 7 + ["won"]
        assert run.state() == "running"
    finally:
        for p in processes:
            p.kill()
            p.communicate()
    assert run.state() == "missing"
