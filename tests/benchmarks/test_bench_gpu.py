"""What a GPU is to do: noise, the joint step, several small runs on one. Skips without CUDA.

Run with: pytest tests/benchmarks/test_bench_gpu.py --benchmark-only -n 0. Seconds are of the clock,
with all work on the device done.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ns_bench.data import split
from ns_bench.design.profile import Profile, load_profile
from ns_bench.execute.local import execute
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Store
from ns_bench.selftrain.loss import cross_entropy
from ns_bench.selftrain.methods import method_of
from ns_bench.selftrain.optimize import State, make_optimizer, weight_groups
from ns_bench.selftrain.randaugment import randaugment
from ns_bench.selftrain.rows import Batches, joint_rows
from ns_bench.selftrain.scale.accumulate import Gradients
from ns_bench.selftrain.targets import PseudoLabeled
from ns_bench.selftrain.train import Objective

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

STEPS = 50
FIELDS: dict[str, Any] = {
    "data__glyphs__pixels": 32,
    "data__labeled": 640,
    "data__unlabeled": 4480,
    "train__batch_size": 64,
    "train__ratio": 7,
}


def seconds(do: Callable[[], object], rounds: int = 5) -> float:
    """Return the best of some rounds, after one that counts not."""
    found = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        do()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def test_noise_against_one_core(benchmark) -> None:
    images = torch.randint(0, 256, (4096, 3, 32, 32), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    torch.set_num_threads(1)
    host = seconds(lambda: randaugment(images, 2, 27, generator), rounds=3)
    on_device = images.cuda()
    device = seconds(lambda: randaugment(on_device, 2, 27, generator))
    benchmark.pedantic(lambda: randaugment(on_device, 2, 27, generator), rounds=3)
    benchmark.extra_info |= {
        "ratio": round(host / device, 1),
        "aim": 50.0,
        "peer": "RandAugment on one CPU core",
    }


def student() -> tuple[Profile, Recipe]:
    profile = load_profile("glyphs")
    return profile, profile.student("small", profile.supervised("small", **FIELDS), **FIELDS)


def test_joint_step(benchmark) -> None:
    """Noise, mixing, per-row noise of the network, averaging, over a bare step; both in bf16."""
    _, recipe = student()
    data = split.load(recipe.data, 0)
    soft = torch.randn(len(data.unlabeled), data.classes).softmax(1).cuda()
    pseudo = PseudoLabeled(torch.arange(len(soft)), soft, soft)

    method = method_of(recipe)

    def fresh() -> Any:
        return method.network(data).cuda().to(memory_format=torch.channels_last).train()

    net = fresh()
    state = State(net, recipe.train)
    rows = joint_rows(recipe, data, pseudo, method, "cuda")
    objective = Objective(recipe, Batches(rows), method, state.average, "cuda")
    gradients = Gradients(net, 1, 1, print)

    def ours() -> None:
        for step in range(STEPS):
            gradients(partial(objective, net, step))
            state.update(0.01, step)

    plain = fresh().net  # takes images that are normalised
    plain_update = make_optimizer(weight_groups(plain), recipe.train)
    images = torch.randn(512, 1, 32, 32).cuda().contiguous(memory_format=torch.channels_last)
    targets = torch.rand(512, 10).softmax(1).cuda()

    def bare() -> None:
        for _ in range(STEPS):
            with torch.autocast("cuda", torch.bfloat16):
                logits = plain(images).float()
            plain_update.zero_grad(set_to_none=True)
            cross_entropy(logits, targets).mean().backward()
            plain_update.step()

    batches = Batches(rows)
    noise = seconds(lambda: [batches(step) for step in range(STEPS)])
    whole, theirs = seconds(ours), seconds(bare)
    benchmark.pedantic(ours, rounds=1)
    benchmark.extra_info |= {
        "ratio": round(theirs / whole, 3),
        "aim": 0.95,
        "peer": "a bare step of the same model and batch",
        "noise_share_percent": round(100 * noise / whole, 1),
    }


@pytest.mark.parametrize("workers", [4, 8])
def test_runs_side_by_side(benchmark, tmp_path: Path, workers: int) -> None:
    """As many runs, one after another and side by side, and what they find."""
    profile, recipe = student()
    assert recipe.teacher is not None
    recipes = [recipe.teacher.at_seed(seed) for seed in range(workers)]

    def done(at_once: int) -> tuple[float, dict[str, float]]:
        runs = [Store(tmp_path / str(at_once)).run(each) for each in recipes]
        start = time.perf_counter()
        assert execute(runs, profile.estimate, workers=at_once).done == workers
        results = {run.id: run.result() for run in runs}
        return time.perf_counter() - start, {k: r.test["top1"] for k, r in results.items() if r}

    alone, found = done(1)
    together, again = benchmark.pedantic(lambda: done(workers), rounds=1)
    benchmark.extra_info |= {
        "ratio": round(alone / together, 2),
        "aim": 3.0,
        "peer": "the same runs one after another",
        "largest difference in top-1": max(abs(found[k] - again[k]) for k in found),
    }
