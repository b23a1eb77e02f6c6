"""`ns-bench completion SHELL`: what makes a shell complete options, studies and profiles."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import shtab

from ns_bench.arguments import parse, parser, positional
from ns_bench.cli.options import SearchOptions, StudyOptions
from ns_bench.design.definition import study_names
from ns_bench.design.profile import profile_names
from ns_bench.errors import exit_code
from ns_bench.report.__main__ import ReportOptions
from ns_bench.report.demo import DemoOptions
from ns_bench.report.serve import ServeOptions


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """What `ns-bench completion` is asked."""

    shell: str = positional("of which it is", choices=shtab.SUPPORTED_SHELLS)


OPTIONS = {
    "study": StudyOptions,
    "search": SearchOptions,
    "report": ReportOptions,
    "serve": ServeOptions,
    "demo": DemoOptions,
    "completion": CompletionOptions,
}
"""What each command is asked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse(
        CompletionOptions,
        arguments,
        prog="ns-bench completion",
        description='Print a shell\'s completion: eval "$(ns-bench completion bash)".',
    )
    return exit_code(lambda: _print(options.shell), "stopped")


def _print(shell: str) -> int:
    whole = argparse.ArgumentParser("ns-bench")
    commands = whole.add_subparsers()
    values = {"study": ["all", *study_names()], "profile": profile_names()}
    for name, kind in OPTIONS.items():
        made = parser(kind, add_help=False)
        for action in made._actions:
            action.choices = values.get(action.dest, action.choices)
        commands.add_parser(name, parents=[made], help=kind.__doc__)
    print(shtab.complete(whole, shell))
    return 0
