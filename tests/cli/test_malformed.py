"""Malformed input, made from the schemas: every field of every table with values that it cannot
have is refused in one line that names it, exit code 2, and nothing is written."""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import pytest
from refusals import refusal

from ns_bench import search, study
from ns_bench.design.profile import ProfileFile, load_profile
from ns_bench.execute.slurm.cluster import Cluster, load_cluster
from ns_bench.fields import Field, declared
from ns_bench.recipe import HISTORICAL_DEFAULTS, Recipe
from ns_bench.tuning.space import load_space

RECIPE = {name: field for name, field in declared(Recipe).items() if name in HISTORICAL_DEFAULTS}


def takes(field: Field, kind: str) -> bool:
    """Whether values of a kind are among those of a field."""
    return kind in str(field.type) or (kind == "int" and "float" in str(field.type))


def bad(field: Field) -> Iterator[Any]:
    """Yield values that a field cannot have: of each other type, and beyond its interval."""
    for kind, value in (("str", "no\nname"), ("int", 3), ("float", 0.123), ("bool", True)):
        if not takes(field, kind) and "Literal" not in str(field.type):
            yield value
    if "Literal" in str(field.type):
        yield from ("nothing of these", 0.123, ["x"])
    if takes(field, "float") or takes(field, "int"):
        yield from (math.nan, math.inf, -math.inf, 10**400 if field.within else math.nan)
    if field.within and get_origin(field.type) not in (dict, list, tuple):
        yield from (field.within.low - 1, field.within.high * 1.5 + 1)
    if get_origin(field.type) is not dict and "dict" not in str(field.type):
        yield {"of": {"a": "table"}}
    if get_origin(field.type) not in (list, tuple):
        yield [[1]]


def toml(value: Any) -> str:
    """Write a value as TOML does."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool | float) else json.dumps(value)


CASES = [
    *(("profile", name, value) for name, f in declared(ProfileFile).items() for value in bad(f)),
    *(("recipe", name, value) for name, field in RECIPE.items() for value in bad(field)),
    *(("cluster", name, value) for name, f in declared(Cluster).items() for value in bad(f)),
]


def words_of(table: str, name: str, value: Any, folder: Path) -> list[str]:
    """Write a file with one bad value into `folder`; returns a command that reads it."""
    file = folder / "mine.toml"
    if table == "cluster":
        file.write_text(f"{name} = {toml(value)}\n")
        return ["--profile", "smoke", "--cluster", str(file)]
    key = name if table == "profile" else f"recipe.{name}"
    file.write_text(f'extends = "smoke"\n{key} = {toml(value)}\n')
    return ["--profile", str(file)]


@pytest.mark.parametrize("name", sorted({f"{table} {name}" for table, name, _ in CASES}))
def test_every_field_refuses_what_it_cannot_be(name: str, tmp_path: Path) -> None:
    table, _, field = name.partition(" ")
    values = [value for t, n, value in CASES if (t, n) == (table, field)]
    assert len(values) > 1
    for value in values:
        file = words_of(table, field, value, tmp_path)[-1]
        line = refusal(load_cluster if table == "cluster" else load_profile, file)
        assert field.split(".")[-1] in line and len(line) < 400, (value, line)


@pytest.mark.slow
@pytest.mark.parametrize("command", [study.main, search.main])
def test_commands_say_so_and_write_nothing(
    command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One value of every field, drawn by a fixed seed."""
    (tmp_path / "in").mkdir()
    chance = random.Random(0)
    fields = dict.fromkeys((table, name) for table, name, _ in CASES)
    for table, name in fields:
        value = chance.choice([v for t, n, v in CASES if (t, n) == (table, name)])
        words = words_of(table, name, value, tmp_path / "in")
        code = command(["noise", "--runs", str(tmp_path / "runs"), *words])
        said = capsys.readouterr()
        assert code == 2 and said.out == "", (table, name, value)
        assert said.err.startswith("ns_bench: ") and said.err.count("\n") == 1, (name, value)
        assert [path.name for path in tmp_path.iterdir()] == ["in"], (table, name, value)


@pytest.mark.parametrize("key", ["low", "high", "step", "log", "choices", "when"])
@pytest.mark.parametrize("value", ["x", math.nan, math.inf, [[1]], {"a": 1}, "a\nb", -1e300])
def test_every_key_of_a_space_refuses_what_it_cannot_be(key: str, value: Any) -> None:
    table = {"low": 0.01, "high": 0.1} if key != "choices" else {}
    line = refusal(load_space, {"train.lr": {**table, key: value}}, "here")
    assert line.startswith("here: train.lr") and len(line) < 400
