"""Measurements of finished runs: what they are, where they are kept, when they are made again."""

import itertools
import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from builders import present, seeing
from fakes import fake_result, fake_runs
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import TINY, contents, here
from sklearn.metrics import roc_auc_score

from ns_bench import study as study_command
from ns_bench.data import split
from ns_bench.design.definition import Arm, Claim, Design, Study, load_study, minus
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.execute.run_one import Interrupted, run_one
from ns_bench.execute.slurm import job
from ns_bench.recipe import Recipe
from ns_bench.report import page
from ns_bench.robustness import (
    CORRUPTIONS,
    EPSILONS,
    EXTRA,
    GROUPS,
    PERTURBATIONS,
    PGD_EPSILONS,
    groups,
)
from ns_bench.robustness.measure import auroc, measure, strangers
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import MODEL, Measured, Run, Store
from ns_bench.selftrain.models import build
from ns_bench.verdicts.analysis import analyse
from ns_bench.verdicts.pilot import needs, table_of
from ns_bench.verdicts.table import collect, read

pytestmark = pytest.mark.slow

FAST = {"train.epochs": 1, "train.batch_size": 10, "train.ratio": 1, "data.test": 20}
ALL = tuple(GROUPS)


def tiny(**fields) -> Recipe:
    return Recipe.of({"model": "micro-b0", **FAST, **fields})


# --- what is measured -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    recipe = tiny()
    dataset = split.load(recipe.data, 0)
    return seeing(build("micro-b0", 1, 10, 0, 0), dataset), dataset


@pytest.mark.parametrize("group", ["corruption", "adversarial", "out_of_domain"])
def test_measurements_are_percentages_and_repeat_themselves(group, network):
    net, dataset = network
    found = measure(group, net, dataset, 0, lambda: None)
    assert all(-100 <= value <= 100 for value in found.values())
    torch.manual_seed(123)  # draws have streams of their own
    assert measure(group, net, dataset, 0, lambda: None) == found
    if group == "corruption":
        assert {*CORRUPTIONS} < found.keys()
        mean = sum(found[name] for name in CORRUPTIONS) / 15
        assert found["top1"] == pytest.approx(mean)
        assert found["top1"] == pytest.approx(sum(found[f"severity_{s}"] for s in range(1, 6)) / 5)
        parts = 4 * found["overlapping_top1"] + 11 * found["other_top1"]
        assert parts / 15 == pytest.approx(mean)
        clean = found["top1"] + found["drop"]
        assert clean == pytest.approx(found["other_top1"] + found["other_drop"])
    if group == "adversarial":
        names = [f"fgsm_{e}" for e in EPSILONS] + [f"pgd_{e}" for e in PGD_EPSILONS]
        assert list(found) == names


def test_a_network_of_one_opinion_never_flips(network, monkeypatch):
    _, dataset = network
    monkeypatch.setattr(
        "ns_bench.robustness.measure.predict",
        lambda net, images, *_: torch.eye(10)[[3] * len(images)],
    )
    found = measure("perturbation", build("micro-b0", 1, 10, 0, 0), dataset, 0, lambda: None)
    assert found == {"flips": 0.0, **dict.fromkeys(PERTURBATIONS, 0.0)}


def test_every_arm_of_a_seed_sees_the_same_images(network, monkeypatch):
    """Another network, other images of the seed? No: what is predicted on is the same."""
    _, dataset = network
    seen: list[list[torch.Tensor]] = []

    def watched(net, images, *rest):
        seen[-1].append(images)
        return torch.zeros(len(images), 10)

    monkeypatch.setattr("ns_bench.robustness.measure.predict", watched)
    for model, seed in [("micro-b0", 0), ("micro-b1", 0), ("micro-b0", 1)]:
        seen.append([])
        net = build(model, 1, 10, seed, 0)
        for group in ("corruption", "out_of_domain"):
            measure(group, net, dataset, seed, lambda: None)
    first, second, other = seen
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_auroc_is_the_usual_one_with_ties(positive, negative):
    expected = roc_auc_score([1] * len(positive) + [0] * len(negative), positive + negative)
    assert auroc(torch.tensor(positive) / 5, torch.tensor(negative) / 5) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(7, 1, 8, 8), (3, 3, 32, 32), (2, 3, 96, 96)])
