"""One run over several processes: what each of them does, and what they tell each other.

A recipe means the same however many processes share it. Its batch size is the global one: process
r of n takes rows r, r + n, r + 2n, ... of each stream's batch, the draws are those of the global
batch, batch statistics are taken over it, and gradients are summed over it. Whoever starts the
processes initialises `torch.distributed`, by `joined` or in their own way; where nobody did,
everything here does nothing.

An error that only one process meets ends its process; that breaks gloo's connections, so the
others' next exchange raises too. Waiting in NCCL they are ended by whoever started them (torchrun;
srun --kill-on-bad-exit) or by NCCL's own watchdog. What process 0 alone does is different: see
`on_leader`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ns_bench.errors import UserError

T = TypeVar("T")


@contextmanager
def joined() -> Iterator[str]:
    """Join the processes that the environment names, if several; give this one's device.

    The environment is that of torchrun, or of submitit's `TorchDistributedEnvironment`.
    """
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    device = gpu if torch.cuda.is_available() else "cpu"
    if device == gpu:
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        # gloo carries what the processes agree on, so that no GPU has to be waited for; the others
        # wait for process 0 while it labels or measures, which may take hours.
        backend = "cpu:gloo,cuda:nccl" if device == gpu else "gloo"
        dist.init_process_group(backend, timeout=timedelta(days=1))
    yield device
    if world() > 1:  # after an error the end of the process is what the others notice
        dist.destroy_process_group()


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number; 0 leads."""
    return dist.get_rank() if world() > 1 else 0


# Shares of a batch


class Part(NamedTuple):
    """Every `of`-th row of each process's share of a batch, from its row `number` on."""

    number: int = 0
    of: int = 1


WHOLE = Part()


class Share(NamedTuple):
    """The rows of a batch that a process works on: draws are made for `batch`, used for `rows`."""

    batch: int
    rows: slice = slice(None)


def share(batch: int, part: Part = WHOLE) -> Share:
    """Return this process's share of a batch, or a part of it."""
    return Share(batch, slice(rank() + world() * part.number, batch, world() * part.of))


def joint_share(batches: Iterable[int], device: str = "cpu", part: Part = WHOLE) -> slice | Tensor:
    """Return the `share` of several batches end to end: int64 [rows], or a whole slice.

    Raises:
        UserError: a batch has fewer rows than there are processes, or parts of their shares.
    """
    if world() * part.of == 1:
        return slice(None)
    shares, begin = [], 0
    for batch in batches:
        if batch < world() * part.of:
            by = f"{world()} processes" + (f", {part.of} parts each," if part.of > 1 else "")
            raise UserError(f"{by} cannot share a batch of {batch} rows")
        shares.append(torch.arange(begin, begin + batch)[share(batch, part).rows])
        begin += batch
    return torch.cat(shares).to(device, non_blocking=True)


def assembled(values: Tensor, rows: slice | Tensor, total: int) -> Tensor:
    """Return [total, ...] on every process, from the `values` that each has of its `rows`."""
    if world() == 1:
        return values
    whole = values.new_zeros(total, *values.shape[1:])
    whole[rows] = values
    dist.all_reduce(whole)
    return whole


# Agreement


def mean(value: Tensor) -> Tensor:
    """Return the mean of `value` over the processes, without a gradient."""
    if world() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world()


def any_rank(flag: bool) -> bool:
    """Return whether `flag` is true on any process."""
    if world() == 1:
        return flag
    flags = torch.tensor(int(flag))
    dist.all_reduce(flags)
    return bool(flags)


def on_leader(do: Callable[[], T]) -> T:
    """Return, or raise, on every process what `do` returns or raises on process 0.

    The others only wait; what it returns is pickled.
    """
    if world() == 1:
        return do()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = do()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    value: T = outcome[0]
    return value


# The network


def replicate(net: nn.Module) -> nn.Module:
    """Return `net`, or with several processes a wrapper that trains it on the global batch.

    Gradients come out averaged over the processes: a loss that is a sum over own rows has to be
    multiplied by `world`. `net` keeps its parameters, buffers and their names.
    """
    if world() == 1:
        return net
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_synchronised, module)  # type: ignore[method-assign]
    # Asked to look for unused parameters, DDP does not regroup gradients after its first step, so
    # a resumed run adds them up in the order of one that was not stopped. (It warns of the cost.)
    return DistributedDataParallel(net, find_unused_parameters=True)


def _synchronised(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Forward of a batch norm, timm's with its activation too, over the rows of all processes.

    torch's SyncBatchNorm refuses CPU tensors, and tests should run what GPUs run.
    """
    if not norm.training:
        return type(norm).forward(norm, x)
    out, average, variance, count = _GlobalBatchNorm.apply(x, norm.weight, norm.bias, norm.eps)
    if norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        momentum = norm.momentum
        if momentum is None:
            momentum = 1 / norm.num_batches_tracked.item()
        norm.running_mean.lerp_(average.to(norm.running_mean), momentum)
        norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var), momentum)
    return norm.act(norm.drop(out)) if isinstance(norm, BatchNormAct2d) else out


class _GlobalBatchNorm(torch.autograd.Function):
    """Batch normalisation (arXiv 1502.03167) of x [B, C, ...] by statistics of all processes.

    Returns x normalised, in its dtype, and mean [C], biased variance [C] and count [] over all
    processes, at least in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, ...]:
        variance, mean = torch.var_mean(_exact(x), _but_channels(x), correction=0)
        count = mean.new_tensor([x.numel() / x.shape[1]])
        own = torch.cat([mean, variance, count])
        everyone = [torch.empty_like(own) for _ in range(world())]
        dist.all_gather(everyone, own)
        means, variances, counts = torch.stack(everyone).split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        part = counts / total
        mean = (part * means).sum(0)
        variance = (part * (variances + (means - mean) ** 2)).sum(0)
        out = nn.functional.batch_norm(x, mean, variance, weight, bias, eps=eps)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), total)
        ctx.mark_non_differentiable(mean, variance, total)
        return out, mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        shape = (1, -1, *[1] * (x.ndim - 2))
        gradient = _exact(gradients[0])
        normal = (_exact(x) - mean.view(shape)) * scale.view(shape)
        over = _but_channels(x)
        own = torch.stack([(gradient * normal).sum(over), gradient.sum(over)])
        total = own.clone()
        dist.all_reduce(total)
        along, level = (total / count).view(2, *shape)
        factor = scale if weight is None else scale * weight
        inner = (gradient - level - normal * along) * factor.view(shape)
        of_weight, of_bias = own if weight is not None else (None, None)
        return inner.to(x.dtype), of_weight, of_bias, None


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _but_channels(x: Tensor) -> list[int]:
    return [d for d in range(x.ndim) if d != 1]
