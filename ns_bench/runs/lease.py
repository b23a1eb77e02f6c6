"""Who works on a run now: leases, which outlive no process."""

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ns_bench.files import locked, publish_json

LEASE_SECONDS = 120.0
"""A lease that does not change counts as abandoned once it was watched for this long, where its
process cannot be looked at."""

LOOK_SECONDS = 10.0
"""How much a look adds to that at most: who was suspended with the holder has not watched it."""

_watched: dict[Path, tuple[Any, float, float]] = {}
"""{lease: (what it was when last seen, seconds for which it was that, when it was last seen)}."""


class Held(Exception):
    """Somebody else holds the lease of this run."""


@dataclass
class Lease:
    """Advisory: who works on a run, or on the part of it that `name` stands for.

    Left behind by a killed process, it is taken over. A holder whose process can be seen (the same
    boot of a machine and the same namespace of process numbers) is alive while that process, by
    number and start time, is. Any other holder is alive until its lease has been seen not to change
    for `LEASE_SECONDS`, as the watching process counts them: no two clocks are compared.
    """

    path: Path  # of the run
    name: str = "lease.json"
    _token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def _file(self) -> Path:
        return self.path / self.name

    def holder(self) -> dict[str, Any] | None:
        """Return the living holder's {"host", "pid", "started", "token"}, or None."""
        try:
            with self._file.open("rb") as file:  # opened, for a file server to say what is new
                entry, changed = json.loads(file.read()), os.fstat(file.fileno()).st_mtime_ns
            holder = {name: entry[name] for name in ("host", "pid", "started", "token")}
            if entry.get("sees") == _sees():
                started = process_started(holder["pid"])
                alive = started is not None and started == holder["started"]
            else:
                alive = self._unchanged((holder["token"], changed)) < LEASE_SECONDS
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return holder if alive else None

    def _unchanged(self, beat: Any) -> float:
        """Return for how long this process has seen the lease as it is now."""
        now = time.monotonic()
        before, seconds, last = _watched.get(self._file, (None, 0.0, now))
        seconds = seconds + min(now - last, LOOK_SECONDS) if beat == before else 0.0
        _watched[self._file] = beat, seconds, now
        return seconds

    def acquire(self) -> None:
        """Take the lease or raise Held."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / ".lock"):  # or two might find it abandoned and both take it
            holder = self.holder()
            if holder is not None and holder["token"] != self._token:
                raise Held(f"held by process {holder['pid']} on {holder['host']}")
            pid = os.getpid()
            entry = {"host": socket.gethostname(), "pid": pid, "started": process_started(pid)}
            publish_json(self._file, {**entry, "sees": _sees(), "token": self._token})

    def renew(self) -> None:
        """Show that the holder is alive; raises Held if another has taken over meanwhile."""
        try:
            token = json.loads(self._file.read_bytes())["token"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            token = None
        if token != self._token:
            raise Held("another process took over this run")
        os.utime(self._file)

    @contextlib.contextmanager
    def held(self) -> Iterator["Lease"]:
        """Hold the lease for a while; raises Held if somebody else does."""
        self.acquire()
        try:
            yield self
        finally:
            self.release()

    def release(self) -> None:
        with locked(self.path / ".lock"), contextlib.suppress(Held):
            self.renew()
            self._file.unlink(missing_ok=True)


@cache
def _sees() -> str:
    """Return what two processes share that see each other: a boot of a machine and a namespace of
    process numbers, not a host's name, which several containers can have."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no /proc (macOS), and no containers either
        return socket.gethostname()


def process_started(pid: int) -> float | None:
    """Return when process `pid` started, in some fixed unit, or None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self").exists():
            return None
        try:  # no /proc (macOS): the number alone has to do
            os.kill(pid, 0)
        except OSError:
            return None
        return 0.0
    after_name = stat.rpartition(")")[2].split()
    return None if after_name[0] == "Z" else float(after_name[19])
