"""Named random streams.

Every random draw comes from a stream named after its purpose, keyed by the seed and never by the
arm: arms of one seed share split, order and augmentation and can be compared in pairs. A stream is
a pure function of its names (a step number is one of them), so there is no random state to save
and a resumed run draws exactly what an uninterrupted one would have drawn.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit integer that depends on `seed` and `names` alone, on any machine."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int, device: str = "cpu") -> "torch.Generator":
    """Return a fresh generator on `device` for the stream `names` of `seed`."""
    import torch

    return torch.Generator(device).manual_seed(stream_seed(seed, *names))
