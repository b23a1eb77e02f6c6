"""Networks: a small compound-scaled family, any timm model, and noise that differs by row."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import safetensors.torch
import timm
import torch
from timm.layers import DropPath
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models._manipulate import group_with_matcher
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from ns_bench.data.streams import stream_seed
from ns_bench.errors import UserError, unknown
from ns_bench.recipe import own_code
from ns_bench.recipe import pretrained as weights_before

MICRO = {
    "micro-b0": (1.0, 1.0),
    "micro-b1": (1.0, 1.1),
    "micro-b2": (1.1, 1.2),
    "micro-b3": (1.2, 1.4),
    "micro-b4": (1.4, 1.8),
}
"""Width and depth coefficients of EfficientNet-B0 to -B4 (paper, appendix A.1; official code)."""

_MICRO_STAGES = [
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e4_c24_se0.25"],
    ["ir_r2_k3_s2_e4_c40_se0.25"],
]
"""EfficientNet's blocks for 8x8 to 32x32 images: 8x8 goes to 8, 4 and 2 pixels, with stem stride 1
as the official `small_image_model` lowers the first strides. Only a block that keeps its shape has
a shortcut, and only a shortcut lets stochastic depth drop the block: hence two blocks a stage."""

NANO = {"nano-20": 0.2, "nano-75": 0.75, "nano-210": 2.1}
"""Widths of `micro-b0`, of its depth, with EfficientNet's own stem of stride 2: 4,300 to 179,000
weights, where the micro family has 44,000 to 175,000. 14x14 goes to 7, 4 and 2 pixels, 28x28 to 14,
7 and 4."""


SMALL = {
    "small-b0": (1.0, 1.0),
    "small-b1": (1.0, 1.1),
    "small-b2": (1.1, 1.2),
    "small-b3": (1.2, 1.4),
    "small-b4": (1.4, 1.8),
}
"""The same coefficients, of the official `small_image_model` for images of 32 pixels: EfficientNet
at its full width, of which the second and third stage keep their resolution (32 pixels go to 16, 8
and 4)."""

_SMALL_STAGES = [
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s1_e6_c24_se0.25"],
    ["ir_r2_k5_s1_e6_c40_se0.25"],
    ["ir_r3_k3_s2_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s2_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
]


RESNET = {"micro-resnet8": 1, "micro-resnet14": 2, "micro-resnet20": 3}
"""Blocks a stage: the 6n + 2 layers of He et al. 2015 (arXiv 1512.03385, section 4.2), but for the
stem, which is ResNet-D's of three 3x3 convolutions."""


