"""A cluster file, `slurm/NAME.toml`: what a job asks of SLURM and how runs are packed into jobs."""

import json
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ns_bench.errors import UserError, unknown
from ns_bench.execute.execution import Execution
from ns_bench.files import folder

SHORTEST_MINUTES = 15
"""submitit takes an interrupted job of 10 minutes or less for timed out: it is not requeued."""


@dataclass(frozen=True)
class Cluster:
    """The keys of a cluster file; `slurm/slurm.toml` explains each.

    Raises:
        UserError: a value that cannot work.
    """

    name: str
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gpus: int = 1
    tasks: int = 1
    cpus: int = 4
    mem_gb: float = 16.0
    time_minutes: int = 120
    array_parallelism: int = 256
    setup: list[str] = field(default_factory=list)
    python: str = ""
    pack_minutes: float = 30.0
    side_by_side: int = 1
    speed: float = 1.0
    requeues: int = 20
    compile: bool = False
    accumulate: int = 1
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = {"gpus": 0, "mem_gb": 0.1, "speed": 0.001}
        for key in (
            "gpus",
            "tasks",
            "cpus",
            "mem_gb",
            "array_parallelism",
            "side_by_side",
            "accumulate",
            "speed",
        ):
            value = getattr(self, key)
            if value < least.get(key, 1):
                raise UserError(
                    f"cluster {self.name}: {key} = {value}: expected at least {least.get(key, 1)}"
                )
        if self.time_minutes < SHORTEST_MINUTES:
            raise UserError(
                f"cluster {self.name}: time_minutes = {self.time_minutes}: expected at least "
                f"{SHORTEST_MINUTES}, since submitit does not requeue shorter jobs"
            )
        if self.pack_minutes <= 0:
            raise UserError(
                f"cluster {self.name}: pack_minutes = {self.pack_minutes:g}: expected more than 0"
            )
        if self.pack_minutes > 0.8 * self.time_minutes:
            raise UserError(
                f"cluster {self.name}: pack_minutes = {self.pack_minutes:g} needs a time limit of "
                f"{self.pack_minutes / 0.8:.0f} minutes (time_minutes = {self.time_minutes}); "
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
    if not path.is_file():
        raise UserError(f"cluster {name}: there is no such file")
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"cluster {name}: {path.name} is not TOML: {error}") from None
    kinds = {key: value for key, value in asdict(Cluster(name)).items() if key != "name"}
    for key, value in values.items():
        if key not in kinds:
            raise unknown(f"key in {path.name}", key, kinds)
        default = kinds[key]
        wanted = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
            like = json.dumps(default)
            raise UserError(f"cluster {name}: {key} = {value!r}: expected a value like {like}")
    return Cluster(name=name, **values)
