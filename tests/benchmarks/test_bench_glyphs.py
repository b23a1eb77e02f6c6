"""Speed of the glyphs on one CPU thread, in images a second."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ns_bench.data.glyphs import OUT_OF_DOMAIN, images, out_of_domain

COUNT = 8192


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def report(benchmark) -> None:
    """Note the rate of the best round, which says least about what else the machine does."""
    rate = COUNT / benchmark.stats.stats.min
    benchmark.extra_info["images_per_second"] = rate
    assert rate >= 10_000


@pytest.mark.parametrize("pixels", [8, 16, 32])
def test_images(benchmark, pixels: int) -> None:
    labels, generator = torch.arange(COUNT) % 10, torch.Generator().manual_seed(0)
    arguments: dict[str, Any] = {"classes": 10, "pixels": pixels, "difficulty": 1.0}
    images(labels[:1], generator=generator, **arguments)  # the atlas is made once
    benchmark(images, labels, generator=generator, **arguments)
    report(benchmark)


@pytest.mark.parametrize("kind", OUT_OF_DOMAIN)
def test_out_of_domain(benchmark, kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    arguments: dict[str, Any] = {"classes": 10, "pixels": 16, "difficulty": 1.0}
    out_of_domain(1, kind, generator=generator, **arguments)
    benchmark(out_of_domain, COUNT, kind, generator=generator, **arguments)
    report(benchmark)
