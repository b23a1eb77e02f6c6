"""`--until-decided` on a real SLURM: a look is submitted at a time, the next call judges it."""

import pytest
from slurm_cluster import missing, slurm_fixture  # noqa: F401 (gives the fixture `slurm`)
from slurm_studies import cluster_file, idle, records, study, until
from until_decided import ALL, FIRST, WORDS, folder, looks, results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=missing() or "installed"),
]


def test_each_call_judges_a_look_and_submits_the_next(slurm, tmp_path):
    root = folder(tmp_path / "made_up")
    words = [*WORDS, *cluster_file(root)]
    page = root / "runs/reports/made_up-mine/report.md"

    first = study(slurm, *words, cwd=root)
    assert first.returncode == 0, first.stderr
    assert f"submitted {FIRST} runs in 1 sbatch call (and one for the report)" in first.stdout
    until(idle(slurm))
    assert len(results(root)) == FIRST
    assert "a claim is judged only at looks that are complete" in page.read_text()

    second = study(slurm, *words, cwd=root)
    assert second.returncode == 0, second.stderr
    assert f"submitted {ALL - FIRST} runs in 1 sbatch call" in second.stdout
    assert [look["look"] for look in looks(root)] == [7], "before anything runs for the next one"
    until(idle(slurm))
    assert "Incomplete" not in page.read_text() and "| 8 |" in page.read_text()

    third = study(slurm, *words, cwd=root)
    assert third.returncode == 0, third.stderr
    assert "submitted" not in third.stdout and len(records(root)) == 2
    assert len(results(root)) == ALL and "INCONCLUSIVE" in third.stdout
    assert [look["look"] for look in looks(root)] == [7, 8]
