"""The glyphs: what a row depends on, that no image is empty, and what can be learnt from them."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.ft2font import FT2Font
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from ns_bench.data import glyphs
from ns_bench.data.glyphs import OUT_OF_DOMAIN, classes_of, images, out_of_domain

patient = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""

FONTS = 21


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cycle(count: int, classes: int = 10) -> Tensor:
    """Return the labels 0, 1, ..., `classes` - 1, 0, ...: int64 [count]."""
    return torch.arange(count) % classes


def draw(
    labels: Tensor,
    seed: int | torch.Generator = 0,
    classes: int = 10,
    pixels: int = 12,
    difficulty: float = 1.0,
) -> Tensor:
    source = generator(seed) if isinstance(seed, int) else seed
    return images(labels, classes=classes, pixels=pixels, difficulty=difficulty, generator=source)


def draw_other(
    count: int,
    kind: str,
    seed: int | torch.Generator = 0,
    classes: int = 10,
    pixels: int = 12,
    difficulty: float = 1.0,
) -> Tensor:
    source = generator(seed) if isinstance(seed, int) else seed
    return out_of_domain(
        count, kind, classes=classes, pixels=pixels, difficulty=difficulty, generator=source
    )


@cache
def sample(pixels: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return 2,000 images of ten classes as float rows, and their labels."""
    labels = cycle(2000)
    return draw(labels, seed, pixels=pixels).flatten(1).float() / 255, labels


# --- shapes and characters ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("pixels", [8, 13, 16, 64])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_images_are_uint8_of_one_channel(pixels, count):
    drawn = draw(cycle(count), pixels=pixels)
    assert drawn.dtype == torch.uint8
    assert drawn.shape == (count, 1, pixels, pixels)
    assert drawn.is_contiguous()


@pytest.mark.parametrize("kind", OUT_OF_DOMAIN)
@pytest.mark.parametrize(("count", "pixels", "classes"), [(0, 8, 2), (3, 13, 10), (7, 64, 36)])
def test_out_of_domain_images_are_uint8_of_one_channel(kind, count, pixels, classes):
    drawn = draw_other(count, kind, pixels=pixels, classes=classes)
    assert drawn.dtype == torch.uint8
    assert drawn.shape == (count, 1, pixels, pixels)


def test_classes_are_digits_and_then_letters():
    assert classes_of(10) == "0123456789"
    assert sorted(classes_of(36)) == sorted("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for count in range(2, 37):
        assert len(classes_of(count)) == count
        assert classes_of(count) == classes_of(36)[:count]
    assert not set("OI") & set(classes_of(30))


def test_every_character_is_in_its_font():
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = {name: FT2Font(str(folder / f"{name}.ttf")) for _, name in glyphs._glyphs()}
    assert len(fonts) == FONTS
    missing = [
        (character, name)
        for character, name in glyphs._glyphs()
        if fonts[name].get_char_index(ord(character)) == 0
    ]
    assert missing == []


def test_no_glyph_is_empty_or_cut_off_by_its_tile():
    tiles = glyphs._tiles()
    assert len(tiles) == len(glyphs._glyphs())
    assert int(tiles.flatten(1).amax(1).min()) > 200
    for border in (tiles[:, 0], tiles[:, -1], tiles[:, :, 0], tiles[:, :, -1]):
        assert int(border.max()) == 0


def test_foreign_glyphs_are_of_no_class():
    uniform = torch.linspace(0, 1, 20000)[:-1]
    for classes in (2, 10, 25, 26, 27, 36):
        chosen = glyphs._foreign_glyphs(uniform, classes)
        characters = {glyphs._glyphs()[index][0] for index in chosen.tolist()}
        assert not characters & set(classes_of(classes))
        assert characters & set(classes_of(36)) == set(classes_of(26)[classes:])
        assert {"a", "?", "Ω"} < characters


# --- what a row depends on ------------------------------------------------------------------


def test_the_same_arguments_give_the_same_bytes():
    labels = cycle(50)
    assert torch.equal(draw(labels), draw(labels))
    assert not torch.equal(draw(labels), draw(labels, seed=1))
    for kind in OUT_OF_DOMAIN:
        assert torch.equal(draw_other(50, kind), draw_other(50, kind))
        assert not torch.equal(draw_other(50, kind), draw_other(50, kind, seed=1))


DIGEST = """
import hashlib, torch
from ns_bench.data.glyphs import OUT_OF_DOMAIN, images, out_of_domain

def digest():
    shared = {"classes": 10, "pixels": 12, "difficulty": 1, "generator": torch.Generator()}
    shared["generator"].manual_seed(7)
    drawn = [images(torch.arange(100) % 10, **shared)]
    drawn += [out_of_domain(100, kind, **shared) for kind in OUT_OF_DOMAIN]
    return hashlib.sha256(torch.cat(drawn).numpy().tobytes()).hexdigest()
"""


@pytest.mark.slow
def test_another_process_gives_the_same_bytes():
    scope: dict[str, Any] = {}
    exec(DIGEST, scope)
    command = [sys.executable, "-c", DIGEST + "print(digest())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == scope["digest"]()


def test_the_number_of_threads_changes_nothing():
    threads = torch.get_num_threads()
    whole = draw(cycle(300))
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert torch.equal(draw(cycle(300)), whole)
    finally:
        torch.set_num_threads(threads)


@patient
@given(
    labels=st.lists(st.integers(0, 9), max_size=40),
    cut=st.integers(0, 40),
    pixels=st.sampled_from([8, 9, 12, 16]),
    difficulty=st.sampled_from([0.0, 1.0, 1.7]),
    chunk=st.integers(1, 9),
)
def test_a_call_cut_in_two_gives_the_same_rows(labels, cut, pixels, difficulty, chunk):
    rows = torch.tensor(labels, dtype=torch.int64)
    arguments = {"pixels": pixels, "difficulty": difficulty}
    whole = draw(rows, **arguments)
    source = generator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "_CHUNK", chunk)
        first = draw(rows[:cut], source, **arguments)
        rest = draw(rows[cut:], source, **arguments)
    assert torch.equal(first, whole[:cut])
    assert torch.equal(rest, whole[cut:])


@patient
@given(
    kind=st.sampled_from(OUT_OF_DOMAIN),
    count=st.integers(0, 30),
    more=st.integers(0, 30),
    pixels=st.sampled_from([8, 12, 16]),
    chunk=st.integers(1, 9),
)
def test_so_does_one_out_of_domain(kind, count, more, pixels, chunk):
    whole = draw_other(count + more, kind, pixels=pixels)
    source = generator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "_CHUNK", chunk)
        first = draw_other(count, kind, source, pixels=pixels)
        rest = draw_other(more, kind, source, pixels=pixels)
    assert torch.equal(torch.cat([first, rest]), whole)


