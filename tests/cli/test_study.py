"""End to end, through the command a user types: real images, real training, real files."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from processes import TINY, contents, here, study

from ns_bench.execute.provenance import NUMERICS
from ns_bench.files import sealed_json, unsealed_json
from ns_bench.runs.outcomes import read
from ns_bench.study import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which `teacher_size` has been run once, tiny, through the command."""
    folder = tmp_path_factory.mktemp("finished")
    done = here("teacher_size", *TINY, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report: runs/reports/teacher_size-smoke/report.md" in done.stdout
    return folder


@pytest.fixture
def store(finished, tmp_path) -> Path:
    """A copy of it that a test may damage."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def test_the_main_job_trains_and_reports(finished):
    results = sorted((finished / "runs").glob("*/result.json"))
    assert len(results) == 6  # three teachers, three students; the baseline is a teacher too
    report = finished / "runs/reports/teacher_size-smoke"
    assert {p.name for p in report.iterdir()} == {
        "report.html",
        "report.md",
        "tables.tex",
        "runs.csv",
        "curves.csv",
        "protocol.json",
        *(
            f"teacher_size{part}.{s}"
            for part in ("", "_calibration", "_curves")
            for s in ("pdf", "png", "svg")
        ),
    }
    page = (report / "report.md").read_text()
    assert "Smoke run" in page and "no verdict" in page
    assert "reproduced" not in page and "contradicted" not in page
    for path in results:
        assert path.parent.name in page or "sup" in path.parent.name
        values = json.loads(path.read_text())
        assert values["steps"] == 4 and 0 <= values["test"]["top1"] <= 100
        assert values["provenance"]["packages"]["torch"]
        assert values["provenance"]["numerics"] == NUMERICS


def test_a_second_call_trains_nothing_and_writes_the_same_bytes(finished):
    """Nor does another process, in which names are hashed otherwise."""
    before = contents(finished)
    again = study("teacher_size", *TINY, cwd=finished)
    assert again.returncode == 0 and "planned" not in again.stdout
    assert contents(finished) == before


@pytest.mark.parametrize("words", [["--list"], ["teacher_size", "--dry-run"], ["--help"]])
def test_looking_imports_neither_torch_nor_pandas(words, tmp_path):
    code = (
        "import sys\nfrom ns_bench.study import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'torchvision', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert not list(tmp_path.iterdir()), "looking must not write"


def test_outcomes_by_image_are_those_of_the_result(finished):
    found: dict[str, list[bytes]] = {}
    for path in (finished / "runs").glob("*/result.json"):
        result, kept = json.loads(path.read_bytes()), read(path.parent / "outcomes.safetensors")
        assert 100 * kept.right.mean() == pytest.approx(result["test"]["top1"])
        assert (kept.right == (kept.labels == kept.predicted)).all()
        assert kept.tested.sum() == 500 and len(kept.tested) == 1797
        found.setdefault(kept.digest, []).append(kept.tested.tobytes())
    assert len(found) == 1 and len(set(*found.values())) == 1  # one set, and one seed's images
    page = (finished / "runs/reports/teacher_size-smoke/report.md").read_text()
    assert "re-splits of the same 1,797 images" in page and "confusions" in page


def test_results_of_other_code_are_not_taken_in_silence(store):
    quiet = here("teacher_size", "--dry-run", *TINY, cwd=store)
    assert "6 done" in quiet.stdout and "finished runs" not in quiet.stdout
    path = next((store / "runs").glob("*/result.json"))
    result = unsealed_json(json.loads(path.read_bytes()))
    result["provenance"] |= {"models": "0" * 12, "numerics": 0}
    result["provenance"]["packages"]["timm"] = "0.0.1"
    path.write_text(json.dumps(sealed_json(result)))
    for words in ([], ["--dry-run"]):
        told = here("teacher_size", *words, *TINY, cwd=store)
        assert told.returncode == 0 and told.stdout.startswith(  # above the table
            "ns_bench: of 6 finished runs some are of timm 0.0.1 (here"
        )
        assert (
            f"numerics 0 (here {NUMERICS})" in told.stdout and "selftrain/models.py" in told.stdout
        )


def test_a_claim_about_what_is_not_measured_is_refused(tmp_path):
    claim = "difference('Better.', 'a', 'b', 1.0, metric='top2')"
    arms = "[Arm('a', p.supervised('small')), Arm('b', p.supervised('large'))]"
    (tmp_path / "mine.py").write_text(
        "from ns_bench.design.definition import Arm, Design, Study, difference\n"
        f"def design(p):\n    return Design({arms}, 'a', [{claim}])\n"
        "STUDY = Study('mine', 'Is it?', 'size', design, 'none')\n"
    )
    refused = here("mine.py", cwd=tmp_path)
    assert refused.returncode == 2 and not (tmp_path / "runs").exists()
    expected = "metric=top2: expected one of top1, top5, loss, ece, corruption_..."
    assert expected in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_dry_run_names_runs_teachers_and_cost(store):
    shown = here("teacher_size", "--dry-run", *TINY, "--seeds", "2", cwd=store)
    assert shown.returncode == 0
    assert shown.stdout.count("\ndone ") + shown.stdout.startswith("done ") == 6
    assert "12 trainings planned, 14 without sharing, ratio 0.86" in shown.stdout
    assert "6 done, 6 missing" in shown.stdout
    assert "gen1-of-micro-b4-s1" in shown.stdout and "<- digits-micro-b4-sup-s1" in shown.stdout
    assert "to do: 6 runs" in shown.stdout
    assert "decidable" not in shown.stdout  # of a trial run, which has none anyway


@pytest.mark.parametrize(("seeds", "warned"), [(3, True), (7, True), (8, False)])
def test_dry_run_says_that_so_few_seeds_decide_nothing(seeds, warned, tmp_path, capsys):
    words = ["teacher_size", "--profile", "imagenet", "--dry-run", "--runs", str(tmp_path / "r")]
    assert main([*words, "--seeds", str(seeds)]) == 0
    word = f"needs 8 seeds, has {seeds}" if warned else "decidable at 8 seeds"
    claims = capsys.readouterr().out.splitlines()[-4:]
    assert [line.partition("  ")[0] for line in claims] == [word] * 4
    assert claims[0].endswith("  A larger teacher gives a better student.")


def test_dry_run_says_why_a_claim_is_not_testable(tmp_path, capsys):
    words = ["soft_vs_hard", "--dry-run", "--runs", str(tmp_path / "r")]
    assert main(words) == 0
    *_, claim = capsys.readouterr().out.splitlines()
    assert claim.startswith("not testable  ") and claim.endswith("of)")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["teacher_siz"], "did you mean 'teacher_size'?"),
        (["teacher_size", "--profile", "digit"], "did you mean 'digits'?"),
        (["teacher_size", "--cluster", "slurmm"], "did you mean 'slurm'?"),
        (["teacher_size", "--set", "train.epoch=3"], "did you mean 'train.epochs'?"),
        (["teacher_size", "--set", "train.lr=fast"], "train.lr=fast: expected a number"),
        (["teacher_size", "--set", "train.lr"], "expected FIELD=VALUE"),
        (["teacher_size", "--set", "pseudo.kind=medium"], "expected one of soft, hard"),
        (["teacher_size", "--set", "train.batch_size=60"], "larger than the labeled set"),
        (["teacher_size", "--set", "train.ratio=30"], "larger than the pool (1147)"),
        (["teacher_size", "--set", "data.name=digit"], "did you mean 'digits'?"),
        (["teacher_size", "--set", "data.test=1700"], "leave no unlabeled pool"),
        (["teacher_size", "--set", "data.labeled=55"], "expected a multiple of the 10 classes"),
        (["teacher_size", "--seeds", "0"], "expected a whole number from 1 to 1000000"),
        (["teacher_size", "--force", "digits-micro"], "unknown run"),
        (["teacher_size", "--runs", "/dev/null/x"], "not writable"),
        (["teacher_size", "--read-only", "--runs", "nowhere"], "no such folder"),
        (["teacher_size", "--set", "consistency.weight=2"], "no run of teacher_size uses it"),
        (["teacher_size", "--pilot", "9" * 23], "expected a whole number from 1 to 1000000"),
        (["teacher_size", "--pilot", "1001"], "expected at most 1000"),
        (["teacher_size", "--until-decided", "--max-seeds", "1001"], "expected at most 1000"),
        (["mine.py"], "there is no such file"),
        ([], "which study?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, expected, tmp_path):
    refused = here(*words, cwd=tmp_path)
    assert refused.returncode == 2, refused.stdout
    last = refused.stderr.strip().splitlines()[-1]
    assert expected in last and "Traceback" not in refused.stderr
    assert refused.stdout == "" and not list(tmp_path.iterdir())


def test_truncated_logits_are_noticed_redone_and_said(store):
    teacher = next((store / "runs").glob("digits-micro-b0-sup-*"))
    logits = teacher / "logits.safetensors"
    whole = logits.read_bytes()
    logits.write_bytes(whole[:-100])
    student = next((store / "runs").glob("digits-micro-b0-gen1-of-micro-b0-*/result.json"))
    before = student.read_bytes()
    mended = here("teacher_size", *TINY, cwd=store)
    assert mended.returncode == 0, mended.stderr
    assert f"{teacher.name} is not usable: logits.safetensors has" in mended.stdout
    assert logits.read_bytes() == whole
    assert (teacher / "result.1.json").exists(), "the old result is kept aside"
    assert student.read_bytes() == before, "same logits again: its student stays as it is"


def test_verify_finds_bytes_that_changed_and_does_their_runs_again(store):
    students = sorted((store / "runs").glob("*gen1*"))
    for run, name in zip(
        students, ["model.safetensors", "metrics.jsonl", "result.json"], strict=True
    ):
        content = bytearray((run / name).read_bytes())
        content[content.index(b"0")] ^= 1
        (run / name).write_bytes(content)
    found = here("teacher_size", *TINY, "--read-only", "--verify", cwd=store)
    assert found.returncode == 1
    assert all(f"{run.name} is damaged: " in found.stdout for run in students)
    mended = here("teacher_size", *TINY, "--verify", cwd=store)
    assert mended.returncode == 0 and "3 runs damaged" in mended.stdout
    again = here("teacher_size", *TINY, "--read-only", "--verify", cwd=store)
    assert again.returncode == 0
    assert "verified: 30 files of 6 runs are whole, 0 runs damaged" in again.stdout
    page = next((store / "runs" / "reports").glob("*/report.md"))
    assert "held against its checksum" not in page.read_text(), "one did not"
    assert here("teacher_size", *TINY, "--verify", cwd=store).returncode == 0
    assert "Every file of what was done held against its checksum at 2" in page.read_text()


def test_force_does_one_run_again(store):
    before = {p: p.read_bytes() for p in (store / "runs").glob("*/result.json")}
    run = next(p.parent.name for p in before if "gen1-of-micro-b4" in p.parent.name)
    forced = here("teacher_size", *TINY, "--force", run[-12:], cwd=store)
    assert forced.returncode == 0, forced.stderr
    changed = {p.parent.name for p, old in before.items() if p.read_bytes() != old}
    assert changed == {run}


def test_a_newer_store_is_refused_and_left_alone(store):
    marker = store / "runs/store.json"
    marker.write_text('{"schema": 99}')
    before = contents(store)
    refused = here("teacher_size", *TINY, cwd=store)
    assert refused.returncode == 2 and "schema 99" in refused.stderr
    assert contents(store) == before


def test_read_only_reports_a_partial_store_without_touching_it(store):
    shutil.rmtree(next((store / "runs").glob("digits-micro-b0-gen1-of-micro-b4-*")))
    before = contents(store)
    looked = here("teacher_size", *TINY, "--read-only", cwd=store)
    assert looked.returncode == 0 and "0/1" in looked.stdout and "missing: " in looked.stdout
    assert contents(store) == before


def test_failures_are_loud_and_only_retried_on_demand(tmp_path):
    words = ["teacher_size", *TINY, "--set", "pseudo.threshold=0.999"]
    first = here(*words, cwd=tmp_path)
    assert first.returncode == 1
    assert "failed: digits-micro-b0-gen1" in first.stdout and "0/1" in first.stdout
    failures = sorted((tmp_path / "runs").glob("*/failure.json"))
    assert len(failures) == 3  # the students; the teachers are done
    record = json.loads(failures[0].read_text())
    assert "pseudo.threshold=0.999" in record["error"] and "Traceback" in record["traceback"]
    page = (tmp_path / "runs/reports/teacher_size-smoke/report.md").read_text()
    assert "Incomplete: 3 failed" in page and "0/1" in page

    again = here(*words, "--retry-failed", cwd=tmp_path)
    assert again.returncode == 1
    assert all((p.parent / "failure.1.json").exists() for p in failures), "the old one is kept"

    before = contents(tmp_path)
    unasked = here(*words, cwd=tmp_path)
    assert unasked.returncode == 1 and contents(tmp_path) == before, "not tried again unasked"


def test_a_failed_teacher_blocks_its_students_only(tmp_path):
    diverging = ["--set", "train.optimizer=sgd", "--set", "train.lr=1000"]
    failed = here("teacher_size", *TINY, *diverging, "--set", "train.warmup_epochs=0", cwd=tmp_path)
    assert failed.returncode == 1
    assert "Diverged: not a finite number any more at step" in failed.stdout
    assert "blocked: digits-micro-b0-gen1" in failed.stdout
    assert not list((tmp_path / "runs").glob("*gen1*/failure.json"))


@pytest.mark.parametrize(
    ("name", "words", "runs"),
    [
        ("noise", [], 8),  # with a noised teacher
        ("joint_vs_finetune", [], 5),  # three generations, warm starts, one kind of rows
        (
            "related_methods",
            ["--set", "train.epochs=1"],
            18,
        ),  # with runs that label while they train
        ("balancing", ["--profile", "glyphs", "--set", "data.test=200"], 5),
    ],
)
def test_studies_of_every_kind_run_to_their_report(name, words, runs, tmp_path):
    there = ["--runs", str(tmp_path / "runs")]
    assert main([name, *TINY, "--set", "train.lr=0.01", *words, *there]) == 0
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == runs
    (report,) = (tmp_path / "runs/reports").glob(f"{name}-*")
    tested = pd.read_csv(report / "runs.csv")
    assert set(tested["state"]) == {"done"}
    assert tested["test_top1"].notna().all()
    assert (report / f"{name}.png").stat().st_size > 10_000


def test_all_shares_half_of_its_trainings_or_more(tmp_path):
    done = here("all", "--dry-run", "--list-runs", cwd=tmp_path)
    assert done.returncode == 0
    found = re.search(r"(\d+) trainings planned, (\d+) without sharing, ratio", done.stdout)
    assert found is not None
    planned, unshared = map(int, found.groups())
    listed = [line for line in done.stdout.splitlines() if line.startswith("missing ")]
    assert planned == len(listed)
    assert planned / unshared <= 0.5
    table = here("all", "--dry-run", cwd=tmp_path).stdout.splitlines()
    assert table[0].split()[:3] == ["study", "arms", "decidable"]
    assert [line.split()[0] for line in table[1:3]] == ["architecture", "balancing"]
    assert len(table) < 40
    assert "\n".join(table) in done.stdout, "the runs come before it"


def test_an_own_study_is_one_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ns_bench.design.definition import Arm, Design, Study, difference\n"
        "def design(p):\n"
        "    teacher = p.supervised('small')\n"
        "    soft = Arm('soft', p.student('small', teacher))\n"
        "    hard = Arm('hard', p.student('small', teacher, pseudo__kind='hard'))\n"
        "    claim = difference('Soft beats hard.', 'soft', 'hard', 0.5)\n"
        "    return Design([soft, hard], 'hard', [claim])\n"
        "STUDY = Study('mine', 'Soft or hard?', 'labels', design, 'none')\n"
    )
    done = here("mine.py", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs/reports/mine-smoke/report.md").exists()


def test_an_installed_wheel_works_from_any_folder(finished, tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def python(*words: str) -> str:
        environment = {"PYTHONPATH": str(tmp_path / "site"), "TMPDIR": str(elsewhere)}
        command, known = [sys.executable, *words], {**os.environ, **environment}
        return subprocess.run(
            command, cwd=elsewhere, env=known, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    found = python("-c", "import ns_bench; print(ns_bench.__file__)")
    assert str(tmp_path / "site") in found, "the unpacked wheel is what is tested"
    assert Path(python("-m", "ns_bench", "demo", "--no-browser").splitlines()[0]).is_file()
    listed = study("--list", cwd=elsewhere, python_path=tmp_path / "site")
    assert listed.returncode == 0 and "teacher_size" in listed.stdout
    words = ("--read-only", "--runs", str(finished / "runs"), "--out", "report")
    done = study("teacher_size", *TINY, *words, cwd=elsewhere, python_path=tmp_path / "site")
    assert done.returncode == 0, done.stderr
    page = (elsewhere / "report/teacher_size-smoke/report.md").read_text()
    assert "B0 student of L2" in page, "the paper's rows travel with the wheel"
