"""Small data sets in files, in the schema of the hub: coloured noise of three classes."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from builders import present
from PIL import Image

from ns_bench.data.arrays import SetArrays, set_arrays
from ns_bench.data.catalog import describe
from ns_bench.data.prepare import cache_folder, prepare
from ns_bench.errors import UserError
from ns_bench.recipe import Data, Recipe

WORDS = ["blue", "green", "red"]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of its own, no network, and sets of the hub that a test may describe anew."""
    describe.cache_clear()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def coloured(rng: np.random.Generator, label: int, side: int = 8) -> Image.Image:
    """Return a noisy image whose brightest channel is its class."""
    pixels = rng.integers(0, 90, (side, side, 3))
    pixels[..., label] += 150
    return Image.fromarray(pixels.astype(np.uint8))


def photos(counts: Mapping[str, int], *, image: str = "image", label: str = "label", side: int = 8):
    """Return {split: Dataset} of so many images, classes in turn, in the schema of the hub."""
    rng = np.random.default_rng(0)
    schema = {image: datasets.Image(), label: datasets.ClassLabel(names=WORDS)}
    found = {}
    for split, count in counts.items():
        rows = [(coloured(rng, i % 3, side), i % 3) for i in range(count)]
        columns = {image: [row[0] for row in rows], label: [row[1] for row in rows]}
        found[split] = datasets.Dataset.from_dict(columns, features=datasets.Features(schema))
    return datasets.DatasetDict(found)


def tree(folder: Path, found: Mapping[str, Any], bare: tuple[str, ...] = ()) -> Path:
    """Write SPLIT/CLASS/image.png, and SPLIT/image.png of the splits `bare`."""
    for split, rows in found.items():
        for number, row in enumerate(rows):
            place = folder / split / ("" if split in bare else WORDS[row["label"]])
            place.mkdir(parents=True, exist_ok=True)
            row["image"].save(place / f"{number:03d}.png")
    return folder


def parquet(folder: Path, found: Mapping[str, Any]) -> Path:
    folder.mkdir()
    for split, rows in found.items():
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def decoded(data: Data, store: Path) -> SetArrays:
    """Return the whole set, as it is noted in `store`."""
    return set_arrays(present(describe(data).file_set), store)


def spec(**fields: Any) -> Data:
    """Describe 60 labeled and 24 test images of three classes, and a pool of 30, if asked for."""
    described = {
        "name": "photos",
        "pixels": 8,
        "labeled": 12,
        "validation": 9,
        "test": 24,
        "files__classes": 3,
        "files__labeled__split": "train",
        "files__labeled__images": 60,
        "files__test__split": "test",
        "files__test__images": 24,
    }
    values = {**described, **fields}
    dotted = {f"data.{n.replace('__', '.')}": v for n, v in values.items()}
    return Recipe.of({**dotted, "train.batch_size": 2}).data


POOL = {"files__unlabeled__split": "extra", "files__unlabeled__images": 30}


def cell(image: Image.Image, suffix: str = "PNG") -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, suffix)
    return {"bytes": buffer.getvalue(), "path": None}


def refused(spec: Data, path: Path, tmp_path: Path) -> str:
    """Return the one line that says why a set cannot be used; nothing half-read is left."""
    with pytest.raises(UserError) as caught:
        prepare([spec], tmp_path / "runs", {spec.name: str(path)})
    assert "\n" not in str(caught.value)
    left = [p.name for p in cache_folder().glob("*")]
    assert not [name for name in left if not name.startswith(".")], left
    assert not (tmp_path / "runs").exists()
    return str(caught.value)


def noted(tmp_path: Path, data: Data, **counts: int) -> Path:
    """Return a store that knows a tree of so many images."""
    place = tree(tmp_path / "photos", photos(counts), bare=("extra",))
    prepare([data], tmp_path / "runs", {"photos": str(place)})
    return tmp_path / "runs"
