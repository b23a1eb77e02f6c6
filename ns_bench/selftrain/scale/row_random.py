"""Random numbers for the noise of a batch: a row's are the same whoever works on it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ns_bench.selftrain.scale.parallel import Share


class Draws:
    """Random numbers for the rows of some batches end to end, each batch with its own generator.

    They are drawn for whole batches, of which the rows of a `Share` are kept: rows that are worked
    on elsewhere, or later, do not change what the others get. With generators on the host no
    device is waited for.
    """

    def __init__(self, batches: Sequence[tuple[torch.Generator, Share]]) -> None:
        self.batches = batches

    def uniform(self, *shape: int) -> Tensor:
        """Draw from [0, 1): float32 [*shape, rows]."""
        return self._each(lambda g, n: torch.rand(*shape, n, generator=g, device=g.device))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Draw from low ... high - 1: int64 [*shape, rows]."""
        return self._each(
            lambda g, n: torch.randint(low, high, (*shape, n), generator=g, device=g.device)
        )

    def _each(self, draw: Callable[[torch.Generator, int], Tensor]) -> Tensor:
        parts = [draw(generator, share.batch)[..., share.rows] for generator, share in self.batches]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def draws_of(source: torch.Generator | Draws, images: Tensor) -> Draws:
    """Return `source`, or draws from a generator for just these images [B, ...]."""
    return source if isinstance(source, Draws) else Draws([(source, Share(len(images)))])
