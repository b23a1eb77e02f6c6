"""`ns-bench COMMAND`: the commands by one name; `python -m ns_bench.COMMAND` are the same.

Exit codes are those of the commands; 2 where there is no such command.
"""

import sys
from collections.abc import Sequence

from ns_bench import __version__
from ns_bench.errors import exit_code, unknown

HELP = """usage: ns-bench COMMAND ...

  study       run a study: plan, do what is missing, show the table, write the report
  search      tune the recipes of a study's arms, each with the same chance
  report      write the report of a study, or of all and the scorecard; compare; export
  serve       show runs, logs and interim results on a live page, read-only
  demo        open a published report in the browser
  completion  print the shell's completion: eval "$(ns-bench completion bash)", or zsh, fish
  --version

Each has its own --help."""

NAMES = ("study", "search", "report", "serve", "demo", "completion")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _run(words[0] if words else "--help", words[1:]), "stopped")


def _run(name: str, words: list[str]) -> int:
    # What the others need is imported by the command that is asked for.
    match name:
        case "study":
            from ns_bench.study import main as command
        case "search":
            from ns_bench.search import main as command
        case "report":
            from ns_bench.report.__main__ import main as command
        case "serve":
            from ns_bench.report.serve import main as command
        case "demo":
            from ns_bench.report.demo import main as command
        case "completion":
            from ns_bench.cli.completion import main as command
        case "--version" | "--help" | "-h":
            print(f"ns_bench {__version__}" if name == "--version" else HELP)
            return 0
        case _:
            raise unknown("command", name, NAMES)
    return command(words)


if __name__ == "__main__":
    sys.exit(main())
