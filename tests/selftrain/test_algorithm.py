"""Algorithm 1 without a store: the same network as through one."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import present

from ns_bench.data.split import load
from ns_bench.design.profile import load_profile
from ns_bench.execute.run_one import Interrupted, run_one
from ns_bench.execute.trained import dataset_of, network_of
from ns_bench.recipe import Recipe
from ns_bench.runs.store import RELABELED, Store
from ns_bench.selftrain import algorithm, self_train

torch.set_num_threads(1)

SMOKE = load_profile("smoke")
SHORT = {"train__epochs": 2, "pseudo__threshold": 0.0}
TEACHER = SMOKE.supervised("small", train__epochs=2)
PAIR = SMOKE.supervised("small", train__epochs=2, consistency__method="co-training")


def student(teacher: Recipe = TEACHER, **fields: Any) -> Recipe:
    return SMOKE.student("small", teacher, **{**SHORT, **fields})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "exact"),
    [
        (TEACHER, True),
        (student(student(), pseudo__kind="hard"), True),
        (student(train__resolution=12, pseudo__views=2), False),
        (student(pseudo__noised_teacher=True, distillation__weight=0.5), False),
        (student(train__rows="labeled", train__start="teacher", train__frozen=1), True),
        (student(PAIR), True),
    ],
    ids=["labels alone", "two rounds", "views", "noised teacher", "warm start", "taught by a pair"],
)
def test_self_training_is_what_a_study_runs(tmp_path: Path, recipe: Recipe, exact: bool) -> None:
    network = self_train(recipe, load(recipe.data, recipe.seed))
    store = Store(tmp_path)
    for link in recipe.generations:
        run_one(store.run(link))
    run = store.run(recipe)
    stored = network_of(run, dataset_of(run), "cpu")
    # a teacher that was read from its file labels in another memory format: other rounding
    rounding = 0.0 if exact else 1e-3
    for name, value in network.state_dict().items():
        torch.testing.assert_close(
            value, stored.state_dict()[name], rtol=rounding, atol=rounding, msg=name
        )


@pytest.mark.slow
def test_the_docs_show_it() -> None:
    """As printed, but for a profile that takes seconds."""
    page = (Path(__file__).parents[2] / "docs/how-to/python.md").read_text()
    (code,) = [
        part for part in re.findall(r"```python\n(.*?)```", page, re.S) if "self_train" in part
    ]
    names: dict[str, Any] = {}
    exec(code.replace('load_profile("digits")', 'load_profile("smoke")'), names)
    assert names["network"](names["data"].test.images[:2]).shape == (2, 10)


def test_the_chain_of_a_recipe_begins_with_its_first_teacher() -> None:
    last = student(student())
    assert [link.generation for link in last.generations] == [0, 1, 2]
    assert last.generations[-1] is last and last.generations[0] == TEACHER


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"pseudo__views": 3}, {"pseudo__noised_teacher": True}])
def test_labels_made_for_a_student_are_made_once(tmp_path: Path, monkeypatch, fields) -> None:
    """A run that goes on after it was stopped takes those that it kept, and ends as one that
    was not stopped."""
    made = []
    for name in ("predict_views", "predict_noised"):
        predict = getattr(algorithm, name)

        def counted(*arguments: Any, predict: Any = predict) -> Any:
            made.append(arguments)
            return predict(*arguments)

        monkeypatch.setattr(algorithm, name, counted)
    runs = [Store(tmp_path / place).run(student(**fields)) for place in ("whole", "stopped")]
    for run in runs:
        run_one(present(run.teacher))
    run_one(runs[0])
    assert len(made) == 1
    steps = iter(range(100))
    with pytest.raises(Interrupted):
        run_one(runs[1], should_stop=lambda: next(steps) == 1)
    kept = runs[1].path / RELABELED
    assert kept.is_file() and len(made) == 2
    run_one(runs[1])
    assert len(made) == 2 and not kept.exists()
    whole, stopped = (present(run.result()).artifacts for run in runs)
    assert whole == stopped


@pytest.mark.slow
def test_kept_labels_that_are_damaged_are_made_again(tmp_path: Path) -> None:
    run = Store(tmp_path).run(student(pseudo__views=2))
    run_one(present(run.teacher))
    run.path.mkdir()
    (run.path / RELABELED).write_bytes(b"damaged")
    assert run_one(run).pseudo is not None
