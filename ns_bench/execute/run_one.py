"""Do one run of a store: check its teacher, train (or go on), evaluate, publish; then measure.

By hand, on one process or over several GPUs, nodes or (gloo) CPUs, where RUN_DIR is a run's folder
in a store, with its recipe.json:

    python -m ns_bench.execute.run_one RUN_DIR
    torchrun --nproc-per-node 2 -m ns_bench.execute.run_one RUN_DIR
"""

import hashlib
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ns_bench.arguments import parse, positional
from ns_bench.data import split
from ns_bench.design.cost import sparse_labels
from ns_bench.errors import UserError
from ns_bench.execute.checkpoint import CHECKPOINT_SECONDS, Checkpointer
from ns_bench.execute.execution import PLAIN, Execution
from ns_bench.execute.memory import keep_memory
from ns_bench.execute.provenance import provenance
from ns_bench.execute.teacher import StoredTeacher, TeacherUnfit
from ns_bench.execute.trained import dataset_of, network_of
from ns_bench.files import Corrupt, publish, publish_json
from ns_bench.recipe import Recipe, own_code
from ns_bench.runs import outcomes
from ns_bench.runs.lease import Held, Lease
from ns_bench.runs.store import (
    CHECKPOINT,
    LOGITS,
    METRICS,
    MODEL,
    OUTCOMES,
    RECIPE,
    RELABELED,
    Measured,
    Result,
    Run,
    run_in,
)
from ns_bench.selftrain.algorithm import teach
from ns_bench.selftrain.evaluate import evaluate, predict, score
from ns_bench.selftrain.products import by_onednn
from ns_bench.selftrain.pseudo import quality
from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.train import NO_LESSON, Diverged, Lesson, Machine, train


class Interrupted(Exception):
    """Asked to stop; the run's state is in its checkpoint."""


class Paused(Exception):
    """Got to the step it was asked to get to; the run's state is in its checkpoint."""


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
    keep_memory()
    own_code.look_in(run.path.parent / "code")
    attempt = Attempt(run, progress, should_stop, until)
    parallel.on_leader(attempt.lease.acquire)
    try:
        result = parallel.on_leader(partial(_published, run)) or _train(
            attempt, device, execution, checkpoint_seconds
        )
        attempt.images = run.recipe.images
        parallel.on_leader(partial(_measure, run, device, attempt.alive))
        return result
    finally:
        if parallel.rank() == 0:
            attempt.lease.release()


