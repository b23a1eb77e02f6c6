"""Data sets in files: what is read, and what is refused."""

import hashlib
import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from builders import in_memory, present
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photos import (
    POOL,
    WORDS,
    alone,  # noqa: F401 (each test has a cache of its own, and no network)
    cell,
    coloured,
    decoded,
    noted,
    parquet,
    photos,
    refused,
    spec,
    tree,
)
from PIL import Image

from ns_bench.data import convert
from ns_bench.data.catalog import check, describe, hub_sets
from ns_bench.data.convert import hashes
from ns_bench.data.prepare import cache_folder, prepare
from ns_bench.data.split import Images, hidden_labels, load
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.recipe import Data, Recipe
from ns_bench.selftrain.pseudo import PseudoLabeled, quality

pytestmark = pytest.mark.slow

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""


def keys(images: Images) -> list[bytes]:
    return [image.numpy().tobytes() for image in in_memory(images)]


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["disk", "parquet", "tree"])
def test_every_kind_of_copy_is_the_same_data(kind, tmp_path):
    found = photos({"train": 60, "test": 24, "extra": 30})
    place = tmp_path / kind
    if kind == "disk":
        found.save_to_disk(place)
    else:
        {"parquet": parquet, "tree": tree}[kind](place, found)
    prepare([spec(**POOL)], tmp_path / "runs", {"photos": str(place)})
    read = decoded(spec(**POOL), tmp_path / "runs")
    assert read.labeled.images.shape == (60, 3, 8, 8)
    assert read.labeled.labels.dtype == np.int64
    unlabeled = present(read.unlabeled)
    for table, rows in ((read.labeled, found["train"]), (present(read.test), found["test"])):
        expected = {(np.asarray(r["image"]).transpose(2, 0, 1).tobytes(), r["label"]) for r in rows}
        got = zip(table.images, present(table.labels).tolist(), strict=True)
        assert {(image.tobytes(), label) for image, label in got} == expected
    assert sorted(np.bincount(present(unlabeled.labels))) == [10, 10, 10]
    assert read.unreadable == 0


def test_a_copy_of_a_hub_set_has_its_columns_and_its_folder(tmp_path, monkeypatch):
    known = hub_sets()["cifar10"]
    files = spec(files__image="img").files
    monkeypatch.setitem(hub_sets(), "cifar10", replace(known, pixels=32, files=files))
    found = photos({"train": 60, "test": 24}, image="img", side=32)
    (tmp_path / "copy").mkdir()
    parquet(tmp_path / "copy" / "plain_text", found)
    as_tree = tree(tmp_path / "tree", photos({"train": 60, "test": 24}, side=32))
    data = Data("cifar10", labeled=12, validation=9, test=24)
    prepare([data], tmp_path / "one", {"cifar10": str(tmp_path / "copy")})
    prepare([data], tmp_path / "two", {"cifar10": str(as_tree)})
    one, two = (load(data, 0, tmp_path / name) for name in ("one", "two"))
    assert one.test.images.shape == two.test.images.shape == (24, 3, 32, 32)


def test_a_hub_set_is_asked_for_by_its_name_and_configuration(tmp_path, monkeypatch):
    """The hub is not to be reached from here: a stand-in answers for it."""
    known = hub_sets()["svhn"]
    monkeypatch.setitem(hub_sets(), "svhn", replace(known, pixels=8, files=spec(**POOL).files))
    found, asked = photos({"train": 60, "test": 24, "extra": 30}), []

    def load_dataset(*words: object, split: str):
        asked.append((*words, split))
        return found[split]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = Data("svhn", labeled=12, validation=9, test=24)
    prepare([data], tmp_path / "runs", {})
    name = ("ufldl-stanford/svhn", "cropped_digits")
    assert asked == [(*name, "train"), (*name, "test"), (*name, "extra")]
    assert len(load(data, 0, tmp_path / "runs").unlabeled) == 30
    assert present(hidden_labels(data, 0, tmp_path / "runs")).bincount().tolist() == [10, 10, 10]


