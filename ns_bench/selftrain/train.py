"""Algorithm 1 of the paper, one generation: train a noised network on labeled and pseudo-labeled
images together.

    teacher = train(supervised recipe, data)                      # step 1
    logits  = predict(teacher, pool)                              # step 2: clean images, EMA
    student = train(student recipe, data, pseudo_label(logits))   # step 3: as large or larger
    ... and the student's logits teach the next generation        # step 4: iterate

Everything random is a pure function of (seed, purpose, step), see `ns_bench.streams`: the state of
a run is its weights, their average, the optimiser and the step.
"""

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ns_bench.data.split import Dataset
from ns_bench.recipe import Recipe
from ns_bench.selftrain import consistency
from ns_bench.selftrain.evaluate import evaluate
from ns_bench.selftrain.loss import cross_entropy, distilled_loss, loss_weights
from ns_bench.selftrain.models import NoisedNet, freeze, network
from ns_bench.selftrain.optimize import EndToEnd, learning_rate, make_optimizer, update_average
from ns_bench.selftrain.pseudo import PseudoLabeled
from ns_bench.selftrain.rows import Joint, Rows, joint_rows
from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.scale.accumulate import Gradients
from ns_bench.streams import stream

EVALUATIONS = 10
"""How often a run looks at its validation rows."""


class Diverged(Exception):
    """The loss or a network's output is not a finite number any more."""


