"""Cost against work: runs in a store, unlabeled images, batch ratio, models, workers.

Run with: pytest tests/benchmarks/test_bench_scaling.py --benchmark-only -n 0; `ratios.py --page`
draws what is noted as `scaling`. Ratios are of the cost of one unit of work: that of a small size
over that of a large one, at most 1; below that, cost grows faster than work. Seconds are of the
processor, on one thread, but for workers. Memory is in tests/execute/test_memory.py: the peak of
this process would be that of whatever ran in it before.
"""

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import fake_result

from ns_bench.data.split import Dataset, load
from ns_bench.data.streams import stream
from ns_bench.design.cost import network as priced
from ns_bench.design.cost import shape_of
from ns_bench.design.profile import Profile, load_profile
from ns_bench.execute.local import cores, execute
from ns_bench.execute.memory import keep_memory
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import LOGITS, MODEL, Store, _parse
from ns_bench.selftrain.evaluate import predict
from ns_bench.selftrain.methods import method_of, network
from ns_bench.selftrain.pseudo import pseudo_label, quality
from ns_bench.selftrain.rows import joint_rows
from ns_bench.selftrain.targets import PseudoLabeled
from ns_bench.selftrain.train import Lesson, train

RUNS = (100, 1_000, 10_000, 100_000)
IMAGES = (1_000, 10_000, 100_000, 1_000_000)
PREDICTED = 100_000
"""Images that are predicted: of a million that is a minute, and every chunk is like every other."""
RATIOS = (1, 3, 7, 14)
STEPS, BLOCKS = 20, 3


@pytest.fixture(autouse=True)
def as_in_a_worker() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_memory()  # without it, a step depends on what else is in memory
    yield
    torch.set_num_threads(threads)


def panel(title: str, x: str, y: str, log: str, **series: list[tuple[float, float]]) -> Any:
    named = {name.replace("_", " "): points for name, points in series.items()}
    return {"title": title, "x": x, "y": y, "log": log, "series": named}


def growth(small: float, large: float) -> float:
    """Return the ratio of two costs of a unit of work; what grows slower than work counts as 1."""
    return min(small / large, 1.0)


class Meter:
    """Processor seconds."""

    def __enter__(self) -> "Meter":
        self.began = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self.began


def step_seconds(recipe: Recipe, data: Dataset, pseudo: PseudoLabeled | None = None) -> float:
    """Train for some blocks of steps; return the seconds of a step in the fastest block."""
    times = []

    class Enough(Exception):
        pass

    def after_step(step: int, state: Callable[[], Any]) -> None:
        if step % STEPS == 0:
            times.append(time.process_time())
        if len(times) > BLOCKS:
            raise Enough

    with pytest.raises(Enough):
        train(recipe, data, Lesson(pseudo), after_step=after_step)
    return min(b - a for a, b in pairwise(times)) / STEPS


def uniform(data: Dataset, recipe: Recipe) -> PseudoLabeled:
    """Label the pool of a small data set, as a teacher that has learnt nothing would."""
    draws = stream(0, "balance")
    return pseudo_label(torch.randn(len(data.unlabeled), data.classes), recipe.pseudo, 0.0, draws)


@pytest.fixture(scope="module")
def digits() -> Profile:
    return load_profile("digits", {"pseudo.threshold": "0"})


@pytest.fixture
def fast_folder() -> Iterator[Path]:
    """In memory, where there is such a file system: a disk takes minutes for 400,000 files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def test_runs_in_a_store(benchmark, digits, fast_folder) -> None:
    """A plan of all runs, and one of a study's: one minute."""

    def best(store: Store, asked: list[Recipe]) -> Meter:
        meters = []
        for _ in range(5 if len(asked) < 10_000 else 1):
            _parse.cache_clear()  # as in a process of its own
            meters.append(Meter())
            with meters[-1]:
                plan = make_plan(store, asked)
            assert plan.counts() == {"done": len(asked)}
        return min(meters, key=lambda meter: meter.seconds)

    def measure() -> tuple[list[Meter], list[Meter]]:
        store, plain = Store(fast_folder / "runs"), digits.supervised("small")
        example = store.run(plain.at_seed(1))
        result = fake_result(example)
        recipes: list[Recipe] = []
        files: dict[str, Path] = {}
        whole: list[Meter] = []
        one: list[Meter] = []
        for count in RUNS:
            for i in range(len(recipes), count):
                recipe = replace(plain, train=replace(plain.train, lr=1e-6 * (1 + i)))
                run = store.run(recipe)
                run.path.mkdir()
                run.publish(replace(result, id=run.id, recipe=recipe.to_dict()))
                for name in (MODEL, LOGITS):
                    if i % 10_000 == 0:  # a file may not have more than 65,000 links
                        shutil.copy(example.path / name, run.path / name)
                        files[name] = run.path / name
                    else:
                        os.link(files[name], run.path / name)
                recipes.append(recipe)
            gc.freeze()  # a command for 100 runs has no other recipes to look through
            one.append(best(store, recipes[:100]))
            whole.append(best(store, recipes))
        gc.unfreeze()
        return whole, one

    whole, one = benchmark.pedantic(measure, rounds=1)
    each = [meter.seconds / count for meter, count in zip(whole, RUNS, strict=True)]
    x = "runs in the store"
    benchmark.extra_info |= {
        "ratio": growth(each[-2], each[-1]),
        "peer": f"a run's share of planning {RUNS[-2]:,} runs, against {RUNS[-1]:,}",
        "scaling": [
            panel(
                "Looking at a store", x, "seconds", "xy",
                all_its_runs=list(zip(RUNS, (m.seconds for m in whole), strict=True)),
                **{"100 of them": [(float(n), m.seconds) for n, m in zip(RUNS, one, strict=True)]},
            ),
        ],
    }  # fmt: skip


