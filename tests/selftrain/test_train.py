"""The training loop: losses, schedule, batches, averaged weights, resume, and what it may read."""

import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import dense, in_memory, labels_for, present, rows_of, seeded
from fakes import contents, edit_result, sha256
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

import ns_bench.data.split
from ns_bench.data.catalog import check
from ns_bench.data.split import Dataset, Unlabeled, load
from ns_bench.errors import UserError
from ns_bench.execute import run_one as executed
from ns_bench.execute.run_one import Interrupted, run_one
from ns_bench.recipe import Recipe, RowNoise
from ns_bench.runs.store import CHECKPOINT, LOGITS, MODEL, Run, Store
from ns_bench.selftrain.loss import loss_weights
from ns_bench.selftrain.models import NoisedNet, build
from ns_bench.selftrain.optimize import learning_rate
from ns_bench.selftrain.rows import Rows
from ns_bench.selftrain.targets import PseudoLabeled, smooth_one_hot
from ns_bench.selftrain.train import (
    Diverged,
    Lesson,
    train,
)

torch.set_num_threads(1)

CLEAN = RowNoise(randaugment_n=0, dropout=0.0, stochastic_depth=0.0)
NO_NOISE = {
    f"noise.{rows}.{name}": 0
    for rows in ("labeled", "unlabeled")
    for name in ("randaugment_n", "dropout", "stochastic_depth")
}
TINY = {"train.epochs": 6, "pseudo.threshold": 0.0, "train.warmup_epochs": 1, "train.ema": 0.9}


def supervised(**fields: Any) -> Recipe:
    return Recipe().set({**TINY, **{k.replace("__", "."): v for k, v in fields.items()}})


def student(teacher: Recipe | None = None, **fields: Any) -> Recipe:
    below = Recipe(teacher=teacher or supervised())
    return below.set({**TINY, **{k.replace("__", "."): v for k, v in fields.items()}})


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(Recipe().data, 0)


# Losses


