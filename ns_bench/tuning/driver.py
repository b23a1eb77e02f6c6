"""The searches of a command, driven together: when to ask for more trials, what to train next."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from ns_bench.runs.plan import Task, make_plan
from ns_bench.tuning.sampler import ask
from ns_bench.tuning.trials import Search, Standing, State, best_of


@dataclass
class Budget:
    """When an arm gets no more trials.

    Attributes:
        trials: at most so many; None is any number.
        hours: since `began`, a time of `time.monotonic`.
        training_hours: of training by the arm's trials.
    """

    trials: int | None
    hours: float | None
    training_hours: float | None
    began: float

    def left(self, standings: Sequence[Standing]) -> int:
        """Return how many more trials an arm may have."""
        if self.hours is not None and time.monotonic() - self.began > 3600 * self.hours:
            return 0
        spent = sum(standing.seconds for standing in standings) / 3600
        if self.training_hours is not None and spent >= self.training_hours:
            return 0
        return sys.maxsize if self.trials is None else max(self.trials - len(standings), 0)


class Driver:
    """Asks for trials and says what they need next.

    Args:
        changed: is told a search's standings whenever they are others than before.

    Attributes:
        seconds: that went into reading and asking for trials.
    """

    def __init__(
        self,
        searches: Sequence[Search],
        budget: Budget,
        changed: Callable[[Search, list[Standing]], None] = lambda search, standings: None,
    ) -> None:
        self.searches, self.budget, self.changed = searches, budget, changed
        self.seconds = 0.0
        self.standings: dict[str, list[Standing]] = {}

    def advance(self) -> list[Task]:
        """Ask for the trials that are due, store them, and return what is to be trained now.

        Teachers come first; there is nothing once the search is over. Called again before a run
        has ended, it returns the same.
        """
        began = time.monotonic()
        tasks = [task for search in self.searches for task in self._advance(search)]
        plan = make_plan(self.searches[0].store, (task.run.recipe for task in tasks))
        # What another trial needs whole, or is taught by, is not stopped at a rung.
        until = {task.run.id: task.until for task in tasks if task.until is not None}
        whole = {task.run.id for task in tasks if task.until is None}
        whole |= {run.teacher.id for run in plan.runs.values() if run.teacher is not None}
        due = [Task(run, None if run.id in whole else until.get(run.id)) for run in plan.missing]
        self.seconds += time.monotonic() - began
        return due

    def _advance(self, search: Search) -> list[Task]:
        while True:
            trials = search.trials()
            standings = search.standings(trials)
            if standings != self.standings.get(search.arm):
                self.standings[search.arm] = standings
                self.changed(search, standings)
            if any(standing.state == "running" for standing in standings):
                return [task for standing in standings for task in standing.wanted]
            left = self.budget.left(standings)
            asked = ask(search, standings, left) if left else []
            if not asked:
                return []
            search.keep([*trials, *asked])

    def line(self) -> str:
        """Return one line: trials by state, and the best score so far."""
        parts = []
        for arm, standings in self.standings.items():
            counts = Counter(standing.state for standing in standings)
            best = best_of(standings)
            words = [f"{counts[state]} {state}" for state in get_args(State) if counts[state]]
            words += [f"best {best.score:.2f} %"] if best else []
            parts.append(f"{arm}: {', '.join(words)}")
        return "   ".join(parts)