def test_a_set_is_decoded_once(tmp_path, monkeypatch, capsys):
    place = tree(tmp_path / "photos", photos({"train": 60, "test": 24}))
    prepare([spec()], tmp_path / "runs", {"photos": str(place)})
    assert "is read once" in capsys.readouterr().err
    monkeypatch.setattr(convert, "decode", None)
    prepare([spec(), spec(labeled=9)], tmp_path / "runs", {})  # where it is has been noted
    prepare([spec()], tmp_path / "others", {"photos": str(place)})
    assert len(load(spec(), 0, tmp_path / "others").labeled) == 12
    assert capsys.readouterr().err == ""


def test_a_run_decodes_what_is_no_longer_there(tmp_path):
    place = tree(tmp_path / "photos", photos({"train": 60, "test": 24}))
    prepare([spec()], tmp_path / "runs", {"photos": str(place)})
    before = load(spec(), 0, tmp_path / "runs")
    for folder in cache_folder().glob("photos-*"):
        for file in folder.iterdir():
            file.unlink()
    again = load(spec(), 0, tmp_path / "runs")
    assert torch.equal(in_memory(before.test.images), in_memory(again.test.images))
    assert before.facts == again.facts


def test_a_store_keeps_to_its_data(tmp_path):
    one = tree(tmp_path / "one", photos({"train": 60, "test": 24}))
    prepare([spec()], tmp_path / "runs", {"photos": str(one)})
    moved = one.rename(tmp_path / "moved")
    prepare([spec()], tmp_path / "runs", {"photos": str(moved)})  # the same, in another place
    coloured(np.random.default_rng(9), 0).save(moved / "train" / "blue" / "000.png")
    with pytest.raises(UserError, match="is not the one that the runs in"):
        prepare([spec()], tmp_path / "runs", {"photos": str(moved)})
    prepare([spec()], tmp_path / "other", {"photos": str(moved)})


def test_where_files_are_is_no_part_of_an_id():
    ids = {load_profile("cifar10").supervised("small").id}
    assert "/" not in json.dumps(Recipe.of({"data.name": "cifar10"}).to_dict()["data"])
    assert len(ids) == 1


# --- the split ------------------------------------------------------------------------------


def test_parts_come_from_their_splits(tmp_path):
    data = spec(**POOL, unlabeled=20, test=18)
    store = noted(tmp_path, data, train=60, test=24, extra=30)
    whole = decoded(data, store)
    one, other = load(data, 0, store), load(data, 1, store)
    train, test, extra = (
        {image.tobytes() for image in present(table).images}
        for table in (whole.labeled, whole.test, whole.unlabeled)
    )
    assert [len(p) for p in (one.labeled, one.validation, one.test, one.unlabeled)] == [
        *(12, 9, 18, 20)
    ]
    assert one.labeled.labels.bincount().tolist() == [4, 4, 4]
    assert set(keys(one.labeled.images)) | set(keys(one.validation.images)) <= train
    assert not set(keys(one.labeled.images)) & set(keys(one.validation.images))
    assert set(keys(one.test.images)) <= test and set(keys(one.unlabeled.images)) <= extra
    for part in ("labeled", "validation", "test", "unlabeled"):
        images = [getattr(split, part).images for split in (one, other)]
        assert not torch.equal(*images)
    assert hidden_labels(data, 0, store) is None  # a bare folder says nothing of its images


def test_without_a_pool_of_its_own_the_rest_is_the_pool(tmp_path):
    store = noted(tmp_path, spec(), train=60, test=24)
    split = load(spec(), 3, store)
    assert len(split.unlabeled) == 60 - 12 - 9 == describe(spec()).pool
    parts = [*keys(split.labeled.images), *keys(split.validation.images)]
    assert len({*parts, *keys(split.unlabeled.images)}) == 60
    assert present(hidden_labels(spec(), 3, store)).bincount().sum() == 39


def test_all_that_validation_leaves_can_be_labeled(tmp_path):
    data = spec(labeled=51, **POOL)
    split = load(data, 0, noted(tmp_path, data, train=60, test=24, extra=30))
    assert len(split.labeled) == 51 and len(split.unlabeled) == 30


def test_mean_and_std_are_exact(tmp_path):
    data = spec(**POOL)
    split = load(data, 0, noted(tmp_path, data, train=60, test=24, extra=30))
    train = torch.cat(
        [in_memory(part.images) for part in (split.labeled, split.unlabeled)]
    ).double()
    assert torch.allclose(split.mean.flatten().double(), train.mean((0, 2, 3)), rtol=1e-6)
    assert torch.allclose(split.std.flatten().double(), train.std((0, 2, 3)), rtol=1e-6)


