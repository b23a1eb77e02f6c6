"""The report of a search: what it says is what the trials are."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from builders import present
from searches import SPACE, finish, search

from ns_bench.recipe import dotted
from ns_bench.report import markdown
from ns_bench.report.search import content, importances, recipe_toml, write
from ns_bench.tuning.space import load_space
from ns_bench.tuning.trials import best_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    found = search(tmp_path_factory.mktemp("runs"), batch=8, seeds=3)
    return found, finish(found, 48)


def test_the_same_trials_give_the_same_bytes_in_every_format(done, tmp_path):
    found, standings = done
    pages = [write(found, standings, tmp_path / name) for name in "ab"]
    files = [{p.name: p.read_bytes() for p in page.parent.iterdir()} for page in pages]
    assert files[0] == files[1]
    assert files[0].keys() >= {"search.md", "search.html", "trials.csv", "best.toml"}
    assert files[0].keys() >= {f"{n}.{s}" for n in ("history", "slices") for s in ("png", "svg")}
    html = files[0]["search.html"].decode()
    assert html.count("<svg") >= 2
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_the_best_recipe_as_a_file_is_the_best_trials(done):
    found, standings = done
    best = present(best_of(standings))
    fields = dotted(tomllib.loads(recipe_toml(found, best)))
    assert found.recipe.set(fields) == best.recipe
    text = markdown.render(content(found, standings))
    for name, value in fields.items():
        assert f"--set {name}={value}" in text


def test_the_table_has_every_trial(done, tmp_path):
    found, standings = done
    table = pd.read_csv(write(found, standings, tmp_path).parent / "trials.csv")
    assert list(table["trial"]) == list(range(48))
    assert list(table["state"]) == [s.state for s in standings]
    assert table.loc[table["state"] == "complete", "seeds"].eq(3).all()


def test_the_own_recipes_place_is_counted(done):
    found, standings = done
    complete = [s.score for s in standings if s.state == "complete"]
    place = 1 + sum(score > standings[0].score for score in complete)
    said = markdown.render(content(found, standings))
    assert f"is number {place} of {len(complete)} complete trials" in " ".join(said.split())


def test_importances_find_what_matters(done):
    found, standings = done
    shares = importances(found, standings)
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) != "train.ema"  # which changes nothing here
    assert importances(found, standings[:3]) == {}


def test_fields_that_are_left_alone_are_named(tmp_path):
    extra = load_space({"pseudo.threshold": {"low": 0.0, "high": 0.9}}, "here")
    found = search(tmp_path, space=(*SPACE, *extra), seeds=1)
    text = markdown.render(content(found, finish(found, 4)))
    assert "python -m ns_bench.study soft_vs_hard --profile smoke \\" in text
    given = replace(found, words="mine.py --profile own.toml", changed={"train.epochs": 5})
    again = markdown.render(content(given, finish(given, 4)))
    assert "ns_bench.study mine.py --profile own.toml \\" in again
    assert "  --set train.epochs=5" in again
    assert "train.epochs = 5\n" in recipe_toml(given, present(best_of(finish(given, 4))))
    assert "Left as they are" in text
    assert "pseudo.threshold" in text


def test_a_front_is_shown_with_two_objectives(tmp_path):
    space = tuple(load_space({"train.epochs": {"low": 2, "high": 40}}, "here"))
    found = search(tmp_path, space=space, objectives=("accuracy", "cost"), pruning="none", seeds=1)
    standings = finish(found, 12, lambda r: 60 + r.train.epochs**0.5)
    write(found, standings, Path(tmp_path) / "page")
    text = markdown.render(content(found, standings))
    assert "Pareto front" in text
    assert text.count("\n| ") >= len(standings)
