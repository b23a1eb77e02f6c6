"""What runs inside a SLURM job. submitit pickles these by reference: they stay tiny and stateless.

All state is in the store, so `checkpoint` has nothing to save: a requeued job starts the same
callable again, which skips what is done and resumes what was begun.
"""

import json
from pathlib import Path

from submitit.helpers import DelayedSubmission

from ns_bench.definition import Profile
from ns_bench.recipe import Recipe
from ns_bench.store import Run


class Pack:
    """Do the runs of element `index` of the array described in `file`.

    The job ends well only if every one of its runs has a published result.
    """

    def __init__(self, file: str, index: int) -> None:
        self.file, self.index = file, index

    def __call__(self) -> None:
        from ns_bench.execute.local import execute

        plan = json.loads(Path(self.file).read_bytes())
        recipes = [Recipe.from_dict(values) for values in plan["packs"][self.index]]
        runs = [Run(recipe, Path(plan["store"]) / recipe.id) for recipe in recipes]
        # The scheduler takes a dependency on a purged job for satisfied, so look for ourselves.
        unfit: dict[str, str] = {}
        todo = []
        for run in runs:  # teachers come first
            teacher, state = run.teacher, run.state()
            if state == "done":
                continue
            if state == "failed":
                unfit[run.id] = "it failed before"
            elif teacher and teacher.id in unfit:
                unfit[run.id] = f"its teacher {teacher.id} failed"
            elif teacher and teacher not in todo and teacher.state() != "done":
                unfit[run.id] = f"its teacher {teacher.id} is {teacher.state()}"
            else:
                todo.append(run)
        estimate = Profile("", "", {}, {}, 0, step_seconds=plan["step_seconds"]).estimate
        if todo:
            execute(todo, estimate, workers=plan["side_by_side"])
        left = [run.id for run in runs if run.state() != "done"]
        if left:
            why = unfit.get(left[0], "it failed")
            raise RuntimeError(f"{len(left)} of {len(runs)} runs have no result: {left[0]}: {why}")

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(Pack(self.file, self.index))


class Collect:
    """Write the report of a study once its jobs have ended, however they ended."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments

    def __call__(self) -> int:
        from ns_bench.study import main

        return main(self.arguments)

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(Collect(self.arguments))
