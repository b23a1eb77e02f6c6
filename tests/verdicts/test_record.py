"""What is known of a study beside its tables: seeds, earlier looks, when claims were stated."""

import json
import os
import subprocess

import pandas as pd
import pytest
from fakes import fake_runs

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.execute.provenance import HISTORY
from ns_bench.report.__main__ import main as report
from ns_bench.runs.store import Store
from ns_bench.study import main
from ns_bench.verdicts import record

pytestmark = pytest.mark.slow

SOURCE = """
from ns_bench.design.definition import Arm, Design, Study, difference

def design(profile):
    base = profile.supervised("small")
    arms = [Arm(name, base.set({"train.epochs": i + 1})) for i, name in enumerate(["a", "b"])]
    return Design(arms, "a", [difference("b beats a.", "b", "a", 0.1)])

STUDY = Study("made_up", "What if?", "epochs", design, "nowhere")
"""
WAVE = (0.9, -1.1, 0.4, -0.3, 1.2, -0.8, 0.2, -0.5, 1.0, -0.9, 0.6, -0.7)


def top1(recipe):
    return 90 + (recipe.train.epochs - 1) * WAVE[recipe.seed]


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "made_up.py"
    path.write_text(SOURCE)
    design = load_study(str(path)).design(load_profile("digits"))
    fake_runs(Store(tmp_path / "runs"), design.recipes(range(12)).values(), top1)
    return [str(path), "--runs", str(tmp_path / "runs")]


def page(tmp_path):
    return (tmp_path / "runs/reports/made_up-digits/report.md").read_text()


def test_a_fixed_number_says_what_the_store_holds_and_at_what_it_was_judged_before(
    tmp_path, words, capsys
):
    assert main([*words, "--seeds", "8"]) == 0
    first = page(tmp_path)
    assert "**Fixed at 8 seeds; the store holds 12.** Those beyond are not read." in first
    assert "Judged before" not in first
    assert main([*words, "--seeds", "12"]) == 0
    second = page(tmp_path)
    assert "Fixed at 12" not in second and "at 12 seeds, a number that was fixed" in second
    assert "**Judged before, at 8 seeds,**" in second
    assert "The results had been judged before, at 8 seeds." in second
    lines = (tmp_path / "runs/looks/made_up-digits.jsonl").read_text().splitlines()
    assert [json.loads(line)["looks"] for line in lines] == [[8], [12]]
    assert main([*words, "--seeds", "12"]) == 0
    assert page(tmp_path) == second
    assert (tmp_path / "runs/looks/made_up-digits.jsonl").read_text().splitlines() == lines
    capsys.readouterr()
    assert main([*words, "--until-decided", "--max-seeds", "8"]) == 2
    assert "--max-seeds 8: the store was looked at with 12 seeds" in capsys.readouterr().err


def test_fewer_than_fixed_is_said_and_is_no_look(tmp_path, words):
    assert main([*words, "--seeds", "14", "--read-only", "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/made_up-digits/report.md").read_text()
    assert "**Fixed at 14 seeds, of which the store holds 12.**" in text
    assert not (tmp_path / "runs/looks").exists()


def test_until_decided_after_a_fixed_number_says_so(tmp_path, words):
    assert main([*words, "--seeds", "8"]) == 0
    first = page(tmp_path)
    assert "takes up to 56 more seeds of 2 arms" in first
    assert "would be a second look that nothing pays for: `--until-decided`" in first
    again = ["--from", str(tmp_path / "runs/reports"), "--out", str(tmp_path / "again")]
    assert report([words[0], "--profile", "digits", *again]) == 0
    assert (tmp_path / "again/made_up-digits/report.md").read_text() == first
    assert main([*words, "--until-decided", "--max-seeds", "12"]) == 0
    assert "**Judged before, at 8 seeds,**" in page(tmp_path)


def commit(folder, date):
    environment = {**os.environ, "GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date}
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "made_up.py"], [*who, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", folder, *words], check=True, env=environment)


def runs(*times):
    names = [str(i) for i in range(len(times))]
    return pd.DataFrame({"run": names, "time": times, "test_top1": 90.0})


def test_claims_are_dated_against_the_first_run(tmp_path, words):
    study = load_study(words[0])
    table = runs("2020-01-03T00:00:00Z", "2020-01-05T00:00:00Z")
    assert record.stated(study, table) is None  # in no repository
    commit(tmp_path, "2020-01-02T00:00:00Z")
    said = record.stated(study, table)
    assert said is not None
    assert (said.time, said.first_run) == ("2020-01-02T00:00:00Z", "2020-01-03T00:00:00Z")
    assert (said.older, said.results, said.changes) == (0, 2, 0)
    (tmp_path / "made_up.py").write_text(SOURCE + "\n")
    commit(tmp_path, "2020-01-04T00:00:00Z")
    later = record.stated(study, table)
    assert later is not None
    assert (later.commit, later.changes) == (said.commit, 1)
    assert later.last_time == "2020-01-04T00:00:00Z" and later.last_commit != said.commit
    late = record.stated(study, runs("2020-01-01T00:00:00Z", "2020-01-05T00:00:00Z"))
    assert late is not None
    assert (late.commit, late.older, late.changes) == (said.commit, 1, 1)


def test_a_copy_of_the_studies_has_their_history_in_a_file(tmp_path, words):
    study = load_study(words[0])
    (tmp_path / HISTORY).write_text('{"made_up.py": [["1a2b3c", "2020-01-02T00:00:00Z"]]}')
    said = record.stated(study, runs("2020-01-03T00:00:00Z"))
    assert said is not None and (said.commit, said.changes) == ("1a2b3c", 0)
    (tmp_path / HISTORY).write_text("{}")
    assert record.stated(study, runs("2020-01-03T00:00:00Z")) is None


def test_the_page_has_a_paragraph_for_a_paper(tmp_path, words):
    commit(tmp_path, "2019-12-31T00:00:00Z")
    assert main([*words, "--seeds", "8"]) == 0
    text = page(tmp_path)
    assert "## Methods, for a paper" in text
    assert "We compared 2 arms (a, b), paired by end-to-end seeds" in text
    assert "python -m ns_bench.study made_up.py --profile digits --seeds 8\n" in text
    assert "1 claim was judged at 8 seeds, a number that was fixed, by sign-flip tests" in text
    assert "The smallest effect of interest was 0.1 points." in text
    assert "of 2019-12-31, before the first run (2020-01-01)." in text
    assert "familywise error rate of 5 \\%" in text  # as LaTeX


@pytest.mark.parametrize("text", ["{}", "[1]", "x", '{"looks": 3, "spending": [1]}'])
def test_a_protocol_that_is_none_is_refused(tmp_path, text):
    (tmp_path / record.PROTOCOL).write_text(text)
    with pytest.raises(UserError, match="not a protocol of looks"):
        record.read(tmp_path)
