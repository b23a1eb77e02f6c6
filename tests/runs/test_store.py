"""The store under kills, races and damage: real processes, real signals, every byte."""

import errno
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
from fakes import edit_result, fake_curve, fake_result, fake_runs, sha256

from ns_bench.errors import UserError
from ns_bench.files import Corrupt, publish, publish_json, seal, sealed_json
from ns_bench.recipe import Recipe
from ns_bench.runs import store as store_module
from ns_bench.runs.lease import Lease
from ns_bench.runs.store import CHECKPOINT, LOGITS, MODEL, SCHEMA, Run, Store

TEACHER = Recipe()
STUDENT = Recipe(teacher=TEACHER)
GRANDCHILD = Recipe(teacher=STUDENT)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def run(store: Store) -> Run:
    """A run with a folder and nothing in it."""
    run = store.run(TEACHER)
    run.path.mkdir()
    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- where a run stands ---------------------------------------------------------------------


def test_missing(store):
    run = store.run(TEACHER)
    assert run.state() == "missing"
    assert run.result() is None
    assert run.failure() is None
    assert not run.path.exists()
    run.path.mkdir()
    publish_json(run.path / "recipe.json", TEACHER.to_dict())
    assert run.state() == "missing"


def test_partial_with_a_checkpoint(run):
    publish(run.path / CHECKPOINT, seal(b"state"))
    assert run.state() == "partial"


def test_a_leftover_temporary_is_nothing(run):
    (run.path / ".result.json.1.abcd.tmp").write_bytes(b"{}")
    (run.path / ".checkpoint.1.abcd.tmp").write_bytes(b"{}")
    assert run.state() == "missing"


def test_running_while_the_lease_is_alive(run):
    lease = Lease(run.path)
    lease.acquire()
    publish(run.path / CHECKPOINT, seal(b"state"))
    run.fail("an older failure", "")
    assert run.state() == "running"
    lease.release()
    assert run.state() == "failed"


def test_failed(run):
    publish(run.path / CHECKPOINT, seal(b"state"))
    run.fail("it broke", "Traceback ...")
    assert run.state() == "failed"
    failure = run.failure()
    assert failure is not None
    assert (failure["error"], failure["traceback"]) == ("it broke", "Traceback ...")
    assert (run.path / CHECKPOINT).exists()


def test_failing_makes_the_folder(store):
    run = store.run(TEACHER)
    run.fail("no folder yet", "")
    assert run.state() == "failed"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"null", b"5", b"[1]", b'"text"', b"{}"])
def test_a_damaged_failure_is_a_failure(run, content):
    (run.path / "failure.json").write_bytes(content)
    assert run.state() == "failed"
    failure = run.failure()
    assert failure is not None
    assert failure["error"]
    assert "traceback" in failure


def test_done(run):
    result = fake_result(run, 91.5)
    run.fail("before", "")
    publish(run.path / CHECKPOINT, seal(b"state"))
    assert run.state() == "done"
    read = run.result()
    assert read == result
    assert read.test["top1"] == 91.5
    assert run.artifact(LOGITS).read_bytes() == f"logits of {run.id}".encode()
    assert run.artifact(MODEL).read_bytes() == b"weights"


def test_done_is_done_while_another_process_holds_the_lease(run):
    fake_result(run)
    Lease(run.path).acquire()
    assert run.state() == "done"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"null", b"[]", b'"text"', b"{}", b"\0" * 100],
)
def test_a_damaged_result_is_not_done(run, content):
    fake_result(run)
    (run.path / "result.json").write_bytes(content)
    with pytest.raises(Corrupt, match=r"result\.json"):
        run.result()
    assert run.state() == "partial"
    with pytest.raises(Corrupt):
        run.artifact(LOGITS)


def test_a_truncated_result_is_not_done(run):
    fake_result(run, recipe={}, provenance={})  # for a short file
    whole = (run.path / "result.json").read_bytes()
    for length in range(len(whole) - 2):  # the last two are } and a line feed
        (run.path / "result.json").write_bytes(whole[:length])
        with pytest.raises(Corrupt):
            run.result()


def test_no_changed_byte_of_a_result_goes_unnoticed(run):
    fake_result(run, recipe={}, provenance={})
    path = run.path / "result.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        if whole[place : place + 1].isspace() and changed[place : place + 1] in b"!\x0b ":
            continue  # JSON or not, no value of it has changed
        with pytest.raises((Corrupt, UserError), match=r"result\.json"):
            run.result()


