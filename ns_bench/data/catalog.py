"""What is known of each data set without loading it, so that a plan can be checked in no time."""

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ns_bench.errors import UserError, unknown
from ns_bench.recipe import NO_FILES, Data, Files, Part, Recipe


@dataclass(frozen=True)
class Facts:
    """Of a whole data set: images and classes, None where there are as many as asked for.

    `test` and `unlabeled` are images in splits of their own, None where there is no such split.
    """

    images: int | None
    classes: int | None
    out_of_domain: bool = False
    test: int | None = None
    unlabeled: int | None = None


CATALOG = {
    "digits": Facts(images=1797, classes=10),
    "glyphs": Facts(images=None, classes=None, out_of_domain=True),
}
"""By the name that `data.name` takes: sets that come with installed packages."""


@dataclass(frozen=True)
class HubSet:
    """A data set on the Hugging Face hub: `sets/NAME.toml`.

    Attributes:
        config: name of its configuration, which is the folder of its files; "" is none.
        pixels: side of its images as they are; 0 where they are of many sizes.
        folder: where a package of the system puts its files; "" is none.
        means: whether images are shrunk to the means of squares of pixels where that is possible.
    """

    hub: str
    config: str
    pixels: int
    files: Files
    folder: str = ""
    means: bool = False


@cache
def hub_sets() -> dict[str, HubSet]:
    """Return the data sets on the hub by the name that `data.name` takes."""
    found = {}
    for path in sorted((Path(__file__).parent / "sets").glob("*.toml")):
        values = tomllib.loads(path.read_text())
        labeled, test, unlabeled = (
            Part(**values.get(part, {})) for part in ("labeled", "test", "unlabeled")
        )
        files = Files(
            image=values["image"],
            label=values["label"],
            classes=values["classes"],
            channels=values.get("channels", 3),
            labeled=labeled,
            test=test,
            unlabeled=unlabeled,
        )
        hub, config = values["hub"], values.get("config", "")
        folder, means = values.get("folder", ""), values.get("means", False)
        found[path.stem] = HubSet(hub, config, values["pixels"], files, folder, means)
    return found


def files_of(spec: Data) -> Files | None:
    """Return what is in the files of a data set; None for one that comes with a package.

    Raises:
        UserError: unknown data set, or a description of one's own that cannot be.
    """
    own = spec.files != Files()
    if spec.name in NO_FILES or spec.name in CATALOG:
        return None
    if spec.name in hub_sets():
        known, pool = hub_sets()[spec.name].files, spec.files.unlabeled
        if not own:
            return known
        if spec.files != Files(unlabeled=pool) or not pool.source:
            raise UserError(
                f"data.files describes a data set of one's own: '{spec.name}' has its own "
                "description, but for a pool from another source (data.files.unlabeled.source); "
                "give yours another data.name"
            )
        _check_part("unlabeled", pool)
        return replace(known, unlabeled=pool)
    if not own:
        raise unknown("data set", spec.name, [*CATALOG, *hub_sets()])
    _check_own(spec)
    return spec.files


def _check_own(spec: Data) -> None:
    files = spec.files
    if not re.fullmatch(r"[\w.-]*\w", spec.name):
        raise UserError(f"data.name={spec.name}: expected letters, digits, '-', '_' and '.'")
    if files.classes < 2:
        raise UserError(f"data.files.classes={files.classes}: expected at least 2")
    if files.channels == 2:
        raise UserError("data.files.channels=2: expected 3 (colour) or 1 (grey)")
    for name in ("labeled", "test", "unlabeled"):
        part: Part = getattr(files, name)
        if name == "labeled" or part != Part():
            _check_part(name, part)


def _check_part(name: str, part: Part) -> None:
    if not (part.split and part.images):
        raise UserError(
            f"data.files.{name}: expected the name of a split and how many images it has, for "
            f'example {{ split = "train", images = 500 }}'
        )
    if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*|", part.source):
        raise UserError(
            f"data.files.{name}.source={part.source}: expected a name, or OWNER/NAME of the hub"
        )


def sources_of(spec: Data) -> list[str]:
    """Return the names of the sets that its parts are from, its own first; [] without files."""
    files = files_of(spec)
    if files is None:
        return []
    parts = (files.labeled, files.test, files.unlabeled)
    return list(dict.fromkeys([spec.name, *(part.source for part in parts if part.source)]))


def pixels_of(spec: Data) -> int:
    """Return the side of the images of a data set in files; 0 if they are not resized once."""
    if spec.pixels or spec.name not in hub_sets():
        return spec.pixels
    return hub_sets()[spec.name].pixels


def side_of(spec: Data) -> int:
    """Return the side of the images that a network sees, unless it has a resolution of its own."""
    if files_of(spec) is not None:
        return pixels_of(spec)
    return spec.glyphs.pixels if spec.name == "glyphs" else 8


def channels_of(spec: Data) -> int:
    """Return the channels of the images."""
    files = files_of(spec)
    return 1 if files is None else files.channels


def decoded_bytes(spec: Data) -> int:
    """Return what the images of a set in files take when they are decoded once; 0 for others."""
    files = files_of(spec)
    if files is None:
        return 0
    images = files.labeled.images + files.test.images + files.unlabeled.images
    return images * files.channels * pixels_of(spec) ** 2


WHOLE_LOGITS = 4e9
"""Bytes of a pool's logits, float16 [pool, classes], up to which all of them are stored."""

TOP = 10
"""Classes kept of each image, four bytes each, where they are not."""

SHARD = 100_000
"""Images of which the labels are in one file, at most: what is lost by a kill while labelling."""


def sparse_labels(spec: Data) -> bool:
    """Whether the pool is so large that of its labels the top classes are stored, in shards."""
    return 2.0 * pool_size(spec) * classes_of(spec) > WHOLE_LOGITS


