"""Gradients of a batch that does not fit into memory, added up over its parts."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel


def gradients(
    net: nn.Module, loss_of: Callable[[int, int], Tensor], parts: int, may_split: bool
) -> Tensor | None:
    """Add the gradients of a batch's parts to those that there are; return its loss, float32 [].

    Returns None where memory ran out and `may_split`. Batch statistics are then what they were
    before; gradients are not.

    Args:
        loss_of: returns the loss of part k (from 0) of n.
    """
    # a few copies a step; memory can run out in any step, where others use it, too
    before = [buffer.clone() for buffer in net.buffers()]
    try:
        losses = []
        for part in range(parts):
            several = isinstance(net, DistributedDataParallel)
            once = cast(DistributedDataParallel, net).no_sync if several else nullcontext
            with nullcontext() if part + 1 == parts else once():  # gradients are exchanged once
                loss = loss_of(part, parts)
                loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()
    except (RuntimeError, MemoryError) as error:
        if not (may_split and out_of_memory(error)):
            raise
    # no sooner than here does nothing hold what the failed pass had made
    with torch.no_grad():
        for buffer, value in zip(net.buffers(), before, strict=True):
            buffer.copy_(value)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "can't allocate memory" in str(error)  # of the host: a plain RuntimeError


def share_statistics(net: nn.Module, before: int, parts: int) -> None:
    """Let averaged batch statistics move as far in `parts` passes as in `before` ones."""
    for module in net.modules() if parts != before else ():
        if isinstance(module, _BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** (before / parts)
