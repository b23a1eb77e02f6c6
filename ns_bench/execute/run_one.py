"""Do one run of a store: check its teacher, train (or go on), evaluate, publish."""

import hashlib
import io
import time
from collections.abc import Callable
from typing import Any

import safetensors.torch
import torch

from ns_bench.data import split
from ns_bench.execute.provenance import provenance
from ns_bench.selftrain.evaluate import evaluate, predict
from ns_bench.selftrain.pseudo import PseudoLabeled, pseudo_label, quality
from ns_bench.selftrain.train import train
from ns_bench.store import (
    CHECKPOINT,
    LOGITS,
    MODEL,
    Corrupt,
    Lease,
    Result,
    Run,
    publish,
    publish_json,
    seal,
    to_json,
    unseal,
)
from ns_bench.streams import stream

CHECKPOINT_SECONDS = 5.0


class Interrupted(Exception):
    """Asked to stop; the run's state is in its checkpoint."""


class TeacherUnfit(Exception):
    """The teacher's published logits are missing or damaged: it has to be done again first."""


def run_one(
    run: Run,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda images, fresh: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Result:
    """Return the run's result, training only what is missing.

    Args:
        device: where to train; never part of a recipe.
        progress: is told about every second, and at the end of training, how many images this run
            has seen and how many of them in this attempt.
        should_stop: is asked after every step; True ends in a checkpoint and Interrupted.

    Raises:
        Held: another process works on this run. TeacherUnfit, Interrupted, UserError, Diverged,
        OSError: nothing of what was done before is lost.
    """
    lease = Lease(run.path)
    lease.acquire()
    try:
        try:
            result = run.result()
        except Corrupt as damage:
            run.log({"step": 0, "event": f"done again: {damage}"})
            run.discard()
            result = None
        return result or _do(run, lease, device, progress, should_stop, checkpoint_seconds)
    finally:
        lease.release()


def _do(
    run: Run,
    lease: Lease,
    device: str,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
    checkpoint_seconds: float,
) -> Result:
    recipe = run.recipe
    publish_json(run.path / "recipe.json", recipe.to_dict())
    dataset = split.load(recipe.data, recipe.seed)
    pseudo, teacher_logits = _labels_of_teacher(run)
    resume = _load_checkpoint(run)
    seconds, resumed = (resume["seconds"], resume["resumed"] + 1) if resume else (0.0, 0)
    first = resume["step"] if resume else 0
    began = last_saved = last_told = time.monotonic()
    images_a_step = recipe.images // max(recipe.steps, 1)

    def save(state: dict[str, Any]) -> None:
        spent = seconds + time.monotonic() - began
        buffer = io.BytesIO()
        torch.save({**state, "seconds": spent, "resumed": resumed}, buffer)
        publish(run.path / CHECKPOINT, seal(buffer.getvalue()))

    def after_step(step: int, state: Callable[[], dict[str, Any]]) -> None:
        nonlocal last_saved, last_told
        now = time.monotonic()
        if should_stop():
            save(state())
            raise Interrupted
        if now - last_told >= 1 or step == recipe.steps:
            progress(step * images_a_step, (step - first) * images_a_step)
            lease.renew()
            last_told = now
        if now - last_saved >= checkpoint_seconds:
            save(state())
            last_saved = now

    def log(record: dict[str, Any]) -> None:
        run.log({**record, "seconds": round(seconds + time.monotonic() - began, 3)})

    net = train(
        recipe, dataset, pseudo, device=device, resume=resume, log=log, after_step=after_step
    )
    seconds += time.monotonic() - began

    mean, std = dataset.mean, dataset.std
    logits = predict(net, dataset.unlabeled.images, mean, std).half()
    weights = {k: v.cpu().contiguous() for k, v in net.state_dict().items()}
    artifacts = {
        MODEL: safetensors.torch.save(weights),
        LOGITS: safetensors.torch.save({"logits": logits.contiguous()}),
    }
    for name, content in artifacts.items():
        publish(run.path / name, content)
    # Only now, when nothing trains any more, may the hidden labels be looked at.
    truth = split.hidden_labels(recipe.data, recipe.seed)
    result = Result(
        id=run.id,
        recipe=recipe.to_dict(),
        test=evaluate(net, dataset.test, mean, std),
        validation=evaluate(net, dataset.validation, mean, std),
        pseudo=None if pseudo is None else quality(pseudo, truth),
        artifacts={
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in artifacts.items()
        },
        teacher_logits=teacher_logits,
        steps=recipe.steps,
        images=recipe.images,
        seconds=round(seconds, 3),
        images_per_second=round(recipe.images / max(seconds, 1e-9), 1),
        resumed=resumed,
        provenance=provenance(device),
    )
    lease.renew()  # whoever took over publishes; this process must not do so too
    publish_json(run.path / "result.json", to_json(result))
    (run.path / CHECKPOINT).unlink(missing_ok=True)
    return result


def _labels_of_teacher(run: Run) -> tuple[PseudoLabeled | None, str | None]:
    """Check the teacher's artifact and derive this student's labels from it."""
    recipe, teacher = run.recipe, run.teacher
    if teacher is None:
        return None, None
    try:
        content = teacher.artifact(LOGITS).read_bytes()
    except (Corrupt, OSError) as error:
        raise TeacherUnfit(f"teacher {teacher.id}: {error}") from None
    logits = safetensors.torch.load(content)["logits"]
    random = stream(recipe.seed, "balance", recipe.generation)
    labels = pseudo_label(logits, recipe.pseudo, recipe.train.label_smoothing, random)
    return labels, hashlib.sha256(content).hexdigest()


def _load_checkpoint(run: Run) -> dict[str, Any] | None:
    path = run.path / CHECKPOINT
    try:
        sealed = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return dict(torch.load(io.BytesIO(unseal(sealed)), weights_only=True))
    except Corrupt as damage:
        run.log({"step": 0, "event": f"checkpoint discarded, started over: {damage}"})
        path.unlink()
        return None
