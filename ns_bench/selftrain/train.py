"""One generation of Algorithm 1: a noised network, trained on labeled and unlabeled images.

Everything random is a pure function of (seed, purpose, step), see `ns_bench.data.streams`: the
state of a run is its weights, their average, the optimiser and the step.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ns_bench.data.split import Dataset
from ns_bench.data.streams import stream
from ns_bench.errors import UserError
from ns_bench.recipe import EVALUATIONS, Recipe
from ns_bench.selftrain.evaluate import evaluate
from ns_bench.selftrain.fast_cpu import fast
from ns_bench.selftrain.loss import loss_weights
from ns_bench.selftrain.methods import Method, method_of
from ns_bench.selftrain.models import NoisedNet, freeze
from ns_bench.selftrain.optimize import State, learning_rate
from ns_bench.selftrain.rows import Batches, joint_rows
from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.scale.accumulate import Gradients
from ns_bench.selftrain.scale.parallel import WHOLE, Part
from ns_bench.selftrain.targets import PseudoLabeled


class Diverged(Exception):
    """The loss or a network's output is not a finite number any more."""


@dataclass(frozen=True)
class Lesson:
    """What a student has from its teacher.

    Attributes:
        labels: of the pool; None exactly where the student trains on none.
        weights: to start from, where `train.start` is `teacher`; else they are new.
        distilled: logits on the labeled images, float32 [labeled, classes], where the student
            learns from them.
    """

    labels: PseudoLabeled | None = None
    weights: Mapping[str, Tensor] | None = None
    distilled: Tensor | None = None


NO_LESSON = Lesson()


@dataclass(frozen=True)
class Machine:
    """On what a run trains: never part of what it is.

    Attributes:
        compiled: use `torch.compile`.
        parts: in which to work through a batch from the start.
    """

    device: str = "cpu"
    compiled: bool = False
    parts: int = 1


CPU = Machine()


def train(
    recipe: Recipe,
    data: Dataset,
    lesson: Lesson = NO_LESSON,
    machine: Machine = CPU,
    *,
    resume: Mapping[str, Any] | None = None,
    log: Callable[[dict[str, Any]], None] = lambda record: None,
    after_step: Callable[[int, Callable[[], dict[str, Any]]], None] = lambda step, state: None,
) -> nn.Module:
    """Train one network and return it with its averaged (EMA) weights, in eval mode.

    Where memory does not do for a batch, it is worked through in two parts, then four, and so on,
    whose gradients are added up: the same images, draws and losses, but batch statistics are those
    of a part. An event is logged that says so. (Of several processes, all end: what some of them
    could not hold cannot be told to those that wait for them.)

    Where `torch.distributed` is initialised, every process calls this with the same arguments, does
    its share of each batch, and gets the network that one process alone would.

    Args:
        data: of the recipe's seed; its images are resized to `train.resolution`, if that is set.
        resume: a state that `after_step` was handed, to go on from bit for bit.
        log: is called with a record of metrics about `EVALUATIONS` times, and with events.
        after_step: is called with the number of steps done and a function that returns the state.

    Raises:
        Diverged: the loss or the network's output is not finite. UserError: a batch has fewer rows
        than there are processes, or parts. torch.OutOfMemoryError: a batch cannot be halved again.
    """
    spec, method = recipe.train, method_of(recipe, lesson.distilled)
    data = data.resized(spec.resolution)
    state = State(_start(recipe, data, method, lesson, machine), spec)
    first, parts = 0, machine.parts
    if resume is not None:
        first, parts = state.restore(resume), max(parts, resume["parts"])
    rows = joint_rows(recipe, data, lesson.labels, method, machine.device)
    batches = Batches(rows, method.averaged)
    objective = Objective(recipe, batches, method, state.average, machine.device)
    net = _prepared(state.net, machine)

    def halved(parts: int) -> None:
        event = f"out of memory: each batch is worked through in {parts} parts"
        log({"step": step, "event": event, "parts": parts})

    gradients = Gradients(net, parts, min(part.batch for part in rows), halved)
    looks = {round(recipe.steps * i / EVALUATIONS) for i in range(1, EVALUATIONS + 1)}
    with closing(batches):
        for step in range(first, recipe.steps):
            loss = gradients(partial(objective, net, step))
            rate = learning_rate(spec, (step + 1) * spec.batch_size / recipe.data.labeled)
            state.update(rate, step)
            if step + 1 in looks:
                log({"step": step + 1, **_look(recipe, step, state.average, data, loss, rate)})
            after_step(step + 1, partial(state.saved, step + 1, gradients.parts))
    return state.average


