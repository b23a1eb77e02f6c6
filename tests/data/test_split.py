"""The split: its sizes, what depends on the seed and on nothing else, and that no label leaks."""

import dataclasses
import subprocess
import sys
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from builders import in_memory, present
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from ns_bench.data.catalog import PACKAGED, PackagedSet, check, describe
from ns_bench.data.split import (
    LOADERS,
    Dataset,
    Images,
    Labeled,
    Unlabeled,
    _take,
    hidden_labels,
    load,
)
from ns_bench.data.streams import stream, stream_seed
from ns_bench.errors import UserError
from ns_bench.recipe import Data, Recipe

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""

DIGITS = Data()
PARTS = ("labeled", "unlabeled", "validation", "test")


def keys(images: Images) -> Counter[bytes]:
    """Return how often each image is there."""
    return Counter(image.numpy().tobytes() for image in in_memory(images))


@cache
def everything() -> tuple[Tensor, Tensor]:
    """Read the digits again, by another way than the code under test."""
    bunch = load_digits()
    images = torch.tensor(np.rint(bunch.images[:, None] * 255 / 16), dtype=torch.uint8)
    return images, torch.tensor(bunch.target)


def same(one: Dataset, other: Dataset) -> bool:
    return all(
        torch.equal(tensor, getattr(getattr(other, part), name))
        for part in PARTS
        for name, tensor in vars(getattr(one, part)).items()
    )


def add_source(monkeypatch: pytest.MonkeyPatch, name: str, images: Tensor, labels: Tensor) -> None:
    monkeypatch.setitem(PACKAGED, name, PackagedSet(len(images), int(labels.max()) + 1))
    monkeypatch.setitem(LOADERS, name, lambda: Labeled(images, labels))


# --- sizes and contents ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 1000])
def test_sizes(seed):
    split = load(DIGITS, seed)
    assert {part: len(getattr(split, part)) for part in PARTS} == {
        "labeled": 50,
        "unlabeled": 1147,
        "validation": 100,
        "test": 500,
    }
    assert split.classes == 10
    for part in PARTS:
        images = getattr(split, part).images
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (1, 8, 8)
    for known in (split.labeled, split.validation, split.test):
        assert known.labels.dtype == torch.int64
        assert known.labels.shape == (len(known),)


