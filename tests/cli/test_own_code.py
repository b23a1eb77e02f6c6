"""Code of one's own, from the file that a study names to workers that never saw it."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from builders import seeded
from processes import TINY

from ns_bench.data.split import load
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe, own_code
from ns_bench.robustness import groups
from ns_bench.robustness.measure import measure
from ns_bench.selftrain.loss import criterion_of
from ns_bench.selftrain.methods import method_of
from ns_bench.selftrain.scale.row_random import draws_of

pytestmark = pytest.mark.slow

CODE = '''
import torch
from torch import nn

from ns_bench.selftrain.methods import Consistency


def net(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )


class Gap(Consistency):
    """Absolute difference of the probabilities."""

    def unlabeled_loss(self, logits, labeler):
        return (logits.softmax(1) - labeler.softmax(1)).abs().sum(1)


def focal(logits, targets):
    """Focal loss (Lin et al. 2017, arXiv 1708.02002, equation 5, gamma 2)."""
    log = logits.log_softmax(-1)
    return -(targets * (1 - log.exp()) ** 2 * log).sum(-1)


def inverted(images, draws):
    return torch.where(draws.uniform()[:, None, None, None] < 0.5, 255 - images, images)


def spread(logits, labels):
    return logits.std() + len(labels) / 0.5


def nothing(logits, labels):
    return float("nan")
'''

STUDY = """
from ns_bench.design.definition import Arm, Design, Study, difference


def design(profile):
    mine = {"model": "mine.py:net", "train__epochs": 2}
    teacher = profile.supervised("small", **mine, train__criterion="mine.py:focal")
    noised = profile.student(
        "small", teacher, **mine, noise__unlabeled__custom="mine.py:inverted", pseudo__threshold=0.0
    )
    alone = profile.supervised("small", consistency__method="mine.py:Gap", train__epochs=2)
    claim = difference(
        "It helps.", "student", minus="method", smallest_effect=1.0, metric="mine.py:spread"
    )
    return Design([Arm("student", noised), Arm("method", alone)], "method", [claim])


