"""Data sets of the hub and of files: how they are described, and which descriptions are refused."""

import pytest
from builders import present
from hypothesis import HealthCheck, settings
from photos import (
    POOL,
    alone,  # noqa: F401 (each test has a cache of its own, and no network)
    spec,
)

from ns_bench.data.catalog import PACKAGED, check, describe, hub_sets
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.recipe import Data

pytestmark = pytest.mark.slow

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""

HUB = ["cifar10", "cifar100", "fashion", "imagenet", "stl10", "svhn"]


def test_sets_of_the_hub_are_described():
    assert sorted(hub_sets()) == HUB
    assert not hub_sets().keys() & PACKAGED.keys()
    for known in hub_sets().values():
        files = known.files
        assert known.hub.count("/") == 1
        assert files.classes >= 10 and files.labeled.images > 0 and files.test.images > 0
    pools = {name: known.files.unlabeled.split for name, known in hub_sets().items()}
    assert {name: pool for name, pool in pools.items() if pool} == {
        "stl10": "unlabeled",
        "svhn": "extra",
    }


@pytest.mark.parametrize(
    ("name", "pool"), [("cifar10", 41_000), ("cifar100", 35_000), ("svhn", 531_131), ("stl10", 1e5)]
)
def test_profiles_of_hub_sets_are_planned_without_data(name, pool):
    profile = load_profile(name)
    assert profile.pool == pool
    teacher = profile.supervised("small")
    check(profile.student("large", teacher))
    files = present(describe(teacher.data).file_set).files
    assert teacher.data.test == files.test.images  # the whole of it


def test_svhn_is_the_official_recipe():
    """google-research/noisystudent: local_scripts/svhn/*.sh, and the defaults of its flags."""
    profile = load_profile("svhn")
    student = profile.student("small", profile.supervised("small"))
    train, noise, pseudo = student.train, student.noise, student.pseudo
    assert student.model == present(student.teacher).model == "small-b0"
    assert (student.data.labeled, student.data.validation) == (73_257 - 4_000, 4_000)
    assert (train.batch_size, train.ratio, train.loss) == (128, 5, "ratio")
    assert student.steps == pytest.approx(109_474, rel=0.002)
    assert (train.optimizer, train.lr, train.momentum) == ("rmsprop", 0.016 * 128 / 256, 0.9)
    assert (train.weight_decay, train.label_smoothing, train.ema) == (1e-4, 0.1, 0.9999)
    last = train.lr * train.decay_rate ** int(train.epochs / train.decay_epochs)
    assert last == pytest.approx(0.0002 * 128 / 256, rel=0.1)  # --final_base_lr
    assert noise.labeled == noise.unlabeled
    assert (noise.labeled.randaugment_n, noise.labeled.randaugment_m) == (2, 5.0)
    assert noise.labeled.randaugment_cutout
    assert (noise.labeled.cutout, noise.labeled.crop_padding, noise.labeled.flip) == (16, 4, False)
    assert (noise.labeled.dropout, noise.labeled.stochastic_depth) == (0.2, 0.2)
    assert (pseudo.kind, pseudo.temperature, pseudo.threshold) == ("soft", 1.0, 0.3)
    assert pseudo.balance and (pseudo.per_class or profile.pool // 10) == 53_113


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "cifar"}, "data.files.labeled: expected the name of a split"),
        ({"name": "cifar10", "files__classes": 10}, "'cifar10' has its own description"),
        ({"files__classes": 1}, "data.files.classes=1: expected at least 2"),
        ({"files__channels": 2}, "data.files.channels=2: expected one of 1, 3"),
        ({"name": "../photos"}, "data.name=../photos: expected letters"),
        ({"files__test__images": 0}, "data.files.test: expected the name of a split"),
        ({"test": 25}, "data.test=25: the test split of 'photos' has 24 images"),
        ({"labeled": 60}, "data.labeled=60 and data.validation=9 leave no unlabeled pool"),
        ({"labeled": 60, **POOL}, "data.labeled=60 and data.validation=9 are more than the 60"),
        ({"unlabeled": 31, **POOL}, "the pool of 'photos' has only 30 images (data.unlabeled=31)"),
        ({"labeled": 13}, "data.labeled=13: expected a multiple of the 3 classes"),
    ],
)
def test_descriptions_that_are_refused(fields, said):
    if fields.get("name") == "cifar":
        fields = {**fields, "files__labeled__split": "", "files__labeled__images": 0}
    elif fields.get("name") == "cifar10":
        fields = {**fields, "files__labeled__images": 0, "files__labeled__split": ""}
    with pytest.raises(UserError) as caught:
        describe(spec(**fields))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(UserError, match=r"data set 'cifar11': did you mean 'cifar10'\?"):
        describe(Data(name="cifar11"))
