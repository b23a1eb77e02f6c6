"""Images too many or too large to hold: decoded in worker processes when they are needed.

    pictures = Pictures(cells, np.arange(len(cells)), side=224)
    for index, images in pictures.stream(rows_of_step, start=step): ...

Files or Arrow tables stay on disk, mapped into memory. Which rows a batch has is a function of the
step, which the caller gives: a stream begins at any step without reading what came before, and two
streams, of labeled and of unlabeled rows, keep their own epochs at any ratio.
"""

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ns_bench.data.decode import decode
from ns_bench.errors import UserError

WORKERS = max(len(os.sched_getaffinity(0)) // 2, 1) if hasattr(os, "sched_getaffinity") else 2
"""Of each stream, of which there are two: all cores."""

AHEAD = 2
"""Batches that a worker has ready or in work."""


@dataclass(frozen=True)
class Pictures:
    """Images, uint8 [N, C, side, side], of which none is decoded yet.

    Attributes:
        cells: `cells[list of rows]` returns undecoded images, {"bytes", "path"} each, in order.
        rows: int64 [N], which of them, and in which order.
        device: where batches go.
        workers: processes that decode; 0 decodes here.
    """

    cells: Any
    rows: np.ndarray
    side: int
    channels: int = 3
    device: str = "cpu"
    workers: int = WORKERS

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self.channels, self.side, self.side

    def __getitem__(self, rows: Any) -> "Pictures":
        """Return a part of them, or another order; still nothing is decoded."""
        return replace(self, rows=self.rows[rows])

    def to(self, device: str | torch.device) -> "Pictures":
        return replace(self, device=str(device))

    def split(self, batch: int) -> Iterator[Tensor]:
        """Yield all images, decoded, in batches."""
        if not len(self):
            return
        steps = -(-len(self) // batch)

        def rows_of_step(step: int) -> Tensor:
            return torch.arange(step * batch, min((step + 1) * batch, len(self)))

        few = replace(self, workers=min(self.workers, steps - 1))  # none for a single batch
        for _, images in few.stream(rows_of_step, stop=steps):
            yield images

    def stream(
        self, rows_of_step: Callable[[int], Tensor], start: int = 0, stop: int | None = None
    ) -> Generator[tuple[Tensor, Tensor]]:
        """Yield each step's rows, int64 [B], and their images, uint8 [B, C, side, side].

        Raises:
            UserError: an image cannot be decoded any more; it is named.
        """
        gpu = self.device.startswith("cuda")
        # A worker of the local pool is daemonic, and may have no children; a loader's own end with
        # their parent, however that ends.
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        loader: DataLoader[tuple[Tensor, Tensor, str]] = DataLoader(
            _Decoder(self),
            batch_sampler=_Steps(rows_of_step, start, stop),
            num_workers=self.workers,
            collate_fn=_as_is,
            pin_memory=gpu,
            prefetch_factor=AHEAD if self.workers else None,
            multiprocessing_context="fork" if self.workers else None,
        )
        for index, images, problem in loader:
            if problem:
                raise UserError(problem)
            yield index.to(self.device, non_blocking=gpu), images.to(self.device, non_blocking=gpu)


def _as_is(batch: Any) -> Any:
    return batch


class _Steps(Sampler[list[int]]):
    def __init__(self, rows_of_step: Callable[[int], Tensor], start: int, stop: int | None) -> None:
        self.rows_of_step, self.start, self.stop = rows_of_step, start, stop

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start
        while self.stop is None or step < self.stop:
            yield self.rows_of_step(step).tolist()
            step += 1


class _Decoder(Dataset[tuple[Tensor, Tensor, str]]):
    """What a worker does: `DataLoader` hands it the rows of a whole batch.

    An error goes back as text: raised in a worker, it would come with two tracebacks.
    """

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def __getitems__(self, index: Sequence[int]) -> tuple[Tensor, Tensor, str]:
        pictures = self.pictures
        images = np.empty((len(index), *pictures.shape[1:]), np.uint8)
        rows = pictures.rows[np.asarray(index, np.int64)].tolist()
        problem = ""
        for place, (row, cell) in enumerate(zip(rows, pictures.cells[rows], strict=True)):
            try:
                images[place] = decode(cell, pictures.channels, pictures.side, fast=True)
            except Exception as error:  # of damaged files Pillow says nearly anything
                name = cell.get("path") or f"image {row}"
                problem = f"{name} could be read before and cannot be any more: {error}"
        return torch.tensor(index), torch.from_numpy(images), problem


@dataclass(frozen=True)
class Cells:
    """Undecoded images of a `datasets.Dataset`, in its column `column`."""

    dataset: Any
    column: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, rows: list[int]) -> list[dict[str, Any]]:
        return list(self.dataset[rows][self.column])


def mapped(files: list[str], column: str) -> Cells:
    """Return the images in Arrow files that `datasets` wrote."""
    import datasets

    tables = [datasets.Dataset.from_file(file) for file in files]
    return cells_of(datasets.concatenate_datasets(tables), column)


def cells_of(dataset: Any, column: str) -> Cells:
    """Return the images of a `datasets.Dataset`, mapped from disk, undecoded."""
    import datasets

    undecoded = dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return Cells(undecoded, column)
