"""A whole study, as a user calls it, against nothing but its training.

The ideal is the sum of its runs' own training seconds, shared evenly by the workers. What is lost
is noted in seconds of the clock: `start` until the first run begins, `report` after the last one
has ended, and `between`, a worker's share of what is neither: labels, evaluation, publishing, and a
worker that has nothing left to do while another one ends.
"""

import json
import subprocess
import sys
import time

from ns_bench.execute.local import cores

SEEDS = 4
"""Of eight, to save time: start and report weigh twice what they do in the whole study."""


def test_study_against_its_training(benchmark, tmp_path) -> None:
    """`teacher_size` in `digits` from an empty store: four minutes."""
    command = [sys.executable, "-m", "ns_bench.study", "teacher_size", "--seeds", str(SEEDS)]
    began = time.time()
    benchmark.pedantic(
        lambda: subprocess.run(command, cwd=tmp_path, check=True, capture_output=True), rounds=1
    )
    wall = benchmark.stats.stats.max
    results = list(tmp_path.glob("runs/*/result.json"))
    assert len(results) == 6 * SEEDS
    training = sum(json.loads(path.read_bytes())["seconds"] for path in results) / cores()
    first = min(path.with_name("recipe.json").stat().st_mtime for path in results)
    last = max(path.stat().st_mtime for path in results)
    benchmark.extra_info |= {
        "ratio": training / wall,
        "aim": 0.9,
        "peer": "the training seconds of its runs, divided by the workers",
        "user_gets": "teacher_size in digits",
        "runs_an_hour": 3600 * len(results) / wall,
        "seeds_an_hour": 3600 * SEEDS / wall,
        "training_s": training,
        "start_s": first - began,
        "between_s": last - first - training,
        "report_s": began + wall - last,
    }
