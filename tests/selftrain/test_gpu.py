"""What only a CUDA device can show; see test_randaugment.py and test_accumulate.py for the rest."""

from functools import partial
from pathlib import Path

import pytest
import torch

from ns_bench.data import split
from ns_bench.design.profile import load_profile
from ns_bench.execute.execution import Execution
from ns_bench.execute.run_one import run_one
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Store
from ns_bench.selftrain.methods import method_of
from ns_bench.selftrain.optimize import State
from ns_bench.selftrain.rows import Batches, joint_rows
from ns_bench.selftrain.scale.accumulate import Gradients
from ns_bench.selftrain.targets import PseudoLabeled
from ns_bench.selftrain.train import Objective

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SMOKE = load_profile("smoke")
STUDENT = SMOKE.student("small", SMOKE.supervised("small"), noise__unlabeled__cutout=3)


def labeled_pool(recipe: Recipe, device: str) -> tuple[split.Dataset, PseudoLabeled]:
    data = split.load(recipe.data, recipe.seed)
    soft = torch.randn(len(data.unlabeled), data.classes).softmax(1).to(device)
    return data, PseudoLabeled(torch.arange(len(soft)), soft, soft)


@pytest.mark.parametrize("optimizer", ["rmsprop", "sgd"])
def test_a_step_never_waits_for_the_device(optimizer: str) -> None:
    recipe = STUDENT.set({"train.optimizer": optimizer})
    data, pseudo = labeled_pool(recipe, "cuda")
    method = method_of(recipe)
    net = method.network(data).cuda().to(memory_format=torch.channels_last).train()
    state = State(net, recipe.train)
    batches = Batches(joint_rows(recipe, data, pseudo, method, "cuda"))
    objective = Objective(recipe, batches, method, state.average, "cuda")
    gradients = Gradients(net, 1, 1, print)

    def steps(first: int, last: int) -> None:
        for step in range(first, last):
            gradients(partial(objective, net, step))
            state.update(0.01, step)

    steps(0, 3)  # tables of the noise, states of the optimiser
    try:
        torch.cuda.set_sync_debug_mode("error")
        steps(3, 40)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_batch_that_does_not_fit_is_halved(tmp_path: Path) -> None:
    """With a cap on what this process may have of the device."""
    recipe = load_profile("glyphs").supervised(
        "small",
        data__glyphs__pixels=32,
        data__labeled=4000,
        data__unlabeled=64,
        train__batch_size=4000,
        train__epochs=2,
    )
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2 * 2**30 / whole)
    try:
        result = run_one(Store(tmp_path).run(recipe), device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.provenance["parts"] > 1


def test_compiled(tmp_path: Path) -> None:
    recipe = SMOKE.supervised("small")
    plain = run_one(Store(tmp_path / "plain").run(recipe), device="cuda")
    compiled = run_one(
        Store(tmp_path / "compiled").run(recipe), device="cuda", execution=Execution(True)
    )
    assert compiled.provenance["compiled"] and not plain.provenance["compiled"]
    assert compiled.test["top1"] == pytest.approx(plain.test["top1"], abs=5)


def test_a_network_learns_as_on_a_cpu(tmp_path: Path) -> None:
    """In bf16: the same draws, other rounding."""
    recipe = SMOKE.supervised("small", train__epochs=100)
    top1: list[float] = []
    for device in ("cpu", "cuda"):
        top1.append(run_one(Store(tmp_path / device).run(recipe), device=device).test["top1"])
    assert top1[1] == pytest.approx(top1[0], abs=4)
