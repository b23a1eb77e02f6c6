"""`python -m ns_bench.report` on made-up tables: the scorecard, exit codes and bad input."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import fake_runs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pages import analysis, filled
from processes import contents

from ns_bench.design import definition
from ns_bench.design.profile import load_profile
from ns_bench.report import blocks, findings, forest, markdown, scorecard, side_by_side
from ns_bench.report.__main__ import main
from ns_bench.runs.store import Store
from ns_bench.verdicts import statistics
from ns_bench.verdicts.analysis import analyse

pytestmark = pytest.mark.slow

SEEDS = 8
WIGGLE = np.array([0.1, -0.2, 0.3, 0.0, -0.1, 0.2, -0.35, 0.05])
SCALES = ["digits", "glyphs", "cifar10", "svhn"]
TRENDING = "A larger teacher gives a better student."
NOT_WORSE = "Leaving out unsure images (below 0.3) is no worse than using all of them."

# Test top-1 by arm, added to half of the seed modulo 8; arms without one get the student's 92.
GAINS = {"supervised": 88.0, "large teacher": 93.5, "medium teacher": 92.9}


def table(name: str, profile: str = "digits", seeds: int | None = None) -> pd.DataFrame:
    """Made-up runs of a shipped study with the ids that it gives them, at as many seeds."""
    seeds = seeds or definition.load_study(name).seeds.get(profile, SEEDS)
    design = definition.load_study(name).design(load_profile(profile))
    arms = [arm.name for arm in design.arms]
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "run": recipe.id,
            "model": recipe.model,
            "state": "done",
            "test_top1": GAINS.get(arm, 92.0) + seed % 8 / 2 + WIGGLE[(seed + arms.index(arm)) % 8],
            "reason": "",
        }
        for (arm, seed), recipe in design.recipes(range(seeds)).items()
    ]
    return pd.DataFrame(rows)


def put(folder: Path, name: str, runs: pd.DataFrame, profile: str = "digits") -> None:
    place = folder / f"{name}-{profile}"
    place.mkdir(parents=True, exist_ok=True)
    runs.to_csv(place / "runs.csv", index=False)


@pytest.fixture
def one(tmp_path) -> Path:
    """Tables of one study."""
    put(tmp_path / "published", "teacher_size", table("teacher_size"))
    return tmp_path / "published"


@pytest.fixture
def published(one) -> Path:
    """And of another."""
    put(one, "confidence_threshold", table("confidence_threshold"))
    return one


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "scorecard.csv").set_index(["claim", "profile"])


def row(folder: Path, profile: str = "digits", claim: str = TRENDING) -> pd.Series:
    found = rows(folder).xs((claim, profile))
    assert isinstance(found, pd.Series)
    return found


def refused(capsys, *words) -> str:
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("ns_bench: ") and err.count("\n") == 1
    return err


def test_the_scorecard_has_every_finding_with_its_numbers(published, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["all", "--from", str(published), "--out", str(out)]) == 0
    assert f"scorecard: {out / 'scorecard.md'}" in capsys.readouterr().out
    found = rows(out)
    assert list(found["study"]) == ["confidence_threshold"] * 3 + ["teacher_size"] * 4
    runs = table("teacher_size").pivot(index="seed", columns="arm", values="test_top1")
    slope = (runs["large teacher"] - runs["small teacher"]) / 2
    ours = row(out)
    # Of 8 seeds and 4 claims: a shift that all slopes are above or below is rejected, no other.
    bounds = (slope.mean(), slope.min(), slope.max())
    assert (ours["effect"], ours["low"], ours["high"]) == pytest.approx(bounds, abs=1e-5)
    assert (ours["n"], ours["seeds"], ours["unit"]) == (8, 8, "points a step")
    assert (ours["verdict"], ours["p_holm"]) == ("reproduced", 4 * 2 / 2**8)
    assert (ours["paper_effect"], ours["paper_versions"]) == (0.7, "v4 v2")
    assert set(found["verdict"]) == {"reproduced"}
    assert row(out, claim=NOT_WORSE)["kind"] == "not worse"
    assert "above 0.3" in found["weakest_contrast"].iloc[0]
    page = (out / "scorecard.md").read_text()
    assert "- digits: 7 reproduced" in page and "![" in page
    assert "[teacher_size](teacher_size-digits/report.md)" in page
    assert "+0.70 [v4, v2]; first to last teacher, not a step" in page
    assert (out / "teacher_size-digits/report.md").exists()
    assert (out / "scorecard.png").read_bytes().startswith(b"\x89PNG")
    drawn = (out / "scorecard.svg").read_text()
    for text in ("digits: reproduced, n = 8/8", "the paper: +0.80 [v4]", TRENDING[:20]):
        assert text in drawn


def test_no_text_of_the_figure_covers_another_or_leaves_it():
    analyses = []
    for name in ("iterations", "student_size", "confidence_threshold"):
        for profile, seeds in (("digits", SEEDS), ("smoke", 2)):
            study, scale = definition.load_study(name), load_profile(profile)
            runs = table(name, profile, seeds)
            analyses.append(analyse(study, scale, study.design(scale), runs, pd.DataFrame(), seeds))
    drawn = forest.draw(analyses)
    FigureCanvasAgg(drawn).draw()
    (axes,) = drawn.axes
    boxes = [text.get_window_extent() for text in [*axes.texts, *drawn.texts]]
    assert len(boxes) > 30
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= drawn.bbox.x1 and 0 <= box.y0 < box.y1 <= drawn.bbox.y1
        assert box.x1 < axes.bbox.x0 or box.x0 > axes.bbox.x1 or box.y0 > axes.bbox.y1
    # Neighbouring lines may touch: what counts is that no two print over each other.
    assert not any(
        min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) - max(a.y0, b.y0) > 4
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    )


def test_claims_of_ours_are_counted_apart_and_later_ones_marked(tmp_path):
    for name in ("noise", "balancing"):
        put(tmp_path / "published", name, table(name))
    out = tmp_path / "out"
    assert main(["all", "--from", str(tmp_path / "published"), "--out", str(out)]) == 0
    found = rows(out).loc[:, ["in_paper", "stated"]]
    ours = found[~found["in_paper"]]
    assert list(ours.index.get_level_values("claim")) == [
        "Augmentation carries the most: leaving it out costs more than either other noise.",
        "Noise on labeled images helps, too.",
    ]
    page = (out / "scorecard.md").read_text()
    assert re.search(r"^- digits: \d+ .*; not in the paper: [12] ", page, re.MULTILINE)
    (later,) = [line for line in page.splitlines() if "no difference to the large" in line]
    assert "; stated after seeds 0 to 7 had been run" in later
    assert page.count("stated after seeds 0 to 7") == 1
    assert page.count("stated after seeds 0 to 22") == 1


@pytest.mark.parametrize("profiles", [["digits"], ["digits", "svhn", "smoke"], SCALES])
def test_effects_of_several_profiles_are_compared_and_pooled_from_four_on(profiles):
    analyses = []
    for name in profiles:
        study, scale = definition.load_study("teacher_size"), load_profile(name)
        runs = table("teacher_size", name, SEEDS)
        analyses.append(analyse(study, scale, study.design(scale), runs, pd.DataFrame(), SEEDS))
    found = side_by_side.blocks(analyses)
    if len(profiles) == 1:
        assert found == []
        return
    compared = found[1]
    assert isinstance(compared, blocks.Table)
    judged = sorted(name for name in profiles if name != "smoke")
    pooled = ["pooled"] if len(judged) >= 4 else []
    assert compared.header == ["study", "claim", *judged, "Q", "p", "tau", *pooled]
    assert [row[1] for row in compared.rows].count(TRENDING) == 1
    for row in compared.rows:
        # the same points at other numbers of test images: nearly the same log odds
        q, p, tau, *more = map(str, row[2 + len(judged) :])
        assert float(q) < 0.1 and float(p) > 0.5 and tau == "0.00"
        assert len(more) == len(pooled) and all(mean.startswith("+") for mean in more)


def test_profiles_stand_side_by_side(one, tmp_path):
    put(one, "teacher_size", table("teacher_size", "smoke", 2), "smoke")
    out = tmp_path / "out"
    usual = ["all", "--from", str(one), "--out", str(out)]
    assert main([*usual, "--profile", "digits", "--profile", "smoke"]) == 0
    page = (out / "scorecard.md").read_text()
    header = next(line for line in page.splitlines() if line.startswith("| study"))
    assert header.index("digits") < header.index("smoke")
    line = next(line for line in page.splitlines() if TRENDING in line)
    assert "8/8" in line and "2/2" in line and "no verdict" in line and "smoke/report.md" in line
    assert row(out, "smoke")["verdict"] == "no verdict"
    assert "smoke: no verdict, n = 2/2" in (out / "scorecard.svg").read_text()
    shutil.rmtree(out)
    assert main(usual) == 0  # a trial run only where it is asked for
    assert "smoke" not in (out / "scorecard.md").read_text()


def test_written_again_from_its_own_tables_it_has_the_same_bytes(one, tmp_path):
    runs = [["all", "--from", str(one), "--out", str(tmp_path / "a")]]
    runs += [["all", "--from", str(tmp_path / "a"), "--out", str(tmp_path / "b")]]
    assert [main(words) for words in runs] == [0, 0]
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert main(["all", "--from", str(tmp_path / "a")]) == 0  # in place
    assert first == contents(tmp_path / "a")


def test_a_missing_run_withholds_the_verdict(one, tmp_path):
    runs = table("teacher_size")
    lost = (runs["arm"] == "large teacher") & (runs["seed"] == 5)
    runs.loc[lost, "test_top1"], runs.loc[lost, "state"] = np.nan, "missing"
    put(one, "teacher_size", runs)
    out = tmp_path / "out"
    assert main(["all", "--from", str(one), "--out", str(out)]) == 0
    ours = row(out)
    assert (ours["n"], ours["seeds"], ours["verdict"]) == (7, 8, "inconclusive")
    page = (out / "scorecard.md").read_text()
    assert "teacher_size · digits is incomplete:** 1 missing" in page and "n = 7/8" in page
    assert "digits: inconclusive, n = 7/8" in (out / "scorecard.svg").read_text()


def test_rows_that_are_not_there_at_all_count_as_missing(one, tmp_path):
    put(one, "teacher_size", table("teacher_size", seeds=6))
    assert main(["all", "--from", str(one), "--out", str(tmp_path / "out")]) == 0
    found = row(tmp_path / "out")
    assert (found["n"], found["seeds"], found["verdict"]) == (6, 8, "inconclusive")


def test_a_failed_run_is_named_and_makes_the_exit_code_1(one, tmp_path):
    runs = table("teacher_size")
    runs.loc[3, "test_top1"] = np.nan
    runs.loc[3, "state"], runs.loc[3, "reason"] = "failed", "Diverged: <b>"
    put(one, "teacher_size", runs)
    out = tmp_path / "out"
    assert main(["all", "--from", str(one), "--out", str(out)]) == 1
    page = (out / "scorecard.md").read_text()
    assert f"> **1 failed:** `{runs['run'][3]}`." in page
    assert "Diverged: &lt;b>" in (out / "teacher_size-digits/report.md").read_text()
    assert main(["teacher_size", "--from", str(one), "--out", str(out)]) == 1


def test_from_a_store_which_is_only_read(tmp_path):
    store = Store(tmp_path / "runs")
    design = definition.load_study("teacher_size").design(load_profile("digits"))
    fake_runs(store, design.recipes(range(SEEDS)).values(), lambda r: 88 + 4 * bool(r.teacher))
    before = contents(tmp_path / "runs")
    out = tmp_path / "out"
    words = ["teacher_size", "--runs", str(tmp_path / "runs")]
    assert main([*words, "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {"teacher_size-digits"}  # a scorecard is of all
    assert contents(tmp_path / "runs") == before
    assert main(words) == 0
    assert contents(tmp_path / "runs/reports") == contents(out)
    again = tmp_path / "again"
    assert main(["teacher_size", "--from", str(out), "--out", str(again)]) == 0
    assert contents(again) == contents(out)


def test_nothing_is_trained_so_torch_is_not_imported(one, tmp_path):
    code = (
        "import sys; from ns_bench.report.__main__ import main; "
        f"code = main(['all', '--from', {str(one)!r}, '--out', {str(tmp_path / 'o')!r}]); "
        "sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_and_refusals_do_not_wait_for_pandas():
    code = (
        "import sys; from ns_bench.report.__main__ import main; code = main(['teacher_sise']); "
        "sys.exit(code + 10 * ('pandas' in sys.modules or 'matplotlib' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ("ns_bench: unknown study 'teacher_sise': did you mean 'teacher_size'?\n")


def test_bad_input_is_one_line(published, tmp_path, capsys):
    start = ["all", "--from", published]
    assert "did you mean 'digits'" in refused(capsys, *start, "--profile", "digitz")
    assert "no such folder" in refused(capsys, "all", "--runs", tmp_path / "nowhere")
    assert "no such folder" in refused(capsys, "all", "--from", tmp_path / "nowhere")
    assert "no results of all in profile smoke" in refused(capsys, *start, "--profile", "smoke")
    (tmp_path / "empty").mkdir()
    assert "no results of all" in refused(capsys, "all", "--runs", tmp_path / "empty")
    assert "no results of all" in refused(capsys, "all", "--from", tmp_path / "empty")
    put(published, "batch_size", table("teacher_size"))
    assert "unknown arm of study 'batch_size' 'small teacher'" in refused(capsys, *start)
    put(published, "batch_size", pd.DataFrame({"a": [1]}))
    assert "not a table of runs" in refused(capsys, *start)
    (published / "batch_size-digits/runs.csv").unlink()
    assert "there is no such file" in refused(capsys, *start)
    assert not list(tmp_path.glob("**/scorecard*"))
    shutil.rmtree(published / "batch_size-digits")
    (tmp_path / "file").write_text("")
    assert main([*map(str, start), "--out", str(tmp_path / "file")]) == 2


def test_results_of_no_study_are_pointed_out(one, tmp_path, capsys):
    put(one, "forgotten", table("teacher_size"))
    assert main(["all", "--from", str(one), "--out", str(tmp_path / "out")]) == 0
    assert "forgotten-digits is of no study and profile" in capsys.readouterr().err


MINE = """
from ns_bench.design.definition import Arm, Design, Study, difference, untestable