def test_duplicates_of_test_and_validation_are_left_out_of_the_pool(tmp_path):
    data = spec(**POOL)
    found = photos({"train": 60, "test": 24, "extra": 24})
    place = tree(tmp_path / "photos", found, bare=("extra",))
    for number in range(4):  # under other names and in another format, but the same pixels
        image = Image.open(place / "test" / "blue" / f"{3 * number:03d}.png")
        image.save(place / "extra" / f"copy-{number}.bmp")
    store = tmp_path / "runs"
    whole = [row for word in WORDS for row in sorted((place / "train" / word).iterdir())]
    for number in (0, 40):
        (place / "extra" / f"train-{number}.png").write_bytes(whole[number].read_bytes())
    prepare([data], store, {"photos": str(place)})
    for seed in range(6):
        split = load(data, seed, store)
        seen = {*keys(split.test.images), *keys(split.validation.images)}
        validated = sum(
            keys(torch.tensor(np.asarray(Image.open(whole[n])).transpose(2, 0, 1)[None]))[0]
            in set(keys(split.validation.images))
            for n in (0, 40)
        )
        assert split.facts["duplicates_left_out"] == 4 + validated
        assert len(split.unlabeled) == 30 - 4 - validated
        assert not seen & set(keys(split.unlabeled.images))


def test_labeled_images_that_are_also_test_images_stay_and_are_counted(tmp_path):
    found = photos({"train": 60, "test": 24})
    place = tree(tmp_path / "photos", found)
    for number, image in enumerate(sorted((place / "test").glob("*/*.png"))[:21]):
        word = image.parent.name
        (place / "train" / word / f"copy-{number}.png").write_bytes(image.read_bytes())
    data = spec(files__labeled__images=81, labeled=45, validation=9)
    prepare([data], tmp_path / "runs", {"photos": str(place)})
    for seed in range(3):
        split = load(data, seed, tmp_path / "runs")
        tested = set(keys(split.test.images))
        both = [image for image in keys(split.labeled.images) if image in tested]
        assert split.facts["duplicates_labeled"] == len(both) > 0
        assert len(split.labeled) == 45


@patient
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_hashes_tell_images_apart(values):
    images = np.array(values, np.uint8).reshape(-1, 1, 1, 1).repeat(2, axis=2)
    found = hashes(images)
    assert found.dtype == np.uint64 and found.shape == (len(values),)
    same = found[:, None] == found[None]
    assert (same == (np.array(values)[:, None] == np.array(values)[None])).all()


def test_an_imbalance_needs_labels(tmp_path):
    data = spec(**POOL, imbalance=3.0)
    store = noted(tmp_path, data, train=60, test=24, extra=30)
    with pytest.raises(UserError, match=r"data\.imbalance=3: the pool of 'photos' has no labels"):
        load(data, 0, store)


def test_a_pool_without_truth_has_no_accuracy():
    probabilities = torch.eye(3)[[0, 1, 2, 0]]
    labeled = PseudoLabeled(torch.arange(4), probabilities, probabilities)
    known = quality(labeled, torch.tensor([0, 1, 2, -1]))
    unknown = quality(labeled, None)
    assert known["accuracy_pool"] == 0.75
    assert not [n for n in unknown if "accuracy" in n or "foreign" in n or "right" in n]
    assert {**known, **unknown} == known


# --- a pool from elsewhere ------------------------------------------------------------------

FOREIGN = {
    "files__unlabeled__source": "web",
    "files__unlabeled__split": "train",
    "files__unlabeled__images": 30,
}


def foreign_pool(folder: Path, kind: str) -> Path:
    """Write 30 images with other columns and labels than those of the set."""
    found = photos({"train": 30}, image="jpg", label="tag")
    folder.mkdir()
    if kind == "webdataset":
        with tarfile.open(folder / "train-0.tar", "w") as tar:
            for number, row in enumerate(found["train"]):
                content = io.BytesIO()
                row["jpg"].save(content, "PNG")
                info = tarfile.TarInfo(f"{number:04d}.png")
                info.size = content.tell()
                tar.addfile(info, io.BytesIO(content.getvalue()))
    elif kind == "folder":
        tree(folder, {"train": found["train"].rename_columns({"jpg": "image"})}, bare=("train",))
    else:
        found["train"].to_parquet(folder / "train-0.parquet")
    return folder


