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
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from timm.optim import RMSpropTF
from torch import Tensor, nn

from ns_bench.data.split import Dataset, Images
from ns_bench.recipe import Recipe, RowNoise
from ns_bench.recipe import Train as TrainSpec
from ns_bench.selftrain import consistency, parallel
from ns_bench.selftrain.evaluate import evaluate
from ns_bench.selftrain.loss import cross_entropy, distilled_loss, loss_weights
from ns_bench.selftrain.models import NoisedNet, freeze, network
from ns_bench.selftrain.noise import augment, weak
from ns_bench.selftrain.pseudo import PseudoLabeled, smooth_one_hot
from ns_bench.selftrain.shards import SparseTargets
from ns_bench.streams import stream

EVALUATIONS = 10
"""How often a run looks at its validation rows."""


class Diverged(Exception):
    """The loss or a network's output is not a finite number any more."""


class Rows:
    """An endless stream of noised batches of one kind of rows, a pure function of the step.

    Streams of one key have the same rows in the same order; those of another `view` of them have
    draws of their own.

    Args:
        images: uint8 [N, C, H, W], in memory or decoded some steps ahead; targets: float32 [N,
            classes].
        order: int64 [M], the rows that take part (repeats allowed).
        batch: rows a step. Batches run across the ends of epochs; each epoch is a permutation.
            Of several processes, each gets its share of the rows.
        key: names of the random streams.
        strength: share of the noise that a step has: of the rows that are augmented, and of the
            rates of dropout and stochastic depth.
        view: more names of the streams that noise is drawn from.
    """

    def __init__(
        self,
        images: Images,
        targets: Tensor | SparseTargets,
        order: Tensor,
        batch: int,
        noise: RowNoise,
        seed: int,
        key: tuple[str | int, ...],
        strength: Callable[[int], float] = lambda step: 1.0,
        view: tuple[str, ...] = (),
    ) -> None:
        self.images, self.targets, self.order = images, targets, order
        self.batch, self.noise, self.seed, self.key = batch, noise, seed, key
        self.strength, self.drawn = strength, (*key, *view)
        self.share = parallel.share(batch)
        self._epochs: dict[int, Tensor] = {}
        self._ahead: tuple[int, Generator[tuple[Tensor, Tensor]]] | None = None

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            order = torch.randperm(
                len(self.order), generator=stream(self.seed, "order", *self.key, epoch)
            )
            self._epochs = {k: v for k, v in self._epochs.items() if k == epoch - 1}
            self._epochs[epoch] = self.order[order]
        return self._epochs[epoch]

    def index(self, step: int) -> Tensor:
        """Return which rows this process has in a step, int64 [rows]."""
        at, parts, missing = step * self.batch, [], self.batch
        while missing:
            epoch, position = divmod(at, len(self.order))
            part = self._epoch(epoch)[position : position + missing]
            parts.append(part)
            at, missing = at + len(part), missing - len(part)
        return torch.cat(parts)[self.share.rows]

    def _clean(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the rows of a step, and their images before any noise."""
        if isinstance(self.images, Tensor):
            index = self.index(step).to(self.images.device)
            return index, self.images[index]
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = step, self.images.stream(self.index, start=step)
        batches = self._ahead[1]
        self._ahead = step + 1, batches
        return next(batches)

    def close(self) -> None:
        """End the processes that decode images, if there are any."""
        if self._ahead is not None:
            self._ahead[1].close()

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return uint8 images [rows, C, H, W] and float32 targets [rows, classes] of a step."""
        index, plain = self._clean(step)
        noise = stream(self.seed, "noise", *self.drawn, step)  # on the host: one draw on any device
        images = augment(plain, self.noise, noise, self.share)
        strength = self.strength(step)
        if strength < 1:  # drawn apart: the rows that are augmented are so as in every other arm
            spared = torch.rand(
                self.batch, generator=stream(self.seed, "schedule", *self.drawn, step)
            )[self.share.rows].to(images.device)
            clean = (spared >= strength).view(-1, 1, 1, 1)
            images = torch.where(clean, plain, images)
        return images, self.targets[index]


def learning_rate(spec: TrainSpec, epoch: float) -> float:
    """Return the rate at `epoch` (a fraction, over labeled rows): linear warm-up, then decay."""
    if epoch < spec.warmup_epochs:
        return spec.lr * epoch / spec.warmup_epochs
    if spec.schedule == "staircase":
        return spec.lr * spec.decay_rate ** int(epoch / spec.decay_epochs)
    progress = (epoch - spec.warmup_epochs) / max(spec.epochs - spec.warmup_epochs, 1e-9)
    return spec.lr * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(progress, 1))).item())


