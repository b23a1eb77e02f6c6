"""Batches in parts: gradients, what happens where memory runs out, and how it is told."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from builders import present, rows_of, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import here
from torch import Tensor, nn

from ns_bench.data import split
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.execute.execution import Execution
from ns_bench.execute.run_one import Paused, run_one
from ns_bench.recipe import Recipe
from ns_bench.runs.store import MODEL, Store
from ns_bench.selftrain.evaluate import predict
from ns_bench.selftrain.methods import method_of, network
from ns_bench.selftrain.models import Normalise, build
from ns_bench.selftrain.rows import Batches
from ns_bench.selftrain.scale.accumulate import Gradients, out_of_memory
from ns_bench.selftrain.scale.parallel import Part
from ns_bench.selftrain.targets import PseudoLabeled
from ns_bench.selftrain.train import Objective

pytestmark = pytest.mark.slow

SMOKE = load_profile("smoke")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def objective_of(recipe: Recipe, fixed: bool) -> tuple[nn.Module, Objective]:
    """Return a network of which batch statistics may be fixed, and what it minimises."""
    data = split.load(recipe.data, recipe.seed)
    pseudo = None
    if recipe.consistency.method == "none" and recipe.batch[1]:
        soft = torch.randn(len(data.unlabeled), data.classes, generator=seeded(1)).softmax(1)
        pseudo = PseudoLabeled(torch.arange(len(soft)), soft, soft)
    distilled = None
    if recipe.distillation.weight:
        distilled = torch.randn(len(data.labeled), data.classes, generator=seeded(2))
    net = network(recipe, data).train()
    for module in net.modules() if fixed else ():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    method = method_of(recipe, distilled)
    batches = Batches(rows_of(recipe, data, pseudo), method.averaged)
    return net, Objective(recipe, batches, method, network(recipe, data).eval(), "cpu")


def gradients_of(recipe: Recipe, parts: int, step: int) -> tuple[Tensor, list[Tensor]]:
    net, objective = objective_of(recipe, fixed=True)
    loss = Gradients(net, parts, 1, print)(partial(objective, net, step))
    return loss, [p.grad for p in net.parameters() if p.grad is not None]


TEACHER = SMOKE.supervised("medium")
KINDS: dict[str, Recipe] = {
    "supervised": TEACHER,
    "student": SMOKE.student("medium", TEACHER, noise__unlabeled__cutout=3),
    "fading noise": SMOKE.student("medium", TEACHER, noise__unlabeled_schedule="fading"),
    "distilled": SMOKE.student("medium", TEACHER, distillation__weight=0.5),
    "fixmatch": SMOKE.supervised("medium", consistency__method="fixmatch", train__ratio=2),
    "mean-teacher": SMOKE.supervised("medium", consistency__method="mean-teacher", train__ratio=2),
    "co-training": SMOKE.supervised("medium", consistency__method="co-training", train__ratio=2),
}


@settings(max_examples=15, deadline=None)
@given(kind=st.sampled_from([*KINDS]), parts=st.integers(2, 7), step=st.integers(0, 9))
def test_parts_add_up_to_the_whole_batch(kind: str, parts: int, step: int) -> None:
    """With the same draws for every row, of whatever method."""
    loss, whole = gradients_of(KINDS[kind], 1, step)
    again, added = gradients_of(KINDS[kind], parts, step)
    torch.testing.assert_close(again, loss)
    assert len(whole) == len(added) > 10
    scale = max(gradient.abs().max() for gradient in whole)
    for one, other in zip(whole, added, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5 * float(scale))


def test_statistics_are_of_the_parts_and_move_as_far_as_in_one_pass() -> None:
    net = build("micro-b0", 1, 10, 0, 0).train()
    norm = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    norm.momentum = 0.19
    gradients = Gradients(net, 2, 1, print)
    assert norm.momentum == pytest.approx(0.1)  # two steps of a tenth: 1 - 0.9^2
    same = torch.randn(4, 1, 8, 8, generator=seeded())
    gradients(lambda part: net(same).sum())
    mean = nn.Module.__call__(net.net.conv_stem, same).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, 0.19 * mean)


class Full:
    """Runs out of memory in the part of a batch after the first, until parts are small enough.

    Stands in for a device that is full; `test_memory_that_runs_out` is of a real one.
    """

    def __init__(self, net: nn.Module, fits: int) -> None:
        self.net, self.fits, self.images = net, fits, torch.randn(8, 1, 8, 8, generator=seeded(3))

    def __call__(self, part: Part) -> Tensor:
        loss: Tensor = self.net(self.images[part.number :: part.of]).square().sum()
        if part.number and part.of < self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return loss


def test_a_batch_that_does_not_fit_leaves_no_trace() -> None:
    nets = [build("micro-b0", 1, 10, 0, 0).train() for _ in range(2)]
    told: list[int] = []
    late = Gradients(nets[0], 2, 8, told.append)
    plain = Gradients(nets[1], 8, 8, told.append)
    for _ in range(2):
        assert torch.equal(late(Full(nets[0], 8)), plain(Full(nets[1], 8)))
        for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            assert torch.equal(present(one.grad), present(other.grad))
        for kept, by_other in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
            torch.testing.assert_close(kept, by_other)
    assert told == [4, 8] and late.parts == 8


def test_a_batch_is_not_cut_below_its_rows() -> None:
    net, tried = build("micro-b0", 1, 10, 0, 0).train(), []

    def never(part: Part) -> Tensor:
        tried.append(part.of)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Gradients(net, 1, 3, print)(never)
    assert tried == [1, 2]
    assert out_of_memory(MemoryError()) and not out_of_memory(ValueError("not about memory"))


def test_evaluation_halves_what_does_not_fit() -> None:
    net = build("micro-b0", 1, 10, 0, 0)
    images = torch.randint(0, 256, (37, 1, 8, 8), generator=seeded()).byte()
    net.normalise = Normalise(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 255.0))
    whole = predict(net, images)
    forward, seen = net.net.forward, []

    def small(x: Tensor) -> Tensor:
        seen.append(len(x))
        if len(x) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x)

    net.net.forward = small
    torch.testing.assert_close(predict(net, images), whole)
    assert seen[:4] == [37, 19, 10, 5]


# Whole runs


def test_a_run_in_parts_goes_on_in_parts(tmp_path: Path) -> None:
    """Bit for bit, whatever it is told the second time; and its result says so."""
    recipe = SMOKE.supervised("small", train__epochs=4)
    straight = Store(tmp_path / "one").run(recipe)
    assert run_one(straight, execution=Execution(accumulate=3)).provenance["parts"] == 3
    stopped = Store(tmp_path / "two").run(recipe)
    with pytest.raises(Paused):
        run_one(stopped, execution=Execution(accumulate=3), until=1)
    result = run_one(stopped)
    assert result.provenance["parts"] == 3 and result.resumed == 1
    assert stopped.artifact(MODEL).read_bytes() == straight.artifact(MODEL).read_bytes()
    whole = run_one(Store(tmp_path / "three").run(recipe))
    assert whole.provenance["parts"] == 1


def test_too_many_parts(tmp_path: Path) -> None:
    recipe = SMOKE.supervised("small", train__batch_size=25)
    with pytest.raises(UserError, match="26 parts each, cannot share a batch of 25 rows"):
        run_one(Store(tmp_path).run(recipe), execution=Execution(accumulate=26))


LIMITED = """
import copy, resource, sys
from pathlib import Path
import torch
from ns_bench.design.profile import load_profile
from ns_bench.execute import run_one as execute
from ns_bench.selftrain import train
from ns_bench.runs.store import Store