def rows_of_losses(batch: int, ratio: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return cross entropies of `batch` labeled and `batch * ratio` unlabeled random rows."""
    logits = torch.randn(batch * (1 + ratio), 10, generator=seeded(seed))
    targets = torch.rand(len(logits), 10, generator=seeded(seed + 1)).softmax(1)
    losses = cross_entropy(logits, targets, reduction="none")
    return losses[:batch], losses[batch:]


@given(st.integers(2, 20), st.integers(1, 7), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_the_three_weightings_are_their_formulas(batch: int, ratio: int, seed: int) -> None:
    labeled, unlabeled = rows_of_losses(batch, ratio, seed)
    both = torch.cat([labeled, unlabeled])
    formulas = {
        "sum": labeled.mean() + unlabeled.mean(),  # Algorithm 1
        "mean": both.mean(),  # section 3.1
        "ratio": labeled.mean() + ratio * unlabeled.mean(),  # official code
    }
    found = {}
    for name, expected in formulas.items():
        weights = loss_weights(name, batch, batch * ratio)
        found[name] = (both * weights).sum()
        torch.testing.assert_close(found[name], expected)
    torch.testing.assert_close(found["ratio"], (1 + ratio) * found["mean"])
    alone = loss_weights("ratio", batch, 0)
    torch.testing.assert_close((labeled * alone).sum(), labeled.mean())
    alone = loss_weights("sum", 0, batch * ratio)
    torch.testing.assert_close((unlabeled * alone).sum(), unlabeled.mean())


def first_loss(recipe: Recipe, data: Dataset, pseudo: PseudoLabeled | None) -> float:
    records: list[dict[str, Any]] = []
    train(recipe, data, Lesson(pseudo), log=records.append)
    assert records[0]["step"] == 1
    return float(records[0]["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sum", "mean", "ratio"])
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_the_loss_of_a_step_is_its_formula(digits: Dataset, loss: str, kind: str) -> None:
    """From images and labels alone; labels are smoothed on labeled rows and hard targets only."""
    recipe = student(
        None, **NO_NOISE, train__epochs=1, train__loss=loss, train__label_smoothing=0.1
    )
    pseudo = labels_for(digits, kind=kind)
    streams = rows_of(recipe, digits, pseudo)
    (labeled, _), (unlabeled, _) = (part(0) for part in streams)
    net = build(recipe.model, 1, 10, recipe.seed, recipe.generation).train()
    with torch.no_grad():
        logits = net((torch.cat([labeled, unlabeled]) - digits.mean) / digits.std)
    order = [find(image, in_memory(digits.labeled.images)) for image in labeled]
    pool = [find(image, in_memory(digits.unlabeled.images)) for image in unlabeled]
    of_labeled = cross_entropy(logits[:50], digits.labeled.labels[order], label_smoothing=0.1)
    if kind == "hard":
        label = dense(pseudo.probabilities).argmax(1)[pool]
        of_unlabeled = cross_entropy(logits[50:], label, label_smoothing=0.1)
    else:
        of_unlabeled = cross_entropy(logits[50:], dense(pseudo.probabilities)[pool])
    expected = {
        "sum": of_labeled + of_unlabeled,
        "mean": (of_labeled + 3 * of_unlabeled) / 4,
        "ratio": of_labeled + 3 * of_unlabeled,
    }[loss]
    assert first_loss(recipe, digits, pseudo) == pytest.approx(expected.item(), rel=1e-4)


def find(image: Tensor, among: Tensor) -> int:
    hits = (among == image).flatten(1).all(1).nonzero().flatten()
    assert len(hits) >= 1
    return int(hits[0])


def test_both_kinds_of_rows_share_batch_statistics(digits: Dataset) -> None:
    recipe = student(None, **NO_NOISE, train__epochs=1)
    pseudo = labels_for(digits)
    states: list[dict[str, Any]] = []
    train(recipe, digits, Lesson(pseudo), after_step=lambda _, state: states.append(state()))
    batch = torch.cat([part(0)[0] for part in rows_of(recipe, digits, pseudo)])
    net = build(recipe.model, 1, 10, recipe.seed, recipe.generation).train()
    with torch.no_grad():
        net((batch - digits.mean) / digits.std)
    for name, value in net.named_buffers():
        torch.testing.assert_close(states[0]["net"][name], value, msg=name)


# Schedule


def test_training_uses_the_schedule_by_epochs_of_labeled_rows(digits: Dataset) -> None:
    recipe = supervised(train__batch_size=25, train__epochs=5, train__warmup_epochs=2)
    records: list[dict[str, Any]] = []
    train(recipe, digits, log=records.append)
    assert [r["step"] for r in records] == list(range(1, 11))
    for record in records:
        epoch = record["step"] * 25 / 50
        assert record["lr"] == pytest.approx(learning_rate(recipe.train, epoch))


# Batches


def numbered(count: int) -> tuple[Tensor, Tensor]:
    """Return images and targets that show which row they are."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return images.contiguous(), one_hot(torch.arange(count), count).float()


@settings(max_examples=60, deadline=None)
@given(
    order=st.lists(st.integers(0, 19), min_size=1, max_size=30),
    batch=st.integers(1, 40),
    steps=st.integers(1, 12),
    seed=st.integers(0, 1000),
    where=st.randoms(use_true_random=False),
)
def test_batches_any_order(order: list[int], batch: int, steps: int, seed: int, where: Any) -> None:
    """Epochs are permutations, batches run across their ends, and a step is a pure function."""
    images, targets = numbered(20)

    def fresh() -> Rows:
        return Rows(images, targets, torch.tensor(order), batch, CLEAN, seed, ("labeled", 0))

    rows = fresh()
    sequential = [rows(step) for step in range(steps)]
    drawn: list[int] = []
    for picture, target in sequential:
        assert picture.shape == (batch, 1, 2, 2)
        assert picture.dtype == torch.uint8
        assert torch.equal(picture[:, 0, 0, 0].long(), target.argmax(1))
        drawn += target.argmax(1).tolist()
    for start in range(0, len(drawn), len(order)):
        epoch = Counter(drawn[start : start + len(order)])
        assert epoch <= Counter(order)
        if start + len(order) <= len(drawn):
            assert epoch == Counter(order)
    shuffled = list(range(steps))
    where.shuffle(shuffled)
    jumping = fresh()
    for step in shuffled:
        for again, before in zip(jumping(step), sequential[step], strict=True):
            assert torch.equal(again, before)


def test_epochs_are_in_different_orders() -> None:
    images, targets = numbered(100)
    rows = Rows(images, targets, torch.arange(100), 100, CLEAN, 0, ("labeled", 0))
    orders = {tuple(rows(step)[1].argmax(1).tolist()) for step in range(5)}
    assert len(orders) == 5


def test_each_kind_generation_and_seed_has_its_own_order_and_noise() -> None:
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=seeded())
    targets = one_hot(torch.arange(60), 60).float()
    keys: list[tuple[int, tuple[str | int, ...]]]
    keys = [(0, ("labeled", 0)), (0, ("unlabeled", 0)), (0, ("unlabeled", 1)), (1, ("labeled", 0))]
    orders, noised = set(), set()
    for seed, key in keys:
        rows = Rows(images, targets, torch.arange(60), 60, CLEAN, seed, key)
        orders.add(tuple(rows(0)[1].argmax(1).tolist()))
        same = torch.zeros(60, dtype=torch.long)
        rows = Rows(images[:1], targets[:1], same, 60, RowNoise(), seed, key)
        noised.add(tuple(rows(0)[0].flatten().tolist()))
    assert len(orders) == len(noised) == len(keys)


