"""The ten findings: each is decided by a claim that is there, in every profile's scorecard."""

import pandas as pd
import pytest

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile, profile_names
from ns_bench.report import blocks, headlines
from ns_bench.report.markdown import render
from ns_bench.verdicts.analysis import Analysis, analyse

pytestmark = pytest.mark.slow


def made_up(name: str, profile: str = "digits", gain: float = 3.0) -> Analysis:
    """Eight seeds in which every later arm is better."""
    study, scale = load_study(name), load_profile(profile)
    design = study.design(scale)
    rows = [
        {"arm": arm, "seed": seed, "run": recipe.id, "state": "done"}
        | {"test_top1": 70 + gain * [a.name for a in design.arms].index(arm) + seed / 10}
        for (arm, seed), recipe in design.recipes(range(8)).items()
    ]
    return analyse(study, scale, design, pd.DataFrame(rows), pd.DataFrame(), 8)


@pytest.mark.parametrize("profile", profile_names())
def test_every_finding_is_decided_by_a_claim_of_the_paper(profile):
    scale, lines = load_profile(profile), headlines.headlines()
    assert len({line.finding.split(",")[0] for line in lines}) == 10
    for line in lines:
        claims = {claim.text: claim for claim in load_study(line.study).design(scale).claims}
        claim = claims[line.claim]
        assert claim.in_paper and (claim.paper or claim.untestable)
        assert line.words and line.place


def test_a_line_has_the_papers_number_ours_and_the_verdict():
    analyses = [made_up("teacher_size"), made_up("iterations")]
    heading, table, rest = headlines.blocks(analyses)
    assert isinstance(heading, blocks.Heading) and isinstance(table, blocks.Table)
    assert table.header == ["finding", "the paper", "digits", "in the paper's words"]
    page = render(blocks.Page("x", [heading, table, rest]))
    first, last = page.splitlines()[6:8]
    assert first.startswith("| **a larger teacher** | +0.70")
    assert " | Using a large teacher model" in first
    assert "| +0.70 [v4, v2] (section 4.3 #1, study #1) | **reproduced** +3.00 [" in first
    assert "| +0.80 [v4] (section 4.2, Table 7) | **reproduced** +6.00 [" in last
    assert " points, stated after seeds 0 to 7 had been run |" in last


def test_profiles_stand_side_by_side_and_what_was_not_run_is_a_dash():
    analyses = [
        made_up("soft_vs_hard"),
        made_up("soft_vs_hard", "glyphs"),
        made_up("noise_schedule"),
    ]
    _, table, _ = headlines.blocks(analyses)
    assert isinstance(table, blocks.Table)
    rows = [[blocks.plain(cell) for cell in row] for row in table.rows]
    assert [row[0] for row in rows] == ["soft labels, in domain", "soft labels, out of domain"]
    assert rows[0][2].startswith("reproduced") and rows[1][2] == "not testable"
    assert rows[1][3].startswith("reproduced")
    assert headlines.blocks([made_up("noise_schedule")]) == []
    only = headlines.blocks([made_up("teacher_size"), made_up("soft_vs_hard", "glyphs")])[1]
    assert isinstance(only, blocks.Table)
    assert [blocks.plain(cell) for cell in only.rows[0]][3] == "–"  # noqa: RUF001