def edits(name: str, *values: Any) -> list[dict[str, Any]]:
    return [{name: value} for value in values]


def scores(*values: Any) -> list[dict[str, Any]]:
    return [{"test": {"top1": value, "loss": 0.5, "ece": 5.0}} for value in values]


EDITS: list[dict[str, Any]] = [
    *scores(99.9, -5, None, "90", math.nan, math.inf, [90]),
    *edits("test", {}, None, [], {"top1": {}}),
    *edits("recipe", {}, None, [], {"seed": 7}, {"train": {"lr": 0.3}}),
    *edits("schema", 0, -1, None, "1", 1.5, True),
    *edits("provenance", {}, None, "text"),
    *edits("seconds", None, -1, "long", math.nan),
    *edits("pseudo", {"accuracy": 1.0}, 5, []),
    *edits("steps", 7, None),
    *({"images": 7}, {"id": "another"}, {"sha256": None}, {"more": 1}),
    *({"artifacts": {}}, {"records": {"x": {}}}),
    *({"validation": None}, {"teacher_logits": 5}, {"resumed": "often"}, {"data": None}),
]


@pytest.mark.parametrize("edit", EDITS, ids=repr)
def test_an_edited_result_is_never_taken_for_one(run, edit):
    fake_result(run)
    path = run.path / "result.json"
    publish_json(path, {**json.loads(path.read_bytes()), **edit})
    with pytest.raises(Corrupt, match=r"result\.json"):
        run.result()
    assert run.state() == "partial"


@pytest.mark.parametrize(
    "edit", [edit for edit in EDITS if edit.keys() & {"schema", "recipe", "test", "id"}], ids=repr
)
def test_an_edit_of_a_result_without_a_checksum_is_noticed_by_its_values(run, edit):
    """As far as they can tell: from before results were sealed, 99.9 is as good as 90."""
    if edit == EDITS[0] or edit.get("test") == {} or edit.get("recipe") == {}:
        return  # the recipe is the default one
    fake_result(run)
    path = run.path / "result.json"
    values = json.loads(path.read_bytes())
    old = {name: value for name, value in values.items() if name not in ("sha256", "records")}
    publish_json(path, old)
    assert run.result()
    publish_json(path, {**old, **edit})
    with pytest.raises(Corrupt, match=r"result\.json"):
        run.result()


def test_deep_nesting_in_a_result_is_damage(run):
    fake_result(run)
    (run.path / "result.json").write_text("[" * 100_000)
    with pytest.raises(Corrupt):
        run.result()


@pytest.mark.parametrize(
    "artifacts",
    [
        None,
        [],
        5,
        {},
        {MODEL: {"sha256": sha256(b"weights"), "bytes": 7}},
        {LOGITS: None},
        {LOGITS: {"bytes": 3}},
        {LOGITS: {"sha256": "0"}},
        {"": {"sha256": "0", "bytes": 3}},
    ],
)
def test_a_result_with_other_artifacts_teaches_nobody(store, artifacts):
    teacher, student = fake_runs(store, [TEACHER, STUDENT])
    path = teacher.path / "result.json"
    values = {**json.loads(path.read_bytes()), "artifacts": artifacts}
    del values["sha256"]
    publish_json(path, sealed_json(values))
    with pytest.raises(Corrupt):
        teacher.artifact(LOGITS)
    assert teacher.state() in ("done", "partial")
    assert student.state() in ("done", "partial")


def test_a_result_from_before_there_were_sets_in_files_is_done(run):
    fake_result(run)
    path = run.path / "result.json"
    values = json.loads(path.read_bytes())
    for name in ("data", "records", "sha256"):
        del values[name]
    publish_json(path, values)
    assert run.result().data == {}


@pytest.mark.parametrize("name", sorted(store_module.Result.__annotations__.keys() - {"data"}))
def test_a_result_that_lacks_a_field_is_not_done(run, name):
    fake_result(run)
    path = run.path / "result.json"
    values = json.loads(path.read_bytes())
    del values[name]
    publish_json(path, values)
    with pytest.raises((Corrupt, UserError), match=r"result\.json"):
        run.result()


