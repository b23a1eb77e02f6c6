"""What the options of a command name: found, or refused in one line."""

from pathlib import Path

import pytest
from refusals import refusal

from ns_bench.cli.inputs import read_setting
from ns_bench.cli.options import StudyOptions

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
