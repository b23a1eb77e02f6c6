"""Labels of a large pool: what sparse ones keep, and selection in passes against the exact one."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from builders import seeded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ns_bench.design.cost import sparse_labels
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.recipe import PseudoLabels, Recipe
from ns_bench.selftrain.pseudo import pseudo_label, quality
from ns_bench.selftrain.scale.shards import bounds, pseudo_label_sparse, select
from ns_bench.selftrain.targets import confidence, probabilities, sparse

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""


def logits_of(rows: int, classes: int, sharpness: float = 3.0, seed: int = 0) -> Tensor:
    return (torch.randn(rows, classes, generator=seeded(seed)) * sharpness).half()


# --- sparse labels --------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_all_classes_kept_are_the_probabilities(temperature):
    logits = logits_of(200, 10)
    exact = torch.softmax(logits.float() / temperature, dim=1)
    kept = probabilities(sparse(logits, 99), temperature)
    assert (kept - exact).abs().max() < 1e-3  # fp16
    assert torch.allclose(kept.sum(1), torch.ones(200), atol=1e-5)


@patient
@given(st.integers(1, 12), st.sampled_from([0.5, 1.0, 1.7]), st.floats(0.1, 8), st.integers(0, 99))
def test_sparse_labels_keep_the_top_and_spread_the_rest(k, temperature, sharpness, seed):
    logits = logits_of(20, 12, sharpness, seed)
    labels = sparse(logits, k)
    dense = probabilities(labels, temperature)
    assert labels.classes.shape == labels.log_probabilities.shape == (20, k)
    assert torch.allclose(dense.sum(1), torch.ones(20), atol=1e-5)
    exact = torch.softmax(logits.float(), dim=1)
    plain = probabilities(labels)
    assert (plain.gather(1, labels.classes.long()) - exact.topk(k).values).abs().max() < 1e-3
    sure, label = confidence(labels, temperature)
    assert torch.equal(label, labels.classes[:, 0].long())
    assert torch.equal(sure, dense.gather(1, label[:, None])[:, 0])
    assert (dense.max(1).values - sure).max() < 1e-3
    others = dense.scatter(1, labels.classes.long(), 0)
    spread = others.sum(1) / max(12 - k, 1)
    assert (others.max(1).values - spread).abs().max() < 1e-6


def test_bytes_of_an_image():
    labels = sparse(logits_of(1000, 1000), 10)
    stored = [labels.classes, labels.log_probabilities]
    assert sum(t.numel() * t.element_size() for t in stored) == 40 * 1000
    assert sparse(torch.zeros(2, 40_000), 1).classes.dtype == torch.int32
    part = labels[torch.tensor([7, 3, 3])]
    assert len(part) == 3 and torch.equal(part.classes[0], labels.classes[7])


@patient
@given(st.integers(0, 1000), st.integers(1, 50))
def test_shards_are_the_pool_in_order(rows, of):
    parts = [range(rows)[bounds(rows, shard, of)] for shard in range(of)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


# --- selection ------------------------------------------------------------------------------


def exact_and_passes(logits: Tensor, spec: PseudoLabels, of: int, seed: int) -> tuple[list, list]:
    """Return how often each row is seen by the exact algorithm, and by the one in passes."""
    rows = pseudo_label(logits, spec, 0.0, exact := seeded(seed)).rows
    found = torch.softmax(logits.float(), dim=1).max(1)
    sure, label = found.values.numpy(), found.indices.numpy()

    def shards() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for shard in range(of):
            mine = bounds(len(sure), shard, of)
            yield sure[mine], label[mine]

    copies = select(shards, len(logits), logits.shape[1], spec, passes := seeded(seed))
    assert torch.equal(exact.get_state(), passes.get_state())  # the same draws
    return rows.bincount(minlength=len(logits)).tolist(), copies.tolist()


@settings(patient, max_examples=300)
@given(
    rows=st.integers(1, 60),
    classes=st.integers(2, 5),
    levels=st.integers(1, 6),
    per_class=st.integers(0, 20),
    limit=st.integers(0, 80),
    threshold=st.sampled_from([0.0, 0.3, 0.6]),
    balance=st.booleans(),
    of=st.integers(1, 9),
    seed=st.integers(0, 999),
)
def test_passes_select_what_the_exact_algorithm_does(
    rows, classes, levels, per_class, limit, threshold, balance, of, seed
):
    """Few levels of logits: many rows are equally sure. Shards may be empty."""
    logits = torch.randint(0, levels, (rows, classes), generator=seeded(seed)).half()
    spec = PseudoLabels(
        threshold=threshold, balance=balance, per_class=per_class if balance else 0, limit=limit
    )
    try:
        exact, passes = exact_and_passes(logits, spec, of, seed)
    except UserError as error:
        assert "the teacher is that sure of none" in str(error)
        with pytest.raises(UserError, match="is that sure of none"):
            select(lambda: [(np.zeros(rows, np.float32), np.zeros(rows, np.int64))], rows, classes,
                   spec, seeded())  # fmt: skip
        return
    assert passes == exact


@pytest.mark.parametrize("sharpness", [0.5, 3.0, 12.0])
@pytest.mark.parametrize("per_class", [1, 150, 400, 1000, 2500])
def test_many_rows_in_one_bin(per_class, sharpness):
    """A sure teacher's confidences are nearly all above 0.999, many of them 1."""
    logits = logits_of(4000, 10, sharpness, seed=per_class)
    for ceiling, temperature in ((1.0, 1.0), (0.99, 0.7)):
        spec = PseudoLabels(
            threshold=0.3, per_class=per_class, ceiling=ceiling, temperature=temperature
        )
        exact, passes = exact_and_passes(logits, spec, 7, seed=1)
        assert passes == exact


