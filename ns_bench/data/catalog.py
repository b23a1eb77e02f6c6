"""What is known of each data set without loading it, so that a plan can be checked in no time."""

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ns_bench.errors import UserError, unknown
from ns_bench.fields import build, default, needed, table
from ns_bench.files import read_toml
from ns_bench.recipe import NO_FILES, Data, Files, Part, Recipe


@dataclass(frozen=True)
class PackagedSet:
    """A data set that comes with an installed package, its images grey.

    `images` and `classes` are None where there are as many as asked for.
    """

    images: int | None
    classes: int | None
    out_of_domain: bool = False


PACKAGED = {
    "digits": PackagedSet(images=1797, classes=10),
    "glyphs": PackagedSet(images=None, classes=None, out_of_domain=True),
}
"""By the name that `data.name` takes."""


@dataclass(frozen=True)
class HubSet:
    """A data set on the Hugging Face hub: `sets/NAME.toml`."""

    hub: str = needed("OWNER/NAME on the hub")
    files: Files = table(Files)
    pixels: int = default(0, "side of its images as they are; 0 where they are of many sizes")
    config: str = default("", "name of its configuration, which is the folder of its files")
    folder: str = default("", "where a package of the system puts its files")
    means: bool = default(False, "whether images are shrunk to means of squares of pixels")


@cache
def hub_sets() -> dict[str, HubSet]:
    """Return the data sets on the hub by the name that `data.name` takes."""
    files = sorted((Path(__file__).parent / "sets").glob("*.toml"))
    return {file.stem: build(HubSet, read_toml(file, file.name)) for file in files}


@dataclass(frozen=True)
class FileSet:
    """A data set in files, with the side to which its images are resized, once.

    Attributes:
        pixels: 0 where images of many sizes are not resized once but decoded when they are needed.
    """

    name: str
    files: Files
    pixels: int

    @property
    def parts(self) -> dict[str, Part]:
        """Its splits by what they are for: labeled, and test and unlabeled where there are such."""
        files = self.files
        parts = {"labeled": files.labeled, "test": files.test, "unlabeled": files.unlabeled}
        return {name: part for name, part in parts.items() if part.split}

    @property
    def names(self) -> list[str]:
        """Names of the data sets that its splits are from, its own first."""
        others = [part.source for part in self.parts.values() if part.source]
        return list(dict.fromkeys([self.name, *others]))

    @property
    def decoded_bytes(self) -> int:
        """What its images take when they are decoded once."""
        images = sum(part.images for part in self.parts.values())
        return images * self.files.channels * self.pixels**2


@dataclass(frozen=True)
class WholeSet:
    """A whole data set, however many of its rows a recipe asks for.

    Attributes:
        channels: 3 (colour) or 1 (grey).
        side: of the images that a network sees, unless it has a resolution of its own; 0 where they
            are of many sizes and not resized once.
        images: that labeled and validation rows are drawn from, and test rows and the pool where
            these have no split of their own; None where there are as many as asked for.
        test: images in a test split of its own, or drawn for all seeds; None without one.
        unlabeled: images in a split or another data set that the pool is from; None without one.
        out_of_domain: whether a pool can have images that show none of the classes.
        file_set: its files; None for a set that comes with a package.
        pool_file_set: the files of another set that the pool is from; None without such.
    """

    classes: int
    channels: int
    side: int
    images: int | None
    test: int | None = None
    unlabeled: int | None = None
    out_of_domain: bool = False
    file_set: FileSet | None = None
    pool_file_set: FileSet | None = None


@dataclass(frozen=True)
class Description(WholeSet):
    """A data set with the rows that a recipe asks for.

    Attributes:
        takes_all: whether every image that validation and test rows leave is a labeled one.
        pool: images in the unlabeled pool. Exact unless `imbalance` thins a finite set, where it
            depends on the seed by a few images, or images of the pool are also test or validation
            images, which are left out.
    """

    takes_all: bool = False
    pool: int = 0

    @property
    def file_sets(self) -> list[FileSet]:
        """The sets in files that it needs."""
        return [files for files in (self.file_set, self.pool_file_set) if files is not None]


