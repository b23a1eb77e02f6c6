"""Leases: who works on a run, and who takes over from whom, with real processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import present
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
    assert started > present(process_started(os.getpid()))  # which has been here for a while
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


class Clock:
    """Stands in for the clock by which this process watches leases."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("ns_bench.runs.lease.time.monotonic", lambda: self.now)

    def watch(self, run: Run, seconds: float) -> None:
        """Look at a run's lease every second."""
        for _ in range(int(seconds)):
            self.now += 1.0
            run.state()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("age", [-3600.0, 0.0, 3600.0])
def test_the_lease_of_another_host_expires_once_it_was_seen_not_to_change(
    run: Run, clock: Clock, age: float
) -> None:
    """Whatever the time on it says: the other's clock may be hours away from the file server's."""
    write_lease(run, age)
    clock.watch(run, LEASE_SECONDS)
    assert run.state() == "running"
    with pytest.raises(Held, match="on elsewhere"):
        Lease(run.path).acquire()
    clock.watch(run, 2)
    assert run.state() == "missing"
    Lease(run.path).acquire()
    assert run.state() == "running"


@pytest.mark.parametrize("age", [-3600.0, 3600.0])
def test_a_lease_that_changes_is_held_whatever_its_time(run: Run, clock: Clock, age: float) -> None:
    for beat in range(5):
        write_lease(run, age - beat)
        clock.watch(run, LEASE_SECONDS - 1)
        assert run.state() == "running"


def test_who_was_suspended_does_not_take_over(run: Run, clock: Clock) -> None:
    """Both were: the holder, too, has shown no sign of life meanwhile."""
    write_lease(run)
    clock.watch(run, 60)
    clock.now += 10_000
    assert run.state() == "running"
    clock.watch(run, LEASE_SECONDS)
    assert run.state() == "missing"


@pytest.mark.parametrize("sees", ["another boot pid:[1]", "{boot} pid:[1]", None])
def test_a_holder_in_another_namespace_is_alive_though_no_process_has_its_number(
    run: Run, clock: Clock, sees: str | None
) -> None:
    """Two containers of one host's name; None is a lease of an older version."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    more: dict[str, Any] = {} if sees is None else {"sees": sees.format(boot=boot)}
    write_lease(run, host=socket.gethostname(), pid=2**22 + 1, **more)
    clock.watch(run, LEASE_SECONDS)
    assert run.state() == "running"
    clock.watch(run, 2)
    assert run.state() == "missing"


def test_a_dead_process_without_a_start_time_holds_nothing(run: Run, holder: Any) -> None:
    entry = json.loads((run.path / "lease.json").read_bytes())
    publish_json(run.path / "lease.json", {**entry, "pid": 2**22 + 1, "started": None})
    assert run.state() == "missing"


NAMESPACES = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode != 0,
    reason="no namespaces of process numbers here",
)
def test_a_container_respects_the_lease_of_another(run: Run) -> None:
    """Real ones, with one host name and one store: each has a process of the other's number."""
    with python(HOLD, run.path, before=NAMESPACES) as process:
        try:
            assert said(process) == "held"
            taken = "import pathlib, sys\nfrom ns_bench.runs.lease import Held, Lease\n"
            taken += "try: Lease(pathlib.Path(sys.argv[1])).acquire()\n"
            taken += "except Held: print('respected', flush=True)"
            with python(taken, run.path, before=NAMESPACES) as other:
                assert said(other) == "respected"
            assert run.state() == "running"
        finally:
            process.kill()


def test_renewing_keeps_a_lease_from_expiring(run):
    lease = Lease(run.path)
    lease.acquire()
    path = run.path / "lease.json"
    os.utime(path, (0, 0))
    lease.renew()
    assert abs(time.time() - path.stat().st_mtime) < 60


def test_who_was_taken_over_learns_of_it(run, clock):
    lease, other = Lease(run.path), Lease(run.path)
    lease.acquire()
    path = run.path / "lease.json"
    publish_json(path, {**json.loads(path.read_bytes()), "sees": "elsewhere"})
    clock.watch(run, LEASE_SECONDS + 2)  # as the others see a host that was cut off
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
def test_a_damaged_lease_holds_nothing(run, content, clock):
    (run.path / "lease.json").write_bytes(content)
    with pytest.raises(Held):
        Lease(run.path).renew()
    lease = Lease(run.path)
    try:
        lease.acquire()
    except Held:  # as a lease of another host that will expire
        clock.watch(run, LEASE_SECONDS + 2)
        lease.acquire()
    lease.renew()
    assert run.state() == "running"


def test_one_of_eight_processes_wins(tmp_path):
    """They start at once on the lease of a dead process, again and again."""
    code = """
import json, os, pathlib, sys
from ns_bench.files import publish_json
from ns_bench.runs.lease import Held, Lease
for i in range(15):
    path = pathlib.Path(sys.argv[1]) / str(i)
    path.mkdir()
    Lease(path).acquire()
    entry = json.loads((path / "lease.json").read_bytes())
    publish_json(path / "lease.json", {**entry, "pid": 2**22 + 1, "token": "old"})
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
