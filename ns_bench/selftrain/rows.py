"""What a batch is made of: sequences of labeled and unlabeled rows, and the noise on them."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from ns_bench.data.lazy import Crop, LazyImages
from ns_bench.data.split import Dataset, Images
from ns_bench.data.streams import stream
from ns_bench.recipe import Recipe, RowNoise
from ns_bench.selftrain.methods import Batch, Consistency, Method
from ns_bench.selftrain.noise import augment, crops, replaced
from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.scale.parallel import WHOLE, Part
from ns_bench.selftrain.scale.row_random import Draws
from ns_bench.selftrain.targets import PseudoLabeled, SparseTargets, smooth_one_hot


@dataclass
class Rows:
    """An endless sequence of batches of one kind of rows, a pure function of the step.

    Sequences of one key have the same rows in the same order; those of another `view` of them have
    draws of their own.

    Attributes:
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

    images: Images
    targets: Tensor | SparseTargets
    order: Tensor
    batch: int
    noise: RowNoise
    seed: int
    key: tuple[str | int, ...]
    strength: Callable[[int], float] = lambda step: 1.0
    view: tuple[str, ...] = ()
    _epochs: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)
    _ahead: tuple[int, Generator[tuple[Tensor, Tensor]]] | None = field(
        default=None, init=False, repr=False
    )

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
        return torch.cat(parts)[parallel.share(self.batch).rows]

    def clean(self, step: int) -> tuple[Tensor, Tensor]:
        """Return this process's rows of a step, int64 [rows], and their images before any noise."""
        if isinstance(self.images, Tensor):
            index = self.index(step).to(self.images.device, non_blocking=True)
            return index, self.images[index]
        if self._ahead is None or self._ahead[0] != step:
            drawn = self._crops if self._of_photos and self.noise.resized_crop else None
            self._ahead = step, self.images.batches(self.index, step, crops=drawn)
        batches = self._ahead[1]
        self._ahead = step + 1, batches
        return next(batches)

    @property
    def _of_photos(self) -> bool:
        return isinstance(self.images, LazyImages) and self.images.photo

    @property
    def pixel_noise(self) -> RowNoise:
        """The noise on decoded images: crops of photos are done by then."""
        return replace(self.noise, resized_crop=0.0) if self._of_photos else self.noise

    def _crops(self, step: int) -> list[Crop | None]:
        """Return what is taken of each photo of a step; None, of rows without noise, its middle."""
        drawn = crops(self.noise.resized_crop, Draws([self.draws("crop", step)])).T.tolist()
        noisy = self.augmented(step).tolist()
        return [crop if there else None for crop, there in zip(drawn, noisy, strict=True)]

    def augmented(self, step: int, part: Part = WHOLE) -> Tensor:
        """Return which rows of a part of a step are augmented, bool [rows].

        Drawn apart: those are so as in every other arm.
        """
        return Draws([self.draws("schedule", step, part)]).uniform() < self.strength(step)

    def close(self) -> None:
        """End the processes that decode images, if there are any."""
        if self._ahead is not None:
            self._ahead[1].close()

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return noised images, uint8 [rows, C, H, W], and targets, float32 [rows, classes]."""
        index, plain = self.clean(step)
        return noised([(self, step, plain)])[0], self.targets[index]

    def draws(
        self, purpose: str, step: int, part: Part = WHOLE
    ) -> tuple[torch.Generator, parallel.Share]:
        """Return what `Draws` takes for a part of a step."""
        # on the host: the same numbers on any device
        generator = stream(self.seed, purpose, *self.key, *self.view, step)
        return generator, parallel.share(self.batch, part)


class Batches:
    """The joint batches of a run.

    Small images are noised for several steps at once. One pass over a batch of 8x8 pixels costs as
    much as ten of them, in calls on a CPU and in launches on a GPU.

    Args:
        rows: see `joint_rows`.
        averaged: whether the average sees the other view of the unlabeled rows, not the network.
    """

    def __init__(self, rows: Sequence[Rows], averaged: bool = False) -> None:
        self.rows, self.averaged = rows, averaged
        self._clean: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._noised: dict[tuple[int, Part], list[Tensor]] = {}

    @property
    def seen(self) -> Sequence[Rows]:
        """The rows that the network sees."""
        return self.rows[:-1] if self.averaged else self.rows

    @property
    def with_targets(self) -> Sequence[Rows]:
        """Labeled and unlabeled rows, without other views of these."""
        return [rows for rows in self.rows if not rows.view]

    def __call__(self, step: int, part: Part = WHOLE) -> Batch:
        """Return a part of a step's batch, of this process's share."""
        if (step, part) not in self._noised:
            self._prepare(step, part)
        images = self._noised[step, part]
        index = [rows[part.number :: part.of] for rows, _ in self._clean[step]]
        pairs = zip(self.with_targets, index, strict=False)
        return Batch(
            step=step,
            images=torch.cat(images[: len(self.seen)]),
            labeler_images=images[-1] if self.averaged else None,
            targets=torch.cat([rows.targets[where] for rows, where in pairs]),
            labeled=index[0] if self.rows[0].key[0] == "labeled" else index[0][:0],
        )

    def close(self) -> None:
        """End the processes that decode images, if there are any."""
        for rows in self.rows:
            rows.close()

    def _prepare(self, step: int, part: Part) -> None:
        self._clean = {s: clean for s, clean in self._clean.items() if s >= step}
        self._noised = {}
        self._fetch(step)
        pixels = sum(images[:, 0].numel() for _, images in self._clean[step])
        together = max(TOGETHER // max(pixels, 1), 1) if part == WHOLE else 1
        steps = range(step, step + together)
        for ahead in steps:
            self._fetch(ahead)
        plain = [
            (rows, s, self._clean[s][k][1][part.number :: part.of])
            for k, rows in enumerate(self.rows)
            for s in steps
        ]
        images = noised(plain, part)
        for k, s in enumerate(steps):
            self._noised[s, part] = images[k :: len(steps)]

    def _fetch(self, step: int) -> None:
        if step not in self._clean:
            self._clean[step] = [rows.clean(step) for rows in self.rows]


TOGETHER = 2**17
"""Pixels that are noised in one pass, if a step has fewer: the noise's own memory is 10 MB."""


