"""`slurm/local_cluster.sh` against real daemons, and what SLURM does that our DAGs rely on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_cluster import (
    cluster,
    local_cluster,
    missing,
    slurm_fixture,  # noqa: F401 (gives the fixture `slurm`)
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=missing() or "installed"),
]

Env = dict[str, str]


def run(env: Env, *command: str) -> str:
    return subprocess.run(
        command, env=env, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def sbatch(env: Env, script: str, *options: str) -> str:
    """Submit a shell command; the job's id."""
    return run(env, "sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", script)


def states(env: Env, job: str) -> list[tuple[str, str]]:
    """(state, reason) of a job, or of each element of an array. Forgotten jobs are an error."""
    fields = [
        dict(word.split("=", 1) for word in line.split() if "=" in word)
        for line in run(env, "scontrol", "-o", "show", "job", job).splitlines()
    ]
    return [(job["JobState"], job["Reason"]) for job in fields]


def knows(env: Env, job: str) -> bool:
    return (
        subprocess.run(["scontrol", "show", "job", job], env=env, capture_output=True).returncode
        == 0
    )


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def ended(env: Env, job: str, state: str = "COMPLETED") -> Callable[[], bool]:
    return lambda: {now for now, _ in states(env, job)} == {state}


def processes(folder: Path) -> set[int]:
    """The processes that belong to a cluster, or were started by its jobs."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = process.joinpath("stat").read_text().rpartition(") ")[2][0]
            said = (
                process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
            )
            held = [str(link.readlink()) for link in process.joinpath("fd").iterdir()]
        except OSError:  # gone meanwhile, or another user's
            continue
        ours = str(folder).encode() in said or any(str(folder) in path for path in held)
        if ours and state not in "ZX":
            found.add(int(process.name))
    return found


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Env, str]]:
    """A cluster without accounting that soon forgets jobs, and a job in it that fails at once.

    It takes SLURM about 9 s, so the tests that need it forgotten come last.
    """
    folder = tmp_path_factory.mktemp("forgetful")
    options = {"cpus": 2, "min_job_age": 2, "max_array": 2000, "kill_wait": 1}
    with cluster(folder, accounting=False, **options) as env:
        job = sbatch(env, "exit 1")
        until(ended(env, job, "FAILED"))
        yield env, job


def test_up_again_changes_nothing(slurm: Env, forgetful: tuple[Env, str]) -> None:
    for env in (slurm, forgetful[0]):
        folder = Path(env["SLURM_CONF"]).parent
        before = processes(folder)
        again = local_cluster("up", folder)
        assert again.returncode == 0
        assert again.stdout == f"export SLURM_CONF={folder}/slurm.conf\n"
        assert local_cluster("status", folder).returncode == 0

        other = local_cluster("up", folder, "--cpus", "3")
        assert other.returncode == 1
        assert ", not 3" in other.stderr
        assert processes(folder) == before


def test_an_array_goes_round(slurm: Env, tmp_path: Path) -> None:
    job = sbatch(slurm, f"touch {tmp_path}/$SLURM_ARRAY_TASK_ID", "--array=0-3")
    until(ended(slurm, job))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]
    accounted = ["sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", job]
    lines = [f"{job}_{element}|COMPLETED" for element in range(4)]
    until(lambda: sorted(run(slurm, *accounted).splitlines()) == lines)


def test_a_failed_teacher_leaves_its_student_waiting_unless_told_otherwise(slurm: Env) -> None:
    teacher = sbatch(slurm, "exit 1")
    after = f"--dependency=afterok:{teacher}"
    waits = sbatch(slurm, "true", after)
    killed = sbatch(slurm, "true", after, "--kill-on-invalid-dep=yes")
    until(ended(slurm, teacher, "FAILED"))
    until(ended(slurm, killed, "CANCELLED"))
    until(lambda: states(slurm, waits) == [("PENDING", "DependencyNeverSatisfied")])
    run(slurm, "scancel", waits)


def test_a_preempted_job_is_requeued_and_starts_again(slurm: Env, tmp_path: Path) -> None:
    script = f"date >> {tmp_path}/starts; [ $SLURM_RESTART_COUNT ] || sleep 60"
    low = sbatch(slurm, script, "-p", "preempt", "--exclusive")
    until((tmp_path / "starts").exists)
    high = sbatch(slurm, "true", "--exclusive")
    until(ended(slurm, high))
    assert states(slurm, low)[0][0] in ("PENDING", "COMPLETING")
    until(ended(slurm, low))
    assert len((tmp_path / "starts").read_text().splitlines()) == 2


@pytest.mark.parametrize("accounting", [True, False])
def test_down_ends_what_up_started_and_nothing_else(
    slurm: Env, tmp_path_factory: pytest.TempPathFactory, accounting: bool
) -> None:
    neighbour = Path(slurm["SLURM_CONF"]).parent
    neighbours = processes(neighbour)
    folder = tmp_path_factory.mktemp("c")  # a socket's path is limited to about 100 characters
    options = [] if accounting else ["--no-accounting"]
    up = local_cluster("up", folder, "--cpus", "2", "--kill-wait", "1", *options)
    assert up.returncode == 0, up.stderr
    daemons = processes(folder)
    assert len(daemons) == (6 if accounting else 4)  # slurmctld is two
    env = {**slurm, "SLURM_CONF": str(folder / "slurm.conf")}

    # Not the cluster's: a program that uses it, and one that reads its log.
    log = folder / "log" / "slurmctld.log"
    bystanders = [subprocess.Popen(["sleep", "300"], env=env)]
    bystanders += [subprocess.Popen(["tail", "-f", log], stdout=subprocess.DEVNULL)]
    try:
        # A process that leaves its job's process group; and one that ignores SIGTERM, for slowly.
        stubborn = "" if accounting else "trap '' TERM;"
        job = sbatch(env, f"{stubborn} setsid -f sleep 300; srun sleep 300; sleep 300")
        sbatch(env, "true", f"--dependency=afterok:{job}")
        until(lambda: len(processes(folder)) >= len(daemons) + 2 + 7)
        down = local_cluster("down", folder)
        assert down.returncode == 0, down.stderr
        assert processes(folder) == {process.pid for process in bystanders}
        assert all(process.poll() is None for process in bystanders)
        assert processes(neighbour) == neighbours
        assert local_cluster("down", folder).returncode == 0
        assert local_cluster("status", folder).returncode == 1
    finally:
        for process in bystanders:
            process.kill()
            process.wait()
        local_cluster("down", folder)


def test_a_daemon_that_does_not_come_up_is_said_loudly(tmp_path: Path) -> None:
    key = tmp_path / "munge.key"
    key.write_bytes(b"short")
    key.chmod(0o600)
    up = local_cluster("up", tmp_path, "--no-accounting")
    assert up.returncode == 1
    assert up.stdout == ""
    assert "munged ended at once" in up.stderr
    assert not processes(tmp_path)


def test_arrays_are_as_large_as_max_array(forgetful: tuple[Env, str]) -> None:
    env, _ = forgetful
    run(env, "scancel", sbatch(env, "true", "--hold", "--array=0-1999"))
    with pytest.raises(subprocess.CalledProcessError):
        sbatch(env, "true", "--hold", "--array=0-2000")


def test_without_accounting_sacct_fails(forgetful: tuple[Env, str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run(forgetful[0], "sacct")


def test_a_dependency_on_a_forgotten_job_counts_as_satisfied(
    forgetful: tuple[Env, str], tmp_path: Path
) -> None:
    """So a student looks for its teacher's artifact itself."""
    env, teacher = forgetful
    until(lambda: not knows(env, teacher))
    for forgotten in (teacher, "123456"):
        sbatch(env, f"touch {tmp_path}/{forgotten}", f"--dependency=afterok:{forgotten}")
        until((tmp_path / forgotten).exists)


def test_up_starts_a_daemon_that_has_gone(forgetful: tuple[Env, str]) -> None:
    env, _ = forgetful
    folder = Path(env["SLURM_CONF"]).parent
    pid = int((folder / "run" / "slurmctld.started").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in processes(folder))
    status = local_cluster("status", folder)
    assert status.returncode == 1
    assert "slurmctld  down" in status.stdout
    assert "started slurmctld)" in local_cluster("up", folder).stderr
    assert run(env, "sinfo", "-h", "-p", "debug", "-o", "%T") == "idle"


def test_a_killed_test_run_leaves_no_cluster(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal, slurm_cluster\n"
        f"with slurm_cluster.cluster(pathlib.Path({str(tmp_path)!r}), accounting=False):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "slurm.conf").exists()
    until(lambda: not processes(tmp_path))
