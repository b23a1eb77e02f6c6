"""Outcomes image by image: what is written is read, whatever the order of test rows."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from fakes import fake_outcomes, fake_result
from hypothesis import given
from hypothesis import strategies as st

from ns_bench.files import Corrupt
from ns_bench.recipe import Recipe
from ns_bench.runs import outcomes
from ns_bench.runs.store import OUTCOMES, Store


@given(st.integers(1, 40), st.integers(0, 40), st.integers(2, 1000), st.integers(0, 2**32 - 1))
def test_outcomes_come_back_in_the_order_of_images(tested, others, classes, seed):
    draw = np.random.default_rng(seed)
    rows = draw.permutation(tested + others)[:tested]
    labels, predicted = draw.integers(0, classes, size=(2, tested))
    content = outcomes.to_bytes("ab", tested + others, rows, labels, predicted)
    with TemporaryDirectory() as folder:
        (Path(folder) / OUTCOMES).write_bytes(content)
        found = outcomes.read(Path(folder) / OUTCOMES)
    order = np.argsort(rows)
    assert found.digest == "ab" and np.flatnonzero(found.tested).tolist() == sorted(rows)
    assert len(found.tested) == tested + others
    np.testing.assert_array_equal(found.labels, labels[order])
    np.testing.assert_array_equal(found.predicted, predicted[order])
    np.testing.assert_array_equal(found.right, (labels == predicted)[order])


def test_ten_thousand_images_take_23_kilobytes():
    rows = np.arange(10_000)
    assert len(outcomes.to_bytes("0" * 16, 10_000, rows, rows % 10, rows % 9)) < 23_000


def test_outcomes_are_sealed_as_other_artifacts_are(tmp_path):
    run = Store(tmp_path).run(Recipe())
    fake_result(run)
    assert run.state() == "done"  # an old run has none
    fake_result(run, images=fake_outcomes(run.recipe, 0.1))
    path = run.artifact(OUTCOMES)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Corrupt, match="checksum of outcomes"):
        run.artifact(OUTCOMES)
    path.write_bytes(content[:-1])
    with pytest.raises(Corrupt, match=r"outcomes\.safetensors has"):
        run.result()
