"""Plans: what is asked for, what is shared, what waits for what."""

from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
from fakes import fake_result, fake_runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ns_bench.files import publish
from ns_bench.recipe import Recipe
from ns_bench.runs.lease import Lease
from ns_bench.runs.plan import Plan, longest_first, make_plan, states_of
from ns_bench.runs.store import CHECKPOINT, LOGITS, Run, Store

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""

TEACHER = Recipe(model="teacher")
STUDENT = Recipe(model="student", teacher=TEACHER)
OTHER = Recipe(model="other", teacher=TEACHER)
GRANDCHILD = Recipe(model="grandchild", teacher=STUDENT)
GREAT = Recipe(model="great", teacher=GRANDCHILD)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@st.composite
def forests(draw: st.DrawFn) -> list[Recipe]:
    """Supervised recipes and students of them and of each other, teachers first."""
    recipes: list[Recipe] = []
    for i in range(draw(st.integers(1, 12))):
        above = draw(st.none() | st.sampled_from(recipes)) if recipes else None
        recipes.append(Recipe(model=f"m{i}", teacher=above))
    return recipes


def chain(recipe: Recipe) -> list[Recipe]:
    """The recipe and its teachers, from the first to itself."""
    return [*(chain(recipe.teacher) if recipe.teacher else []), recipe]


def runs_of(recipes: list[Recipe]) -> list[Run]:
    return [Run(recipe, Path("nowhere") / recipe.id) for recipe in recipes]


# --- which runs -----------------------------------------------------------------------------


def test_a_shared_teacher_is_there_once(store):
    plan = make_plan(store, [STUDENT, OTHER, TEACHER])
    assert list(plan.runs) == [TEACHER.id, STUDENT.id, OTHER.id]
    assert plan.asked == 5
    assert plan.runs[STUDENT.id] == store.run(STUDENT)
    assert plan.counts() == Counter(missing=3)


def test_a_recipe_asked_for_twice_is_there_once(store):
    plan = make_plan(store, [STUDENT, STUDENT])
    assert list(plan.runs) == [TEACHER.id, STUDENT.id]
    assert plan.asked == 4


def test_nothing_asked_for(store):
    plan = make_plan(store, [])
    assert plan == Plan({}, {}, 0)
    assert plan.missing == []


@pytest.mark.slow
@patient
@given(forests(), st.data())
def test_every_teacher_comes_before_its_students(recipes, data):
    asked = data.draw(st.lists(st.sampled_from(recipes), max_size=12))
    plan = make_plan(Store(Path("nowhere"), read_only=True), asked)
    needed = {link.id for recipe in asked for link in chain(recipe)}
    assert plan.runs.keys() == plan.states.keys() == needed
    place = {run_id: i for i, run_id in enumerate(plan.runs)}
    for run in plan.runs.values():
        if run.teacher is not None:
            assert place[run.teacher.id] < place[run.id]
    assert plan.asked == sum(len(chain(recipe)) for recipe in asked)
    assert [run.recipe.id for run in plan.runs.values()] == list(plan.runs)


# --- where they stand -----------------------------------------------------------------------


def test_states_are_those_on_disk(store):
    done, partial, running, failed, missing = (Recipe().at_seed(i) for i in range(5))
    fake_result(store.run(done))
    store.run(partial).path.mkdir()
    publish(store.run(partial).path / CHECKPOINT, b"")
    Lease(store.run(running).path).acquire()
    store.run(failed).fail("broke", "")
    plan = make_plan(store, [done, partial, running, failed, missing])
    assert list(plan.states.values()) == ["done", "partial", "running", "failed", "missing"]
    assert [run.recipe for run in plan.missing] == [partial, running, missing]


def test_everything_below_a_failed_run_is_blocked(store):
    store.run(TEACHER).fail("broke", "")
    plan = make_plan(store, [GREAT, OTHER, TEACHER.at_seed(1)])
    assert plan.states == {
        TEACHER.id: "failed",
        STUDENT.id: "blocked",
        GRANDCHILD.id: "blocked",
        GREAT.id: "blocked",
        OTHER.id: "blocked",
        TEACHER.at_seed(1).id: "missing",
    }
    assert [run.recipe for run in plan.missing] == [TEACHER.at_seed(1)]
    assert plan.counts() == Counter(failed=1, blocked=4, missing=1)


