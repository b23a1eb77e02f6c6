"""Losses of rows that have targets, and what each row weighs in a batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from ns_bench.errors import UserError
from ns_bench.recipe import own_code


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each row's cross entropy in nats, float32 [..., rows].

    Args:
        logits: [..., rows, classes]; targets: distributions, [rows, classes].
    """
    return -(targets * logits.log_softmax(-1)).sum(-1)


Criterion = Callable[[Tensor, Tensor], Tensor]
"""Returns each row's loss, float32 [..., rows], of logits and targets as `cross_entropy`."""


CRITERIA: dict[str, Criterion] = {"cross-entropy": cross_entropy}
"""Losses of rows that have targets, by the name that `train.criterion` takes."""


def criterion_of(name: str) -> Criterion:
    """Return the loss that `train.criterion` names.

    Raises:
        UserError: your own cannot be loaded; or, when it is called, it is not one of rows.
    """
    if name in CRITERIA:
        return CRITERIA[name]
    own = own_code.load(name)

    def of_rows(logits: Tensor, targets: Tensor) -> Tensor:
        losses: Tensor = own(logits, targets)
        if losses.shape != logits.shape[:-1]:  # a mean would be taken for that of every row
            raise UserError(
                f"train.criterion={name}: it returns a tensor of {list(losses.shape)}, expected "
                f"{list(logits.shape[:-1])}: a loss for each row, as by reduction='none'"
            )
        return losses

    return of_rows


def distilled_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return each row's cross entropy with the teacher's softened distribution, float32 [rows].

    Scaled by the square of the temperature (Hinton et al. 2015, section 2). Both logits: [rows,
    classes].
    """
    softened = (teacher / temperature).softmax(-1)
    return cross_entropy(logits / temperature, softened) * temperature**2


def loss_weights(loss: str, labeled: int, unlabeled: int) -> Tensor:
    """Return the weight of each row's cross entropy, float32 [labeled + unlabeled].

    The three weightings the paper's text, its Algorithm 1 and its code disagree on; rows of one
    kind alone have their mean.
    """
    if not (labeled and unlabeled):
        return torch.full((labeled + unlabeled,), 1 / (labeled + unlabeled))
    ratio = unlabeled // labeled
    share = {
        "sum": (1.0, 1.0),
        "mean": (1 / (1 + ratio), ratio / (1 + ratio)),
        "ratio": (1.0, float(ratio)),
    }[loss]
    return torch.cat(
        [torch.full((labeled,), share[0] / labeled), torch.full((unlabeled,), share[1] / unlabeled)]
    )