class Objective:
    """The loss of a joint batch, which can be had in parts.

    A part is every n-th row of each kind, so that all parts have the same mix of rows; their
    losses add up to the loss of the whole batch, and draws are those of the whole batch.

    Args:
        average: the averaged network, for methods in which it labels.
    """

    def __init__(
        self, recipe: Recipe, batches: Batches, method: Method, average: nn.Module, device: str
    ) -> None:
        self.recipe, self.batches, self.method = recipe, batches, method
        self.average, self.device = average, device
        self.sizes = [rows.batch for rows in batches.seen]
        noises = [rows.noise for rows in batches.seen]
        self.counts = torch.tensor(self.sizes)
        self.rates = torch.tensor([(noise.dropout, noise.stochastic_depth) for noise in noises])
        self.weights = loss_weights(method.weighting, *recipe.batch).to(device)

    def __call__(self, net: nn.Module, step: int, part: Part = WHOLE) -> Tensor:
        """Return a part's share of the loss; over processes its mean is that of them all."""
        batch = self.batches(step, part)
        share = parallel.joint_share(self.sizes, self.device, part)
        with _autocast(self.device):
            logits = net(batch.images, *self._model_noise(step), share).float()
        average = None
        if batch.labeler_images is not None:
            with torch.no_grad(), _autocast(self.device):
                average = self.average(batch.labeler_images).float()
        losses = self.method.losses(logits, batch, average)
        kinds = [rows.batch for rows in self.batches.with_targets]
        weights = self.weights[parallel.joint_share(kinds, self.device, part)]
        return (losses * (weights * parallel.world())).sum()

    def _model_noise(self, step: int) -> tuple[Tensor, Tensor, torch.Generator]:
        """Return rates of dropout and of stochastic depth, float32 [rows], and their draws."""
        strength = torch.tensor([rows.strength(step) for rows in self.batches.seen])
        rates = (self.rates * strength[:, None]).repeat_interleave(self.counts, dim=0)
        dropout, depth = rates.to(self.device, non_blocking=True).T
        names = ("model noise", self.recipe.generation, step)
        return dropout, depth, stream(self.recipe.seed, *names, device=self.device)


def _start(
    recipe: Recipe, data: Dataset, method: Method, lesson: Lesson, machine: Machine
) -> nn.Module:
    """Return the network as its first step finds it."""
    assert (lesson.labels is None) == (recipe.batch[1] == 0 or method.online)
    assert (lesson.weights is None) == (recipe.train.start == "scratch")
    assert (lesson.distilled is None) == (recipe.distillation.weight == 0)
    net = method.network(data)
    if lesson.weights is not None:
        try:
            net.load_state_dict(lesson.weights)
        except RuntimeError:  # positions of a vision transformer
            raise UserError(
                f"train.start=teacher: {recipe.model} is built for images of one size, and its "
                "teacher's are of another (train.resolution)"
            ) from None
    # 1.6x on CPU, and GPUs like it
    net = net.to(machine.device).to(memory_format=torch.channels_last).train()
    if isinstance(net, NoisedNet):  # a pair starts no student, and is not frozen
        freeze(net, recipe.train.frozen)
    return net


def _prepared(net: nn.Module, machine: Machine) -> nn.Module:
    """Return the network to train through: compiled, fast, or shared by several processes."""
    for module in net.modules() if machine.compiled else ():
        if isinstance(module, NoisedNet):
            module.compile()
    shared = parallel.replicate(net)
    return fast(shared) if machine.device == "cpu" and not machine.compiled else shared


def _look(
    recipe: Recipe, step: int, average: nn.Module, data: Dataset, loss: Tensor, rate: float
) -> dict[str, float]:
    """Return the metrics of a step. Diverged: one of them is not finite."""
    record = {"loss": parallel.mean(loss).item(), "lr": rate}
    scores = evaluate(average, data.validation)
    record |= {f"validation_{name}": value for name, value in scores.items()}
    if not all(map(math.isfinite, record.values())):
        at = f"at step {step + 1} (train.lr={recipe.train.lr:g})"
        raise Diverged(
            f"not a finite number any more {at}; a lower train.lr, a train.clip_grad such as 1, or "
            "a longer train.warmup_epochs may help"
        )
    return record


def _autocast(device: str) -> AbstractContextManager[Any]:
    if device.startswith("cuda") and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
