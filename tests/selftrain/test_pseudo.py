"""Pseudo-labels: filter, balance and targets, against worked examples and for any input."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import dense, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ns_bench.errors import UserError
from ns_bench.recipe import PseudoLabels, Recipe
from ns_bench.selftrain.pseudo import PseudoLabeled, balance, pseudo_label, quality, smooth_one_hot
from ns_bench.selftrain.targets import sparse

torch.set_num_threads(1)


def logits_of(confidence: list[float], label: list[int], classes: int) -> Tensor:
    """Return logits whose softmax has `confidence` on `label` and the rest spread evenly."""
    rest = (1 - torch.tensor(confidence)) / (classes - 1)
    probabilities = rest[:, None].repeat(1, classes)
    probabilities[torch.arange(len(label)), torch.tensor(label)] = torch.tensor(confidence)
    return probabilities.log()


UNBALANCED = PseudoLabels(threshold=0.0, balance=False)


# Targets


def test_soft_targets_are_the_teachers_probabilities() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.5]])
    labeled = pseudo_label(logits, UNBALANCED, label_smoothing=0.1, generator=seeded())
    torch.testing.assert_close(labeled.targets, logits.softmax(1))  # smoothing is not for these
    torch.testing.assert_close(labeled.probabilities, logits.softmax(1))
    assert labeled.rows.tolist() == [0, 1]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_hard_targets_are_smoothed_one_hot(smoothing: float) -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.5]])
    spec = PseudoLabels(kind="hard", threshold=0.0, balance=False)
    labeled = pseudo_label(logits, spec, smoothing, seeded())
    off, on = smoothing / 3, 1 - smoothing + smoothing / 3
    expected = torch.tensor([[on, off, off], [off, on, off]])
    torch.testing.assert_close(labeled.targets, expected)
    torch.testing.assert_close(labeled.probabilities, logits.softmax(1))


def test_the_temperature_divides_the_logits() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    spec = PseudoLabels(temperature=2.0, threshold=0.0, balance=False)
    labeled = pseudo_label(logits, spec, 0.0, seeded())
    torch.testing.assert_close(labeled.targets, (logits / 2).softmax(1))


@pytest.mark.parametrize("pool", [lambda logits: logits, lambda logits: sparse(logits, 2)])
def test_the_threshold_looks_at_the_teacher_and_not_at_sharpened_labels(pool: Any) -> None:
    logits = pool(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))  # at T = 1: .982, .731; T = 4: .731, .562
    warm = PseudoLabels(threshold=0.6, temperature=4.0, balance=False)
    assert pseudo_label(logits, warm, 0.0, seeded()).rows.tolist() == [0, 1]
    before = replace(warm, confidence="labels")
    assert pseudo_label(logits, before, 0.0, seeded()).rows.tolist() == [0]
    plain = replace(before, temperature=1.0)
    assert pseudo_label(logits, plain, 0.0, seeded()).rows.tolist() == [0, 1]


def test_at_a_temperature_of_1_there_is_one_confidence_and_one_id() -> None:
    student = Recipe(teacher=Recipe())
    assert (
        student.pseudo.confidence
        == "labels"
        == student.set({"pseudo.confidence": "teacher"}).pseudo.confidence
    )
    warm = student.set({"pseudo.temperature": 2.0})  # as a search sets it, and as --set does
    assert warm.pseudo.confidence == "teacher"
    assert warm == Recipe.of({"pseudo.temperature": 2.0}, Recipe())
    assert warm.id != warm.set({"pseudo.confidence": "labels"}).id


def test_the_threshold_must_be_exceeded() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.1]])
    spec = PseudoLabels(threshold=0.5, balance=False)
    assert pseudo_label(logits, spec, 0.0, seeded()).rows.tolist() == [1]


def test_half_precision_logits() -> None:
    logits = torch.randn(50, 10, generator=seeded(1)).half()
    for kind in ("soft", "hard"):
        spec = PseudoLabels(kind=kind, threshold=0.1)
        labeled = pseudo_label(logits, spec, 0.1, seeded())
        assert dense(labeled.targets).dtype == torch.float32
        torch.testing.assert_close(labeled.probabilities, logits.float().softmax(1))
        torch.testing.assert_close(dense(labeled.targets).sum(1), torch.ones(50))


def test_nobody_above_the_threshold_is_an_error_with_the_highest_confidence() -> None:
    logits = logits_of([0.5, 0.625, 0.4], [0, 1, 2], 3)
    with pytest.raises(UserError) as error:
        pseudo_label(logits, PseudoLabels(threshold=0.7), 0.1, seeded())
    message = str(error.value)
    assert "pseudo.threshold=0.7" in message
    assert "0.625" in message
    assert "\n" not in message


def test_one_hot_without_smoothing() -> None:
    assert smooth_one_hot(torch.tensor([1, 0]), 2, 0.0).tolist() == [[0.0, 1.0], [1.0, 0.0]]


# Balancing


def test_balancing_a_worked_example() -> None:
    """Five rows of class 0, two of class 1, none of 2, one of 3; four rows of each are wanted."""
    confidence = [0.50, 0.90, 0.60, 0.80, 0.70, 0.95, 0.55, 0.65, 0.35]
    label = [0, 0, 0, 0, 0, 1, 1, 3, 2]
    spec = PseudoLabels(threshold=0.4, per_class=4)  # the one row of class 2 is not sure enough
    labeled = pseudo_label(logits_of(confidence, label, 4), spec, 0.0, seeded())
    assert sorted(labeled.rows.tolist()) == sorted([1, 2, 3, 4] + [5, 6] * 2 + [7] * 4)


def test_balancing_without_a_number_takes_the_pool_over_the_classes() -> None:
    confidence, label = [0.9, 0.8, 0.7, 0.6, 0.9, 0.8, 0.7], [0, 0, 0, 0, 0, 1, 1]
    spec = PseudoLabels(threshold=0.3, per_class=0)
    labeled = pseudo_label(logits_of(confidence, label, 2), spec, 0.0, seeded())
    assert sorted(labeled.rows.tolist()) in ([0, 1, 4, 5, 5, 6], [0, 1, 4, 5, 6, 6])
    assert Counter(label[row] for row in labeled.rows.tolist()) == {0: 3, 1: 3}


def test_a_pool_smaller_than_the_classes_still_has_rows() -> None:
    spec = PseudoLabels(threshold=0.1)
    labeled = pseudo_label(logits_of([0.9, 0.8], [4, 2], 5), spec, 0.0, seeded())
    assert set(labeled.rows.tolist()) == {0, 1}


def test_equal_confidence_keeps_the_first_rows() -> None:
    rows = torch.arange(10)
    kept = balance(rows, torch.zeros(10).long(), torch.full((10,), 0.5), 4, seeded())
    assert kept.tolist() == [0, 1, 2, 3]


def test_who_is_repeated_once_more_is_random_but_for_the_generator() -> None:
    rows, label = torch.arange(10), torch.zeros(10).long()
    confidence = torch.linspace(0.5, 0.9, 10)
    draws = [balance(rows, label, confidence, 15, seeded(i)) for i in range(200)]
    assert torch.equal(draws[0], balance(rows, label, confidence, 15, seeded(0)))
    extra = Counter(row for draw in draws for row, n in Counter(draw.tolist()).items() if n == 2)
    assert sum(extra.values()) == 200 * 5
    assert min(extra[row] for row in range(10)) > 60  # 100 expected, standard deviation 7


@st.composite
def pools(draw: st.DrawFn) -> tuple[Tensor, PseudoLabels, int]:
    classes, size = draw(st.integers(2, 8)), draw(st.integers(8, 80))
    seed, spread = draw(st.integers(0, 2**31)), draw(st.sampled_from([0.5, 2.0, 8.0]))
    logits = spread * torch.randn(size, classes, generator=seeded(seed))
    if draw(st.booleans()):
        logits = logits.round()  # many ties
    if draw(st.booleans()):
        logits[:, 0] -= 100  # an empty class
    spec = PseudoLabels(
        kind=draw(st.sampled_from(["soft", "hard"])),
        threshold=draw(st.sampled_from([0.0, 0.3, 0.6])),
        temperature=draw(st.sampled_from([0.5, 1.0, 2.0])),
        confidence=draw(st.sampled_from(["teacher", "labels"])),
        per_class=draw(st.integers(0, 40)),
    )
    return logits, spec, seed


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(pools())
def test_balancing_any_pool(pool: tuple[Tensor, PseudoLabels, int]) -> None:
    logits, spec, seed = pool
    probabilities = (logits / (spec.temperature if spec.confidence == "labels" else 1)).softmax(1)
    confidence, label = probabilities.max(1)
    sure = [i for i in range(len(logits)) if confidence[i] > spec.threshold]
    if not sure:
        with pytest.raises(UserError):
            pseudo_label(logits, spec, 0.1, seeded(seed))
        return
    labeled = pseudo_label(logits, spec, 0.1, seeded(seed))
    per_class = spec.per_class or len(logits) // logits.shape[1]
    times = Counter(labeled.rows.tolist())
    assert set(times) <= set(sure)
    targets = dense(labeled.targets)
    torch.testing.assert_close(targets.sum(1), torch.ones(len(logits)))
    assert torch.equal(targets.argmax(1)[labeled.rows], label[labeled.rows])
    for c in range(logits.shape[1]):
        members = [i for i in sure if label[i] == c]
        counts = [times[i] for i in members]
        assert sum(counts) == (per_class if members else 0)
        if len(members) > per_class:  # plenty: the most confident, once each
            assert set(counts) <= {0, 1}
            kept = [confidence[i].item() for i in members if times[i]]
            left = [confidence[i].item() for i in members if not times[i]]
            assert min(kept) >= max(left)
        elif members:  # scarce: each of them, as evenly as can be
            floor = per_class // len(members)
            assert set(counts) <= {floor, floor + (per_class % len(members) > 0)}


@settings(max_examples=50, deadline=None)
@given(pools())
def test_without_balancing_each_sure_row_is_there_once(
    pool: tuple[Tensor, PseudoLabels, int],
) -> None:
    logits, spec, seed = pool
    confidence = logits.softmax(1).max(1).values
    sure = torch.nonzero(confidence > spec.threshold).flatten()
    plain = PseudoLabels(spec.kind, spec.temperature, spec.threshold, balance=False, per_class=3)
    if len(sure):
        assert torch.equal(pseudo_label(logits, plain, 0.1, seeded(seed)).rows, sure)


# Quality


def test_quality_of_a_worked_example() -> None:
    probabilities = torch.tensor(
        [[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0], [0.4, 0.3, 0.3]]
    )
    labeled = PseudoLabeled(torch.tensor([0, 1, 2, 2]), probabilities, probabilities)
    found = quality(labeled, truth=torch.tensor([0, 1, 1, 0, 0]))
    assert found["pool"] == 5
    assert found["rows"] == 4
    assert found["coverage"] == pytest.approx(3 / 5)
    assert found["accuracy_pool"] == pytest.approx(3 / 5)  # rows 0, 2, 4
    assert found["accuracy_used"] == pytest.approx(3 / 4)  # 0 right, 1 wrong, 2 right, twice
    assert found["confidence"] == pytest.approx((0.9 + 0.6 + 0.8 + 0.8) / 4)
    assert found["per_class_pool"] == [3, 2, 0]
    assert found["per_class_used"] == [2, 2, 0]
    tenths, right = found["per_tenth"], found["per_tenth_right"]
    assert isinstance(tenths, list) and isinstance(right, list)
    assert sum(tenths) == found["pool"]
    assert sum(right) / sum(tenths) == pytest.approx(found["accuracy_pool"])


def test_quality_looks_at_the_teacher_and_not_at_hard_targets() -> None:
    logits = torch.randn(40, 4, generator=seeded(3))
    truth = logits.argmax(1)
    soft = pseudo_label(logits, PseudoLabels(threshold=0.0), 0.1, seeded())
    hard = pseudo_label(logits, PseudoLabels(kind="hard", threshold=0.0), 0.1, seeded())
    assert quality(soft, truth) == quality(hard, truth)
    assert quality(hard, truth)["accuracy_pool"] == 1.0
