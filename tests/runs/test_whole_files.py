"""Files under kills and damage: whole or not at all, and one writer at a time."""

import errno
import os
import select
import signal
import time
from pathlib import Path

import pytest
from builders import present
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import python, said

from ns_bench.files import Corrupt, locked, publish, seal, storage_full, unseal

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_publish_writes_and_replaces(tmp_path):
    path = tmp_path / "file"
    publish(path, b"old")
    assert path.read_bytes() == b"old"
    publish(path, b"")
    assert files(tmp_path) == {"file": b""}


def test_publish_syncs_a_whole_temporary_before_it_replaces(tmp_path, monkeypatch):
    path = tmp_path / "file"
    publish(path, b"old")
    seen = []

    def fsync(descriptor: int) -> None:
        # all of the new content is in the file that is synced, and that is not the published one
        seen.append((os.fstat(descriptor).st_size, sorted(files(tmp_path).values())))

    monkeypatch.setattr(os, "fsync", fsync)
    publish(path, b"new content")
    assert seen == [(11, [b"new content", b"old"])]
    assert files(tmp_path) == {"file": b"new content"}


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failing_publish_leaves_the_old_file_alone(tmp_path, monkeypatch, failing, error):
    path = tmp_path / "file"
    publish(path, b"old")

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        with pytest.raises(type(error)):
            publish(path, b"new")
    assert files(tmp_path) == {"file": b"old"}


def test_a_disk_that_takes_no_more_leaves_the_old_file_alone(tmp_path):
    code = """
import pathlib, resource, sys
from ns_bench.files import publish
path = pathlib.Path(sys.argv[1])
publish(path, b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    publish(path, bytes(100_000))
except OSError as error:
    print(error.errno)
"""
    with python(code, tmp_path / "file") as process:
        assert said(process) == str(errno.EFBIG)
    assert files(tmp_path) == {"file": b"old"}


def test_a_kill_leaves_the_old_or_the_new_content(tmp_path):
    """Twelve writers publish as fast as they can, are read meanwhile, and get kill -9."""
    code = """
import os, pathlib, signal, sys
from ns_bench.files import publish
size = int(sys.argv[2])
pids = []
for i in range(12):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        path, letter = pathlib.Path(sys.argv[1]) / str(i), 0
        while True:
            publish(path, bytes([65 + letter % 26]) * (size + letter % 26))
            letter += 1
    pids.append(pid)
print(*pids, flush=True)
sys.stdin.readline()
for pid in pids:
    os.waitpid(pid, 0)
"""
    size = 300_000

    def check() -> None:
        for path in sorted(tmp_path.glob("[0-9]*")):
            content = path.read_bytes()
            assert content == content[:1] * (size + content[0] - 65), path

    with python(code, tmp_path, size) as process:
        pids = [int(pid) for pid in said(process).split()]
        try:
            deadline = time.monotonic() + 20
            while len(list(tmp_path.glob("[0-9]*"))) < 12 and time.monotonic() < deadline:
                time.sleep(0.01)
            for pid in pids:
                check()
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.007)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)  # not reaped before the line below: the pid is ours
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(20)
    assert len(list(tmp_path.glob("[0-9]*"))) == 12
    check()


@patient
@given(st.binary(max_size=200))
def test_seal_and_unseal(payload):
    assert unseal(seal(payload)) == payload


@patient
@given(st.binary(max_size=200), st.data())
def test_unseal_notices_a_changed_bit(payload, data):
    sealed = bytearray(seal(payload))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Corrupt):
        unseal(bytes(sealed))


@patient
@given(st.binary(max_size=200), st.data())
def test_unseal_notices_a_missing_or_added_end(payload, data):
    sealed = seal(payload)
    with pytest.raises(Corrupt):
        unseal(sealed[: data.draw(st.integers(0, len(sealed) - 1))])
    with pytest.raises(Corrupt):
        unseal(sealed + data.draw(st.binary(min_size=1, max_size=50)))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, ""), True),
        (OSError(errno.EDQUOT, ""), True),
        (OSError(errno.EROFS, ""), True),
        (OSError(errno.EACCES, ""), False),
        (FileNotFoundError(errno.ENOENT, ""), False),
        (ValueError(errno.ENOSPC), False),
    ],
)
def test_storage_full(error, expected):
    assert storage_full(error) is expected


# --- one process at a time ------------------------------------------------------------------

HOLDER = """
import sys; from pathlib import Path; from ns_bench.files import locked
with locked(Path(sys.argv[1])):
    print("in", flush=True); sys.stdin.readline(); print("out", flush=True)
"""


def test_a_second_process_waits_until_the_first_is_out(tmp_path):
    with python(HOLDER, tmp_path / "lock") as first:
        assert said(first) == "in"
        with python(HOLDER, tmp_path / "lock") as second:
            assert not select.select([present(second.stdout)], [], [], 1.0)[0]
            first.communicate("\n")
            assert said(second) == "in"
            second.communicate("\n")


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    with python(HOLDER, tmp_path / "lock") as holder:
        assert said(holder) == "in"
        holder.kill()
        with locked(tmp_path / "lock"):
            pass


def test_an_error_inside_unlocks(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    with locked(tmp_path / "lock"):
        pass