@pytest.mark.parametrize("kind", ["parquet", "webdataset", "folder"])
def test_a_pool_from_elsewhere(kind, tmp_path):
    data = spec(**FOREIGN)
    assert present(describe(data).file_set).names == ["photos", "web"]
    assert describe(data).pool == 30
    places = {
        "photos": str(tree(tmp_path / "photos", photos({"train": 60, "test": 24}))),
        "web": str(foreign_pool(tmp_path / "web", kind)),
    }
    prepare([data], tmp_path / "runs", places)
    split = load(data, 0, tmp_path / "runs")
    # the same images as the first 30 of the set: what is also tested on is left out
    seen = len({*keys(split.test.images), *keys(split.validation.images)})
    left_out = split.facts["duplicates_left_out"]
    assert seen == 33 and len(split.unlabeled) == 30 - left_out
    assert hidden_labels(data, 0, tmp_path / "runs") is None
    prepare([data], tmp_path / "runs", {})  # where both are has been noted
    moved = {"web": str(Path(places["web"]).rename(tmp_path / "elsewhere"))}
    prepare([data], tmp_path / "runs", moved)
    assert load(data, 0, tmp_path / "runs").facts == split.facts


def test_a_set_of_the_hub_with_a_pool_from_elsewhere(tmp_path, monkeypatch):
    known = hub_sets()["cifar10"]
    monkeypatch.setitem(hub_sets(), "cifar10", replace(known, pixels=8, files=spec().files))
    of_all = {"name": "cifar10", "pixels": 0, "labeled": 51, "files__classes": 0, "test": 24}
    bare = {f"files__{part}__{name}": empty for part in ("labeled", "test")
            for name, empty in (("split", ""), ("images", 0))}  # fmt: skip
    data = spec(**{**FOREIGN, **of_all, **bare})
    places = {
        "cifar10": str(tree(tmp_path / "photos", photos({"train": 60, "test": 24}))),
        "web": str(foreign_pool(tmp_path / "web", "parquet")),
    }
    prepare([data], tmp_path / "runs", places)
    split = load(data, 0, tmp_path / "runs")
    assert (len(split.labeled), len(split.validation), len(split.test)) == (51, 9, 24)


