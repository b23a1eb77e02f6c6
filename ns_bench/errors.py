"""The one kind of error a user is meant to read: a line, no traceback, exit code 2."""

import contextlib
import difflib
import io
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator


class UserError(Exception):
    """Bad input or a place that cannot be used. The message is one line, ready to print."""


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Say `where` in front of what a UserError says."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def exit_code(command: Callable[[], int], stopped: str) -> int:
    """Return a command's exit code: 2 on an error that the user is to read, 130 on Ctrl-C, 141
    where nobody reads on (`| head`).

    Args:
        stopped: what is said on Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # letters that a terminal has not are no error
            stream.reconfigure(errors="replace")
    try:
        code = command()
        print(end="", flush=True)  # does nothing where stdout is closed
        return code
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141  # as shells have it for SIGPIPE
        print(f"ns_bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nns_bench: {stopped}", file=sys.stderr)
        return 130


def _nobody_reads() -> bool:
    """Whether it is stdout whose pipe is broken; what is left to be printed goes nowhere then."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    broken = any(event & select.POLLERR for _, event in poll.poll(0))
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return broken


def unknown(what: str, name: str, valid: Iterable[str]) -> UserError:
    """Return the error for an unknown `name`, with the nearest valid name or the whole list."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    hint = f"did you mean '{near[0]}'?" if near else f"valid: {listed or 'none'}"
    return UserError(f"unknown {what} {name!r}: {hint}")
