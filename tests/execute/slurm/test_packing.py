"""Runs into jobs and jobs into arrays, for any family tree; and the files that describe clusters.

Short runs share a job (SLURM's trap 7: every requeue costs minutes of waiting) and no job may be
shorter than 15 minutes (trap 6: submitit would not requeue it).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refusal

from ns_bench.design.profile import Profile, load_profile
from ns_bench.errors import UserError
from ns_bench.execute.slurm.cluster import Cluster, cluster_names, load_cluster
from ns_bench.execute.slurm.packing import Array, Pack, dependency, make_arrays, make_packs
from ns_bench.execute.slurm.scheduler import array_name, plan_arrays
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Run

pytestmark = pytest.mark.slow

# ------------------------------------------------------------------------------------- forests


@cache
def recipe(number: int, teacher: Recipe | None = None) -> Recipe:
    return Recipe(teacher=teacher).set({"train.lr": 0.001 * (number + 1)})


def forest(parents: Sequence[int | None]) -> list[Run]:
    """Runs, each the student of an earlier one or of none."""
    recipes: list[Recipe] = []
    for number, parent in enumerate(parents):
        recipes.append(recipe(number, None if parent is None else recipes[parent]))
    return [Run(r, Path("runs") / r.id) for r in recipes]


def every(packs: Sequence[Pack]) -> Iterator[Pack]:
    for pack in packs:
        yield pack
        yield from every(pack.children)


@st.composite
def forests(draw: st.DrawFn) -> tuple[list[Run], dict[str, float], float, int]:
    """(runs that are missing, seconds of each, seconds a pack, largest array)."""
    count = draw(st.integers(1, 25))
    parents = [
        draw(st.one_of(st.none(), st.integers(max(0, i - 8), i - 1))) if i else None
        for i in range(count)
    ]
    runs = forest(parents)
    done = draw(st.integers(0, count // 2))  # teachers may be done already
    costs = {run.id: draw(st.sampled_from([1.0, 5.0, 30.0])) for run in runs}
    limit = draw(st.sampled_from([0.5, 3.0, 10.0, 40.0, 1000.0]))
    return runs[done:], costs, limit, draw(st.sampled_from([1, 2, 3, 7, 1000]))


@settings(deadline=None)
@given(forests())
def test_packs(case):
    runs, costs, limit, _ = case

    def seconds(recipe: Recipe) -> float:
        return costs[recipe.id]

    roots = make_packs(runs, seconds, limit)
    packs = list(every(roots))
    where = {run.id: pack for pack in packs for run in pack.runs}
    assert Counter(r.id for p in packs for r in p.runs) == Counter(r.id for r in runs)
    for pack in packs:
        assert pack.runs
        assert len(pack.runs) == 1 or sum(seconds(run.recipe) for run in pack.runs) <= limit
        for child in pack.children:
            assert child.parent is pack
        seen = set()
        for run in pack.runs:
            teacher = run.teacher.id if run.teacher and run.teacher.id in where else None
            if teacher and where[teacher] is pack:
                assert teacher in seen, "teachers before their students"
            elif teacher:
                assert pack.parent is where[teacher], "it waits for the job of its teacher"
            else:
                assert pack.parent is None, "a job that waits for nothing it needs"
            seen.add(run.id)
    assert {id(pack) for pack in roots} == {id(p) for p in packs if p.parent is None}


@settings(deadline=None)
@given(forests())
def test_arrays(case):
    runs, costs, limit, largest = case
    roots = make_packs(runs, lambda recipe: costs[recipe.id], limit)
    arrays = make_arrays(roots, largest)
    filled = [pack for array in arrays for pack in array.packs if pack]
    assert Counter(map(id, filled)) == Counter(map(id, every(roots))), "every pack once"
    position = {id(array): i for i, array in enumerate(arrays)}
    for i, array in enumerate(arrays):
        assert 1 <= len(array.packs) <= largest
        assert array.packs[-1] is not None and array.runs
        for element, pack in enumerate(array.packs):
            if pack is None:
                assert array.aligned, "empty elements only keep others in line"
            elif pack.parent is None:
                assert array.parent is None
            else:
                assert array.parent is not None
                above = array.parent.packs[element if array.aligned else array.feeder]
                assert above is pack.parent, "it waits for the job of its teacher"
                assert position[id(array.parent)] < i
    names = [array_name(array) for array in arrays]
    assert len(set(names)) == len(names)


def test_the_dependency_is_on_no_more_than_the_teachers_job():
    a, b, c = (Pack([run]) for run in forest([None, 0, 0]))
    array, single = Array([a, b]), Array([a])
    assert dependency(Array([b, c], array, aligned=True), "7") == "aftercorr:7"
    assert dependency(Array([b, c], array, feeder=1), "7") == "afterok:7_1"
    # submitit hands in a single element as a plain job
    assert dependency(Array([b, c], single, feeder=0), "7") == "afterok:7"


def shape(parents: Sequence[int | None], limit: float, largest: int = 1000) -> list[str]:
    """For every sbatch call: how many elements, and what it waits for."""
    arrays = make_arrays(make_packs(forest(parents), lambda recipe: 10.0, limit), largest)
    names = {id(array): f"<{i}>" for i, array in enumerate(arrays)}
    return [
        f"{len(a.packs)} {dependency(a, names[id(a.parent)])}" if a.parent else f"{len(a.packs)}"
        for a in arrays
    ]


EIGHT_BY_THREE = [None] * 8 + [i for i in range(8) for _ in range(3)]
TWENTY_OF_ONE = [None] + [0] * 20


@pytest.mark.parametrize(
    ("parents", "limit", "largest", "expected"),
    [
        # 8 seeds of a teacher with three students: a seed in a job, or all of it, or one by one
        (EIGHT_BY_THREE, 40, 1000, ["8"]),
        (EIGHT_BY_THREE, 1000, 1000, ["1"]),
        (EIGHT_BY_THREE, 20, 1000, ["8", "8 aftercorr:<0>", "8 aftercorr:<0>"]),
        (EIGHT_BY_THREE, 1, 1000, ["8", *["8 aftercorr:<0>"] * 3]),
        (EIGHT_BY_THREE, 1, 5, ["5", *["5 aftercorr:<0>"] * 3, "3", *["3 aftercorr:<4>"] * 3]),
        # one teacher feeds twenty
        (TWENTY_OF_ONE, 1, 1000, ["1", "20 afterok:<0>"]),
        (TWENTY_OF_ONE, 30, 1000, ["1", "7 afterok:<0>"]),
        (TWENTY_OF_ONE, 1, 8, ["1", "8 afterok:<0>", "8 afterok:<0>", "4 afterok:<0>"]),
        # ... and others feed none, or less
        ([*TWENTY_OF_ONE, None, None], 1, 1000, ["3", "20 afterok:<0>_0"]),
        ([None, None, 1, 1, 0], 1, 1000, ["2", "2 aftercorr:<0>", "1 afterok:<0>_0"]),
        # generations
        ([None, 0, 1], 1, 1000, ["1", "1 afterok:<0>", "1 afterok:<1>"]),
        ([None, 0, 1], 20, 1000, ["1", "1 afterok:<0>"]),
    ],
)
def test_number_of_sbatch_calls(parents, limit, largest, expected):
    assert shape(parents, limit, largest) == expected


def test_packing_follows_the_cluster():
    profile = Profile("", "", {}, {}, 0, 0, step_seconds={})
    runs = forest([None] * 12)
    cost = profile.estimate(runs[0].recipe)
    cluster = Cluster("x", pack_minutes=2 * cost / 60 * 1.01, time_minutes=10**6)
    jobs = {
        name: len(plan_arrays(runs, profile.estimate, changed, 1000)[0].packs)
        for name, changed in {
            "two in a job": cluster,
            "three side by side": replace(cluster, side_by_side=3),
            "twice as fast": replace(cluster, speed=2.0),
        }.items()
    }
    assert jobs == {"two in a job": 6, "three side by side": 2, "twice as fast": 3}


def test_names_follow_the_runs_and_the_store():
    first, second = (Array([Pack([run])]) for run in forest([None, None]))
    assert array_name(first) == array_name(Array([Pack(list(first.runs))]))
    elsewhere = Run(first.runs[0].recipe, Path("other") / first.runs[0].id)
    assert len({array_name(a) for a in (first, second, Array([Pack([elsewhere])]))}) == 3


# -------------------------------------------------------------------------------- cluster files


@pytest.mark.parametrize("name", [name for name in cluster_names() if name != "local"])
def test_shipped_cluster_files_load_and_pack(name):
    cluster = load_cluster(name)
    assert cluster.parameters()["time"] == cluster.time_minutes
    assert plan_arrays(forest(EIGHT_BY_THREE), load_profile("digits").estimate, cluster, 1000)


def test_there_are_three_shipped_cluster_files():
    assert {"local", "slurm", "cpu", "a100x8"} <= set(cluster_names())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("partitoin = 'gpu'", "mine.toml: unknown field 'partitoin': did you mean 'partition'?"),
        ("name = 'x'", "mine.toml: unknown field 'name'"),
        ("cpus = 'four'", "mine.toml: cpus='four': expected a whole number from 1 to 10000"),
        ("cpus = 4.5", "mine.toml: cpus=4.5: expected a whole number from 1 to 10000"),
        ("gpus = true", "mine.toml: gpus=True: expected a whole number from 0"),
        (
            "setup = 'module load cuda'",
            "mine.toml: setup='module load cuda': expected a list [text, ...]",
        ),
        ("extra = ['nice']", "mine.toml: extra=['nice']: expected a table {name = text or "),
        ("cpus = 0", "mine.toml: cpus=0: expected a whole number from 1"),
        ("gpus = -1", "mine.toml: gpus=-1: expected a whole number from 0"),
        ("speed = 0.0", "mine.toml: speed=0.0: expected a number from 0.001"),
        ("side_by_side = 0", "mine.toml: side_by_side=0: expected a whole number from 1"),
        (
            "time_minutes = 10\npack_minutes = 5",
            "mine.toml: time_minutes=10: expected a whole number from 15",
        ),
        ("time_minutes = 30", "mine.toml: pack_minutes=30 needs a time limit of 38 minutes"),
        ("pack_minutes = 0", "mine.toml: pack_minutes=0: expected a number above 0"),
        ("pack_minutes = nan", "mine.toml: pack_minutes=nan: expected a number above 0"),
        ("mem_gb = nan", "mine.toml: mem_gb=nan: expected a number from 0.1 to 100000"),
        ("mem_gb = 1e300", "mine.toml: mem_gb=1e+300: expected a number from 0.1 to 100000"),
        ("speed = nan", "mine.toml: speed=nan: expected a number from 0.001"),
        ("speed = '2'", "mine.toml: speed='2': expected a number from 0.001"),
        ("requeues = -5", "mine.toml: requeues=-5: expected a whole number from 0"),
        ("compile = 1", "mine.toml: compile=1: expected true or false"),
        ("setup = [1]", "mine.toml: setup[0]=1: expected text"),
        ("qos = 3", "mine.toml: qos=3: expected text"),
        ("extra = { nice = [1] }", "mine.toml: extra.nice=[1]: expected text or a number"),
        ("extra = { nice = nan }", "mine.toml: extra.nice=nan: expected"),
        ('partition = "a\\nb"', r"mine.toml: 'partition=a\nb': expected one line"),
        ('constraint = "a\\rb"', r"mine.toml: 'constraint=a\rb': expected one line"),
        ('extra = { nice = "a\\nb" }', r"mine.toml: 'nice=a\nb': expected one line"),
        ('extra = { "a\\nb" = 1 }', r"mine.toml: 'a\nb=1': expected one line"),
        ("cpus = ", "mine.toml is not TOML"),
    ],
)
def test_a_bad_cluster_file_is_one_line(text, expected, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        load_cluster(str(path))
    assert expected in str(refused.value) and "\n" not in str(refused.value)


def test_a_cluster_file_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"partition = '\xff\xfe'")
    (tmp_path / "folder.toml").mkdir()
    for name, said in (("mine", "is not TOML: 'utf-8' codec"), ("folder", "cannot be read: Is a")):
        assert f"{name}.toml {said}" in refusal(load_cluster, str(tmp_path / f"{name}.toml"))


def test_a_cluster_is_checked_however_it_is_made():
    assert refusal(lambda: Cluster("x", gpus=-1)).startswith("gpus=-1: expected a whole number")
    assert type(Cluster("x", speed=3).speed) is float


def test_numbers_may_be_whole(tmp_path):
    (tmp_path / "mine.toml").write_text("mem_gb = 2\npack_minutes = 20\nspeed = 3\ngpus = 0\n")
    cluster = load_cluster(str(tmp_path / "mine.toml"))
    assert cluster.parameters()["mem"] == "2048MB" and "gpus_per_node" not in cluster.parameters()


def test_an_unknown_cluster_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean 'slurm'"):
        load_cluster("slurmm")
    with pytest.raises(UserError, match=r"none\.toml cannot be read: No such file"):
        load_cluster(str(tmp_path / "none.toml"))
