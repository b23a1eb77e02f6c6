"""One warm worker process: has torch imported once, then does run after run for the local pool."""

import gc
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from ns_bench.errors import UserError
from ns_bench.files import storage_full
from ns_bench.recipe import Recipe
from ns_bench.runs.lease import Held
from ns_bench.runs.store import Run

Word = Literal["ready", "progress", "done", "failed", "held", "unfit", "paused", "stopped", "full"]


@dataclass(frozen=True)
class Message:
    """What a worker tells the pool: `images` this run has seen, `fresh` of them in this attempt."""

    word: Word
    text: str = ""
    images: int = 0
    fresh: int = 0


def main(connection: Connection, environment: dict[str, str]) -> None:
    """Serve runs until the pool closes the connection or asks to stop (SIGTERM); then exit."""
    _serve(connection, environment)
    os._exit(0)  # the pool waits, and torch takes a second and 100 MB more to take itself apart


def _serve(connection: Connection, environment: dict[str, str]) -> None:
    stop = False

    def on_terminate(*_: Any) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, on_terminate)
    for number in (signal.SIGINT, signal.SIGHUP):  # they reach the whole group; the pool decides
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})  # the pool's mask
    os.environ.update(environment)  # before torch or CUDA reads threads and devices, once

    import torch

    import ns_bench.execute.run_one  # noqa: F401  what a run needs, before it is ready

    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def send(message: Message) -> None:
        nonlocal stop
        try:
            connection.send(message)
        except OSError:  # the pool is gone: leave a checkpoint and no orphan
            stop = True

    gc.freeze()  # what is imported stays: looking through the rest takes milliseconds
    send(Message("ready"))
    while not stop:
        try:
            if not connection.poll(0.5):
                continue
            path, values, wanted, until, execution = connection.recv()
        except (EOFError, OSError):
            return
        gc.collect()  # a network and its hooks are a cycle: free the last run's before the next
        _do(
            Run(Recipe.from_dict(values), Path(path), wanted),
            send,
            device=device,
            execution=execution,
            should_stop=lambda: stop,
            until=until,
        )


def _do(run: Run, send: Callable[[Message], None], **options: Any) -> None:
    """Do one run and tell how it ended; `options` are `run_one`'s."""
    from ns_bench.execute.run_one import Interrupted, Paused, TeacherUnfit, run_one

    def progress(images: int, fresh: int) -> None:
        send(Message("progress", "", images, fresh))

    try:
        run_one(run, progress=progress, **options)
        send(Message("done"))
    except Paused:
        send(Message("paused"))
    except Interrupted:
        send(Message("stopped"))
    except Held as holder:
        send(Message("held", str(holder)))
    except TeacherUnfit as reason:
        send(Message("unfit", str(reason)))
    except Exception as error:
        if storage_full(error):
            send(Message("full", str(error)))
            return
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        text = " ".join(f"{kind}{error}".split())  # a line
        try:
            run.fail(text, traceback.format_exc())
        except OSError as unwritable:
            send(Message("full", str(unwritable)))
            return
        send(Message("failed", text))
