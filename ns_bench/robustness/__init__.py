"""How a trained network fares where images are not as in training: names here, the rest beside it.

Four groups of metrics, each a function of the published averaged weights, the seed's split and a
random stream of the seed that knows nothing of the arm; see `measure`. Nothing here imports torch,
so that a command can look at names without waiting for it.
"""

from collections.abc import Iterable

from ns_bench.errors import unknown
from ns_bench.recipe import own_code

GROUPS = {"corruption": 1, "perturbation": 1, "adversarial": 1, "out_of_domain": 1}
"""Groups of metrics by name, with the version of what they measure: a new one measures again."""

FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
"""The 15 corruptions of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261)."""

CORRUPTIONS = tuple(name for family in FAMILIES.values() for name in family)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Its four validation corruptions: measured, but in no mean."""

SEVERITIES = (1, 2, 3, 4, 5)

OVERLAPPING = {
    "brightness": "Brightness",
    "contrast": "Contrast",
    "defocus_blur": "Sharpness, which smooths at small magnitudes",
    "elastic_transform": "Rotate, ShearX, ShearY: it begins with a random affine map",
}
"""Corruptions that RandAugment's operations overlap, and which do. The paper names Brightness,
Contrast and Sharpness (footnote 4); no corruption is called sharpness, its nearest is the defocus
blur. The elastic transform is counted too, so that what is left is beyond doubt."""

OTHER = tuple(name for name in CORRUPTIONS if name not in OVERLAPPING)

PERTURBATIONS = (
    *("gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow"),
    *("brightness", "translate", "rotate", "tilt", "scale"),
)
"""The ten sequences of ImageNet-P, with snow as in its paper's Table 3 (later code has spatter)."""

EPSILONS = (0, 1, 2, 4, 8, 16)
"""Sizes of FGSM, in 255ths of the range of a pixel (Noisy Student, Figure 4)."""
PGD_EPSILONS = (2, 8, 16)
"""Of PGD, which takes ten times as long; the paper has 16."""


def groups(names: Iterable[str]) -> tuple[str, ...]:
    """Return the groups that `names` ask for, each once and in the order of `GROUPS`.

    A metric of one's own, `mine.py:NAME`, is a group by itself, called as `own_code` has it.

    Raises:
        UserError: there is no such group (the nearest is named), or no such code.
    """
    asked = {own_code.reference(name) for name in names}
    own = sorted(filter(own_code.is_reference, asked))
    for name in sorted(asked.difference(own)):
        if name not in GROUPS:
            raise unknown("group of metrics", name, GROUPS)
    return (*(name for name in GROUPS if name in asked), *own)


def version(group: str) -> int:
    """Return the version of what a group measures; one's own code has it in its name."""
    return GROUPS.get(group, 1)


def metric_name(group: str, name: str) -> str:
    """Return what a value is called: `GROUP_NAME`, or as its group where it is all of it."""
    return f"{group}_{name}" if name else group


def groups_in(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the groups that a table of runs has columns of, `test_GROUP_...`."""
    names = tuple(columns)
    own = sorted(filter(own_code.is_reference, (name.removeprefix("test_") for name in names)))
    return (*(g for g in GROUPS if any(n.startswith(f"test_{g}_") for n in names)), *own)
