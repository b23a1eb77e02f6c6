"""EfficientNets on a CPU in less time: their training, and their predictions.

`fast` changes the class of a built network, in place; its weights, buffers and their names stay.
While it is trained, stem, blocks and head are then one function of autograd: a chain of `Part`s,
each of which knows its own derivative. Results are those of the plain layers, to rounding. What a
part gains over torch's own kernels:

- 1x1 convolutions are products of matrices;
- batch norm takes several pixels with few channels as one with many: torch's kernels work on the
  channels of one pixel at a time;
- SiLU keeps its sigmoid, so that its derivative needs no exponential;
- a depthwise convolution of images smaller than its kernel has no kernel in oneDNN for the gradient
  of its weights, and is 20 to 60 times as slow: it is padded; larger kernels go tap by tap;
- the stem is a product of matrices, and its input gets no gradient;
- squeeze-excite is one part instead of thirteen operations.

Where a chain cannot run (`_runs`), the plain layers do.

`folded` copies a network for prediction, with batch norm inside its convolutions.
"""

import copy
from functools import lru_cache
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
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ns_bench.selftrain.models import RowDropPath

OWN_NORM = 2**17
"""Elements from which on batch norm of several pixels at once is faster than torch's."""

_aten = torch.ops.aten


def fast(net: nn.Module) -> nn.Module:
    """Let the EfficientNets within `net` train faster on a CPU; return `net`.

    Networks of other families stay as they are.
    """
    for module in net.modules():
        if type(module) is EfficientNet:
            module.__class__ = FastEfficientNet
    return net


def folded(net: nn.Module) -> nn.Module:
    """Return a copy of `net` for prediction, in eval mode: batch norm is inside its convolutions.

    Logits are those of `net` in eval mode, to rounding. Only EfficientNets are folded.
    """
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        for names in _PAIRS.get(type(module), ()):
            conv, norm = (getattr(module, name) for name in names)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
                setattr(module, names[0], fuse_conv_bn_eval(conv, norm))
                setattr(module, names[1], norm.act)
    return net


class Part:
    """One step of a chain. Images are float32 [N, H, W, C], contiguous.

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


class Pointwise(Part):
    """A 1x1 convolution."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.weights = [conv.weight]
        self.matrix = conv.weight.detach().flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        self.rows = x.view(-1, x.shape[3])
        return _product(self.rows, self.matrix.t()).view(*x.shape[:3], -1)

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        rows = gradient.view(-1, gradient.shape[3])
        self.gradients = [_outer(rows, self.rows).view(self.weights[0].shape)]
        return _product(rows, self.matrix).view(*gradient.shape[:3], -1) if wanted else None


class Stem(Part):
    """A convolution of images with few channels, which get no gradient."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.weights = [conv.weight]
        self.stride, self.padding = conv.stride[0], int(conv.padding[0])

    def forward(self, x: Tensor) -> Tensor:
        weight, s, p = self.weights[0].detach(), self.stride, self.padding
        padded, (n, h, w, c), k = F.pad(x, (0, 0, p, p, p, p)), x.shape, weight.shape[2]
        h, w = (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1
        taps = x.new_empty(c, k, k, n, h, w)
        for i in range(k):
            for j in range(k):
                seen = padded[:, i : i + s * h : s, j : j + s * w : s]
                taps[:, i, j] = seen.permute(3, 0, 1, 2)
        self.taps = taps.view(c * k * k, -1)
        return _product(self.taps.t(), weight.flatten(1).t()).view(n, h, w, -1)

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        assert not wanted
        of_weight = self.taps @ gradient.view(-1, gradient.shape[3])
        self.gradients = [of_weight.t().reshape(self.weights[0].shape)]
        return None


class Depthwise(Part):
    """A convolution of each channel by itself."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.weights = [conv.weight]
        self.stride, self.padding = conv.stride[0], int(conv.padding[0])

    def forward(self, x: Tensor) -> Tensor:
        self.x, weight = x.permute(0, 3, 1, 2), self.weights[0].detach()
        y = F.conv2d(self.x, weight, None, self.stride, self.padding, groups=len(weight))
        return y.permute(0, 2, 3, 1).contiguous()

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        g, x, p = gradient.permute(0, 3, 1, 2), self.x, self.padding
        weight = self.weights[0].detach()
        if weight.shape[2] > 3:
            self.gradients = [self._tap_by_tap(gradient)]
        elif min(x.shape[2:]) < weight.shape[2]:
            self.gradients = [self._torch(g, F.pad(x, (p, p, p, p)), 0, 1)]
        else:
            self.gradients = [self._torch(g, x, p, 1)]
        if not wanted:
            return None
        if self.stride == 1:  # a convolution, with the kernel turned around
            dx = F.conv2d(g, weight.flip(2, 3), None, 1, p, groups=len(weight))
        else:
            dx = self._torch(g, x, p, 0)
        return dx.permute(0, 2, 3, 1).contiguous()

    def _torch(self, g: Tensor, x: Tensor, padding: int, which: int) -> Tensor:
        """Return the gradient of the input (0), or of the weights (1)."""
        weight, s = self.weights[0].detach(), (self.stride,) * 2
        found: list[Tensor] = _aten.convolution_backward(
            g, x, weight, None, s, (padding,) * 2, (1, 1), False, (0, 0), len(weight),
            [which == 0, which == 1, False],
        )  # fmt: skip
        return found[which]

    def _tap_by_tap(self, g: Tensor) -> Tensor:
        p, s, weight = self.padding, self.stride, self.weights[0]
        x, (h, w) = F.pad(self.x, (p, p, p, p)).permute(0, 2, 3, 1), g.shape[1:3]
        taps = [
            (x[:, i : i + s * h : s, j : j + s * w : s] * g).view(-1, len(weight)).sum(0)
            for i in range(weight.shape[2])
            for j in range(weight.shape[3])
        ]
        return torch.stack(taps, 1).view(weight.shape)


