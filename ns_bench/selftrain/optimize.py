"""Updates of the weights and of their average, and the learning rate."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from timm.optim import Lion, RMSpropTF
from torch import Tensor, nn

from ns_bench.recipe import Train


def learning_rate(spec: Train, epoch: float) -> float:
    """Return the rate at `epoch` (a fraction, over labeled rows): linear warm-up, then decay.

    Training asks for the epoch that a step ends, the official code for the one that it begins: its
    schedule is one step behind, and its first step has a rate of 0.
    """
    if epoch < spec.warmup_epochs:
        return spec.lr * epoch / spec.warmup_epochs
    if spec.schedule == "staircase":
        return spec.lr * spec.decay_rate ** int(epoch / spec.decay_epochs)
    progress = (epoch - spec.warmup_epochs) / max(spec.epochs - spec.warmup_epochs, 1e-9)
    return spec.lr * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(progress, 1))).item())


NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def weight_groups(
    net: nn.Module, biases: bool = False
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trainable weights that decay, and the rest: norms, what timm says of a network
    (its positions, its class token) and, unless `biases` decay as in the official code, biases."""
    kept = {id(p) for m in net.modules() if isinstance(m, NORMS) for p in m.parameters(False)}
    for module in net.modules():
        names: Iterable[str] = getattr(module, "no_weight_decay", tuple)()
        kept |= {id(p) for name, p in module.named_parameters() if name in names}
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for p in net.parameters():
        if p.requires_grad:
            spared = id(p) in kept or (p.ndim <= 1 and not biases)
            groups[spared].append(p)
    return groups


def make_optimizer(groups: Sequence[Sequence[nn.Parameter]], spec: Train) -> torch.optim.Optimizer:
    """Build the optimiser of some weights that decay and of some that do not.

    Weight decay is apart from the gradient in AdamW (Loshchilov & Hutter, arXiv 1711.05101) and
    Lion (Chen et al., arXiv 2302.06675), and part of it in the others. Many tensors are updated by
    one call, bit for bit as one by one; on a GPU SGD and AdamW are fused.
    """
    decayed, rest = groups
    options: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": spec.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    betas = (spec.momentum, spec.beta2)
    if spec.optimizer == "rmsprop":  # decay 0.9 and epsilon 1e-3 inside the root, as in TensorFlow
        return RMSpropTF(
            options, lr=spec.lr, alpha=0.9, eps=1e-3, momentum=spec.momentum, foreach=True
        )
    if spec.optimizer == "lion":
        return Lion(options, lr=spec.lr, betas=betas, foreach=True)
    how = {"fused": True} if decayed[0].is_cuda else {"foreach": True}
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(options, lr=spec.lr, betas=betas, **how)
    nesterov = spec.momentum > 0
    return torch.optim.SGD(options, lr=spec.lr, momentum=spec.momentum, nesterov=nesterov, **how)


class State:
    """What a run is after a step: its weights, their average, and what the optimiser keeps.

    Attributes:
        net: is trained. average: its averaged weights, in eval mode.
    """

    def __init__(self, net: nn.Module, spec: Train) -> None:
        self.spec = spec
        self.net, self.average = net, copy.deepcopy(net).eval()
        self._weights = EndToEnd(self.net, spec.decay_biases)
        self._averages = EndToEnd(self.average, spec.decay_biases)
        self._optimizer = make_optimizer([[tensor] for tensor in self._weights.weights], spec)

    def update(self, rate: float, step: int) -> None:
        """Take the step of the gradients that `net` has, at a learning rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._weights.take_gradients()
        if self.spec.clip_grad:
            nn.utils.clip_grad_norm_(self._weights.weights, self.spec.clip_grad)
        self._optimizer.step()
        update_average(self._averages.tensors, self._weights.tensors, self.spec.ema, step)

    def saved(self, step: int, parts: int) -> dict[str, Any]:
        """Return all that is needed to go on after `step` steps, batches in `parts` parts."""
        return {
            "step": step,
            "parts": parts,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, saved: Mapping[str, Any]) -> int:
        """Take what `saved` returned; returns the number of steps done."""
        self.net.load_state_dict(saved["net"])
        self.average.load_state_dict(saved["average"])
        self._optimizer.load_state_dict(saved["optimizer"])
        return int(saved["step"])


class EndToEnd:
    """The trainable weights of a network, laid end to end in two tensors, of which they become
    views: those that decay, and the rest.

    Calls for many small tensors cost by their number: the update of two takes less time, with the
    same results to the bit, and a checkpoint writes each storage once.

    Attributes:
        weights: the two tensors, float32 [weights].
        tensors: these, and the network's batch statistics: what is averaged.
    """

    def __init__(self, net: nn.Module, decay_biases: bool = False) -> None:
        self._groups = weight_groups(net, decay_biases)
        self.weights = [nn.Parameter(_end_to_end(group)) for group in self._groups]
        for group, laid in zip(self._groups, self.weights, strict=True):
            parts = laid.detach().split([weight.numel() for weight in group])
            for weight, part in zip(group, parts, strict=True):
                weight.data = part.as_strided(weight.shape, weight.stride(), part.storage_offset())
        kept = net.state_dict(keep_vars=True).values()
        statistics = [t for t in kept if not isinstance(t, nn.Parameter) and t.is_floating_point()]
        self.tensors: list[Tensor] = [*self.weights, *statistics]

    def take_gradients(self) -> None:
        """Move the gradients of the network's weights to the two tensors."""
        for group, laid in zip(self._groups, self.weights, strict=True):
            # that of a weight the network has, but does not use, is missing
            gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in group]
            laid.grad = _end_to_end(gradients)
            for weight in group:
                weight.grad = None


def _end_to_end(tensors: Sequence[Tensor]) -> Tensor:
    """Return the elements of dense tensors in the order of memory, float32 [elements].

    Autograd gives a gradient the strides of its weight.
    """
    lines = [t.detach().as_strided((t.numel(),), (1,), t.storage_offset()) for t in tensors]
    return torch.cat(lines) if lines else torch.zeros(0)


@torch.no_grad()
def update_average(
    average: Sequence[Tensor], followed: Sequence[Tensor], decay: float, step: int
) -> None:
    """Move each average towards what it follows (with TensorFlow's warm-up of the decay)."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average), list(followed), 1 - decay)
