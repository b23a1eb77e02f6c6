"""Speed of RandAugment on one CPU thread, against timm's on Pillow images and kornia's.

The ratio to timm is of best times: medians depend on what else the machine does meanwhile.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest
import torch
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ns_bench.selftrain.randaugment import randaugment


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(batch: int, channels: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, channels, side, side)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def best_seconds(function: Callable[[], object], rounds: int = 15) -> float:
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@pytest.mark.parametrize(
    ("batch", "channels", "side"), [(50, 1, 8), (200, 1, 8), (250, 1, 8), (256, 3, 32)]
)
def test_randaugment(benchmark, batch: int, channels: int, side: int) -> None:
    images, generator = noise(batch, channels, side), torch.Generator().manual_seed(0)
    benchmark(randaugment, images, 2, 27, generator)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (1, 32), (3, 28), (3, 32)])
def test_ratio_to_timm(benchmark, channels: int, side: int) -> None:
    """Only timm's transform is timed: its conversions to and from Pillow images are not."""
    images, generator = noise(256, channels, side), torch.Generator().manual_seed(0)
    pictures = [to_pil_image(image) for image in images]
    grey = {"img_mean": 128} if channels == 1 else {}  # what it fills with, of one channel
    transform = rand_augment_transform("rand-m27-mmax30-n2-p1", grey)
    theirs = best_seconds(lambda: [transform(picture) for picture in pictures])
    benchmark(randaugment, images, 2, 27, generator)
    benchmark.extra_info |= {
        "ratio": theirs / benchmark.stats.stats.min,
        "aim": 10,
        "peer": f"timm's rand-m27-mmax30-n2-p1, on Pillow images, one thread, {side}x{side}",
        "timm_ms": 1000 * theirs,
    }


@pytest.mark.parametrize("side", [28, 32])
def test_ratio_to_kornia(benchmark, side: int) -> None:
    """Kornia takes float images, and draws two operations for a whole batch: what it costs depends
    on which. Of it the ratio is of medians, of many calls in turns. It has no grey images."""
    auto = pytest.importorskip("kornia.augmentation.auto")
    images, generator = noise(256, 3, side), torch.Generator().manual_seed(0)
    transform, floats = auto.RandAugment(n=2, m=27), images / 255
    theirs: list[float] = []
    benchmark.pedantic(
        randaugment,
        args=(images, 2, 27, generator),
        setup=lambda: theirs.append(best_seconds(lambda: transform(floats), rounds=1)),
        rounds=500,
        warmup_rounds=5,
    )
    benchmark.extra_info |= {
        "ratio": median(theirs) / benchmark.stats.stats.median,
        "aim": 2.5,
        "peer": f"kornia's RandAugment, one thread, {side}x{side}",
        "kornia_ms": 1000 * median(theirs),
    }
