"""Runs into jobs, and jobs into SLURM arrays: pure functions, no scheduler.

A teacher with all its descendants goes into one job where that is short enough: nothing waits for
anything, and a failing teacher stops only its own students. A longer family is split: the teacher
is a job of its own, its students are jobs that depend on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ns_bench.recipe import Recipe
from ns_bench.runs.store import Run


@dataclass(eq=False)
class Pack:
    """One job: `runs` with teachers before their students. `parent` has to end well first."""

    runs: list[Run]
    parent: "Pack | None" = None
    children: list["Pack"] = field(default_factory=list)


@dataclass(eq=False)
class Array:
    """One sbatch call. Element i is `packs[i]`; None is an empty element that ends at once.

    `aligned`: element i waits for element i of `parent` (aftercorr). Otherwise all elements wait
    for the element `feeder` of `parent` (afterok), or for nothing.
    """

    packs: list[Pack | None]
    parent: "Array | None" = None
    aligned: bool = False
    feeder: int = 0

    @property
    def runs(self) -> list[Run]:
        return [run for pack in self.packs if pack for run in pack.runs]


def make_packs(runs: list[Run], seconds: Callable[[Recipe], float], limit: float) -> list[Pack]:
    """Return the packs that wait for nothing; what waits for them is below as `children`.

    Args:
        runs: what is missing, teachers before students. A teacher not among them is done.
        limit: seconds a job should last; a single longer run is a job of its own.
    """
    students: dict[str, list[Run]] = {run.id: [] for run in runs}
    roots = []
    for run in runs:
        if run.teacher is not None and run.teacher.id in students:
            students[run.teacher.id].append(run)
        else:
            roots.append(run)
    families: dict[str, list[Run]] = {}
    for run in reversed(runs):
        families[run.id] = [run, *(r for s in students[run.id] for r in families[s.id])]

    def bundle(siblings: list[Run], parent: Pack | None) -> list[Pack]:
        packs: list[Pack] = []
        filling: Pack | None = None
        filled = 0.0
        for run in siblings:
            cost = sum(seconds(r.recipe) for r in families[run.id])
            if cost > limit and students[run.id]:
                alone = Pack([run], parent)
                alone.children = bundle(students[run.id], alone)
                packs.append(alone)
                continue
            if filling is None or filled + cost > limit:
                filling, filled = Pack([], parent), 0.0
                packs.append(filling)
            filling.runs += families[run.id]
            filled += cost
        return packs

    return bundle(roots, None)


def make_arrays(packs: list[Pack], largest: int) -> list[Array]:
    """Return arrays in the order of submission, none with more than `largest` elements.

    Where one pack of an array feeds many, they are one array that waits for it. Where many packs
    feed some each, the first child of each is one array, element by element, then the second, ...
    """
    # Packs with many below them first: the arrays below then have few empty elements.
    ordered = sorted(packs, key=lambda pack: -len(pack.children))
    arrays: list[Array] = []
    for start in range(0, len(ordered), largest):
        arrays += _below(Array(list(ordered[start : start + largest])), largest)
    return arrays


def _below(array: Array, largest: int) -> list[Array]:
    arrays = [array]
    feeders = [i for i, pack in enumerate(array.packs) if pack and pack.children]
    if len(feeders) == 1:
        parent = array.packs[feeders[0]]
        assert parent is not None
        for start in range(0, len(parent.children), largest):
            part: list[Pack | None] = list(parent.children[start : start + largest])
            arrays += _below(Array(part, array, feeder=feeders[0]), largest)
        return arrays
    width = max((len(pack.children) for pack in array.packs if pack), default=0)
    for nth in range(width):
        row = [
            pack.children[nth] if pack and len(pack.children) > nth else None
            for pack in array.packs
        ]
        while row and row[-1] is None:
            row.pop()
        if sum(pack is not None for pack in row) == 1:  # no need for empty elements before it
            feeder = len(row) - 1
            arrays += _below(Array([row[-1]], array, feeder=feeder), largest)
        else:
            arrays += _below(Array(row, array, aligned=True), largest)
    return arrays


def dependency(array: Array, parent_job: str) -> str:
    """Return the value of `sbatch --dependency` for an array whose parent is job `parent_job`."""
    assert array.parent is not None
    if array.aligned:
        return f"aftercorr:{parent_job}"
    if len(array.parent.packs) == 1:  # submitit submits a single element as a plain job
        return f"afterok:{parent_job}"
    return f"afterok:{parent_job}_{array.feeder}"
