"""EfficientNets on a CPU in less time: their training, and their predictions.

`fast` lets EfficientNets train as one function of autograd: a chain of `Part`s, each of which knows
its own derivative. Results are those of the plain layers, to rounding. What it gains:

- A 1x1 convolution that widens has no pass over its wide side for batch norm: statistics there, and
  their derivatives, follow from those of the narrow side. The stem is one, too, and its images get
  no gradient.
- SiLU keeps its sigmoid, so that its derivative needs no exponential.
- The gradient of a depthwise kernel that is larger than its images, for which oneDNN has no kernel
  (40 times as slow), is taken of padded images; that of the input is a convolution.
- Squeeze-excite, and all the rest between two parts, is few calls.

`folded` copies a network for prediction, with batch norm inside its convolutions.
"""

import copy
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from timm.models._efficientnet_blocks import (
    DepthwiseSeparableConv,
    InvertedResidual,
    SqueezeExcite,
)
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ns_bench.selftrain.models import RowDropPath
from ns_bench.selftrain.products import outer_product, product

_aten = torch.ops.aten


def fast(net: nn.Module) -> nn.Module:
    """Let the EfficientNets within `net` train faster on a CPU, as they are now; return `net`.

    Their weights, buffers and names stay. Those with a layer that no part knows, or that keeps its
    batch statistics, stay as they are, and so do networks of other families.
    """
    for module in net.modules():
        if type(module) is EfficientNet and _known(module):
            module.__class__ = FastEfficientNet
    return net


class FastEfficientNet(EfficientNet):
    """timm's, of which stem, blocks and head are a chain while it is trained."""

    def forward_features(self, x: Tensor) -> Tensor:
        if not self.training or x.requires_grad:
            plain: Tensor = super().forward_features(x)
            return plain
        with torch.no_grad():  # views of weights without a graph, which `run` makes
            chain = _chain(self)
        return run(chain, x)


def folded(net: nn.Module) -> nn.Module:
    """Return `net`, in eval mode, with batch norm inside its convolutions: logits to rounding.

    It shares the rest of its weights with `net`, which stays as it is. Only EfficientNets change.
    """
    parts: Any = {name: child and folded(child) for name, child in net._modules.items()}
    for conv, norm in _PAIRS.get(type(net), ()):
        if isinstance(parts[conv], nn.Conv2d) and isinstance(parts[norm], BatchNormAct2d):
            parts[conv], parts[norm] = fuse_conv_bn_eval(parts[conv], parts[norm]), parts[norm].act
    if all(part is net._modules[name] for name, part in parts.items()):
        return net
    twin = copy.copy(net)
    twin._modules = parts
    return twin


_EFFICIENTNET = (("conv_stem", "bn1"), ("conv_head", "bn2"))
_PAIRS: dict[type, tuple[tuple[str, str], ...]] = {
    EfficientNet: _EFFICIENTNET,
    FastEfficientNet: _EFFICIENTNET,
    DepthwiseSeparableConv: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}
"""Convolutions, and the batch norm that follows each directly."""


class Part:
    """One step of a chain. Images are [N, H, W, C], contiguous.

    Attributes:
        weights: the parameters it uses.
        gradients: theirs, after `backward`, in the same order.
    """

    weights: list[Tensor]
    gradients: list[Tensor]

    def forward(self, x: Tensor) -> Tensor:
        """Return the part's output, and keep what its derivative needs."""
        raise NotImplementedError

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        """Set `gradients`; return the gradient of the input, if that is wanted.

        `gradient`, contiguous, is not changed.
        """
        raise NotImplementedError


