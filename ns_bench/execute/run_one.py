"""Do one run of a store: check its teacher, train (or go on), evaluate, publish; then measure.

By hand, on one process or over several GPUs, nodes or (gloo) CPUs, where RUN_DIR is a run's folder
in a store, with its recipe.json:

    python -m ns_bench.execute.run_one RUN_DIR
    torchrun --nproc-per-node 2 -m ns_bench.execute.run_one RUN_DIR
"""

import argparse
import hashlib
import io
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ns_bench.data import split
from ns_bench.data.catalog import sparse_labels
from ns_bench.errors import UserError
from ns_bench.execute.execution import PLAIN, Execution, add_execution
from ns_bench.execute.label import pool_labels
from ns_bench.execute.provenance import provenance
from ns_bench.files import Corrupt, publish, publish_json, seal, unseal
from ns_bench.recipe import Recipe
from ns_bench.runs.lease import Held, Lease
from ns_bench.runs.store import CHECKPOINT, LOGITS, MODEL, Measured, Result, Run, to_json
from ns_bench.selftrain.evaluate import evaluate, predict, predict_noised, predict_views
from ns_bench.selftrain.models import network
from ns_bench.selftrain.pseudo import PseudoLabeled, pseudo_label, quality
from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.scale.shards import pseudo_label_sparse
from ns_bench.selftrain.train import Diverged, train
from ns_bench.streams import stream

CHECKPOINT_SECONDS = 5.0

CHECKPOINT_FORM = 2
"""Of what a checkpoint holds: one of another form is not gone on from."""

WRITING_SHARE = 0.01
"""Of its time, that a run writes checkpoints at most: those of large networks take seconds."""


class Interrupted(Exception):
    """Asked to stop; the run's state is in its checkpoint."""


class Paused(Exception):
    """Got to the step it was asked to get to; the run's state is in its checkpoint."""


class TeacherUnfit(Exception):
    """What the teacher published is missing or damaged: it has to be done again first."""