def test_only_what_is_below_is_blocked(store):
    fake_result(store.run(TEACHER))
    store.run(STUDENT).fail("broke", "")
    publish_partial(store.run(OTHER))
    states = make_plan(store, [GREAT, OTHER]).states
    assert list(states.values()) == ["done", "failed", "blocked", "blocked", "partial"]


def publish_partial(run: Run) -> None:
    run.path.mkdir()
    publish(run.path / CHECKPOINT, b"")


def test_a_partial_run_below_a_failed_one_is_blocked_and_a_done_one_is_done(store):
    teacher, student, grandchild = fake_runs(store, [TEACHER, STUDENT, GRANDCHILD])
    publish_partial(store.run(OTHER))
    teacher.discard()
    teacher.fail("broke when it was done again", "")
    states = make_plan(store, [GREAT, OTHER]).states
    assert states == {
        teacher.id: "failed",
        student.id: "done",
        grandchild.id: "done",
        GREAT.id: "missing",
        OTHER.id: "blocked",
    }


def test_a_damaged_teacher_is_done_again_before_its_students(store):
    teacher, student = fake_runs(store, [TEACHER, STUDENT])
    (teacher.path / LOGITS).write_bytes(b"")
    plan = make_plan(store, [STUDENT, OTHER])
    assert plan.states == {teacher.id: "partial", student.id: "done", OTHER.id: "missing"}
    assert [run.id for run in plan.missing] == [teacher.id, OTHER.id]


@pytest.mark.slow
@patient
@given(forests(), st.data())
def test_blocked_means_that_a_failed_run_is_in_the_way(recipes, data):
    words = st.sampled_from(["done", "running", "failed", "partial", "missing"])
    on_disk = {recipe.id: data.draw(words) for recipe in recipes}
    with mock.patch.object(Run, "state", lambda run: on_disk[run.id]):
        runs = {run.id: run for run in runs_of(recipes)}
        states = states_of(runs)
        plan = Plan(runs, states, 0)
    for recipe in recipes:
        expected = on_disk[recipe.id]
        if expected not in ("done", "failed"):
            above = [on_disk[link.id] for link in reversed(chain(recipe)[:-1])]
            reached = next((state for state in above if state in ("done", "failed")), None)
            expected = "blocked" if reached == "failed" else expected
        assert states[recipe.id] == expected
    rest = [r.id for r in recipes if states[r.id] in ("missing", "partial", "running")]
    assert [run.id for run in plan.missing] == rest
    assert plan.counts() == Counter(states.values())


# --- which first ----------------------------------------------------------------------------


def longest_path(recipe: Recipe, recipes: list[Recipe], seconds: dict[str, int]) -> int:
    """From the start of `recipe` to the end of its last descendant, by trying every path."""
    students = [other for other in recipes if other.teacher == recipe]
    below = [longest_path(student, recipes, seconds) for student in students]
    return seconds[recipe.id] + max(below, default=0)


@pytest.mark.slow
@patient
@given(forests(), st.data())
def test_longest_first_is_the_longest_path(recipes, data):
    seconds = {recipe.id: data.draw(st.integers(0, 100)) for recipe in recipes}
    paths = longest_first(runs_of(recipes), lambda recipe: seconds[recipe.id])
    assert paths == {recipe.id: longest_path(recipe, recipes, seconds) for recipe in recipes}


@patient
@given(forests(), st.data())
def test_longest_first_of_what_is_left(recipes, data):
    """Runs whose teachers are done, and so not listed, have paths too."""
    left = [recipe for recipe in recipes if data.draw(st.booleans())]
    seconds = {recipe.id: data.draw(st.integers(1, 100)) for recipe in recipes}
    paths = longest_first(runs_of(left), lambda recipe: seconds[recipe.id])
    assert paths == {recipe.id: longest_path(recipe, left, seconds) for recipe in left}


def test_longest_first_of_nothing():
    assert longest_first([], lambda recipe: 1.0) == {}
