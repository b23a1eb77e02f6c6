"""What a pool's workers are forked from imports this: all that runs need."""

import atexit
import os

import ns_bench.execute.run_one  # noqa: F401

# Torch takes a second to take itself apart, while who reads the command's output waits.
atexit.register(os._exit, 0)