@pytest.mark.parametrize("labeled", [10, 50, 300])
def test_the_labeled_set_has_the_same_number_of_each_class(labeled):
    split = load(Data(labeled=labeled), 3)
    assert split.labeled.labels.bincount().tolist() == [labeled // 10] * 10


def test_pixels_are_those_of_the_source_and_use_the_whole_range():
    images, labels = everything()
    split = load(DIGITS, 0)
    pool = torch.cat([getattr(split, part).images for part in PARTS])
    assert keys(pool) == keys(images)
    assert (int(pool.min()), int(pool.max())) == (0, 255)
    assert sorted(pool.unique().tolist()) == sorted(images.unique().tolist())
    assert len(images) == len(labels) == 1797


def with_labels(split: Dataset, spec: Data, seed: int) -> list[tuple[Tensor, Tensor]]:
    hidden = present(hidden_labels(spec, seed))
    named = [
        (in_memory(part.images), part.labels)
        for part in (split.labeled, split.validation, split.test)
    ]
    return [*named, (in_memory(split.unlabeled.images), hidden)]


def labelled_keys(images: Tensor, labels: Tensor) -> Counter[tuple[bytes, int]]:
    rows = zip(images, labels.tolist(), strict=True)
    return Counter((image.numpy().tobytes(), label) for image, label in rows)


def check_partition(spec: Data, seed: int) -> None:
    """Every image with its label is in one part exactly: together the parts are the whole."""
    parts = with_labels(load(spec, seed), spec, seed)
    together: Counter[tuple[bytes, int]] = Counter()
    for images, labels in parts:
        together += labelled_keys(images, labels)
    assert together == labelled_keys(*everything())


@pytest.mark.parametrize("seed", [0, 7])
def test_parts_are_disjoint_and_cover_everything(seed):
    check_partition(DIGITS, seed)


def test_parts_share_no_row():
    """The digits are all different images, so that equal images would be equal rows."""
    images, _ = everything()
    assert max(keys(images).values()) == 1
    split = load(DIGITS, 0)
    sets = [set(keys(getattr(split, part).images)) for part in PARTS]
    assert len(set.union(*sets)) == sum(map(len, sets)) == 1797


@pytest.mark.slow
@settings(patient, max_examples=40)
@given(
    labeled=st.integers(1, 30).map(lambda n: 10 * n),
    validation=st.integers(0, 400),
    test=st.integers(1, 700),
    seed=st.integers(0, 2**31 - 1),
)
def test_any_sizes_that_fit(labeled, validation, test, seed):
    spec = Data(labeled=labeled, validation=validation, test=test)
    split = load(spec, seed)
    sizes = [len(getattr(split, part)) for part in PARTS]
    assert sizes == [labeled, 1797 - labeled - validation - test, validation, test]
    assert split.labeled.labels.bincount(minlength=10).tolist() == [labeled // 10] * 10
    check_partition(spec, seed)


@settings(patient, max_examples=60)
@given(
    labeled=st.integers(1, 180).map(lambda n: 10 * n),
    validation=st.integers(0, 1000),
    test=st.integers(1, 1000),
    seed=st.integers(0, 3),
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(labeled, validation, test, seed):
    spec = Data(labeled=labeled, validation=validation, test=test)
    _, labels = everything()
    order = torch.randperm(1797, generator=stream(seed, "split"))
    rest = labels[order[test + validation :]]
    scarcest = int(rest.bincount(minlength=10).min())
    if len(rest) > labeled and scarcest >= labeled // 10:
        assert len(load(spec, seed).unlabeled) == len(rest) - labeled == describe(spec).pool
        return
    with pytest.raises(UserError) as caught:
        load(spec, seed)
    reason = "leaves a class fewer than" if len(rest) > labeled else "leave no unlabeled pool"
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


# --- what a split depends on ----------------------------------------------------------------


def test_a_seed_gives_one_split():
    assert same(load(DIGITS, 5), load(DIGITS, 5))


def test_seeds_give_different_splits():
    splits = [load(DIGITS, seed) for seed in range(6)]
    for part in PARTS:
        contents = {getattr(split, part).images.numpy().tobytes() for split in splits}
        assert len(contents) == len(splits)
    overlap = len(set(keys(splits[0].test.images)) & set(keys(splits[1].test.images)))
    assert 90 < overlap < 190  # 500 x 500 / 1797 = 139 expected, sd 8.5


def test_arms_of_a_seed_share_the_split():
    teacher = Recipe(model="micro-b4").at_seed(4)
    student = Recipe(teacher=Recipe(model="micro-b4")).set({"train.lr": 0.1}).at_seed(4)
    splits = [load(recipe.data, recipe.seed) for recipe in (teacher, student)]
    assert same(*splits)


def test_the_split_does_not_depend_on_other_random_numbers():
    before = load(DIGITS, 2)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert same(before, load(DIGITS, 2))
    assert torch.equal(state, torch.get_rng_state())  # and draws none of theirs


def test_fewer_labels_are_a_part_of_more():
    """An arm with another number of labels has the same test and validation rows."""
    few, more = load(Data(labeled=50), 1), load(Data(labeled=200), 1)
    for part in ("test", "validation"):
        assert torch.equal(getattr(few, part).images, getattr(more, part).images)
    assert keys(few.labeled.images) <= keys(more.labeled.images)
    assert keys(more.unlabeled.images) <= keys(few.unlabeled.images)


def test_writing_into_a_split_does_not_change_the_next():
    before = keys(load(DIGITS, 0).labeled.images)
    split = load(DIGITS, 0)
    for part in PARTS:
        getattr(split, part).images.zero_()
    split.labeled.labels.zero_()
    assert keys(load(DIGITS, 0).labeled.images) == before
    check_partition(DIGITS, 0)


def test_the_split_is_the_documented_one():
    """Test, then validation, then the first of each class, by the stream "split"."""
    images, labels = everything()
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(stream_seed(6, "split")))
    expected: dict[str, list[int]] = {
        "test": order[:500].tolist(),
        "validation": order[500:600].tolist(),
        "labeled": [],
        "unlabeled": [],
    }
    taken: Counter[int] = Counter()
    for row in order[600:].tolist():
        taken[int(labels[row])] += 1
        part = "labeled" if taken[int(labels[row])] <= 5 else "unlabeled"
        expected[part].append(row)
    split = load(DIGITS, 6)
    for part, rows in expected.items():
        assert torch.equal(getattr(split, part).images, images[rows])
    for part in ("test", "validation", "labeled"):
        assert torch.equal(getattr(split, part).labels, labels[expected[part]])
    assert torch.equal(present(hidden_labels(DIGITS, 6)), labels[expected["unlabeled"]])


# --- no label leaks -------------------------------------------------------------------------


def test_unlabeled_holds_images_and_nothing_else():
    assert [f.name for f in dataclasses.fields(Unlabeled)] == ["images"]
    pool = load(DIGITS, 0).unlabeled
    assert type(pool) is Unlabeled
    assert vars(pool).keys() == {"images"}
    public = {name for name in dir(pool) if not name.startswith("_")}
    assert public == {"images"}
    assert not vars(pool.images)
    assert not issubclass(Unlabeled, Labeled)


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inside = vars(value).values() if dataclasses.is_dataclass(value) else []
    return [tensor for part in inside for tensor in tensors(part)]


def test_a_dataset_holds_no_tensor_with_labels_of_the_pool():
    split = load(DIGITS, 0)
    found = [t for t in tensors(split) if not t.is_floating_point() and t.dtype != torch.uint8]
    # classes of labeled, validation and test rows, and the places of the last among all images
    assert sorted(len(t) for t in found) == [50, 100, 500, 500]
    # nor a view of a longer one
    assert sorted(t.untyped_storage().nbytes() // 8 for t in found) == [50, 100, 500, 500]
    pool = in_memory(split.unlabeled.images)
    assert pool.untyped_storage().nbytes() == pool.numel()


def test_a_dataset_cannot_be_given_labels_later():
    pool = load(DIGITS, 0).unlabeled
    for name in ("labels", "images"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(pool, name, torch.zeros(1147))


def test_hidden_labels_take_no_images(monkeypatch):
    """They are read while the run holds its own, which may be most of the memory."""
    take, sizes = _take, []

    def watched(source, *rows, **how):
        sizes.append(source.images.size)
        return take(source, *rows, **how)

    monkeypatch.setattr("ns_bench.data.split._take", watched)
    hidden_labels(DIGITS, 6)
    assert sizes == [0] * 4


def test_hidden_labels_are_those_of_the_pool():
    images, labels = everything()
    of_image = {image.numpy().tobytes(): label for image, label in zip(images, labels, strict=True)}
    hidden = present(hidden_labels(DIGITS, 9))
    pool = in_memory(load(DIGITS, 9).unlabeled.images)
    assert hidden.dtype == torch.int64
    assert len(hidden) == len(pool) == 1147
    assert hidden.tolist() == [int(of_image[image.numpy().tobytes()]) for image in pool]


def test_mean_and_std_are_those_of_training_pixels_only():
    split = load(DIGITS, 0)
    train = (
        torch.cat([in_memory(part.images) for part in (split.labeled, split.unlabeled)])
        .double()
        .numpy()
    )
    everyone = np.concatenate([getattr(split, part).images.double().numpy() for part in PARTS])
    for tensor in (split.mean, split.std):
        assert tensor.shape == (1, 1, 1)
        assert tensor.dtype == torch.float32
    assert split.mean.item() == pytest.approx(train.mean(), rel=1e-6)
    assert split.std.item() == pytest.approx(train.std(ddof=1), rel=1e-6)
    # these would be others with the test rows, by more than that
    assert train.mean() != pytest.approx(everyone.mean(), rel=1e-4)


def test_mean_and_std_are_by_channel(monkeypatch):
    images = torch.zeros(40, 3, 2, 2, dtype=torch.uint8)
    images[:, 1] = 100
    images[::2, 2] = 200
    images[:, 0, 0, 0] = torch.arange(40)  # no two alike, as no two digits are
    labels = torch.arange(40) // 2 % 2
    add_source(monkeypatch, "colour", images, labels)
    split = load(Data("colour", labeled=10, validation=0, test=4), 0)
    train = torch.cat(
        [in_memory(part.images) for part in (split.labeled, split.unlabeled)]
    ).double()
    assert split.classes == 2
    assert split.mean.shape == split.std.shape == (3, 1, 1)
    assert split.mean.flatten().tolist() == pytest.approx(train.mean((0, 2, 3)).tolist())
    assert split.std.flatten().tolist() == pytest.approx(train.std((0, 2, 3)).tolist())


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [load, hidden_labels])
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Data(name="digts"), "unknown data set 'digts': did you mean 'digits'?"),
        (Data(name="xyzzy"), "unknown data set 'xyzzy': valid: "),
        (Data(labeled=55), "data.labeled=55: expected a multiple of the 10 classes of 'digits'"),
        (Data(labeled=5), "data.labeled=5: expected a multiple of the 10 classes"),
        (Data(test=1797), "data.labeled=50, data.validation=100 and data.test=1797 leave no"),
        (Data(test=5000), "data.labeled=50, data.validation=100 and data.test=5000 leave no"),
        (Data(validation=1297), "data.labeled=50, data.validation=1297 and data.test=500 leave"),
        (Data(labeled=1790), "data.labeled=1790, data.validation=100 and data.test=500 leave"),
    ],
)
def test_messages(function, spec, message):
    with pytest.raises(UserError) as caught:
        function(spec, 0)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_pool_needs_one_image_at_least(monkeypatch):
    """Ten images a class, all of them labeled: nothing is left to label."""
    images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1)
    add_source(monkeypatch, "tiny", images, torch.arange(20) % 2)
    with pytest.raises(UserError, match=r"leave no unlabeled pool in the 20 images of 'tiny'"):
        load(Data("tiny", labeled=20, validation=0, test=0), 0)
    assert len(load(Data("tiny", labeled=18, validation=0, test=0), 0).unlabeled) == 2