class Attempt:
    """One attempt at a run: who holds it, what it tells, and when it stops.

    Arguments are `run_one`'s.

    Attributes:
        lease: of the run, held by process 0.
        checkpoint: is set once the teacher is known to be fit.
        images: that the run has seen, and `fresh` ones in this attempt, as they were told last.
        parts: in which batches are worked through.
    """

    checkpoint: Checkpointer

    def __init__(
        self,
        run: Run,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
        until: int | None,
    ) -> None:
        self.run, self.lease = run, Lease(run.path)
        self.progress, self.should_stop, self.until = progress, should_stop, until
        self.images = self.fresh = 0
        self.parts = 1
        self._told, self._alive = time.monotonic(), 0.0
        self._logged = 0

    def alive(self) -> None:
        """Give a sign of life while labelling or measuring, or stop; at most every second."""
        if time.monotonic() - self._alive < 1:
            return
        self._alive = time.monotonic()
        if self.should_stop():
            raise Interrupted
        if parallel.rank() == 0:
            self._tell()

    def log(self, record: dict[str, Any]) -> None:
        """Keep a record of `train`'s in the run's metrics."""
        if "event" not in record:
            self._logged = record["step"]
        self.parts = record.get("parts", self.parts)
        if parallel.rank() == 0:
            self.run.log({**record, "seconds": round(self.checkpoint.seconds, 3)})

    def after_step(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Stop, tell, or write a checkpoint, where it is time for that."""
        steps = self.run.recipe.steps
        paused = self.until is not None and self._logged >= self.until and step < steps
        stopped = parallel.any_rank(self.should_stop())
        if stopped or paused:
            parallel.on_leader(partial(self.checkpoint.save, state))
            raise Interrupted if stopped else Paused
        if parallel.rank():
            return
        if time.monotonic() - self._told >= 1 or step == steps:
            a_step = self.run.recipe.images // steps
            first = self.checkpoint.resume["step"] if self.checkpoint.resume else 0
            self.images, self.fresh = step * a_step, (step - first) * a_step
            self._tell()
        if self.checkpoint.due:
            self.checkpoint.save(state)

    def _tell(self) -> None:
        self._told = time.monotonic()
        self.progress(self.images, self.fresh)
        self.lease.renew()


def _published(run: Run) -> Result | None:
    try:
        result = run.result()
        if result is not None and run.unmeasured:
            run.artifact(MODEL)  # only what was published is measured
        return result
    except Corrupt as damage:
        run.log({"step": 0, "event": f"done again: {damage}"})
        run.discard()
        return None


def _train(
    attempt: Attempt, device: str, execution: Execution, checkpoint_seconds: float
) -> Result:
    """Train what no result is there of, and publish it."""
    run, recipe = attempt.run, attempt.run.recipe
    parallel.on_leader(partial(_prepare, run))
    data = split.load(recipe.data, recipe.seed, run.path.parent)
    lesson, logits_of = NO_LESSON, None
    if run.teacher is not None:
        teacher = StoredTeacher(run, data, device, attempt.alive)
        lesson, logits_of = teach(recipe, teacher, data), teacher.sha256
    attempt.checkpoint = Checkpointer(run, logits_of, checkpoint_seconds)
    resume = attempt.checkpoint.resume
    attempt.parts = max(execution.accumulate, resume["parts"] if resume else 1)
    data = data.resized(recipe.train.resolution)
    machine = Machine(device, execution.compile, attempt.parts)
    net = train(
        recipe,
        data,
        lesson,
        machine,
        resume=resume,
        log=attempt.log,
        after_step=attempt.after_step,
    )
    seconds = round(attempt.checkpoint.seconds, 3)
    artifacts = _artifacts(recipe, net, data)

    def finish() -> Result:
        logits = predict(net, data.test.images)
        artifacts[OUTCOMES] = _outcomes(logits, data)
        for name, content in artifacts.items():
            publish(run.path / name, content)
        records = {name: (run.path / name).read_bytes() for name in (RECIPE, METRICS)}
        result = Result(
            id=run.id,
            recipe=recipe.to_dict(),
            test=score(logits, data.test.labels),
            validation=evaluate(net, data.validation),
            pseudo=_quality(run, lesson),
            artifacts=_checksums(artifacts),
            records=_checksums(records),
            teacher_logits=logits_of,
            steps=recipe.steps,
            images=recipe.images,
            seconds=seconds,
            images_per_second=round(recipe.images / max(seconds, 1e-9), 1),
            resumed=attempt.checkpoint.attempts,
            provenance=_provenance(machine, attempt.parts, net),
            data=data.facts,
        )
        attempt.lease.renew()  # whoever took over publishes; this process must not do so too
        run.publish(result)
        for name in (CHECKPOINT, RELABELED):
            (run.path / name).unlink(missing_ok=True)
        return result

    return parallel.on_leader(finish)


def _quality(run: Run, lesson: Lesson) -> dict[str, Any] | None:
    """Compare pseudo-labels with the hidden truth: only now, when nothing trains any more, may that
    be looked at."""
    if lesson.labels is None:
        return None
    truth = split.hidden_labels(run.recipe.data, run.recipe.seed, run.path.parent)
    return quality(lesson.labels, truth)


def _provenance(machine: Machine, parts: int, net: torch.nn.Module) -> dict[str, Any]:
    """Return where and with what a run was trained, and how many weights its network has.

    Args:
        parts: of its batches; with more than one, batch statistics are those of a part.
    """
    how = {"processes": parallel.world(), "compiled": machine.compiled, "parts": parts}
    how["onednn"] = machine.device == "cpu" and by_onednn()
    weights = sum(weight.numel() for weight in net.parameters())
    return {**provenance(machine.device), **how, "weights": weights}


def _checksums(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }


def _outcomes(logits: torch.Tensor, data: split.Dataset) -> bytes:
    """Return what is kept of the test rows, whose logits these are, image by image."""
    of, predicted = data.tested, logits.softmax(1).max(1).indices  # as `score` has it
    rows = (each.numpy() for each in (of.rows, data.test.labels, predicted))
    return outcomes.to_bytes(of.digest, of.images, *rows)


def _artifacts(recipe: Recipe, net: torch.nn.Module, data: split.Dataset) -> dict[str, bytes]:
    """Return what a trained network publishes: its weights, and what it labels its pool with.

    Of a large pool that is the name of the weights: students make the labels as they need them.

    Raises:
        Diverged: a logit is not finite.
    """
    weights = {name: value.cpu().contiguous() for name, value in net.state_dict().items()}
    model = safetensors.torch.save(weights)
    if sparse_labels(recipe.data):
        by = {"model": hashlib.sha256(model).hexdigest()}
        return {MODEL: model, LOGITS: safetensors.torch.save({}, by)}
    pool = parallel.share(len(data.unlabeled))
    part = predict(net, data.unlabeled.images[pool.rows]).half()
    logits = parallel.assembled(part, pool.rows, pool.batch).contiguous()
    if not logits.isfinite().all():
        raise Diverged("the network's output on the pool is not finite in fp16")
    return {MODEL: model, LOGITS: safetensors.torch.save({"logits": logits})}


def _measure(run: Run, device: str, alive: Callable[[], None]) -> None:
    """Measure what is asked for and missing, of the published weights as they are on disk."""
    groups = run.unmeasured
    if not groups:
        return
    # with scipy's filters, which training does without
    from ns_bench.robustness.measure import measure

    data = dataset_of(run)
    net = network_of(run, data, device)
    for group in groups:
        began = time.monotonic()
        values = measure(group, net, data, run.recipe.seed, alive)
        run.keep(group, Measured(values, round(time.monotonic() - began, 3)))


def _prepare(run: Run) -> None:
    for leftover in run.path.glob(".*.tmp"):  # of a process that was killed while publishing
        leftover.unlink(missing_ok=True)
    publish_json(run.path / "recipe.json", run.recipe.to_dict())


@dataclass(frozen=True, kw_only=True)
class _Options:
    run_dir: Path = positional("folder of the run, with its recipe.json", type=Path)
    execution: Execution = PLAIN


def main() -> None:
    """Do the run in the folder that the command line names; SIGTERM leaves a checkpoint."""
    options = parse(
        _Options, None, description="Do one run, over the processes that torchrun starts."
    )
    path, execution = options.run_dir.resolve(), options.execution
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
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (Diverged, Held, TeacherUnfit) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