def test_pools_from_elsewhere_that_are_refused(tmp_path):
    data = spec(**FOREIGN)
    place = tree(tmp_path / "photos", photos({"train": 60, "test": 24}))
    assert refused(data, place, tmp_path).startswith("where is data set 'web'? --data web=PATH")
    for fields, said in (
        ({"files__unlabeled__split": ""}, "data.files.unlabeled: expected the name of a split"),
        ({"files__unlabeled__source": "../web"}, "data.files.unlabeled.source=../web: expected"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            describe(spec(**{**FOREIGN, **fields}))
    hub = spec(**{**FOREIGN, "files__unlabeled__source": "owner/web"})
    assert "hf download owner/web" in refused(hub, place, tmp_path)


@pytest.mark.parametrize("name", ["photos", "imagenet"])
def test_images_of_many_sizes_need_a_side(name):
    fields = load_profile("imagenet").fields
    if name == "photos":
        own = {"pixels": 0, "labeled": 12, "validation": 9, "test": 24}
        fields = {f"data.{key}": value for key, value in own.items()}
        fields |= {f"data.files.{part}.{key}": value for part, key, value in (
            ("labeled", "split", "train"), ("labeled", "images", 60))}  # fmt: skip
        fields |= {"data.name": "photos", "data.files.classes": 3, "train.batch_size": 2}
    with pytest.raises(UserError, match=f"=0: expected the side of the images of '{name}'"):
        check(Recipe.of(fields))
    check(Recipe.of({**fields, "train.resolution": 12}))


# --- what is refused ------------------------------------------------------------------------


def test_many_labels_that_are_words_are_numbered_in_their_order(tmp_path):
    """Of 400 classes, shuffled; in a pool there are words that are no class, and none at all."""
    words = [f"n{number:05d}" for number in range(400)]
    order = np.random.default_rng(0).permutation(800)
    labels = {
        "train": [words[number % 400] for number in order],
        "extra": [words[399], "stranger", None, words[0]],
    }
    schema = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    (tmp_path / "photos").mkdir()
    for split, column in labels.items():
        images = [coloured(np.random.default_rng(row), row % 3) for row in range(len(column))]
        rows = datasets.Dataset.from_dict({"image": images, "label": column}, features=schema)
        rows.to_parquet(tmp_path / "photos" / f"{split}-00000-of-00001.parquet")
    sizes = {"files__classes": 400, "files__labeled__images": 800, "labeled": 400}
    pool = {**POOL, "files__unlabeled__images": 4}
    no_test = {"files__test__split": "", "files__test__images": 0}
    data = spec(**sizes, **pool, **no_test)
    prepare([data], tmp_path / "runs", {"photos": str(tmp_path / "photos")})
    whole = decoded(data, tmp_path / "runs")
    assert whole.labeled.labels.tolist() == (order % 400).tolist()
    assert present(whole.unlabeled).labels.tolist() == [399, -1, -1, 0]


def test_wrong_columns_splits_and_sizes(tmp_path):
    place = tmp_path / "photos"
    photos({"train": 60, "test": 24}).save_to_disk(place)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"files__image": "imag"}, "'imag': did you mean 'image'?"),
        ({"files__label": "lable"}, "'lable': did you mean 'label'?"),
        ({"files__labeled__split": "trian"}, "'trian': did you mean 'train'?"),
        (
            {"files__labeled__images": 66},
            "split 'train' has 60 images, its description says 66 (data.files.labeled.images)",
        ),
        (
            {"files__test__images": 20, "test": 20},
            "split 'test' has 24 images, its description says 20 (data.files.test.images)",
        ),
        ({"files__classes": 4}, "3 classes (blue, green, red), the description says 4"),
    ]
    for fields, said in cases:
        assert said in refused(spec(**fields), place, tmp_path)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1, 3] * 20, "label 3 of row 2: expected 0 to 2"),
        ([0, 1, -1] * 20, "label -1 of row 2: expected 0 to 2"),
        ([0, 1] * 30, "class 2 has no images"),
        ([0.5, 1.0, 2.0] * 20, "label 0.5 of row 0: expected a whole number"),
        (["a", "b"] * 30, "2 classes (a, b), the description says 3"),
    ],
)
def test_wrong_labels(labels, said, tmp_path):
    plain = photos({"train": 60, "test": 24})
    images = [{"bytes": cell(row["image"])["bytes"], "path": None} for row in plain["train"]]
    train = datasets.Dataset.from_dict({"image": images, "label": labels})
    place = parquet(tmp_path / "photos", {"train": train, "test": plain["test"]})
    assert said in refused(spec(), place, tmp_path)


def test_a_class_that_only_the_test_split_has(tmp_path):
    place = tree(tmp_path / "photos", photos({"train": 60, "test": 24}))
    (place / "test" / "red").rename(place / "test" / "rad")
    assert "'rad': did you mean 'red'?" in refused(spec(), place, tmp_path)


@pytest.mark.parametrize("content", [None, "notes.txt", "broken.parquet"])
def test_a_folder_that_is_no_data_set(content, tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    if content:
        (place / content).write_text("text")
    said = refused(spec(), place, tmp_path)
    assert "data set 'photos' in" in said


def test_a_damaged_parquet_file(tmp_path):
    place = parquet(tmp_path / "photos", photos({"train": 60, "test": 24}))
    file = place / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-200])
    assert "split 'train' cannot be read: " in refused(spec(), place, tmp_path)


def test_missing_data_says_what_to_download_and_where_to_put_it(tmp_path):
    with pytest.raises(UserError) as caught:
        prepare([Data("svhn", labeled=1000, validation=100, test=26_032)], tmp_path / "runs", {})
    said = str(caught.value)
    assert (
        "`hf download ufldl-stanford/svhn --repo-type dataset --include 'cropped_digits/*'" in said
    )
    assert said.endswith("--data svhn=svhn") and "\n" not in said
    with pytest.raises(UserError, match=r"where is data set 'photos'\? --data photos=PATH"):
        prepare([spec()], tmp_path / "runs", {})


# --- the rest -------------------------------------------------------------------------------


def test_a_hash_is_of_content():
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    expected = hashlib.blake2b(image[0].tobytes(), digest_size=8).digest()
    assert hashes(image)[0].tobytes() == expected
