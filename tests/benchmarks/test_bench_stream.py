"""Throughput of decoding against timm's `create_loader`: the same JPEGs to 224 pixels, uint8.

Run with: pytest tests/benchmarks/test_bench_stream.py --benchmark-only -n 0. In `extra_info`:
images a second, and CPU milliseconds an image over all processes. Both crop the middle and resize
it bilinearly, in two workers; timm's batches are taken before it normalises them, as ours are. Ours
come from an Arrow file, timm's from the folder that this was made of.
"""

import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_dataset, create_loader
from torch import Tensor

from ns_bench.data.lazy import LazyImages, encoded_column

IMAGES, BATCH, WORKERS, SIDE = 768, 64, 2, 224
ROUNDS = 3


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write pictures of 500 x 375 pixels, ImageNet's usual size, of about 100 kB, its mean."""
    folder = tmp_path_factory.mktemp("jpegs")
    for number in range(IMAGES):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        grain = rng.normal(0, 12, smooth.shape)
        place = folder / "train" / f"class{number % 10}" / f"{number:04d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = (smooth + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place, quality=90)
    return folder / "train"


@pytest.fixture(scope="module")
def arrow(jpegs: Path) -> Any:
    features = datasets.Features({"image": datasets.Image()})
    files = sorted(jpegs.rglob("*.jpg"))
    cells = [{"bytes": file.read_bytes(), "path": None} for file in files]
    datasets.Dataset.from_dict({"image": cells}, features=features).save_to_disk(
        str(jpegs.parent / "arrow")
    )
    return datasets.load_from_disk(str(jpegs.parent / "arrow"))


def cost(batches: Callable[[], Iterable[Tensor]]) -> tuple[float, float]:
    """Return images a second and CPU seconds an image of the best of some passes."""

    def used() -> float:
        both = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in both)

    found = []
    for _ in range(ROUNDS):
        start, before = time.perf_counter(), used()
        images = sum(len(batch) for batch in batches())
        assert images == IMAGES
        found.append((images / (time.perf_counter() - start), (used() - before) / images))
    return max(found)[0], min(cpu for _, cpu in found)


def test_ratio_to_timm(benchmark, jpegs, arrow) -> None:
    def theirs() -> Iterable[Tensor]:
        loader = create_loader(
            create_dataset("", root=str(jpegs)),
            input_size=(3, SIDE, SIDE),
            batch_size=BATCH,
            is_training=False,
            interpolation="bilinear",
            crop_pct=1.0,
            num_workers=WORKERS,
            persistent_workers=False,
            pin_memory=False,
            device=torch.device("cpu"),
        )
        for images, _ in loader.loader:
            assert images.shape[1:] == (3, SIDE, SIDE) and images.dtype == torch.uint8
            yield images

    rows = np.arange(IMAGES)
    pictures = LazyImages(encoded_column(arrow, "image"), rows, SIDE, workers=WORKERS)
    exact, our_cpu = cost(lambda: pictures.split(BATCH))
    timms, timm_cpu = cost(theirs)
    benchmark.pedantic(lambda: list(pictures.split(BATCH)), rounds=1)
    benchmark.extra_info |= {
        "images_a_second": round(exact),
        "timm_images_a_second": round(timms),
        "cpu_ms_an_image": round(1000 * our_cpu, 2),
        "timm_cpu_ms_an_image": round(1000 * timm_cpu, 2),
        "ratio": exact / timms,
        "aim": 1,
        "peer": "timm's create_loader, images a second, two workers",
        "cpu_ratio": round(our_cpu / timm_cpu, 2),
    }