def test_noise_is_drawn_anew_each_step_and_row() -> None:
    images = torch.randint(0, 256, (1, 1, 8, 8), generator=seeded()).byte()
    same = torch.zeros(40, dtype=torch.long)
    rows = Rows(images, torch.ones(1, 1), same, 40, RowNoise(), 0, ("labeled", 0))
    first, second = rows(0)[0], rows(1)[0]
    assert not torch.equal(first, second)
    assert len({tuple(image.flatten().tolist()) for image in first}) > 20


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, int]]:
    """Record the dropout and depth rates and the seed of the draws of each pass in training."""
    seen: list[tuple[Tensor, Tensor, int]] = []
    forward = NoisedNet.forward

    def watched(net: NoisedNet, x: Tensor, *noise: Any) -> Tensor:
        if net.training:
            dropout, depth, generator = noise[:3]
            seen.append((dropout, depth, generator.initial_seed()))
        return forward(net, x, *noise)

    monkeypatch.setattr(NoisedNet, "forward", watched)
    return seen


def test_each_kind_of_rows_has_its_own_model_noise(
    digits: Dataset, passes: list[tuple[Tensor, Tensor, int]]
) -> None:
    rates = {"dropout": (0.1, 0.5), "stochastic_depth": (0.3, 0.7)}
    recipe = student().set(
        {
            f"noise.{rows}.{name}": values[i]
            for name, values in rates.items()
            for i, rows in enumerate(("labeled", "unlabeled"))
        }
    )
    train(recipe, digits, Lesson(labels_for(digits)))
    assert len(passes) == recipe.steps
    for found in passes:
        for rate, (labeled, unlabeled) in zip(found, rates.values(), strict=False):
            expected = torch.tensor([labeled] * 50 + [unlabeled] * 150)
            torch.testing.assert_close(rate, expected)


@pytest.mark.slow
def test_model_noise_is_drawn_anew_each_step_and_pairs_arms(
    digits: Dataset, passes: list[tuple[Tensor, Tensor, int]]
) -> None:
    def draws(recipe: Recipe) -> list[int]:
        passes.clear()
        train(recipe, digits, Lesson(labels_for(digits) if recipe.teacher else None))
        return [seed for _, _, seed in passes]

    one, other = draws(student()), draws(student(train__lr=0.5, pseudo__kind="hard"))
    assert one == other
    teacher, elsewhere = draws(supervised()), draws(supervised().at_seed(1))
    assert len({*one, *teacher, *elsewhere}) == 18