def test_strangers_fit_any_images(shape):
    images = torch.zeros(shape, dtype=torch.uint8)
    drawn = strangers(images.shape, 10, 0)
    assert drawn.shape == shape and drawn.dtype == torch.uint8
    assert torch.equal(drawn, strangers(images.shape, 10, 0))
    assert not torch.equal(drawn, strangers(images.shape, 10, 1))


# --- where it is kept -----------------------------------------------------------------------


def kept(run: Run, *names: str, value: float = 50.0) -> None:
    for group in names or run.wanted:
        run.keep(group, Measured({"top1": value, "drop": 100 - value}, 1.5))


def test_a_run_is_unmeasured_until_it_has_what_is_wanted(tmp_path):
    store = Store(tmp_path / "runs")
    run = store.run(tiny(), ("corruption", "adversarial"))
    assert run.state() == "missing"
    fake_result(run)
    assert run.state() == "unmeasured" and store.run(run.recipe).state() == "done"
    kept(run, "corruption")
    assert run.unmeasured == ["adversarial"] and run.state() == "unmeasured"
    kept(run, "adversarial")
    assert run.state() == "done"
    assert run.measured("corruption") == Measured({"top1": 50.0, "drop": 50.0}, 1.5)
    fake_result(run, model=b"other weights")
    assert run.state() == "unmeasured", "it is of the weights that were there"


def test_a_measurement_that_failed_is_in_the_way_of_no_other(tmp_path):
    store = Store(tmp_path / "runs")
    run = store.run(tiny(), ("corruption", "adversarial"))
    fake_result(run)
    kept(run, "corruption")
    run.fail("no memory", "")
    assert run.state() == "failed" and store.run(run.recipe, ("adversarial",)).state() == "failed"
    assert store.run(run.recipe, ("out_of_domain",)).state() == "unmeasured"
    assert store.run(run.recipe).state() == "done"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"version": 1', '"version": 0'),
        lambda text: text.replace("50.0", "NaN"),
        lambda text: text.replace('"values"', '"value"'),
        lambda text: "[]",
        lambda text: "",
    ],
)
def test_a_damaged_measurement_counts_as_none(damage, tmp_path):
    run = Store(tmp_path / "runs").run(tiny(), ("corruption",))
    fake_result(run)
    kept(run)
    path = run.path / "measured-corruption.json"
    path.write_text(damage(path.read_text()))
    assert run.measured("corruption") is None and run.state() == "unmeasured"


def test_measurements_of_a_damaged_result_count_as_none(tmp_path):
    run = Store(tmp_path / "runs").run(tiny(), ("corruption",))
    fake_result(run)
    kept(run)
    (run.path / "result.json").write_text("{")
    assert run.measured("corruption") is None and run.unmeasured == ["corruption"]
    assert run.state() == "partial"


def test_a_plan_wants_measurements_of_arms_and_not_of_their_teachers(tmp_path):
    store = Store(tmp_path / "runs")
    teacher = tiny()
    student = Recipe.of({"model": "micro-b0", **FAST}, teacher)
    fake_runs(store, [student])
    wanted = {student.id: ("corruption",)}
    plan = make_plan(store, [student], wanted)
    assert plan.states == {teacher.id: "done", student.id: "unmeasured"}
    assert [run.id for run in plan.missing] == [student.id]
    assert plan.missing[0].wanted == ("corruption",)
    kept(plan.missing[0])
    assert not make_plan(store, [student], wanted).missing
    assert make_plan(store, [teacher, student], {teacher.id: ALL, **wanted}).counts() == {
        "unmeasured": 1,
        "done": 1,
    }


def test_a_teacher_of_which_a_measurement_failed_still_teaches(tmp_path):
    store = Store(tmp_path / "runs")
    teacher = tiny()
    student = Recipe.of({"model": "micro-b0", **FAST}, teacher)
    fake_runs(store, [teacher])
    store.run(teacher).fail("no memory", "")
    plan = make_plan(store, [teacher, student], {teacher.id: ("corruption",)})
    assert plan.states == {teacher.id: "failed", student.id: "missing"}
    # in a job, too: what is only to be measured needs no teacher, who measures may teach
    measuring = store.run(teacher, ("corruption",))
    measuring.forgive()
    todo, unfit = job._sort([measuring, store.run(student)])
    assert [run.id for run in todo] == [teacher.id, student.id] and not unfit


