"""What a batch is made of: endless streams of labeled and unlabeled rows, and the noise on them."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from ns_bench.data.split import Dataset, Images
from ns_bench.recipe import Recipe, RowNoise
from ns_bench.selftrain import parallel
from ns_bench.selftrain.draws import Draws
from ns_bench.selftrain.noise import augment, weak
from ns_bench.selftrain.pseudo import PseudoLabeled, smooth_one_hot
from ns_bench.selftrain.shards import SparseTargets
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
        return noised([self], [plain], step), self.targets[index]

    def _draws(
        self, purpose: str, step: int, part: int, of: int
    ) -> tuple[torch.Generator, parallel.Share]:
        # on the host: the same numbers on any device
        return stream(self.seed, purpose, *self.drawn, step), parallel.share(self.batch, part, of)

    def _spared(self, step: int, part: int, of: int) -> Tensor:
        """Return which rows have no augmentation at the strength of this step, bool [rows].

        Drawn apart: rows that are augmented are so as in every other arm.
        """
        return Draws([self._draws("schedule", step, part, of)]).uniform() >= self.strength(step)


def noised(
    rows: Sequence[Rows], plain: Sequence[Tensor], step: int, part: int = 0, of: int = 1
) -> Tensor:
    """Return the noised images of streams end to end, uint8 [sum of rows, C, H, W].

    Streams that share their kind of noise are noised in one pass, with draws of their own.

    Args:
        plain: of each stream, this part's images.
        part, of: which rows of the step's batches these are, see `parallel.share`.
    """
    done = []
    for noise, group in groupby(zip(rows, plain, strict=True), key=lambda pair: pair[0].noise):
        alike = list(group)
        draws = Draws([each._draws("noise", step, part, of) for each, _ in alike])
        done.append(augment(torch.cat([images for _, images in alike]), noise, draws))
    images = torch.cat(done)
    if all(each.strength(step) == 1 for each in rows):
        return images
    spared = torch.cat([each._spared(step, part, of) for each in rows]).view(-1, 1, 1, 1)
    return torch.where(spared.to(images.device, non_blocking=True), torch.cat([*plain]), images)


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
        noised = recipe.consistency.method == "pi-model"
        views.append((("other view",), noise if noised else weak(noise, pool.shape[3])))
    key = ("unlabeled", recipe.generation)
    return streams + [
        Rows(pool, labels, order, unlabeled, noise, recipe.seed, key, strength, view)
        for view, noise in views
    ]