def noise_strength(schedule: str, step: int, steps: int) -> float:
    """Return the share of the noise on unlabeled rows that `step` (from 0) of `steps` has."""
    passed = step / max(steps - 1, 1)
    return {"constant": 1.0, "fading": 1 - passed, "rising": passed}[schedule]


def make_optimizer(net: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """Build the optimiser; weight decay leaves out biases and norms (official code)."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": spec.weight_decay},
        {"params": rest},
    ]
    if spec.optimizer == "rmsprop":  # decay 0.9 and epsilon 1e-3 inside the root, as in TensorFlow
        return RMSpropTF(groups, lr=spec.lr, alpha=0.9, eps=1e-3, momentum=spec.momentum)
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0)


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights and batch statistics towards `net`'s (TensorFlow's warm-up)."""
    decay = min(decay, (1 + step) / (10 + step))
    pairs = zip(average.state_dict().values(), net.state_dict().values(), strict=True)
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)


def train(
    recipe: Recipe,
    data: Dataset,
    pseudo: PseudoLabeled | None = None,
    *,
    first: Mapping[str, Tensor] | None = None,
    distilled: Tensor | None = None,
    device: str = "cpu",
    resume: dict[str, Any] | None = None,
    log: Callable[[dict[str, Any]], None] = lambda record: None,
    after_step: Callable[[int, Callable[[], dict[str, Any]]], None] = lambda step, state: None,
) -> nn.Module:
    """Train one network and return it with its averaged (EMA) weights, in eval mode.

    Where `torch.distributed` is initialised, every process calls this with the same arguments, does
    its share of each batch, and gets the network that one process alone would.

    Args:
        pseudo: the teacher's labels; None exactly when the recipe has no unlabeled rows.
        first: weights to start from (`train.start` = teacher); else they are new.
        distilled: the teacher's logits on the labeled rows, float32 [labeled, classes] on
            `device`; None exactly when there is no distillation on them.
        resume: a state that `after_step` was handed, to go on from bit for bit.
        log: is called with a record of metrics about `EVALUATIONS` times.
        after_step: is called with the number of steps done and a function that returns the state.

    Raises:
        Diverged: the loss or the network's output is not finite.
    """
    online = recipe.consistency.method != "none"
    assert (pseudo is None) == (recipe.batch[1] == 0 or online)
    rows = joint_rows(recipe, data, pseudo, device)
    try:
        return _train(recipe, data, rows, first, distilled, device, resume, log, after_step)
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
    resume: dict[str, Any] | None,
    log: Callable[[dict[str, Any]], None],
    after_step: Callable[[int, Callable[[], dict[str, Any]]], None],
) -> nn.Module:
    spec, seed, generation = recipe.train, recipe.seed, recipe.generation
    online = recipe.consistency.method != "none"
    assert (first is None) == (spec.start == "scratch")
    assert (distilled is None) == (recipe.distillation.weight == 0)
    net = network(recipe, data.labeled.images.shape[1], data.classes)
    if first is not None:
        net.load_state_dict(first)
    net = net.to(device).to(memory_format=torch.channels_last)  # 1.6x on CPU, and GPUs like it
    average = copy.deepcopy(net).eval()
    optimizer = make_optimizer(net, spec)
    start = 0
    if resume is not None:
        net.load_state_dict(resume["net"])
        average.load_state_dict(resume["average"])
        optimizer.load_state_dict(resume["optimizer"])
        start = resume["step"]

    def state(step: int) -> dict[str, Any]:
        return {
            "step": step,
            "net": net.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
        }

    view = None
    if recipe.consistency.method == "mean-teacher":  # the average alone sees the other view
        *rows, view = rows
    own = parallel.joint_share((part.batch for part in rows), device)
    # of the own rows, in a loss of which the mean over the processes is that of the whole batch
    weighted = parallel.joint_share((part.batch for part in rows[:2]), device)
    weighting = loss_weights("sum" if online else spec.loss, *recipe.batch).to(device)
    weights = weighting[weighted] * parallel.world()
    labeled = len(range(recipe.batch[0])[parallel.share(recipe.batch[0]).rows])
    rates = torch.tensor([(r.noise.dropout, r.noise.stochastic_depth) for r in rows])
    sizes = torch.tensor([r.batch for r in rows])
    mean, std = data.mean.to(device), data.std.to(device)

    def normalised(images: Tensor) -> Tensor:
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)

    marks = {round(recipe.steps * i / EVALUATIONS) for i in range(1, EVALUATIONS + 1)}
    net.train()
    if isinstance(net, NoisedNet):  # a pair starts no student, and is not frozen
        freeze(net, spec.frozen)
    trained = parallel.replicate(net)
    for step in range(start, recipe.steps):
        batches = [part(step) for part in rows]
        images = torch.cat([images for images, _ in batches])
        targets = torch.cat([targets for _, targets in batches])[: len(weights)]
        rate = learning_rate(spec, (step + 1) * spec.batch_size / recipe.data.labeled)
        for group in optimizer.param_groups:
            group["lr"] = rate
        model_noise = stream(seed, "model noise", generation, step, device=device)
        strength = torch.tensor([r.strength(step) for r in rows])
        dropout, depth = (rates * strength[:, None]).repeat_interleave(sizes, dim=0).to(device).T
        with _autocast(device):
            logits = trained(normalised(images), dropout, depth, model_noise, own).float()
        if online:
            with torch.no_grad(), _autocast(device):
                labeler = None if view is None else average(normalised(view(step)[0])).float()
            weight = consistency.ramp(recipe.consistency, step, recipe.steps)
            losses = consistency.joint_losses(
                recipe.consistency, logits, targets, labeled, labeler, weight
            )
        else:
            losses = cross_entropy(logits, targets)
        if distilled is not None:
            taught = distilled[rows[0].index(step).to(device)]
            soft = distilled_loss(logits[:labeled], taught, recipe.distillation.temperature)
            mixed = torch.lerp(losses[:labeled], soft, recipe.distillation.weight)
            losses = torch.cat([mixed, losses[labeled:]])
        loss = (losses * weights).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        update_average(average, net, spec.ema, step)
        if step + 1 in marks:
            loss = parallel.mean(loss)
            record = {"step": step + 1, "loss": loss.item(), "lr": rate}
            scores = evaluate(average, data.validation, data.mean, data.std)
            if not all(math.isfinite(value) for value in (record["loss"], *scores.values())):
                raise Diverged(
                    f"not a finite number any more at step {step + 1} (train.lr={spec.lr:g})"
                )
            log(record | {f"validation_{name}": value for name, value in scores.items()})
        after_step(step + 1, partial(state, step + 1))
    return average


