"""Images that are decoded already: held against their hashes, and decoded again."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from photos import (
    alone,  # noqa: F401 (each test has a cache of its own, and no network)
    decoded,
    noted,
    spec,
)

from ns_bench.data.prepare import cache_folder, prepare
from ns_bench.data.split import load
from ns_bench.errors import UserError

pytestmark = pytest.mark.slow

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""


def _flipped(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-5]),
    "flipped": _flipped,
    "headless": lambda file: file.write_bytes(b"\x93NUMPY\x01\x00" + file.read_bytes()[2:]),
    "of another type": lambda file: file.write_bytes(
        file.read_bytes().replace(b"'|u1'", b"'|i1'").replace(b"'<i8'", b"'<u8'").rstrip(b" ")
    ),
    "a list": lambda file: file.write_bytes(b"[1]"),
}


FEW = {"files__labeled__images": 12, "files__test__images": 6}


@pytest.mark.parametrize("pixels", [8, 0])
def test_decoded_images_that_were_damaged_are_decoded_again(pixels, tmp_path, capsys):
    """Purges of a scratch disk go file by file; a run must not take its test rows from elsewhere
    then, nor train on pixels that have changed."""
    data = spec(pixels=pixels, labeled=3, validation=3, test=6, **FEW)
    store = noted(tmp_path, data, train=12, test=6)
    (folder,) = cache_folder().glob("photos-*")
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert len(whole) == (7 if pixels else 11)
    for name in whole:
        for kind, damage in DAMAGE.items():
            if name.startswith("labeled") and kind not in ("removed", "flipped"):
                continue  # as of test rows
            capsys.readouterr()
            damage(folder / name)
            if kind != "removed" and (folder / name).read_bytes() == whole[name]:
                continue  # only some have this type
            decoded(data, store)
            assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole
            said = capsys.readouterr().err
            assert f"ns_bench: {folder}: " in said and "decoded again" in said, (name, kind)


def test_damaged_images_that_cannot_be_decoded_again_name_their_folder(tmp_path):
    store = noted(tmp_path, spec(), train=60, test=24)
    (folder,) = cache_folder().glob("photos-*")
    (folder / "test.images.npy").unlink()
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError) as caught:
        load(spec(), 0, store)
    assert str(folder / "test.images.npy") in str(caught.value)
    assert f"there is no folder {tmp_path / 'photos'}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"places": 1, "arrays": 2}'])
def test_a_damaged_note_is_none(content, tmp_path):
    store = noted(tmp_path, spec(), train=60, test=24)
    (note,) = (store / "data").glob("photos-*.json")
    before = note.read_bytes()
    note.write_bytes(content)
    with pytest.raises(UserError, match="where is data set 'photos'"):
        load(spec(), 0, store)
    prepare([spec()], store, {"photos": str(tmp_path / "photos")})
    assert note.read_bytes() == before


def test_what_a_killed_process_left_half_decoded_is_removed_a_day_later(tmp_path):
    """Within the day it may be another host's, which is at work on it."""
    left = cache_folder() / ".photos-0123456789abcdef.1.tmp"
    fresh = cache_folder() / ".photos-0123456789abcdef.2.tmp"
    for folder in (left, fresh):
        folder.mkdir(parents=True)
        (folder / "test.images.npy").write_bytes(b"half")
    for path in (left / "test.images.npy", left):
        os.utime(path, (time.time() - 90_000,) * 2)
    noted(tmp_path, spec(labeled=3, validation=3, test=6, **FEW), train=12, test=6)
    assert fresh.exists() and not left.exists()