def test_a_class_that_is_scarce_at_a_seed(monkeypatch):
    images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1)
    add_source(monkeypatch, "skewed", images, (torch.arange(20) < 3).long())
    for function in (load, hidden_labels):
        with pytest.raises(
            UserError, match=r"^data\.labeled=8: seed 0 leaves a class fewer than 4"
        ):
            function(Data("skewed", labeled=8, validation=0, test=1), 0)


# --- what is known before anything is loaded ------------------------------------------------


def test_the_catalog_tells_the_truth():
    finite = {name: known for name, known in PACKAGED.items() if known.images is not None}
    assert finite.keys() == LOADERS.keys()
    for name, facts in finite.items():
        source = LOADERS[name]()
        assert facts == PackagedSet(len(source), int(source.labels.max()) + 1)
        assert source.labels.unique().tolist() == list(range(present(facts.classes)))


@pytest.mark.parametrize("module", ["catalog", "prepare"])
def test_a_plan_is_checked_without_torch(module):
    code = f"import sys, ns_bench.data.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_size_of_the_pool_is_known_before():
    assert describe(DIGITS).pool == 1147
    assert describe(Data(labeled=1000, validation=0, test=796)).pool == 1
    with pytest.raises(UserError, match="leave no unlabeled pool"):
        describe(Data(labeled=1000, validation=0, test=797))


