"""How runs are executed: what no recipe says, and no id depends on."""

from dataclasses import dataclass, replace

from ns_bench.arguments import option, whole_number

WORTH_COMPILING = 300.0
"""Planned seconds of training from which on a run is compiled, where that is asked for. A choice:
a network for 8x8 images took 42 to 54 s to compile on a CPU, and was 8 to 14 % faster than its
plain layers then (`selftrain/fast_cpu.py`, without it, is 57 % faster)."""


@dataclass(frozen=True)
class Execution:
    """How a run is executed, beside the device; also the options of the commands that train.

    Attributes:
        compile: use `torch.compile`; results are rounded differently.
        accumulate: parts in which a batch is worked through, their gradients added up.
    """

    compile: bool = option(
        "torch.compile; of a study's runs, for those that are planned to train "
        f"{WORTH_COMPILING / 60:.0f} minutes or more",
        default=False,
    )
    accumulate: int = option(
        "work through each batch in this many parts (where memory runs out it is done by itself)",
        default=1,
        type=whole_number,
        metavar="PARTS",
    )

    def for_run_of(self, seconds: float) -> "Execution":
        """Return the same for a run that is planned to train for `seconds`."""
        return replace(self, compile=self.compile and seconds >= WORTH_COMPILING)


PLAIN = Execution()
