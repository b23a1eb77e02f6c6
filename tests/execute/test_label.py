"""Labels of large pools: made in shards by whoever needs them first, used by students.

What is large is made small here, in fresh interpreters too: 8 kB of logits, shards of 100 images,
three classes kept.
"""

import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import safetensors.torch
import torch
from builders import present
from fakes import contents, edit_result, sha256
from processes import python, said

from ns_bench.design import cost
from ns_bench.errors import UserError
from ns_bench.execute import local
from ns_bench.execute.label import main, shards
from ns_bench.execute.local import execute
from ns_bench.execute.run_one import Interrupted, run_one
from ns_bench.execute.trained import dataset_of, network_of
from ns_bench.recipe import Recipe
from ns_bench.runs.lease import Lease
from ns_bench.runs.store import LOGITS, MODEL, Run, Store
from ns_bench.selftrain.evaluate import predict
from ns_bench.selftrain.targets import probabilities
from ns_bench.selftrain.train import Diverged

pytestmark = pytest.mark.slow

POOL = 1147
QUICK = {"train.epochs": 40, "train.ema": 0.9, "train.lr": 0.02}
TEACHER = Recipe.of(QUICK)
STUDENT = Recipe.of({**QUICK, "train.epochs": 2}, TEACHER)
CONSTANTS = "WHOLE_LOGITS, cost.SHARD, cost.TOP = 8e3, {}, 3"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a finished teacher whose pool is large."""
    root = tmp_path_factory.mktemp("labels") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "WHOLE_LOGITS", 8e3)
        run_one(Store(root).run(TEACHER))
    return root


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how many images a shard has, here and in interpreters that start from here."""

    def images(count: int) -> None:
        for name, value in (("WHOLE_LOGITS", 8e3), ("SHARD", count), ("TOP", 3)):
            monkeypatch.setattr(cost, name, value)
        constants = f"from ns_bench.design import cost\ncost.{CONSTANTS.format(count)}\n"
        (tmp_path / "site").mkdir(exist_ok=True)
        (tmp_path / "site" / "sitecustomize.py").write_text(constants)

    images(100)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return images


@pytest.fixture
def store(taught: Path, tmp_path: Path, small: Callable[[int], None]) -> Store:
    return Store(Path(shutil.copytree(taught, tmp_path / "runs")))


def files(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path.glob("labels/*-of-*")}


def written(run: Run) -> dict[str, tuple[int, int]]:
    """Return what tells a file from one that was published in its place."""
    found = ((path.name, path.stat()) for path in run.path.glob("labels/[0-9]*-of-?????"))
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found}


# Processes are forked from a server that has torch imported, so that each starts in no time.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ns_bench.execute.run_one", "pytest"])


def _work(do: Callable[[Run], object], run: Run, said: Path) -> None:
    torch.set_num_threads(1)
    cost.WHOLE_LOGITS, cost.SHARD, cost.TOP = 8e3, 10, 3
    with said.open("w") as out, contextlib.redirect_stdout(out):
        do(run)


def forked(do: Callable[[Run], object], run: Run, said: Path) -> BaseProcess:
    """Start a process that has ten images a shard, and writes what it prints into a file."""
    process = CONTEXT.Process(target=_work, args=(do, run, said), daemon=True)
    process.start()
    return process


def label(run: Run) -> None:
    main([str(run.path)])


def command(run: Run, module: str, *launcher: str) -> subprocess.Popen[str]:
    words = [sys.executable, *launcher, "-m", f"ns_bench.execute.{module}", str(run.path)]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def here(run: Run) -> list[bool]:
    """Label a pool in this process; returns of each shard whether that was needed."""
    data = dataset_of(run)
    labeler = partial(network_of, run, data, "cpu")
    return [shard.fresh for shard in shards(run, data.unlabeled.images, 10, labeler)]


def test_a_student_makes_and_uses_its_teachers_labels(store, tmp_path):
    teacher, student = store.run(TEACHER), store.run(STUDENT)
    assert safetensors.torch.load(teacher.artifact(LOGITS).read_bytes()) == {}
    assert not (teacher.path / "labels").exists()  # nobody needs them
    result = run_one(student)
    assert result.teacher_logits == teacher.result().artifacts[LOGITS]["sha256"]
    pseudo = present(result.pseudo)
    assert pseudo["rows"] == 1140 and pseudo["coverage"] > 0.5
    assert not (student.path / "labels").exists()
    assert sorted(files(teacher)) == [f"{number:05d}-of-00012" for number in range(12)]

    data = dataset_of(teacher)
    pool = data.unlabeled.images
    exact = predict(network_of(teacher, data, "cpu"), pool).softmax(1)
    found = list(shards(teacher, pool, 10, labeler=never))
    assert [shard.rows for shard in found][:2] == [slice(0, 95), slice(95, 191)]
    kept = torch.cat([probabilities(shard.labels) for shard in found])
    assert found[0].labels.classes.shape == (95, 3)
    top = exact.topk(3).indices
    assert (kept.gather(1, top) - exact.gather(1, top)).abs().max() < 1e-3

    before = written(teacher)
    other = STUDENT.set({"pseudo.kind": "hard"})
    assert run_one(store.run(other)).teacher_logits == result.teacher_logits
    assert written(teacher) == before


