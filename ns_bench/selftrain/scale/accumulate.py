"""Gradients of a batch, added up over parts of it where it does not fit into memory."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.scale.parallel import Part


class Gradients:
    """The gradients of a network, batch after batch.

    Where memory runs out, the batch is halved and worked through again, and so are those after it.
    Gradients are those of the whole batch, but for its batch statistics, which are those of a part.
    Several processes end instead: those that wait for one that failed cannot be told to go back.

    Args:
        rows: of a process in the smallest part of a batch, which is not cut below one row.
        halved: is called with the new number of parts.

    Attributes:
        parts: in which a batch is worked through.
    """

    def __init__(
        self, net: nn.Module, parts: int, rows: int, halved: Callable[[int], None]
    ) -> None:
        self.net, self.parts, self.rows, self.halved = net, parts, rows, halved
        self.weights, self.buffers = [*net.parameters()], [*net.buffers()]
        self.before = [buffer.clone() for buffer in self.buffers]
        _share_statistics(net, 1, parts)

    def __call__(self, loss_of: Callable[[Part], Tensor]) -> Tensor:
        """Set the gradients of a batch and return its loss, float32 [], without one.

        Args:
            loss_of: returns the loss of a part.

        Raises:
            torch.OutOfMemoryError: in smaller parts it does not fit either.
        """
        self._copy(self.buffers, self.before)
        while (loss := self._add_up(loss_of)) is None:
            self._copy(self.before, self.buffers)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            _share_statistics(self.net, self.parts, 2 * self.parts)
            self.parts *= 2
            self.halved(self.parts)
        return loss

    @staticmethod
    def _copy(source: list[Tensor], target: list[Tensor]) -> None:
        if source:  # a network of layer norms has no buffers
            torch._foreach_copy_(target, source)

    def _add_up(self, loss_of: Callable[[Part], Tensor]) -> Tensor | None:
        """Return None where memory ran out: when nothing holds what the failed pass has made."""
        for weights in self.weights:  # zero_grad looks through all modules, step after step
            weights.grad = None
        several = isinstance(self.net, DistributedDataParallel)
        losses = []
        try:
            for number in range(self.parts):
                apart = several and number + 1 < self.parts  # they exchange gradients once
                net = cast(DistributedDataParallel, self.net)
                with net.no_sync() if apart else nullcontext():
                    loss = loss_of(Part(number, self.parts))
                    loss.backward()
                losses.append(loss.detach())
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or parallel.world() > 1 or 2 * self.parts > self.rows:
                raise
            return None
        return torch.stack(losses).sum()


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in _OF_THE_HOST)


_OF_THE_HOST = ("can't allocate memory", "could not create a primitive")
"""What torch's and oneDNN's plain RuntimeErrors say; the second can have other reasons, which stay
when the batch is halved, until it is raised."""


def _share_statistics(net: nn.Module, before: int, parts: int) -> None:
    """Let averaged batch statistics move as far in `parts` passes as in `before` ones."""
    for module in net.modules() if parts != before else ():
        if isinstance(module, _BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** (before / parts)
