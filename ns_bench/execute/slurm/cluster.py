"""A cluster file, `slurm/NAME.toml`: what a job asks of SLURM and how runs are packed into jobs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ns_bench.errors import UserError, located, unknown
from ns_bench.execute.execution import Execution
from ns_bench.fields import amendments, build, default
from ns_bench.files import folder, read_toml


@dataclass(frozen=True)
class Cluster:
    """The keys of a cluster file; `slurm/slurm.toml` explains each.

    Raises:
        UserError: a value that cannot work.
    """

    name: str
    partition: str = default("", "sbatch --partition")
    account: str = default("", "sbatch --account")
    qos: str = default("", "sbatch --qos")
    constraint: str = default("", "sbatch --constraint")
    gpus: int = default(1, "GPUs of a job", "[0, 1000]")
    tasks: int = default(1, "processes that train one run together", "[1, 10000]")
    cpus: int = default(4, "cores of a process", "[1, 10000]")
    mem_gb: float = default(16.0, "memory of a job", "[0.1, 100000]")
    time_minutes: int = default(
        120, "time limit of a job", "[15, 1e8], since submitit does not requeue shorter jobs"
    )
    array_parallelism: int = default(256, "jobs of an array at the same time", "[1, 1000000]")
    setup: list[str] = default([], "commands before python starts")
    python: str = default("", "how python is started")
    pack_minutes: float = default(30.0, "that the runs of a job take", "(0, 1e8]")
    side_by_side: int = default(1, "runs at the same time in a job", "[1, 1000]")
    speed: float = default(1.0, "times the profile's estimate", "[0.001, 1000000]")
    requeues: int = default(
        20, "times that a job goes on after its limit or a kill", "[0, 1000000]"
    )
    compile: bool = default(False, "torch.compile, where it pays")
    accumulate: int = default(1, "parts in which a batch is worked through", "[1, 1000000]")
    extra: dict[str, str | int | float | bool] = default({}, "further options of sbatch")

    def __post_init__(self) -> None:
        vars(self).update(amendments(self))
        words = {name: value for name, value in vars(self).items() if isinstance(value, str)}
        for text in [f"{name}={value}" for name, value in (words | self.extra).items()]:
            if not text.isprintable():  # a line break would make a line of the job's script
                raise UserError(f"{text!r}: expected one line")
        if self.pack_minutes > 0.8 * self.time_minutes:
            raise UserError(
                f"pack_minutes={self.pack_minutes:g} needs a time limit of "
                f"{self.pack_minutes / 0.8:.0f} minutes (time_minutes={self.time_minutes}); "
                "lower one or raise the other"
            )

    @property
    def execution(self) -> Execution:
        return Execution(self.compile, self.accumulate)

    def using(self, execution: Execution) -> "Cluster":
        """Return the cluster with what a command's options say."""
        parts = execution.accumulate if execution.accumulate > 1 else self.accumulate
        return replace(self, compile=execution.compile or self.compile, accumulate=parts)

    def parameters(self) -> dict[str, Any]:
        """Return submitit's parameters for a job of runs (`SlurmExecutor.update_parameters`)."""
        wanted = {
            "partition": self.partition or None,
            "account": self.account or None,
            "qos": self.qos or None,
            "constraint": self.constraint or None,
            "gpus_per_node": self.gpus or None,
            "ntasks_per_node": self.tasks if self.tasks > 1 else None,
            "cpus_per_task": self.cpus,
            "mem": f"{int(self.mem_gb * 1024)}MB",
            "time": self.time_minutes,
            "array_parallelism": self.array_parallelism,
        }
        return {name: value for name, value in wanted.items() if value is not None}


def cluster_names() -> list[str]:
    return ["local", *sorted(path.stem for path in folder("slurm").glob("*.toml"))]


def load_cluster(name: str) -> Cluster:
    """Read `slurm/NAME.toml`, or the file `name` if it ends in `.toml`.

    Raises:
        UserError: no such file, or an unknown key (names the nearest) or a value of a wrong type.
    """
    path = Path(name) if name.endswith(".toml") else folder("slurm") / f"{name}.toml"
    if not name.endswith(".toml") and name not in cluster_names():
        raise unknown("cluster", name, cluster_names())
    table = read_toml(path, f"cluster {name}")
    with located(f"cluster {name}"):
        cluster: Cluster = build(Cluster, table, name=name)
    return cluster
