"""Predictions in chunks; scores of logits: accuracy, loss, calibration."""

import pytest
import torch
from builders import seeded
from torch import Tensor, nn

from ns_bench.selftrain.evaluate import predict, score


def test_score_of_a_worked_example() -> None:
    """Confidences .9 (right), .8 (wrong), .6 (right), .55 (wrong), in bins of a fifth."""
    confidence = torch.tensor([0.9, 0.85, 0.7, 0.55])
    logits = torch.stack([confidence.log(), (1 - confidence).log()], 1)
    found = score(logits, torch.tensor([0, 1, 0, 1]), bins=5)
    assert found["top1"] == pytest.approx(50.0)
    # bin .8-1: two rows, accuracy .5, confidence .875; .6-.8: 1 and .7; .4-.6: 0 and .55
    ece = 2 / 4 * abs(0.5 - 0.875) + 1 / 4 * abs(1 - 0.7) + 1 / 4 * abs(0 - 0.55)
    assert found["ece"] == pytest.approx(100 * ece, rel=1e-4)
    right = torch.tensor([0.9, 0.15, 0.7, 0.45])
    assert found["loss"] == pytest.approx(-right.log().mean().item(), rel=1e-4)
    assert "top5" not in found


def test_gaps_of_one_bin_cancel_and_of_two_do_not() -> None:
    confidence = torch.tensor([0.76, 0.74, 0.76, 0.74])
    logits = torch.stack([confidence.log(), (1 - confidence).log()], 1)
    labels = torch.tensor([0, 0, 0, 1])
    assert score(logits, labels, bins=1)["ece"] == pytest.approx(0.0, abs=1e-4)
    apart = score(logits, labels, bins=4)["ece"]  # .76 twice right; .74 once of twice
    assert apart == pytest.approx(100 * (0.5 * 0.24 + 0.5 * 0.24), rel=1e-3)


def test_certain_rows_are_in_the_last_bin() -> None:
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    assert score(logits, torch.tensor([0, 1]))["ece"] == pytest.approx(0.0)
    assert score(logits, torch.tensor([1, 0]))["ece"] == pytest.approx(100.0)


def test_top5_needs_more_than_ten_classes() -> None:
    logits = torch.arange(11.0).repeat(3, 1)
    found = score(logits, torch.tensor([10, 6, 5]))
    assert found["top1"] == pytest.approx(100 / 3)
    assert found["top5"] == pytest.approx(200 / 3)  # the five highest are 10, 9, 8, 7 and 6
    assert "top5" not in score(logits[:, :10], torch.tensor([1, 2, 3]))


@pytest.mark.parametrize(("side", "largest"), [(8, 512), (32, 64), (224, 16)])
def test_predictions_come_in_chunks_that_fit_a_cache(side: int, largest: int) -> None:
    """However they are cut, every row has what it has alone, and they keep their order."""
    seen = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, -1.0]))

        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return (x.float() / 50).mean((1, 2, 3))[:, None] * self.weight

    images = torch.randint(0, 256, (513, 1, side, side), dtype=torch.uint8, generator=seeded())
    found = predict(Net(), images)
    alone = torch.cat([predict(Net(), image[None]) for image in images])
    assert torch.allclose(found, alone, atol=1e-6)
    assert max(seen) == largest
