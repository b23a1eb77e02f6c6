"""Runs on disk without training: written through the store's own functions, so that they are what
the store reads. For tests of the store, the plan and the reports.

    store = Store(tmp_path / "runs")
    fake_runs(store, design.recipes(range(8)).values(), top1=lambda recipe: 90 + recipe.seed)
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ns_bench.files import publish, publish_json
from ns_bench.recipe import Recipe
from ns_bench.runs import outcomes
from ns_bench.runs.store import LOGITS, MODEL, OUTCOMES, Result, Run, Store

PROVENANCE = {
    "git": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "python": "3.11.0",
    "packages": {
        "ns_bench": "0.1.0",
        "torch": "2.6.0",
        "timm": "1.0.15",
        "numpy": "2.0.0",
        "scikit-learn": "1.5.0",
    },
    "numerics": 1,
    "host": "fake",
    "device": "cpu",
    "device_name": "x86_64",
    "threads": 1,
    "slurm": {},
    "time": "2020-01-01T00:00:00Z",
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fake_result(
    run: Run,
    top1: float = 90.0,
    *,
    logits: bytes | None = None,
    model: bytes = b"weights",
    images: bytes | None = None,
    test: Mapping[str, float] | None = None,
    validation: Mapping[str, float] | None = None,
    pseudo: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Result:
    """Publish artifacts, recipe.json and result.json, so that `run` is done; return the result.

    Args:
        top1: of the test rows; validation has the same unless told otherwise.
        logits: content of the logits file; by default another one for each run.
        images: content of the file of outcomes by image; without it an old run, which has none.
        test: scores that are added to or replace the fake ones; `{}` is a part without rows. So
            are `validation`, `pseudo` (students only) and `provenance`.
        fields: of `Result`, replaced at the end: seconds, resumed, teacher_logits, artifacts, ...
    """
    recipe = run.recipe
    scores = {"top1": top1, "loss": 0.5, "ece": 5.0}
    artifacts = {MODEL: model, LOGITS: f"logits of {run.id}".encode() if logits is None else logits}
    if images is not None:
        artifacts[OUTCOMES] = images
    run.path.mkdir(parents=True, exist_ok=True)
    publish_json(run.path / "recipe.json", recipe.to_dict())
    for name, content in artifacts.items():
        publish(run.path / name, content)
    result = Result(
        id=run.id,
        recipe=recipe.to_dict(),
        test=_over(scores, test),
        validation=_over(scores, validation),
        pseudo=None if recipe.teacher is None else _over(_pseudo(), pseudo),
        artifacts={
            name: {"sha256": sha256(content), "bytes": len(content)}
            for name, content in artifacts.items()
        },
        teacher_logits=_logits_of(run.teacher),
        steps=recipe.steps,
        images=recipe.images,
        seconds=10.0,
        images_per_second=recipe.images / 10,
        resumed=0,
        provenance=_over(PROVENANCE, provenance),
    )
    result = replace(result, **fields)
    run.publish(result)
    return result


def edit_result(run: Run, **changes: Any) -> None:
    """Change fields of a published result as a run would have published them."""
    result = run._recorded()
    assert result is not None
    run.publish(replace(result, **changes))


def fake_curve(run: Run, top1: float = 90.0, evaluations: int = 10, **scores: float) -> None:
    """Log the records that training logs: validation scores that rise to `top1`."""
    run.path.mkdir(parents=True, exist_ok=True)
    for i in range(1, evaluations + 1):
        share = i / evaluations
        record = {"step": round(run.recipe.steps * share), "loss": 2.0 - share, "lr": 0.01}
        record |= {"validation_top1": top1 * share, "validation_loss": 1.5 - share}
        run.log({**record, "validation_ece": 5.0, "seconds": 10.0 * share, **scores})


def fake_runs(
    store: Store, recipes: Iterable[Recipe], top1: Callable[[Recipe], float] = lambda recipe: 90.0
) -> list[Run]:
    """Make every recipe a finished run, its teachers first; return the runs of `recipes`."""
    runs = [store.run(recipe) for recipe in recipes]
    for run in runs:
        chain = [run]
        while chain[0].teacher is not None:
            chain.insert(0, chain[0].teacher)
        for link in chain:
            if link.result() is None:
                score = top1(link.recipe)
                fake_curve(link, score)
                fake_result(link, score)
    return runs


def fake_outcomes(recipe: Recipe, wrong: float, test: int = 100, images: int = 300) -> bytes:
    """Return outcomes of the seed's `test` of `images` images, of which a share is wrong: of those
    that are easy for this seed fewer, as the others."""
    draw = np.random.default_rng(recipe.seed)
    rows = draw.permutation(images)[:test]
    labels, own = rows % 10, np.random.default_rng(int(recipe.id[-8:], 16))
    missed = (rows * 7919 % 1009 / 1009 + own.uniform(size=test)) / 2 < wrong
    return outcomes.to_bytes("0" * 16, images, rows, labels, np.where(missed, 9 - labels, labels))


def _logits_of(teacher: Run | None) -> str | None:
    """Return the checksum of the teacher's published logits, or of what `fake_result` gives it."""
    if teacher is None:
        return None
    published = teacher.result()
    if published is None:
        return sha256(f"logits of {teacher.id}".encode())
    return str(published.artifacts[LOGITS]["sha256"])


def _pseudo() -> dict[str, Any]:
    return {
        "pool": 1147,
        "rows": 1140,
        "coverage": 0.9,
        "accuracy_pool": 0.8,
        "accuracy_used": 0.85,
        "confidence": 0.7,
        "per_class_pool": [114] * 7 + [115] * 3,
        "per_class_used": [114] * 10,
        "per_tenth": [0, 0, 10, 20, 40, 60, 100, 200, 300, 417],
        "per_tenth_right": [0, 0, 2, 7, 18, 33, 65, 150, 255, 400],
    }


def _over(values: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if changes is not None and not changes else {**values, **(changes or {})}


def contents(run: Run) -> dict[str, Any]:
    """Return all that a run has to show but for timings, events and where it was made."""
    result = run.result()
    assert result is not None
    fixed = {f.name: getattr(result, f.name) for f in fields(Result)}
    for timing in ("seconds", "images_per_second", "resumed", "provenance", "records"):
        del fixed[timing]
    metrics = [{k: v for k, v in r.items() if k != "seconds"} for r in run.metrics()]
    return {
        "result": fixed,
        "metrics": [record for record in metrics if "event" not in record],
        **{name: (run.path / name).read_bytes() for name in (MODEL, LOGITS)},
    }
