"""What is known of each data set without loading it, so that a plan can be checked in no time."""

from dataclasses import dataclass

from ns_bench.errors import UserError, unknown
from ns_bench.recipe import Data, Recipe


@dataclass(frozen=True)
class Facts:
    """Number of images and classes of a whole data set."""

    images: int
    classes: int


CATALOG = {"digits": Facts(images=1797, classes=10)}
"""By the name that `data.name` takes."""


def pool_size(spec: Data) -> int:
    """Return how many images the parts of `spec` leave as the unlabeled pool.

    Raises:
        UserError: unknown data set, or parts that do not fit into it.
    """
    if spec.name not in CATALOG:
        raise unknown("data set", spec.name, CATALOG)
    facts = CATALOG[spec.name]
    if spec.labeled % facts.classes:
        raise UserError(
            f"data.labeled={spec.labeled}: expected a multiple of the {facts.classes} classes of "
            f"'{spec.name}', since the labeled set is class-stratified"
        )
    pool = facts.images - spec.labeled - spec.validation - spec.test
    if pool < 1:
        raise UserError(
            f"data.labeled={spec.labeled}, data.validation={spec.validation} and "
            f"data.test={spec.test} leave no unlabeled pool in the {facts.images} images "
            f"of '{spec.name}'"
        )
    return pool


def check(recipe: Recipe) -> None:
    """Raise UserError if the data of a recipe or of its teachers cannot be had as asked for."""
    pool = pool_size(recipe.data)
    if recipe.teacher is not None:
        check(recipe.teacher)
        size = recipe.train.batch_size * recipe.train.ratio
        if size > pool:
            raise UserError(
                f"train.batch_size={recipe.train.batch_size} x train.ratio={recipe.train.ratio}: "
                f"a batch of {size} unlabeled rows is larger than the pool ({pool})"
            )
