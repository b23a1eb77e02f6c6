"""`--until-decided` from an empty store, as a user calls it, and what kills leave of it."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import contents
from processes import here
from until_decided import ALL, FIRST, WORDS, folder, looks, results

from ns_bench.recipe import Recipe
from ns_bench.runs.store import Run

pytestmark = pytest.mark.slow


def killed(root: Path, after: int, seconds: float) -> None:
    """Kill the command and its workers some seconds after the store holds so many results."""
    words = [sys.executable, "-m", "ns_bench.study", *WORDS, "--workers", "1"]
    with (root / "said").open("a") as out:
        process = subprocess.Popen(words, cwd=root, stdout=out, stderr=out, start_new_session=True)
    try:
        while len(results(root)) < after:
            assert process.poll() is None, (root / "said").read_text()
            time.sleep(0.02)
        time.sleep(seconds)
        assert process.poll() is None, "it ended before it could be killed: give it more to do"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def untimed(page: str) -> dict[str, str]:
    """Return the sections of a page by their title, but for seconds of training."""
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", page, flags=re.M)}
    del sections["Cost"]
    sections["Arms"] = re.sub(r" \| [\d.]+ \|$", "", sections["Arms"], flags=re.M)
    return sections


def test_killed_three_times_it_ends_as_one_that_was_not(tmp_path):
    straight, disturbed = folder(tmp_path / "straight"), folder(tmp_path / "disturbed")
    done = here(*WORDS, "--workers", "1", cwd=straight)
    assert done.returncode == 0, done.stdout + done.stderr

    asked = here(*WORDS, "--dry-run", cwd=disturbed).stdout
    assert f"to do: {FIRST} runs" in asked
    most = "made_up: these lead to the look at {} seeds; with those of later looks, to 8 seeds, at "
    assert f"{most.format(7)}most {3 * 8} runs" in asked

    moments = random.Random(0)
    before: dict[str, bytes] = {}
    for first, last in ((0, FIRST // 2), (FIRST // 2, FIRST), (FIRST, ALL - 1)):
        killed(disturbed, moments.randrange(first, last), moments.uniform(0, 0.3))
        now = results(disturbed)
        assert now == now | before, "what was done is not done again"
        before = now
    asked = here(*WORDS, "--dry-run", cwd=disturbed).stdout
    missing = ALL - len(before)
    assert f"to do: {missing} runs" in asked
    assert f"{most.format(8)}most {missing} runs" in asked

    end = here(*WORDS, "--workers", "1", cwd=disturbed)
    assert end.returncode == 0, end.stdout + end.stderr
    now = results(disturbed)
    assert now == now | before and len(now) == ALL
    assert not list((disturbed / "runs").glob("*/result.1.json"))
    assert looks(disturbed) == looks(straight)
    assert [look["look"] for look in looks(straight)] == [7, 8]
    words = [[claim["word"] for claim in look["claims"]] for look in looks(straight)]
    assert words == [["reproduced", "inconclusive"]] * 2

    for run, content in now.items():
        recipe = Recipe.from_dict(json.loads(content)["recipe"])
        ends = [contents(Run(recipe, root / "runs" / run)) for root in (straight, disturbed)]
        assert ends[0] == ends[1]
    pages = [
        untimed((root / "runs/reports/made_up-mine/report.md").read_text())
        for root in (straight, disturbed)
    ]
    assert pages[0] == pages[1] and "Looks" in pages[0]
    said = [call.stdout.rpartition("made_up · mine · 8 seeds")[2] for call in (done, end)]
    assert said[0] == said[1] and "INCONCLUSIVE" in said[0]