def test_a_result_of_another_run_is_not_this_ones(store):
    run, other = store.run(TEACHER), store.run(TEACHER.at_seed(1))
    fake_result(run)
    other.path.mkdir()
    publish(other.path / "result.json", (run.path / "result.json").read_bytes())
    with pytest.raises(Corrupt, match="not this run's"):
        other.result()
    assert other.state() == "partial"


@pytest.mark.parametrize("name", [LOGITS, MODEL])
def test_a_truncated_or_missing_artifact_is_not_done(run, name):
    fake_result(run, logits=b"0123456789", model=b"0123456789")
    (run.path / name).write_bytes(b"012345678")
    with pytest.raises(Corrupt, match=f"^{re.escape(name)} has 9 bytes instead of 10$"):
        run.result()
    assert run.state() == "partial"
    (run.path / name).unlink()
    with pytest.raises(Corrupt, match=f"^{re.escape(name)} is missing$"):
        run.artifact(name)
    assert run.state() == "partial"


def test_a_changed_artifact_of_the_same_size_is_noticed_when_it_is_opened(run):
    content = b"the teacher's logits"
    fake_result(run, logits=content)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        (run.path / LOGITS).write_bytes(changed)
        assert run.state() == "done"  # no file is hashed only to look where a run stands
        with pytest.raises(Corrupt, match=f"the checksum of {re.escape(LOGITS)} does not match"):
            run.artifact(LOGITS)
    assert run.artifact(MODEL).read_bytes() == b"weights"


def test_an_artifact_of_a_run_that_is_not_done(run):
    publish(run.path / LOGITS, b"published before the result")
    with pytest.raises(Corrupt, match="no result"):
        run.artifact(LOGITS)


def test_a_student_of_other_logits_is_not_done(store):
    teacher, student = fake_runs(store, [TEACHER, STUDENT])
    assert student.state() == "done"
    teacher.discard()
    assert student.state() == "done"  # nothing says otherwise yet
    fake_result(teacher)
    assert student.state() == "done"  # trained again, with the same outcome
    fake_result(teacher, logits=b"other logits")
    assert teacher.state() == "done"
    with pytest.raises(Corrupt, match="its teacher has been trained again"):
        student.result()
    assert student.state() == "partial"


def test_a_corrupt_teacher_is_its_own_finding(store):
    teacher, student = fake_runs(store, [TEACHER, STUDENT])
    (teacher.path / MODEL).unlink()
    assert teacher.state() == "partial"
    assert student.state() == "done"


def test_the_chain_of_teachers(store):
    run = store.run(GRANDCHILD)
    assert run.teacher is not None
    assert run.teacher == store.run(STUDENT)
    assert run.teacher.teacher == store.run(TEACHER)
    assert run.teacher.teacher.teacher is None
    assert {r.path.parent for r in (run, run.teacher)} == {store.root}


# --- a newer format -------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [SCHEMA + 1, 99, "two", None, 1.5])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_newer_store_is_refused_untouched(tmp_path, schema, read_only):
    publish_json(tmp_path / "store.json", {"schema": schema, "more": [1, 2]})
    before = files(tmp_path)
    with pytest.raises(UserError) as caught:
        Store(tmp_path, read_only=read_only)
    message = str(caught.value)
    assert f"{tmp_path / 'store.json'} has schema {schema}" in message
    assert f"reads up to {SCHEMA}" in message
    assert "\n" not in message
    assert files(tmp_path) == before


def test_a_newer_result_is_refused(run):
    fake_result(run, schema=SCHEMA + 1)
    before = files(run.path)
    for look in (run.result, run.state, lambda: run.artifact(LOGITS)):
        with pytest.raises(UserError) as caught:
            look()
        assert f"result.json has schema {SCHEMA + 1}" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert files(run.path) == before


def test_a_result_of_a_newer_teacher_is_refused(store):
    teacher, student = fake_runs(store, [TEACHER, STUDENT])
    edit_result(teacher, schema=SCHEMA + 1)
    with pytest.raises(UserError, match=re.escape(teacher.id)):
        student.state()


# --- the folder -----------------------------------------------------------------------------


def test_a_store_is_made_and_opened_again(tmp_path):
    root = tmp_path / "new" / "runs"
    store = Store(root)
    assert json.loads((root / "store.json").read_bytes()) == {"schema": SCHEMA}
    fake_result(store.run(TEACHER))
    assert Store(root).run(TEACHER).state() == "done"
    assert Store(root, read_only=True).run(TEACHER).state() == "done"


