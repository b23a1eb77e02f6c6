"""What is known of each data set without loading it, so that a plan can be checked in no time."""

from dataclasses import dataclass

from ns_bench.errors import UserError, unknown
from ns_bench.recipe import Data, Recipe


@dataclass(frozen=True)
class Facts:
    """Of a whole data set: images and classes, None where there are as many as asked for."""

    images: int | None
    classes: int | None
    out_of_domain: bool = False


CATALOG = {
    "digits": Facts(images=1797, classes=10),
    "glyphs": Facts(images=None, classes=None, out_of_domain=True),
}
"""By the name that `data.name` takes."""


def facts(spec: Data) -> Facts:
    """Return what is known of the data set. UserError: there is none of this name."""
    if spec.name not in CATALOG:
        raise unknown("data set", spec.name, CATALOG)
    return CATALOG[spec.name]


def classes_of(spec: Data) -> int:
    """Return the number of classes."""
    return facts(spec).classes or spec.glyphs.classes


def class_shares(classes: int, imbalance: float) -> list[float]:
    """Return the sizes of a pool's classes, most frequent first, as shares of the first."""
    return [imbalance ** (-i / max(classes - 1, 1)) for i in range(classes)]


def pool_size(spec: Data) -> int:
    """Return how many images the unlabeled pool has.

    Exact unless `imbalance` thins a finite set, where it depends on the seed by a few images.

    Raises:
        UserError: unknown data set, or parts that do not fit into it.
    """
    known = facts(spec)
    classes = classes_of(spec)
    if spec.labeled % classes:
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
    if known.images is None:
        if not spec.unlabeled:
            raise UserError(
                f"data.unlabeled=0: '{spec.name}' has as many images as asked for; expected the "
                "number in the pool"
            )
        return spec.unlabeled
    pool = known.images - spec.labeled - spec.validation - spec.test
    if pool < max(spec.unlabeled, 1):
        left = f"only {pool} images for the" if pool > 0 else "no"
        asked = f" (data.unlabeled={spec.unlabeled})" if spec.unlabeled else ""
        raise UserError(
            f"data.labeled={spec.labeled}, data.validation={spec.validation} and "
            f"data.test={spec.test} leave {left} unlabeled pool{asked} in the {known.images} "
            f"images of '{spec.name}'"
        )
    pool = spec.unlabeled or pool
    return round(pool * sum(class_shares(classes, spec.imbalance)) / classes)


def check(recipe: Recipe) -> None:
    """Raise UserError if the data of a recipe or of its teachers cannot be had as asked for."""
    pool = pool_size(recipe.data)
    if recipe.teacher is not None:
        check(recipe.teacher)
        size = recipe.batch[1]
        if size > pool:
            raise UserError(
                f"train.batch_size={recipe.train.batch_size} x train.ratio={recipe.train.ratio}: "
                f"a batch of {size} unlabeled rows is larger than the pool ({pool})"
            )
