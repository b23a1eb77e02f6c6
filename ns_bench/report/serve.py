"""`ns-bench serve STUDY`: a live page of what a store has, for this machine's browsers alone.

It reads the store and never writes there: the runs may be this machine's or a cluster's. Exit
codes: 2 bad input, 130 stopped by Ctrl-C.
"""

import argparse
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ns_bench.arguments import assigned, option, parse
from ns_bench.errors import UserError, exit_code
from ns_bench.report import blocks as b
from ns_bench.verdicts.sources import SourceOptions, analyses_of

if TYPE_CHECKING:
    from ns_bench.verdicts.analysis import Analysis

SECONDS = 2.0
"""How often the page asks again."""

SHARE = 5
"""A page that takes a second is made every so many seconds at most."""

LOG_LINES, LOG_BYTES = 6, 8192
"""Of a log's end that are shown, and read."""

ORDER = ("failed", "blocked", "running", "partial", "unmeasured", "missing", "done")
"""What needs a look comes first."""


def _port(text: str) -> int:
    """Read a port; 0 is any that is free."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}': expected a port, from 0 to 65535")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class ServeOptions(SourceOptions):
    """What `ns-bench serve` is asked."""

    assignments: tuple[str, ...] = option(
        "a recipe's field, as the study was given it",
        default=(),
        flag="--set",
        metavar="FIELD=VALUE",
    )
    port: int = option(
        "of this machine (default: 8787; 0: any that is free)",
        default=8787,
        type=_port,
        metavar="N",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse(
        ServeOptions,
        arguments,
        prog="ns-bench serve",
        description="Show runs, logs and interim results on a page that keeps itself up to date.",
    )
    return exit_code(lambda: _run(options), "stopped")


def _run(options: ServeOptions) -> int:
    if options.tables:
        raise UserError("serve reads a store that changes: --from has no place here")
    with serving(LivePage(options), options.port) as server:
        print(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C stops it)", flush=True)
        server.serve_forever()
    return 0


def serving(page: "LivePage", port: int) -> ThreadingHTTPServer:
    """Return what serves the page. UserError: there is nothing to show, or the port is in use."""
    page.html()
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), _handler(page))
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; choose another") from None


@dataclass
class LivePage:
    """The page as it is now; several browsers share one."""

    options: ServeOptions

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._due, self._html = 0.0, b""

    def html(self) -> bytes:
        """Return the page, made anew where it is old. UserError: the store cannot be read."""
        from ns_bench.report import html

        with self._lock:
            begin = time.monotonic()
            if begin >= self._due:
                text = html.render(content(self.options), {}, poll=SECONDS)
                self._html = text.encode(errors="replace")
                now = time.monotonic()
                self._due = now + max(SECONDS / 2, SHARE * (now - begin))
            return self._html


def content(options: ServeOptions) -> b.Page:
    """Return the page: studies with their runs, and what else is at work in a store."""
    analyses = analyses_of(options, empty=True, changed=assigned(options.assignments))
    place = options.runs.resolve()
    blocks: list[b.Block] = [b.Paragraph(["store ", b.Span(str(place), code=True)])]
    for analysis in analyses:
        blocks += _study(analysis, place)
    shown = {run for analysis in analyses for run in analysis.runs["run"]}
    found = {
        path.parent.name for name in ("lease", "failure") for path in place.glob(f"*/{name}.json")
    }
    if others := [*_logs(place, sorted(found - shown))]:
        blocks += [b.Heading("Other runs of this store"), *others]
    return b.Page("Live: " + ", ".join(a.title for a in analyses), blocks)


def _study(analysis: "Analysis", place: Path) -> Iterator[b.Block]:
    from ns_bench.report import page
    from ns_bench.report.sections import claims

    yield b.Heading(analysis.title)
    yield from claims.notes(analysis)
    yield from page.tables(analysis)
    yield from _logs(place, [run.id for run in analysis.unfinished])
    runs = analysis.runs.sort_values("state", key=lambda s: s.map(ORDER.index), kind="stable")
    yield b.tabulate(
        f"Runs of {analysis.title}",
        runs.to_dict("records"),
        ("run", lambda run: b.Span(run["run"], code=True)),
        ("arm", lambda run: run["arm"] or "a teacher"),
        ("seed", lambda run: str(run["seed"])),
        ("state", lambda run: run["state"]),
    )


def _logs(place: Path, ids: Sequence[str]) -> Iterator[b.Block]:
    """Yield the last lines of what runs wrote that failed or are at work."""
    from ns_bench.execute.slurm.scheduler import Scheduler
    from ns_bench.runs.store import METRICS, Store, run_in

    jobs = Scheduler(Store(place, read_only=True))
    for run_id in ids:
        try:
            run = run_in(place / run_id)
        except UserError:
            continue
        state = run.state()
        if state not in ("failed", "running"):
            continue
        lines = [line for path in [*jobs.logs(run_id), run.path / METRICS] for line in _tail(path)]
        if state == "failed" and (failure := run.failure()):
            last = failure["traceback"].splitlines()[-LOG_LINES:]
            lines = [*dict.fromkeys([*last, failure["error"]])]  # which the last line may be
        yield b.Paragraph([b.Span(run_id, code=True), f" {state}"])
        yield b.Code("\n".join(lines))


def _tail(path: Path) -> list[str]:
    """Return the last lines of a log; [] where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - LOG_BYTES, 0))
            return file.read(LOG_BYTES).decode(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []


def _handler(page: LivePage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds for a browser to say what it wants

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if host not in ("127.0.0.1", "localhost"):  # a name of others that leads here
                status, text = 403, b"only for this machine, as localhost\n"
            elif self.path != "/":
                status, text = 404, b"there is one page: /\n"
            else:
                try:
                    status, text = 200, page.html()
                except (UserError, OSError) as error:
                    status, text = 503, f"{error}\n".encode(errors="replace")
            with contextlib.suppress(ConnectionError):  # nobody waits for it any more
                self._answer(status, "text/html" if status == 200 else "text/plain", text)

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("X-Frame-Options", "DENY")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing of each request."""

    return Handler
