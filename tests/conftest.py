"""Two test processes share the machine's cores: more threads in each only get in the way."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
