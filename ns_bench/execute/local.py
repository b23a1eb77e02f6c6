"""A bounded pool of warm worker processes on this machine."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess

from ns_bench.errors import UserError
from ns_bench.execute import worker
from ns_bench.execute.execution import PLAIN, Execution
from ns_bench.files import Corrupt, StorageFull, storage_full
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import Task, turns
from ns_bench.runs.store import LOGITS, MODEL, Run

HANG_SECONDS = 600.0
"""A worker that shows no sign of life for this long is killed, and its run counts as failed."""


AWAY_SECONDS = 5.0
"""Between two looks at the workers; with more this process was suspended, as they may have been."""

LOST = 255
"""Exit code of a worker, dead or alive, once what it was forked from is gone."""

STILLBORN = 5
"""Workers of one execution that may be killed before they are ready, and are started again."""

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2}
"""Signals that may reach a whole group and are this process's to act on: SIGUSR2 is SLURM's notice
of a time limit. What workers are forked from never hears them, a worker once it can handle them."""


@dataclass
class Progress:
    """Where an execution stands; the pool updates it in place.

    `images` counts what this call trained; `left` is in seconds, None before there is a measure.
    """

    done: int = 0
    running: dict[str, float] = field(default_factory=dict)  # run id: share done
    elsewhere: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    images: int = 0
    images_per_second: float = 0.0
    left: float | None = None


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    slot: int
    run: Run | None = None
    ready: bool = False
    closed: bool = False
    leaving: bool = False
    images: int = 0
    fresh: int = 0
    heard: float = field(default_factory=time.monotonic)


def gpus() -> list[str]:
    """Return the ids of the CUDA devices, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU")]


def default_workers() -> int:
    """One worker a GPU; else one a core: on small networks 2 x 1 thread beat 1 x 2 by 1.25-1.5."""
    return len(gpus()) or cores()


def cores() -> int:
    """Return how many cores this process may use: SLURM without confinement shows it all."""
    here = len(os.sched_getaffinity(0))
    return min(here, int(os.environ.get("SLURM_CPUS_PER_TASK", here)))


def threads(workers: int) -> int:
    """Return how many threads a worker gets: its share of the cores, at most OMP_NUM_THREADS."""
    most = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores() // workers)
    return min(share, int(most)) if most.isdecimal() and int(most) else share


def context() -> SpawnContext | ForkServerContext:
    """How `multiprocessing` starts a worker: forked from a process that has imported what runs
    need, which takes seconds of a core, once. CUDA cannot be forked: there it imports all itself.
    """
    if gpus():
        return multiprocessing.get_context("spawn")
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(["ns_bench.execute.forked"])
    return forked


def execute(
    runs: list[Run],
    seconds: Callable[[Recipe], float],
    *,
    workers: int | None = None,
    execution: Execution = PLAIN,
    hang_seconds: float = HANG_SECONDS,
    show: Callable[[Progress], None] = lambda progress: None,
    more: Callable[[], Sequence[Task]] | None = None,
    first: Sequence[Collection[str]] = (),
) -> Progress:
    """Do `runs` (teachers before their students; teachers that are not listed are done).

    A run that fails, hangs or whose worker is killed costs itself and its own students. A run that
    another process works on is waited for. Ctrl-C, SIGTERM and SIGHUP leave checkpoints.

    Args:
        seconds: estimated cost of a recipe on one worker; orders the runs, longest chain first.
        show: is called about once a second and at the end.
        more: is called at the start and whenever a run has ended; what it returns is done, too
            (teachers first; what is at work already is not begun twice).
        first: ids of runs that begin before the others: each group before the next.

    Raises:
        StorageFull: the store takes no more. KeyboardInterrupt: after a clean stop.
    """
    count = workers or default_workers()
    return _Pool(runs, seconds, count, execution, hang_seconds, show, more, first).work()


