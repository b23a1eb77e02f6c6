"""The one kind of error a user is meant to read: a line, no traceback, exit code 2."""

import contextlib
import difflib
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
    """Return a command's exit code: 2 on an error that the user is to read, 130 on Ctrl-C.

    Args:
        stopped: what is said on Ctrl-C.
    """
    try:
        return command()
    except (UserError, OSError) as error:
        print(f"ns_bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nns_bench: {stopped}", file=sys.stderr)
        return 130


def unknown(what: str, name: str, valid: Iterable[str]) -> UserError:
    """Return the error for an unknown `name`, with the nearest valid name or the whole list."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    hint = f"did you mean '{near[0]}'?" if near else f"valid: {listed or 'none'}"
    return UserError(f"unknown {what} {name!r}: {hint}")