@cache
def describe(spec: Data) -> Description:
    """Return what is known of the data that a recipe asks for.

    Raises:
        UserError: unknown data set, a description of one's own that cannot be, or parts that do
            not fit into it.
    """
    whole = _whole_set(spec)
    if spec.source:
        whole = _with_pool_of_source(spec, whole)
    rows = spec.labeled + spec.validation + (spec.test if whole.test is None else 0)
    takes_all = whole.unlabeled is not None and rows == whole.images
    if not takes_all:
        _check_stratified(spec, whole.classes)
    _check_kind_of_pool(spec, whole)
    return Description(**vars(whole), takes_all=takes_all, pool=_pool(spec, whole))


def _whole_set(spec: Data) -> WholeSet:
    files = _files(spec)
    if files is None:
        known = PACKAGED[spec.name]
        return WholeSet(
            classes=known.classes or spec.glyphs.classes,
            channels=1,
            side=spec.glyphs.pixels if spec.name == "glyphs" else 8,
            images=known.images,
            test=spec.test if spec.name == "glyphs" and spec.glyphs.fixed_test else None,
            out_of_domain=known.out_of_domain,
        )
    hub = hub_sets().get(spec.name)
    file_set = FileSet(spec.name, files, spec.pixels or (hub.pixels if hub else 0))
    if spec.crop == "photo" and file_set.pixels:
        raise UserError(
            f"data.crop=photo: '{spec.name}' is resized once to {file_set.pixels} pixels; expected "
            "data.pixels=0, so that photos are decoded when they are needed"
        )
    return WholeSet(
        classes=files.classes,
        channels=files.channels,
        side=file_set.pixels,
        images=files.labeled.images,
        test=files.test.images if files.test.split else None,
        unlabeled=files.unlabeled.images if files.unlabeled.split else None,
        file_set=file_set,
    )


def _files(spec: Data) -> Files | None:
    """Return what is in the files of a data set; None for one that comes with a package."""
    described = spec.files != Files()
    if spec.name in NO_FILES or spec.name in PACKAGED:
        return None
    if spec.name in hub_sets():
        known, pool = hub_sets()[spec.name].files, spec.files.unlabeled
        if not described:
            return known
        if spec.files != Files(unlabeled=pool) or not pool.source:
            raise UserError(
                f"data.files describes a data set of one's own: '{spec.name}' has its own "
                "description, but for a pool from another source (data.files.unlabeled.source); "
                "give yours another data.name"
            )
        _check_part("unlabeled", pool)
        return replace(known, unlabeled=pool)
    if not described:
        raise unknown("data set", spec.name, [*PACKAGED, *hub_sets()])
    _check_own(spec)
    return spec.files


def _check_own(spec: Data) -> None:
    files = spec.files
    if not re.fullmatch(r"[\w.-]*\w", spec.name):
        raise UserError(f"data.name={spec.name}: expected letters, digits, '-', '_' and '.'")
    if files.classes < 2:
        raise UserError(f"data.files.classes={files.classes}: expected at least 2")
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


def _with_pool_of_source(spec: Data, whole: WholeSet) -> WholeSet:
    """Return the set with the pool of `spec.source`, at the same side of images."""
    if spec.source not in (names := [*PACKAGED, *hub_sets()]):
        raise unknown("data set for data.source:", spec.source, names)
    if spec.source == spec.name:
        raise UserError(f"data.source={spec.source}: expected another data set than data.name")
    if not whole.side:
        raise UserError(f"data.source={spec.source}: expected data.pixels with it, for both sets")
    other = _whole_set(Data(name=spec.source, pixels=whole.side))
    if spec.out_of_domain and shows_other_classes(spec):
        return replace(whole, out_of_domain=True)
    images = other.unlabeled or other.images
    if images is None:  # as many as asked for, or as the pool would have without a source
        images = spec.unlabeled or describe(replace(spec, source="", imbalance=1.0)).pool
    return replace(whole, unlabeled=images, pool_file_set=other.file_set)


