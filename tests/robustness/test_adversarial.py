"""Attacks against an independent library (foolbox) on the same network, and what each must keep."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from ns_bench.robustness.adversarial import fgsm, gradient, pgd
from ns_bench.selftrain.models import Normalise, build

pytestmark = pytest.mark.slow

MEAN, STD = torch.tensor([[[70.0]]]), torch.tensor([[[90.0]]])


@pytest.fixture(scope="module")
def attacked():
    """A network with batch norm statistics of its own, images at its edges too, and labels."""
    random = torch.Generator().manual_seed(0)
    net = build("micro-b0", 1, 10, 0, 0)
    images = torch.randint(256, (24, 1, 8, 8), generator=random).float()
    labels = torch.randint(10, (24,), generator=random)
    net.normalise = Normalise(MEAN, STD)
    net.train()
    for _ in range(5):
        net(images)
    return net.eval(), images, labels


def loss(net, images, labels):
    with torch.inference_mode():
        return cross_entropy(net(images), labels, reduction="none")


@pytest.mark.parametrize("epsilon", [1, 8, 16])
def test_they_are_those_of_an_independent_library(attacked, epsilon):
    foolbox = pytest.importorskip("foolbox", exc_type=ImportError)
    net, images, labels = attacked
    scaled = {"mean": [0.0], "std": [1 / 255], "axis": -3}
    model = foolbox.PyTorchModel(net, bounds=(0, 1), preprocessing=scaled, device="cpu")
    steepest = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    climbing = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=2.5 * epsilon / 10 / 255, steps=10, random_start=False
    )
    for attack, ours in [
        (steepest, fgsm(net, images, labels, epsilon)),
        (climbing, pgd(net, images, labels, epsilon)),
    ]:
        _, theirs, _ = attack(model, images / 255, labels, epsilons=epsilon / 255)
        # a gradient that is nearly nothing may have either sign
        same = ((ours / 255 - theirs).abs() < 1e-5).float().mean()
        assert same > 0.98
        torch.testing.assert_close(
            loss(net, ours, labels), loss(net, 255 * theirs, labels), rtol=0.02, atol=0.02
        )


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_an_attack_stays_in_its_ball_and_raises_the_loss(attack, attacked):
    net, images, labels = attacked
    done = attack(net, images, labels, 8)
    assert (done - images).abs().max() <= 8 + 1e-4
    assert done.min() >= 0 and done.max() <= 255
    assert (loss(net, done, labels) > loss(net, images, labels)).float().mean() > 0.9
    assert torch.equal(attack(net, images, labels, 0), images)


def test_pgd_beats_fgsm_and_starts_where_it_is_told(attacked):
    net, images, labels = attacked
    one = fgsm(net, images, labels, 16)
    ten = pgd(net, images, labels, 16)
    assert loss(net, ten, labels).mean() > loss(net, one, labels).mean()
    far = images + 100
    still = pgd(net, images, labels, 16, steps=1, step_size=0, start=far)
    assert torch.equal(still, (images + 16).clamp(max=255)), "a start outside is pulled in"


def test_the_gradient_is_in_pixels_of_a_network_in_eval_mode(attacked):
    net, images, labels = attacked
    net.train()
    net.zero_grad(set_to_none=True)  # the library leaves some
    statistics = {k: v.clone() for k, v in net.state_dict().items()}
    found = gradient(net, images, labels)
    assert not net.training
    assert all(torch.equal(v, statistics[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()), "weights gather no gradient"
    # the steepest of the pixels, by a central difference
    row, place = 0, int(found[0].abs().argmax())
    step = torch.zeros_like(images[:1]).flatten()
    step[place] = 0.5
    step = step.view_as(images[:1])
    first, truth = images[row : row + 1].double(), labels[row : row + 1]
    net.double()
    up, down = (cross_entropy(net(first + sign * step), truth) for sign in (1, -1))
    net.float()
    assert found.flatten(1)[row, place].item() == pytest.approx((up - down).item(), rel=0.05)