def facts(spec: Data) -> Facts:
    """Return what is known of the data set, its pool that of its source.

    Raises:
        UserError: there is none of this name, or its pool cannot be from that source.
    """
    files = files_of(spec)
    if files is None:
        known = CATALOG[spec.name]
    else:
        known = Facts(
            images=files.labeled.images,
            classes=files.classes,
            test=files.test.images if files.test.split else None,
            unlabeled=files.unlabeled.images if files.unlabeled.split else None,
        )
    if not spec.source:
        return known
    if spec.source not in (names := [*CATALOG, *hub_sets()]):
        raise unknown("data set for data.source:", spec.source, names)
    if spec.source == spec.name:
        raise UserError(f"data.source={spec.source}: expected another data set than data.name")
    if not side_of(spec):
        raise UserError(f"data.source={spec.source}: expected data.pixels with it, for both sets")
    other = facts(source_spec(spec))
    if other.images is None:
        own = pool_size(replace(spec, source="", imbalance=1.0))
        return replace(known, unlabeled=spec.unlabeled or own)
    return replace(known, unlabeled=other.unlabeled or other.images)


def source_spec(spec: Data) -> Data:
    """Return the data set that the pool of `spec` is from, at the same side of images."""
    if spec.source in hub_sets():
        return Data(name=spec.source, pixels=side_of(spec))
    return Data(name=spec.source, unlabeled=spec.unlabeled, glyphs=spec.glyphs)


def classes_of(spec: Data) -> int:
    """Return the number of classes."""
    return facts(spec).classes or spec.glyphs.classes


def class_shares(classes: int, imbalance: float) -> list[float]:
    """Return the sizes of a pool's classes, most frequent first, as shares of the first."""
    return [imbalance ** (-i / max(classes - 1, 1)) for i in range(classes)]


def takes_all(spec: Data) -> bool:
    """Whether every image that validation and test rows leave is a labeled one."""
    known = facts(spec)
    test = 0 if known.test is not None else spec.test
    return known.unlabeled is not None and spec.labeled + spec.validation + test == known.images


def pool_size(spec: Data) -> int:
    """Return how many images the unlabeled pool has.

    Exact unless `imbalance` thins a finite set, where it depends on the seed by a few images, or
    images of the pool are also test or validation images, which are left out.

    Raises:
        UserError: unknown data set, or parts that do not fit into it.
    """
    known = facts(spec)
    classes = classes_of(spec)
    if spec.labeled % classes and not takes_all(spec):
        raise UserError(
            f"data.labeled={spec.labeled}: expected a multiple of the {classes} classes of "
            f"'{spec.name}', since the labeled set is class-stratified"
        )
    if spec.out_of_domain and not known.out_of_domain:
        having = " and ".join(name for name, other in CATALOG.items() if other.out_of_domain)
        raise UserError(
            f"data.out_of_domain={spec.out_of_domain:g}: '{spec.name}' has no images out of "
            f"domain; {having} has"
        )
    if spec.source and (spec.out_of_domain or spec.imbalance > 1):
        raise UserError(
            f"data.source={spec.source}: expected data.out_of_domain=0 and data.imbalance=1 with "
            "it, since that pool is taken as it is"
        )
    if known.images is None and not spec.source:
        if not spec.unlabeled:
            raise UserError(
                f"data.unlabeled=0: '{spec.name}' has as many images as asked for; expected the "
                "number in the pool"
            )
        return spec.unlabeled
    if known.unlabeled is not None and known.unlabeled < spec.unlabeled:
        wanted = f" (data.unlabeled={spec.unlabeled})"
        of = spec.source or spec.name
        raise UserError(f"the pool of '{of}' has only {known.unlabeled} images{wanted}")
    if known.images is None:
        return spec.unlabeled or known.unlabeled or 0
    if known.test is not None and spec.test > known.test:
        raise UserError(
            f"data.test={spec.test}: the test split of '{spec.name}' has {known.test} images"
        )
    asked = {"data.labeled": spec.labeled, "data.validation": spec.validation}
    if known.test is None:
        asked["data.test"] = spec.test
    *first, last = [f"{name}={count}" for name, count in asked.items()]
    parts = f"{', '.join(first)} and {last}"
    pool = known.images - sum(asked.values())
    wanted = f" (data.unlabeled={spec.unlabeled})" if spec.unlabeled else ""
    if known.unlabeled is not None:
        if pool < 0:
            raise UserError(f"{parts} are more than the {known.images} images of '{spec.name}'")
        pool = known.unlabeled
    elif pool < max(spec.unlabeled, 1):
        left = f"only {pool} images for the" if pool > 0 else "no"
        raise UserError(
            f"{parts} leave {left} unlabeled pool{wanted} in the {known.images} images of "
            f"'{spec.name}'"
        )
    pool = spec.unlabeled or pool
    return round(pool * sum(class_shares(classes, spec.imbalance)) / classes)


def check(recipe: Recipe) -> None:
    """Raise UserError if the data of a recipe or of its teachers cannot be had as asked for."""
    pool = pool_size(recipe.data)
    if not (side_of(recipe.data) or recipe.train.resolution):
        raise UserError(
            f"data.pixels=0 and train.resolution=0: expected the side of the images of "
            f"'{recipe.data.name}': data.pixels, if they are to be resized once, train.resolution, "
            "if they are to be decoded whenever they are needed"
        )
    if recipe.teacher is not None:
        check(recipe.teacher)
    size = recipe.batch[1]
    if size > pool:
        raise UserError(
            f"train.batch_size={recipe.train.batch_size} x train.ratio={recipe.train.ratio}: "
            f"a batch of {size} unlabeled rows is larger than the pool ({pool})"
        )
