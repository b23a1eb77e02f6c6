"""`--live`: a report that is written again and again while a study runs."""

import pytest
from pages import filled

from ns_bench.report import __main__ as command
from ns_bench.report.__main__ import main
from ns_bench.runs.store import Store

pytestmark = pytest.mark.slow


def test_it_renders_until_all_runs_are_done(tmp_path, monkeypatch, capsys):
    root, out = tmp_path / "runs", tmp_path / "out"
    Store(root)
    page = out / "teacher_size-digits/report"
    seen: list[str] = []

    def sleep(seconds):
        """While the command sleeps the study goes on: nothing, three seeds, all of them."""
        assert seconds == 7
        seen.append(page.with_suffix(".html").read_text())
        said = page.with_suffix(".md").read_text()
        assert "Incomplete" in said and "**reproduced**" not in said
        filled(root, "teacher_size", seeds=[3, 8][len(seen) - 1])

    monkeypatch.setattr(command.time, "sleep", sleep)
    words = ["teacher_size", "--profile", "digits", "--runs", str(root), "--out", str(out)]
    assert main([*words, "--live", "7"]) == 0
    assert len(seen) == 2
    assert all('<meta http-equiv="refresh" content="7">' in text for text in seen)
    assert "0 of the arms&#39; 32 runs are done" in seen[0]
    assert "12 of the arms&#39; 32 runs are done" in seen[1] and "3/8" in seen[1]
    last = page.with_suffix(".html").read_text()
    assert "refresh" not in last and "Incomplete" not in last and ">reproduced<" in last
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("48 runs to go; report: ") and lines[-1].startswith("report: ")
    files = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert main(words) == 0
    assert files == {path.name: path.read_bytes() for path in page.parent.iterdir()}


def test_a_failed_run_does_not_keep_it_waiting(tmp_path, monkeypatch):
    store = filled(tmp_path / "runs", "teacher_size")
    run = next(p for p in store.root.iterdir() if "gen1" in p.name)
    (run / "result.json").unlink()
    (run / "failure.json").write_text('{"error": "Diverged", "traceback": ""}')
    monkeypatch.setattr(command.time, "sleep", lambda seconds: pytest.fail("it waits"))
    words = ["teacher_size", "--profile", "digits", "--runs", str(store.root), "--live"]
    assert main(words) == 1


def test_stopped_by_hand(tmp_path, monkeypatch, capsys):
    def stop(seconds):
        raise KeyboardInterrupt

    Store(tmp_path / "runs")
    monkeypatch.setattr(command.time, "sleep", stop)
    words = ["teacher_size", "--profile", "digits", "--runs", str(tmp_path / "runs"), "--live"]
    assert main(words) == 130
    assert "stopped" in capsys.readouterr().err


def test_bad_input_is_refused(tmp_path, capsys):
    assert main(["teacher_size", "--from", str(tmp_path), "--live"]) == 2
    assert "--from has no place" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["teacher_size", "--live", "0"])
