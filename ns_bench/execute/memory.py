"""Memory that a step on a CPU frees is there for the next one."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def keep_memory() -> None:
    """Let this process keep up to 1 GiB that it has freed; does nothing without glibc.

    glibc gives freed memory back, and the system hands it out again page by page, each zeroed: of a
    step with large batches that takes a tenth to a third.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 2**25)  # the most it takes
        mallopt(_TRIM_THRESHOLD, 2**30)
