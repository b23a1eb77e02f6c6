"""What `torch.compile` costs and brings on a CPU thread, at the sizes of `digits` and `cifar10`.

Run with: pytest tests/benchmarks/test_bench_compile.py --benchmark-only -n 0. Ratios are the
seconds of a training step without it, as `selftrain/fast_cpu.py` does it, over those with it; both
are made in turn. `compile_s` is the first step, with nothing kept from before; `again_s` that of
another process, which finds it kept.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = """
import copy, json, sys, time
import torch
from ns_bench.selftrain.fast_cpu import fast
from ns_bench.selftrain.models import build

torch.set_num_threads(1)
name, rows, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
plain = build(name, 1, 10, 0, 0).to(memory_format=torch.channels_last).train()
compiled = copy.deepcopy(plain)
compiled.compile(fullgraph=True)
fast(plain)
images = torch.randn(rows, 1, side, side).contiguous(memory_format=torch.channels_last)
rates = torch.full((rows,), 0.2)

def seconds(net, step):
    start = time.process_time()
    loss = net(images, rates, rates, torch.Generator().manual_seed(step)).square().mean()
    net.zero_grad(set_to_none=True)
    loss.backward()
    return time.process_time() - start

start = time.perf_counter()
seconds(compiled, 0)
first = time.perf_counter() - start
pairs = [(seconds(plain, step), seconds(compiled, step)) for step in range(int(sys.argv[4]))]
without, with_ = (min(column) for column in zip(*pairs))
print(json.dumps({"first": first, "without": without, "with": with_}))
"""


@pytest.mark.parametrize(("name", "rows", "side"), [("micro-b0", 200, 8), ("small-b0", 64, 32)])
def test_compiled(benchmark, tmp_path: Path, name: str, rows: int, side: int) -> None:
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}

    def steps(count: int) -> dict[str, float]:
        command = [sys.executable, "-c", STEPS, name, str(rows), str(side), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return dict(json.loads(done.stdout))

    found = benchmark.pedantic(lambda: steps(15), rounds=1)
    benchmark.extra_info |= {
        "ratio": round(found["without"] / found["with"], 2),
        "peer": "a step without torch.compile",
        "compile_s": round(found["first"]),
        "again_s": round(steps(1)["first"]),
    }