def test_a_data_set_is_described_once():
    assert describe(Data()) is describe(Data(labeled=50))


def test_check_looks_at_batches_and_teachers():
    teacher = Recipe()
    check(teacher)
    check(Recipe(teacher=teacher))
    many = Recipe(teacher=teacher).set({"train.ratio": 22})  # 1,100 of 1,147 rows
    check(many)
    check(Recipe().set({"train.ratio": 1000}))  # which no supervised run uses
    message = (
        "train.batch_size=50 x train.ratio=23: a batch of 1150 unlabeled rows is larger than the "
        "pool (1147)"
    )
    for recipe in (many.set({"train.ratio": 23}), Recipe(teacher=many.set({"train.ratio": 23}))):
        with pytest.raises(UserError) as caught:
            check(recipe)
        assert str(caught.value) == message
    with pytest.raises(UserError, match=r"^data\.labeled=55: expected a multiple"):
        check(Recipe(data=Data(labeled=55)))


# --- streams --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((0, "split"), 3769940940748469125),
        ((1000, "split"), 3172947657311317134),
        ((0, "noise", "labeled", 1, 250), 8386897384076024954),
    ],
)
def test_golden_streams(names, expected):
    """What an id stands for changes with any of these: the ids of all runs must change too."""
    assert stream_seed(*names) == expected


