"""Products of matrices: the same by both libraries, to rounding, and the faster one is taken."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import seeded
from hypothesis import given
from hypothesis import strategies as st

from ns_bench.execute.run_one import run_one
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Store
from ns_bench.selftrain import products
from ns_bench.selftrain.products import by_onednn, outer_product, product

CLOSE = 1e-5
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(products._ops, "_linear_pointwise")
BOTH = [False, pytest.param(True, marks=pytest.mark.skipif(not HAS_ONEDNN, reason="no oneDNN"))]


@pytest.mark.parametrize("onednn", BOTH)
@given(
    rows=st.sampled_from([1, 7, 64, 1000]),
    a=st.sampled_from([1, 15, 16, 48, 100]),
    b=st.sampled_from([1, 15, 16, 48, 100]),
    added=st.sampled_from(["nothing", "a bias", "rows", "rows, scaled"]),
)
def test_they_are_exact_to_rounding(onednn: bool, rows: int, a: int, b: int, added: str) -> None:
    x, matrix = torch.randn(rows, a, generator=seeded(1)), torch.randn(a, b, generator=seeded(2))
    y = torch.randn(rows, b, generator=seeded(3))
    add = {"nothing": None, "a bias": y[0]}.get(added, y)
    scale = -0.1 if added == "rows, scaled" else 1.0
    kept = y.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "by_onednn", lambda: onednn)
        found = [product(x, matrix, add, scale), outer_product(x, y)]
    more = 0 if add is None else scale * add.double()
    wanted = [x.double() @ matrix.double() + more, x.double().t() @ y.double()]
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert (one.double() - other).norm() <= CLOSE * other.norm()
    assert torch.equal(y, kept)


def slowed(multiply: Callable[..., Any]) -> Callable[..., Any]:
    def slow(*given: Any) -> Any:
        time.sleep(0.01)
        return multiply(*given)

    return slow


@pytest.mark.skipif(not HAS_ONEDNN, reason="no oneDNN")
@pytest.mark.parametrize(("slow", "found"), [("torch.mm", True), ("_linear", False)])
def test_the_faster_is_measured(monkeypatch, slow: str, found: bool) -> None:
    place, name = (torch, "mm") if slow == "torch.mm" else (products, slow)
    monkeypatch.setattr(place, name, slowed(getattr(place, name)))
    assert by_onednn.__wrapped__() is found


def test_without_the_operation_it_is_torchs_own_library(monkeypatch) -> None:
    monkeypatch.setattr(products, "_ops", object())
    assert not by_onednn.__wrapped__()


@pytest.mark.parametrize("onednn", BOTH)
def test_a_run_says_what_multiplied(monkeypatch, tmp_path: Path, onednn: bool) -> None:
    monkeypatch.setattr("ns_bench.selftrain.products.by_onednn", lambda: onednn)
    monkeypatch.setattr("ns_bench.execute.run_one.by_onednn", lambda: onednn)
    recipe = Recipe.of({"train.epochs": 1, "train.batch_size": 50})
    result = run_one(Store(tmp_path / "runs").run(recipe))
    assert result.provenance["onednn"] is onednn
