"""A folder of images is looked at, and the profile that is written of it is one that runs."""

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from photos import WORDS, alone, coloured, parquet, photos, tree  # noqa: F401 (no network)

from ns_bench.data.catalog import check
from ns_bench.data.prepare import prepare
from ns_bench.data.split import class_names, load
from ns_bench.design.profile import load_profile
from ns_bench.study import main

pytestmark = pytest.mark.slow

COUNTS = {"train": 90, "test": 24, "extra": 40}


def classes(folder: Path) -> Path:
    tree(folder.parent / "rows", photos({"all": 120}))
    return (folder.parent / "rows/all").rename(folder)


def splits(folder: Path) -> Path:
    return tree(folder, photos(COUNTS), bare=("extra",))


def shards(folder: Path) -> Path:
    found = photos(COUNTS, image="img", label="fine_label")
    return parquet(folder, {split: found[split] for split in ("train", "test")})


def named_shards(folder: Path) -> Path:
    """As converters name them: once both were read as one split."""
    folder.mkdir()
    for split, rows in photos({"train": 90, "test": 24}).items():
        rows.to_parquet(folder / f"photos-{split}.parquet")
    return folder


def idx_files(folder: Path) -> Path:
    folder.mkdir()
    for stem, count in (("train", 90), ("t10k", 24)):
        arrays = {"images-idx3": np.random.default_rng(0).integers(0, 255, (count, 28, 28))}
        arrays["labels-idx1"] = np.arange(count) % 3
        for name, array in arrays.items():
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            content = gzip.compress(head + array.astype(np.uint8).tobytes())
            (folder / f"{stem}-{name}-ubyte.gz").write_bytes(content)
    return folder


def batches(folder: Path) -> Path:
    """As torchvision unpacks CIFAR-10."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for file, count in {"data_batch_1": 45, "data_batch_2": 45, "test_batch": 24}.items():
        labels = [i % 3 for i in range(count)]
        images = [np.asarray(coloured(rng, label, 32)).transpose(2, 0, 1) for label in labels]
        rows = {"data": np.stack(images).reshape(count, -1), "labels": labels}
        (folder / file).write_bytes(pickle.dumps(rows))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": WORDS}))
    return folder


@pytest.mark.parametrize("made", [classes, splits, shards, named_shards, idx_files, batches])
def test_the_profile_of_a_folder_is_one_that_loads(
    made: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = made(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    assert main(["--init", "photos"]) == 0
    assert "# in all: " in capsys.readouterr().out
    profile = load_profile("photos.toml")
    teacher = profile.supervised("small")
    student = profile.student("small", teacher)
    check(student)
    assert 190 <= teacher.steps <= 210
    store = tmp_path / "runs"
    store.mkdir()
    prepare([teacher.data], store, profile.paths)
    data = load(teacher.data, 0, store)
    assert data.classes == 3 and len(data.test) == teacher.data.test
    assert teacher.data.pixels == {"idx_files": 28, "batches": 32}.get(made.__name__, 8)
    assert teacher.data.files.channels == (1 if made is idx_files else 3)
    assert class_names(teacher.data, store) == (["0", "1", "2"] if made is idx_files else WORDS)
    assert (len(data.unlabeled) >= 35) and len(data.labeled) == teacher.data.labeled
    assert main(["--init", str(folder)]) == 2  # what is written is not written over
    assert "photos.toml is there already" in capsys.readouterr().err


def test_what_holds_no_classes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for folder, line in {"empty": "found nothing", "gone": "there is no such folder"}.items():
        assert main(["--init", folder]) == 2
        assert line in capsys.readouterr().err
    assert not list(tmp_path.glob("*.toml"))


def test_columns_of_another_name_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows").mkdir()
    pd.DataFrame({"img": [b"1", b"2"], "cls": [0, 1]}).to_parquet("rows/train.parquet")
    assert main(["--init", "rows"]) == 2
    assert "expected a column 'image', found img, cls\n" in capsys.readouterr().err


def test_a_pickle_that_names_code_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = batches(tmp_path / "cifar")
    (folder / "data_batch_1").write_bytes(pickle.dumps(print))
    assert main(["--init", "cifar"]) == 2
    assert "data_batch_1: cannot be read: it names builtins.print" in capsys.readouterr().err
