"""The damage table: every file of a finished store, damaged in every way, is found and mended.

The store is made once and copied. What is looked at is what the command says and leaves behind.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ns_bench.runs.store import LOGITS, METRICS, MODEL, OUTCOMES, RECIPE
from ns_bench.study import main

pytestmark = pytest.mark.slow

STUDY = """
from ns_bench.design.definition import Arm, Design, Study

def design(profile):
    teacher = profile.supervised("small")
    arms = [Arm("supervised", teacher), Arm("student", profile.student("small", teacher))]
    return Design(arms, "supervised", [])

STUDY = Study("pair", "Is it damaged?", "teacher", design, "nowhere")
"""
WHOLE = "verified: 10 files of 2 runs are whole, 0 runs damaged"


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[random.Random(file.name).randrange(len(content))] ^= 1
    file.write_bytes(content)


def replaced(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"x"),
    "flipped": flipped,
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "a folder": replaced,
}
FILES = ("result.json", RECIPE, METRICS, MODEL, LOGITS, OUTCOMES)
CASES = [(kind, name) for kind in DAMAGE for name in FILES]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a teacher and its student; the study's file is beside it."""
    folder = tmp_path_factory.mktemp("damage")
    (folder / "pair.py").write_text(STUDY)
    assert main(words(folder / "runs", "--verify")) == 0
    return folder / "runs"


def words(store: Path, *more: str) -> list[str]:
    fields = ("train.epochs=2", "pseudo.threshold=0", "train.warmup_epochs=1")
    given = [word for field in fields for word in ("--set", field)]
    study = ["--profile", "smoke", "--seeds", "1", "--workers", "1"]
    return [str(store.parent / "pair.py"), *study, "--runs", str(store), *given, *more]


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copy(finished.parent / "pair.py", tmp_path)
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def runs(store: Path) -> Iterator[Path]:
    yield from sorted(path.parent for path in store.glob("digits-*/recipe.json"))


def weights(store: Path) -> dict[str, bytes]:
    """What a store's runs are, to the last bit."""
    return {f"{run.name}/{name}": (run / name).read_bytes() for run in runs(store)
            for name in (MODEL, LOGITS, OUTCOMES)}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_no_damage_is_green(
    kind: str, name: str, finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 1):  # teacher and student
        whole = list(runs(finished))[number]
        run = copy / whole.name
        DAMAGE[kind](run / name)
        code = main(words(copy, "--read-only", "--verify"))
        said = capsys.readouterr()
        assert WHOLE not in said.out and "Traceback" not in said.out + said.err
        missing = (kind, name) == ("removed", "result.json")  # there is no run, and that is said
        assert code == 0 if missing else (code == 1 and f"{run.name} is damaged: " in said.out)
        shutil.rmtree(run)
        shutil.copytree(whole, run)


@pytest.mark.parametrize(("kind", "name"), random.Random(0).sample(CASES, 4))
@pytest.mark.parametrize("mode", ["--verify", "--retry-failed"])
def test_damage_is_mended(
    mode: str, kind: str, name: str, finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a call that verifies whatever it is; by --retry-failed and then such a call as well."""
    run = copy / list(runs(finished))[1].name
    DAMAGE[kind](run / name)
    if mode != "--verify":
        assert main(words(copy, mode)) == 0
    assert main(words(copy, "--verify")) == 0
    capsys.readouterr()
    assert main(words(copy, "--read-only", "--verify")) == 0
    assert WHOLE in capsys.readouterr().out
    assert weights(copy) == weights(finished), "bit for bit"
