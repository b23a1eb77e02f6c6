"""Images that are decoded when they are needed: the same ones from any step, in any process."""

import io
import multiprocessing
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import safetensors.torch
import torch
from builders import present
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ns_bench.data import split
from ns_bench.data.catalog import describe
from ns_bench.data.decode import decode
from ns_bench.data.lazy import LazyImages, encoded_column
from ns_bench.data.prepare import prepare
from ns_bench.design import cost
from ns_bench.design.profile import Profile, load_profile
from ns_bench.errors import UserError
from ns_bench.execute.label import main
from ns_bench.execute.local import execute
from ns_bench.execute.run_one import Paused, run_one
from ns_bench.recipe import NO_NOISE, RowNoise
from ns_bench.runs.store import LOGITS, Store
from ns_bench.selftrain.rows import Rows

pytestmark = pytest.mark.slow

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


def pictures(table: datasets.Dataset, workers: int = 0, side: int = 16) -> LazyImages:
    return LazyImages(encoded_column(table, "image"), np.arange(len(table)), side, workers=workers)


def step_rows(step: int) -> Tensor:
    return torch.randperm(40, generator=torch.Generator().manual_seed(step))[:6]


def expected(number: int, side: int = 16) -> Tensor:
    cell = {"bytes": jpeg(number), "path": None}
    return torch.from_numpy(decode(cell, 3, side, fast=True).copy())


def test_a_batch_has_the_rows_of_its_step(table):
    batches = pictures(table).batches(step_rows)
    for step in range(3):
        index, images = next(batches)
        assert torch.equal(index, step_rows(step))
        assert images.shape == (6, 3, 16, 16) and images.dtype == torch.uint8
        assert torch.equal(images, torch.stack([expected(int(row)) for row in index]))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_and_batches_begin_anywhere(table, workers):
    here, there = pictures(table).batches(step_rows), pictures(table, workers).batches(step_rows)
    first = [next(here) for _ in range(5)]
    for (index, images), (other_index, other_images) in zip(first, there, strict=False):
        assert torch.equal(index, other_index) and torch.equal(images, other_images)
    late = pictures(table, workers).batches(step_rows, start=3)
    assert torch.equal(next(late)[1], first[3][1])
    assert torch.equal(next(late)[1], first[4][1])


def test_a_daemonic_process_may_decode_in_workers_and_stays_daemonic(table):
    """As those of the local pool are, which may start no children by themselves."""
    answer, asked = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        batches = pictures(table, workers=1).batches(step_rows)
        index, _ = next(batches)
        asked.send((index.tolist(), multiprocessing.current_process().daemon))
        batches.close()

    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    asked.close()
    assert answer.recv() == (step_rows(0).tolist(), True)
    process.join(60)
    assert process.exitcode == 0


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
    (images,) = LazyImages(encoded_column(set_, "jpg"), np.arange(1), 16, workers=0).split(1)
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

    for workers in (0, 1):
        damaged = LazyImages(Damaged(), np.arange(5), 16, workers=workers)
        with pytest.raises(UserError, match="image 3 could be read before") as caught:
            list(damaged.split(2))
        assert "\n" not in str(caught.value)


def test_a_folder_of_images_may_move(folder):
    store, profile = store_of(folder)
    spec = profile.supervised("small").data
    moved = folder.rename(folder.parent / "moved")
    prepare([spec], store, {"photos": str(moved)})
    data = split.load(spec, 0, store, resolution=12)
    assert len(torch.cat(list(data.test.images.split(24)))) == 24


# --- runs on images that stream -------------------------------------------------------------

COLOURS = ["blue", "green", "red"]


def photo(number: int) -> Image.Image:
    """Return a picture of its own size whose brightest channel is its class, number modulo 3."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 90, (3, 3, 3))
    coarse[..., number % 3] += 150
    size = (int(rng.integers(20, 70)), int(rng.integers(20, 70)))
    return Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write photos/SPLIT/CLASS/*.jpg of many sizes, and photos/extra/*.jpg."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache" / "datasets")
    number = 0
    for part, count in (("train", 60), ("test", 24), ("extra", 31)):
        for _ in range(count):
            inside = "" if part == "extra" else COLOURS[number % 3]
            place = tmp_path / "photos" / part / inside / f"{number:03d}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            photo(number).save(place, quality=95)
            number += 1
    return tmp_path / "photos"


PROFILE = """
extends = "smoke"
title = "photos of many sizes"

[data]
path = "photos"

[recipe.data]
name = "photos"
pixels = 0
labeled = 12
validation = 9
test = 24