def batches(recipe: Recipe, data: Dataset, step: int) -> list[tuple[Tensor, Tensor]]:
    pseudo = labels_for(data)
    return [part(step) for part in rows_of(recipe, data, pseudo)]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "micro-b3"},
        {"train.lr": 0.5, "train.optimizer": "sgd"},
        {"pseudo.kind": "hard", "train.loss": "sum"},
        {"noise.labeled.dropout": 0.0, "noise.unlabeled.stochastic_depth": 0.0},
    ],
)
def test_arms_of_a_seed_see_the_same_batches(digits: Dataset, change: dict[str, Any]) -> None:
    one, other = student(), student(supervised(model="micro-b2")).set(change)
    for step in (0, 5):
        pairs = zip(batches(one, digits, step), batches(other, digits, step), strict=True)
        for (images, targets), (other_images, other_targets) in pairs:
            assert torch.equal(images, other_images)
            assert torch.equal(targets, other_targets)


def test_arms_with_another_ratio_see_the_same_labeled_batches(digits: Dataset) -> None:
    one, other = student(), student(train__ratio=5)
    (labeled, unlabeled), (same, more) = batches(one, digits, 3), batches(other, digits, 3)
    assert torch.equal(labeled[0], same[0])
    assert len(more[0]) == 250
    assert len(unlabeled[0]) == 150


def test_noise_taken_from_unlabeled_rows_leaves_the_labeled_rows_alone(digits: Dataset) -> None:
    noised = student()
    clean = student(None, **{k: v for k, v in NO_NOISE.items() if k.startswith("noise.unlabeled")})
    for step in range(3):
        with_noise, without = batches(noised, digits, step), batches(clean, digits, step)
        assert torch.equal(with_noise[0][0], without[0][0])
        assert torch.equal(with_noise[1][1], without[1][1])  # the same rows in the same order
        assert not torch.equal(with_noise[1][0], without[1][0])
        assert all(find(image, in_memory(digits.unlabeled.images)) >= 0 for image in without[1][0])


def test_a_student_sees_the_rows_that_its_labels_name(digits: Dataset) -> None:
    """Those below the threshold never, and the repeated ones repeatedly."""
    pseudo = labels_for(digits)
    named = torch.arange(0, 60, 2).repeat_interleave(5)  # 150 rows: one batch is one epoch
    pseudo = replace(pseudo, rows=named)
    clean = student(None, **{k: v for k, v in NO_NOISE.items() if k.startswith("noise.unlabeled")})
    images, targets = rows_of(clean, digits, pseudo)[1](0)
    seen = Counter(tuple(image.flatten().tolist()) for image in images)
    assert seen == Counter(
        tuple(image.flatten().tolist()) for image in in_memory(digits.unlabeled.images)[named]
    )
    for image, target in zip(images, targets, strict=True):
        row = find(image, in_memory(digits.unlabeled.images))
        torch.testing.assert_close(target, dense(pseudo.targets)[row])


def test_a_batch_larger_than_the_pool_is_an_error(digits: Dataset) -> None:
    with pytest.raises(UserError) as error:
        check(student(train__ratio=30))
    message = str(error.value)
    assert all(text in message for text in ("train.ratio=30", "1500", str(len(digits.unlabeled))))
    with pytest.raises(UserError):  # a teacher further up
        check(student(student(train__ratio=30)))
    check(student(train__ratio=22))
    check(supervised(train__ratio=30))  # has no unlabeled rows


