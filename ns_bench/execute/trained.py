"""A run in a store, as who uses it needs it: its data, its network."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from ns_bench.data import split
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe
from ns_bench.runs.store import MODEL, Run, run_in
from ns_bench.selftrain.methods import network
from ns_bench.selftrain.models import NoisedNet


@dataclass(frozen=True)
class Trained:
    """A finished run's averaged network, to be used anywhere.

    Attributes:
        recipe: of the run; test: its scores on test images.
        network: timm's own, under timm's names, in eval mode; returns logits, float32 [B, classes].
        transform: makes of a PIL image, of any mode and size, what the network takes of it:
            float32 [C, side, side], normalised by `mean` and `std` in units of 0 to 1.
        classes: their names, in the order of the logits.
        input: `input_size` (C, side, side), `mean`, `std`, `interpolation`, `crop_pct`, as timm
            names them.
    """

    recipe: Recipe
    test: dict[str, float]
    network: nn.Module
    transform: Callable[[Any], Tensor]
    classes: list[str]
    input: dict[str, Any]


def load(run: Path | str, store: Path | str = "runs") -> Trained:
    """Return what a finished run trained, with what it takes to predict by it.

    Args:
        run: its folder, or its id in `store`, or the 12 digits that end it.

    Raises:
        UserError: there is no such run, it is not done, or its data set is not to be found (mean
            and standard deviation are of that). Corrupt: its files are not what was published.
    """
    from timm.data import create_transform

    path = Path(run) if Path(run).is_dir() else Path(store) / run
    if not path.is_dir():
        ended = [each for each in Path(store).glob(f"*-{path.name}") if each.is_dir()]
        if len(ended) != 1:
            raise UserError(f"run {run}: there is no such folder, nor such a run in {store}")
        path = ended[0]
    found = run_in(path.resolve())
    if (result := found.result()) is None:
        raise UserError(f"{path}: the run is not done")
    data = dataset_of(found)
    net: Any = network_of(found, data, "cpu")
    net.normalise = nn.Identity()
    _, channels, _, side = data.test.images.shape
    mean, std = ((values.flatten() / 255).tolist() for values in (data.mean, data.std))
    given: dict[str, Any] = {
        "input_size": (channels, side, side),
        "mean": tuple(mean),
        "std": tuple(std),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
    }
    prepare = create_transform(**given)

    def transform(image: Any) -> Tensor:
        tensor: Tensor = prepare(image.convert("L" if channels == 1 else "RGB"))
        return tensor

    own = net.net if isinstance(net, NoisedNet) else net
    names = split.class_names(found.recipe.data, found.path.parent)
    return Trained(found.recipe, result.test, own, transform, names, given)


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