torch.set_num_threads(1)
profile = load_profile("glyphs")
recipe = profile.supervised(
    "small", data__glyphs__pixels=32, data__labeled=400, train__batch_size=400, train__epochs=2,
    data__unlabeled=64, data__validation=32, data__test=32,
)
replicated = train.parallel.replicate

def limited(net):  # with all the rest in place, what is left is for the batches
    copy.deepcopy(net).train()(torch.randn(4, 1, 32, 32)).sum().backward()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + int(sys.argv[2]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return replicated(net)

train.parallel.replicate = limited
execute.run_one(Store(Path(sys.argv[1])).run(recipe))
"""


def test_memory_that_runs_out(tmp_path: Path) -> None:
    """A process that may have no more than 1000 MB for its batches, which take 1.4 GB."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path), "1000"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "MALLOC_ARENA_MAX": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (run,) = (path.parent for path in tmp_path.glob("*/result.json"))
    result = json.loads((run / "result.json").read_bytes())
    assert result["provenance"]["parts"] > 1
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = [event for event in events if "out of memory" in event.get("event", "")]
    assert told[-1]["parts"] == result["provenance"]["parts"]


def study(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ns_bench.study", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


ONE_ARM = """
from ns_bench.design.definition import Arm, Design, Study

def design(profile):
    recipe = profile.supervised("small", train__epochs=4)
    return Design([Arm("supervised", recipe)], "supervised", [])

STUDY = Study("one_arm", "Does it run?", "nothing", design, "nowhere")
"""


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(ONE_ARM)
    runs = tmp_path / "runs"
    common = [tmp_path / "one.py", "--profile", "smoke", "--seeds", 1, "--runs", runs]
    bad = study(*common, "--accumulate", 0)
    assert bad.returncode == 2 and "'0': expected a whole number from 1 to 1000000" in bad.stderr
    assert not runs.exists()
    words = [*map(str, common), "--accumulate", "2", "--workers", "1"]
    assert here(*words, cwd=tmp_path).returncode == 0
    results = [json.loads(path.read_bytes()) for path in runs.glob("*/result.json")]
    assert [result["provenance"]["parts"] for result in results] == [2]
    reports = [path.read_text() for path in runs.glob("reports/*/report.md")]
    assert len(reports) == 1 and "their batches in 2 parts" in reports[0]