def test_looking_at_a_missing_folder_writes_nothing(tmp_path):
    store = Store(tmp_path / "runs", read_only=True)
    assert store.run(STUDENT).state() == "missing"
    assert list(tmp_path.iterdir()) == []


def test_looking_at_a_store_writes_nothing(store):
    teacher, student = fake_runs(store, [TEACHER, STUDENT])
    (teacher.path / MODEL).unlink()
    before = files(store.root)
    looked = Store(store.root, read_only=True)
    states = [looked.run(r).state() for r in (TEACHER, STUDENT, GRANDCHILD)]
    assert states == ["partial", "done", "missing"]
    assert looked.run(STUDENT).metrics()
    assert student.failure() is None
    assert files(store.root) == before


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        Store(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_store_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert refusal(tmp_path / "file" / "runs").startswith(f"store {tmp_path / 'file' / 'runs'} is")
    assert refusal(tmp_path / "file").startswith(f"store {tmp_path / 'file'} is not writable: ")
    assert files(tmp_path) == {"file": b"not a folder"}


@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="no /proc here")
def test_a_store_where_nobody_can_write_is_refused():
    assert "is not writable: " in refusal(Path("/proc/runs"))
    assert "is not writable: " in refusal(Path("/proc/sys"))


def test_a_store_that_has_become_read_only_is_refused(store, monkeypatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store_module, "publish", full)
    assert refusal(store.root) == f"store {store.root} is not writable: Read-only file system"
    Store(store.root, read_only=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_without_permission_is_refused(store):
    store.root.chmod(0o555)
    try:
        assert "is not writable: Permission denied" in refusal(store.root)
        Store(store.root, read_only=True)
    finally:
        store.root.chmod(0o755)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"5", b"null", b"\xff", b'{"schema'])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_folder_with_another_store_json_is_refused(tmp_path, content, read_only):
    (tmp_path / "store.json").write_bytes(content)
    assert "not a store's marker file" in refusal(tmp_path, read_only=read_only)
    assert (tmp_path / "store.json").read_bytes() == content


def test_find(store):
    recipes = [Recipe(model=m).at_seed(s) for m in ("micro-b0", "micro-b1") for s in (0, 1, 10)]
    runs = [store.run(recipe) for recipe in recipes]
    for run in runs:
        assert store.find(run.id, runs) is run
        assert store.find(run.id[-12:], runs) is run
        assert store.find(run.id[: -len("-0123456789ab")] + "-", runs) is run  # begins with
    with pytest.raises(UserError, match="unknown run ''"):
        store.find("", runs[:1])  # which every id begins with
    with pytest.raises(UserError) as caught:
        store.find(runs[0].id[:-1] + "x", runs)
    assert str(caught.value).endswith(f"did you mean '{runs[0].id}'?")


@pytest.mark.parametrize("ambiguous", ["digits-micro-b0", "digits-", "digits-micro-b1-sup-s1", ""])
def test_find_does_not_guess(store, ambiguous):
    recipes = [Recipe(model=m).at_seed(s) for m in ("micro-b0", "micro-b1") for s in (0, 1, 10)]
    with pytest.raises(UserError, match=f"^[^\n]*'{ambiguous}'[^\n]*$"):
        store.find(ambiguous, [store.run(recipe) for recipe in recipes])


# --- metrics --------------------------------------------------------------------------------


def test_metrics_come_back(run):
    assert run.metrics() == []
    fake_curve(run, 80.0)
    records = run.metrics()
    assert len(records) == 10
    assert records[-1]["step"] == TEACHER.steps
    assert records[-1]["validation_top1"] == 80.0


def test_a_run_without_a_folder_has_no_metrics(store):
    assert store.run(TEACHER).metrics() == []


def test_a_torn_last_line_is_closed(run):
    path = run.path / "metrics.jsonl"
    run.log({"step": 1, "loss": 3.0})
    run.log({"step": 2, "loss": 2.0})
    whole = path.read_bytes()
    for end in range(len(b'{"step": 1, "loss": 3.0}\n') + 1, len(whole)):
        path.write_bytes(whole[:end])
        run.log({"step": 3, "loss": 1.0})
        lines = path.read_bytes().split(b"\n")
        assert lines[0] == b'{"step": 1, "loss": 3.0}'
        assert lines[-2:] == [b'{"step": 3, "loss": 1.0}', b""]
        kept = [1, 2, 3] if end == len(whole) - 1 else [1, 3]
        assert [record["step"] for record in run.metrics()] == kept


