"""The study command on a real SLURM: dependencies, interruptions, refusals, killed submissions.

The numbers of traps are those of SLURM itself, met with a mocked scheduler by nobody:

1  a failed teacher leaves its student pending for ever    test_a_failing_teacher_...
2  a dependency on a purged job counts as satisfied        test_a_student_refuses_...
3  submitit's `teardown` masks exit codes                  not used: see the scripts of --dry-run
4  arrays beyond MaxArraySize are refused                  test_arrays_no_larger_than_...
5  a signal that reaches nobody                            test_interruptions_... (USR2)
6  jobs under 15 minutes are not requeued                  tests/test_packing.py (cluster files)
7  a requeued job waits: many short runs share a job       tests/test_packing.py
8  interruptions at an arbitrary bytecode                  test_interruptions_..., kills below
9  a kill while submitit writes its pickle                 pickles hold a path and a number; a torn
                                                           one: test_a_submission_killed_...
10 submitting from inside a job                            never done: all is submitted at once
11 submitit's local executors                              not used: the local pool is our own
12 two writers check, then submit                          test_two_calls_..., test_a_submission_...
13 NCCL catches USR1                                       submitit's USR2 is what is tested
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from slurm_cluster import (
    cluster,
    local_cluster,
    missing,
    slurm_fixture,  # noqa: F401 (gives the fixture `slurm`)
)
from slurm_studies import (
    ALONE,
    ONE_RUN,
    ROOT,
    SPLIT,
    TINY,
    TOGETHER,
    TWO_STUDENTS,
    Env,
    apart,
    arrays,
    ask,
    closed,
    cluster_file,
    command,
    idle,
    queue,
    recipes,
    records,
    study,
    trained_here,
    until,
    written,
)

from ns_bench.cli.slurm import settle, standing
from ns_bench.errors import UserError
from ns_bench.execute.slurm.queue import endings, job_states
from ns_bench.execute.slurm.scheduler import Scheduler
from ns_bench.execute.slurm.snapshot import snapshot
from ns_bench.files import publish_json
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Store
from ns_bench.study import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=missing() or "installed"),
]


# ------------------------------------------------------------------- a whole study, with a failure


@dataclass
class Story:
    """What was seen of a study: one teacher fails, the cause is removed, and it is finished."""

    folder: Path
    broken: str  # the teacher's id
    first: subprocess.CompletedProcess[str]
    status: str  # while it ran
    early_report: str  # the collector's
    second: subprocess.CompletedProcess[str]
    logs: str
    early: dict[str, bytes]  # results
    retry: subprocess.CompletedProcess[str]
    late_report: str  # the collector's
    last: subprocess.CompletedProcess[str]
    before: dict[str, bytes]  # all results before the last call


@contextmanager
def stopped(folder: Path, but: str) -> Iterator[None]:
    """Hold one run that has begun, not that of the id `but`: else it is over before it is seen."""
    held: list[int] = []

    def hold() -> bool:
        others = {run: at for run, at in written(folder, "lease.json").items() if run != but}
        for run, lease in others.items():
            process = json.loads(lease)["pid"]
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
                if (folder / "runs" / run / "lease.json").exists():
                    held.append(process)
                    return True
                os.kill(process, signal.SIGCONT)
        return False

    until(hold)
    try:
        yield
    finally:
        os.kill(held[0], signal.SIGCONT)


@pytest.fixture(scope="module")
def story(slurm: Env, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("with a space")
    words = ["teacher_size", *TINY, *cluster_file(folder, SPLIT)]
    broken = next(r for r in recipes("teacher_size", 4) if r.teacher and "b2" in r.teacher.model)
    assert broken.teacher is not None
    teacher = broken.teacher.id
    obstacle = folder / "runs" / teacher / "checkpoint"
    obstacle.mkdir(parents=True)  # this run fails when it looks for its checkpoint
    report = folder / "runs/reports/teacher_size-smoke/report.md"

    first = study(slurm, *words, cwd=folder)
    with stopped(folder, but=teacher):
        status = study(slurm, *words, "--status", cwd=folder).stdout
    until(idle(slurm))
    early_report = report.read_text()
    second = study(slurm, *words, cwd=folder)
    logs = study(slurm, *words, "--logs", teacher[-12:], cwd=folder).stdout
    early = written(folder, "result.json")

    obstacle.rmdir()
    retry = study(slurm, *words, "--retry-failed", cwd=folder)
    until(idle(slurm))
    late_report = report.read_text()
    before = written(folder, "result.json")
    last = study(slurm, *words, cwd=folder)
    return Story(
        folder, teacher, first, status, early_report, second, logs, early, retry, late_report,
        last, before,
    )  # fmt: skip


def test_one_call_submits_all_and_leaves(story):
    assert story.first.returncode == 0, story.first.stderr
    assert "submitted 6 runs in 2 sbatch calls (and one for the report)" in story.first.stdout
    teachers, students = records(story.folder)[:2]
    assert [len(ids) for ids in teachers["runs"]] == [1, 1, 1] == list(map(len, students["runs"]))
    for above, below in zip(teachers["packs"], students["packs"], strict=True):
        assert Recipe.from_dict(below[0]).teacher == Recipe.from_dict(above[0])


def test_status_lists_run_state_job_and_node(story):
    rows = [line for line in story.status.splitlines() if "digits-" in line]
    assert len(rows) == 6
    running = [row for row in rows if " running " in row]
    assert running and f" {records(story.folder)[0]['job']}_" in running[0]
    assert os.uname().nodename in running[0]
    waiting = [row for row in rows if "-gen1-" in row and " queued " in row]
    assert waiting and "Dependency" in waiting[0]


def test_a_failing_teacher_stops_its_own_student_only(story):
    assert len(story.early) == 4
    assert story.second.returncode == 1 and "submitted" not in story.second.stdout
    assert f"failed: {story.broken}" in story.second.stdout
    (student,) = [line for line in story.second.stdout.splitlines() if "blocked:" in line]
    assert "of-micro-b2" in student
    assert "IsADirectoryError" in story.logs and "Traceback" in story.logs
    assert story.logs.count("Loading pickle") == 1, "what fails by itself is not done again"
    assert not written(story.folder, "failure.json"), "after --retry-failed all is well"
    assert list(written(story.folder, "failure.1.json")) == [story.broken]


def test_the_collector_writes_the_report_whatever_happened(story):
    (line,) = [line for line in story.early_report.splitlines() if "Incomplete" in line]
    assert "1 blocked" in line and "1 failed" in line
    assert "Incomplete" not in story.late_report


def test_retry_does_the_rest_and_nothing_twice(story):
    assert "submitted 2 runs" in story.retry.stdout, story.retry.stdout + story.retry.stderr
    assert story.last.returncode == 0, story.last.stdout
    assert len(story.before) == 6
    assert story.before == story.before | story.early, "what was done stays as it was"
    submitted = [run for record in records(story.folder) for pack in record["runs"] for run in pack]
    assert len(submitted) == 8 and len(set(submitted)) == 6


def test_a_further_call_trains_nothing_and_shows_the_same_report(story):
    assert "submitted" not in story.last.stdout and "report: " in story.last.stdout
    assert written(story.folder, "result.json") == story.before
    page = story.folder / "runs/reports/teacher_size-smoke/report.md"
    assert page.read_text() == story.late_report


def test_results_are_those_of_a_local_run(story, tmp_path):
    recipe = next(r for r in recipes("teacher_size", 4) if r.teacher and "b0" in r.teacher.model)
    result = json.loads(story.before[recipe.id])
    assert trained_here(result, tmp_path) == written(story.folder, "model.safetensors")[recipe.id]
    assert result["provenance"]["slurm"]["SLURM_JOB_ID"]


def test_waiting_jobs_run_the_code_that_was_submitted(slurm, tmp_path):
    """The package's, and the network of one's own that the recipe names."""
    copy = tmp_path / "checkout"
    for room in ("ns_bench", "studies", "reports", "slurm"):
        ignore = shutil.ignore_patterns("__pycache__", "*.png", "*.svg")
        shutil.copytree(ROOT / room, copy / room, ignore=ignore)
    (copy / "one.py").write_text(ONE_RUN.replace("'small'", "'small', model='mine.py:net'"))
    network = "from torch import nn\n\ndef net(channels, classes):\n    return nn.Sequential("
    (copy / "mine.py").write_text(network + "nn.Flatten(), nn.Linear(64 * channels, classes))\n")
    env = {**slurm, "PYTHONPATH": str(copy)}
    words = ["one.py", *ALONE, *cluster_file(copy)]
    ask(slurm, "scontrol", "update", "PartitionName=debug", "State=DOWN")
    try:
        # from inside the checkout: `python -m` finds its working folder before PYTHONPATH
        assert apart(env, *words, cwd=copy).returncode == 0
        train = copy / "ns_bench/selftrain/train.py"
        code = train.read_text()
        train.write_text("raise RuntimeError('half edited')\n")
        mine = (copy / "mine.py").rename(copy / "moved.py")
        one = (copy / "one.py").rename(copy / "other.py")
    finally:
        ask(slurm, "scontrol", "update", "PartitionName=debug", "State=UP")
    until(idle(slurm))
    (result,) = written(copy, "result.json").values()
    assert json.loads(result)["recipe"]["model"].startswith("mine.net@")
    assert list(copy.glob("runs/reports/*/report.md")), "by the study as it was submitted"
    train.write_text(code)
    mine.rename(copy / "mine.py"), one.rename(copy / "one.py")
    assert apart(env, *words, cwd=copy).returncode == 0
    assert json.loads(result)["provenance"]["packages"]["ns_bench"]


# ---------------------------------------------------------------- submissions; nothing ever starts


def test_two_calls_at_once_submit_each_run_once(slurm, tmp_path):
    words = ["teacher_size", *TINY, *cluster_file(tmp_path, SPLIT)]
    with closed(slurm):
        both = [command(slurm, *words, cwd=tmp_path) for _ in range(2)]
        out = [process.communicate(timeout=120) for process in both]
        assert [process.returncode for process in both] == [0, 0], out
        assert sorted("submitted 6 runs" in stdout for stdout, _ in out) == [False, True]
        assert len(arrays(slurm)) == 6
        assert len(records(tmp_path)) == 2


def test_a_submission_killed_before_it_was_recorded_is_adopted(slurm, tmp_path):
    """Killed after sbatch: the job id is not recorded, and no pickle says what the job does."""
    words = ["teacher_size", *TINY, *cluster_file(tmp_path, SPLIT)]
    with closed(slurm):
        assert study(slurm, *words, cwd=tmp_path).returncode == 0
        before = records(tmp_path)
        queued = arrays(slurm)
        for record in before:
            path = tmp_path / "runs/slurm/arrays" / f"{record['name']}.json"
            path.write_text(json.dumps({k: v for k, v in record.items() if k != "job"}))
        pickles = sorted((tmp_path / "runs/slurm/logs").glob("*_[0-9]_submitted.pkl"))
        assert len(pickles) == 6
        content = pickles[0].read_bytes()
        pickles[0].unlink()

        other = cluster_file(tmp_path, TOGETHER)  # the same runs in another packing
        again = study(slurm, "teacher_size", *TINY, *other, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert "submitted" not in again.stdout and "6 queued" in again.stdout
        assert arrays(slurm) == queued
        assert records(tmp_path) == before
        assert pickles[0].read_bytes() == content


def test_a_submission_killed_before_sbatch_is_made_again(slurm, tmp_path):
    words = ["teacher_size", *TINY, *cluster_file(tmp_path)]
    with closed(slurm):
        assert study(slurm, *words, cwd=tmp_path).returncode == 0
        (record,) = records(tmp_path)
        ask(slurm, "scancel", record["job"])
        until(lambda: not arrays(slurm))
        path = tmp_path / "runs/slurm/arrays" / f"{record.pop('name')}.json"
        torn = {**record, "name": path.stem}
        del torn["job"]
        path.write_text(json.dumps(torn))
        again = study(slurm, *words, cwd=tmp_path)
        assert "submitted 6 runs" in again.stdout, again.stdout + again.stderr
        assert len(arrays(slurm)) == 1


def test_what_was_cancelled_is_not_green(slurm, tmp_path):
    words = ["teacher_size", *TINY, *cluster_file(tmp_path, SPLIT)]
    with closed(slurm):
        assert study(slurm, *words, cwd=tmp_path).returncode == 0
        looked = study(slurm, *words, "--status", cwd=tmp_path)
        assert looked.returncode == 0 and "6 queued" in looked.stdout
        assert all(f" {record['job']}_2 " in looked.stdout for record in records(tmp_path))
        cancelled = study(slurm, *words, "--cancel", cwd=tmp_path)
        assert cancelled.returncode == 0 and "cancelled 6 jobs" in cancelled.stdout
        until(lambda: not arrays(slurm))
        assert "cancelled 0 jobs" in study(slurm, *words, "--cancel", cwd=tmp_path).stdout
        looked = study(slurm, *words, "--status", cwd=tmp_path)
        assert "6 missing" in looked.stdout
        shown = study(slurm, *words, cwd=tmp_path)  # taken back is not failed
        assert shown.returncode == 0 and "submitted 6 runs" in shown.stdout
        ask(slurm, "scancel", *(record["job"] for record in records(tmp_path)))
        until(lambda: not arrays(slurm))
        shown = study(slurm, *words, cwd=tmp_path)  # by whom and why is not known here
        assert shown.returncode == 1 and shown.stdout.count("failed: ") == 3
        looked = study(slurm, *words, "--status", cwd=tmp_path)
        assert "3 blocked, 3 failed" in looked.stdout and looked.stdout.count(": CANCELLED") == 3


def test_dry_run_prints_the_scripts_and_submits_nothing(slurm, tmp_path):
    words = ["teacher_size", *TINY, *cluster_file(tmp_path, SPLIT, setup=["module load x"])]
    shown = study(slurm, *words, "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0
    assert shown.stdout.count("#!/bin/bash") == 2 and "2 sbatch calls" in shown.stdout
    assert "#SBATCH --array=0-2%3" in shown.stdout and "--dependency='aftercorr:<" in shown.stdout
    assert "--kill-on-invalid-dep=yes" in shown.stdout and "--signal=USR2@60" in shown.stdout
    assert "\nmodule load x\n" in shown.stdout and "\nsrun " in shown.stdout
    assert not (tmp_path / "runs").exists() and not queue(slurm)


def fake(folder: Path, script: str) -> str:
    """A PATH in which `sbatch` is this shell script; $real is the real one, $calls a counter."""
    (folder / "bin").mkdir()
    sbatch = folder / "bin/sbatch"
    count = folder / "calls"
    sbatch.write_text(
        f"#!/bin/sh\nreal={shutil.which('sbatch')}\n"
        f"echo x >> '{count}'; calls=$(wc -l < '{count}')\n{script}\n"
    )
    sbatch.chmod(0o755)
    return f"{folder / 'bin'}:{os.environ['PATH']}"


def test_a_scheduler_that_refuses_twice_is_asked_again(slurm, tmp_path):
    busy = 'if [ "$calls" -le 2 ]; then echo "sbatch: error: slow down" >&2; exit 1; fi\n'
    env = {**slurm, "PATH": fake(tmp_path, f'{busy}exec "$real" "$@"')}
    with closed(slurm):
        submitted = study(env, "teacher_size", *TINY, *cluster_file(tmp_path), cwd=tmp_path)
        assert submitted.returncode == 0, submitted.stderr
        assert submitted.stdout.count("sbatch refused (sbatch: error: slow down)") == 2
        assert "submitted 6 runs" in submitted.stdout and len(arrays(slurm)) == 1


def test_an_answer_that_was_lost_submits_nothing_twice(slurm, tmp_path):
    """sbatch gives up waiting ("Socket timed out"), but SLURM has taken the job."""
    lost = '"$real" "$@"; [ "$calls" -gt 1 ] || exit 1'
    env = {**slurm, "PATH": fake(tmp_path, lost)}
    with closed(slurm):
        words = ["teacher_size", *TINY, *cluster_file(tmp_path, SPLIT)]
        submitted = study(env, *words, cwd=tmp_path)
        assert submitted.returncode == 0, submitted.stderr
        assert "submitted 6 runs in 2 sbatch calls" in submitted.stdout
        assert len(arrays(slurm)) == 6
        first = records(tmp_path)[0]["job"]
        pickles = (tmp_path / "runs/slurm/logs").glob(f"{first}_[0-2]_submitted.pkl")
        assert len(list(pickles)) == 3, "its elements are told what to do"


def test_bad_input_is_one_line_and_exit_code_2(slurm, tmp_path):
    def refused(env: Env, *options: str) -> str:
        done = study(env, "teacher_size", *TINY, *options, cwd=tmp_path)
        assert done.returncode == 2 and done.stdout == "", done.stdout + done.stderr
        (line,) = done.stderr.splitlines()
        return line

    elsewhere = {**slurm, "PATH": "/nowhere"}
    assert "no sbatch on the path" in refused(elsewhere, *cluster_file(tmp_path))
    unknown = cluster_file(tmp_path, SPLIT, partition="nosuch")
    assert "invalid partition" in refused(slurm, *unknown).lower()
    assert not records(tmp_path) and not queue(slurm), "nothing half recorded"
    assert "needs a time limit of 25 minutes" in refused(slurm, *cluster_file(tmp_path, 20))


# ----------------------------------------- a cluster without accounting, whose controller is killed


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """No accounting, at most two elements an array, and jobs are forgotten 2 s after their end."""
    folder = tmp_path_factory.mktemp("simple")
    with cluster(folder, accounting=False, cpus=4, max_array=3, kill_wait=2, min_job_age=2) as env:
        yield env


def test_arrays_no_larger_than_the_cluster_takes(simple, tmp_path):
    words = ["teacher_size", *TINY, "--seeds", "2", *cluster_file(tmp_path, SPLIT)]
    with closed(simple):
        submitted = study(simple, *words, cwd=tmp_path)
        assert "submitted 12 runs in 6 sbatch calls" in submitted.stdout, submitted.stderr
        assert [len(record["packs"]) for record in records(tmp_path)] == [2] * 6
        elements = arrays(simple)
        assert len(elements) == 12 == len({line.split()[0] for line in elements})


def test_a_study_without_accounting_outlives_its_controller(simple, tmp_path):
    (tmp_path / "two.py").write_text(TWO_STUDENTS)
    words = ["two.py", *TINY, "--set", "train.epochs=40", *cluster_file(tmp_path, SPLIT)]
    assert "3 runs in 2 sbatch calls" in study(simple, *words, cwd=tmp_path).stdout
    until(lambda: any("RUNNING" in line for line in queue(simple)))
    folder = Path(simple["SLURM_CONF"]).parent
    # A start that slurmctld has not saved yet it does not know afterwards, and drains the node.
    seen, saved = time.time(), folder / "state/job_state"
    until(lambda: time.time() > seen + 6 or (saved.exists() and saved.stat().st_mtime > seen))
    os.kill(int((folder / "run/slurmctld.pid").read_text()), 9)
    looked = study(simple, *words, cwd=tmp_path)
    assert looked.returncode == 2 and "SLURM cannot be asked" in looked.stderr
    assert local_cluster("up", folder).returncode == 0
    until(idle(simple))
    report = tmp_path / "runs/reports/two-smoke/report.md"
    assert "Incomplete" not in report.read_text()
    assert study(simple, *words, cwd=tmp_path).returncode == 0
    assert len(records(tmp_path)) == 2 and len(written(tmp_path, "result.json")) == 3
    results = map(json.loads, written(tmp_path, "result.json").values())
    attempts = [result["resumed"] for result in results]
    assert attempts == [0, 0, 0] and not written(tmp_path, "result.1.json")


@pytest.mark.parametrize("forgotten", [False, True])
def test_without_accounting_a_cancelled_job_has_a_reason(simple, tmp_path, forgotten):
    (tmp_path / "one.py").write_text(ONE_RUN)
    words = ["one.py", *ALONE, *cluster_file(tmp_path)]
    with closed(simple):
        assert study(simple, *words, cwd=tmp_path).returncode == 0
        (record,) = records(tmp_path)
        ask(simple, "scancel", record["job"])
        if forgotten:
            until(lambda: record["job"] not in ask(simple, "squeue", "-h", "-t", "all", "-o", "%i"))
        shown = study(simple, *words, cwd=tmp_path)
        looked = study(simple, *words, "--status", cwd=tmp_path)
    assert shown.returncode == 1 and f"failed: {record['runs'][0][0]}" in shown.stdout
    how = "ended without a result" if forgotten else "CANCELLED"
    assert f"job {record['job']}: {how}" in looked.stdout


def test_early_accounting_is_no_ending(tmp_path, monkeypatch):
    """Within seconds of a job's start `sacct` may say COMPLETED, of a job named "allocation"."""
    listing = "1|COMPLETED|0:0\n2|RUNNING|0:0\n3|FAILED|1:0\n4_[0-1,3%2]|CANCELLED by 0|0:0\n"
    monkeypatch.setattr("ns_bench.execute.slurm.queue.ask", lambda *words: listing)
    ended = endings(["1", "2", "3", "4_1", "4_3", "5"])
    cancelled = "CANCELLED by 0"
    assert ended == {"3": "FAILED (exit code 1:0)", "4_1": cancelled, "4_3": cancelled}


