"""What the options of a command name: found, or refused in one line."""

from pathlib import Path
from typing import Any

import pytest
from builders import present
from refusals import refusal

from ns_bench.cli.inputs import check_networks, read_setting
from ns_bench.cli.options import StudyOptions
from ns_bench.design import cost
from ns_bench.design.cost import shape_of
from ns_bench.recipe import Recipe

MODEL = 'extends = "smoke"\n[model.{}]\ntrain.epochs = 7\n'


def asked(folder: Path, model: str) -> StudyOptions:
    """Ask for a profile of one's own with a table of fields for `model`."""
    (folder / "mine.toml").write_text(MODEL.format(model))
    return StudyOptions(study="noise", profile=str(folder / "mine.toml"))


@pytest.mark.parametrize("model", ["micro-b2", "small-b3", "resnet18", "tf_efficientnet_l2"])
def test_a_table_may_be_of_a_model_that_is_not_on_the_ladder(model: str, tmp_path: Path) -> None:
    setting = read_setting(asked(tmp_path, model))
    assert setting.profile.by_model[model]["train.epochs"] == 7


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("micro-bb2", "mine.toml: 'micro-bb2': did you mean 'micro-b2'?"),
        ("xyzzy", "mine.toml: 'xyzzy': valid: micro-b0, micro-b2, micro-b4,"),
    ],
)
def test_a_table_of_no_model_is_refused(model: str, line: str, tmp_path: Path) -> None:
    assert line in refusal(read_setting, asked(tmp_path, model))


@pytest.mark.parametrize(
    ("model", "fields", "line"),
    [
        ("resnet81", {}, "unknown model 'resnet81': did you mean 'resnet18'?"),
        (
            "test_vit",
            {"train.resolution": 30},
            "test_vit cannot be built for images of 30 pixels: Input height (30) should be",
        ),
        ("test_vit", {"pretrained": "x@0123456789ab", "train.resolution": 32}, ""),
        (
            "micro-b0",
            {"pretrained": True},
            "pretrained=true: there are no such weights of micro-b0",
        ),
        ("micro-b0", {"train.frozen": 5}, "train.frozen=5: expected at most 4, the stages"),
        ("small-b0", {"train.frozen": 1000}, "train.frozen=1000: expected at most 8, the stages"),
        ("small-b0", {"train.frozen": 8}, ""),
    ],
)
def test_a_network_that_cannot_be_is_refused_before_anything_runs(
    model: str, fields: dict[str, Any], line: str
) -> None:
    recipe = Recipe.of({"model": model, **fields})
    if line:
        assert line in refusal(check_networks, [recipe])
    else:
        check_networks([recipe])
        assert present(cost.network(shape_of(recipe))).forward > 1e6  # and priced


def test_own_networks_and_those_of_the_tables_are_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ns_bench.selftrain.count.count", lambda shape: 1 / 0)
    check_networks([Recipe.of({"model": name}) for name in ("micro-b0", "mine.net@0123456789ab")])