def joint_rows(
    recipe: Recipe, data: Dataset, pseudo: PseudoLabeled | None, device: str
) -> list[Rows]:
    """Return the streams that make up a batch: labeled rows, then unlabeled, where it has them.

    Then the other views of these, from which they are labeled, where training itself does that.
    """
    streams = []
    labeled, unlabeled = recipe.batch
    if labeled:
        key = ("labeled", recipe.generation)
        targets = smooth_one_hot(data.labeled.labels, data.classes, recipe.train.label_smoothing)
        everyone = torch.arange(len(data.labeled))
        images, targets = data.labeled.images.to(device), targets.to(device)
        noise = recipe.noise.labeled
        streams.append(Rows(images, targets, everyone, labeled, noise, recipe.seed, key))
    if not unlabeled:
        return streams
    order = torch.arange(len(data.unlabeled)) if pseudo is None else pseudo.rows
    nothing = torch.zeros(1, data.classes, device=device).expand(len(data.unlabeled), -1)
    labels = nothing if pseudo is None else pseudo.targets.to(device)
    pool, noise = data.unlabeled.images.to(device), recipe.noise.unlabeled
    strength = partial(noise_strength, recipe.noise.unlabeled_schedule, steps=recipe.steps)
    views: list[tuple[tuple[str, ...], RowNoise]] = [((), noise)]
    if pseudo is None:
        noised = recipe.consistency.method == "pi-model"
        views.append((("other view",), noise if noised else weak(noise, pool.shape[3])))
    key = ("unlabeled", recipe.generation)
    return streams + [
        Rows(pool, labels, order, unlabeled, noise, recipe.seed, key, strength, view)
        for view, noise in views
    ]


def _autocast(device: str) -> AbstractContextManager[Any]:
    if device.startswith("cuda") and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