def noised(batches: Sequence[tuple[Rows, int, Tensor]], part: Part = WHOLE) -> list[Tensor]:
    """Return the noised images, uint8 [n, C, H, W], of some steps of some sequences.

    What is noised alike takes one pass, with draws for each step and sequence.

    Args:
        batches: rows, step, and images of this part of the step.
    """
    done: list[Tensor] = []
    for noise, group in groupby(batches, key=lambda batch: batch[0].pixel_noise):
        alike = list(group)
        draws = Draws([rows.draws("noise", step, part) for rows, step, _ in alike])
        images = augment(torch.cat([plain for _, _, plain in alike]), noise, draws)
        done += images.split([len(plain) for _, _, plain in alike])
    for k, (rows, step, plain) in enumerate(batches):
        if rows.strength(step) < 1:
            done[k] = replaced(done[k], plain, ~rows.augmented(step, part))
    return done


def noise_strength(schedule: str, step: int, steps: int) -> float:
    """Return the share of the noise on unlabeled rows that `step` (from 0) of `steps` has."""
    passed = step / max(steps - 1, 1)
    return {"constant": 1.0, "fading": 1 - passed, "rising": passed}[schedule]


def joint_rows(
    recipe: Recipe, data: Dataset, pseudo: PseudoLabeled | None, method: Method, device: str
) -> list[Rows]:
    """Return what makes up a batch: labeled rows, then unlabeled, where it has them.

    Then the other view of these, from which they are labeled, where training itself does that.
    """
    kinds = []
    labeled, unlabeled = recipe.batch
    if labeled:
        key = ("labeled", recipe.generation)
        targets = smooth_one_hot(data.labeled.labels, data.classes, recipe.train.label_smoothing)
        every = torch.arange(len(data.labeled))
        images, noise = data.labeled.images.to(device), recipe.noise.labeled
        kinds.append(Rows(images, targets.to(device), every, labeled, noise, recipe.seed, key))
    if not unlabeled:
        return kinds
    order = torch.arange(len(data.unlabeled)) if pseudo is None else pseudo.rows
    unknown = torch.zeros(1, data.classes, device=device).expand(len(data.unlabeled), -1)
    labels = unknown if pseudo is None else pseudo.targets.to(device)
    pool, noise = data.unlabeled.images.to(device), recipe.noise.unlabeled
    strength = partial(noise_strength, recipe.noise.unlabeled_schedule, steps=recipe.steps)
    key = ("unlabeled", recipe.generation)
    rows = partial(
        Rows, pool, labels, order, unlabeled, seed=recipe.seed, key=key, strength=strength
    )
    kinds.append(rows(noise=noise))
    if isinstance(method, Consistency):
        kinds.append(rows(noise=method.view(noise, pool.shape[3]), view=("other view",)))
    return kinds
