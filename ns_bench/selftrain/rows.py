"""What a batch is made of: endless streams of labeled and unlabeled rows, and the noise on them."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from ns_bench.data.split import Dataset, Images
from ns_bench.recipe import Recipe, RowNoise
from ns_bench.selftrain.noise import augment, replaced, weak
from ns_bench.selftrain.pseudo import PseudoLabeled, smooth_one_hot
from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.scale.row_random import Draws
from ns_bench.selftrain.scale.shards import SparseTargets
from ns_bench.streams import stream


class Rows:
    """An endless stream of batches of one kind of rows, a pure function of the step.

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

    def clean(self, step: int) -> tuple[Tensor, Tensor]:
        """Return this process's rows of a step, int64 [rows], and their images before any noise."""
        if isinstance(self.images, Tensor):
            index = self.index(step).to(self.images.device, non_blocking=True)
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
        """Return noised images, uint8 [rows, C, H, W], and targets, float32 [rows, classes]."""
        index, plain = self.clean(step)
        return noised([(self, step, plain)])[0], self.targets[index]

    def draws(
        self, purpose: str, step: int, part: int = 0, of: int = 1
    ) -> tuple[torch.Generator, parallel.Share]:
        """Return what `Draws` takes for a part of a step."""
        # on the host: the same numbers on any device
        return stream(self.seed, purpose, *self.drawn, step), parallel.share(self.batch, part, of)


class Joint:
    """The joint batches of a run: one part from each stream.

    Small images are noised for several steps at once. One pass over a batch of 8x8 pixels costs as
    much as ten of them, in calls on a CPU and in launches on a GPU.
    """

    def __init__(self, rows: Sequence[Rows]) -> None:
        self.rows = rows
        self._clean: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._noised: dict[tuple[int, int, int], list[Tensor]] = {}

    def __call__(self, step: int, part: int = 0, of: int = 1) -> list[tuple[Tensor, Tensor]]:
        """Return each stream's rows of a step, int64 [n], and their noised images [n, C, H, W].

        Args:
            part, of: which of them, see `parallel.share`.
        """
        if (step, part, of) not in self._noised:
            self._prepare(step, part, of)
        images = self._noised[step, part, of]
        return [(i[part::of], x) for (i, _), x in zip(self._clean[step], images, strict=True)]

    def _prepare(self, step: int, part: int, of: int) -> None:
        self._clean = {s: clean for s, clean in self._clean.items() if s >= step}
        self._noised = {}
        self._fetch(step)
        pixels = sum(images[:, 0].numel() for _, images in self._clean[step])
        steps = range(step, step + (max(TOGETHER // max(pixels, 1), 1) if of == 1 else 1))
        for ahead in steps:
            self._fetch(ahead)
        batches = [
            (each, s, self._clean[s][k][1][part::of])
            for k, each in enumerate(self.rows)
            for s in steps
        ]
        images = noised(batches, part, of)
        for k, s in enumerate(steps):
            self._noised[s, part, of] = images[k :: len(steps)]

    def _fetch(self, step: int) -> None:
        if step not in self._clean:
            self._clean[step] = [each.clean(step) for each in self.rows]


TOGETHER = 2**17
"""Pixels that are noised in one pass, if a step has fewer: the noise's own memory is 10 MB."""


def noised(batches: Sequence[tuple[Rows, int, Tensor]], part: int = 0, of: int = 1) -> list[Tensor]:
    """Return the noised images, uint8 [n, C, H, W], of each of some streams' steps.

    What is noised alike takes one pass, with draws for each step and stream.

    Args:
        batches: stream, step, and images of this part of the step.
    """
    done: list[Tensor] = []
    for noise, group in groupby(batches, key=lambda batch: batch[0].noise):
        alike = list(group)
        draws = Draws([each.draws("noise", step, part, of) for each, step, _ in alike])
        images = augment(torch.cat([plain for _, _, plain in alike]), noise, draws)
        done += images.split([len(plain) for _, _, plain in alike])
    for k, (each, step, plain) in enumerate(batches):
        strength = each.strength(step)
        if strength < 1:  # drawn apart: the rows that are augmented are so as in every other arm
            drawn = Draws([each.draws("schedule", step, part, of)]).uniform()
            done[k] = replaced(done[k], plain, drawn >= strength)
    return done


def noise_strength(schedule: str, step: int, steps: int) -> float:
    """Return the share of the noise on unlabeled rows that `step` (from 0) of `steps` has."""
    passed = step / max(steps - 1, 1)
    return {"constant": 1.0, "fading": 1 - passed, "rising": passed}[schedule]


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
        strong = recipe.consistency.method == "pi-model"
        views.append((("other view",), noise if strong else weak(noise, pool.shape[3])))
    key = ("unlabeled", recipe.generation)
    return streams + [
        Rows(pool, labels, order, unlabeled, noise, recipe.seed, key, strength, view)
        for view, noise in views
    ]