class Objective:
    """The loss of a joint batch, which can be had in parts.

    A part is every n-th row of each stream, so that all parts have the same mix of rows; their
    losses add up to the loss of the whole batch, and draws are those of the whole batch.

    Args:
        rows: see `joint_rows`.
        average: the averaged network, for methods in which it labels.
        distilled: the teacher's logits on the labeled rows, float32 [labeled, classes].
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Dataset,
        rows: list[Rows],
        average: nn.Module,
        distilled: Tensor | None,
        device: str,
    ) -> None:
        self.recipe, self.average, self.distilled, self.device = recipe, average, distilled, device
        self.joint = Joint(rows)
        # in Mean Teacher the average alone sees the other view
        self.rows = rows[:2] if recipe.consistency.method == "mean-teacher" else rows
        self.online = recipe.consistency.method != "none"
        self.sizes = [part.batch for part in self.rows]
        self.counts = torch.tensor(self.sizes)
        self.rates = torch.tensor([(r.noise.dropout, r.noise.stochastic_depth) for r in self.rows])
        self.weights = loss_weights("sum" if self.online else recipe.train.loss, *recipe.batch)
        self.weights = self.weights.to(device)
        self.mean, self.std = data.mean.to(device), data.std.to(device)

    def __call__(self, net: nn.Module, step: int, part: int, of: int) -> Tensor:
        """Return a part's share of the loss; over processes its mean is that of them all."""
        recipe, rows, device = self.recipe, self.rows, self.device
        index, seen = zip(*self.joint(step, part, of), strict=True)
        images = torch.cat(seen[: len(rows)])
        targets = torch.cat([r.targets[i] for r, i in zip(rows[:2], index, strict=False)])
        labeled = len(index[0]) if recipe.batch[0] else 0
        own = parallel.joint_share(self.sizes, device, part, of)
        weights = self.weights[parallel.joint_share(self.sizes[:2], device, part, of)]
        strength = torch.tensor([r.strength(step) for r in rows])
        rates = (self.rates * strength[:, None]).repeat_interleave(self.counts, dim=0)
        dropout, depth = rates.to(device, non_blocking=True).T
        model_noise = stream(recipe.seed, "model noise", recipe.generation, step, device=device)
        with _autocast(device):
            logits = net(self._normalised(images), dropout, depth, model_noise, own).float()
        if self.online:
            labeler = None
            if len(seen) > len(rows):
                with torch.no_grad(), _autocast(device):
                    labeler = self.average(self._normalised(seen[-1])).float()
            weight = consistency.ramp(recipe.consistency, step, recipe.steps)
            losses = consistency.joint_losses(
                recipe.consistency, logits, targets, labeled, labeler, weight
            )
        else:
            losses = cross_entropy(logits, targets)
        if self.distilled is not None:
            taught, temperature = self.distilled[index[0]], recipe.distillation.temperature
            soft = distilled_loss(logits[:labeled], taught, temperature)
            mixed = torch.lerp(losses[:labeled], soft, recipe.distillation.weight)
            losses = torch.cat([mixed, losses[labeled:]])
        return (losses * (weights * parallel.world())).sum()

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def train(
    recipe: Recipe,
    data: Dataset,
    pseudo: PseudoLabeled | None = None,
    *,
    first: Mapping[str, Tensor] | None = None,
    distilled: Tensor | None = None,
    device: str = "cpu",
    compiled: bool = False,
    parts: int = 1,
    resume: dict[str, Any] | None = None,
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
        pseudo: the teacher's labels; None exactly when the recipe has no unlabeled rows.
        first: weights to start from (`train.start` = teacher); else they are new.
        distilled: the teacher's logits on the labeled rows, float32 [labeled, classes] on
            `device`; None exactly when there is no distillation on them.
        compiled: use `torch.compile`.
        parts: in which to work through a batch from the start.
        resume: a state that `after_step` was handed, to go on from bit for bit.
        log: is called with a record of metrics about `EVALUATIONS` times, and with events.
        after_step: is called with the number of steps done and a function that returns the state.

    Raises:
        Diverged: the loss or the network's output is not finite. UserError: a batch has fewer rows
        than there are processes, or parts. torch.OutOfMemoryError: a batch cannot be halved again.
    """
    online = recipe.consistency.method != "none"
    assert (pseudo is None) == (recipe.batch[1] == 0 or online)
    rows = joint_rows(recipe, data, pseudo, device)
    try:
        return _train(
            recipe, data, rows, first, distilled, device, compiled, parts, resume, log, after_step
        )
    finally:
        for part in rows:
            part.close()


def _train(
    recipe: Recipe,
    data: Dataset,
    rows: list[Rows],
    first: Mapping[str, Tensor] | None,
    distilled: Tensor | None,
    device: str,
    compiled: bool,
    parts: int,
    resume: dict[str, Any] | None,
    log: Callable[[dict[str, Any]], None],
    after_step: Callable[[int, Callable[[], dict[str, Any]]], None],
) -> nn.Module:
    spec = recipe.train
    assert (first is None) == (spec.start == "scratch")
    assert (distilled is None) == (recipe.distillation.weight == 0)
    net = network(recipe, data.labeled.images.shape[1], data.classes)
    if first is not None:
        net.load_state_dict(first)
    net = net.to(device).to(memory_format=torch.channels_last)  # 1.6x on CPU, and GPUs like it
    net.train()
    if isinstance(net, NoisedNet):  # a pair starts no student, and is not frozen
        freeze(net, spec.frozen)
    average = copy.deepcopy(net).eval()
    weights, means = EndToEnd(net), EndToEnd(average)
    optimizer = make_optimizer([[each] for each in weights.weights], spec)
    start = 0
    if resume is not None:
        net.load_state_dict(resume["net"])
        average.load_state_dict(resume["average"])
        optimizer.load_state_dict(resume["optimizer"])
        start, parts = resume["step"], max(parts, resume.get("parts", 1))

    def state(step: int) -> dict[str, Any]:
        return {
            "step": step,
            "parts": gradients.parts,
            "net": net.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
        }

    marks = {round(recipe.steps * i / EVALUATIONS) for i in range(1, EVALUATIONS + 1)}
    if compiled:
        for module in net.modules():
            if isinstance(module, NoisedNet):
                module.compile()
    trained = parallel.replicate(net)
    objective = Objective(recipe, data, rows, average, distilled, device)

    def halved(parts: int) -> None:
        event = f"out of memory: each batch is worked through in {parts} parts"
        log({"step": step, "event": event, "parts": parts})

    gradients = Gradients(trained, parts, min(part.batch for part in rows), halved)
    for step in range(start, recipe.steps):
        rate = learning_rate(spec, (step + 1) * spec.batch_size / recipe.data.labeled)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = gradients(partial(objective, trained, step))
        weights.take_gradients()
        optimizer.step()
        update_average(means.tensors, weights.tensors, spec.ema, step)
        if step + 1 in marks:
            record = {"step": step + 1, "loss": parallel.mean(loss).item(), "lr": rate}
            scores = evaluate(average, data.validation, data.mean, data.std)
            if not all(math.isfinite(value) for value in (record["loss"], *scores.values())):
                raise Diverged(
                    f"not a finite number any more at step {step + 1} (train.lr={spec.lr:g})"
                )
            log(record | {f"validation_{name}": value for name, value in scores.items()})
        after_step(step + 1, partial(state, step + 1))
    return average


def _autocast(device: str) -> AbstractContextManager[Any]:
    if device.startswith("cuda") and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
