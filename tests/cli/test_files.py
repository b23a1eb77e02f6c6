"""The rooms that studies, reports and cluster files are in."""

import re
import tomllib
from pathlib import Path

import pytest

from ns_bench import files


@pytest.mark.parametrize(
    ("room", "inside"),
    [("studies", "teacher_size.py"), ("reports", "paper.csv"), ("reports", "references.csv")],
)
def test_rooms_are_found(room, inside):
    assert (files.folder(room) / inside).is_file()


def test_rooms_of_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "ns_bench"
    package.mkdir()
    monkeypatch.setattr(files, "_PACKAGE", package)
    assert files.folder("studies") == tmp_path / "studies"


def test_rooms_of_a_wheel_come_first(tmp_path, monkeypatch):
    package = tmp_path / "ns_bench"
    shipped = package / "_share" / "studies"
    shipped.mkdir(parents=True)
    (tmp_path / "studies").mkdir()  # somebody else's folder in site-packages
    monkeypatch.setattr(files, "_PACKAGE", package)
    assert files.folder("studies") == shipped
    assert files.folder("reports") == tmp_path / "reports"


def test_rooms_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    before = files.folder("studies")
    monkeypatch.chdir(tmp_path)
    assert files.folder("studies") == before
    assert before.is_absolute()


def test_the_wheel_ships_every_room_that_is_read():
    """Both layouts are named in one place each; they have to agree."""
    root = Path(files.__file__).parents[1]
    source = "".join(path.read_text() for path in (root / "ns_bench").rglob("*.py"))
    # "own" is of code that was submitted to a cluster, which has no wheel
    read = set(re.findall(r'folder\("(\w+)"\)', source)) - {"own"}
    assert {"studies", "reports"} <= read
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    places = build["targets"]["wheel"]["force-include"]
    for top, inside in places.items():
        assert inside == f"ns_bench/_share/{top}"
        assert (root / top).exists()
    assert read <= {Path(top).parts[0] for top in places}
