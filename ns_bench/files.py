"""Files that are there whole or not at all, and the top-level rooms (studies/, reports/, slurm/).

Publishing is: write under a unique temporary name, fsync, `os.replace`.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ns_bench.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return the folder `name`: shipped in an installed wheel, else at the checkout's top level."""
    shipped = _PACKAGE / "_share" / name
    return shipped if shipped.is_dir() else _PACKAGE.parent / name


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Args:
        what: the file in messages.

    Raises:
        UserError: it cannot be read, or is not TOML in UTF-8.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{what} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of either, and of a path with a zero byte
        raise UserError(f"{what} is not TOML: {' '.join(str(error).split())}") from None


class StorageFull(UserError):
    """The store's disk takes no more: nothing has failed, a later call goes on."""


class Corrupt(Exception):
    """A file of a run does not match its recorded size or checksum."""


def publish(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds all of it or what it held before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk names none
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def publish_json(path: Path, value: Any) -> None:
    publish(path, (json.dumps(value, indent=1) + "\n").encode())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process of this host in at a time; the lock of a killed one is free at once.

    Not `filelock`: it asks again every 50 ms, and where a file system has no flock it leaves a
    file behind as the lock, which outlives a kill.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sweep(folder: Path, pattern: str, seconds: float = 86_400) -> None:
    """Remove what a killed process left unfinished: files and folders that are a day old."""
    for left in folder.glob(pattern):
        with contextlib.suppress(OSError):
            newest = max(path.stat().st_mtime for path in (left, *left.rglob("*")))
            if time.time() - newest > seconds:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()


def seal(payload: bytes) -> bytes:
    """Prefix `payload` with its SHA-256, so that `unseal` notices a truncated or changed file."""
    return hashlib.sha256(payload).digest() + payload


def unseal(sealed: bytes) -> bytes:
    digest, payload = sealed[:32], sealed[32:]
    if hashlib.sha256(payload).digest() != digest:
        raise Corrupt("its checksum does not match")
    return payload


def sealed_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with the SHA-256 of their JSON among them."""
    return {**values, "sha256": _digest(values)}


def unsealed_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `sealed_json` was given. Corrupt: it has changed since, or has no SHA-256."""
    rest = {name: value for name, value in values.items() if name != "sha256"}
    if values.get("sha256") != _digest(rest):
        raise Corrupt("its checksum does not match")
    return rest


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def storage_full(error: BaseException) -> bool:
    """Whether an error says that the store's disk takes no more: not the run's fault."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return isinstance(error, StorageFull) or (isinstance(error, OSError) and error.errno in full)