class Widen(Part):
    """A 1x1 convolution W, batch norm and SiLU, without a pass over the wide side for its norm.

    Before that, the wide side is W x: its mean is W mean(x), and its variance the diagonal of
    W cov(x) W'. The covariance is of doubles: where W x nearly vanishes, much cancels out.
    """

    def __init__(self, conv: Any, norm: Any, kernel: int | None = 1) -> None:
        self.norm = _trained(norm, nn.SiLU)
        self.weights = [_square(conv, kernel).weight, norm.weight, norm.bias]
        self.matrix, self.scale, self.shift = self.weights
        self.matrix = self.matrix.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.view(-1, x.shape[3])
        count, mean = len(rows), rows.mean(0)
        self.x = rows - mean
        exact, matrix = self.x.double(), self.matrix.double()
        spread = matrix @ (exact.t() @ exact).div_(count)
        variance = (spread * matrix).sum(1).to(x.dtype)
        self.deviation = _normed(self.norm, self.matrix @ mean, variance, count)
        self.scale = self.scale * self.deviation
        self.factors = self.matrix * self.scale[:, None]
        self.spread = spread.to(x.dtype)
        y = product(self.x, self.factors.t(), self.shift)
        self.sigmoid = torch.sigmoid(y)
        self.y = y.mul_(self.sigmoid)
        return self.y.view(*x.shape[:3], -1)

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        dz = _before_silu(gradient.view(self.y.shape), self.y, self.sigmoid)
        level, outer = dz.new_ones(len(dz)) @ dz, outer_product(self.x, dz).t()
        along = (outer * self.matrix).sum(1) * self.deviation
        pull = (along * self.deviation)[:, None]
        of_matrix = torch.addcmul(outer, pull, self.spread, value=-1).mul_(self.scale[:, None])
        self.gradients = [of_matrix.view(self.weights[0].shape), along, level]
        if not wanted:
            return None
        dx = product(self.x, self.matrix.t() @ (self.factors * pull), level @ self.factors)
        dx = product(dz, self.factors, dx, scale=-1 / len(dz))
        return dx.view(*gradient.shape[:3], -1)


