"""Seeds until decided: which runs a look asks for, what is on record, and what is refused."""

import json
from dataclasses import replace

import pytest
from builders import present
from fakes import fake_runs
from processes import contents

from ns_bench.design.definition import Arm, Design, Study, difference, load_study
from ns_bench.design.profile import load_profile
from ns_bench.design.schedule import Schedule
from ns_bench.errors import UserError
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Store
from ns_bench.study import main
from ns_bench.verdicts import looks
from ns_bench.verdicts.sources import from_store, from_tables

pytestmark = pytest.mark.slow

PROFILE = load_profile("digits")
PLAN = Schedule((8, 10, 12), (0.4, 0.7, 1.0))


def design(profile):
    base = profile.supervised("small")
    names = ("none", "clear", "unclear")
    arms = [Arm(name, base.set({"train.epochs": i + 1})) for i, name in enumerate(names)]
    claims = [
        difference("It is clear.", "clear", "none", 0.1),
        difference("It is not.", "unclear", "none", 0.1),
    ]
    return Design(arms, "none", claims)


STUDY = Study("made_up", "", "", design, "", schedule=PLAN)
WAVE = (0.9, -1.1, 0.4, -0.3, 1.2, -0.8, 0.2, -0.5, 1.0, -0.9, 0.6, -0.7)


def top1(recipe):
    arm, seed = recipe.train.epochs - 1, recipe.seed
    return 90 + (0, 5 + 0.1 * seed, WAVE[seed])[arm]


def filled(store, standing):
    fake_runs(store, standing.recipes.values(), top1)


def follow(store, **more):
    return looks.follow(STUDY, PROFILE, design(PROFILE), store, **more)


def test_from_look_to_look_only_the_arms_of_open_claims_go_on(tmp_path):
    store = Store(tmp_path / "runs")
    first = follow(store)
    assert (first.seeds, len(first.recipes), first.path) == (8, 3 * 8, [])
    filled(store, first)
    second = follow(store)
    assert (second.seeds, len(second.path)) == (10, 1)
    assert [claim.claim.text for claim in second.open] == ["It is not."]
    new = set(second.recipes) - set(first.recipes)
    assert new == {(arm, seed) for arm in ("none", "unclear") for seed in (8, 9)}
    filled(store, second)
    third = follow(store)
    filled(store, third)
    last = follow(store)
    assert (last.seeds, [a.seeds for a in last.path], last.open) == (12, [8, 10, 12], [])
    words = [claim.verdict.word for claim in last.path[-1].claims]
    assert words == ["reproduced", "inconclusive"]
    assert [claim.decision.seeds for claim in last.path[-1].claims] == [8, 12]
    assert not make_plan(store, last.recipes.values()).missing


def test_a_run_that_failed_holds_its_claims_and_no_other(tmp_path):
    store = Store(tmp_path / "runs")
    first = follow(store)
    filled(store, first)
    lost = store.run(first.recipes["unclear", 3])
    lost.discard()
    lost.fail("Diverged", "Traceback ...")
    standing = follow(store)
    assert (standing.seeds, standing.open) == (8, [])
    assert "only 7 of 8 seeds" in standing.path[-1].claims[1].verdict.reason
    assert standing.path[-1].claims[0].verdict.word == "reproduced"


def test_seeds_beyond_a_look_change_no_verdict(tmp_path):
    store = Store(tmp_path / "runs")
    filled(store, follow(store))
    before = follow(store, maximum=8).path[-1]
    fake_runs(store, design(PROFILE).recipes(range(9)).values(), top1)
    after = follow(store, maximum=8).path[-1]
    assert [c.verdict for c in after.claims] == [c.verdict for c in before.claims]


def test_looks_are_on_record_once_with_date_commit_and_numbers(tmp_path):
    store = Store(tmp_path / "runs")
    for _ in range(4):
        filled(store, follow(store))
        looks.record(store.root, follow(store).path, "abc")
    lines = looks.recorded(store.root, STUDY, PROFILE, {})
    assert [line["look"] for line in lines] == [8, 10, 12]
    assert {line["commit"] for line in lines} == {"abc"}
    assert all(line["date"].startswith("20") for line in lines)
    clear = lines[0]["claims"][0]
    assert (clear["word"], clear["seeds"]) == ("reproduced", 8)
    assert clear["effect"] == pytest.approx(5.35)
    assert clear["p_adjusted"] <= 0.05
    assert looks.recorded(store.root, STUDY, PROFILE, {"train.lr": "1"}) == []


def test_another_schedule_than_that_on_record_is_refused(tmp_path):
    store = Store(tmp_path / "runs")
    filled(store, follow(store))
    looks.record(store.root, follow(store).path, "abc")
    other = replace(STUDY, schedule=Schedule((8, 16), (0.5, 1.0)))
    with pytest.raises(UserError, match="'made_up' was looked at by another schedule, at 8, 10"):
        looks.scheduled(store.root, other, PROFILE, {})
    lines = looks.recorded(store.root, STUDY, PROFILE, {})
    looks.require_maximum(lines, 8)
    with pytest.raises(UserError, match="--max-seeds 7: the store was looked at with 8 seeds"):
        looks.require_maximum(lines, 7)
    with pytest.raises(UserError, match="--max-seeds 7: the first look is at 8 seeds"):
        follow(store, maximum=7)


def test_a_record_that_is_none_is_refused(tmp_path):
    path = tmp_path / "looks" / "made_up-digits.jsonl"
    path.parent.mkdir()
    path.write_text("{}\n")
    with pytest.raises(UserError, match="not a record of looks"):
        looks.recorded(tmp_path, STUDY, PROFILE, {})