def test_a_prefix_longer_than_a_chunk():
    labels = cycle(2 * glyphs._CHUNK + 3)
    whole = draw(labels)
    for count in (1, glyphs._CHUNK - 1, glyphs._CHUNK, glyphs._CHUNK + 1):
        assert torch.equal(draw(labels[:count]), whole[:count])


def test_a_row_does_not_depend_on_the_labels_of_others_nor_on_the_number_of_classes():
    labels = cycle(100)
    changed = labels.clone()
    changed[::2] = 3
    whole, other = draw(labels), draw(changed)
    assert torch.equal(other[1::2], whole[1::2])
    assert not torch.equal(other[::2], whole[::2])
    assert torch.equal(draw(labels, classes=36), whole)


def test_labels_are_not_modified():
    labels = cycle(30)
    draw(labels)
    assert torch.equal(labels, cycle(30))


# --- what is in the images ------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [8, 16])
def test_no_image_is_empty(pixels):
    drawn = draw(cycle(3600, 36), classes=36, pixels=pixels).flatten(1).float()
    contrast = drawn.amax(1) - drawn.amin(1)
    assert float(contrast.min()) > 40
    assert float(drawn.std(1).min()) > 10


@pytest.mark.parametrize("kind", OUT_OF_DOMAIN)
@pytest.mark.parametrize("pixels", [8, 16])
def test_no_image_out_of_domain_is_empty(kind, pixels):
    drawn = draw_other(1000, kind, pixels=pixels).flatten(1).float()
    assert float((drawn.amax(1) - drawn.amin(1)).min()) > 20
    assert len(drawn.unique(dim=0)) == 1000


def test_images_of_a_class_all_differ():
    assert len(draw(torch.zeros(1000, dtype=torch.int64)).unique(dim=0)) == 1000


@pytest.mark.parametrize("pixels", [8, 16])
def test_without_difficulty_there_is_one_image_per_class_and_font(pixels):
    drawn = draw(cycle(36 * 200, 36), classes=36, pixels=pixels, difficulty=0)
    for label in range(36):
        assert len(drawn[label::36].unique(dim=0)) == FONTS
    assert len(drawn.unique(dim=0)) == 36 * FONTS


def test_without_difficulty_glyphs_are_centred_on_black():
    drawn = draw(cycle(720, 36), classes=36, pixels=16, difficulty=0)[:, 0] > 64
    for side in (drawn, drawn.transpose(1, 2)):
        lit = side.any(2).int()
        before, after = lit.argmax(1), lit.flip(1).argmax(1)
        assert int((before - after).abs().max()) <= 1
        assert int(torch.minimum(before, after).min()) >= 1