class RowDropPath(nn.Module):
    """Stochastic depth with one drop decision for each row, drawn by `NoisedNet`."""

    def __init__(self, depth: float) -> None:
        super().__init__()
        self.depth = depth  # share of the last block's rate: linear decay
        self.scale: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            return x
        scale = self.scale
        if len(x) != len(scale):  # patches of an image, folded into the batch, share its decision
            scale = scale.repeat_interleave(len(x) // len(scale))
        return x * scale.view(-1, *[1] * (x.ndim - 1))


class Normalise(nn.Module):
    """Images less their mean, over their standard deviation, which are in no state dict.

    Args:
        mean, std: float32 [C, 1, 1], in units of 0 to 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 [B, C, H, W] of images in units of 0 to 255."""
        normal = (images - self.mean) / self.std
        return normal.contiguous(memory_format=torch.channels_last)


class NoisedNet(nn.Module):
    """A timm network whose dropout and stochastic depth have a rate for each row.

    Labeled and unlabeled rows share one forward pass, and so their batch statistics, while each
    kind has its own noise (Table 6 removes noise from unlabeled rows only).

    Attributes:
        normalise: what images go through first.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.normalise: nn.Module = nn.Identity()
        self.drop_paths: list[RowDropPath] = []
        for parent in list(net.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, DropPath):
                    row_drop = RowDropPath(child.drop_prob)  # built with rate 1: i / n blocks
                    setattr(parent, name, row_drop)
                    self.drop_paths.append(row_drop)
        self.drop_features: Callable[[Tensor], Tensor] | None = None
        heads = net.get_classifier() if hasattr(net, "get_classifier") else ()
        for head in heads if isinstance(heads, tuple) else (heads,):
            head.register_forward_pre_hook(self._dropout)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile what comes before the classifier (`torch.compile`); its results are rounded
        differently. Noise is drawn outside, as it is without."""
        self.net.forward_features = torch.compile(self.net.forward_features, *args, **options)

    def _dropout(self, head: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        return None if self.drop_features is None else (self.drop_features(inputs[0]),)

    def forward(
        self,
        x: Tensor,
        dropout: Tensor | None = None,
        stochastic_depth: Tensor | None = None,
        generator: torch.Generator | None = None,
        rows: slice | Tensor = slice(None),
    ) -> Tensor:
        """Return logits [B, classes] of images [B, C, H, W].

        `dropout` and `stochastic_depth` are rates by row, float [B]; without them, or in eval
        mode, the pass has no noise. Draws come from `generator`, on the device of `x`. Rates and
        draws may be those of a larger batch, of which `x` is the rows `rows`.
        """
        x = self.normalise(x)
        scales: list[Any] = [None] * len(self.drop_paths)
        if self.training and stochastic_depth is not None and self.drop_paths:
            depth = torch.tensor([block.depth for block in self.drop_paths], dtype=x.dtype)
            depth = depth.to(x.device, non_blocking=True)
            keep = 1 - depth[:, None] * stochastic_depth
            draws = torch.rand(keep.shape, generator=generator, device=x.device)
            scales = list(((draws < keep).to(x.dtype) / keep)[:, rows])
        for block, scale in zip(self.drop_paths, scales, strict=True):
            block.scale = scale

        def drop_features(features: Tensor) -> Tensor:
            assert dropout is not None
            keep = (1 - dropout).view(-1, *[1] * (features.ndim - 1))
            shape = (len(keep), *features.shape[1:])
            draws = torch.rand(shape, generator=generator, device=x.device)
            return features * ((draws < keep).to(features.dtype) / keep)[rows]

        self.drop_features = drop_features if self.training and dropout is not None else None
        logits: Tensor = self.net(x)
        self.drop_features = None  # nothing to copy or to keep alive between passes
        return logits


def build(
    name: str,
    channels: int,
    classes: int,
    seed: int,
    generation: int,
    *more: str,
    side: int = 0,
    pretrained: str = "",
) -> NoisedNet:
    """Build the network `name` with weights drawn from the stream "init" of `seed`.

    Args:
        name: one of `MICRO`, `NANO`, `SMALL` or `RESNET`, any name that `timm.create_model`
            takes (never pretrained), or a function of your own that takes channels and classes
            (`ns_bench.recipe.own_code`).
        channels: of the input images.
        classes: of the output.
        generation: keeps a student's initial weights apart from its teacher's.
        more: names that keep one of several networks of a run apart from the first.
        side: of the images in pixels, for networks that are built for one size (vision
            transformers, mixers); 0 is the size that timm gives them.
        pretrained: a reference of `ns_bench.recipe.pretrained` to the first weights of all but the
            classifier, of a network that timm knows.

    Raises:
        UserError: a name that neither knows (the nearest is named), or weights that do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "init", generation, *more))
        check_pretrained(name, pretrained)
        if name in MICRO:
            return NoisedNet(_micro(*MICRO[name], channels, classes))
        if name in NANO:
            return NoisedNet(_micro(NANO[name], 1.0, channels, classes, stride=2))
        if name in SMALL:
            return NoisedNet(_small(*SMALL[name], channels, classes))
        if name in RESNET:
            return NoisedNet(_resnet(RESNET[name], channels, classes))
        if own_code.is_reference(name):
            return NoisedNet(own_code.load(name)(channels, classes))
        if not timm.is_model(name):
            raise unknown("model", name, [*MICRO, *NANO, *SMALL, *RESNET, *timm.list_models()])
        return NoisedNet(_timm(name, channels, classes, side, pretrained))


def check_pretrained(name: str, pretrained: str) -> None:
    """Refuse first weights for a network that timm does not know or has none of (UserError)."""
    if pretrained == "true" or (pretrained and not timm.is_model(name)):
        raise UserError(f"pretrained={pretrained}: there are no such weights of {name}")


def known(name: str) -> bool:
    """Whether `build` takes this name."""
    return name in {**MICRO, **NANO, **SMALL, **RESNET} or bool(timm.is_model(name))


def stages(name: str) -> int:
    """Return how many stages a network has before its last, the stem being one."""
    with torch.device("meta"):
        return max(_stage_of(build(name, 3, 10, 0, 0)).values())


def _stage_of(net: NoisedNet) -> dict[str, int]:
    matcher = net.net.group_matcher(coarse=True)
    found: dict[str, int] = group_with_matcher(net.net.named_modules(), matcher, reverse=True)
    return found


def freeze(net: NoisedNet, stages: int) -> None:
    """Keep weights and batch statistics of the first stages, the stem being one, as they are.

    To be called after `net.train()`, which lets batch statistics move again.

    Raises:
        UserError: the network has no stage beyond these.
    """
    if not stages:
        return
    stage_of = _stage_of(net)
    last = max(stage_of.values())  # classifier
    if stages > last:
        raise UserError(f"train.frozen={stages}: the network has {last} stages before its last")
    for name, module in net.net.named_modules():
        if stage_of[name] < stages:
            module.eval()
            for weights in module.parameters(recurse=False):
                weights.requires_grad_(False)


def _timm(name: str, channels: int, classes: int, side: int, pretrained: str) -> nn.Module:
    options: dict[str, Any] = {"in_chans": channels, "num_classes": classes, "drop_rate": 0.0}
    if name.startswith("tf_efficientnet"):
        options["bn_momentum"] = 0.01  # TensorFlow's 0.99; the epsilon is timm's, 1e-3
    options |= {"drop_path_rate": 1.0, **({"img_size": side} if side else {})}
    if pretrained:
        # timm fits them: to other channels, positions and classes (by a new classifier)
        weights = _state(pretrained)
        overlay = {"state_dict": {**weights}, "source": "", "custom_load": False}
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    while True:
        try:
            net: Any = timm.create_model(name, **options)
            if pretrained:
                _check_all(net, name, pretrained, weights)
            return net
        except (KeyError, RuntimeError) as error:
            if not pretrained:
                raise
            why = " ".join(str(error).split())[:200]
            raise UserError(f"pretrained={pretrained}: not weights of {name}: {why}") from None
        except TypeError as error:  # no stochastic depth, or images of any size
            refused = [word for word in ("drop_path_rate", "img_size") if f"'{word}'" in str(error)]
            if not refused or refused[0] not in options:
                raise
            del options[refused[0]]


def _check_all(net: Any, name: str, pretrained: str, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not all of a network's but its classifier, which timm lets pass."""
    new = net.pretrained_cfg["classifier"]
    classifiers = tuple(f"{each}." for each in ([new] if isinstance(new, str) else new))
    missing = [n for n, _ in net.named_parameters() if n not in weights]
    missing = [n for n in missing if not n.startswith(classifiers)]
    if missing:
        raise UserError(f"pretrained={pretrained}: not weights of {name}: there is no {missing[0]}")


def _state(pretrained: str) -> dict[str, Tensor]:
    """Return the tensors of a file of weights by timm's names, be it timm's or a run's."""
    try:
        state = safetensors.torch.load(weights_before.content(pretrained))
    except safetensors.SafetensorError as error:
        raise UserError(f"pretrained={pretrained}: not safetensors: {error}") from None
    return {name.removeprefix("net."): value for name, value in state.items()}


def _micro(width: float, depth: float, channels: int, classes: int, stride: int = 1) -> nn.Module:
    scale = partial(round_channels, multiplier=width, divisor=4)
    net = EfficientNet(
        decode_arch_def(_MICRO_STAGES, depth_multiplier=depth),
        in_chans=channels,
        num_classes=classes,
        stem_size=16,
        num_features=scale(96),
        round_chs_fn=scale,
        act_layer=nn.SiLU,
        # Batch norm at PyTorch's momentum: EfficientNet's 0.99 (0.01 here) does not settle within
        # the few hundred steps that small data affords. Epsilon as in the official code.
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3),
        drop_path_rate=1.0,
    )
    net.conv_stem.stride = (stride, stride)  # timm fixes it at 2, too much for 8x8 images
    return net


def _resnet(blocks: int, channels: int, classes: int) -> nn.Module:
    """Three stages of 16, 32 and 64 channels; 8x8 images go to 8, 4 and 2 pixels."""
    block: Any = BasicBlock  # timm says it takes an instance
    net: Any = ResNet(
        block,
        (blocks,) * 3,
        channels=(16, 32, 64),
        in_chans=channels,
        num_classes=classes,
        stem_type="deep",
        stem_width=8,
        drop_path_rate=1.0,
    )
    net.conv1[0].stride = (1, 1)
    net.maxpool, net.layer4 = nn.Identity(), nn.Identity()  # timm's has a fourth stage
    return net


def _small(width: float, depth: float, channels: int, classes: int) -> nn.Module:
    scale = partial(round_channels, multiplier=width, divisor=8)
    return EfficientNet(
        decode_arch_def(_SMALL_STAGES, depth_multiplier=depth),
        in_chans=channels,
        num_classes=classes,
        num_features=scale(1280),
        round_chs_fn=scale,
        act_layer=nn.SiLU,
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01),  # TensorFlow's 0.99
        drop_path_rate=1.0,
    )