def design(profile):
    arms = [Arm(name, profile.supervised("small", train__epochs=i + 1))
            for i, name in enumerate(["NA", "<b>|[x](y)$z$"])]
    claims = [
        difference("<script>|$5$ [a](b)", arms[1].name, arms[0].name, 1.0, note="<i>"),
        untestable("Not here.", "there is <nothing>"),
        untestable("Not here.", "once more"),
    ]
    return Design(arms, "NA", claims)

STUDY = Study("mine", "<u>?", "x", design, "y")
"""


def test_names_stay_text(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    study = definition.load_study(str(tmp_path / "mine.py"))
    monkeypatch.setattr("ns_bench.design.definition.study_names", lambda: ["mine"])
    monkeypatch.setattr("ns_bench.design.definition.load_study", lambda name: study)
    store = Store(tmp_path / "runs")
    recipes = study.design(load_profile("digits")).recipes(range(SEEDS))
    fake_runs(store, recipes.values(), lambda r: 80 + 5 * r.train.epochs + 0.1 * r.seed)
    out = tmp_path / "out"
    assert main(["all", "--runs", str(tmp_path / "runs"), "--out", str(out)]) == 0
    for page in ("scorecard.md", "mine-digits/report.md"):
        text = (out / page).read_text()
        assert not re.search(r"<(script|b|i|u|nothing)>", text) and "](b)" not in text
    found = rows(out)
    assert list(found["verdict"]) == ["reproduced", "not testable", "not testable"]
    assert list(found["reason"][1:]) == ["there is <nothing>", "once more"]
    assert main(["all", "--from", str(out), "--out", str(tmp_path / "again")]) == 0
    assert contents(out) == contents(tmp_path / "again")


def counts_of(page: str, word: str) -> list[str]:
    """Cells of the line of this word in the table of counts."""
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {word} |")]
    return line.strip("| ").split(" | ")[1:]


def test_one_error_rate_over_all_claims(published, tmp_path):
    """7 claims, at 8 seeds and 29: what holds over all of them, by one column and one table."""
    out = tmp_path / "out"
    assert main(["all", "--from", str(published), "--out", str(out)]) == 0
    found = rows(out)
    again = statistics.holm(found["p"])
    assert found["p_familywise"].to_list() == pytest.approx(again.tolist())
    page = (out / "scorecard.md").read_text()
    held = int((again <= 0.05).sum())
    assert f"Of 7 claims that are reproduced within their study, **{held} hold over all 7" in page
    assert "| smallest effects | x 0.5 | x 1 | x 2 |" in page
    counts = [counts_of(page, word)[1] for word in ("reproduced", "inconclusive", "not run")]
    assert [*counts, counts_of(page, "reproduced, familywise")[1]] == ["7", "0", "0", str(held)]
    assert page.index("## Every claim") < page.index(NOT_WORSE) < page.index("## One error rate")
    line = next(line for line in page.splitlines() if NOT_WORSE in line)
    assert "over all claims: familywise |" in line


def test_what_was_not_run_is_not_called_inconclusive(tmp_path):
    """After one study `all` has others, too, whose runs are partly the same."""
    store = filled(tmp_path / "runs", "teacher_size")
    analyses = [analysis(store, name) for name in ("teacher_size", "student_size", "soft_vs_hard")]
    found = findings.frame(analyses)
    none = found[found["n"] == 0]
    assert set(none["verdict"]) == {"not run", "not testable"}
    assert "not run" not in set(found[found["n"] > 0]["verdict"])
    count = none["verdict"].eq("not run").sum()
    page = markdown.render(scorecard.content(analyses))
    assert f"{(none['verdict'].eq('not run') & none['in_paper']).sum()} not run" in page
    assert counts_of(page, "not run")[1] == str(count)