def run_one(
    run: Run,
    *,
    device: str = "cpu",
    execution: Execution = PLAIN,
    progress: Callable[[int, int], None] = lambda images, fresh: None,
    should_stop: Callable[[], bool] = lambda: False,
    until: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Result:
    """Return the run's result, training and measuring (see `Run.wanted`) only what is missing.

    Where `torch.distributed` is initialised, every process calls this. Process 0 alone takes the
    lease, tells progress and writes; all start from the checkpoint that it read, and stop at the
    same step.

    Args:
        device: where to train; never part of a recipe.
        execution: compiled whatever is planned.
        progress: is told about every second, and at the end of training, how many images this run
            has seen and how many of them in this attempt.
        should_stop: is asked after every step; True (on any process) ends in a checkpoint and
            Interrupted.
        until: end in a checkpoint and Paused once a record of metrics is there of this step or a
            later one.

    Raises:
        Held: another process works on this run. TeacherUnfit, Interrupted, Paused, UserError,
        Diverged, OSError: nothing of what was done before is lost.
    """
    lease = Lease(run.path)
    parallel.on_leader(lease.acquire)
    told = (0, 0)

    def tell(images: int, fresh: int) -> None:
        nonlocal told
        told = (images, fresh)
        progress(images, fresh)

    def alive() -> None:
        """Give a sign of life while labelling or measuring, or stop."""
        if should_stop():
            raise Interrupted
        if parallel.rank() == 0:
            progress(*told)
            lease.renew()

    try:
        result = parallel.on_leader(partial(_published, run)) or _do(
            run, lease, device, execution, tell, alive, should_stop, until, checkpoint_seconds
        )
        told = (run.recipe.images, told[1])
        parallel.on_leader(partial(_measure, run, device, alive))
        return result
    finally:
        if parallel.rank() == 0:
            lease.release()


def _published(run: Run) -> Result | None:
    try:
        return run.result()
    except Corrupt as damage:
        run.log({"step": 0, "event": f"done again: {damage}"})
        run.discard()
        return None


def _do(
    run: Run,
    lease: Lease,
    device: str,
    execution: Execution,
    progress: Callable[[int, int], None],
    alive: Callable[[], None],
    should_stop: Callable[[], bool],
    until: int | None,
    checkpoint_seconds: float,
) -> Result:
    recipe = run.recipe
    parallel.on_leader(partial(_prepare, run))
    dataset = dataset_of(run)
    teaching = _teaching(run, dataset, device, alive)
    pseudo, teacher_logits = teaching.labels, teaching.logits
    resume = parallel.on_leader(partial(_load_checkpoint, run, teacher_logits))
    seconds, resumed = (resume["seconds"], resume["resumed"] + 1) if resume else (0.0, 0)
    first = resume["step"] if resume else 0
    parts = max(execution.accumulate, resume.get("parts", 1)) if resume else execution.accumulate
    began = last_saved = last_told = time.monotonic()
    writing = 0.0
    images_a_step = recipe.images // max(recipe.steps, 1)
    logged = 0

    def save(state: dict[str, Any]) -> None:
        nonlocal writing
        start = time.monotonic()
        spent = seconds + time.monotonic() - began
        buffer = io.BytesIO()
        more = {"seconds": spent, "resumed": resumed, "teacher_logits": teacher_logits}
        torch.save({**state, **more, "form": CHECKPOINT_FORM}, buffer)
        publish(run.path / CHECKPOINT, seal(buffer.getvalue()))
        writing = time.monotonic() - start

    def after_step(step: int, state: Callable[[], dict[str, Any]]) -> None:
        nonlocal last_saved, last_told
        now = time.monotonic()
        if parallel.any_rank(should_stop()):
            parallel.on_leader(lambda: save(state()))
            raise Interrupted
        if until is not None and logged >= until and step < recipe.steps:
            parallel.on_leader(lambda: save(state()))
            raise Paused
        if parallel.rank():
            return
        if now - last_told >= 1 or step == recipe.steps:
            progress(step * images_a_step, (step - first) * images_a_step)
            lease.renew()
            last_told = now
        wait = max(checkpoint_seconds, writing / WRITING_SHARE) if checkpoint_seconds else 0.0
        if now - last_saved >= wait:
            save(state())
            last_saved = now

    def log(record: dict[str, Any]) -> None:
        nonlocal logged, parts
        if "event" not in record:
            logged = record["step"]
        parts = record.get("parts", parts)
        if parallel.rank() == 0:
            run.log({**record, "seconds": round(seconds + time.monotonic() - began, 3)})

    net = train(
        recipe,
        dataset,
        pseudo,
        first=teaching.first,
        distilled=teaching.distilled,
        device=device,
        compiled=execution.compile,
        parts=parts,
        resume=resume,
        log=log,
        after_step=after_step,
    )
    seconds += time.monotonic() - began

    mean, std = dataset.mean, dataset.std
    logits = {}
    if not sparse_labels(recipe.data):  # students make the labels of large pools as they need them
        pool = parallel.share(len(dataset.unlabeled))
        own = predict(net, dataset.unlabeled.images[pool.rows], mean, std).half()
        logits["logits"] = parallel.assembled(own, pool.batch).contiguous()
        if not logits["logits"].isfinite().all():
            raise Diverged("the network's output on the pool is not finite in fp16")

    def finish() -> Result:
        weights = {k: v.cpu().contiguous() for k, v in net.state_dict().items()}
        model = safetensors.torch.save(weights)
        by = None if logits else {"model": hashlib.sha256(model).hexdigest()}
        artifacts = {MODEL: model, LOGITS: safetensors.torch.save(logits, by)}
        for name, content in artifacts.items():
            publish(run.path / name, content)
        # Only now, when nothing trains any more, may the hidden labels be looked at.
        truth = split.hidden_labels(recipe.data, recipe.seed, run.path.parent)
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
            provenance={
                **provenance(device),
                "processes": parallel.world(),
                "compiled": execution.compile,
                "parts": parts,  # more than 1: batch statistics are those of a part of the batch
            },
            data=dataset.facts,
        )
        lease.renew()  # whoever took over publishes; this process must not do so too
        publish_json(run.path / "result.json", to_json(result))
        (run.path / CHECKPOINT).unlink(missing_ok=True)
        return result

    return parallel.on_leader(finish)


