"""What runs inside a SLURM job. submitit pickles these by reference: they stay tiny and stateless.

All state is in the store, so `checkpoint` has nothing to save: a requeued job starts the same
callable again, which skips what is done and resumes what was begun.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from submitit.helpers import DelayedSubmission

from ns_bench.execute.execution import Execution
from ns_bench.files import storage_full
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Run

FULL = ".full"
"""What the pickle of a job ends in that ended because the disk was full."""


class Pack:
    """Do the runs of element `index` of the array described in `file`.

    The job ends well only if every one of its runs has a published result. Where the store's disk
    is full it leaves the mark that `Scheduler.out_of_space` finds.
    """

    def __init__(self, file: str, index: int) -> None:
        self.file, self.index = file, index

    def __call__(self) -> None:
        try:
            self._do()
        except Exception as error:
            if storage_full(error):
                _mark_full()
            raise

    def _do(self) -> None:
        plan = json.loads(Path(self.file).read_bytes())
        recipes = [Recipe.from_dict(values) for values in plan["packs"][self.index]]
        store, wanted = Path(plan["store"]), plan["wanted"]
        runs = [Run(r, store / r.id, tuple(wanted.get(r.id, ()))) for r in recipes]
        execution = Execution(**plan["execution"])

        def estimate(recipe: Recipe) -> float:
            return float(plan["seconds"][recipe.id])

        if plan["tasks"] > 1:
            unfit = _together(runs, estimate, execution)
        else:
            from ns_bench.execute.local import execute

            todo, unfit = _sort(runs)
            if todo:
                execute(todo, estimate, workers=plan["side_by_side"], execution=execution)
        left = [run.id for run in runs if run.state() != "done"]
        if left:
            why = unfit.get(left[0], "it failed")
            raise RuntimeError(f"{len(left)} of {len(runs)} runs have no result: {left[0]}: {why}")

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(Pack(self.file, self.index))


def _mark_full() -> None:
    """A file is renamed: nothing can be written."""
    from submitit import JobEnvironment

    pickle = JobEnvironment().paths.submitted_pickle
    with contextlib.suppress(OSError):  # another task of this job was first, or it is read-only
        pickle.rename(pickle.with_suffix(FULL))


def _sort(runs: list[Run]) -> tuple[list[Run], dict[str, str]]:
    """Return what is to be done, and {run id: why not} of what cannot be."""
    # The scheduler takes a dependency on a purged job for satisfied, so look for ourselves.
    unfit: dict[str, str] = {}
    todo: list[Run] = []
    for run in runs:  # teachers come first
        teacher, state = run.teacher, run.state()
        if state == "done":
            continue
        if state == "failed":
            unfit[run.id] = "it failed before"
        elif state == "unmeasured":
            todo.append(run)
        elif teacher and teacher.id in unfit:
            unfit[run.id] = f"its teacher {teacher.id} failed"
        elif teacher and teacher.id not in [r.id for r in todo] and teacher.state() != "done":
            unfit[run.id] = f"its teacher {teacher.id} is {teacher.state()}"
        else:
            todo.append(run)
    return todo, unfit


def _together(
    runs: list[Run], seconds: Callable[[Recipe], float], execution: Execution
) -> dict[str, str]:
    """Do runs one after another, each over all tasks of the job (one a GPU); see `parallel`.

    What fails alike in every task costs its own run. Anything else ends the task, and with it,
    through the broken connection, the others: the job fails and the run goes on when it is redone.
    """
    import traceback

    from submitit.helpers import TorchDistributedEnvironment

    from ns_bench.errors import UserError
    from ns_bench.execute.run_one import TeacherUnfit, run_one
    from ns_bench.selftrain.scale import parallel
    from ns_bench.selftrain.train import Diverged

    TorchDistributedEnvironment().export(overwrite=True)
    failed: dict[str, str] = {}
    with parallel.joined() as device:
        todo, unfit = parallel.on_leader(lambda: _sort(runs))
        for run in todo:
            if run.teacher is not None and run.teacher.id in {**unfit, **failed}:
                unfit[run.id] = f"its teacher {run.teacher.id} failed"
                continue
            try:
                run_one(run, device=device, execution=execution.for_run_of(seconds(run.recipe)))
            except (UserError, TeacherUnfit, Diverged) as error:
                failed[run.id] = str(error)
                if parallel.rank() == 0:
                    run.fail(str(error), traceback.format_exc())
    return {**unfit, **failed}
