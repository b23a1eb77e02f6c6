"""A training step and a prediction of `selftrain/fast_cpu.py`, against stock torch, on one thread.

Run with: pytest tests/benchmarks/test_bench_step.py --benchmark-only -n 0. Stock is the same timm
network (weights, batch, optimiser) without any code of ours, in the better of its two memory
formats; ours has its weights end to end, as training has. The sides take turns, some steps each,
the first of which only warms the cache. Seconds are of the processor; ratios are medians over
turns. `peak_stock` and `peak` are the shares of the rate of a large matrix product, by the faster
of torch's libraries, measured between the turns: forward and backward count as three forwards.
`kernels` are the shares of torch's kernels in our step, by its profiler, which slows small ones.
"""

import copy
import gc
import statistics
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from ns_bench.design.cost import Shape
from ns_bench.execute.memory import keep_memory
from ns_bench.selftrain.count import count
from ns_bench.selftrain.fast_cpu import fast, folded
from ns_bench.selftrain.models import build
from ns_bench.selftrain.optimize import EndToEnd
from ns_bench.selftrain.products import product

SHAPES = [
    ("micro-b0", 200, 8),
    ("micro-b2", 200, 8),
    ("micro-b4", 200, 8),
    ("nano-20", 128, 14),
    ("nano-75", 128, 14),
    ("nano-210", 128, 14),
    ("small-b0", 64, 32),
]
TURNS, STEPS = 10, 4


@pytest.fixture(autouse=True)
def as_in_a_worker() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_memory()  # for all sides: without it stock's steps take a tenth to a third longer
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


def network(name: str) -> nn.Module:
    """Return timm's network, without the noise that differs by row."""
    net: nn.Module = build(name, 1, 10, 0, 0).net
    return net


def images(rows: int, side: int) -> Tensor:
    return torch.randn(rows, 1, side, side, generator=torch.Generator().manual_seed(0))


def last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def training(net: nn.Module, x: Tensor) -> Callable[[], None]:
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, foreach=True)
    labels = torch.arange(len(x)) % 10

    def step() -> None:
        loss = nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def training_ours(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a step as `training` has it, through the parts and the update that a run takes."""
    weights = EndToEnd(fast(net.train()))
    optimizer = torch.optim.SGD(weights.weights, lr=0.01, momentum=0.9, foreach=True)
    labels = torch.arange(len(x)) % 10

    def step() -> None:
        nn.functional.cross_entropy(net(x), labels).backward()
        weights.take_gradients()
        optimizer.step()

    return step


def predicting(net: nn.Module, x: Tensor) -> Callable[[], None]:
    net.eval()

    def predict() -> None:
        with torch.inference_mode():
            net(x)

    return predict


def in_turns(sides: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return seconds of a step of each side, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(TURNS):
        for name, step in sides.items():
            step()
            start = time.process_time()
            for _ in range(STEPS - 1):
                step()
            seconds[name].append((time.process_time() - start) / (STEPS - 1))
    return seconds


def compare(name: str, rows: int, side: int, flops: int, **sides: Callable[[], object]) -> dict:
    """Return the ratio of the better of stock's formats to ours, and shares of the peak."""
    matrix = torch.randn(1024, 1024)
    seconds = in_turns({**sides, "matrix": lambda: product(matrix, matrix)})
    medians = {side: statistics.median(turns) for side, turns in seconds.items()}
    stock = min(("contiguous", "channels_last"), key=medians.__getitem__)
    ratios = [a / b for a, b in zip(seconds[stock], seconds["ours"], strict=True)]
    peak = 2 * 1024**3 / medians["matrix"]
    work = flops * rows * count(Shape(name, side, 1, 10))[0]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "stock_ms": round(1000 * medians[stock], 2),
        "ours_ms": round(1000 * medians["ours"], 2),
        "peak_stock": round(work / medians[stock] / peak, 3),
        "peak": round(work / medians["ours"] / peak, 3),
    }


def kernels(step: Callable[[], None]) -> dict[str, float]:
    """Return the share of each kernel in the processor's time of a step."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(STEPS):
            step()
    spent = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    return {name: round(time / sum(spent.values()), 4) for name, time in spent.items()}


@pytest.mark.parametrize(("name", "rows", "side"), SHAPES)
def test_a_training_step(benchmark, name: str, rows: int, side: int) -> None:
    x, net = images(rows, side), network(name)
    channels_last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    sides = {
        "contiguous": training(net, x),
        "channels_last": training(channels_last, last(x)),
        "ours": training_ours(copy.deepcopy(channels_last), last(x)),
    }
    found = benchmark.pedantic(lambda: compare(name, rows, side, 3, **sides), rounds=1)
    aim = {} if name in ("micro-b2", "small-b0") else {"aim": 1.5}
    benchmark.extra_info |= {**found, **aim, "peer": "a step of stock torch, one thread"}
    benchmark.extra_info["kernels"] = kernels(sides["ours"])


@pytest.mark.parametrize(("name", "rows", "side"), SHAPES)
def test_a_prediction(benchmark, name: str, rows: int, side: int) -> None:
    x, net = images(rows, side), network(name)
    channels_last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    sides = {
        "contiguous": predicting(net, x),
        "channels_last": predicting(channels_last, last(x)),
        "ours": predicting(folded(channels_last), last(x)),
    }
    found = benchmark.pedantic(lambda: compare(name, rows, side, 1, **sides), rounds=1)
    benchmark.extra_info |= {**found, "aim": 1.3, "peer": "stock model.eval(), one thread"}