[recipe.data.files]
classes = 3
labeled = { split = "train", images = 60 }
test = { split = "test", images = 24 }
unlabeled = { split = "extra", images = 31 }

[recipe.train]
resolution = 12
epochs = 2
batch_size = 6

[model.micro-b4]
train.resolution = 16
"""


def store_of(folder: Path) -> tuple[Path, Profile]:
    (folder.parent / "mine.toml").write_text(PROFILE)
    profile = load_profile(str(folder.parent / "mine.toml"))
    store = folder.parent / "runs"
    prepare([profile.supervised("small").data], store, profile.paths)
    return store, profile


def test_a_split_of_images_that_stream(folder):
    store, profile = store_of(folder)
    spec = profile.supervised("small").data
    data = split.load(spec, 0, store, resolution=12)
    assert [len(p) for p in (data.labeled, data.validation, data.test, data.unlabeled)] == [
        *(12, 9, 24, 31)
    ]
    assert data.labeled.images.shape == (12, 3, 12, 12)
    (images,) = data.labeled.images.split(12)
    assert images.float().mean((2, 3)).argmax(1).tolist() == data.labeled.labels.tolist()
    again = split.load(spec, 0, store, resolution=16)
    assert next(again.test.images.split(24)).shape == (24, 3, 16, 16)
    assert again.labeled.labels.tolist() == data.labeled.labels.tolist()
    assert data.facts["unreadable"] == 0 and len(data.facts["fingerprint"]) == 16
    assert data.mean.min() > 20 and data.mean.max() < 230 and data.std.min() > 5


def test_damaged_and_duplicate_images_are_left_out_of_a_stream(folder):
    photo(60).save(folder / "extra" / "copy.jpg", quality=95)  # the first image that is tested on
    (folder / "extra" / "084.jpg").unlink()
    torn = folder / "train" / "blue" / "000.jpg"
    torn.write_bytes(torn.read_bytes()[:300])
    (folder.parent / "mine.toml").write_text(PROFILE)
    profile = load_profile(str(folder.parent / "mine.toml"))
    with pytest.raises(UserError, match=r"1 of 60 images of split 'train' .*000\.jpg"):
        prepare([profile.supervised("small").data], folder.parent / "runs", profile.paths)
    photo(0).save(torn, quality=95)
    store, _ = store_of(folder)
    data = split.load(profile.supervised("small").data, 0, store, resolution=12)
    assert data.facts["duplicates_left_out"] == 1 and len(data.unlabeled) == 30


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_that_stream_are_those_in_memory(folder, workers):
    """Labeled and unlabeled rows keep their own epochs, whatever the step a run goes on from."""
    store, profile = store_of(folder)
    data = split.load(profile.supervised("small").data, 0, store, resolution=12)
    assert isinstance(data.unlabeled.images, LazyImages)
    lazy = replace(data.unlabeled.images, workers=workers)
    held = torch.cat(list(replace(lazy, workers=0).split(31)))
    targets, order = torch.rand(31, 3), torch.tensor([*range(31), 5, 5])
    noise = RowNoise(crop_padding=2)
    key = ("unlabeled", 1)
    both = [Rows(images, targets, order, 14, noise, 0, key) for images in (lazy, held)]
    for step in (0, 1, 2, 7, 8, 3):
        for one, other in zip(*(rows(step) for rows in both), strict=True):
            assert torch.equal(one, other)
    fading = [
        Rows(images, targets, order, 14, noise, 0, key, lambda step: 0.5) for images in (lazy, held)
    ]
    assert torch.equal(fading[0](4)[0], fading[1](4)[0])
    for rows in (*both, *fading):
        rows.close()


def test_crops_are_of_whole_photos_and_the_same_in_any_process(folder):
    store, profile = store_of(folder)
    spec = replace(profile.supervised("small").data, crop="photo")
    data = split.load(spec, 0, store, resolution=12)
    square = split.load(replace(spec, crop="square"), 0, store, resolution=12)
    pool = data.unlabeled.images
    assert isinstance(pool, LazyImages) and pool.photo
    targets, order, key = torch.rand(31, 3), torch.arange(31), ("unlabeled", 1)

    def rows(images, strength=1.0, least=0.3, view=()):
        noise = RowNoise(**{**NO_NOISE, "resized_crop": least})
        return Rows(images, targets, order, 14, noise, 0, key, lambda step: strength, view)

    sequences = {
        "here": rows(replace(pool, workers=0)),
        "there": rows(replace(pool, workers=2)),
        "middle": rows(pool, least=0.0),
        "half": rows(pool, strength=0.5),
        "none": rows(pool, strength=0.0),
        "view": rows(pool, view=("other view",)),
        "square": rows(square.unlabeled.images),
    }
    first = {name: sequence(3)[0] for name, sequence in sequences.items()}
    assert torch.equal(first["here"], first["there"])
    assert torch.equal(first["none"], first["middle"])
    for name in ("middle", "view", "square"):
        assert not torch.equal(first["here"], first[name])
    cropped = (first["half"] == first["here"]).flatten(1).all(1)
    plain = (first["half"] == first["middle"]).flatten(1).all(1)
    assert (cropped | plain).all() and 0 < cropped.sum() < 14
    for sequence in sequences.values():
        sequence.close()
    assert not torch.equal(*(next(part.test.images.split(24)) for part in (data, square)))


def test_photos_that_are_resized_once_cannot_be_cropped_whole(folder):
    spec = replace(store_of(folder)[1].supervised("small").data, crop="photo", pixels=8)
    with pytest.raises(UserError, match=r"data\.crop=photo: 'photos' is resized once to 8 pixels"):
        describe(spec)


def test_runs_on_images_that_stream(folder):
    store, profile = store_of(folder)
    runs = Store(store)
    teacher = profile.supervised("small", train__epochs=20, train__ema=0.9)
    student = profile.student("large", teacher, pseudo__threshold=0.0)
    first, second = run_one(runs.run(teacher)), run_one(runs.run(student))
    assert first.test["top1"] > 60  # of three colours
    assert present(second.pseudo)["rows"] in (20, 30) and second.data == first.data
    fixed = student.at_higher_resolution(20, frozen=1)
    assert run_one(runs.run(fixed)).test["top1"] > 0
    logits = safetensors.torch.load_file(store / teacher.id / LOGITS)["logits"]
    assert len(logits) == 31


def test_a_large_pool_that_streams(folder, monkeypatch):
    """Made small here. Its teacher sees it at another resolution than the student."""
    monkeypatch.setattr(cost, "WHOLE_LOGITS", 0)
    monkeypatch.setattr(cost, "SHARD", 10)
    store, profile = store_of(folder)
    runs = Store(store)
    teacher = profile.supervised("large", train__epochs=20, train__ema=0.9)
    student = profile.student("small", teacher, pseudo__threshold=0.0)
    assert (teacher.train.resolution, student.train.resolution) == (16, 12)
    run_one(runs.run(teacher))
    assert present(run_one(runs.run(student)).pseudo)["rows"] in (10, 20, 30)  # 10 of a class
    shards = sorted((store / teacher.id / "labels").glob("*-of-00004"))
    made = [shard.read_bytes() for shard in shards]
    for shard in shards:
        shard.unlink()
    main([str(store / teacher.id)])  # at the teacher's own resolution
    assert [shard.read_bytes() for shard in shards] == made and len(made) == 4


def test_a_run_that_streams_goes_on_where_it_was_stopped(folder, monkeypatch):
    store, profile = store_of(folder)
    recipe = profile.supervised("small", train__epochs=10)
    whole = run_one(Store(store).run(recipe))
    other = folder.parent / "other"
    prepare([recipe.data], other, profile.paths)
    run = Store(other).run(recipe)
    with pytest.raises(Paused):
        run_one(run, until=8)
    again = run_one(run)
    assert again.resumed == 1
    model = "model.safetensors"
    assert again.artifacts[model]["sha256"] == whole.artifacts[model]["sha256"]


def test_the_local_pool_on_images_that_stream(folder):
    """Its workers are daemons, which may have no children of their own: these may."""
    store, profile = store_of(folder)
    run = Store(store).run(profile.supervised("small"))
    done = execute([run], profile.estimate, workers=1, show=lambda progress: None)
    assert not done.failed and run.result() is not None


def test_a_run_names_the_file_that_changed_since_it_was_first_read(folder):
    """Another valid image in its place trained another network, and nobody noticed."""
    store, profile = store_of(folder)
    changed = folder / "extra" / "090.jpg"
    photo(91).save(changed, quality=95)
    run = Store(store).run(profile.supervised("small"))
    progress = execute([run], profile.estimate, workers=1)
    (said,) = progress.failed.values()
    assert f"{changed} could be read before" in said and "it has changed since" in said
    assert run.state() == "failed" and "\n" not in said
    with pytest.raises(UserError, match="is not the one that the runs in"):
        prepare([run.recipe.data], store, profile.paths)  # as --data does: all is read again
    photo(90).save(changed, quality=95)
    prepare([run.recipe.data], store, profile.paths)
    pool = split.load(run.recipe.data, 0, store, resolution=12).unlabeled.images
    assert len(torch.cat(list(pool.split(31)))) == 31