def test_streams_are_apart_and_repeat():
    names: list[tuple[Any, ...]]
    names = [(0, "split"), (1, "split"), (0, "order"), (0, "order", 1), (0, "order", 2), (0, 12)]
    names += [(0, 1, 2), (0, "init", 0), (0, "init", 1)]
    draws = [tuple(torch.rand(4, generator=stream(*n)).tolist()) for n in names]
    assert len(set(draws)) == len(names)
    assert draws == [tuple(torch.rand(4, generator=stream(*n)).tolist()) for n in names]
    assert all(0 <= stream_seed(*n) < 2**63 for n in names)


# --- glyphs ---------------------------------------------------------------------------------


def glyphs_of(**fields: object) -> Data:
    dotted = {f"data.{name.replace('__', '.')}": value for name, value in fields.items()}
    sizes = {"data.unlabeled": 300, "data.validation": 40, "data.test": 100}
    return Recipe.of({"data.name": "glyphs", **sizes, **dotted}).data


@pytest.mark.slow
def test_glyphs_have_the_sizes_asked_for():
    spec = glyphs_of(glyphs__classes=25, glyphs__pixels=12)
    data = load(spec, 0)
    assert [len(getattr(data, part)) for part in PARTS] == [50, 300, 40, 100]
    assert data.classes == 25
    assert data.test.images.shape == (100, 1, 12, 12)
    assert data.labeled.labels.bincount(minlength=25).tolist() == [2] * 25
    assert describe(spec).pool == 300


def test_glyphs_of_one_seed_are_the_same_and_of_another_are_not():
    assert same(load(glyphs_of(), 3), load(glyphs_of(), 3))
    one, other = (keys(load(glyphs_of(), seed).test.images) for seed in (3, 4))
    assert not one & other


def test_a_fixed_test_set_of_glyphs_is_the_same_for_every_seed_and_nobody_trains_on_it():
    fixed = [load(glyphs_of(glyphs__fixed_test=True), seed) for seed in (0, 1, 1000)]
    drawn = [load(glyphs_of(), seed) for seed in (0, 1, 1000)]
    for own, usual in zip(fixed, drawn, strict=True):
        assert keys(own.test.images) == keys(fixed[0].test.images)
        assert own.tested.digest == fixed[0].tested.digest != usual.tested.digest
        for part in ("labeled", "unlabeled", "validation"):
            assert torch.equal(getattr(own, part).images, getattr(usual, part).images)
            assert not keys(getattr(own, part).images) & keys(own.test.images)
    fewer = load(glyphs_of(glyphs__fixed_test=True, test=50), 2)
    assert torch.equal(in_memory(fewer.test.images), in_memory(fixed[0].test.images)[:50])


def test_a_larger_pool_of_glyphs_leaves_the_other_parts_alone():
    small, large = load(glyphs_of(), 0), load(glyphs_of(unlabeled=900), 0)
    for part in ("labeled", "validation", "test"):
        assert torch.equal(getattr(small, part).images, getattr(large, part).images)


def test_parts_of_glyphs_share_no_image():
    data = load(glyphs_of(), 0)
    counts = sum((keys(getattr(data, part).images) for part in PARTS), Counter())
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("kind", ["characters", "blends", "noise"])
def test_glyphs_out_of_domain_have_no_label(kind):
    spec = glyphs_of(out_of_domain=0.4, glyphs__foreign=kind)
    truth = present(hidden_labels(spec, 0))
    assert (truth == -1).sum() == 120
    assert truth[truth >= 0].bincount().tolist() == [18] * 10
    assert len(load(spec, 0).unlabeled) == 300
    assert 0 < (truth[:100] == -1).sum() < 100  # shuffled