# --- when it is made ------------------------------------------------------------------------


def test_run_one_trains_and_measures_only_what_is_missing(tmp_path, monkeypatch):
    store = Store(tmp_path / "runs")
    plain = store.run(tiny())
    run_one(plain)
    assert not list(plain.path.glob("measured-*"))
    before = contents(plain.path)
    run = store.run(plain.recipe, ("adversarial", "out_of_domain"))
    assert run.state() == "unmeasured"
    run_one(run)
    assert run.state() == "done"
    first = present(run.measured("adversarial"))
    clean = present(run.result()).test["top1"]
    assert first.values["fgsm_0"] == pytest.approx(clean), "by the published weights, as evaluated"
    after = contents(plain.path)
    new = {"measured-adversarial.json", "measured-out_of_domain.json"}
    assert {name: after[name] for name in after.keys() - new} == before, "nothing else changed"

    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("ns_bench.robustness.measure.measure", refuse)
    run_one(run)
    monkeypatch.undo()
    (run.path / "measured-adversarial.json").write_text("{")
    run_one(run)
    assert present(run.measured("adversarial")).values == first.values
    entry = json.loads((run.path / "measured-adversarial.json").read_text())
    weights = present(run.result()).artifacts[MODEL]
    assert entry["model"] == weights["sha256"] and entry["seconds"] > 0


def test_damaged_weights_are_trained_again_before_they_are_measured(tmp_path):
    """Of the same size they look whole; measuring them failed for ever."""
    run = Store(tmp_path / "runs").run(tiny(), ("adversarial",))
    run_one(Run(run.recipe, run.path))
    before = (run.path / MODEL).read_bytes()
    (run.path / MODEL).write_bytes(bytes(len(before)))
    run_one(run)
    assert run.state() == "done" and (run.path / MODEL).read_bytes() == before
    assert any("done again: the checksum" in line.get("event", "") for line in run.metrics())


def test_a_stop_keeps_the_groups_that_are_measured(tmp_path, monkeypatch):
    """A run asks once a second whether to stop: by this clock at every sign of life."""
    run = Store(tmp_path / "runs").run(tiny(), ("adversarial", "corruption"))
    run_one(Store(tmp_path / "runs").run(run.recipe))
    clock = SimpleNamespace(monotonic=partial(next, itertools.count(1)))
    monkeypatch.setattr("ns_bench.execute.run_one.time", clock)
    with pytest.raises(Interrupted):
        run_one(run, should_stop=lambda: (run.path / "measured-adversarial.json").exists())
    assert run.unmeasured == ["corruption"] and run.state() == "unmeasured"
    assert not (run.path / "failure.json").exists()


# --- what is made of it ---------------------------------------------------------------------


def two_arms(profile):
    arms = [Arm(n, profile.supervised("small", train__epochs=i + 1)) for i, n in enumerate("ab")]
    claim = Claim("It drops less.", (minus("a", "b"),), 1.0, metric="corruption_drop")
    return Design(arms, "a", [claim])


MINE = Study("mine", "Which?", "epochs", two_arms, "nowhere", metrics=("corruption",))


def analysed(store: Store, wanted: tuple[str, ...], seeds: int = 8):
    profile = load_profile("digits")
    design = MINE.design(profile)
    recipes = design.recipes(range(seeds))
    plan = make_plan(store, recipes.values(), {r.id: wanted for r in recipes.values()})
    tables = collect(design, plan, seeds)
    return analyse(MINE, profile, design, *tables, seeds)