def test_a_schedule_that_can_decide_nothing_is_refused():
    with pytest.raises(UserError, match="no result of 5 seeds"):
        looks.schedule_of(replace(STUDY, schedule=Schedule((5, 6), (0.5, 1.0))), PROFILE)


# --- the command ------------------------------------------------------------------------------

SOURCE = """
from ns_bench.design.definition import Arm, Design, Study, difference, load_study
from ns_bench.design.schedule import Schedule

def design(profile):
    base = profile.supervised("small")
    names = ("none", "clear", "unclear")
    arms = [Arm(name, base.set({"train.epochs": i + 1})) for i, name in enumerate(names)]
    claims = [difference("It is clear.", "clear", "none", 0.1),
              difference("It is not.", "unclear", "none", 0.1)]
    return Design(arms, "none", claims)

STUDY = Study("made_up", "What if?", "epochs", design, "nowhere",
              schedule=Schedule((8, 10, 12), (0.4, 0.7, 1.0)))
"""


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "made_up.py"
    path.write_text(SOURCE)
    return [str(path), "--runs", str(tmp_path / "runs"), "--until-decided"]


def test_the_command_goes_on_until_decided_records_and_reports(tmp_path, words, capsys):
    fake_runs(Store(tmp_path / "runs"), design(PROFILE).recipes(range(12)).values(), top1)
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "REPRODUCED  It is clear." in out
    assert "n = 8" in out and "n = 12" in out
    record = tmp_path / "runs/looks/made_up-digits.jsonl"
    before = record.read_text()
    assert [json.loads(line)["look"] for line in before.splitlines()] == [8, 10, 12]
    assert main(words) == 0
    assert record.read_text() == before
    report = tmp_path / "runs/reports/made_up-digits"
    page = (report / "report.md").read_text()
    assert "at all looks (8, 10, 12 seeds)" in page and "where the profile has" not in page
    assert "--profile digits --until-decided --max-seeds 12\n" in page
    assert page.count("| It is not. | 8 |") == page.count("| It is not. | 12 |") == 1
    assert page.count("| It is clear. | 8 |") == 1 and "| It is clear. | 10 |" not in page
    assert (report / "made_up_looks.png").stat().st_size > 10_000
    # What was published is judged by the same looks.
    study = load_study(words[0])
    again = present(from_tables(study, PROFILE, tmp_path / "runs/reports"))
    stored = present(from_store(study, PROFILE, tmp_path / "runs"))
    assert again.schedule == stored.schedule == PLAN
    assert [c.verdict for c in again.claims] == [c.verdict for c in stored.claims]


def test_a_dry_run_says_what_the_next_look_costs_and_the_most_at_all(tmp_path, words, capsys):
    fake_runs(Store(tmp_path / "runs"), design(PROFILE).recipes(range(8)).values(), top1)
    assert main([*words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "to do: 4 runs" in out
    assert (
        "made_up: these lead to the look at 10 seeds; with those of later looks, to 12 seeds, at "
        "most 8 runs" in out
    )
    assert not (tmp_path / "runs/looks").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seeds", "9"], "--until-decided goes by its schedule: --seeds has no place beside it"),
        (["--pilot", "9"], "--until-decided goes by its schedule: --pilot has no place beside it"),
        (["--max-seeds", "7"], "--max-seeds 7: the first look is at 8 seeds"),
    ],
)
def test_what_contradicts_the_schedule_is_refused_in_a_line(words, more, message, capsys):
    assert main([*words, *more]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("schedule", "looked", "more", "message"),
    [
        (
            "Schedule((7, 12), (0.15, 1.0))",
            False,
            [],
            "looks 7, 12: no result of 7 seeds has a p below 2^-6 = 0.016, but the first look may "
            "spend 0.0075",
        ),
        ("Schedule((8, 8), (0.5, 1.0))", False, [], "expected ascending numbers of seeds"),
        (
            "Schedule((8, 16), (0.5, 1.0))",
            True,
            [],
            "'made_up' was looked at by another schedule, at 8, 10, 12 seeds spending 0.4, 0.7, 1, "
            "where it has now 8, 16 spending 0.5, 1; a verdict needs one",
        ),
        (
            "Schedule((8, 10, 12), (0.4, 0.7, 1.0))",
            True,
            ["--max-seeds", "8"],
            "--max-seeds 8: the store was looked at with 10 seeds already",
        ),
    ],
)
def test_a_schedule_that_cannot_be_gone_by_is_refused_in_a_line(
    tmp_path, words, schedule, looked, more, message, capsys
):
    if looked:
        store = Store(tmp_path / "runs")
        for _ in range(2):
            filled(store, follow(store))
        looks.record(store.root, follow(store).path, "abc")
    stated = "Schedule((8, 10, 12), (0.4, 0.7, 1.0))"
    (tmp_path / "made_up.py").write_text(SOURCE.replace(stated, schedule))
    before = contents(tmp_path)
    for mode in ([], ["--dry-run"]):
        assert main([*words, *more, *mode]) == 2
        said = capsys.readouterr()
        assert said.out == "" and message in said.err and said.err.count("\n") == 1
        assert "Traceback" not in said.err
    assert contents(tmp_path) == before


def test_a_profile_states_a_schedule(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "digits"\nlooks = [8, 20]\nspending = [0.5, 1]\n')
    assert load_profile(str(path)).schedule == Schedule((8, 20), (0.5, 1.0))
    for text, message in [
        ("looks = [20, 8]\nspending = [0.5, 1]\n", "expected ascending numbers of seeds"),
        ("looks = [8, 20]\n", "spending 0.16, .*: expected 2 shares"),
        ("looks = [8, 9.5]\n", r"looks\[1\]=9\.5: expected a whole number from 1"),
    ]:
        path.write_text('extends = "digits"\n' + text)
        with pytest.raises(UserError, match=message):
            load_profile(str(path))
