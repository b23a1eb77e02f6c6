"""What a job knows of its runs' time is what their plan said."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile
from ns_bench.execute import local
from ns_bench.execute.execution import Execution
from ns_bench.execute.slurm import job
from ns_bench.execute.slurm.cluster import Cluster
from ns_bench.execute.slurm.scheduler import Scheduler, plan_arrays
from ns_bench.files import publish_json
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Run, Store


@pytest.mark.parametrize("name", ["imagenet-mini", "digits"])
def test_a_job_estimates_as_its_plan_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By FLOPs on a named GPU, where the profile has one, as well as by measured seconds a step."""
    profile = load_profile(name)
    assert (profile.gpu is not None) == (name == "imagenet-mini")
    recipes = load_study("teacher_size").design(profile).recipes(range(1)).values()
    runs = make_plan(Store(tmp_path), recipes).missing
    planned = {run.id: profile.estimate(run.recipe) for run in runs}
    assert len(set(planned.values())) > 2, "they differ, as the models do"

    cluster = replace(Cluster("test"), time_minutes=10**8, pack_minutes=10**7, compile=True)
    (array,) = plan_arrays(runs, profile.estimate, cluster, 1000)
    file = tmp_path / "array.json"
    publish_json(file, Scheduler(Store(tmp_path))._record(array, profile.estimate, cluster))

    known: dict[str, float] = {}
    asked: list[Execution] = []

    def execute(
        todo: Sequence[Run], seconds: Callable[[Recipe], float], *, execution: Execution, **_: Any
    ) -> None:
        known.update((run.id, seconds(run.recipe)) for run in todo)
        asked.append(execution)

    monkeypatch.setattr(local, "execute", execute)
    with pytest.raises(RuntimeError, match="have no result"):  # nothing was trained
        job.Pack(str(file), 0)()
    assert known == planned
    assert asked == [Execution(compile=True)]