@pytest.fixture
def store(tmp_path) -> Store:
    """Eight seeds of two arms; b drops 5 points less. All are measured."""
    store = Store(tmp_path / "runs")
    recipes = two_arms(load_profile("digits")).recipes(range(8))
    fake_runs(store, recipes.values())
    for (arm, seed), recipe in recipes.items():
        run = store.run(recipe)
        wobble = 0.1 * (seed % 3)
        names = {"top1": 60 + wobble, "drop": 30 - 5 * (arm == "b") + wobble, "ece": 9.0}
        names |= {"overlapping_drop": 20.0, "other_drop": 31.0}
        names |= dict.fromkeys((*CORRUPTIONS, *EXTRA), 60.0 + 10 * (arm == "b"))
        names |= {f"severity_{s}": 70.0 - s for s in range(1, 6)}
        run.keep("corruption", Measured(names, 2.0))
    return store


def test_a_claim_is_judged_on_its_metric(store):
    analysis = analysed(store, ("corruption",))
    (result,) = analysis.claims
    assert result.verdict.word == "reproduced" and result.contrast.mean == pytest.approx(5)
    assert analysis.arms[1].difference.mean == 0, "top-1 is the same"
    recipes = two_arms(load_profile("digits")).recipes(range(8))
    plan = make_plan(store, recipes.values(), {r.id: ("corruption",) for r in recipes.values()})
    tables = {name: table_of(plan, recipes, name) for name in ("top1", "corruption_drop")}
    (need,) = needs(MINE.design(load_profile("digits")), tables, 8)
    assert need.n == 8 and need.sd == pytest.approx(0, abs=1e-9)


def test_what_is_not_measured_is_said_and_judged_by_nothing(store):
    recipe = two_arms(load_profile("digits")).recipes([7])["b", 7]
    (store.run(recipe).path / "measured-corruption.json").unlink()
    analysis = analysed(store, ("corruption",))
    (result,) = analysis.claims
    assert result.verdict.word == "inconclusive" and result.n == 7
    assert [run.state for run in analysis.unfinished] == ["unmeasured"]
    assert analysis.arms[1].n == 8, "its top-1 is known"
    assert "Incomplete: 1 unmeasured" in page.markdown(analysis)


def test_the_report_has_what_was_asked_for_and_nothing_else(store, tmp_path):
    without = analysed(store, ())
    assert without.metrics == ()
    said = page.markdown(without)
    assert "Robustness" not in said and "--metrics" not in said
    assert not any(column.startswith("test_corruption") for column in without.runs)

    analysis = analysed(store, ("corruption",))
    said = page.markdown(analysis)
    assert "| b | 8/8 | 60.09" in said and "**Corruptions by arm**" in said
    assert "| fog | 40.00 (100.00) | 30.00 (75.00) |" in said, "errors, and relative to a's"
    assert "75.00 |" in said.split("Corruptions by arm")[1], "mCE of b"
    assert "--metrics" not in said, "the study asks for them itself"
    analysis.runs.to_csv(tmp_path / "runs.csv", index=False)
    analysis.curves.to_csv(tmp_path / "curves.csv", index=False)
    runs, curves = read(tmp_path)
    profile = load_profile("digits")
    again = analyse(MINE, profile, MINE.design(profile), runs, curves, 8)
    assert page.markdown(again) == said, "from its tables alone"
    assert again.runs.to_csv(index=False) == (tmp_path / "runs.csv").read_text()


