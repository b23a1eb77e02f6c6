"""`ns-bench demo`: a published report, made from the tables that come with the package.

Nothing is trained. Exit codes: 0, 2 bad input.
"""

import tempfile
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ns_bench.arguments import option, parse
from ns_bench.errors import UserError, exit_code
from ns_bench.files import folder
from ns_bench.verdicts.sources import from_tables

STUDY, PROFILE = "teacher_size", "digits"
"""What is shown: its tables are in wheels, too (`pyproject.toml`)."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What `ns-bench demo` is asked."""

    no_browser: bool = option("write the page and say where it is", default=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse(
        DemoOptions,
        arguments,
        prog="ns-bench demo",
        description=f"Open the published report of {STUDY} in {PROFILE}.",
    )
    return exit_code(lambda: _run(options), "stopped")


def _run(options: DemoOptions) -> int:
    from ns_bench.design.definition import load_study
    from ns_bench.design.profile import load_profile
    from ns_bench.report import figure, html, page

    published = folder("reports") / "published"
    analysis = from_tables(load_study(STUDY), load_profile(PROFILE), published)
    if analysis is None:
        raise UserError(f"{published}: there is no {STUDY}-{PROFILE}")
    content = page.content(analysis)
    path = Path(tempfile.mkdtemp(prefix="ns_bench-")) / f"{STUDY}-{PROFILE}.html"
    path.write_text(html.render(content, figure.inline(analysis, content)), encoding="utf-8")
    print(f"{path}\nnext: python -m ns_bench.study {STUDY} --profile smoke", flush=True)
    if not options.no_browser:
        webbrowser.open(path.as_uri())
    return 0
