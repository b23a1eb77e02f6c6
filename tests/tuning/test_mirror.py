"""A search in an Optuna storage: SQLite, and a real PostgreSQL server."""

import multiprocessing
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import postgres
import pytest
from searches import budget, do, finish, search

from ns_bench.errors import UserError
from ns_bench.search import main
from ns_bench.tuning.driver import Driver
from ns_bench.tuning.mirror import Mirror
from ns_bench.tuning.sampler import NUMBER
from ns_bench.tuning.trials import Search

pytestmark = pytest.mark.slow


def study_in(url: str, found: Search):
    import optuna

    name = f"{found.settings.id}/{found.slug}"
    return optuna.load_study(study_name=name, storage=url)


def trials_in(url: str, found: Search) -> list:
    return study_in(url, found).trials


def shows_each_ended_trial_once(url: str, found: Search) -> None:
    for trials in (4, 12):
        driver = Driver([found], budget(trials), Mirror(url, [found]).show)
        while tasks := driver.advance():
            for task in tasks:
                do(task)
        shown = trials_in(url, found)
        assert [t.user_attrs[NUMBER] for t in shown] == [t.number for t in shown]
        assert len(shown) == trials
        assert all(t.state.is_finished() for t in shown)
    standings = found.standings(found.trials())
    Mirror(url, [found]).show(found, standings)
    lasted = [trial.duration.total_seconds() for trial in trials_in(url, found)]
    assert lasted == pytest.approx([standing.seconds for standing in standings], abs=0.01)
    assert max(lasted) > 0 and study_in(url, found).metric_names == ["validation top-1 (%)"]


def test_a_trial_waits_for_those_before_it(tmp_path):
    """So that its number is the report's, whichever of a batch ends first."""
    found, url = search(tmp_path / "runs"), f"sqlite:///{tmp_path}/search.db"
    standings = finish(found, 4)
    mirror = Mirror(url, [found])
    mirror.show(found, [standings[0], replace(standings[1], state="running"), *standings[2:]])
    assert [trial.number for trial in trials_in(url, found)] == [0]
    mirror.show(found, standings)
    assert [trial.user_attrs[NUMBER] for trial in trials_in(url, found)] == [0, 1, 2, 3]


def test_sqlite_shows_each_ended_trial_once(tmp_path):
    shows_each_ended_trial_once(f"sqlite:///{tmp_path}/search.db", search(tmp_path / "runs"))


@pytest.mark.skipif(bool(postgres.missing()), reason=postgres.missing() or "installed")
def test_postgresql_shows_each_ended_trial_once(tmp_path):
    with postgres.server() as url:
        shows_each_ended_trial_once(url, search(tmp_path / "runs"))
        other = search(tmp_path / "other", seed=1)  # a second search beside it
        shows_each_ended_trial_once(url, other)
    with pytest.raises(UserError, match="cannot be used"):
        Mirror(url, [other])


def _add(url: str, root: Path, seed: int, gate: "Barrier") -> None:
    found = search(root, seed=seed)
    standings = finish(found, 4)
    gate.wait()
    Mirror(url, [found]).show(found, standings)


def test_searches_that_begin_at_once_share_a_fresh_sqlite(tmp_path):
    """Each makes the tables where there are none: all but the first ended with exit code 2."""
    url, context = f"sqlite:///{tmp_path}/search.db", multiprocessing.get_context("fork")
    import optuna  # noqa: F401 (once, for all of them)

    gate = context.Barrier(6)
    callers = [
        context.Process(target=_add, args=(url, tmp_path / "runs", seed, gate)) for seed in range(6)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [caller.exitcode for caller in callers] == [0] * 6
    for seed in range(6):
        assert len(trials_in(url, search(tmp_path / "runs", seed=seed))) == 4


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "x"])
def test_a_storage_that_does_not_stay_is_refused(url, tmp_path, capsys):
    words = ["soft_vs_hard", "--profile", "smoke", "--runs", str(tmp_path / "runs")]
    assert main([*words, "--storage", url, "--trials", "1"]) == 2
    said = capsys.readouterr().err
    assert f"--storage {url}: expected" in said and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_storage_that_goes_away_costs_no_trial(tmp_path):
    """The search ends with a line; the next call goes on, and the mirror has it all."""
    found, file = search(tmp_path / "runs"), tmp_path / "search.db"
    mirror = Mirror(f"sqlite:///{file}", [found])
    driver = Driver([found], budget(8), mirror.show)
    for task in driver.advance():
        do(task)
    content = file.read_bytes()
    file.write_bytes(b"not a database" * 1000)
    with pytest.raises(UserError, match="cannot be used"):
        while tasks := driver.advance():
            for task in tasks:
                do(task)
    file.write_bytes(content)
    finish(found, 8)
    Mirror(f"sqlite:///{file}", [found]).show(found, found.standings(found.trials()))
    assert len(trials_in(f"sqlite:///{file}", found)) == 8


def test_a_storage_of_another_study_or_space_is_refused(tmp_path):
    import optuna

    found = search(tmp_path / "runs")
    url = f"sqlite:///{tmp_path}/search.db"
    other = optuna.create_study(
        study_name=f"{found.settings.id}/{found.slug}", storage=url, direction="maximize"
    )
    other.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(UserError, match="belongs to another study or space"):
        Mirror(url, [found])
    assert len(trials_in(url, found)) == 1


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/to/be/found/search.db",
        "postgresql+psycopg://me:secret@127.0.0.1:1/none",
        "postgresqll://x",
        "what is this",
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_line_without_the_password(url, tmp_path, capsys):
    words = ["teacher_size", "--profile", "smoke", "--runs", str(tmp_path / "runs")]
    assert main([*words, "--storage", url]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("ns_bench: --storage ")
    assert "secret" not in said
    assert not list((tmp_path / "runs").glob("searches/*/*.json"))