def test_an_imbalanced_pool_of_glyphs():
    truth = present(hidden_labels(glyphs_of(imbalance=10, unlabeled=3000), 0))
    counts = truth.bincount().sort().values
    assert counts.sum() == 3000
    assert counts[-1] / counts[0] == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unlabeled": 0}, "data.unlabeled=0: 'glyphs' has as many images as asked for"),
        ({"glyphs__classes": 7}, "data.labeled=50: expected a multiple of the 7 classes"),
    ],
)
def test_glyphs_that_are_refused(fields, message):
    with pytest.raises(UserError) as caught:
        describe(glyphs_of(**fields))
    assert str(caught.value).startswith(message)


def test_digits_have_no_images_out_of_domain():
    with pytest.raises(UserError, match="'digits' has no images out of domain; glyphs has"):
        describe(Recipe.of({"data.out_of_domain": 0.5}).data)


def test_a_pool_larger_than_the_set():
    message = "leave only 1147 images for the unlabeled pool \\(data.unlabeled=1200\\) in the 1797"
    with pytest.raises(UserError, match=message):
        describe(Recipe.of({"data.unlabeled": 1200}).data)


# --- a pool of another data set -------------------------------------------------------------


def test_only_the_pool_is_of_the_other_set():
    own, other = load(DIGITS, 3), load(Data(source="glyphs"), 3)
    for part in ("labeled", "validation", "test"):
        assert torch.equal(getattr(own, part).images, getattr(other, part).images)
    assert other.unlabeled.images.shape == own.unlabeled.images.shape == (1147, 1, 8, 8)
    assert not set(keys(other.unlabeled.images)) & set(keys(everything()[0]))
    assert not torch.equal(own.mean, other.mean)  # of what may be trained on


def test_a_pool_of_the_other_set_is_the_seeds_and_of_the_size_asked_for():
    spec = Data(source="glyphs", unlabeled=300)
    assert describe(spec).pool == len(load(spec, 0).unlabeled) == 300
    assert same(load(spec, 0), load(spec, 0))
    one, two = (keys(load(spec, seed).unlabeled.images) for seed in (0, 1))
    assert sum((one & two).values()) < 30


def test_a_pool_that_is_drawn_may_be_larger_than_what_the_set_would_leave():
    spec = Data(source="glyphs", unlabeled=2000)
    assert describe(spec).pool == len(load(spec, 0).unlabeled) == 2000
    everything_labeled = Data(source="glyphs", labeled=1290, validation=7, test=500, unlabeled=99)
    assert describe(everything_labeled).takes_all
    assert describe(everything_labeled).pool == 99


def test_the_truth_of_a_pool_is_known_where_both_sets_show_the_same_classes():
    truth = present(hidden_labels(Data(source="glyphs"), 0))
    assert truth.bincount().tolist() == [115] * 7 + [114] * 3
    letters = dataclasses.replace(Data().glyphs, classes=25)
    assert hidden_labels(Data(source="glyphs", glyphs=letters), 0) is None


def test_a_pool_of_digits_for_glyphs():
    spec = glyphs_of(source="digits", unlabeled=500)
    data = load(spec, 0)
    assert describe(spec).pool == len(data.unlabeled) == 500
    assert not set(keys(data.unlabeled.images)) - set(keys(everything()[0]))
    assert describe(glyphs_of(source="digits", unlabeled=0)).pool == 1797
    assert len(load(glyphs_of(source="digits", unlabeled=0), 0).unlabeled) == 1797


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Data(source="glyphz"), "unknown data set for data.source: 'glyphz': did you mean"),
        (
            Data(name="imagenet", labeled=1000, source="cifar10"),
            "data.source=cifar10: expected data.pixels with it",
        ),
        (Data(source="digits"), "data.source=digits: expected another data set than data.name"),
        (glyphs_of(source="digits", unlabeled=1798), "the pool of 'digits' has only 1797 images"),
        (glyphs_of(source="digits", imbalance=10), "expected data.out_of_domain=0 and"),
    ],
)
def test_pools_that_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        describe(spec)


def test_a_pool_of_images_of_another_size_is_refused():
    larger = dataclasses.replace(Data().glyphs, pixels=12)
    with pytest.raises(UserError, match=r"its images are 1x12x12 .* expected 1x8x8"):
        load(Data(source="glyphs", glyphs=larger), 0)
