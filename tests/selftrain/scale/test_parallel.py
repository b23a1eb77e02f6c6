"""Several processes on one run: the same network, one writer, one end.

Processes talk through gloo. TOLERANCE, absolute or relative, is on weights, averages and logits.
float32 sums in another order were found to differ by up to 2e-6 after 6 steps and 5e-5 after 14.
"""

import copy
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from builders import labels_for, rows_of, seeded, seeing
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from ns_bench.data.split import load
from ns_bench.errors import UserError
from ns_bench.execute import checkpoint
from ns_bench.execute import run_one as executed
from ns_bench.execute.run_one import Interrupted, run_one
from ns_bench.files import unseal
from ns_bench.recipe import Recipe, RowNoise
from ns_bench.runs.lease import Held, Lease
from ns_bench.runs.store import CHECKPOINT, LOGITS, MODEL, OUTCOMES, Run, Store
from ns_bench.selftrain.evaluate import predict_noised, predict_views
from ns_bench.selftrain.methods import method_of, network
from ns_bench.selftrain.models import build
from ns_bench.selftrain.noise import augment
from ns_bench.selftrain.rows import Batches
from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.scale.accumulate import Gradients
from ns_bench.selftrain.scale.parallel import Share
from ns_bench.selftrain.scale.row_random import Draws
from ns_bench.selftrain.train import Lesson, Objective, train

pytestmark = pytest.mark.slow

torch.set_num_threads(1)

TOLERANCE = 2e-4

NOISY = {
    "train.warmup_epochs": 1,
    "train.ema": 0.9,
    "noise.labeled.cutout": 3,
    "noise.labeled.crop_padding": 1,
    "noise.unlabeled.stochastic_depth": 0.5,
    "noise.unlabeled.dropout": 0.4,
    "pseudo.threshold": 0.0,
}
TEACHER = Recipe().set({**NOISY, "train.epochs": 2})
# 14 steps of 7 labeled and 21 unlabeled rows: neither can be halved
STUDENT = Recipe(teacher=TEACHER).set({**NOISY, "train.epochs": 2, "train.batch_size": 7})
# the same rows, labeled while it trains
ALONE = TEACHER.set({"train.batch_size": 7, "train.epochs": 1})

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ns_bench.execute.run_one", "pytest"])


def on(
    processes: int, do: Callable[..., Any], *arguments: Any, folder: Path, codes: Any = 0
) -> list[Any]:
    """Return what `do(*arguments)` returns on each of several processes, all within a minute."""
    meeting = folder / f"meeting-{time.monotonic_ns()}"
    started = [
        CONTEXT.Process(target=_member, args=(rank, processes, meeting, do, arguments), daemon=True)
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    deadline = time.monotonic() + 60
    for process in started:
        process.join(max(deadline - time.monotonic(), 0))
    found = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert None not in found, f"hangs: exit codes {found}"
    assert all((code == 0) == (codes == 0) for code in found), f"exit codes {found}"
    outcomes = [Path(f"{meeting}.{rank}") for rank in range(processes)]
    return [torch.load(path, weights_only=False) for path in outcomes if path.exists()]


def _member(
    rank: int, processes: int, meeting: Path, do: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes
    )
    torch.save(do(*arguments), f"{meeting}.{rank}")
    dist.destroy_process_group()


# Shares


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 23),
    world=st.integers(1, 5),
    n=st.integers(0, 3),
    cutout=st.integers(0, 4),
    padding=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_the_noise_of_a_share_is_that_of_the_whole_batch(
    batch: int, world: int, n: int, cutout: int, padding: int, seed: int
) -> None:
    images = torch.randint(0, 256, (batch, 3, 8, 8), generator=seeded(seed)).byte()
    noise = RowNoise(randaugment_n=n, cutout=cutout, crop_padding=padding)
    whole = augment(images, noise, seeded(seed))
    seen = 0
    for rank in range(world):
        rows = slice(rank, batch, world)
        own = augment(images[rows], noise, Draws([(seeded(seed), Share(batch, rows))]))
        assert torch.equal(own, whole[rows])
        seen += len(own)
    assert seen == batch