@pytest.mark.parametrize("name", ["two\nlines", "back\\slash", "100%j"])
def test_a_path_that_slurm_cannot_have_is_refused_before_it_is_asked(
    name, tmp_path, monkeypatch, capsys
):
    """A working folder's: options are in one line. Of `\\` and `%` SLURM makes another log file."""
    (tmp_path / "squeue").symlink_to("/bin/false")
    (tmp_path / "scontrol").symlink_to("/bin/false")
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    words = ["teacher_size", *TINY, *cluster_file(tmp_path)]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert not shown.out and "on SLURM its path must be one line" in shown.err
    assert len(shown.err.splitlines()) == 1 and not (tmp_path / "asked").exists()
    assert not list((tmp_path / name).glob("runs/slurm"))


def test_the_jobs_of_others_are_seen_in_a_shared_store(tmp_path, monkeypatch):
    """`squeue --me` hid them: a second user's call took them for failed and did them again."""
    asked: list[str] = []

    def answer(*words: str) -> str:
        asked.extend(words)
        return "7|PENDING|Priority||0:00|ns_bench-0123456789\n"

    monkeypatch.setattr("ns_bench.execute.slurm.queue.ask", answer)
    assert job_states()["7"].state == "PENDING"
    assert not {"--me", "--user", "-u"} & set(asked)


