"""Arms without noise have none, in every profile: whatever noises there are."""

import pytest
import torch

from ns_bench.design.definition import Arm, load_study, study_names
from ns_bench.design.profile import load_profile, profile_names
from ns_bench.recipe import NO_NOISE, Recipe, RowNoise, without_noise
from ns_bench.recipe.own_code import reference
from ns_bench.selftrain.noise import augment

IMAGES = torch.randint(0, 256, (32, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()

BOTH, POOL = ("labeled", "unlabeled"), ("unlabeled",)
SAYS: dict[str, dict[str, tuple[str, ...]]] = {
    "noise": {"no noise": POOL, "no noise on labeled rows either": BOTH},
    "noise_by_size": {f"{rung} student, no noise": POOL for rung in ("small", "medium", "large")},
    "robustness": {"supervised, no noise": ("labeled",), "student, no noise": BOTH},
    "related_methods": dict.fromkeys(
        ["pseudo-labels", "pseudo-labels, iterated", "knowledge distillation, all",
         "data distillation"], POOL,
    ),
}  # fmt: skip
"""{study: {arm: the rows that it has without noise, by its name or by the method's paper}}."""


def noises(noise: RowNoise) -> list[str]:
    """Return what a network and its images are noised by, as they are seen."""
    changed = not torch.equal(augment(IMAGES, noise, torch.Generator().manual_seed(1)), IMAGES)
    rates = {"dropout": noise.dropout, "stochastic depth": noise.stochastic_depth}
    return ["augmentation"] * changed + [name for name, rate in rates.items() if rate]


def rows_of(recipe: Recipe) -> dict[str, RowNoise]:
    """Return the noise of the rows that a run has."""
    noise = {"labeled": recipe.noise.labeled, "unlabeled": recipe.noise.unlabeled}
    return {kind: noise[kind] for kind, rows in zip(BOTH, recipe.batch, strict=True) if rows}


def arms(study: str, profile: str) -> list[Arm]:
    return load_study(study).design(load_profile(profile)).arms


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("study", SAYS)
def test_an_arm_that_says_so_has_no_noise(study, profile):
    recipes = {arm.name: arm.recipe for arm in arms(study, profile)}
    too_large = {"data distillation"} if profile == "imagenet" else set()  # of a pool to label anew
    assert SAYS[study].keys() - recipes.keys() <= too_large
    for name, rows in SAYS[study].items():
        if name not in recipes:
            continue
        noise = rows_of(recipes[name])
        assert not [(kind, noises(noise[kind])) for kind in rows if noises(noise[kind])]


@pytest.mark.slow
@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("study", study_names())
def test_no_arm_is_left_with_a_forgotten_noise(study, profile):
    """Rows without dropout, stochastic depth and RandAugment were meant to have no noise at all."""
    for arm in arms(study, profile):
        if "no noise" in arm.name:
            assert arm.name in SAYS[study]
        for rows, noise in rows_of(arm.recipe).items():
            if not (noise.dropout or noise.stochastic_depth or noise.randaugment_n):
                assert not noises(noise), f"{arm.name}, {rows} rows"


def test_every_profile_with_photos_has_noises_to_forget():
    """So that the tests above can fail: what `digits` does not have."""
    for profile in ("cifar10", "imagenet", "imagenet-mini"):
        noise = load_profile(profile).supervised("small").noise.labeled
        assert noise.flip or noise.resized_crop


@pytest.mark.parametrize("name", NO_NOISE)
def test_each_noise_shows(name, tmp_path):
    """A noise that `noises` cannot see would let the tests above pass."""
    loud = {"randaugment_n": 2, "crop_padding": 4, "cutout": 8, "flip": True, "resized_crop": 0.1}
    (tmp_path / "mine.py").write_text("def inverted(images, draws):\n    return 255 - images\n")
    own = {"custom": reference(f"{tmp_path}/mine.py:inverted")}
    noise = RowNoise(**{**NO_NOISE, name: {**loud, **own}.get(name, 0.5)})
    assert len(noises(noise)) == 1
    assert not noises(RowNoise(**NO_NOISE))


def test_fields_without_noise():
    assert without_noise("unlabeled", noises=["flip"]) == {"noise.unlabeled.flip": False}
    assert len(without_noise("labeled", "unlabeled")) == 2 * len(NO_NOISE)
    noise = Recipe(teacher=Recipe()).set(without_noise("labeled", "unlabeled")).noise
    assert noise.labeled == noise.unlabeled == RowNoise(**NO_NOISE)