def test_a_torn_line_is_not_read(run):
    (run.path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2')
    assert run.metrics() == [{"step": 1}]


def test_resumed_steps_count_once(run):
    for step, loss in [(10, 1.0), (20, 0.9), (30, 0.8), (20, 0.95), (30, 0.85), (40, 0.7)]:
        run.log({"step": step, "loss": loss})
    assert run.metrics() == [
        {"step": 10, "loss": 1.0},
        {"step": 20, "loss": 0.95},
        {"step": 30, "loss": 0.85},
        {"step": 40, "loss": 0.7},
    ]


def test_an_event_does_not_replace_what_was_measured_at_its_step(run):
    """As where memory runs out on the step after a look."""
    look, event = {"step": 20, "loss": 0.9}, {"step": 20, "event": "out of memory"}
    for record in (look, event, {"step": 25, "event": "out of memory"}):
        run.log(record)
    assert run.metrics() == [look, {"step": 25, "event": "out of memory"}]
    run.log({"step": 20, "loss": 0.8})
    assert run.metrics()[0] == {"step": 20, "loss": 0.8}


def test_lines_that_are_no_records_are_skipped(run):
    lines = [b'{"step": 5}', b"", b"null", b"[1]", b'"x"', b"7", b'{"loss": 1}', b"\xff", b"{}"]
    (run.path / "metrics.jsonl").write_bytes(b"\n".join([*lines, b'{"step": 2}', b""]))
    assert run.metrics() == [{"step": 2}, {"step": 5}]


def test_text_with_line_breaks_stays_one_record(run):
    record = {"step": 0, "event": "a\nb\r\x0b\x0c\x1c\x85\u2028c"}
    run.log(record)
    assert run.metrics() == [record]


# --- doing again ----------------------------------------------------------------------------


def test_discard_keeps_the_old_results_aside(run):
    for number, top1 in enumerate((80.0, 85.0, 90.0), start=1):
        fake_result(run, top1)
        publish(run.path / CHECKPOINT, seal(b"state"))
        old = (run.path / "result.json").read_bytes()
        run.discard()
        assert run.state() == "missing"
        assert (run.path / f"result.{number}.json").read_bytes() == old
    assert not (run.path / CHECKPOINT).exists()
    run.discard()
    kept = sorted(p.name for p in run.path.glob("result*.json"))
    assert kept == ["result.1.json", "result.2.json", "result.3.json"]


def test_discard_of_a_damaged_result(run):
    fake_result(run)
    (run.path / "result.json").write_bytes(b"damaged")
    run.discard()
    assert run.state() == "missing"
    assert (run.path / "result.1.json").read_bytes() == b"damaged"


def test_forgive_keeps_the_old_failures_aside(run):
    publish(run.path / CHECKPOINT, seal(b"state"))
    for number in (1, 2):
        run.fail(f"failure {number}", "")
        run.forgive()
        assert run.failure() is None
        assert run.state() == "partial"
        kept = json.loads((run.path / f"failure.{number}.json").read_bytes())
        assert kept["error"] == f"failure {number}"
    run.forgive()
    assert sorted(p.name for p in run.path.glob("failure*")) == ["failure.1.json", "failure.2.json"]


def test_discard_and_forgive_of_nothing(store):
    run = store.run(TEACHER)
    run.discard()
    run.forgive()
    assert not run.path.exists()


# --- the fakes that other tests build on ----------------------------------------------------


def test_a_fake_is_what_it_is_told_to_be(store):
    teacher, student = store.run(TEACHER), store.run(STUDENT)
    assert fake_result(teacher, logits=b"L").pseudo is None
    result = fake_result(
        student,
        88.0,
        test={"loss": 0.1},
        validation={},
        pseudo={"accuracy_pool": 0.5},
        provenance={"device": "cuda"},
        seconds=3.0,
    )
    assert student.state() == "done"
    assert result == student.result()
    assert result.test == {"top1": 88.0, "loss": 0.1, "ece": 5.0}
    assert result.validation == {}
    assert result.pseudo is not None
    assert (result.pseudo["accuracy_pool"], result.pseudo["coverage"]) == (0.5, 0.9)
    assert (result.provenance["device"], result.seconds) == ("cuda", 3.0)
    assert result.teacher_logits == sha256(b"L")