@contextlib.contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """What begins in this block hears none of `SIGNALS` until it says so, and what it imports has
    so many threads."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    resource_tracker.ensure_running()  # its beginning lets SIGTERM through again
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


class _Pool:
    def __init__(
        self,
        runs: list[Run],
        seconds: Callable[[Recipe], float],
        workers: int,
        execution: Execution,
        hang_seconds: float,
        show: Callable[[Progress], None],
        more: Callable[[], Sequence[Task]] | None,
        first: Sequence[Collection[str]],
    ) -> None:
        self.pending = {run.id: run for run in runs}
        self.turns = turns(runs, seconds, first)
        self.seconds, self.execution = seconds, execution
        self.hang_seconds, self.show = hang_seconds, show
        self.more, self.until, self.ended = more, dict[str, int | None](), more is not None
        self.count = workers if more else min(workers, max(len(runs), 1))
        self.threads = threads(workers)
        self.gpus = gpus()
        self.context = context()
        self.workers: list[_Worker] = []
        self.look_again: dict[str, float] = {}
        self.redone: set[str] = set()
        self.progress = Progress()
        self.began = self.looked = time.monotonic()
        self.stillborn = 0
        self.work_total = sum(map(seconds, (run.recipe for run in runs)))
        self.work_done = 0.0

    def work(self) -> Progress:
        ends = [signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            ends.append(signal.SIGHUP)
        previous = {number: signal.signal(number, _interrupt) for number in ends}
        try:
            self.workers = [self._start(slot) for slot in range(self.count)]
            self._feed()
            while self.pending or any(w.run for w in self.workers):
                self._look_elsewhere()
                self._hand_out()
                self._listen()
                self._bury()
                self._feed()
                self._tell()
            return self.progress
        finally:
            self._stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._tell()

    def _feed(self) -> None:
        """Take up what there is to do since the last run ended."""
        if self.more is None or not self.ended:
            return
        self.ended = False
        busy = {w.run.id for w in self.workers if w.run}
        fresh = [task for task in self.more() if task.run.id not in busy | self.pending.keys()]
        for task in fresh:
            self.pending[task.run.id] = task.run
            self.until[task.run.id] = task.until
            self.work_total += self.seconds(task.run.recipe)
        self.turns = turns(self.pending.values(), self.seconds)

    def _start(self, slot: int) -> _Worker:
        ours, theirs = self.context.Pipe()
        # all of it: a process that forks workers has that of when it began
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        process = self.context.Process(target=worker.main, args=(theirs, environment), daemon=True)
        try:
            with _inherited(self.threads):
                process.start()
        except (EOFError, ConnectionError):
            self._stillborn("what it is forked from was killed")
            time.sleep(0.2 * self.stillborn)  # it takes a while to be gone, and then begins again
            return self._start(slot)
        theirs.close()
        return _Worker(process, ours, slot)

    def _stillborn(self, why: str, killed: bool = True) -> None:
        """A worker ended before it was ready; raises UserError if that is no accident."""
        self.stillborn += 1
        if not killed or self.stillborn > STILLBORN:
            raise UserError(f"a worker process cannot start: {why} (see above)")

    def _hand_out(self) -> None:
        waiting_for = {w.run.id for w in self.workers if w.run} | self.pending.keys()
        ready = [
            run
            for run in self.pending.values()
            if (run.teacher is None or run.teacher.id not in waiting_for)
            and run.id not in self.look_again
        ]
        ready.sort(key=lambda run: self.turns.get(run.id, (0, 0.0)), reverse=True)
        for w in self.workers:
            if w.ready and not w.leaving and w.run is None and ready:
                run = ready.pop()
                w.run, w.images, w.fresh, w.heard = run, 0, 0, time.monotonic()
                del self.pending[run.id]
                try:
                    until = self.until.get(run.id)
                    execution = self.execution.for_run_of(self.seconds(run.recipe))
                    task = (str(run.path), run.recipe.to_dict(), run.wanted, until, execution)
                    w.connection.send(task)
                except OSError:  # it just died, before the run began
                    self.pending[run.id], w.run, w.closed = run, None, True

    def _listen(self) -> None:
        by_connection = {w.connection: w for w in self.workers}
        for connection in wait(list(by_connection), timeout=0.5):
            w = by_connection[connection]  # type: ignore[index]
            try:
                message = w.connection.recv()
            except (EOFError, OSError):
                w.closed = True
                continue
            w.heard = time.monotonic()
            self._hear(w, message)

    def _hear(self, w: _Worker, message: worker.Message) -> None:
        if message.word == "ready":
            w.ready = True
            return
        assert w.run is not None
        run = w.run
        if message.word == "progress":
            self.progress.images += message.fresh - w.fresh
            w.images, w.fresh = message.images, message.fresh
            return
        w.run = None
        self.ended = True
        if message.word in ("done", "paused"):
            self._done(run)
        elif message.word == "failed":
            self._failed(run, message.text)
        elif message.word == "held":
            self.pending[run.id] = run
            self.progress.elsewhere.add(run.id)
            self.look_again[run.id] = time.monotonic() + 1
        elif message.word == "unfit":
            self._teach_again(run, message.text)
        elif message.word == "full":
            raise _full(run, message.text)
        elif message.word == "stopped":  # someone sent SIGTERM to the worker alone
            w.leaving = True  # it ends now and takes no more runs
            self._fail(run, "its worker was told to stop from outside")

    def _done(self, run: Run) -> None:
        self.progress.done += 1
        self.work_done += self.seconds(run.recipe)

    def _fail(self, run: Run, reason: str) -> None:
        try:
            run.fail(reason, "")
        except OSError as error:
            if storage_full(error):
                raise _full(run, error) from None
            raise
        self._failed(run, reason)

    def _failed(self, run: Run, reason: str) -> None:
        self.progress.failed[run.id] = reason
        if replace(run, wanted=()).state() == "done":  # of which only a measurement failed
            return
        for other in list(self.pending.values()):
            link = other.teacher
            while link is not None and link.id != run.id:
                link = link.teacher
            if link is not None:
                del self.pending[other.id]

    def _teach_again(self, student: Run, reason: str) -> None:
        """A student found what its teacher published damaged: redo the teacher, once."""
        teacher = student.teacher
        assert teacher is not None
        busy = {w.run.id for w in self.workers if w.run} | self.pending.keys()
        if teacher.id in busy:  # another of its students was first to notice
            self.pending[student.id] = student
            return
        if teacher.id in self.redone:
            self._fail(student, f"damaged again after it was redone: {reason}")
            return
        with contextlib.suppress(Corrupt, OSError):
            for name in (MODEL, LOGITS):
                teacher.artifact(name)
            self.pending[student.id] = student  # another call has mended it meanwhile
            return
        self.redone.add(teacher.id)
        self.progress.notes.append(f"{reason}: the teacher is done again")
        teacher.discard()
        self.pending = {teacher.id: teacher, student.id: student, **self.pending}

    def _look_elsewhere(self) -> None:
        now = time.monotonic()
        for run_id, at in list(self.look_again.items()):
            if at > now:
                continue
            run = self.pending.get(run_id)
            state = run.state() if run else "done"
            if state == "running":
                self.look_again[run_id] = now + 1
                continue
            del self.look_again[run_id]
            self.progress.elsewhere.discard(run_id)
            if run and state == "done":
                del self.pending[run_id]
                self._done(run)
                self.ended = True
            elif run and state == "failed":
                self.ended = True
                del self.pending[run_id]
                self._failed(run, (run.failure() or {}).get("error", "failed elsewhere"))

    def _bury(self) -> None:
        """Replace workers that died or hang; what they worked on counts as failed."""
        now = time.monotonic()
        away, self.looked = now - self.looked - AWAY_SECONDS, now
        for i, w in enumerate(self.workers):
            w.heard += max(away, 0.0)  # who was suspended has not listened
            hangs = (w.run or not w.ready) and now - w.heard > self.hang_seconds
            if hangs:
                w.process.kill()
                w.process.join()
            if not w.closed and (w.process.exitcode in (None, LOST) or w.connection.poll()):
                continue
            w.process.join(10)
            code = w.process.exitcode or 0
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            if code == LOST:
                how = "ended, and so did what it was forked from, which would know how"
            reason = f"no sign of life for {self.hang_seconds:.0f} s" if hangs else f"worker {how}"
            self.ended = True
            if w.run is None and not w.ready:
                self._stillborn(f"it {how}", killed=code < 0)
            if w.run is not None and w.run.state() == "done":
                self._done(w.run)
            elif w.run is not None:
                self._fail(w.run, reason)
            self.workers[i] = self._start(w.slot)

    def _tell(self) -> None:
        p, elapsed = self.progress, time.monotonic() - self.began
        p.running = {
            w.run.id: w.images / max(w.run.recipe.images, 1) for w in self.workers if w.run
        }
        p.images_per_second = p.images / max(elapsed, 1e-9)
        part = sum(self.seconds(w.run.recipe) * p.running[w.run.id] for w in self.workers if w.run)
        share = (self.work_done + part) / max(self.work_total, 1e-9)
        p.left = elapsed * max(1 - share, 0.0) / share if share > 0.01 else None
        self.show(p)

    def _stop(self) -> None:
        for w in self.workers:
            if not w.ready:  # it imports, which takes seconds and loses nothing
                w.process.kill()
            elif w.run is None:
                w.connection.close()
            else:
                w.process.terminate()
        deadline = time.monotonic() + 30
        for w in self.workers:
            w.process.join(max(0.0, deadline - time.monotonic()))
            if w.process.is_alive():
                w.process.kill()
                w.process.join()


def _full(run: Run, why: object) -> StorageFull:
    return StorageFull(
        f"store {run.path.parent} takes no more ({why}); finished runs and "
        "checkpoints are kept: call again when it does"
    )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
