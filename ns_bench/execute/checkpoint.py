"""Checkpoints of a run that trains: where it goes on from, and when it is time for another."""

import io
import time
from collections.abc import Callable
from typing import Any

import torch

from ns_bench.files import Corrupt, publish, seal, unseal
from ns_bench.runs.store import CHECKPOINT, Run
from ns_bench.selftrain.scale import parallel

CHECKPOINT_SECONDS = 5.0

CHECKPOINT_FORM = 2
"""Of what a checkpoint holds: one of another form is not gone on from."""

WRITING_SHARE = 0.01
"""Of its time, that a run writes checkpoints at most: those of large networks take seconds."""


class Checkpointer:
    """The checkpoint of a run, which process 0 of several writes and all start from.

    Attributes:
        resume: the state to go on from; None at the start.
        attempts: that ended before this one.
    """

    def __init__(
        self, run: Run, teacher_logits: str | None, every: float = CHECKPOINT_SECONDS
    ) -> None:
        self.run, self.teacher_logits, self.every = run, teacher_logits, every
        self.resume = parallel.on_leader(self._load)
        self.attempts = self.resume["resumed"] + 1 if self.resume else 0
        self._before = self.resume["seconds"] if self.resume else 0.0
        self._began = self._last = time.monotonic()
        self._writing = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of training, over all attempts."""
        return self._before + time.monotonic() - self._began

    @property
    def due(self) -> bool:
        """Whether it is time for another, so that writing takes a small share of the time."""
        wait = max(self.every, self._writing / WRITING_SHARE) if self.every else 0.0
        return time.monotonic() - self._last >= wait

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state that is handed to `train`'s `after_step`."""
        start = time.monotonic()
        more = {
            "seconds": self.seconds,
            "resumed": self.attempts,
            "teacher_logits": self.teacher_logits,
            "form": CHECKPOINT_FORM,
        }
        buffer = io.BytesIO()
        torch.save({**state(), **more}, buffer)
        publish(self.run.path / CHECKPOINT, seal(buffer.getvalue()))
        self._last = time.monotonic()
        self._writing = self._last - start

    def _load(self) -> dict[str, Any] | None:
        path = self.run.path / CHECKPOINT
        try:
            content = unseal(path.read_bytes())
            state = dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
            if state.get("form") != CHECKPOINT_FORM:
                raise Corrupt("another version of ns_bench wrote it")
            if state["teacher_logits"] != self.teacher_logits:
                raise Corrupt("its teacher has other logits now")
        except FileNotFoundError:
            return None
        except Corrupt as damage:
            self.run.log({"step": 0, "event": f"checkpoint discarded, started over: {damage}"})
            path.unlink()
            return None
        return state