@pytest.mark.parametrize(
    ("private", "days", "state"),
    [("jobs,usage", 1, "missing"), ("none", 1, "failed"), ("jobs", 8, "failed")],
)
def test_jobs_of_others_that_slurm_hides_count_as_queued(
    private, days, state, tmp_path, monkeypatch
):
    """Mocked: a real one takes two accounts. They were taken for failed, and submitted again."""

    def answer(*words: str) -> str:
        return f"PrivateData             = {private}\n" if words[0] == "scontrol" else ""

    monkeypatch.setattr("ns_bench.execute.slurm.queue.ask", answer)
    scheduler = Scheduler(Store(tmp_path))
    (recipe, *_) = recipes("teacher_size", 4)
    record = {"name": "a", "job": "7", "user": os.getuid() + 1, "time": time.time() - 86_400 * days}
    (scheduler.root / "arrays").mkdir(parents=True)
    publish_json(scheduler.root / "arrays/a.json", {**record, "runs": [[recipe.id]]})
    plan = make_plan(scheduler.store, [recipe])
    states = scheduler.states()
    settle(scheduler, plan, states)
    assert plan.runs[recipe.id].state() == state
    ((_, shown, job),) = standing(plan, states)
    assert shown == {"missing": "queued"}.get(state, state)
    assert job is None or job.reason == f"unseen: a job of user {os.getuid() + 1}"