def test_unlabeled_images(benchmark) -> None:
    """The pool of `glyphs` from drawing to training: one minute."""
    profile = load_profile("glyphs", {"pseudo.threshold": "0"})

    def measure() -> dict[str, list[tuple[float, float]]]:
        found: dict[str, list[tuple[float, float]]] = {}

        def note(name: str, size: int, value: float) -> None:
            found.setdefault(name, []).append((size, value))

        load(profile.supervised("small").data, 0)  # the atlas is made once
        for size in IMAGES:
            teacher = profile.supervised("small", data__unlabeled=size)
            recipe = profile.student("small", teacher, data__unlabeled=size)
            with Meter() as meter:
                data = load(recipe.data, 0)
            note("drawing", size, meter.seconds)
            if size <= PREDICTED:
                net = network(teacher, data)
                with Meter() as meter:
                    logits = predict(net, data.unlabeled.images).half()
                note("predictions", size, meter.seconds)
            else:
                logits = torch.randn(size, data.classes).half()
            with Meter() as meter:
                pseudo = pseudo_label(logits, recipe.pseudo, 0.0, stream(0, "balance"))
                quality(pseudo, torch.zeros(size, dtype=torch.int64))
            note("labels", size, meter.seconds)
            with Meter() as meter:
                joint_rows(recipe, data, pseudo, method_of(recipe), "cpu")[1].index(0)
            note("order of an epoch", size, meter.seconds)
            note("step", size, 1000 * step_seconds(recipe, data, pseudo))
        return found

    found = benchmark.pedantic(measure, rounds=1)
    steps = [value for _, value in found["step"]]
    step = {"step": found.pop("step")}
    x = "unlabeled images (glyphs, 8x8)"
    benchmark.extra_info |= {
        "ratio": growth(steps[0], steps[-1]),
        "aim": 0.9,
        "peer": f"a step with {IMAGES[0]:,} unlabeled images, against {IMAGES[-1]:,}",
        "scaling": [
            panel("What is done once a run", x, "seconds", "xy", **found),
            panel("A step: 50 labeled and 150 unlabeled rows", x, "ms", "x", **step),
        ],
    }


def test_batch_ratio(benchmark, digits) -> None:
    def measure() -> list[float]:
        teacher = digits.supervised("small")
        data = load(teacher.data, 0)
        recipes = [digits.student("small", teacher, train__ratio=ratio) for ratio in RATIOS]
        return [step_seconds(recipe, data, uniform(data, recipe)) for recipe in recipes]

    seconds = benchmark.pedantic(measure, rounds=1)
    images = [50 * (1 + ratio) for ratio in RATIOS]
    each = [s / n for s, n in zip(seconds, images, strict=True)]
    benchmark.extra_info |= {
        "ratio": growth(each[0], each[-1]),
        "aim": 1,
        "peer": f"an image at a batch ratio of {RATIOS[0]}, against {RATIOS[-1]}",
        "scaling": [
            panel(
                "Batch ratio (digits, micro-b0)", "unlabeled rows a labeled one", "ms a step", "",
                step=[(r, 1000 * s) for r, s in zip(RATIOS, seconds, strict=True)],
            )
        ],
    }  # fmt: skip


def test_models(benchmark, digits) -> None:
    def measure() -> list[float]:
        teacher = digits.supervised("small")
        data = load(teacher.data, 0)
        students = [digits.student(rung, teacher) for rung in digits.rungs]
        return [step_seconds(recipe, data, uniform(data, recipe)) for recipe in students]

    seconds = benchmark.pedantic(measure, rounds=1)
    sizes = [priced(shape_of(digits.supervised(rung))) for rung in digits.rungs]
    work = [size.forward / 1e6 for size in sizes if size is not None]
    each = [s / flops for s, flops in zip(seconds, work, strict=True)]
    benchmark.extra_info |= {
        "ratio": growth(each[0], each[-1]),
        "aim": 1,
        "peer": "a FLOP of micro-b0, against one of micro-b4",
        "scaling": [
            panel(
                "Model (micro-b0, -b2, -b4)", "MFLOP of a forward pass of an image", "ms a step",
                "", step=[(f, 1000 * s) for f, s in zip(work, seconds, strict=True)],
            )
        ],
    }  # fmt: skip


def test_workers(benchmark, digits, tmp_path) -> None:
    """Images a second of the clock, from the first run's start to the last one's end: 30 s."""
    counts = [n for n in (1, 2) if n <= cores()]
    recipes = [digits.supervised("small", train__epochs=100).at_seed(s) for s in range(4)]

    def measure() -> list[float]:
        rates = []
        for workers in counts:
            plan = make_plan(Store(tmp_path / str(workers)), recipes)
            progress = execute(plan.missing, digits.estimate, workers=workers)
            assert progress.done == len(recipes)
            paths = [run.path for run in plan.runs.values()]
            began = min((path / "recipe.json").stat().st_mtime for path in paths)
            ended = max((path / "result.json").stat().st_mtime for path in paths)
            rates.append(sum(recipe.images for recipe in recipes) / (ended - began))
        return rates

    rates = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info |= {
        "ratio": rates[-1] / rates[0] / counts[-1],
        "peer": f"{counts[-1]} workers, each as fast as one alone",
        "scaling": [
            panel(
                "Workers (digits, micro-b0)", "workers", "images a second", "",
                rate=list(zip(counts, rates, strict=True)),
            )
        ],
    }  # fmt: skip
