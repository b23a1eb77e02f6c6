"""Data of one's own: a folder, the profile that describes it, and the command."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import processes
import pytest
from builders import in_memory
from photos import (
    POOL,
    alone,  # noqa: F401 (each test has a cache of its own, and no network)
    photos,
    spec,
    tree,
)
from PIL import Image
from processes import here

from ns_bench import search, study
from ns_bench.data import split
from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe

pytestmark = pytest.mark.slow

MINE = """
extends = "smoke"
title = "three colours"

[data]
path = "photos"

[recipe.data]
name = "photos"
pixels = 8
labeled = 12
validation = 9
test = 24

[recipe.data.files]
classes = 3
labeled = { split = "train", images = 60 }
test = { split = "test", images = 24 }
unlabeled = { split = "extra", images = 31 }

[recipe.train]
epochs = 2
batch_size = 6

[recipe.pseudo]
threshold = 0.0
"""
STUDY = """
from ns_bench.design.definition import Arm, Design, Study

def design(profile):
    teacher = profile.supervised("small")
    arms = [Arm("supervised", teacher), Arm("student", profile.student("small", teacher))]
    return Design(arms, "supervised", [])

STUDY = Study("colours", "Which colour is it?", "teacher", design, "nowhere")
"""


def test_a_profile_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(MINE)
    profile = load_profile(str(file))
    assert (profile.name, profile.file, profile.title) == ("mine", str(file), "three colours")
    assert profile.paths == {"photos": str(tmp_path / "photos")}
    assert profile.pool == 31 and profile.ladder == load_profile("smoke").ladder
    recipe = profile.supervised("small")
    assert recipe.data == spec(**{**POOL, "files__unlabeled__images": 31})
    assert Recipe.from_dict(recipe.to_dict()).id == recipe.id
    for name in ("teacher_size", "noise", "balancing"):
        assert load_study(name).design(profile).arms


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title", "titel", "profile mine.toml: unknown field 'titel': did you mean 'title'?"),
        ('"smoke"', '"smok"', "unknown profile 'smok': did you mean 'smoke'?"),
        ('"smoke"', '"mine.toml"', "profile mine.toml: it extends itself"),
        ('"smoke"', "3", "profile mine.toml: extends=3: expected text"),
        ('path = "photos"', "path = 3", "profile mine.toml: data.path=3: expected text"),
        (
            'path = "photos"',
            'pth = "photos"',
            "profile mine.toml: unknown field 'data.pth': did you mean 'data.path'?",
        ),
        ("classes = 3", "clases = 3", "did you mean 'data.files.classes'?"),
        ("images = 60", 'images = "many"', "data.files.labeled.images=many: expected a whole"),
        ('extends = "smoke"', "", "profile mine.toml: there is no seeds; a line like extends"),
        ("[data]", "[data", "profile mine.toml is not TOML"),
    ],
)
def test_profiles_that_are_refused(old, new, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(MINE.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load_profile("mine.toml")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_profile_files_that_are_not_there_or_have_a_taken_name(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml cannot be read: No such file"):
        load_profile(str(tmp_path / "none.toml"))
    with pytest.raises(UserError, match="'digits' is a profile already"):
        load_profile("digits.toml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--profile", "cifar10", "--data", "cifr10=."], "did you mean 'cifar10'?"),
        (["--profile", "cifar10", "--data", "cifar10"], "expected NAME=PATH, for example cifar10="),
        (["--profile", "cifar10", "--data", "cifar10=none"], "there is no such folder"),
        (["--data", "digits=."], "'digits' of profile 'digits' has no files"),
        (["--data", "svhn=."], "'digits' of profile 'digits' has no files"),
        (["--profile", "cifar10"], "--data cifar10=cifar10"),
    ],
)
@pytest.mark.parametrize("command", [study.main, search.main])
def test_bad_input_is_one_line_and_exit_code_2(command, words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(["teacher_size", *words]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and not shown.out
    assert not list(tmp_path.glob("runs/*-*"))


def test_looking_needs_no_data_and_not_its_library(tmp_path):
    words = ["teacher_size", "--profile", "svhn", "--dry-run"]
    code = (
        "import sys\nfrom ns_bench.study import main\n"
        f"assert main({words!r}) == 0 and main(['--list']) == 0\n"
        "heavy = {'torch', 'datasets', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_images_end_to_end(tmp_path):
    """As the docs tell it: a folder, a file that describes it, and the command."""
    found = photos({"train": 60, "test": 24, "extra": 30})
    place = tree(tmp_path / "photos", found, bare=("extra",))
    copy = place / "test" / "blue" / "000.png"
    (place / "extra" / "copy.png").write_bytes(copy.read_bytes())
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "colours.py").write_text(STUDY)
    words = [*("colours.py", "--profile", "mine.toml", "--seeds", "1", "--workers", "2")]
    done = here(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(p.read_bytes()) for p in (tmp_path / "runs").glob("*/result.json")]
    assert sorted(result["recipe"]["data"]["name"] for result in results) == ["photos"] * 2
    for result in results:
        assert result["data"]["duplicates_left_out"] == 1 and result["data"]["unreadable"] == 0
        assert len(result["data"]["fingerprint"]) == 16
        assert str(tmp_path) not in json.dumps(result["recipe"])
    page = (tmp_path / "runs/reports/colours-mine/report.md").read_text()
    assert "also test or validation images (equal pixels): 1 a seed" in page
    assert "--profile mine.toml" in page
    before = {p: p.read_bytes() for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    place.rename(tmp_path / "elsewhere")  # what is done needs no data
    again = processes.study(*words, cwd=tmp_path)  # in a process that has not seen them
    assert again.returncode == 0, again.stdout + again.stderr
    assert {p: p.read_bytes() for p in (tmp_path / "runs").rglob("*") if p.is_file()} == before


TEN = """
extends = "smoke"
title = "digits in a folder"

