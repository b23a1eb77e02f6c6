"""Do the benchmarks still hold? Compares their ratios with a committed baseline of this processor.

    pytest tests/benchmarks --benchmark-only -n 0 --benchmark-json bench.json
    python -m tests.benchmarks.ratios bench.json              # exit code 1 where one got worse
    python -m tests.benchmarks.ratios bench.json --update     # these are the baseline from now on
    python -m tests.benchmarks.ratios bench.json --page reports/published/performance.md

A benchmark takes part by what it notes in `benchmark.extra_info`: `ratio` (higher is better),
`peer` (what it is a ratio to, measured in the same run), and `aim`, where there is one. Times are
of one machine: never compared. Nor are ratios of one kind of processor with those of another: what
its units are good at, and what torch makes of them, is not the same for both sides.

Exit codes: 0 all hold, 1 a ratio fell or a benchmark is gone, 2 bad input, or no baseline yet.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ns_bench.errors import UserError, exit_code
from ns_bench.files import folder

BASELINE = Path(__file__).with_name("baseline.json")

TOLERANCE = 0.15
"""A ratio may be lower than its baseline by this share. Both sides are measured in one run, so most
of what else the machine does cancels: two runs half an hour apart differed by 0 to 9 % where one
core works, by 12 to 17 % where both do."""

LARGE = 0.04
"""A kernel with this share of a network's step has a row on the page."""


@dataclass(frozen=True)
class Measured:
    """What a benchmark noted; `aim` is None where there is none."""

    ratio: float
    aim: float | None
    peer: str


def read(path: Path) -> dict[str, Any]:
    """Return what pytest-benchmark wrote.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("benchmarks"), list):
        raise UserError(f"{path} is not of pytest-benchmark: write it with --benchmark-json")
    return content


def measured(content: Mapping[str, Any]) -> dict[str, Measured]:
    """Return {benchmark: what it noted} of those that note a ratio.

    Raises:
        UserError: a note is not as it should be.
    """
    found = {}
    for entry in content["benchmarks"]:
        info, name = entry["extra_info"], short(entry["fullname"])
        if "ratio" not in info:
            continue
        ratio, aim = info["ratio"], info.get("aim")
        for value in (ratio, aim):
            number = isinstance(value, int | float) and math.isfinite(value) and value > 0
            if not number and value is not aim:
                raise UserError(f"{name}: ratio {ratio!r}: expected a number above 0")
            if not number and aim is not None:
                raise UserError(f"{name}: aim {aim!r}: expected a number above 0")
        found[name] = Measured(ratio, aim, str(info.get("peer", "")))
    return found


def short(fullname: str) -> str:
    """Shorten a test's name: .../test_bench_joint.py::test_step[digits] is joint::step[digits]."""
    file, _, test = fullname.rpartition("::")
    return f"{Path(file).stem.removeprefix('test_bench_')}::{test.removeprefix('test_')}"


def processor(content: Mapping[str, Any]) -> str:
    """Name the kinds of processors of a run, e.g. `AMD EPYC, family 26`."""
    machine = content["machine_info"]
    return ", ".join([machine["processor"], *machine["gpus"]])


def read_baselines(path: Path) -> dict[str, dict[str, float]]:
    """Return {processor: {benchmark: ratio}}, {} without the file.

    Raises:
        UserError: the file holds something else.
    """
    try:
        found = json.loads(path.read_bytes())
        return {
            str(kind): {str(name): float(ratio) for name, ratio in ratios.items()}
            for kind, ratios in found.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a baseline: {error}") from None


def states(found: Mapping[str, Measured], baseline: Mapping[str, float]) -> dict[str, str]:
    """Return how each benchmark stands: holds, better, worse, missing or new."""
    result = {}
    for name in sorted(found.keys() | baseline.keys()):
        if name not in found:
            result[name] = "missing"
        elif name not in baseline:
            result[name] = "new"
        else:
            change = found[name].ratio / baseline[name]
            worse, better = change < 1 - TOLERANCE, change > 1 / (1 - TOLERANCE)
            result[name] = "worse" if worse else "better" if better else "holds"
    return result


def show(
    found: Mapping[str, Measured], baseline: Mapping[str, float], states: Mapping[str, str]
) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE)
    table.add_column("benchmark", overflow="fold")
    for column in ("baseline", "ratio", "change", "aim"):
        table.add_column(column, justify="right")
    table.add_column("")
    colors = {"worse": "red", "missing": "red", "better": "green"}
    for name, state in states.items():
        now, before = found.get(name), baseline.get(name)
        table.add_row(
            name.replace("[", r"\["),
            f"{before:.3g}" if before else "",
            f"{now.ratio:.3g}" if now else "",
            f"{100 * (now.ratio / before - 1):+.0f} %" if now and before else "",
            f"{now.aim:g}" if now and now.aim else "",
            state,
            style=colors.get(state, ""),
        )
    Console().print(table)