metrics = ("mine.py:spread",)
STUDY = Study("own", "Does code of my own work?", "code", design, "nowhere", metrics=metrics)
"""


def study(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ns_bench.study", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a study and the code it names, which is no working folder."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "mine.py").write_text(CODE)
    (place / "own.py").write_text(STUDY)
    return place


def test_a_study_of_ones_own_code(folder: Path, tmp_path: Path) -> None:
    """Workers find it though the file is gone by then; edited, it is another run."""
    words = [folder / "own.py", "--profile", "smoke", "--seeds", 1, "--runs", "runs"]
    first = study(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    runs = {path.parent.name for path in (tmp_path / "runs").glob("*/result.json")}
    assert len(runs) == 3 and len([run for run in runs if "mine.net" in run]) == 2
    copies = list((tmp_path / "runs" / "code").glob("*.py"))
    assert [copy.read_text() for copy in copies] == [CODE]
    page = (tmp_path / "runs/reports/own-smoke/report.md").read_text()
    assert re.search(r"\| arm \| n \| mine.spread \|\n.*\n\| student \| 1/1 \| 100\d\.\d\d ", page)
    table = pd.read_csv(tmp_path / "runs/reports/own-smoke/runs.csv").set_index("arm")
    (column,) = (name for name in map(str, table) if name.startswith("test_mine.spread@"))
    effect = table[column]["student"] - table[column]["method"]
    assert f"| It helps. | **no verdict** | {effect:+.2f} " in page
    again = study(*words, "--dry-run", cwd=tmp_path)
    assert ": 3 done" in again.stdout
    (folder / "mine.py").write_text(CODE.replace("gamma 2", "gamma two"))
    edited = study(*words, "--dry-run", cwd=tmp_path)
    assert ": 3 missing" in edited.stdout
    (folder / "mine.py").unlink()
    gone = study(*words, "--dry-run", cwd=tmp_path)
    assert gone.returncode == 2 and "there is no file mine.py" in gone.stderr


@pytest.mark.parametrize(
    ("content", "value", "message"),
    [
        (CODE, "Gab", "unknown name in {path}: 'Gab': did you mean 'Gap'?"),
        ("def net(:", "net", "not Python: invalid syntax"),
        ("x = 1\0", "x", "not Python"),
    ],
)
def test_what_is_not_there_is_refused_in_a_line(
    tmp_path: Path, content: str, value: str, message: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        Recipe.of({"consistency.method": f"{path}:{value}"})
    assert message.format(path=path) in str(error.value) and "\n" not in str(error.value)


def test_names_that_are_not_known_are_refused_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"one of none, pi-model, .*, or PATH/mine.py:NAME"):
        Recipe.of({"consistency.method": "fixmath"})
    with pytest.raises(UserError, match=r"expected one of cross-entropy, or PATH/mine.py:NAME"):
        Recipe.of({"train.criterion": "focal"})
    with pytest.raises(UserError, match=r"expected code of your own, PATH/mine.py:NAME"):
        Recipe.of({"noise.labeled.custom": "inverted"})


def test_the_id_is_that_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    ids = set()
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mine.py").write_text(CODE)
        recipe = Recipe.of({"train.criterion": f"{tmp_path / place}/mine.py:focal"})
        assert Recipe.from_dict(recipe.to_dict()).id == recipe.id == recipe.at_seed(0).id
        ids.add(recipe.id)
    assert len(ids) == 1


def test_a_damaged_copy_is_not_run(tmp_path: Path) -> None:
    own_code.look_in(tmp_path)
    (tmp_path / "0123456789ab.py").write_text("raise SystemExit")
    with pytest.raises(UserError, match="missing in the store, or damaged"):
        own_code.load("mine.net@0123456789ab")


def test_a_reference_to_code_that_was_never_given_is_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    invented = "train.criterion=mine.focal@0123456789ab"
    ended = study("teacher_size", *TINY, "--set", invented, cwd=tmp_path)
    assert ended.returncode == 2 and not [*tmp_path.glob("runs/*/recipe.json")]
    said = "mine.focal@0123456789ab: the store has no code/0123456789ab.py; name mine.py:focal"
    assert said in ended.stderr


def test_a_method_that_is_no_method_is_refused_in_a_line(folder: Path) -> None:
    recipe = Recipe.of({"consistency.method": f"{folder}/mine.py:focal"})
    with pytest.raises(UserError, match=r"focal@\w+: expected a subclass of Method or Consist"):
        method_of(recipe)


def test_a_metric_that_is_no_number_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.zeros(500, 10)
    monkeypatch.setattr("ns_bench.robustness.measure.predict", lambda net, images: logits)
    (nothing,) = groups([f"{folder}/mine.py:nothing"])
    with pytest.raises(UserError, match=r"mine.nothing@\w+: nan: expected a finite number"):
        measure(nothing, torch.nn.Identity(), load(Recipe().data, 0), 0, lambda: None)


def test_students_of_a_network_that_cannot_be_measured_are_trained(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "pair.py").write_text(
        "from ns_bench.design.definition import Arm, Design, Study\n"
        "def design(profile):\n"
        "    teacher = profile.supervised('small')\n"
        "    arms = [Arm('a', teacher), Arm('b', profile.student('small', teacher))]\n"
        "    return Design(arms, 'a', [])\n"
        "STUDY = Study('pair', 'Is it measured?', 'teacher', design, 'nowhere')\n"
    )
    words = [folder / "pair.py", *TINY, "--metrics", f"{folder}/mine.py:nothing"]
    ended = study(*words, cwd=tmp_path)
    assert ended.returncode == 1 and "nan: expected a finite number" in ended.stdout
    trained = {path.parent.name for path in (tmp_path / "runs").glob("*/result.json")}
    failed = {path.parent.name for path in (tmp_path / "runs").glob("*/failure.json")}
    assert failed == trained and len(trained) == 2


def test_the_code_in_the_docs_is_code(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/own-code.md").read_text()
    code = page.split("```python")[1].split("```")[0]
    (tmp_path / "mine.py").write_text(code)
    net, focal, inverted, gap, worst_class = (
        own_code.load(own_code.reference(f"{tmp_path}/mine.py:{name}"))
        for name in ("net", "focal", "inverted", "Gap", "worst_class")
    )
    images = torch.randint(0, 256, (3, 1, 8, 8)).byte()
    logits = net(1, 10)(inverted(images, draws_of(seeded(), images)).float())
    assert focal(logits, logits.softmax(1)).shape == (3,)
    assert worst_class(torch.eye(3), torch.tensor([0, 1, 1])) == 50
    recipe = Recipe.of({"consistency.method": f"{tmp_path}/mine.py:Gap"})
    assert gap(recipe).unlabeled_loss(logits, logits).abs().max() == 0


def test_a_loss_that_is_no_loss_of_rows_is_refused(tmp_path: Path) -> None:
    """A mean would be taken for the loss of every row, whatever these weigh."""
    (tmp_path / "mine.py").write_text(
        "from torch.nn import functional as F\n"
        "def mean(logits, targets): return F.cross_entropy(logits, targets)\n"
        "def rows(logits, targets): return F.cross_entropy(logits, targets, reduction='none')\n"
    )
    logits, targets = torch.randn(3, 4, generator=seeded()), torch.eye(4)[:3]
    of_rows = criterion_of(own_code.reference(f"{tmp_path}/mine.py:rows"))
    assert of_rows(logits, targets).shape == (3,)
    with pytest.raises(
        UserError, match=r"returns a tensor of \[\], expected \[3\]: a loss for each"
    ):
        criterion_of(own_code.reference(f"{tmp_path}/mine.py:mean"))(logits, targets)


def test_a_reference_is_written_as_a_command_takes_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def net(): ...\n")
    assert own_code.written(own_code.reference(f"{tmp_path}/mine.py:net")) == "mine.py:net"
    assert own_code.written("micro-b0") == "micro-b0"


def test_code_that_fails_says_so_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_package\ndef net(): ...\n")
    with pytest.raises(UserError, match=r"mine.py: ModuleNotFoundError: No module"):
        own_code.load(own_code.reference(f"{tmp_path}/mine.py:net"))