class Norm(Part):
    """Batch norm by the batch's statistics, and SiLU if `silu`.

    Several pixels count as one with as many times the channels; `shared`, a matrix, takes the mean
    over these. Few elements go through torch's own kernels: fewer calls.
    """

    def __init__(self, norm: Any, silu: bool) -> None:
        self.weights = [norm.weight, norm.bias]
        self.norm, self.silu = norm, silu

    def forward(self, x: Tensor) -> Tensor:
        self.norm.num_batches_tracked.add_(1)
        self.own = x.numel() >= OWN_NORM
        y = self._own(x) if self.own else self._torch(x)
        if self.silu:
            self.sigmoid = torch.sigmoid(y)
            self.y = y.mul_(self.sigmoid)
        return y.view(x.shape)

    def _torch(self, x: Tensor) -> Tensor:
        norm, (weight, bias) = self.norm, (w.detach() for w in self.weights)
        self.rows = x.view(-1, x.shape[3])
        y, self.mean, self.deviation = torch.native_batch_norm(
            _image(self.rows), weight, bias, norm.running_mean, norm.running_var,
            True, norm.momentum, norm.eps,
        )  # fmt: skip
        return y.permute(0, 2, 3, 1)

    def _own(self, x: Tensor) -> Tensor:
        norm, (weight, bias), channels = self.norm, (w.detach() for w in self.weights), x.shape[3]
        count = x.numel() // channels
        self.group = group = _pixels_at_once(count, channels)
        self.rows = x.view(-1, group * channels)
        mean, variance = torch.batch_norm_update_stats(_image(self.rows), None, None, 0.0)
        self.shared = _shared(group, channels)
        of_group, mean = mean, self.shared @ mean
        between = of_group.sub_(mean)
        variance = self.shared @ variance.addcmul_(between, between)
        unbiased = norm.momentum * count / (count - 1)
        norm.running_mean.lerp_(mean[:channels], norm.momentum)
        norm.running_var.mul_(1 - norm.momentum).add_(variance[:channels], alpha=unbiased)
        self.mean, self.deviation = mean, variance.add_(norm.eps).rsqrt_()
        self.scale = self.deviation * torch.cat([weight] * group)
        shift = torch.addcmul(torch.cat([bias] * group), mean, self.scale, value=-1)
        return torch.addcmul(shift, self.rows, self.scale)

    def backward(self, gradient: Tensor, wanted: bool) -> Tensor | None:
        g = gradient.view(self.rows.shape)
        if self.silu:  # s + y (1 - s)
            g = torch.lerp(self.sigmoid, _ONE, self.y).view(g.shape).mul_(g)
        weight = None if self.own else self.weights[0].detach()
        dx, along, level = _aten.native_batch_norm_backward(
            _image(g), _image(self.rows), weight, None, None, self.mean, self.deviation,
            True, 0.0, [not self.own, True, True],
        )  # fmt: skip
        if not self.own:
            self.gradients = [along, level]
            return dx.permute(0, 2, 3, 1).view(gradient.shape)
        along, level, channels = self.shared @ along, self.shared @ level, gradient.shape[3]
        self.gradients = [w[:channels] * self.group for w in (along, level)]
        slope = (self.deviation * self.scale).mul_(along).mul_(-1 / len(g))
        shift = torch.addcmul((level * self.scale).mul_(-1 / len(g)), slope, self.mean, value=-1)
        dx = torch.addcmul(shift, self.rows, slope).addcmul_(g, self.scale)
        return dx.view(gradient.shape)


class Excite(Part):
    """Squeeze and excitation."""

    def __init__(self, se: Any) -> None:
        reduce, expand = se.conv_reduce, se.conv_expand
        self.weights = [reduce.weight, reduce.bias, expand.weight, expand.bias]
        self.matrices = [w.detach().flatten(1) for w in (reduce.weight, expand.weight)]

    def forward(self, x: Tensor) -> Tensor:
        self.x = x.view(len(x), -1, x.shape[3])
        reduce, expand = self.matrices
        self.mean = self.x.mean(1)
        self.reduced = torch.addmm(self.weights[1].detach(), self.mean, reduce.t())
        self.active = F.silu(self.reduced)
        self.gate = torch.addmm(self.weights[3].detach(), self.active, expand.t()).sigmoid_()
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


