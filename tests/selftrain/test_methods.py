"""Methods beside Noisy Student: each one's loss on an example worked out by hand; training."""

import copy
import dataclasses
import math
from typing import Any

import pytest
import safetensors.torch
import torch
from builders import rows_of, seeing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ns_bench.data import split
from ns_bench.data.split import Dataset
from ns_bench.errors import UserError
from ns_bench.execute.run_one import run_one
from ns_bench.execute.trained import network_of
from ns_bench.recipe import Recipe, RowNoise
from ns_bench.runs.store import LOGITS, MODEL, Store
from ns_bench.selftrain.evaluate import predict, predict_noised, predict_views
from ns_bench.selftrain.loss import cross_entropy, distilled_loss
from ns_bench.selftrain.methods import Batch, Pair, halves, method_of, network
from ns_bench.selftrain.models import build
from ns_bench.selftrain.noise import weak
from ns_bench.selftrain.train import Lesson, train

METHODS = ("pi-model", "mean-teacher", "uda", "fixmatch", "co-training")
TINY = {"train.epochs": 2, "train.lr": 0.02, "pseudo.threshold": 0.0}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return split.load(Recipe().data, 0)


def online(method: str, **fields: Any) -> Recipe:
    more = {name.replace("__", "."): value for name, value in fields.items()}
    return Recipe.of({**TINY, "consistency.method": method, **more})


def student(**fields: Any) -> Recipe:
    more = {name.replace("__", "."): value for name, value in fields.items()}
    return Recipe.of({**TINY, **more}, Recipe.of(TINY))


def method(name: str, **fields: Any) -> Any:
    return method_of(online(name, **{f"consistency__{k}": v for k, v in fields.items()}))


def batch_of(targets: Tensor, labeled: int) -> Batch:
    """A batch of which only targets and the number of labeled rows matter."""
    return Batch(0, torch.zeros(0), None, targets, torch.arange(labeled))


def of(*probabilities: tuple[float, ...]) -> Tensor:
    """Logits that have these probabilities."""
    return torch.tensor(probabilities).log()


# Losses, by hand

AGREES, DIFFERS = (0.6, 0.3, 0.1), (0.2, 0.7, 0.1)


@pytest.mark.parametrize("name", ["pi-model", "mean-teacher"])
def test_the_squared_error_of_probabilities(name):
    """(0.4^2 + 0.4^2 + 0^2) / 3, and none where both agree."""
    loss = method(name).unlabeled_loss(of(AGREES, AGREES), of(DIFFERS, AGREES))
    torch.testing.assert_close(loss, torch.tensor([0.32 / 3, 0.0]))


def test_uda_is_the_divergence_from_a_sharpened_label_where_it_is_confident():
    """At temperature 0.5 the label (0.2, 0.7, 0.1) goes to (0.04, 0.49, 0.01) / 0.54."""
    uda = method("uda", threshold=0.65, temperature=0.5)
    loss = uda.unlabeled_loss(of(AGREES, AGREES), of(DIFFERS, AGREES))  # 0.7 and 0.6 confident
    label = [0.04 / 0.54, 0.49 / 0.54, 0.01 / 0.54]
    expected = sum(q * math.log(q / p) for q, p in zip(label, AGREES, strict=True))
    torch.testing.assert_close(loss, torch.tensor([expected, 0.0]))


@pytest.mark.parametrize("name", ["fixmatch", "co-training"])
def test_fixmatch_is_the_cross_entropy_with_the_top_class_where_it_is_confident(name):
    labeler = of((0.2, 0.75, 0.05), AGREES)
    loss = method(name, threshold=0.7).unlabeled_loss(of(AGREES, AGREES), labeler)
    torch.testing.assert_close(loss, torch.tensor([-math.log(0.3), 0.0]))


def test_distillation_by_hand():
    """At temperature 2 probabilities are as the roots of those at 1; the loss is 4 times larger."""
    teacher, own = (0.64, 0.36), (0.25, 0.75)
    label = [0.8 / 1.4, 0.6 / 1.4]
    root = [0.5, math.sqrt(0.75)]
    expected = -4 * sum(q * math.log(p / sum(root)) for q, p in zip(label, root, strict=True))
    loss = distilled_loss(of(own), of(teacher), 2.0)
    torch.testing.assert_close(loss, torch.tensor([expected]))


def test_a_batch_by_hand():
    """One labeled row, one unlabeled, its other view; a weight of 3 on the unlabeled loss."""
    logits = of(AGREES, AGREES, (0.05, 0.9, 0.05))
    targets = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    batch = batch_of(targets, 1)
    losses = method("fixmatch", threshold=0.9, weight=3.0).losses(logits, batch, None)
    expected = torch.tensor([-math.log(0.3), 3 * -math.log(0.3)])
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(cross_entropy(logits[:1], targets[:1]), expected[:1])
    averaged = method("mean-teacher", weight=3.0).losses(logits[:2], batch, of(DIFFERS))
    torch.testing.assert_close(averaged, torch.tensor([-math.log(0.3), 0.32]))