ROWS, CLASSES, SHARDS = 5_000_000, 1000, 50


def synthetic() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield five million rows, shard by shard: classes of very different sizes, many rows sure."""
    for shard in range(SHARDS):
        rng = np.random.default_rng(shard)
        count = ROWS // SHARDS
        sure = (1 - rng.random(count, dtype=np.float32) ** 4 * 0.9).round(5)
        label = (rng.random(count) ** 3 * CLASSES).astype(np.int64)
        yield sure, label


@pytest.mark.slow
def test_five_million_rows_in_bounded_memory():
    per_class = 5000
    spec = PseudoLabels(threshold=0.3, per_class=per_class)
    tracemalloc.start()
    copies = select(synthetic, ROWS, CLASSES, spec, seeded())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the answer, the bins with their sums, and rows to rank: 16 bytes, twice, and while sorted
    answer, bins, ranked = 4 * ROWS, 3 * 8 * 512 * CLASSES, 3 * 16 * CLASSES * per_class
    assert peak < answer + bins + ranked
    seen, sure_of = np.zeros(CLASSES, np.int64), np.zeros(CLASSES, np.int64)
    lowest, refused = np.ones(CLASSES, np.float32), np.zeros(CLASSES, np.float32)
    start = 0
    for sure, label in synthetic():
        mine = copies[start : start + len(sure)]
        assert not mine[sure <= 0.3].any()
        kept = sure > 0.3
        seen += np.bincount(label, mine, CLASSES).astype(np.int64)
        sure_of += np.bincount(label[kept], minlength=CLASSES)
        np.minimum.at(lowest, label[mine > 0], sure[mine > 0])
        left = kept & (mine == 0)
        np.maximum.at(refused, label[left], sure[left])
        start += len(sure)
    assert (sure_of > per_class).any() and (sure_of < per_class).any()
    assert (seen == per_class).all()  # every class has at least one row
    assert (refused <= lowest).all()  # none is left out that is surer than one that is taken


# --- targets ---------------------------------------------------------------------------------


@patient
@given(st.sampled_from(["soft", "hard"]), st.sampled_from([0.7, 1.0]), st.integers(0, 99))
def test_a_student_has_the_same_targets_from_sparse_labels(kind, temperature, seed):
    """Of all classes kept, and in the same rows, if in another order."""
    logits = logits_of(300, 5, seed=seed)
    spec = PseudoLabels(kind=kind, temperature=temperature, per_class=40)
    exact = pseudo_label(logits, spec, 0.1, seeded(seed))
    found = pseudo_label_sparse(sparse(logits, 5), spec, 0.1, seeded(seed))
    same = (found.rows.bincount(minlength=300) == exact.rows.bincount(minlength=300)).float()
    assert same.mean() > 0.9 and len(found.rows) == len(exact.rows)  # fp16: near ties may turn
    assert torch.equal(found.rows, found.rows.sort().values)
    index = torch.tensor([5, 3, 3, 299])
    assert (found.targets[index] - exact.targets[index]).abs().max() < 2e-3
    assert (found.probabilities.max(1)[0] - exact.probabilities.max(1)[0]).abs().max() < 2e-3
    assert found.targets.shape == exact.targets.shape == (300, 5)
    theirs, ours = quality(exact, None), quality(found, None)
    assert ours["rows"] == theirs["rows"] and ours["per_class_used"] == theirs["per_class_used"]


def test_digits_and_imagenet_are_on_either_side():
    assert not sparse_labels(Recipe().data)
    assert not sparse_labels(load_profile("imagenet-mini").supervised("small").data)
    assert sparse_labels(load_profile("imagenet").supervised("small").data)
