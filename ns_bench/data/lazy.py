"""Images too many or too large to hold: decoded in worker processes when they are needed.

    images = LazyImages(encoded, np.arange(len(encoded)), side=224)
    for index, batch in images.batches(rows_of_step, start=step): ...

Files or Arrow tables stay on disk, mapped into memory. Which rows a batch has is a function of the
step, which the caller gives: batches begin at any step without reading what came before, and those
of labeled and of unlabeled rows keep their own epochs at any ratio.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ns_bench.data.decode import decode, stamp
from ns_bench.errors import UserError

WORKERS = max(len(os.sched_getaffinity(0)) // 2, 1) if hasattr(os, "sched_getaffinity") else 2
"""Processes that decode, of labeled and of unlabeled images each: all cores."""

Crop = Sequence[float]
"""Which part of a photo is taken; see `decode`."""

Crops = Callable[[int], Sequence[Crop | None]]
"""Those of the rows of a step; None is the middle."""

AHEAD = 2
"""Batches that a worker has ready or in work."""


@dataclass(frozen=True)
class LazyImages:
    """Images, uint8 [N, C, side, side], of which none is decoded yet.

    Attributes:
        encoded: `encoded[list of rows]` returns encoded images, {"bytes", "path"} each, in order.
        rows: int64 [N], which of them, and in which order.
        stamps: int64 [N, 2], of their files when they were first read; see `decode.stamp`.
        device: where batches go.
        workers: processes that decode; 0 decodes here.
        photo: whether they are cut from whole photos; see `decode`.
    """

    encoded: Any
    rows: np.ndarray
    side: int
    channels: int = 3
    device: str = "cpu"
    workers: int = WORKERS
    photo: bool = False
    stamps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self.channels, self.side, self.side

    def __getitem__(self, rows: Any) -> "LazyImages":
        """Return a part of them, or another order; still nothing is decoded."""
        stamps = None if self.stamps is None else self.stamps[rows]
        return replace(self, rows=self.rows[rows], stamps=stamps)

    def to(self, device: str | torch.device) -> "LazyImages":
        return replace(self, device=str(device))

    def split(self, batch: int) -> Iterator[Tensor]:
        """Yield all images, decoded, in batches."""
        if not len(self):
            return
        steps = -(-len(self) // batch)

        def rows_of_step(step: int) -> Tensor:
            return torch.arange(step * batch, min((step + 1) * batch, len(self)))

        few = replace(self, workers=min(self.workers, steps - 1))  # none for a single batch
        for _, images in few.batches(rows_of_step, stop=steps):
            yield images

    def batches(
        self,
        rows_of_step: Callable[[int], Tensor],
        start: int = 0,
        stop: int | None = None,
        crops: Crops | None = None,
    ) -> Generator[tuple[Tensor, Tensor]]:
        """Yield each step's rows, int64 [B], and their images, uint8 [B, C, side, side].

        Args:
            crops: what is taken of each photo of a step, see `decode`; their middles without it.

        Raises:
            UserError: an image cannot be decoded any more, or has changed; it is named.
        """
        gpu = self.device.startswith("cuda")
        loader: DataLoader[tuple[Tensor, Tensor, str]] = DataLoader(
            _Decoder(self),
            batch_sampler=_Steps(rows_of_step, start, stop, crops),
            num_workers=self.workers,
            collate_fn=_as_is,
            pin_memory=gpu,
            prefetch_factor=AHEAD if self.workers else None,
            multiprocessing_context="fork" if self.workers else None,
        )
        with _allowed_children():
            batches = iter(loader)
        for index, images, problem in batches:
            if problem:
                raise UserError(problem)
            yield index.to(self.device, non_blocking=gpu), images.to(self.device, non_blocking=gpu)


@contextlib.contextmanager
def _allowed_children() -> Iterator[None]:
    """Let a daemonic process, as a worker of the local pool is, start children.

    Those of a loader end with their parent, however that ends.
    """
    process = multiprocessing.current_process()
    daemonic = process.daemon
    process.daemon = False
    try:
        yield
    finally:
        process.daemon = daemonic


def _as_is(batch: Any) -> Any:
    return batch


@dataclass(frozen=True)
class _Steps(Sampler[list[tuple[int, Crop | None]]]):
    rows_of_step: Callable[[int], Tensor]
    start: int
    stop: int | None
    crops: Crops | None

    def __iter__(self) -> Iterator[list[tuple[int, Crop | None]]]:
        step = self.start
        while self.stop is None or step < self.stop:
            rows = self.rows_of_step(step).tolist()
            crops = [None] * len(rows) if self.crops is None else self.crops(step)
            yield list(zip(rows, crops, strict=True))
            step += 1


class _Decoder(Dataset[tuple[Tensor, Tensor, str]]):
    """What a worker does: `DataLoader` hands it the rows of a whole batch.

    An error goes back as text: raised in a worker, it would come with two tracebacks.
    """

    def __init__(self, images: LazyImages) -> None:
        self.images = images

    def __getitems__(self, wanted: Sequence[tuple[int, Crop | None]]) -> tuple[Tensor, Tensor, str]:
        lazy = self.images
        index, crops = zip(*wanted, strict=True)
        batch = np.empty((len(index), *lazy.shape[1:]), np.uint8)
        at = np.asarray(index, np.int64)
        rows = lazy.rows[at].tolist()
        stamps = [None] * len(rows) if lazy.stamps is None else lazy.stamps[at].tolist()
        problem = ""
        cells = zip(rows, lazy.encoded[rows], crops, stamps, strict=True)
        for place, (row, cell, crop, before) in enumerate(cells):
            try:
                if before not in (None, stamp(cell)):
                    raise ValueError("it has changed since; --data NAME=PATH has all read again")
                batch[place] = decode(
                    cell, lazy.channels, lazy.side, fast=True, photo=lazy.photo, crop=crop
                )
            except Exception as error:  # of damaged files Pillow says nearly anything
                name = cell.get("path") or f"image {row}"
                problem = f"{name} could be read before and cannot be any more: {error}"
        return torch.tensor(index), torch.from_numpy(batch), problem


@dataclass(frozen=True)
class ArrowColumn:
    """Encoded images of a `datasets.Dataset`, in its column `column`."""

    dataset: Any
    column: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, rows: list[int]) -> list[dict[str, Any]]:
        return list(self.dataset[rows][self.column])


def mapped(files: list[str], column: str) -> ArrowColumn:
    """Return the images in Arrow files that `datasets` wrote."""
    import datasets

    tables = [datasets.Dataset.from_file(file) for file in files]
    return encoded_column(datasets.concatenate_datasets(tables), column)


def encoded_column(dataset: Any, column: str) -> ArrowColumn:
    """Return the images of a `datasets.Dataset`, mapped from disk, as they are encoded."""
    import datasets

    undecoded = dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return ArrowColumn(undecoded, column)