def test_a_study_of_ones_own_is_submitted_with_its_report(tmp_path, monkeypatch):
    """Edited while its jobs wait, it would be reported by other claims than those submitted."""
    mine, net = tmp_path / "mine.py", tmp_path / "net.py"
    mine.write_text("A = 1\n"), net.write_text("B = 1\n")
    copies = tmp_path / "runs" / "slurm" / "code"
    left = copies / "0123456789abcdef.1.tmp"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    code = snapshot(copies, {"mine.py": mine, "net.py": net})
    assert (code / "own" / "mine.py").read_text() == "A = 1\n" and not left.exists()
    mine.write_text("A = 2\n")
    other = snapshot(copies, {"mine.py": mine, "net.py": net})
    assert other != code and (code / "own" / "mine.py").read_text() == "A = 1\n"
    assert (other / "own" / "net.py").is_file() and not (snapshot(copies) / "own").exists()
    commit = {"git": "0123abc", "dirty": False}  # of the same files: results say of which
    monkeypatch.setattr("ns_bench.execute.slurm.snapshot.code", lambda: commit)
    committed = snapshot(copies, {"mine.py": mine, "net.py": net})
    assert committed != other
    assert json.loads((committed / "ns_bench/snapshot.json").read_bytes()) == commit


def test_a_scheduler_that_does_not_answer_is_said(tmp_path, monkeypatch):
    (tmp_path / "squeue").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("ns_bench.execute.slurm.queue.COMMAND_SECONDS", 0.2)
    with pytest.raises(UserError, match="cannot be asked for its jobs: squeue does not answer"):
        job_states()