def shows_other_classes(spec: Data) -> bool:
    """Whether a pool can be mixed from the set's own images and those of `spec.source`, which show
    none of its classes: glyphs, of which there are as many as asked for, in anything but digits."""
    return spec.source == "glyphs" and spec.name != "digits"


def _check_stratified(spec: Data, classes: int) -> None:
    if spec.labeled % classes:
        raise UserError(
            f"data.labeled={spec.labeled}: expected a multiple of the {classes} classes of "
            f"'{spec.name}', since the labeled set is class-stratified"
        )


def _check_kind_of_pool(spec: Data, whole: WholeSet) -> None:
    if spec.out_of_domain and not whole.out_of_domain:
        having = " and ".join(name for name, other in PACKAGED.items() if other.out_of_domain)
        raise UserError(
            f"data.out_of_domain={spec.out_of_domain:g}: '{spec.name}' has no images out of "
            f"domain; {having} has, and with data.source=glyphs every set but digits"
        )
    mixed = spec.out_of_domain and not shows_other_classes(spec)
    if spec.source and (mixed or spec.imbalance > 1):
        raise UserError(
            f"data.source={spec.source}: expected data.out_of_domain=0 and data.imbalance=1 with "
            "it, since that pool is taken as it is"
        )


def _pool(spec: Data, whole: WholeSet) -> int:
    """Return how many images the unlabeled pool has."""
    if whole.images is None and whole.unlabeled is None:
        if not spec.unlabeled:
            raise UserError(
                f"data.unlabeled=0: '{spec.name}' has as many images as asked for; expected the "
                "number in the pool"
            )
        return spec.unlabeled
    if whole.unlabeled is not None and whole.unlabeled < spec.unlabeled:
        raise UserError(
            f"the pool of '{spec.source or spec.name}' has only {whole.unlabeled} images "
            f"(data.unlabeled={spec.unlabeled})"
        )
    left = 0 if whole.images is None else _left(spec, whole, whole.images)
    pool = spec.unlabeled or (left if whole.unlabeled is None else whole.unlabeled)
    return round(pool * sum(class_shares(whole.classes, spec.imbalance)) / whole.classes)


def _left(spec: Data, whole: WholeSet, images: int) -> int:
    """Return how many of the `images` are in none of the labeled, validation and test rows."""
    rows = {"data.labeled": spec.labeled, "data.validation": spec.validation}
    if whole.test is None:
        rows["data.test"] = spec.test
    elif spec.test > whole.test:
        raise UserError(
            f"data.test={spec.test}: the test split of '{spec.name}' has {whole.test} images"
        )
    left = images - sum(rows.values())
    *first, last = [f"{name}={count}" for name, count in rows.items()]
    parts = f"{', '.join(first)} and {last}"
    if whole.unlabeled is not None:
        if left < 0:
            raise UserError(f"{parts} are more than the {images} images of '{spec.name}'")
    elif left < max(spec.unlabeled, 1):
        only = f"only {left} images for the" if left > 0 else "no"
        wanted = f" (data.unlabeled={spec.unlabeled})" if spec.unlabeled else ""
        raise UserError(
            f"{parts} leave {only} unlabeled pool{wanted} in the {images} images of '{spec.name}'"
        )
    return left


def class_shares(classes: int, imbalance: float) -> list[float]:
    """Return the sizes of a pool's classes, most frequent first, as shares of the first."""
    return [imbalance ** (-i / max(classes - 1, 1)) for i in range(classes)]


def check(recipe: Recipe) -> None:
    """Raise UserError if the data of a recipe or of its teachers cannot be had as asked for."""
    known = describe(recipe.data)
    if not (known.side or recipe.train.resolution):
        raise UserError(
            f"data.pixels=0 and train.resolution=0: expected the side of the images of "
            f"'{recipe.data.name}': data.pixels, if they are to be resized once, train.resolution, "
            "if they are to be decoded whenever they are needed"
        )
    if recipe.teacher is not None:
        check(recipe.teacher)
    size = recipe.batch[1]
    if size > known.pool:
        raise UserError(
            f"train.batch_size={recipe.train.batch_size} x train.ratio={recipe.train.ratio}: "
            f"a batch of {size} unlabeled rows is larger than the pool ({known.pool})"
        )