def write_page(contents: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the performance page, a table for each kind of processor, and its scaling figure.

    What they are made of is kept in a folder beside the page, a file for each kind, so the tables
    of others stay. Prose is in `reports/templates/performance.md.j2`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from . import scaling

    kept = path.with_suffix("")
    kept.mkdir(parents=True, exist_ok=True)
    for content in contents:
        name = re.sub(r"\W+", "-", processor(content).lower())
        (kept / f"{name}.json").write_text(json.dumps(_slim(content), indent=1) + "\n")
    contents = [read(file) for file in sorted(kept.glob("*.json"))]
    machines = []
    for content in contents:
        machine = content["machine_info"]
        rows = [
            {"name": name, "ratio": f"{m.ratio:.3g}", "peer": m.peer, "aim": _aim(m)}
            for name, m in measured(content).items()
        ]
        machines.append(
            {
                "cpu": processor(content),
                "cores": machine["cores"],
                "memory": round(machine["memory_gib"]),
                "python": machine["python_version"],
                "packages": machine["packages"],
                "system": f"{machine['system']} {machine['release']}",
                "date": content["datetime"][:10],
                "commit": content["commit_info"].get("id", "unknown")[:12],
                "rows": rows,
                "shares": _noting(content, "peak"),
                "kernels": _kernels(content),
                "steps": _steps(content),
                "gets": _noting(content, "user_gets"),
                "peers": _noting(content, "peer_top1"),
            }
        )
    plot = scaling.save(contents, kept)
    loader = FileSystemLoader(folder("reports") / "templates")
    environment = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    template = environment.get_template("performance.md.j2")
    path.write_text(template.render(machines=machines, scaling=plot))


def _slim(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page says of a run of the benchmarks."""
    about = (
        *("processor", "cores", "memory_gib", "gpus"),
        *("python_version", "packages", "system", "release"),
    )
    return {
        "machine_info": {name: content["machine_info"][name] for name in about},
        "datetime": content["datetime"],
        "commit_info": {"id": content["commit_info"].get("id", "unknown")},
        "benchmarks": [
            {name: entry.get(name) for name in ("fullname", "param", "extra_info")}
            for entry in content["benchmarks"]
            if entry["extra_info"]
        ],
    }


def _noting(content: Mapping[str, Any], note: str) -> list[dict[str, Any]]:
    """Return what those benchmarks noted that noted this."""
    return [
        {"name": short(entry["fullname"]), **entry["extra_info"]}
        for entry in content["benchmarks"]
        if note in entry["extra_info"]
    ]


def _kernels(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the kernels that take a share of `LARGE` somewhere, {name: its share by network}."""
    steps = _noting(content, "kernels")
    largest: dict[str, float] = {}
    for step in steps:
        for kernel, share in step["kernels"].items():
            largest[kernel] = max(share, largest.get(kernel, 0))
    names = sorted((k for k in largest if largest[k] >= LARGE), key=lambda k: -largest[k])
    shares = {name: [step["kernels"].get(name, 0.0) for step in steps] for name in names}
    rest = [1 - sum(column) for column in zip(*shares.values(), strict=True)]
    networks = [step["name"].partition("[")[2].rstrip("]") for step in steps]
    return {"networks": networks, "shares": {**shares, "the rest": rest} if names else {}}


def _steps(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the parts of a joint step take, for each benchmark that notes them."""
    return [
        {"name": entry["param"], "parts": entry["extra_info"]["parts_ms"]}
        for entry in content["benchmarks"]
        if "parts_ms" in entry["extra_info"]
    ]


def _aim(m: Measured) -> str:
    if m.aim is None:
        return "none"
    return f"{m.aim:g}: {'met' if m.ratio >= m.aim else 'not met'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.ratios",
        description="Compare the ratios of benchmarks with a committed baseline.",
    )
    add = parser.add_argument
    add("json", nargs="+", type=Path, help="files of pytest --benchmark-json, one a machine")
    add("--baseline", type=Path, default=BASELINE, metavar="FILE", help="default: %(default)s")
    add("--update", action="store_true", help="write the baseline: all ratios there are")
    add("--page", type=Path, metavar="FILE", help="write the performance page and its figure")
    options = parser.parse_args(arguments)
    return exit_code(lambda: _run(options), "stopped")


def _run(options: argparse.Namespace) -> int:
    contents = [read(path) for path in options.json]
    found: dict[str, dict[str, Measured]] = {}
    for content in contents:
        found.setdefault(processor(content), {}).update(measured(content))
    if not any(found.values()):
        raise UserError(f"{', '.join(map(str, options.json))}: no benchmark notes a ratio")
    if options.page:
        write_page(contents, options.page)
    baselines = read_baselines(options.baseline)
    if options.update:
        for kind, those in found.items():
            baselines[kind] = {name: round(m.ratio, 3) for name, m in sorted(those.items())}
        options.baseline.write_text(json.dumps(baselines, indent=1) + "\n")
    bad = []
    for kind, those in found.items():
        baseline = baselines.get(kind, {})
        stand = states(those, baseline)
        show(those, baseline, stand)
        bad += [name for name, state in stand.items() if state in ("worse", "missing")]
    if unknown := found.keys() - baselines.keys():
        raise UserError(f"{options.baseline}: nothing of {' or '.join(unknown)}: --update adds it")
    if bad:
        print(f"worse by more than {TOLERANCE:.0%}, or missing: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
