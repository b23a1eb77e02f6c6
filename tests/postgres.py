"""A real PostgreSQL server for tests, in a temporary folder."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def missing() -> str:
    """Why no server can be started here; empty if one can."""
    absent = [name for name in ("initdb", "pg_ctl") if _program(name) is None]
    return (
        f"not installed: {', '.join(absent)} (Debian: apt-get install postgresql)" if absent else ""
    )


def _program(name: str) -> str | None:
    path = os.pathsep.join([*map(str, reversed(DEBIAN)), os.environ.get("PATH", "")])
    return shutil.which(name, path=path)


def _run(*words: str) -> None:
    # PostgreSQL refuses to run as root; the packages bring a user of its own.
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    command = [*(prefix if os.geteuid() == 0 else []), *words]
    # Not captured: the server would keep the pipe, and with it this call, open.
    log = subprocess.DEVNULL
    subprocess.run(command, check=True, stdout=log, stderr=log, timeout=120, cwd="/")


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of an empty database; the server is down afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = str(folder / "data")
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    assert initdb and pg_ctl
    try:
        _run(initdb, "-D", data, "-U", "me", "-A", "trust", "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        _run(pg_ctl, "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            yield f"postgresql+psycopg://me@127.0.0.1:{port}/postgres"
        finally:
            _run(pg_ctl, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
