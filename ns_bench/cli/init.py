"""`study --init FOLDER`: look at a folder of images, and write a profile that describes it."""

import io
import re
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ns_bench.data import batches, idx
from ns_bench.data.origin import Origin
from ns_bench.design.profile import load_profile, profile_names
from ns_bench.errors import UserError
from ns_bench.files import publish

LABELED = ("train", "training", "labeled")
TEST = ("test", "testing", "valid", "validation", "val")
POOL = ("unlabeled", "unlabelled", "extra")
LARGEST = 32
"""Pixels of a side: more are for a GPU, and a recipe of one's own."""

STEPS = 200
"""Of a supervised run, as in `digits`: enough to be well above chance."""

LOOKED_AT = 64
"""Images of a split that are opened, to see how large they are."""


@dataclass(frozen=True)
class Split:
    """What is in a split: images, their labels, some of their sides, whether some have colour."""

    name: str
    images: int
    labels: Counter[Any]
    sides: list[int]
    colour: bool
    columns: tuple[str, str]


def init(folder: Path) -> int:
    """Write FOLDER.toml in the working folder, and say what it says; returns the exit code.

    Raises:
        UserError: there are no images, or no two classes of them; or there is such a file.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise UserError(f"--init {folder}: there is no such folder")
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in folder.resolve().name)
    name = f"{name}-images" if name in profile_names() else name
    file = Path(f"{name}.toml")
    if file.exists():
        raise UserError(f"--init {folder}: {file} is there already")
    text = described(folder.resolve(), name)
    publish(file, text.encode())
    load_profile(str(file))  # it is what a study takes
    print(text, end="")
    print(f"\nwritten: {file}. What it would take:")
    print(f"python -m ns_bench.study teacher_size --profile {file} --dry-run")
    return 0


def described(folder: Path, name: str) -> str:
    """Return the profile of a folder of images, as TOML."""
    splits = [_look(Origin(name, str(folder)), split) for split in _splits(folder)]
    labeled = _chosen(splits, LABELED, labeled=True)
    if labeled is None or len(labeled.labels) < 2:
        seen = ", ".join(f"{split.name} ({split.images} images)" for split in splits) or "nothing"
        raise UserError(f"--init {folder}: expected images of two classes or more, found {seen}")
    rest = [split for split in splits if split is not labeled]
    test = _chosen([split for split in rest if split.labels], TEST)
    pool = _chosen([split for split in rest if split is not test and not split.labels], ())
    classes, smallest = len(labeled.labels), min(labeled.labels.values())
    largest = max(labeled.labels.values())
    validation = max(classes, min(labeled.images // 10, 1000))
    tested = min(test.images if test else labeled.images // 4, 5000)
    each = max(1, min(smallest // 4, 50))
    side = max(8, min(round(statistics.median(labeled.sides)), LARGEST))
    batch = max(2, min(classes * each, 50))
    unlabeled = pool.images if pool else labeled.images - classes * each - validation
    unlabeled -= 0 if test or pool else tested
    if unlabeled < batch:
        raise UserError(
            f"--init {folder}: {labeled.images} labeled images are too few to put {tested} aside "
            f"for testing and {validation} for tuning, and have others to label"
        )
    ratio = min(3, unlabeled // batch)
    columns = zip(("image", "label"), labeled.columns, strict=True)
    digits = load_profile("digits").step_seconds
    seconds = {m: (step, image * (side / 8) ** 2) for m, (step, image) in digits.items()}
    parts = {"labeled": labeled, "test": test, "unlabeled": pool}
    lines = [
        f"# {labeled.images} labeled images of {classes} classes, {smallest}"
        f"{f' to {largest}' if largest > smallest else ''} of each, of about "
        f"{round(statistics.median(labeled.sides))} pixels.",
        'extends = "digits"  # models, noise, seeds: whatever this file does not say',
        f'title = "{name}: {classes * each} labels, {side} pixels"',
        "",
        "[data]",
        f'path = "{folder}"',
        "",
        "[recipe.data]",
        f'name = "{name}"',
        f"pixels = {side}  # of a side; half as many take a quarter of the time",
        f"labeled = {classes * each}  # in all: {each} of each class",
        f"validation = {validation}",
        f"test = {tested}" + ("" if test else "  # of the same images, as validation"),
        "",
        "[recipe.data.files]",
        f"classes = {classes}",
        f"channels = {3 if labeled.colour else 1}",
        *(f'{field} = "{column}"' for field, column in columns if column not in ("", field)),
        *(
            f'{use} = {{ split = "{split.name}", images = {split.images} }}'
            for use, split in parts.items()
            if split is not None
        ),
        "",
        "[recipe.train]",
        f"epochs = {max(1, round(STEPS * batch / (classes * each)))}  # {STEPS} steps",
        f"batch_size = {batch}",
        f"ratio = {ratio}",
        "",
        "[estimate.step_seconds]  # as of digits, by the number of pixels",
        *(f"{model} = [{step}, {image:.5f}]" for model, (step, image) in seconds.items()),
    ]
    return "\n".join(lines) + "\n"


def _splits(folder: Path) -> list[str]:
    """Return the names of splits; "." is a folder of classes."""
    for found in (batches.files, idx.images_file):
        if names := [split for split in ("train", "test") if found(folder, split)]:
            return names
    if shards := [file.stem for kind in ("parquet", "tar") for file in folder.rglob(f"*.{kind}")]:
        return sorted({_split_in(stem) for stem in shards})
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    if any(entry.is_dir() for sub in inside for entry in sub.iterdir()):
        return [entry.name for entry in inside]
    return ["."] if inside else []


def _split_in(stem: str) -> str:
    """Return the split that a shard is of: hub copies have train-00000, others SET-train."""
    known = LABELED + TEST + POOL
    words = (word for word in re.split("[._-]", stem) if word in known)
    return next(words, stem.partition("-")[0])


def _look(origin: Origin, name: str) -> Split:
    """Count a split, and look at some of its images."""
    import datasets
    from PIL import Image

    opened = origin.open(name)
    features = opened.features or {}
    image = origin.only_image(features) or "image"
    if features and image not in features:
        raise UserError(
            f"{origin}, split '{name}': expected a column 'image', found {', '.join(features)}"
        )
    classes = [c for c, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    plain = [c for c in ("label", "labels", "class", "fine_label") if c in features]
    label = (plain or classes or [""])[0]
    labels, sides, colour, images = Counter[Any](), list[int](), False, 0
    for row in origin.rows(name, opened, [image, *([label] if label else [])]):
        images += 1
        labels.update([row[label]] if label and row[label] is not None else [])
        if len(sides) < LOOKED_AT:
            content, file = row[image]["bytes"], row[image]["path"]
            try:
                with Image.open(file if content is None else io.BytesIO(content)) as seen:
                    sides.append(min(seen.size))
                    colour = colour or seen.mode not in ("L", "1", "I;16")
            except OSError:  # unreadable: a run leaves it out and counts it
                continue
    return Split(name, images, labels, sides or [0], colour, (image, label))


def _chosen(splits: list[Split], names: tuple[str, ...], labeled: bool = False) -> Split | None:
    """Return the split that is called one of these, else the largest (with labels)."""
    having = [split for split in splits if split.labels or not labeled]
    named = [split for name in names for split in having if split.name.lower() == name]
    if names == TEST:
        return named[0] if named else None
    return named[0] if named else max(having, key=lambda split: split.images, default=None)
