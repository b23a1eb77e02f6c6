"""Products of matrices on a CPU, by whichever of torch's two libraries is faster there.

torch multiplies matrices by its BLAS. On an AMD EPYC with 512-bit units (family 26) that is MKL
with half of each unit, and oneDNN, by which torch has its convolutions, is 2.2 times as fast. Which
of the two multiplies decides the last bits of a run, so its provenance says so (`onednn`).
"""

import time
from functools import cache

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

FASTER = 1.5
"""By how much oneDNN has to be faster: far from 1 and from 2.2, so that what else a machine does
changes nothing."""

# Below these oneDNN's calls cost more than its products save.
_FEWEST_COLUMNS, _FEWEST_OUTER_COLUMNS = 16, 48


def product(x: Tensor, matrix: Tensor, add: Tensor | None = None, scale: float = 1) -> Tensor:
    """Return x @ matrix + scale * add: float32 [N, B], of [N, A], [A, B], and [B] or [N, B]."""
    if min(matrix.shape) < _FEWEST_COLUMNS or not by_onednn():
        return x @ matrix if add is None else torch.addmm(add, x, matrix, beta=scale)
    if add is None or (add.ndim == 1 and scale == 1):
        return _linear(x, matrix.t(), add)
    return _linear(x, matrix.t()).add_(add, alpha=scale)


def outer_product(x: Tensor, y: Tensor) -> Tensor:
    """Return x' @ y: float32 [A, B], of [N, A] and [N, B]."""
    rows, a, b = len(x), x.shape[1], y.shape[1]
    if rows % 8 or min(a, b) < _FEWEST_OUTER_COLUMNS or not by_onednn():
        return x.t() @ y
    # As the gradient of a 1x1 convolution of images, for which oneDNN is faster than for matrices.
    images = [each.view(rows // 8, 8, 1, -1).permute(0, 3, 1, 2) for each in (y, x)]
    return conv2d_weight(images[0], [a, b, 1, 1], images[1]).flatten(1)


@cache
def by_onednn() -> bool:
    """Return whether oneDNN multiplies large matrices `FASTER` than torch's BLAS: measured once in
    a process, in a few milliseconds."""
    if not (torch.backends.mkldnn.is_available() and hasattr(_ops, "_linear_pointwise")):
        return False
    x = torch.ones(256, 256)
    blas, onednn = [], []
    for _ in range(10):  # in turns; the best times are those that nothing disturbed
        began = time.perf_counter()
        torch.mm(x, x)
        between = time.perf_counter()
        _linear(x, x)
        blas.append(between - began)
        onednn.append(time.perf_counter() - between)
    return min(blas) > FASTER * min(onednn)


_ops = torch.ops.mkldnn


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`; the operation that torch's compiler puts in its place."""
    y: Tensor = _ops._linear_pointwise(x, weight, bias, "none", [], "")
    return y