# Averaged weights


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.3, 0.9999])
def test_averaged_weights_follow_a_plain_loop(digits: Dataset, decay: float) -> None:
    recipe = supervised(train__epochs=8, train__ema=decay)
    nets: list[dict[str, Tensor]] = []

    def keep(step: int, state: Callable[[], dict[str, Any]]) -> None:
        nets.append({name: value.clone() for name, value in state()["net"].items()})

    found = train(recipe, digits, after_step=keep).state_dict()
    expected = build(recipe.model, 1, 10, recipe.seed, 0).state_dict()
    for step, net in enumerate(nets):
        now = min(decay, (1 + step) / (10 + step))
        for name, value in expected.items():
            if value.is_floating_point():
                expected[name] = now * value + (1 - now) * net[name]
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(found[name], value, msg=name)


# Learning


@pytest.mark.slow
def test_training_learns_and_a_student_learns_from_it(digits: Dataset) -> None:
    budget = {"train.lr": 0.02, "train.ema": 0.95, "train.warmup_epochs": 5, "train.epochs": 60}
    teacher = supervised().set(budget)
    records: list[dict[str, Any]] = []
    train(teacher, digits, log=records.append)
    assert len(records) == 10
    assert records[-1]["validation_top1"] > 60
    assert records[-1]["loss"] < records[0]["loss"] - 0.3
    truth = present(ns_bench.data.split.hidden_labels(teacher.data, 0))
    targets = smooth_one_hot(truth, 10, 0.1)
    perfect = PseudoLabeled(torch.arange(len(truth)), targets, targets)
    records.clear()
    recipe = student(teacher).set({**budget, "train.epochs": 30})
    train(recipe, digits, Lesson(perfect), log=records.append)
    assert records[-1]["loss"] < records[0]["loss"] - 0.3
    assert records[-1]["validation_top1"] > 60


def test_the_averaged_network_comes_back_in_eval_mode(digits: Dataset) -> None:
    net = train(supervised(), digits)
    assert not any(module.training for module in net.modules())


@pytest.mark.slow
def test_training_does_not_depend_on_the_global_random_state(digits: Dataset) -> None:
    torch.manual_seed(0)
    first = train(student(), digits, Lesson(labels_for(digits))).state_dict()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = train(student(), digits, Lesson(labels_for(digits))).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [2, 3, 6, 20, 200])
def test_an_absurd_rate_is_said_to_diverge(digits: Dataset, epochs: int) -> None:
    """Whether the loss or the weights are first seen to be beyond all numbers."""
    recipe = supervised(train__lr=1000, train__optimizer="sgd", train__epochs=epochs)
    with pytest.raises(Diverged, match=r"train.lr=1000"):
        train(recipe, digits)


def test_no_result_has_numbers_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that blows up on its last step, after its last look, is diverged, too."""

    def blown_up(*given: Any, **named: Any) -> torch.nn.Module:
        net = train(*given, **named)
        for weight in net.parameters():
            weight.data.fill_(math.nan)
        return net

    monkeypatch.setattr("ns_bench.execute.run_one.train", blown_up)
    run = Store(tmp_path).run(supervised())
    with pytest.raises(Diverged, match="not finite"):
        run_one(run)
    assert run.result() is None


def test_validation_rows_may_be_none() -> None:
    recipe = supervised(data__validation=0)
    records: list[dict[str, Any]] = []
    train(recipe, load(recipe.data, 0), log=records.append)
    assert not any(key.startswith("validation") for record in records for key in record)


# Whole runs: hidden labels, resume


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a finished teacher."""
    root = tmp_path_factory.mktemp("taught")
    run_one(Store(root).run(supervised()))
    return root


@pytest.fixture
def new_store(taught: Path, tmp_path: Path) -> Callable[[str], Store]:
    """Return a function that makes a store with the finished teacher and nothing else."""

    def make(name: str) -> Store:
        shutil.copytree(taught, tmp_path / name)
        return Store(tmp_path / name)

    return make


