"""Images in idx files, as Fashion-MNIST comes."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import in_memory, present
from hypothesis import given
from hypothesis import strategies as st
from photos import alone, decoded, parquet  # noqa: F401 (no network)
from PIL import Image

from ns_bench.data import idx
from ns_bench.data.catalog import PACKAGED, describe, hub_sets
from ns_bench.data.decode import decode
from ns_bench.data.prepare import cache_folder, prepare
from ns_bench.data.split import hidden_labels, load
from ns_bench.errors import UserError
from ns_bench.recipe import Data, Files, Glyphs, Part

pytestmark = pytest.mark.slow

DEBIAN = Path(hub_sets()["fashion"].folder)

installed = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="there is no package dataset-fashion-mnist"
)


def packed(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def clothes(folder: Path, train: int = 60, test: int = 24, side: int = 28) -> Path:
    """Write the four files, gzipped, of random images; classes in turn."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for stem, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, side, side))
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            (folder / f"{stem}-{name}-ubyte.gz").write_bytes(gzip.compress(packed(array)))
    return folder


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The set `fashion` of 60 and 24 images, in a folder where a package would put them."""
    known = hub_sets()["fashion"]
    files = Files(
        classes=10, channels=1, labeled=Part("train", images=60), test=Part("test", images=24)
    )
    folder = tmp_path / "installed"
    described = replace(known, files=files, folder=str(folder))
    monkeypatch.setitem(hub_sets(), "fashion", described)
    return folder


SPEC = Data("fashion", labeled=20, validation=10, test=24, pixels=14)


# --- one file -------------------------------------------------------------------------------


@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    zipped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_was_written_is_read(tmp_path_factory, shape, zipped, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.mktemp("idx") / f"images{'.gz' if zipped else ''}"
    path.write_bytes(gzip.compress(packed(array)) if zipped else packed(array))
    assert np.array_equal(idx.read(path, array.ndim), array)


@given(data=st.data(), zipped=st.booleans())
def test_no_part_of_a_file_is_taken_for_the_whole(tmp_path_factory, data, zipped):
    whole = packed(np.arange(24).reshape(2, 3, 4))
    whole = gzip.compress(whole) if zipped else whole
    length = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.mktemp("idx") / f"images{'.gz' if zipped else ''}"
    path.write_bytes(whole[:length])
    with pytest.raises(UserError) as caught:
        idx.read(path, 3)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@given(content=st.binary(max_size=60), zipped=st.booleans(), named=st.booleans())
def test_any_bytes_are_an_array_or_one_line(tmp_path_factory, content, zipped, named):
    path = tmp_path_factory.mktemp("idx") / f"images{'.gz' if named else ''}"
    path.write_bytes(gzip.compress(content) if zipped else content)
    try:
        read = idx.read(path, 3)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert read.dtype == np.uint8 and read.ndim == 3


SQUARES = packed(np.zeros((2, 3, 3)))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"PK\x03\x04" * 9, "it begins with 50 4b 03 04, expected 00 00 08 03 and 3 sizes"),
        (packed(np.zeros(5)), "it begins with 00 00 08 01, expected 00 00 08 03"),
        (b"", "it begins with nothing, expected"),
        (SQUARES[:-1], "17 bytes follow its header, expected 18 (2 x 3 x 3)"),
        (SQUARES + b"x", "19 bytes follow its header, expected 18 (2 x 3 x 3)"),
    ],
    ids=["zip", "labels", "empty", "short", "long"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_are_refused(content, line, zipped, tmp_path):
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if zipped else ''}"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(UserError) as caught:
        idx.read(path, 3)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_not_gzip_or_broken_are_refused(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(SQUARES)
    with pytest.raises(UserError, match="it is not a gzip file, or damaged: "):
        idx.read(path, 3)
    path.write_bytes(gzip.compress(SQUARES)[:-9])
    with pytest.raises(UserError, match="it is damaged or was not copied to its end: "):
        idx.read(path, 3)
    with pytest.raises(UserError, match="it cannot be read: No such file"):
        idx.read(tmp_path / "none", 3)


# --- a set ----------------------------------------------------------------------------------


def test_a_folder_that_a_package_has_is_read_without_a_word(small, tmp_path):
    clothes(small)
    split = load(SPEC, 0, tmp_path / "runs")
    assert split.labeled.images.shape == (20, 1, 14, 14)
    assert [len(part) for part in (split.validation, split.test, split.unlabeled)] == [10, 24, 30]
    assert split.labeled.labels.bincount().tolist() == [2] * 10


def test_another_folder_goes_before_that_of_a_package(small, tmp_path):
    clothes(small)
    theirs = clothes(tmp_path / "theirs", side=30)
    prepare([SPEC], tmp_path / "runs", {"fashion": str(theirs)})
    (small / "train-images-idx3-ubyte.gz").unlink()
    assert len(load(SPEC, 0, tmp_path / "runs").labeled) == 20


def test_without_a_package_the_line_says_where_to_get_it(small, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="hf download zalando-datasets/fashion_mnist"):
        prepare([SPEC], tmp_path / "runs", {})


def test_parquet_and_idx_files_are_the_same_set(small, tmp_path):
    clothes(small)
    parquet(tmp_path / "copy", {split: idx.open_split(small, split) for split in ("train", "test")})
    prepare([SPEC], tmp_path / "one", {})
    prepare([SPEC], tmp_path / "two", {"fashion": str(tmp_path / "copy")})
    one, two = (decoded(SPEC, tmp_path / name) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    assert np.array_equal(one.labeled.images, two.labeled.images)


def test_plain_files_and_dots_in_their_names_will_do(small, tmp_path):
    clothes(small)
    for path in sorted(small.iterdir()):
        plain = small / path.name.replace("-idx", ".idx").removesuffix(".gz")
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert len(load(SPEC, 0, tmp_path / "runs").test) == 24


def test_pixels_are_means_of_four_rounded_halves_up(small, tmp_path):
    clothes(small)
    raw = idx.read(small / "train-images-idx3-ubyte.gz", 3).astype(int)
    sums = raw[:, ::2, ::2] + raw[:, 1::2, ::2] + raw[:, ::2, 1::2] + raw[:, 1::2, 1::2]
    prepare([SPEC], tmp_path / "runs", {})
    read = decoded(SPEC, tmp_path / "runs").labeled.images[:, 0]
    assert np.array_equal(read, (sums + 2) // 4)
    assert (sums % 4 == 2).any()
    untouched = Data("fashion", labeled=20, validation=10, test=24)
    assert np.array_equal(decoded(untouched, tmp_path / "runs").labeled.images[:, 0], raw)


def test_only_sets_that_say_so_are_shrunk_to_means(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    file = tmp_path / "image.png"
    Image.fromarray(pixels).save(file)
    cell = {"bytes": file.read_bytes(), "path": None}
    assert not np.array_equal(decode(cell, 1, 14), decode(cell, 1, 14, means=True))
    assert np.array_equal(decode(cell, 1, 15), decode(cell, 1, 15, means=True))


def test_too_few_labels_are_refused(small, tmp_path):
    path = clothes(small) / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(packed(np.zeros(59))))
    with pytest.raises(UserError, match="it has 59 labels, expected 60 as there are images in"):
        prepare([SPEC], tmp_path / "runs", {})
    assert not [p for p in cache_folder().glob("*") if not p.name.startswith(".")]


def test_images_without_labels_are_refused(small, tmp_path):
    (clothes(small) / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"column of data set 'fashion' in .*'label'"):
        prepare([SPEC], tmp_path / "runs", {})


def test_a_set_of_ones_own_can_be_in_idx_files(tmp_path):
    files = Files(
        classes=10, channels=1, labeled=Part("train", images=60), test=Part("test", images=24)
    )
    own = Data("letters", labeled=20, validation=10, test=24, pixels=28, files=files)
    prepare([own], tmp_path / "runs", {"letters": str(clothes(tmp_path / "letters"))})
    assert load(own, 0, tmp_path / "runs").test.images.shape == (24, 1, 28, 28)


def test_part_of_the_pool_can_be_glyphs(small, tmp_path):
    clothes(small)
    spec = replace(SPEC, source="glyphs", out_of_domain=0.4, glyphs=Glyphs(pixels=14))
    mixed, whole = (load(data, 3, tmp_path / "runs") for data in (spec, SPEC))
    assert describe(spec).pool == len(mixed.unlabeled) == len(whole.unlabeled) == 30
    for part in ("labeled", "validation", "test"):
        assert torch.equal(getattr(mixed, part).images, getattr(whole, part).images)
    truth = present(hidden_labels(spec, 3, tmp_path / "runs"))
    assert (truth == -1).sum() == 12
    assert 0 < (truth[:15] == -1).sum() < 12  # shuffled
    clothing = {image.numpy().tobytes() for image in in_memory(whole.unlabeled.images)}
    own = [image.numpy().tobytes() in clothing for image in in_memory(mixed.unlabeled.images)]
    assert torch.equal(torch.tensor(own), truth >= 0)
    again = load(spec, 3, tmp_path / "runs")
    assert torch.equal(in_memory(again.unlabeled.images), in_memory(mixed.unlabeled.images))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"out_of_domain": 0.4}, "glyphs has, and with data.source=glyphs every set but digits"),
        ({"out_of_domain": 0.4, "source": "digits"}, "'fashion' has no images out of domain"),
        ({"out_of_domain": 0.4, "source": "glyphs", "imbalance": 3.0}, "data.imbalance=1 with it"),
        ({"name": "digits", "out_of_domain": 0.4, "source": "glyphs"}, "'digits' has no images"),
    ],
)
def test_mixed_pools_that_are_refused(fields, line):
    with pytest.raises(UserError) as caught:
        describe(replace(SPEC, **fields))
    assert line in str(caught.value)


# --- the real one ---------------------------------------------------------------------------


@installed
def test_the_packages_files_are_fashion_mnist():
    """Sizes and class counts of Xiao et al. 2017, section 2."""
    for stem, count in (("train", 60_000), ("t10k", 10_000)):
        images = idx.read(DEBIAN / f"{stem}-images-idx3-ubyte.gz", 3)
        labels = idx.read(DEBIAN / f"{stem}-labels-idx1-ubyte.gz", 1)
        assert images.shape == (count, 28, 28)
        assert np.bincount(labels).tolist() == [count // 10] * 10


@installed
def test_the_real_set_is_read_and_split(tmp_path):
    data = Data("fashion", labeled=1000, validation=5000, test=10_000, pixels=14)
    assert not hub_sets().keys() & PACKAGED.keys() and describe(data).pool == 54_000
    split = load(data, 1000, tmp_path / "runs")
    assert len(split.test) == 10_000 and split.labeled.images.shape == (1000, 1, 14, 14)
    assert len(split.unlabeled) == 54_000 - split.facts["duplicates_left_out"]
    assert split.facts["duplicates_left_out"] < 200
    assert split.labeled.labels.bincount().tolist() == [100] * 10
