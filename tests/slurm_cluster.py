"""A real SLURM for tests: `slurm/local_cluster.sh` in a temporary folder.

In a test file, for the one cluster that all files of a session share::

    from slurm_cluster import slurm_fixture  # noqa: F401 (gives the fixture `slurm`)

    def test_something(slurm: dict[str, str]) -> None:
        subprocess.run(["sbatch", ...], env=slurm, check=True)

and for one of its own, with other options or to break it::

    with cluster(tmp_path, accounting=False, min_job_age=2) as env:
        ...
"""

import fcntl
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "slurm" / "local_cluster.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "my_print_defaults")


def missing(accounting: bool = True) -> str:
    """Why no cluster can be started here; empty if one can. Root is not needed."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    programs = PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else ())
    absent = [program for program in programs if shutil.which(program, path=path) is None]
    return f"not installed: {', '.join(absent)} (`{SCRIPT.name} install`)" if absent else ""


def clean_environment() -> dict[str, str]:
    """This process's environment without anything of another SLURM cluster."""
    prefixes = ("SLURM", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def local_cluster(verb: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`local_cluster.sh VERB --dir FOLDER OPTIONS...`, whatever its exit status."""
    command = [str(SCRIPT), verb, "--dir", str(folder), *options]
    return subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=300
    )


@contextmanager
def cluster(folder: Path, accounting: bool = True, **options: int) -> Iterator[dict[str, str]]:
    """A cluster in `folder` that is down again afterwards; yields the environment to use it with.

    Options are those of the script: `cpus=8, max_array=2000, min_job_age=2, kill_wait=1,
    requeue_delay=5`.
    """
    flags = [] if accounting else ["--no-accounting"]
    for name, value in options.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "down.out"
    with report.open("wb") as out:
        # It waits for the end of its input, which comes here, or when this process is killed.
        undertaker = subprocess.Popen(
            ["sh", "-c", 'cat; exec "$0" down --dir "$1"', SCRIPT, folder],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env=clean_environment(),
            start_new_session=True,
        )
    try:
        # One at a time: two mariadb-install-db that start together have been seen to fail.
        with (Path(tempfile.gettempdir()) / "ns_bench-cluster-up.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            up = local_cluster("up", folder, *flags)
        if up.returncode:
            raise RuntimeError(up.stderr)
        (setting,) = shlex.split(up.stdout.removeprefix("export "))
        yield {**clean_environment(), "SLURM_CONF": setting.removeprefix("SLURM_CONF=")}
    finally:
        undertaker.communicate(timeout=120)
    if undertaker.returncode:
        raise RuntimeError(report.read_text())


_SHARED = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session", name="slurm")
def slurm_fixture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of a cluster of 8 CPUs with accounting, one for the whole session.

    Preempted and requeued jobs start again after 5 s.
    """
    stash = request.config.stash  # pytest makes one fixture for each file that imports this
    if _SHARED not in stash:
        if reason := missing():
            pytest.skip(reason)
        stack = ExitStack()
        folder = tmp_path_factory.mktemp("slurm")
        stash[_SHARED] = stack.enter_context(cluster(folder, cpus=8, kill_wait=2, requeue_delay=5))
        request.session.addfinalizer(stack.close)
    return stash[_SHARED]