class Stem(Widen):
    """A convolution of images with few channels, which get no gradient, batch norm and SiLU."""

    def __init__(self, conv: Any, norm: Any) -> None:
        super().__init__(conv, norm, kernel=None)
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        (n, h, w, c), k, s = x.shape, self.kernel, self.stride
        padded = F.pad(x, (0, 0, *(k // 2,) * 4))
        h, w = (padded.shape[1] - k) // s + 1, (padded.shape[2] - k) // s + 1
        taps = x.new_empty(n, h, w, c, k, k)
        for i in range(k):
            for j in range(k):
                taps[..., i, j] = padded[:, i : i + s * h : s, j : j + s * w : s]
        return super().forward(taps.view(n, h, w, -1))


class Pointwise(Part):
    """A 1x1 convolution."""

    def __init__(self, conv: Any) -> None:
        self.weights = [_square(conv, kernel=1).weight]
        self.matrix = conv.weight.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        self.rows = x.view(-1, x.shape[3])
        return product(self.rows, self.matrix.t()).view(*x.shape[:3], -1)

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        rows = gradient.view(-1, gradient.shape[3])
        self.gradients = [outer_product(rows, self.rows).view(self.weights[0].shape)]
        return product(rows, self.matrix).view(*gradient.shape[:3], -1) if wanted else None


class Depthwise(Part):
    """A convolution of each channel by itself."""

    def __init__(self, conv: Any) -> None:
        self.weights = [_square(conv, groups=conv.out_channels).weight]
        self.stride, self.padding = conv.stride[0], conv.padding[0]

    def forward(self, x: Tensor) -> Tensor:
        self.x, weight = x.permute(0, 3, 1, 2), self.weights[0]
        y = F.conv2d(self.x, weight, None, self.stride, self.padding, groups=len(weight))
        return y.permute(0, 2, 3, 1).contiguous()

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        g, x, weight = gradient.permute(0, 3, 1, 2), self.x, self.weights[0]
        s, p, groups = self.stride, self.padding, len(weight)
        padded, left = (F.pad(x, (p,) * 4), 0) if min(x.shape[2:]) < weight.shape[2] else (x, p)
        self.gradients = [conv2d_weight(padded, weight.shape, g, s, left, groups=groups)]
        if not wanted:
            return None
        if s == 1:  # with the kernel turned around
            dx = F.conv2d(g, weight.flip(2, 3), None, 1, p, groups=groups)
        else:
            dx = conv2d_input(x.shape, weight, g, s, p, groups=groups)
        return dx.permute(0, 2, 3, 1).contiguous()


class Norm(Part):
    """Batch norm, and SiLU if `silu`."""

    def __init__(self, norm: Any, silu: bool) -> None:
        self.norm, self.silu = _trained(norm, nn.SiLU if silu else nn.Identity), silu
        self.weights = [norm.weight, norm.bias]

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        norm.num_batches_tracked.add_(1)
        self.x, (weight, bias) = x.permute(0, 3, 1, 2), self.weights
        y, self.mean, self.deviation = torch.native_batch_norm(
            self.x, weight, bias, norm.running_mean, norm.running_var,
            True, norm.momentum, norm.eps,
        )  # fmt: skip
        self.y = y.permute(0, 2, 3, 1)
        if self.silu:
            self.sigmoid = torch.sigmoid(self.y)
            self.y.mul_(self.sigmoid)
        return self.y

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        g = _before_silu(gradient, self.y, self.sigmoid) if self.silu else gradient
        dx, *self.gradients = _aten.native_batch_norm_backward(
            g.permute(0, 3, 1, 2), self.x, self.weights[0], None, None, self.mean,
            self.deviation, True, self.norm.eps, [True] * 3,
        )  # fmt: skip
        out: Tensor = dx.permute(0, 2, 3, 1)
        return out


class Excite(Part):
    """Squeeze and excitation."""

    def __init__(self, se: Any) -> None:
        _check(type(se) is SqueezeExcite)
        _check((type(se.act1), type(se.gate)) == (nn.SiLU, nn.Sigmoid))
        reduce, expand = se.conv_reduce, se.conv_expand
        self.weights = [reduce.weight, reduce.bias, expand.weight, expand.bias]
        self.matrices = [w.flatten(1) for w in (reduce.weight, expand.weight)]

    def forward(self, x: Tensor) -> Tensor:
        self.x = x.view(len(x), -1, x.shape[3])
        reduce, expand = self.matrices
        self.mean = self.x.mean(1)
        self.reduced = torch.addmm(self.weights[1], self.mean, reduce.t())
        self.active = F.silu(self.reduced)
        self.gate = torch.addmm(self.weights[3], self.active, expand.t()).sigmoid_()
        return (self.x * self.gate[:, None]).view(x.shape)

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        g, (reduce, expand) = gradient.view(self.x.shape), self.matrices
        outer = _aten.sigmoid_backward((g * self.x).sum(1), self.gate)
        inner = _aten.silu_backward(outer @ expand, self.reduced)
        self.gradients = [
            (inner.t() @ self.mean).view(self.weights[0].shape),
            inner.sum(0),
            (outer.t() @ self.active).view(self.weights[2].shape),
            outer.sum(0),
        ]
        level = (inner @ reduce).mul_(1 / g.shape[1])
        return torch.addcmul(level[:, None], g, self.gate[:, None]).view(gradient.shape)


class Chain(Part):
    """Parts one after the other; with `shortcut` past them, of rows that `drop` scales."""

    def __init__(
        self, parts: list[Part], shortcut: bool = False, drop: nn.Module | None = None
    ) -> None:
        self.parts, self.shortcut = parts, shortcut
        self.weights = [w for part in parts for w in part.weights]
        scale = drop.scale if shortcut and isinstance(drop, RowDropPath) else None
        self.scale = None if scale is None else scale.view(-1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for part in self.parts:
            y = part.forward(y)
        if not self.shortcut:
            return y
        return x + y if self.scale is None else torch.addcmul(x, y, self.scale)

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        g: Tensor | None = gradient if self.scale is None else gradient * self.scale
        for part in reversed(self.parts):
            assert g is not None
            g = part.backward(g, wanted or part is not self.parts[0])
        self.gradients = [w for part in self.parts for w in part.gradients]
        return g if g is None or not self.shortcut else g + gradient


class _Run(Function):
    """A part as a function of images [N, C, H, W] and of its weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, part: Part, *weights: Tensor) -> Tensor:
        ctx.part = part
        return part.forward(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        g = gradient.permute(0, 2, 3, 1).contiguous()
        dx = ctx.part.backward(g, ctx.needs_input_grad[0])
        return None if dx is None else dx.permute(0, 3, 1, 2), None, *ctx.part.gradients


def run(part: Part, x: Tensor) -> Tensor:
    """Return what a part makes of images [N, C, H, W], with its derivative."""
    out: Tensor = _Run.apply(x, part, *part.weights)
    return out


def _chain(net: Any) -> Part:
    blocks = [_block(block) for stage in net.blocks for block in stage]
    return Chain([Stem(net.conv_stem, net.bn1), *blocks, Widen(net.conv_head, net.bn2)])


def _block(block: Any) -> Part:
    if type(block) is InvertedResidual:
        wide: list[Part] = [Widen(block.conv_pw, block.bn1)]
        norm, project, last = block.bn2, block.conv_pwl, block.bn3
    else:
        _check(type(block) is DepthwiseSeparableConv)
        wide, norm, project, last = [], block.bn1, block.conv_pw, block.bn2
    _check(block.conv_s2d is None and type(block.aa) is nn.Identity)
    deep: list[Part] = [Depthwise(block.conv_dw), Norm(norm, silu=True), Excite(block.se)]
    flat: list[Part] = [Pointwise(project), Norm(last, silu=False)]
    return Chain([*wide, *deep, *flat], block.has_skip, block.drop_path)


# What the parts know


class _Unknown(Exception):
    """A layer is not what its part computes."""


def _known(net: Any) -> bool:
    """Return whether a chain does what the layers of `net` do."""
    layers = [net.conv_stem, net.bn1, *net.blocks.modules(), net.conv_head, net.bn2]
    try:
        _chain(net)
        for layer in layers:
            _check("forward" not in vars(layer))  # as that of several processes
            _check(not layer._forward_hooks and not layer._forward_pre_hooks)
    except _Unknown:
        return False
    return not net.grad_checkpointing


def _check(known: bool) -> None:
    if not known:
        raise _Unknown


def _square(conv: Any, kernel: int | None = None, groups: int = 1) -> Any:
    """Return a convolution that keeps the size of images, but for its stride."""
    _check(type(conv) is nn.Conv2d and conv.bias is None and conv.padding_mode == "zeros")
    k, s = conv.kernel_size[0], conv.stride[0]
    _check(conv.kernel_size == (k, k) and conv.stride == (s, s) and conv.dilation == (1, 1))
    _check(k % 2 == 1 and conv.padding == (k // 2, k // 2) and (k > 1 or s == 1))
    _check(kernel in (None, k) and groups == conv.groups in (1, conv.in_channels))
    return conv


def _trained(norm: Any, act: type) -> Any:
    """Return a batch norm whose statistics are those of the batch."""
    _check(type(norm) is BatchNormAct2d and norm.training and norm.affine)
    _check(norm.track_running_stats and norm.momentum is not None)
    _check(type(norm.act) is act and type(norm.drop) is nn.Identity)
    return norm


def _normed(norm: Any, mean: Tensor, variance: Tensor, count: int) -> Tensor:
    """Let a norm follow a batch's statistics; return one over its deviation."""
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    return (variance + norm.eps).rsqrt_()


def _before_silu(gradient: Tensor, y: Tensor, sigmoid: Tensor) -> Tensor:
    """Return the gradient of the input of a SiLU with output `y`."""
    return torch.lerp(sigmoid, y.new_ones(()), y).mul_(gradient)  # s + y (1 - s)
