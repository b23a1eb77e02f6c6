"""Images that are decoded when they are needed: the same ones from any step, in any process."""

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ns_bench.data.sets import decode
from ns_bench.data.stream import Pictures, cells_of

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""


def picture(number: int, width: int = 48, height: int = 40) -> Image.Image:
    """Return a smooth picture, as photos are, whose colours tell its number."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(number: int, width: int = 48, height: int = 40) -> bytes:
    content = io.BytesIO()
    picture(number, width, height).save(content, "JPEG", quality=90)
    return content.getvalue()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    """Forty JPEGs in an Arrow file, mapped into memory."""
    folder = tmp_path_factory.mktemp("arrow") / "set"
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    cells = [{"bytes": jpeg(number), "path": None} for number in range(40)]
    columns = {"image": cells, "label": list(range(40))}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(folder))
    return datasets.load_from_disk(str(folder))


def pictures(table: datasets.Dataset, workers: int = 0, side: int = 16) -> Pictures:
    return Pictures(cells_of(table, "image"), np.arange(len(table)), side, workers=workers)


def step_rows(step: int) -> Tensor:
    return torch.randperm(40, generator=torch.Generator().manual_seed(step))[:6]


def expected(number: int, side: int = 16) -> Tensor:
    cell = {"bytes": jpeg(number), "path": None}
    return torch.from_numpy(decode(cell, 3, side, fast=True).copy())


def test_a_batch_has_the_rows_of_its_step(table):
    stream = pictures(table).stream(step_rows)
    for step in range(3):
        index, images = next(stream)
        assert torch.equal(index, step_rows(step))
        assert images.shape == (6, 3, 16, 16) and images.dtype == torch.uint8
        assert torch.equal(images, torch.stack([expected(int(row)) for row in index]))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_and_a_stream_begins_anywhere(table, workers):
    here, there = pictures(table).stream(step_rows), pictures(table, workers).stream(step_rows)
    first = [next(here) for _ in range(5)]
    for (index, images), (other_index, other_images) in zip(first, there, strict=False):
        assert torch.equal(index, other_index) and torch.equal(images, other_images)
    late = pictures(table, workers).stream(step_rows, start=3)
    assert torch.equal(next(late)[1], first[3][1])
    assert torch.equal(next(late)[1], first[4][1])


def test_parts_and_orders_are_lazy(table):
    whole = pictures(table)
    part = whole[torch.tensor([7, 3, 3]).numpy()]
    assert (len(part), part.shape) == (3, (3, 3, 16, 16))
    (images,) = part.split(8)
    assert torch.equal(images, torch.stack([expected(7), expected(3), expected(3)]))
    assert len(whole[5:9]) == 4
    assert [len(batch) for batch in whole.split(16)] == [16, 16, 8]
    assert list(whole[:0].split(4)) == []
    everything = torch.cat(list(pictures(table, workers=2).split(7)))
    assert torch.equal(everything, torch.stack([expected(number) for number in range(40)]))


@pytest.mark.parametrize("kind", ["files", "bytes"])
def test_images_may_be_files_or_in_the_table(kind, tmp_path: Path):
    place = tmp_path / "7.jpg"
    place.write_bytes(jpeg(7))
    cell = {"bytes": None, "path": str(place)} if kind == "files" else {"bytes": jpeg(7)}
    features = datasets.Features({"jpg": datasets.Image()})
    set_ = datasets.Dataset.from_dict({"jpg": [cell]}, features=features)
    (images,) = Pictures(cells_of(set_, "jpg"), np.arange(1), 16, workers=0).split(1)
    assert torch.equal(images[0], expected(7))


@patient
@given(st.integers(128, 700), st.integers(128, 700), st.sampled_from([32, 64]))
def test_the_fast_way_is_nearly_the_exact_one(width, height, side):
    cell = {"bytes": jpeg(width, width, height), "path": None}
    fast, exact = (decode(cell, 3, side, fast=way).astype(int) for way in (True, False))
    assert np.abs(fast - exact).mean() < 4
    assert (fast == exact).all() or min(width, height) >= 4 * side


def test_a_damaged_image_is_named(table):
    class Damaged:
        def __getitem__(self, rows):
            return [{"bytes": jpeg(row)[: 200 if row == 3 else None]} for row in rows]

    damaged = Pictures(Damaged(), np.arange(5), 16, workers=0)
    with pytest.raises(Exception, match="image 3 cannot be read"):
        list(damaged.split(2))