def test_the_type_of_the_unlabeled_set_has_no_labels(digits: Dataset) -> None:
    assert [f.name for f in fields(Unlabeled)] == ["images"]
    rows = {tuple(image.flatten().tolist()) for image in in_memory(digits.unlabeled.images)}
    for part in (digits.labeled, digits.validation, digits.test):
        assert not rows & {tuple(image.flatten().tolist()) for image in in_memory(part.images)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_hidden_labels_do_not_reach_the_student(
    new_store: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    recipe = student(pseudo__kind=kind)
    plain, poisoned = new_store("plain").run(recipe), new_store("poisoned").run(recipe)
    run_one(plain)
    true_labels, really_train = ns_bench.data.split.hidden_labels, executed.train
    trained: list[bool] = []

    def poisonous(spec: Any, seed: int, store: Path) -> Tensor:
        assert trained, "hidden labels were read before the training was over"
        return present(true_labels(spec, seed, store)).roll(100)

    def watched(*arguments: Any, **options: Any) -> Any:
        net = really_train(*arguments, **options)
        trained.append(True)
        return net

    monkeypatch.setattr(ns_bench.data.split, "hidden_labels", poisonous)
    monkeypatch.setattr(executed, "train", watched)
    run_one(poisoned)
    assert trained
    clean, other = contents(plain), contents(poisoned)
    diagnostics = [part["result"].pop("pseudo") for part in (clean, other)]
    assert diagnostics[0]["accuracy_pool"] != diagnostics[1]["accuracy_pool"]  # it was read after
    assert clean == other


STUDENT = student(train__epochs=12)


@pytest.fixture(scope="module")
def straight(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("straight") / "store"
    shutil.copytree(taught, root)
    run = Store(root).run(STUDENT)
    run_one(run)
    return contents(run)


def interrupt(run: Run, after: int) -> None:
    """Train `after` more steps of `run`."""
    steps = iter(range(1, 1000))
    with pytest.raises(Interrupted):
        run_one(run, should_stop=lambda: next(steps) == after)
    assert (run.path / CHECKPOINT).exists()
    assert run.result() is None


@pytest.mark.slow
@pytest.mark.parametrize("stops", [[1], [6], [11], [12], [1, 1, 4, 5], [3, 3, 3]])
def test_a_resumed_run_equals_a_straight_one(
    new_store: Callable[[str], Store], straight: dict[str, Any], stops: list[int]
) -> None:
    run = new_store("stopped").run(STUDENT)
    for after in stops:
        interrupt(run, after)
    result = run_one(run)
    assert result.resumed == len(stops)
    assert contents(run) == straight
    assert not (run.path / CHECKPOINT).exists()


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(new_store: Callable[[str], Store]) -> None:
    run = new_store("done").run(student())
    first = run_one(run)

    def never() -> bool:
        raise AssertionError

    assert run_one(run, should_stop=never) == first


@pytest.mark.slow
def test_a_student_does_not_go_on_with_the_labels_of_another_teacher(
    new_store: Callable[[str], Store], tmp_path: Path
) -> None:
    """Its teacher is done again, with other logits, while the student is half trained."""
    run = new_store("half").run(STUDENT)
    interrupt(run, 6)
    teacher = run.teacher
    assert teacher is not None
    other_teacher(teacher)
    shutil.copytree(run.path.parent, tmp_path / "fresh")
    fresh = Store(tmp_path / "fresh").run(STUDENT)
    (fresh.path / CHECKPOINT).unlink()
    run_one(fresh)
    run_one(run)
    assert contents(run)[MODEL] == contents(fresh)[MODEL]


def other_teacher(teacher: Run) -> None:
    """Publish other logits for `teacher`, as a machine with other arithmetic might."""
    import safetensors.torch

    logits = safetensors.torch.load_file(teacher.path / LOGITS)["logits"]
    content = safetensors.torch.save({"logits": logits.roll(1, 0).contiguous()})
    (teacher.path / LOGITS).write_bytes(content)
    known = present(teacher.result()).artifacts
    edit_result(teacher, artifacts={**known, LOGITS: {**known[LOGITS], "sha256": sha256(content)}})