def _measure(run: Run, device: str, alive: Callable[[], None]) -> None:
    """Measure what is asked for and missing, of the published weights as they are on disk."""
    groups = run.unmeasured
    if not groups:
        return
    # with scipy's filters, which training does without
    from ns_bench.robustness.measure import measure

    recipe = run.recipe
    dataset = dataset_of(run)
    weights = safetensors.torch.load(run.artifact(MODEL).read_bytes())
    net = loaded(recipe, dataset, weights).to(device)
    for group in groups:
        began = time.monotonic()
        values = measure(group, net, dataset, recipe.seed, _at_most_every_second(alive))
        run.keep(group, Measured(values, round(time.monotonic() - began, 3)))


def _at_most_every_second(call: Callable[[], None]) -> Callable[[], None]:
    last = 0.0

    def now_and_then() -> None:
        nonlocal last
        if time.monotonic() - last >= 1:
            last = time.monotonic()
            call()

    return now_and_then


def _prepare(run: Run) -> None:
    for leftover in run.path.glob(".*.tmp"):  # of a process that was killed while publishing
        leftover.unlink(missing_ok=True)
    publish_json(run.path / "recipe.json", run.recipe.to_dict())


@dataclass(frozen=True)
class _Teaching:
    """What a student has from its teacher.

    Attributes:
        labels: of the pool, where it trains on them.
        first: weights to start from, where it does.
        distilled: logits on the labeled rows, where it learns from these.
        logits: SHA-256 of the teacher's stored logits: which teacher it was.
    """

    labels: PseudoLabeled | None = None
    first: dict[str, torch.Tensor] | None = None
    distilled: torch.Tensor | None = None
    logits: str | None = None


def _teaching(
    run: Run, dataset: split.Dataset, device: str, alive: Callable[[], None]
) -> _Teaching:
    """Check the teacher's artifacts and derive from them what this student needs."""
    recipe, teacher = run.recipe, run.teacher
    if teacher is None:
        return _Teaching()
    stored, pseudo = _artifact(teacher, LOGITS), recipe.pseudo
    warm, distils = recipe.train.start == "teacher", recipe.distillation.weight > 0
    weights: dict[str, torch.Tensor] = {}
    if warm or distils or pseudo.noised_teacher or pseudo.views > 1:
        weights = safetensors.torch.load(_artifact(teacher, MODEL))
        if teacher.recipe.train.resolution != recipe.train.resolution:
            dataset = dataset_of(teacher)  # it sees what it was trained on
    labels = distilled = None
    mean, std = dataset.mean, dataset.std
    if recipe.batch[1]:
        pool, seed = dataset.unlabeled.images, recipe.seed
        random = stream(seed, "balance", recipe.generation)
        smoothing = recipe.train.label_smoothing
        kept = safetensors.torch.load(stored)
        if "logits" not in kept:  # of a large pool
            for name, usual in (("noised_teacher", False), ("views", 1), ("limit", 0)):
                if (value := getattr(pseudo, name)) != usual:
                    asked = f"pseudo.{name}={str(value).lower()}"
                    raise UserError(f"{asked}: the pool is too large for it")
            labeler = partial(_labeler, teacher, recipe.train.resolution, dataset, device)
            often = _at_most_every_second(alive)
            top = pool_labels(teacher, len(pool), dataset.classes, labeler, often)
            labels = pseudo_label_sparse(top, pseudo, smoothing, random)
        else:
            logits = kept["logits"]
            if pseudo.noised_teacher:
                net, noise = loaded(teacher.recipe, dataset, weights), teacher.recipe.noise.labeled
                logits = predict_noised(net, pool, mean, std, noise, seed)
            elif pseudo.views > 1:
                net, noise = loaded(teacher.recipe, dataset, weights), recipe.noise.unlabeled
                logits = predict_views(net, pool, mean, std, noise, pseudo.views, seed)
            labels = pseudo_label(logits, pseudo, smoothing, random)
    if distils:
        net = loaded(teacher.recipe, dataset, weights)
        distilled = predict(net, dataset.labeled.images, mean, std).to(device)
    sha256 = hashlib.sha256(stored).hexdigest()
    return _Teaching(labels, weights if warm else None, distilled, sha256)