class FastEfficientNet(EfficientNet):
    """timm's, of which stem, blocks and head are a chain while it is trained on a CPU."""

    def forward_features(self, x: Tensor) -> Tensor:
        if not _runs(self, x):
            plain: Tensor = super().forward_features(x)
            return plain
        stem: list[Part] = [Stem(self.conv_stem), Norm(self.bn1, silu=True)]
        stages: Any = self.blocks
        blocks = [_block(block) for stage in stages for block in stage]
        head: list[Part] = [Pointwise(self.conv_head), Norm(self.bn2, silu=True)]
        return run(Chain([*stem, *blocks, *head]), x)


def _block(block: Any) -> Part:
    """Return the chain of a block that `_known` knows."""
    if isinstance(block, InvertedResidual):
        wide: list[Part] = [Pointwise(block.conv_pw), Norm(block.bn1, silu=True)]
        norm, project, last = block.bn2, block.conv_pwl, block.bn3
    else:
        wide, norm, project, last = [], block.bn1, block.conv_pw, block.bn2
    deep: list[Part] = [Depthwise(block.conv_dw), Norm(norm, silu=True), Excite(block.se)]
    flat: list[Part] = [Pointwise(project), Norm(last, silu=False)]
    return Chain([*wide, *deep, *flat], block.has_skip, block.drop_path)


def _runs(net: Any, x: Tensor) -> bool:
    """Return whether a chain does what the plain layers do: in training, and on a CPU.

    Not where batch norm has another forward (that of several processes), or keeps its statistics.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or x.requires_grad:
        return False
    if not net.training or net.grad_checkpointing or torch.compiler.is_compiling():
        return False
    layers = [net.conv_stem, net.bn1, net.conv_head, net.bn2]
    blocks = [block for stage in net.blocks for block in stage]
    return all(map(_known, blocks)) and all(
        _known_layer(layer) for module in (*layers, *blocks) for layer in module.modules()
    )


def _known(block: nn.Module) -> bool:
    if type(block) not in (InvertedResidual, DepthwiseSeparableConv):
        return False
    last = block.bn3 if type(block) is InvertedResidual else block.bn2
    return (
        block.conv_s2d is None
        and type(block.se) is SqueezeExcite
        and type(block.aa) is nn.Identity
        and type(block.drop_path) in (nn.Identity, RowDropPath)
        and type(last.act) is nn.Identity
        and all(w.shape[2:] == (1, 1) for w in _pointwise_weights(block))
    )


def _pointwise_weights(block: Any) -> list[Tensor]:
    last = [block.conv_pwl.weight] if isinstance(block, InvertedResidual) else []
    return [block.conv_pw.weight, *last]


def _known_layer(layer: nn.Module) -> bool:
    if "forward" in vars(layer):
        return False
    if isinstance(layer, nn.Conv2d):
        square = layer.stride[0] == layer.stride[1] and layer.kernel_size[0] == layer.kernel_size[1]
        return type(layer) is nn.Conv2d and square and not isinstance(layer.padding, str)
    if isinstance(layer, BatchNormAct2d):
        return layer.training and layer.affine and None not in (layer.momentum, layer.running_var)
    return type(layer) in _PLAIN


_PLAIN = (
    nn.Identity, nn.SiLU, nn.Sigmoid, RowDropPath, SqueezeExcite, InvertedResidual,
    DepthwiseSeparableConv,
)  # fmt: skip

_EFFICIENTNET = (("conv_stem", "bn1"), ("conv_head", "bn2"))
_PAIRS: dict[type, tuple[tuple[str, str], ...]] = {
    EfficientNet: _EFFICIENTNET,
    FastEfficientNet: _EFFICIENTNET,
    DepthwiseSeparableConv: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}
"""Convolutions, and the batch norm that follows each directly."""


def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return rows [R, K] times matrix [K, M]; MKL takes four times as long for few columns."""
    if matrix.shape[1] < 12 and len(rows) > 1000 and torch.backends.mkldnn.is_available():
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, matrix.t(), None, "none", [], "")
        return out
    return rows @ matrix


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """Return left [R, A] transposed times right [R, B]; the wider is better on the right."""
    if left.shape[1] > right.shape[1]:
        return (right.t() @ left).t().contiguous()
    return left.t() @ right


def _pixels_at_once(count: int, channels: int) -> int:
    group = 1
    while group * channels < 128 and count % (2 * group) == 0:
        group *= 2
    return group


@lru_cache
def _shared(group: int, channels: int) -> Tensor:
    """Return the matrix that replaces each of group * channels values by its mean over groups."""
    return torch.eye(channels).repeat(group, group) / group


def _image(rows: Tensor) -> Tensor:
    """Return rows [R, C] as one image [1, C, R, 1] of channels last."""
    count, channels = rows.shape
    return rows.as_strided((1, channels, count, 1), (count * channels, 1, channels, channels))


_ONE = torch.ones(())