def test_the_study_of_robustness_is_judged_and_shown(tmp_path):
    """Of made-up measurements: the noisy student is better at everything."""
    robust, profile = load_study("robustness"), load_profile("digits")
    design = robust.design(profile)
    recipes = design.recipes(range(8))
    store = Store(tmp_path / "runs")
    fake_runs(store, recipes.values())
    corruption = [*CORRUPTIONS, *EXTRA, *(f"severity_{s}" for s in range(1, 6)), "top1", "ece"]
    drops = ["drop", "overlapping_drop", "other_drop"]
    attacks = [*(f"fgsm_{e}" for e in EPSILONS), *(f"pgd_{e}" for e in PGD_EPSILONS)]
    names = {
        "corruption": ([*corruption], drops),
        "perturbation": ([], ["flips", *PERTURBATIONS]),
        "adversarial": (attacks, []),
        "out_of_domain": (["auroc", "confidence_in_domain"], ["confidence"]),
    }
    for (arm, seed), recipe in recipes.items():
        gain = 4.0 * (arm == "noisy student") + 0.1 * seed
        for group, (more, less) in names.items():
            values = dict.fromkeys(more, 60 + gain) | dict.fromkeys(less, 30 - gain)
            store.run(recipe).keep(group, Measured(values, 1.0))
    plan = make_plan(store, recipes.values(), {r.id: ALL for r in recipes.values()})
    analysis = analyse(robust, profile, design, *collect(design, plan, 8), 8)
    *claims, natural = analysis.claims
    assert [result.verdict.word for result in claims] == ["reproduced"] * 6
    assert natural.verdict.word == "not testable"
    halvings = np.mean([np.log2((30 - seed / 10) / (26 - seed / 10)) for seed in range(8)])
    means = [present(result.contrast).mean for result in claims]
    assert means == pytest.approx([4, halvings, 4, 4, 4, 4])
    said = page.markdown(analysis)
    for title in ("Corruptions", "Perturbations by arm", "Top-1 under attack", "out of domain"):
        assert title in said
    assert "+4.00 [+4.00, +4.00] points of drop" in said and "halvings of flips" in said
    assert "| NST L2 224px | mce | 30.00 | v4 |" in said, "the paper's rows"
    assert len(page.tables(analysis)) == 2 + 7


def test_a_group_that_there_is_not_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert study_command.main(["noise", "--metrics", "corruption,adverserial"]) == 2
    said = capsys.readouterr().err
    assert said == "ns_bench: unknown group of metrics 'adverserial': did you mean 'adversarial'?\n"
    assert not list(tmp_path.iterdir())


def test_groups_are_named_once_in_one_order():
    assert groups(["adversarial", "corruption", "adversarial"]) == ("corruption", "adversarial")
    assert groups([]) == ()
    with pytest.raises(UserError, match="did you mean 'perturbation'"):
        groups(["pertubation"])


def test_claims_of_the_study_are_about_what_it_measures():
    robust = load_study("robustness")
    design = robust.design(load_profile("digits"))
    testable = [claim for claim in design.claims if not claim.untestable]
    assert 1 <= len(testable) <= 6
    for claim in testable:
        assert claim.metric.startswith(robust.metrics), claim.metric


# --- end to end -----------------------------------------------------------------------------


def test_a_finished_study_is_measured_without_training(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ns_bench.design.definition import Arm, Design, Study, difference\n"
        "def design(p):\n"
        "    teacher = p.supervised('small')\n"
        "    arms = [Arm('teacher', teacher), Arm('student', p.student('small', teacher))]\n"
        "    claim = difference('Safer.', 'student', 'teacher', 1, metric='adversarial_fgsm_8')\n"
        "    return Design(arms, 'teacher', [claim])\n"
        "STUDY = Study('mine', 'Safer?', 'labels', design, 'none')\n"
    )
    words = ["mine.py", *TINY, "--set", "data.test=40"]
    first = here(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    trained = {p: p.read_bytes() for p in (tmp_path / "runs").glob("*/result.json")}
    assert len(trained) == 2
    report = tmp_path / "runs/reports/mine-smoke"
    assert not any("adversarial" in str(c) for c in pd.read_csv(report / "runs.csv"))

    wish = [*words, "--metrics", "out_of_domain,adversarial"]
    planned = here(*wish, "--dry-run", cwd=tmp_path)
    assert "2 unmeasured" in planned.stdout and "to do: 0 runs" in planned.stdout
    assert (
        "to measure: adversarial of 2 runs, out_of_domain of 2 runs; the hours above are without it"
    ) in planned.stdout

    done = here(*wish, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(path.read_bytes() == before for path, before in trained.items())
    runs = pd.read_csv(report / "runs.csv")
    assert runs["test_adversarial_fgsm_8"].notna().all()
    assert runs["test_adversarial_fgsm_0"].tolist() == pytest.approx(runs["test_top1"].tolist())
    assert runs["test_out_of_domain_auroc"].between(0, 100).all()
    said = (report / "report.md").read_text()
    assert "Top-1 under attack" in said and "--metrics adversarial,out_of_domain" in said
