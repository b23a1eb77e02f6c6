"""From the recipes a study asks for to the runs that are needed, in an order that works."""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ns_bench.recipe import Recipe
from ns_bench.runs.store import Run, State, Store


@dataclass(frozen=True)
class Task:
    """A run to do, to its end or to a step."""

    run: Run
    until: int | None = None


@dataclass(frozen=True)
class Plan:
    """Every run that is asked for or taught from, teachers first, and where each stands.

    Attributes:
        runs: {id: run}; a run that several arms or studies share is there once.
        states: {id: state} as on disk when the plan was made; `blocked` below a failed teacher.
        asked: recipes asked for with their teachers, counted without sharing.
    """

    runs: dict[str, Run]
    states: dict[str, "State | str"]
    asked: int

    @property
    def missing(self) -> list[Run]:
        """Runs to do now: neither done, nor failed, nor below a failed one."""
        skip = ("done", "failed", "blocked")
        return [run for run in self.runs.values() if self.states[run.id] not in skip]

    def counts(self) -> Counter[str]:
        return Counter(self.states.values())


Wanted = Mapping[str, tuple[str, ...]]
"""{run id: groups of metrics that are asked for}; teachers that are no arm need none."""


def make_plan(store: Store, recipes: Iterable[Recipe], wanted: Wanted | None = None) -> Plan:
    """Look up every recipe and all its teachers in `store`."""
    runs: dict[str, Run] = {}
    asked = 0
    for recipe in recipes:
        chain: list[Recipe] = []
        link: Recipe | None = recipe
        while link is not None:
            chain.append(link)
            link = link.teacher
        asked += len(chain)
        for link in reversed(chain):
            runs.setdefault(link.id, store.run(link, (wanted or {}).get(link.id, ())))
    return Plan(runs, states_of(runs), asked)


def states_of(runs: dict[str, Run]) -> dict[str, "State | str"]:
    """Return where each run stands; `runs` has teachers before their students."""
    states: dict[str, State | str] = {}
    for run_id, run in runs.items():
        state: State | str = run.state()
        teacher = run.teacher
        # A teacher of which only a measurement failed can teach.
        stuck = (
            teacher is not None
            and states[teacher.id] in ("failed", "blocked")
            and teacher.state() != "done"
        )
        if stuck and state not in ("done", "unmeasured", "failed"):
            state = "blocked"
        states[run_id] = state
    return states


def longest_first(runs: Iterable[Run], seconds: Callable[[Recipe], float]) -> dict[str, float]:
    """Return {id: seconds from its start to the end of its longest chain of students}."""
    listed = list(runs)
    below: dict[str, float] = {}
    paths: dict[str, float] = {}
    for run in reversed(listed):  # students come after their teachers
        paths[run.id] = seconds(run.recipe) + below.get(run.id, 0.0)
        if run.teacher is not None:
            below[run.teacher.id] = max(below.get(run.teacher.id, 0.0), paths[run.id])
    return paths


def turns(
    runs: Iterable[Run],
    seconds: Callable[[Recipe], float],
    first: Sequence[Collection[str]] = (),
) -> dict[str, tuple[int, float]]:
    """Return {id: turn}; of the runs that are ready, that of the lowest turn begins.

    Args:
        first: ids of runs that begin before the others, each group before the next. In a group,
            and after them all, the run at the start of the longest chain begins.
    """
    group = {run_id: i for i, ids in reversed([*enumerate(first)]) for run_id in ids}
    longest = longest_first(runs, seconds)
    return {run_id: (group.get(run_id, len(first)), -rest) for run_id, rest in longest.items()}


def makespan(
    runs: Iterable[Run],
    seconds: Callable[[Recipe], float],
    workers: int,
    first: Sequence[Collection[str]] = (),
) -> float:
    """Return the seconds until the last of `runs` ends, if they take turns on some workers."""
    listed = {run.id: run for run in runs}
    turn = turns(listed.values(), seconds, first)
    ready: list[tuple[tuple[int, float], str]] = []
    students: dict[str, list[str]] = {}
    for run in listed.values():
        if run.teacher is not None and run.teacher.id in listed:
            students.setdefault(run.teacher.id, []).append(run.id)
        else:
            heapq.heappush(ready, (turn[run.id], run.id))
    at_work: list[tuple[float, str]] = []
    now = 0.0
    while ready or at_work:
        while ready and len(at_work) < workers:
            _, run_id = heapq.heappop(ready)
            heapq.heappush(at_work, (now + seconds(listed[run_id].recipe), run_id))
        now, done = heapq.heappop(at_work)
        for run_id in students.get(done, ()):
            heapq.heappush(ready, (turn[run_id], run_id))
    return now


def longest_chain(runs: Iterable[Run], seconds: Callable[[Recipe], float]) -> list[Run]:
    """Return the runs, teachers first, that take the longest one after another."""
    listed = {run.id: run for run in runs}
    if not listed:
        return []
    ends: dict[str, float] = {}
    for run in listed.values():  # teachers come before their students
        before = ends.get(run.teacher.id, 0.0) if run.teacher else 0.0
        ends[run.id] = before + seconds(run.recipe)
    link: Run | None = listed[max(ends, key=lambda run_id: ends[run_id])]
    chain: list[Run] = []
    while link is not None and link.id in listed:
        chain.insert(0, link)
        link = link.teacher
    return chain