def never() -> torch.nn.Module:
    raise AssertionError("all labels are there")


def test_jobs_of_an_array_share_the_shards(store, small, tmp_path):
    """No shard is made twice; bytes, and the student of them, are those of one process alone."""
    small(10)
    alone = Store(Path(shutil.copytree(store.root, tmp_path / "alone")))
    run_one(alone.run(STUDENT))
    teacher = store.run(TEACHER)
    (teacher.path / "labels").mkdir()
    with (teacher.path / "labels" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # both are to begin at the same moment
        jobs = [forked(label, teacher, tmp_path / f"said{i}") for i in range(2)]
        until(lambda: waiting_for(lock.fileno()) == 2)
    for job in jobs:
        job.join(120)
    assert [job.exitcode for job in jobs] == [0, 0]
    outputs = [(tmp_path / f"said{i}").read_text() for i in range(2)]
    made = [output.count(" labeled\n") for output in outputs]
    assert sum(made) == 115 and min(made) > 0
    assert all("all 115 shards of labels are there" in output for output in outputs)
    assert files(teacher) == files(alone.run(TEACHER))
    before = written(teacher)
    run_one(store.run(STUDENT))
    assert written(teacher) == before
    assert contents(store.run(STUDENT)) == contents(alone.run(STUDENT))


def waiting_for(lock: int) -> int:
    """Return how many processes wait for a lock that this one holds."""
    inode = f":{os.fstat(lock).st_ino} "
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("->" in line and inode in line for line in lines)


def test_processes_of_a_student_share_the_shards(store, tmp_path):
    alone = Store(Path(shutil.copytree(store.root, tmp_path / "alone"))).run(TEACHER)
    assert here(alone) == [True] * 12
    student = store.run(STUDENT)
    student.path.mkdir()
    (student.path / "recipe.json").write_text(json.dumps(STUDENT.to_dict()))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert "top-1" in ended(command(student, "run_one", *torchrun))
    assert student.result().provenance["processes"] == 2
    assert files(store.run(TEACHER)) == files(alone)


def test_a_student_killed_while_labelling_loses_one_shard(store, small, tmp_path):
    small(10)
    alone = Store(Path(shutil.copytree(store.root, tmp_path / "alone")))
    run_one(alone.run(STUDENT))
    teacher, student = store.run(TEACHER), store.run(STUDENT)
    process = forked(run_one, student, tmp_path / "said")
    until(lambda: len(written(teacher)) >= 5)
    process.kill()
    process.join()
    before = written(teacher)
    assert 5 <= len(before) < 115 and student.state() == "missing"
    process = forked(run_one, student, tmp_path / "said")
    process.join(120)
    assert process.exitcode == 0
    after = written(teacher)
    assert len(after) == 115 and {name: after[name] for name in before} == before
    assert contents(student) == contents(alone.run(STUDENT))
    # killed between publishing and releasing, it leaves a lease that nobody holds
    left = {path.name for path in (teacher.path / "labels").iterdir()}
    assert {name for name in left if not name.endswith(".lease")} == {".lock", *after}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_shard_is_waited_for_while_its_maker_lives(store):
    teacher = store.run(TEACHER)
    code = """
import sys; from pathlib import Path; from ns_bench.runs.lease import Lease
Lease(Path(sys.argv[1]), "00005-of-00012.lease").acquire(); print("held", flush=True); input()
"""
    maker = python(code, teacher.path / "labels")
    assert said(maker) == "held"
    process = command(teacher, "label")
    until(lambda: len(written(teacher)) == 11)
    time.sleep(2)
    assert process.poll() is None and "00005-of-00012" not in written(teacher)
    maker.kill()
    maker.wait()
    assert "12 of them made here" in ended(process)


def test_only_what_is_damaged_missing_or_of_other_weights_is_made_again(store):
    teacher, student = store.run(TEACHER), store.run(STUDENT)
    assert here(teacher) == [True] * 12
    whole, before = files(teacher), written(teacher)
    paths = [teacher.path / "labels" / name for name in sorted(whole)[:7]]
    first, second, third, fourth, empty, folder, other = paths
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    content = bytearray(third.read_bytes())
    content[-1] ^= 1
    third.write_bytes(content)
    payload = fourth.read_bytes()[32:].replace(
        teacher.result().artifacts[MODEL]["sha256"].encode(), b"0" * 64
    )
    fourth.write_bytes(hashlib.sha256(payload).digest() + payload)
    empty.write_bytes(hashlib.sha256(b"").digest())
    folder.unlink()
    folder.mkdir()
    other.write_bytes((teacher.path / "labels" / sorted(whole)[7]).read_bytes())
    run_one(student)
    shutil.rmtree(next(teacher.path.glob(f"labels/{folder.name}.*")))
    assert files(teacher) == whole
    after = written(teacher)
    again = {path.name for path in paths}
    assert {name for name in whole if after[name] != before[name]} == again
    assert here(teacher) == [False] * 12


def test_a_run_that_is_stopped_while_labelling_keeps_its_shards(store):
    teacher, student = store.run(TEACHER), store.run(STUDENT)
    told = []
    with pytest.raises(Interrupted):
        run_one(
            student,
            should_stop=lambda: len(written(teacher)) >= 1,
            progress=lambda *counts: told.append(counts),
        )
    assert told[0] == (0, 0)  # its pool sees that it lives
    kept = written(teacher)
    assert 1 <= len(kept) <= 12 and Lease(student.path).holder() is None
    run_one(student)
    assert {name: stat for name, stat in written(teacher).items() if name in kept} == kept


def test_a_network_that_is_not_finite_labels_nothing(store):
    teacher = store.run(TEACHER)
    weights = safetensors.torch.load(teacher.artifact(MODEL).read_bytes())
    broken = {k: v * torch.nan if v.is_floating_point() else v for k, v in weights.items()}
    content = safetensors.torch.save(broken)
    (teacher.path / MODEL).write_bytes(content)
    known = teacher.result().artifacts
    edit_result(teacher, artifacts={**known, MODEL: {**known[MODEL], "sha256": sha256(content)}})
    with pytest.raises(Diverged, match="output on the pool is not finite"):
        run_one(store.run(STUDENT))
    assert not written(teacher)


def test_damaged_weights_without_labels_are_trained_again(store, monkeypatch):
    """Through the local pool, whose workers are interpreters of their own."""
    monkeypatch.setattr(local, "context", lambda: multiprocessing.get_context("spawn"))
    teacher, student = store.run(TEACHER), store.run(STUDENT)
    whole = (teacher.path / MODEL).read_bytes()
    (teacher.path / MODEL).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = execute([student], lambda recipe: 1.0, workers=1)
    assert not done.failed and student.state() == "done"
    assert len(done.notes) == 1 and "checksum of model.safetensors" in done.notes[0]
    assert (teacher.path / MODEL).read_bytes() == whole and len(files(teacher)) == 12


@pytest.mark.parametrize(("field", "value"), [("noised_teacher", True), ("views", 2)])
def test_labels_for_one_student_are_refused_before_the_pool_is_labeled(store, field, value):
    student = store.run(STUDENT.set({f"pseudo.{field}": value}))
    why = f"pseudo.{field}={str(value).lower()}: a pool of .* images is too large to be labeled"
    with pytest.raises(UserError, match=why):
        run_one(student)
    assert not written(store.run(TEACHER))


def test_a_student_on_labeled_images_alone_needs_no_labels(store):
    student = STUDENT.set({"train.rows": "labeled", "train.start": "teacher"})
    assert run_one(store.run(student)).pseudo is None
    assert not written(store.run(TEACHER))


def test_a_co_trained_pair_labels_its_pool(tmp_path, small, capsys):
    run = Store(tmp_path / "pair").run(
        Recipe.of({"train.epochs": 1, "consistency.method": "co-training"})
    )
    run_one(run)
    main([str(run.path)])
    assert "all 12 shards of labels are there, 12 of them made here" in capsys.readouterr().out


def test_runs_that_the_command_refuses(store, monkeypatch, capsys, tmp_path):
    other, undone = Store(tmp_path / "other").run(Recipe()), store.run(STUDENT)
    for run in (other, undone):
        run.path.mkdir()
    (other.path / "recipe.json").write_text(json.dumps(TEACHER.to_dict()))
    (undone.path / "recipe.json").write_text(json.dumps(STUDENT.to_dict()))
    teacher = store.run(TEACHER)
    for path, why in (
        (tmp_path, "is not a run"),
        (other.path, "the folder must have its name"),
        (undone.path, "is not done: it has no weights to label with"),
        (teacher.path, "is small: its logits are stored already"),
    ):
        if path == teacher.path:
            monkeypatch.setattr(cost, "WHOLE_LOGITS", 4e9)
        with pytest.raises(SystemExit) as stop:
            main([str(path)])
        line = capsys.readouterr().err
        assert stop.value.code == 2 and why in line
        assert line.startswith("error: ") and line.count("\n") == 1


def test_sizes_of_shards(store, monkeypatch):
    """As many as the pool needs, whoever makes them; in a shard of all is what is in twelve."""
    teacher = store.run(TEACHER)
    here(teacher)
    pool = dataset_of(teacher).unlabeled.images
    many = list(shards(teacher, pool, 10, never))
    for images, of in ((POOL, 1), (POOL - 1, 2)):
        monkeypatch.setattr(cost, "SHARD", images)
        assert here(teacher) == [True] * of
        few = list(shards(teacher, pool, 10, never))
        for field in ("classes", "log_probabilities"):
            whole = [torch.cat([getattr(s.labels, field) for s in part]) for part in (many, few)]
            torch.testing.assert_close(*whole, rtol=0, atol=2e-3)
