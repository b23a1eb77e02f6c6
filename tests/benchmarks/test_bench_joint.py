"""The joint step against a bare one: all that training adds to forward, backward, update.

Run with: pytest tests/benchmarks/test_bench_joint.py --benchmark-only -n 0. Ours is a whole run as
a worker does it: noise, pseudo-labels, mixing, per-row dropout and stochastic depth, averaging,
metrics, checkpoints. Bare is the same network (fast, too) without noise, on one preloaded batch,
with the same optimiser. After each of our steps a bare one is made, so that both meet the same
machine; the clock by which a run writes checkpoints stands still meanwhile. Seconds are of the
processor, on one thread: nobody else's work counts, and neither does waiting for a disk.
"""

import gc
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ns_bench.design.profile import load_profile
from ns_bench.execute import checkpoint, run_one
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Store
from ns_bench.selftrain import optimize
from ns_bench.selftrain import train as training
from ns_bench.selftrain.fast_cpu import fast
from ns_bench.selftrain.loss import cross_entropy
from ns_bench.selftrain.models import build
from ns_bench.selftrain.optimize import make_optimizer, weight_groups
from ns_bench.selftrain.rows import Batches
from ns_bench.selftrain.train import train


@pytest.fixture(autouse=True)
def as_in_a_worker() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


def bare(recipe: Recipe, channels: int, side: int, device: str = "cpu") -> Callable[[], None]:
    """Return what does one bare step."""
    net: Any = (
        build(recipe.model, channels, 10, 0, recipe.generation)
        .to(device)
        .to(memory_format=torch.channels_last)
        .train()
    )
    if device == "cpu":
        fast(net)
    optimizer = make_optimizer(weight_groups(net), recipe.train)
    rows = sum(recipe.batch)
    images = torch.randn(rows, channels, side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.rand(rows, 10, device=device).softmax(1)

    def step() -> None:
        loss = cross_entropy(net(images), targets).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


PARTS = {
    "batches and their noise": (Batches, "__call__"),
    "validation": (training, "evaluate"),
    "averaging": (optimize, "update_average"),
}
"""What is timed apart in our steps, besides checkpoints."""


def paired(store: Store, recipe: Recipe) -> tuple[float, float, dict[str, float]]:
    """Do a run; return the seconds of one of its steps, of a bare one, and of parts of ours."""
    side = recipe.data.glyphs.pixels if recipe.data.name == "glyphs" else 8
    spent = dict.fromkeys([*PARTS, "checkpoints, signs of life"], 0.0)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = time.process_time()
            result = function(*arguments)
            spent[name] += time.process_time() - start
            return result

        return call

    step = bare(recipe, channels=1, side=side)
    ours, theirs, began, stood = 0.0, 0.0, 0.0, 0.0

    def between(after_step: Callable[..., None], *arguments: Any) -> None:
        nonlocal ours, theirs, began, stood
        timed("checkpoints, signs of life", after_step)(*arguments)
        now, clock = time.process_time(), time.monotonic()
        if began:  # the first step builds the network
            ours += now - began
        step()
        stood += time.monotonic() - clock
        began = time.process_time()
        theirs += (began - now) if ours else 0.0

    def watched(*arguments: Any, after_step: Callable[..., None], **options: Any) -> Any:
        return train(*arguments, after_step=partial(between, after_step), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_one, "train", watched)
        for name, (owner, function) in PARTS.items():
            patch.setattr(owner, function, timed(name, getattr(owner, function)))
        patch.setattr(
            checkpoint, "time", SimpleNamespace(monotonic=lambda: time.monotonic() - stood)
        )
        run_one.run_one(store.run(recipe))
    steps = recipe.steps - 1
    return ours / steps, theirs / steps, {name: each / steps for name, each in spent.items()}


SCALES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "digits": ("digits", "small", {}),
    "glyphs": ("glyphs", "medium", {}),
    # Model, ratio and noise of the profile `cifar10`, on images that need no download, and a
    # quarter of its batch, so that all the rest weighs more. One validation row: there are ten
    # looks at it in these ten steps, instead of at 5,000 rows in 37,500 steps.
    "cifar10": (
        "glyphs",
        "small",
        {
            "model": "small-b0",
            "data__glyphs__pixels": 32,
            "data__labeled": 160,
            "data__validation": 1,
            "data__unlabeled": 1000,
            "noise__labeled__crop_padding": 4,
            "noise__labeled__cutout": 16,
            "noise__unlabeled__crop_padding": 4,
            "noise__unlabeled__cutout": 16,
            "train__batch_size": 16,
            "train__ratio": 7,
            "train__epochs": 1,
        },
    ),
}


@pytest.mark.parametrize("scale", SCALES)
def test_joint_step(benchmark, tmp_path, scale: str) -> None:
    name, model, fields = SCALES[scale]
    profile, store = load_profile(name), Store(tmp_path)
    teacher = profile.supervised(model, **{**fields, "model": "micro-b0", "train__epochs": 2})
    recipe = profile.student(
        model, teacher, **fields, pseudo__threshold=0.0
    )  # it has learnt little
    run_one.run_one(store.run(teacher))
    ours, theirs, spent = benchmark.pedantic(lambda: paired(store, recipe), rounds=1)
    parts = {"forward, backward, update (bare)": theirs, **spent}
    rest = "the rest: noise of the network, less what a faster update saves"
    parts[rest] = ours - sum(parts.values())
    benchmark.extra_info |= {
        "ratio": round(theirs / ours, 3),
        "aim": 0.95,
        "peer": "a bare step of the same model and batch",
        "step_ms": round(1000 * ours, 2),
        "bare_step_ms": round(1000 * theirs, 2),
        "parts_ms": {name: round(1000 * each, 2) for name, each in parts.items()},
    }
