"""Who works on a run now: leases, which outlive no process."""

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ns_bench.files import locked, publish_json

LEASE_SECONDS = 120.0
"""A lease of another host counts as abandoned once it was not renewed for this long."""


class Held(Exception):
    """Somebody else holds the lease of this run."""


@dataclass
class Lease:
    """Advisory: who works on a run, or on the part of it that `name` stands for.

    Left behind by a killed process, it is taken over.
    On one host a holder is alive while its process (by number and start time) is; on another host
    while the lease was renewed within `LEASE_SECONDS`.
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
            age = time.time() - self._file.stat().st_mtime
            entry = json.loads(self._file.read_bytes())
            holder = {name: entry[name] for name in ("host", "pid", "started", "token")}
            if holder["host"] == socket.gethostname():
                alive = process_started(holder["pid"]) == holder["started"]
            else:
                alive = age < LEASE_SECONDS
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return holder if alive else None

    def acquire(self) -> None:
        """Take the lease or raise Held."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / ".lock"):  # or two might find it abandoned and both take it
            holder = self.holder()
            if holder is not None and holder["token"] != self._token:
                raise Held(f"held by process {holder['pid']} on {holder['host']}")
            pid = os.getpid()
            entry = {"host": socket.gethostname(), "pid": pid, "started": process_started(pid)}
            publish_json(self._file, {**entry, "token": self._token})

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
