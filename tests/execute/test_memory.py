"""Memory of a worker: measured by the kernel, on real runs by the local pool."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MEASURE = """
import json, os, resource, sys
from multiprocessing import forkserver
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fakes import fake_result
from ns_bench.design.profile import load_profile
from ns_bench.execute.local import execute
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Store

profile = load_profile("digits", {"train.epochs": "2", "pseudo.threshold": "0"})
student = profile.student("large", profile.supervised("large"))
sync, peaks = os.fsync, []
for others in (0, 3000):
    store = Store(Path(sys.argv[2]) / f"runs{others}")
    os.fsync = lambda file: None
    for i in range(others):
        fake_result(store.run(profile.supervised("small", train__lr=0.001 * (i + 1))))
    os.fsync = sync
    progress = execute(make_plan(store, [student]).missing, profile.estimate, workers=1)
    assert progress.done == 2 and not progress.failed, progress
    forkserver._forkserver._stop()  # whose children workers are, and which this process waits for
    peaks.append(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
status = Path("/proc/self/status").read_text()  # ru_maxrss begins at what started this process
own = 1024 * int(status.split("VmHWM:")[1].split()[0])
print(json.dumps({"few": peaks[0], "many": peaks[1], "own": own}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_a_worker_in_digits_stays_below_1_GB_however_many_runs_the_store_has(tmp_path) -> None:
    """The peak over all descendants that have ended so far; it can only grow from store to store.

    In a fresh process: a child's peak begins at what its parent had when it was started.
    """
    command = [sys.executable, "-c", MEASURE, str(Path(__file__).parents[1]), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout)
    assert found["own"] < found["few"], "the parent's own memory would hide the worker's"
    assert found["many"] < 2**30
    assert found["many"] - found["few"] < 40e6


FAULTS = """
import resource, sys
from ns_bench.execute.memory import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
def step():
    held = [bytearray(3 << 20) for _ in range(8)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Return the pages that the system hands out in steps after the first."""
    words = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_kept() -> None:
    assert faults("kept") < 100 < faults("given back")