[recipe.data]
name = "numbers"
pixels = 8
labeled = 50
validation = 50
test = 200

[recipe.data.files]
classes = 10
channels = 1
labeled = { split = "train", images = 600 }
test = { split = "test", images = 200 }
unlabeled = { split = "extra", images = 500 }
"""


def test_ten_classes_that_are_somewhere_else(tmp_path):
    """Real digits as images in folders, found through --profile and --data, and learnt."""
    digits = split.LOADERS["digits"]()
    start = 0
    for part, count in {"train": 600, "test": 200, "extra": 500}.items():
        for number in range(start, start + count):
            folder = "" if part == "extra" else str(int(digits.labels[number]))
            place = tmp_path / "elsewhere" / part / folder / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(in_memory(digits.images)[number, 0].numpy()).save(place)
        start += count
    (tmp_path / "ten.toml").write_text(TEN)
    (tmp_path / "which.py").write_text(STUDY)
    words = ["which.py", "--profile", "ten.toml", "--seeds", "1", "--data", "numbers=elsewhere"]
    done = here(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(p.read_bytes()) for p in (tmp_path / "runs").glob("*/result.json")]
    assert len(results) == 2 and all(result["test"]["top1"] > 30 for result in results)
    assert {result["pseudo"]["rows"] for result in results if result["pseudo"]} != {0}


def test_the_docs_have_the_profile_of_these_tests():
    """What they show is what the test above runs, but for names and numbers."""
    text = (Path(__file__).parents[2] / "docs/how-to/own-images.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    shown = tomllib.loads(next(block for block in blocks if "[recipe.data.files]" in block))
    mine = tomllib.loads(MINE)
    assert shown.keys() <= mine.keys()
    assert shown["recipe"]["data"].keys() == mine["recipe"]["data"].keys()
    assert shown["recipe"]["data"]["files"].keys() == mine["recipe"]["data"]["files"].keys()