def test_the_labels_of_a_large_pool_are_made_by_jobs(slurm, tmp_path):
    """By those of the students, which share them, and again by an array of jobs of their own.

    What is large is made small in every interpreter: 20 images a shard of 1,147.
    """
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "from ns_bench.design import cost\ncost.WHOLE_LOGITS, cost.SHARD = 8e3, 20\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    env = {**slurm, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    (tmp_path / "two.py").write_text(TWO_STUDENTS)
    done = apart(env, "two.py", *TINY, *cluster_file(tmp_path, SPLIT), cwd=tmp_path)
    assert "3 runs in 2 sbatch calls" in done.stdout, done.stderr
    until(idle(slurm))
    assert len(written(tmp_path, "result.json")) == 3
    shards = sorted((tmp_path / "runs").glob("*/labels/*-of-00058"))
    made = [shard.read_bytes() for shard in shards]
    assert len(made) == 58 and len({shard.parent for shard in shards}) == 1
    teacher = shards[0].parent.parent
    for shard in shards[5:]:
        shard.unlink()

    label = f"{sys.executable} -m ns_bench.execute.label {teacher}"
    logs = f"{tmp_path}/label-%a.out"
    ask(env, "sbatch", "--array", "0-2", "--mem", "1G", "--output", logs, "--wrap", label)
    until(idle(slurm))
    said = "".join((tmp_path / f"label-{task}.out").read_text() for task in range(3))
    assert said.count("all 58 shards of labels are there") == 3, said
    assert said.count(" labeled\n") == 53
    assert [shard.read_bytes() for shard in shards] == made
    again = apart(env, "two.py", *TINY, *cluster_file(tmp_path, SPLIT), cwd=tmp_path)
    assert again.returncode == 0 and "submitted" not in again.stdout
