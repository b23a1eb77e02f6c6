"""Attacks within a ball of the largest change of a pixel: FGSM and PGD.

A network is attacked as it is evaluated: in eval mode, with the normalisation inside, so that sizes
are in the units of pixels. Attacked images are not rounded to whole values, as usual.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

PGD_STEPS = 10


def fgsm(net: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Move each pixel by `epsilon` up the loss of the true label (Goodfellow et al. 2015).

    Args:
        images: float32 [B, C, H, W] from 0 to 255, on the net's device.
        labels: int64 [B].
        epsilon: in units of 0-255.

    Returns:
        float32 [B, C, H, W] from 0 to 255.
    """
    step = epsilon * gradient(net, images, labels).sign()
    return (images + step).clamp(0, 255)


def pgd(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    steps: int = PGD_STEPS,
    step_size: float | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """Climb the loss in `steps`, back into the ball after each (Madry et al. 2018).

    Arguments and result are those of `fgsm`, and:
        step_size: in units of 0-255; by default 2.5 epsilon / steps, Madry's rule.
        start: the point of the ball from which it climbs; by default the image itself.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=255)
    attacked = images if start is None else start.clamp(low, high)
    for _ in range(steps):
        step = size * gradient(net, attacked, labels).sign()
        attacked = (attacked + step).clamp(low, high)
    return attacked


def gradient(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of each image's loss by its pixels; the net is in eval mode after it."""
    net.eval()
    with torch.enable_grad():
        pixels = images.detach().clone().requires_grad_(True)
        loss = cross_entropy(net(pixels), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, pixels)
    return gradient