def test_a_network_noises_a_share_as_in_the_whole_batch() -> None:
    net = build("micro-b1", 1, 10, 0, 0).train()  # micro-b0 has no block to drop
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    images = torch.randn(9, 1, 8, 8, generator=seeded())
    dropout, depth = torch.linspace(0, 0.9, 9), torch.linspace(0.9, 0, 9)
    whole = net(images, dropout, depth, seeded(1))
    for own in (slice(1, 9, 2), torch.tensor([0, 2, 4, 7])):
        found = net(images[own], dropout, depth, seeded(1), own)
        torch.testing.assert_close(found, whole[own])
    assert not torch.allclose(net(images), whole, atol=0.01)


def test_one_process_shares_with_nobody() -> None:
    assert (parallel.rank(), parallel.world()) == (0, 1)
    net = nn.Linear(2, 2)
    assert parallel.replicate(net) is net
    assert parallel.joint_share([3, 9]) == slice(None)
    value = torch.ones(2)
    assert parallel.mean(value) is value
    assert parallel.assembled(value, slice(None), 2) is value


# Exchanges


def exchanges() -> dict[str, Any]:
    rank, rows = dist.get_rank(), torch.arange(7.0).half()
    taken = parallel.share(7).rows
    raised = {}
    for name, error in {"held": Held("by someone"), "user": UserError("no")}.items():
        try:
            parallel.on_leader(lambda: _raise(error))  # noqa: B023
        except (Held, UserError) as found:
            raised[name] = repr(found)
    try:
        parallel.joint_share([4, 1])
    except UserError as few:
        raised["few"] = str(few)
    return {
        "mean": parallel.mean(torch.tensor(float(rank))),
        "some": parallel.any_rank(rank == 1),
        "none": parallel.any_rank(False),
        "leader": parallel.on_leader(lambda: {"rank": dist.get_rank()}),
        "assembled": parallel.assembled(rows[taken], taken, 7),
        "joint": parallel.joint_share([3, 5]),
        "raised": raised,
    }


def _raise(error: Exception) -> None:
    raise error


def test_processes_agree(tmp_path: Path) -> None:
    found = on(2, exchanges, folder=tmp_path)
    assert [one.pop("joint").tolist() for one in found] == [[0, 2, 3, 5, 7], [1, 4, 6]]
    for one in found:
        assert one["mean"] == 0.5
        assert (one["some"], one["none"]) == (True, False)
        assert one["leader"] == {"rank": 0}
        assert torch.equal(one["assembled"], torch.arange(7.0).half())
        assert one["raised"]["held"] == "Held('by someone')"
        assert one["raised"]["user"] == "UserError('no')"
        assert one["raised"]["few"] == "2 processes cannot share a batch of 1 rows"


# Batch statistics

NORMS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.BatchNorm2d(4, eps=1e-3, momentum=0.3),
    "with an activation": lambda: BatchNormAct2d(4, act_layer=nn.SiLU),
    "of rows": lambda: nn.BatchNorm1d(4, momentum=None),
    "not affine": lambda: nn.BatchNorm2d(4, affine=False),
}