def test_difficulty_moves_images_away_from_their_plain_form():
    labels = cycle(500)
    plain = draw(labels, difficulty=0).float()
    distances = [(draw(labels, difficulty=d).float() - plain).square().mean() for d in (0.5, 1, 2)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_mean_images_of_classes_differ():
    means = draw(cycle(3600, 36), classes=36, pixels=16).float().view(100, 36, -1).mean(0)
    apart = torch.cdist(means, means) + 1e9 * torch.eye(36)
    assert float(apart.min()) / 16 > 5  # root mean square difference of pixels


def test_textures_are_fine_and_coarse():
    drawn = draw_other(500, "noise", pixels=16).float()[:, 0]
    drawn = (drawn - drawn.mean((1, 2), keepdim=True)) / drawn.std((1, 2), keepdim=True)
    step = (drawn[:, :, 1:] - drawn[:, :, :-1]).square().mean((1, 2))
    assert float(step.min()) < 0.3
    assert float(step.max()) > 1.7


def test_blends_are_from_nearly_pure_to_half_and_half():
    drawn = draw_other(2000, "blends", pixels=16, difficulty=0).flatten(1).float()
    plain = draw(cycle(2000), pixels=16, difficulty=0).flatten(1).float()
    peaks = drawn.amax(1)
    assert float(peaks.min()) < 0.7 * float(plain.amax(1).min())
    nearest = torch.cdist(drawn, plain.unique(dim=0)).amin(1) / 16  # root mean square
    assert float(nearest.min()) < 3
    assert 0.1 < float((nearest < 10).float().mean()) < 0.3
    assert float((nearest > 20).float().mean()) > 0.5


# --- what can be learnt ---------------------------------------------------------------------


def accuracy(count: int, pixels: int) -> float:
    """Return the accuracy of the nearest neighbour among `count` images on 1,000 others."""
    train, labels = sample(pixels, seed=1)
    model = KNeighborsClassifier(1).fit(train[:count].numpy(), labels[:count].numpy())
    test, truth = sample(pixels)
    return float(model.score(test[:1000].numpy(), truth[:1000].numpy()))


@pytest.mark.parametrize("pixels", [8, 12])
def test_labels_help(pixels):
    few, many = accuracy(50, pixels), accuracy(2000, pixels)
    assert 0.3 < few < 0.85
    assert many > max(0.8, few + 0.1)


def test_the_nearest_mean_is_far_above_chance():
    train, labels = sample(seed=1)
    test, truth = sample()
    means = torch.stack([train[labels == label].mean(0) for label in range(10)])
    assert float((torch.cdist(test, means).argmin(1) == truth).float().mean()) > 0.6


def test_out_of_domain_images_are_farther_from_the_classes():
    train, _ = sample(seed=1)
    nearest = {"classes": torch.cdist(sample()[0], train).amin(1).median()}
    for kind in OUT_OF_DOMAIN:
        drawn = draw_other(500, kind).flatten(1).float() / 255
        nearest[kind] = torch.cdist(drawn, train).amin(1).median()
    assert nearest["characters"] > 1.2 * nearest["classes"]
    assert nearest["noise"] > 1.2 * nearest["classes"]


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [-1, 0, 1, 37])
def test_number_of_classes_out_of_range(count):
    with pytest.raises(ValueError, match=f"2 to 36 classes, not {count}"):
        classes_of(count)
    with pytest.raises(ValueError, match="2 to 36 classes"):
        draw(cycle(1), classes=count)
    with pytest.raises(ValueError, match="2 to 36 classes"):
        draw_other(1, "noise", classes=count)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": 7}, "8 to 64 pixels, got 7"),
        ({"pixels": 65}, "8 to 64 pixels, got 65"),
        ({"difficulty": -0.1}, "difficulty must be from 0 to 2, got -0.1"),
        ({"difficulty": 2.1}, "difficulty must be from 0 to 2, got 2.1"),
        ({"difficulty": float("nan")}, "difficulty must be from 0 to 2, got nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(cycle(1), **arguments)
    with pytest.raises(ValueError, match=message):
        draw_other(1, "blends", **arguments)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 10]), "labels must be from 0 to 9, got 0 to 10"),
        (torch.tensor([-1, 3]), "labels must be from 0 to 9, got -1 to 3"),
        (torch.tensor([1], dtype=torch.int32), r"int64 \[N\] on the CPU, got torch.int32 \[1\]"),
        (torch.zeros(2, 1, dtype=torch.int64), r"got torch.int64 \[2, 1\] on cpu"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        draw(labels)


def test_bad_kind_and_count():
    with pytest.raises(ValueError, match="must be one of characters, blends, noise, got 'letters'"):
        draw_other(1, "letters")
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        draw_other(-1, "noise")