def _labeler(
    teacher: Run, resolution: int, dataset: split.Dataset, device: str
) -> tuple[torch.nn.Module, split.Dataset]:
    """Return the network that labels the pool, and the data as it sees them."""
    weights = safetensors.torch.load(_artifact(teacher, MODEL))
    if teacher.recipe.train.resolution != resolution:
        dataset = dataset_of(teacher)
    return loaded(teacher.recipe, dataset, weights).to(device), dataset


def dataset_of(run: Run) -> split.Dataset:
    """Load the split of a run's seed, with images as large as its network sees them."""
    recipe = run.recipe
    return split.load(recipe.data, recipe.seed, run.path.parent, recipe.train.resolution)


def _artifact(teacher: Run, name: str) -> bytes:
    try:
        return teacher.artifact(name).read_bytes()
    except (Corrupt, OSError) as error:
        raise TeacherUnfit(f"teacher {teacher.id}: {error}") from None


def loaded(
    recipe: Recipe, dataset: split.Dataset, weights: dict[str, torch.Tensor]
) -> torch.nn.Module:
    """Build a recipe's network with stored weights."""
    net = network(recipe, dataset.labeled.images.shape[1], dataset.classes)
    net.load_state_dict(weights)
    return net


def _load_checkpoint(run: Run, teacher_logits: str | None) -> dict[str, Any] | None:
    path = run.path / CHECKPOINT
    try:
        content = unseal(path.read_bytes())
        state = dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        if state.get("form") != CHECKPOINT_FORM:
            raise Corrupt("another version of ns_bench wrote it")
        if state["teacher_logits"] != teacher_logits:
            raise Corrupt("its teacher has other logits now")
    except FileNotFoundError:
        return None
    except Corrupt as damage:
        run.log({"step": 0, "event": f"checkpoint discarded, started over: {damage}"})
        path.unlink()
        return None
    return state


def main() -> None:
    """Do the run in the folder that the command line names; SIGTERM leaves a checkpoint."""
    parser = argparse.ArgumentParser(
        description="Do one run, over the processes that torchrun starts."
    )
    parser.add_argument("run_dir", type=Path, help="folder of the run, with its recipe.json")
    add_execution(parser)
    options = parser.parse_args()
    path, execution = options.run_dir.resolve(), Execution(options.compile, options.accumulate)
    stop = False

    def on_terminate(*_: Any) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, on_terminate)
    try:
        run = run_in(path)
        with parallel.joined() as device:
            result = run_one(run, device=device, execution=execution, should_stop=lambda: stop)
            if parallel.rank() == 0:
                print(f"{run.id}: {result.test['top1']:.2f}% top-1 on test images")
    except Interrupted:
        sys.exit(f"{path.name}: stopped; the same command goes on")
    except (UserError, Diverged, Held, TeacherUnfit) as error:
        sys.exit(f"error: {error}")


def run_in(path: Path) -> Run:
    """Return the run in a folder. UserError: it is none, or has another run's name."""
    try:
        run = Run(Recipe.from_dict(json.loads((path / "recipe.json").read_bytes())), path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a run: its recipe.json cannot be read ({error})") from None
    if run.id != path.name:
        raise UserError(f"{path} holds the recipe of {run.id}: the folder must have its name")
    return run


if __name__ == "__main__":
    main()