def test_two_networks_label_for_each_other_where_they_are_confident():
    """The left one is sure of class 1, the right one of nothing: only the right one learns."""
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    sure, unsure = (0.02, 0.96, 0.02), (0.4, 0.3, 0.3)
    logits = torch.stack([of(AGREES, AGREES, sure), of(DIFFERS, DIFFERS, unsure)])
    losses = method("co-training", threshold=0.9).losses(logits, batch_of(targets, 1), None)
    expected = torch.tensor([-math.log(0.6) - math.log(0.2), -math.log(0.7)])
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("name", METHODS)
def test_only_the_pi_model_learns_through_its_labels(name):
    own, other = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    logits, targets = torch.cat([torch.zeros(1, 3), own, other]), torch.zeros(5, 3)
    if name == "co-training":
        logits = torch.stack([logits, logits])
    average = other if name == "mean-teacher" else None
    if average is not None:
        logits = logits[..., :5, :]
    method(name).losses(logits, batch_of(targets, 1), average).sum().backward()
    assert own.grad is not None and own.grad.abs().sum() > 0
    moved = other.grad is not None and other.grad.abs().sum() > 0
    assert moved == (name == "pi-model")


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(METHODS),
    rows=st.integers(1, 6),
    classes=st.integers(2, 7),
    threshold=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
