"""A run in a store, as who uses it needs it: its recipe from its folder, its data, its network."""

import json
from dataclasses import replace
from pathlib import Path

import safetensors.torch
from torch import nn

from ns_bench import own_code
from ns_bench.data import split
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe
from ns_bench.runs.store import MODEL, Run
from ns_bench.selftrain.methods import network


def run_in(path: Path) -> Run:
    """Return the run in a folder. UserError: it is none, or has another run's name."""
    try:
        run = Run(Recipe.from_dict(json.loads((path / "recipe.json").read_bytes())), path)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a run: its recipe.json cannot be read ({error})") from None
    if run.id != path.name:
        raise UserError(f"{path} holds the recipe of {run.id}: the folder must have its name")
    own_code.look_in(path.parent / "code")
    return run


def dataset_of(run: Run) -> split.Dataset:
    """Load the split of a run's seed, with images as large as its network sees them."""
    recipe = run.recipe
    return split.load(recipe.data, recipe.seed, run.path.parent, recipe.train.resolution)


def network_of(run: Run, data: split.Dataset, device: str) -> nn.Module:
    """Return a finished run's averaged network, in eval mode; it takes uint8 images of `data`.

    Raises:
        Corrupt: the run is not done, or its weights are not what was published.
    """
    net = network(replace(run.recipe, pretrained=""), data)  # its weights follow
    net.load_state_dict(safetensors.torch.load(run.artifact(MODEL).read_bytes()))
    return net.to(device).eval()
