"""What the ablation studies change: kinds of rows, starts, schedules, limits, noised teachers."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from builders import in_memory, present, rows_of, seeded, seeing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ns_bench.data import split
from ns_bench.data.split import Dataset
from ns_bench.errors import UserError
from ns_bench.execute.run_one import TeacherUnfit, run_one
from ns_bench.recipe import PseudoLabels, Recipe, RowNoise
from ns_bench.runs.store import MODEL, Store
from ns_bench.selftrain.evaluate import predict, predict_noised
from ns_bench.selftrain.models import build
from ns_bench.selftrain.pseudo import pseudo_label, quality
from ns_bench.selftrain.rows import Rows, noise_strength
from ns_bench.selftrain.targets import PseudoLabeled
from ns_bench.selftrain.train import Lesson, train

pytestmark = pytest.mark.slow

TINY = {"train.epochs": 2, "pseudo.threshold": 0.0, "train.lr": 0.02}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return split.load(Recipe().data, 0)


@pytest.fixture(scope="module")
def labels(digits: Dataset) -> PseudoLabeled:
    logits = 2 * torch.randn(len(digits.unlabeled), 10, generator=seeded(3))
    return pseudo_label(logits, PseudoLabels(threshold=0.0), 0.1, seeded(0))


def student(**fields: Any) -> Recipe:
    dotted = {name.replace("__", "."): value for name, value in fields.items()}
    return Recipe.of({**TINY, **dotted}, Recipe.of(TINY))


# Kinds of rows and starts


@pytest.mark.parametrize(("rows", "sizes"), [("joint", [50, 150]), ("unlabeled", [150])])
def test_a_batch_has_the_rows_asked_for(digits, labels, rows, sizes):
    streams = rows_of(student(train__rows=rows), digits, labels)
    assert [len(part(0)[0]) for part in streams] == sizes


def test_fine_tuning_sees_labeled_rows_alone(digits):
    recipe = student(train__rows="labeled", train__start="teacher")
    (labeled,) = rows_of(recipe, digits)
    assert len(labeled(0)[0]) == 50


def test_a_warm_start_begins_at_the_weights_it_is_given(digits, labels):
    recipe = student(train__start="teacher", train__epochs=1, train__lr=1e-12)
    first = build("micro-b0", 1, 10, seed=9, generation=0).state_dict()
    net = train(recipe, digits, Lesson(labels, {k: v.clone() for k, v in first.items()}))
    weights = dict(net.named_parameters())
    assert all(torch.allclose(weights[name], first[name], atol=1e-6) for name in weights)
    cold = train(student(train__epochs=1, train__lr=1e-12), digits, Lesson(labels))
    different = [not torch.allclose(w, first[n], atol=1e-3) for n, w in cold.named_parameters()]
    assert any(different)


def test_a_student_on_pseudo_labels_alone_never_sees_a_label(digits, labels):
    """Other labeled images and labels, the same student, bit for bit."""
    recipe = student(train__rows="unlabeled")
    shuffled = split.Labeled(digits.labeled.images.flip(0), (digits.labeled.labels + 1) % 10)
    other = Dataset(**{**vars(digits), "labeled": shuffled})
    ours, theirs = (train(recipe, data, Lesson(labels)).state_dict() for data in (digits, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def run_chain(store: Store, recipe: Recipe) -> Any:
    if recipe.teacher is not None:
        run_chain(store, recipe.teacher)
    return run_one(store.run(recipe))


def test_pretraining_then_fine_tuning_end_to_end(tmp_path: Path):
    """Labels -> pseudo-labels alone -> labels from those weights, through the store."""
    store = Store(tmp_path / "runs")
    pretrained = student(train__rows="unlabeled")
    tuned = Recipe.of({**TINY, "train.rows": "labeled", "train.start": "teacher"}, pretrained)
    result = run_chain(store, tuned)
    assert result.pseudo is None  # it uses none
    assert result.teacher_logits is not None
    assert result.images == tuned.steps * 50
    pre = store.run(pretrained).result()
    assert pre is not None
    assert pre.pseudo is not None
    assert pre.images == pretrained.steps * 150


def test_a_warm_start_without_the_teachers_weights_is_refused(tmp_path: Path):
    store = Store(tmp_path / "runs")
    warm = student(train__start="teacher")
    assert warm.teacher is not None
    run_chain(store, warm.teacher)
    (store.run(warm.teacher).path / MODEL).write_bytes(b"damaged")
    with pytest.raises(TeacherUnfit, match=r"model\.safetensors|size|checksum"):
        run_one(store.run(warm))


# Schedule of the noise


@given(st.integers(1, 500))
def test_noise_fades_to_none_or_rises_to_all(steps: int):
    first, last = 0, steps - 1
    assert noise_strength("constant", first, steps) == noise_strength("constant", last, steps) == 1
    assert noise_strength("fading", first, steps) == 1
    assert noise_strength("rising", first, steps) == 0
    if steps > 1:
        assert noise_strength("fading", last, steps) == 0
        assert noise_strength("rising", last, steps) == 1
        middle = (noise_strength(name, steps // 2, steps) for name in ("fading", "rising"))
        assert sum(middle) == pytest.approx(1)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_is_the_share_of_rows_that_are_augmented(strength: float):
    """And these are augmented as they are in the arm with constant noise."""
    images = torch.randint(0, 256, (400, 1, 8, 8), dtype=torch.uint8, generator=seeded())
    everyone, targets = torch.arange(400), torch.zeros(400, 10)
    moved = RowNoise(randaugment_n=0, crop_padding=3)
    key = ("unlabeled", 1)
    whole = Rows(images, targets, everyone, 400, moved, 0, key)
    part = Rows(images, targets, everyone, 400, moved, 0, key, lambda step: strength)
    clean = Rows(images, targets, everyone, 400, RowNoise(randaugment_n=0), 0, key)
    noised, scheduled, spared = whole(0)[0], part(0)[0], clean(0)[0]

    def same(a: Tensor, b: Tensor) -> Tensor:
        return (a == b).flatten(1).all(1)

    assert bool((same(scheduled, noised) | same(scheduled, spared)).all())
    changed = ~same(noised, spared)
    share = (same(scheduled, noised) & changed).sum() / changed.sum()
    assert share.item() == pytest.approx(strength, abs=0.08)


def test_the_last_step_of_fading_noise_is_clean(digits, labels):
    recipe = student(noise__unlabeled_schedule="fading", train__epochs=3)
    labeled, unlabeled = rows_of(recipe, digits, labels)
    clean = student(
        noise__unlabeled__randaugment_n=0,
        noise__unlabeled__dropout=0,
        noise__unlabeled__stochastic_depth=0,
        train__epochs=3,
    )
    kept, spared = rows_of(clean, digits, labels)
    last = recipe.steps - 1
    assert torch.equal(unlabeled(last)[0], spared(last)[0])
    assert not torch.equal(unlabeled(0)[0], spared(0)[0])
    assert torch.equal(labeled(last)[0], kept(last)[0])  # labeled rows keep their noise
    assert labeled.strength(last) == 1


def test_constant_noise_is_what_it_was(digits, labels):
    """The schedule's draws are apart from the noise's own."""
    constant = rows_of(student(), digits, labels)[1](0)[0]
    rising = rows_of(student(noise__unlabeled_schedule="rising"), digits, labels)[1]
    last = student().steps - 1
    whole = rows_of(student(), digits, labels)[1](last)[0]
    assert torch.equal(rising(last)[0], whole)
    assert not torch.equal(rising(0)[0], constant)


# Which pseudo-labels


@given(st.integers(0, 99), st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None)
def test_a_smaller_limit_is_part_of_a_larger_one(seed: int, one: int, other: int):
    logits = 3 * torch.randn(60, 5, generator=seeded(seed))

    def rows(limit: int) -> set[int]:
        spec = PseudoLabels(threshold=0.0, limit=limit, balance=False)
        return set(pseudo_label(logits, spec, 0.0, seeded(7)).rows.tolist())

    small, large = sorted((one, other))
    assert len(rows(small)) == small
    assert rows(small) <= rows(large)


def test_a_limit_counts_the_rows_between_threshold_and_ceiling():
    confidence = torch.linspace(0.5, 0.99, 50)
    logits = torch.stack([confidence, 1 - confidence], dim=1).log()
    spec = PseudoLabels(threshold=0.6, ceiling=0.7, balance=False)
    inside = pseudo_label(logits, spec, 0.0, seeded()).rows
    expected = ((confidence > 0.6) & (confidence <= 0.7)).nonzero().flatten()
    assert abs(len(inside) - len(expected)) <= 1  # rounding of the softmax at the edge
    limited = PseudoLabels(threshold=0.6, ceiling=0.7, limit=4, balance=False)
    rows = pseudo_label(logits, limited, 0.0, seeded()).rows
    assert len(rows) == 4
    assert set(rows.tolist()) <= set(inside.tolist())


def test_a_limit_sets_how_many_rows_a_class_is_balanced_to():
    logits = 5 * torch.nn.functional.one_hot(torch.arange(100) % 4, 4).float()
    spec = PseudoLabels(threshold=0.0, limit=40)
    rows = pseudo_label(logits, spec, 0.0, seeded()).rows
    assert logits.argmax(1)[rows].bincount().tolist() == [10, 10, 10, 10]


def test_an_empty_bin_names_both_edges():
    spec = PseudoLabels(threshold=0.2, ceiling=0.25)
    with pytest.raises(UserError, match=r"pseudo.threshold=0.2 and pseudo.ceiling=0.25: .*0.500"):
        pseudo_label(torch.zeros(3, 2), spec, 0.0, seeded())


def test_no_label_of_a_foreign_image_is_right():
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 0])] * 9
    labeled = pseudo_label(logits, PseudoLabels(threshold=0, balance=False), 0.0, seeded())
    said = quality(labeled, torch.tensor([0, 1, -1, -1]))
    assert (said["accuracy_pool"], said["foreign_pool"], said["foreign_used"]) == (0.5, 0.5, 0.5)


# A noised teacher


def test_a_noised_teacher_gives_other_labels_and_repeats_them(digits):
    net = seeing(build("micro-b0", 1, 10, 0, 0), digits)
    pool = digits.unlabeled.images
    clean = predict(net, pool)
    noised = [predict_noised(net, pool, RowNoise(), seed=1) for _ in range(2)]
    assert torch.equal(noised[0], noised[1])
    assert not torch.allclose(noised[0], clean, atol=1e-3)
    assert not torch.equal(predict_noised(net, pool, RowNoise(), seed=2), noised[0])
    still = RowNoise(randaugment_n=0, dropout=0.0, stochastic_depth=0.0)
    torch.testing.assert_close(predict_noised(net, pool, still, seed=1), clean)


@pytest.mark.parametrize("noise", [{"dropout": 0.5}, {"stochastic_depth": 0.5}])
def test_the_noised_teachers_network_is_noised_but_its_statistics_stay(digits, noise):
    net = seeing(build("micro-b0", 1, 10, 0, 0), digits)
    before = {name: value.clone() for name, value in net.named_buffers()}
    pool = digits.unlabeled.images[:200]
    spec = RowNoise(**{"randaugment_n": 0, "dropout": 0.0, "stochastic_depth": 0.0, **noise})
    assert not torch.allclose(predict_noised(net, pool, spec, 0), predict(net, pool), atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert not net.training


def test_a_student_of_a_noised_teacher_end_to_end(tmp_path: Path):
    store = Store(tmp_path / "runs")
    plain, noised = student(), student(pseudo__noised_teacher=True)
    results = [run_chain(store, recipe) for recipe in (plain, noised)]
    assert results[0].pseudo["confidence"] != results[1].pseudo["confidence"]
    weights = [
        safetensors.torch.load_file(store.run(recipe).path / MODEL) for recipe in (plain, noised)
    ]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# Imbalanced pools


@pytest.mark.parametrize("seed", range(3))
def test_an_imbalanced_pool_falls_off_exponentially(seed: int):
    spec = Recipe.of({"data.imbalance": 10}).data
    plain = present(split.hidden_labels(Recipe().data, seed)).bincount(minlength=10)
    thinned = present(split.hidden_labels(spec, seed)).bincount(minlength=10)
    share = (thinned / plain).sort(descending=True).values
    expected = 10 ** (-torch.arange(10) / 9)
    assert torch.allclose(share, expected, atol=0.01)
    labels = [present(split.hidden_labels(spec, s)) for s in range(4)]
    order = {tuple(of_seed.bincount().argsort().tolist()) for of_seed in labels}
    assert len(order) > 1  # the seed says which class is rare


def test_imbalance_touches_the_pool_alone():
    plain, thinned = (split.load(Recipe.of({"data.imbalance": ratio}).data, 0) for ratio in (1, 10))
    for part in ("labeled", "validation", "test"):
        assert torch.equal(getattr(plain, part).images, getattr(thinned, part).images)
    assert len(thinned.unlabeled) < len(plain.unlabeled)


def test_a_pool_of_a_given_size_is_the_start_of_the_whole():
    pools = (split.load(Recipe.of({"data.unlabeled": n}).data, 0).unlabeled for n in (0, 200))
    plain, small = (in_memory(pool.images) for pool in pools)
    assert torch.equal(plain[:200], small)