def normalised(name: str, rows: slice, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return all that a batch norm gives for `rows` of two batches of 7, forward and backward."""
    norm = NORMS[name]().to(dtype).train()
    for p in norm.parameters():
        nn.init.uniform_(p, 0.5, 2, generator=seeded(3))
    model = parallel.replicate(nn.Sequential(norm)) if list(norm.parameters()) else norm
    if model is norm and parallel.world() > 1:  # DDP refuses networks without parameters
        norm.forward = lambda x: parallel._synchronised(norm, x)  # type: ignore
    found: dict[str, Tensor] = {}
    for seed in (0, 1):
        shape = (7, 4) if name == "of rows" else (7, 4, 3, 5)
        scale = torch.arange(1.0, 29).view(7, 4, *[1] * (len(shape) - 2))  # no row is like another
        x = (torch.randn(shape, generator=seeded(seed)) * scale + scale).to(dtype)[rows]
        x.requires_grad_()
        out = model(x)
        weights = torch.randn(shape, generator=seeded(seed + 9)).to(dtype)[rows]
        (out.square() * weights).sum().mul(parallel.world()).backward()
        assert x.grad is not None
        found |= {f"out {seed}": out.detach(), f"grad of x {seed}": x.grad / parallel.world()}
    found |= {f"grad of {k}": p.grad for k, p in norm.named_parameters() if p.grad is not None}
    found |= {k: v.clone() for k, v in norm.named_buffers()}
    norm.eval()
    return {**found, "evaluated": norm(x).detach()}


def normalised_shares(dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    return {name: normalised(name, parallel.share(7).rows, dtype) for name in NORMS}


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4)], ids=["exact", "float"]
)
def test_batch_statistics_are_those_of_torch_on_the_whole_batch(
    tmp_path: Path, dtype: torch.dtype, tolerance: float
) -> None:
    shares = on(2, normalised_shares, dtype, folder=tmp_path)
    for name in NORMS:
        whole = normalised(name, slice(None), dtype)
        for rank, share in enumerate(shares):
            assert share[name].keys() == whole.keys()
            for key, value in share[name].items():
                by_row = key.startswith(("out", "grad of x", "evaluated"))
                expected = whole[key][rank::2] if by_row else whole[key]
                torch.testing.assert_close(
                    value, expected, rtol=tolerance, atol=tolerance, msg=f"{name}: {key}"
                )


# Training


def trained(recipe: Recipe) -> dict[str, Any]:
    data = load(recipe.data, recipe.seed)
    pseudo = labels_for(data) if recipe.teacher else None
    nets: list[dict[str, Tensor]] = []
    losses: list[float] = []

    def keep(step: int, state: Callable[[], dict[str, Any]]) -> None:
        nets.append({name: value.clone() for name, value in state()["net"].items()})

    distilled = None
    if recipe.distillation.weight:
        distilled = 2 * torch.randn(len(data.labeled), data.classes, generator=seeded(1))
    lesson = Lesson(pseudo, distilled=distilled)
    average = train(recipe, data, lesson, log=lambda r: losses.append(r["loss"]), after_step=keep)
    with torch.inference_mode():
        logits = average(data.test.images[:50])
    found = {"logits": logits, "losses": torch.tensor(losses), **average.state_dict()}
    return found | {f"{k} at {i}": v for i, net in enumerate(nets) for k, v in net.items()}


@pytest.mark.parametrize(
    ("processes", "recipe"),
    [
        (2, STUDENT),
        (3, STUDENT.set({"train.loss": "sum", "model": "micro-b1"})),
        (2, TEACHER.set({"train.batch_size": 5, "train.epochs": 1})),
        (2, STUDENT.set({"distillation.weight": 0.5, "distillation.temperature": 2.0})),
        (2, ALONE.set({"consistency.method": "fixmatch", "consistency.threshold": 0.2})),
        (2, ALONE.set({"consistency.method": "mean-teacher", "consistency.weight": 10.0})),
        (2, ALONE.set({"consistency.method": "co-training", "consistency.threshold": 0.2})),
    ],
    ids=["student", "on three", "teacher", "distilled", "fixmatch", "mean-teacher", "co-training"],
)
def test_the_network_does_not_depend_on_the_number_of_processes(
    tmp_path: Path, processes: int, recipe: Recipe
) -> None:
    """RandAugment, cutout, crop, dropout and stochastic depth on; every weight after every step."""
    alone = trained(recipe)
    shares = on(processes, trained, recipe, folder=tmp_path)
    for rank, share in enumerate(shares):
        assert share.keys() == alone.keys()
        for key, value in share.items():
            assert torch.equal(value, shares[0][key]), f"processes disagree on {key}"
            torch.testing.assert_close(
                value, alone[key], rtol=TOLERANCE, atol=TOLERANCE, msg=f"{key} of rank {rank}"
            )


def gradients_in(parts: int) -> list[Tensor]:
    """Return the gradients of a joint batch, with batch statistics fixed."""
    data = load(STUDENT.data, STUDENT.seed)
    rows = rows_of(STUDENT, data, labels_for(data))
    net = network(STUDENT, data).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    replica = parallel.replicate(net)
    objective = Objective(STUDENT, Batches(rows), method_of(STUDENT), net, "cpu")
    gradients = Gradients(replica, parts, 1, print)
    for step in range(2):  # the second time into gradients that are views of what was exchanged
        gradients(partial(objective, replica, step))
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("parts", [2, 3])
def test_processes_share_a_batch_in_parts(tmp_path: Path, parts: int) -> None:
    alone = gradients_in(1)
    scale = float(max(gradient.abs().max() for gradient in alone))
    for share in on(2, gradients_in, parts, folder=tmp_path):
        assert len(share) == len(alone) > 10
        for own, whole in zip(share, alone, strict=True):
            torch.testing.assert_close(own, whole, rtol=1e-3, atol=1e-5 * scale)


def gone_on() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the averaged weights of a straight training and of one that goes on after step 5."""
    data = load(STUDENT.data, STUDENT.seed)
    states: dict[int, Any] = {}

    def keep(step: int, state: Callable[[], dict[str, Any]]) -> None:
        if step == 5:
            states[step] = copy.deepcopy(state())

    straight = train(STUDENT, data, Lesson(labels_for(data)), after_step=keep)
    resumed = train(STUDENT, data, Lesson(labels_for(data)), resume=states[5])
    return straight.state_dict(), resumed.state_dict()


def test_on_three_processes_resume_is_exact(tmp_path: Path) -> None:
    """Three float numbers have an order to be added in, which must not change with a restart."""
    for straight, resumed in on(3, gone_on, folder=tmp_path):
        assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


# Runs


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a finished teacher."""
    root = tmp_path_factory.mktemp("parallel") / "taught"
    run_one(Store(root).run(TEACHER))
    return root


@pytest.fixture
def run(taught: Path, tmp_path: Path) -> Run:
    shutil.copytree(taught, tmp_path / "store")
    return Store(tmp_path / "store").run(STUDENT)


def do(run: Run, stop_after: int = 1000) -> dict[str, Any]:
    """Do a run; process 1 alone wants to stop. Return its end and what was written and told."""
    written, told, steps = [], [], iter(range(1, 1000))
    publish = executed.publish

    def watched(path: Path, data: bytes) -> None:
        written.append(path.name)
        publish(path, data)

    executed.publish = checkpoint.publish = watched
    try:
        end = run_one(
            run,
            should_stop=lambda: next(steps) == stop_after and dist.get_rank() == 1,
            progress=lambda *counts: told.append(counts),
            checkpoint_seconds=1000,
        )
    except (Interrupted, Held) as error:
        end = type(error).__name__  # type: ignore[assignment]
    return {"end": end, "written": written, "told": len(told), "steps": next(steps) - 1}


def tensors(run: Run) -> dict[str, Tensor]:
    return {
        **safetensors.torch.load_file(run.path / MODEL),
        **safetensors.torch.load_file(run.path / LOGITS),
    }


def test_a_run_of_two_processes_is_the_run_of_one(run: Run, tmp_path: Path) -> None:
    """It stops on both, resumes to the same bytes, publishes once, and is not done again."""
    stores = [Path(shutil.copytree(run.path.parent, tmp_path / name)) for name in ("a", "b")]
    single, straight = (Store(path).run(STUDENT) for path in stores)
    alone = run_one(single)

    first, second = on(2, do, straight, folder=tmp_path)
    assert first["end"] == second["end"] == straight.result()
    assert sorted(first["written"]) == [LOGITS, MODEL, OUTCOMES]
    assert second["written"] == []
    assert (first["told"] > 0, second["told"]) == (True, 0)
    lines = (straight.path / "metrics.jsonl").read_text().splitlines()
    assert len(straight.metrics()) == len(lines) == 10
    assert first["end"].provenance["processes"] == 2
    assert alone.provenance["processes"] == 1
    assert first["end"].test.keys() == alone.test.keys()
    assert first["end"].test["loss"] == pytest.approx(alone.test["loss"], abs=TOLERANCE)
    expected = tensors(single)
    for name, value in tensors(straight).items():
        # logits are published in half precision
        within = 2e-3 if name == "logits" else TOLERANCE
        torch.testing.assert_close(value, expected[name], rtol=within, atol=within, msg=name)

    stopped = on(2, do, run, 5, folder=tmp_path)
    assert [(one["end"], one["steps"]) for one in stopped] == [("Interrupted", 5)] * 2
    saved = unseal((run.path / CHECKPOINT).read_bytes())
    assert torch.load(io.BytesIO(saved), weights_only=True)["step"] == 5
    assert not (run.path / "lease.json").exists()
    resumed = on(2, do, run, folder=tmp_path)
    assert [one["steps"] for one in resumed] == [9, 9]
    assert resumed[0]["end"].resumed == 1
    for name in (MODEL, LOGITS):
        assert (run.path / name).read_bytes() == (straight.path / name).read_bytes()

    again = on(2, do, run, folder=tmp_path)
    assert [(one["steps"], one["written"]) for one in again] == [(0, []), (0, [])]
    assert again[1]["end"] == run.result()


def test_a_run_that_is_held_is_left_by_all(run: Run, tmp_path: Path) -> None:
    lease = Lease(run.path)
    lease.acquire()
    assert [one["end"] for one in on(2, do, run, folder=tmp_path)] == ["Held", "Held"]
    lease.renew()


def fail(run: Run, where: int) -> None:
    steps = iter(range(1000))

    def should_stop() -> bool:
        if next(steps) == 3 and dist.get_rank() == where:
            raise ZeroDivisionError
        return False

    run_one(run, should_stop=should_stop)


@pytest.mark.parametrize("where", [0, 1])
def test_an_error_of_one_process_ends_both(run: Run, tmp_path: Path, where: int) -> None:
    began = time.monotonic()
    on(2, fail, run, where, folder=tmp_path, codes="not 0")
    assert time.monotonic() - began < 30
    assert run.state() in ("missing", "partial")
    assert Lease(run.path).holder() is None


# By hand


def by_hand(run: Run, *launcher: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, "-m", "ns_bench.execute.run_one", str(run.path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_torchrun_does_a_run(run: Run) -> None:
    run.path.mkdir()
    (run.path / "recipe.json").write_text(json.dumps(STUDENT.to_dict()))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = by_hand(run, *launcher)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1") == 1
    result = run.result()
    assert result is not None
    assert result.provenance["processes"] == 2


def test_a_folder_that_is_no_run_is_an_error_of_one_line(run: Run) -> None:
    done = by_hand(run)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "recipe.json" in done.stderr
    assert done.stderr.count("\n") == 1


def relabeled() -> tuple[Tensor, Tensor]:
    """Return labels by several views and by a noised network, of a pool of three chunks."""
    data = load(STUDENT.data, STUDENT.seed)
    net = seeing(build("micro-b1", 1, 10, 0, 0), data)
    pool, noise = data.unlabeled.images, RowNoise(dropout=0.5)
    return predict_views(net, pool, noise, 2, 0), predict_noised(net, pool, noise, 0)


def test_processes_share_the_labelling_of_a_pool(tmp_path: Path) -> None:
    alone = relabeled()
    for share in on(2, relabeled, folder=tmp_path):
        for labels, expected in zip(share, alone, strict=True):
            assert torch.equal(labels, expected)