def test_losses_are_not_negative_and_a_higher_threshold_lets_fewer_rows_count(
    name: str, rows: int, classes: int, threshold: float, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    own, other = (4 * torch.randn(rows, classes, generator=draws) for _ in range(2))
    low, high = (
        method(name, threshold=t).unlabeled_loss(own, other) for t in (threshold / 2, threshold)
    )
    assert (low >= -1e-6).all() and low.shape == (rows,)
    assert ((high == low) | (high == 0)).all()


def test_the_ramp_is_laines_and_ends_at_the_weight():
    fields = {"consistency__weight": 8.0, "consistency__ramp": 0.5, "train__epochs": 100}
    ramped: Any = method_of(online("pi-model", **fields))  # epochs of one step each
    assert ramped.weight(0) == pytest.approx(8 * math.exp(-5))
    assert ramped.weight(25) == pytest.approx(8 * math.exp(-5 / 4))
    assert ramped.weight(50) == ramped.weight(99) == 8.0
    assert method("uda").weight(0) == method("uda").weight(99) == 1.0


# Views


def test_a_weak_view_is_shifted_by_an_eighth_and_mirrored_where_the_noise_is():
    strong = RowNoise(randaugment_m=9, cutout=4, flip=True)
    assert weak(strong, 32) == RowNoise(0, 9.0, 4, 0, 0.0, 0.0, True)
    assert weak(RowNoise(), 8) == RowNoise(0, 9.0, 1, 0, 0.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_both_views_are_of_the_same_images_and_not_alike(digits, method):
    recipe = online(method, noise__unlabeled__dropout=0.5)
    labeled, noised, other = rows_of(recipe, digits)
    assert torch.equal(noised.index(3), other.index(3))
    assert not torch.equal(noised(3)[0], other(3)[0])
    assert other.noise == (noised.noise if method == "pi-model" else weak(noised.noise, 8))
    assert len(labeled(0)[0]) == 50


def test_halves_have_nothing_in_common_and_miss_nothing():
    images = torch.randn(5, 3, 8, 9)
    left, right = halves(images)
    assert torch.equal(left + right, images)
    assert not (left * right).any()
    assert left[..., 4:].abs().sum() == 0 == right[..., :4].abs().sum()


def test_a_pair_of_networks_multiplies_its_probabilities(digits):
    pair = network(online("co-training"), digits).eval()
    assert isinstance(pair, Pair)
    images = digits.test.images[:20]
    seen = halves((images - digits.mean) / digits.std)
    with torch.inference_mode():
        left, right = (net(x) for net, x in zip((pair.left, pair.right), seen, strict=True))
        expected = left.softmax(1) * right.softmax(1)
        torch.testing.assert_close(
            pair(images).softmax(1), expected / expected.sum(1, keepdim=True)
        )
    assert not torch.equal(left, right)
    assert not all(
        torch.equal(a, b)
        for a, b in zip(pair.left.parameters(), pair.right.parameters(), strict=True)
    )


def test_views_are_averaged_and_the_first_is_the_clean_image(digits):
    net = seeing(build("micro-b0", 1, 10, 0, 0), digits)
    images, noise = digits.unlabeled.images[:600], RowNoise()
    clean = predict(net, images).softmax(1)
    torch.testing.assert_close(predict_views(net, images, noise, 1, 0).exp(), clean)
    two, again = (predict_views(net, images, noise, 2, 0) for _ in range(2))
    assert torch.equal(two, again)
    other = 2 * two.exp() - clean  # the second view's
    assert not torch.allclose(other, clean, atol=1e-4)
    torch.testing.assert_close(other.sum(1), torch.ones(600))
    assert not torch.equal(two, predict_views(net, images, noise, 2, 1))


# Training


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_what_labels_itself_depends_on_its_unlabeled_images_and_goes_on_where_it_was(
    digits, method
):
    recipe = online(method, train__epochs=1, train__batch_size=10)
    halfway: dict[str, Any] = {}

    def keep(step: int, state: Any) -> None:
        if step == 2:
            halfway.update(copy.deepcopy(state()))

    straight = train(recipe, digits, after_step=keep).state_dict()
    resumed = train(recipe, digits, resume=halfway).state_dict()
    for name, value in resumed.items():
        assert torch.equal(value, straight[name]), name
    moved = split.Unlabeled(digits.unlabeled.images.flip(3))
    other = train(recipe, dataclasses.replace(digits, unlabeled=moved)).state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in straight.items())


def test_a_weight_of_zero_leaves_labels_and_batch_statistics(digits):
    """The unlabeled loss alone is what differs between methods: without it they are one run."""
    nets = [
        train(online(method, consistency__weight=0.0), digits).state_dict()
        for method in ("uda", "fixmatch")
    ]
    for name, value in nets[0].items():
        assert torch.equal(value, nets[1][name]), name


def test_distillation_takes_the_place_of_its_share_of_the_labels(digits):
    """With a teacher that is as sure as the labels are, at temperature 1, nothing changes."""
    logits = torch.full((50, 10), 0.01).log()
    smooth = 0.1
    targets = torch.full((50, 10), smooth / 10).scatter(
        1, digits.labeled.labels[:, None], 1 - smooth + smooth / 10
    )
    fields = {"train__rows": "labeled", "train__epochs": 3}
    full = train(
        student(**fields, distillation__weight=1.0), digits, Lesson(distilled=targets.log())
    ).state_dict()
    half = train(
        student(**fields, distillation__weight=0.5), digits, Lesson(distilled=targets.log())
    ).state_dict()
    other = train(
        student(**fields, distillation__weight=0.5), digits, Lesson(distilled=logits)
    ).state_dict()
    for name, value in full.items():
        torch.testing.assert_close(value, half[name], rtol=1e-3, atol=1e-3)
    assert any(not torch.allclose(value, other[name], atol=1e-3) for name, value in full.items())


# Through the store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("runs"))


@pytest.mark.slow
def test_labels_of_data_distillation_are_of_several_views(store, digits):
    teacher, one, four = (
        store.run(recipe) for recipe in (Recipe.of(TINY), student(), student(pseudo__views=4))
    )
    for run in (teacher, one, four):
        run_one(run)
    results = [run.result() for run in (one, four)]
    assert results[0].teacher_logits == results[1].teacher_logits
    assert results[0].pseudo["confidence"] > results[1].pseudo["confidence"]  # a mean is less sure


def test_a_distilled_student_learns_from_its_teachers_logits_on_labeled_rows(store, digits):
    recipe = student(train__rows="labeled", distillation__weight=1.0)
    teacher, run = store.run(recipe.teacher), store.run(recipe)
    run_one(teacher)
    run_one(run)
    logits = predict(network_of(teacher, digits, "cpu"), digits.labeled.images)
    expected = train(recipe, digits, Lesson(distilled=logits)).state_dict()
    for name, value in safetensors.torch.load_file(run.artifact(MODEL)).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.slow
def test_a_co_trained_pair_teaches_and_can_be_noised(store, digits):
    recipe = online("co-training", train__ema=0.0)
    pair = store.run(recipe)
    run_one(pair)
    net, pool = network_of(pair, digits, "cpu"), digits.unlabeled.images
    logits = predict(net, pool)
    stored = safetensors.torch.load_file(pair.artifact(LOGITS))["logits"]
    torch.testing.assert_close(stored.float(), logits, rtol=1e-3, atol=1e-2)
    noise = RowNoise(dropout=0.5)
    assert not torch.allclose(predict_noised(net, pool, noise, 0), logits, atol=0.1)
    taught = store.run(Recipe.of(TINY, recipe))
    assert run_one(taught).teacher_logits is not None


def test_a_batch_larger_than_the_pool_is_refused_before_it_starts(digits):
    from ns_bench.data.catalog import check

    recipe = online("fixmatch", train__ratio=30)
    with pytest.raises(UserError, match=r"larger than the pool \(1147\)"):
        check(recipe)
