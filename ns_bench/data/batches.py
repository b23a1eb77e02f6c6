"""CIFAR-10 and CIFAR-100 as torchvision has them: folders of pickled batches of rows of pixels.

Krizhevsky 2009 (cs.toronto.edu/~kriz/cifar.html, "python version"): `data` is uint8 [N, 3072], the
32 x 32 red pixels of an image, then the green and the blue ones.
"""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ns_bench.errors import UserError

if TYPE_CHECKING:
    import datasets

BATCHES = {"train": ("data_batch_1", "train"), "test": ("test_batch", "test")}
"""The first file of a split, in CIFAR-10 and in CIFAR-100."""


def files(folder: Path, split: str) -> list[Path]:
    """Return the files of a split, [] where the folder is none of these."""
    meta = [folder / name for name in ("batches.meta", "meta")]
    first = [folder / name for name in BATCHES.get(split, ())]
    if not any(path.is_file() for path in meta):
        return []
    found = [path for path in first if path.is_file()]
    several = found[:1] == [folder / "data_batch_1"]
    return sorted(folder.glob("data_batch_[1-9]")) if several else found


def open_split(folder: Path, split: str) -> "datasets.Dataset":
    """Return the images of a split, undecoded (a PPM file each), and their labels.

    Raises:
        UserError: a file cannot be read, or is something else.
    """
    import datasets

    cells: list[dict[str, Any]] = []
    labels: list[int] = []
    for path in files(folder, split):
        batch = _read(path)
        fine = batch.get("labels", batch.get("fine_labels"))
        data = np.asarray(batch.get("data", 0))
        if fine is None or data.dtype != np.uint8 or data.shape != (len(fine), 3072):
            raise UserError(f"{path}: expected `data` of 3072 bytes a row, and a label for each")
        pixels = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        cells += [{"bytes": b"P6 32 32 255\n" + image.tobytes(), "path": None} for image in pixels]
        labels += fine
    meta = _read(next(p for n in ("batches.meta", "meta") if (p := folder / n).is_file()))
    names = meta.get("label_names", meta.get("fine_label_names"))
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    features = datasets.Features(kinds)
    return datasets.Dataset.from_dict({"image": cells, "label": labels}, features=features)


class _Arrays(pickle.Unpickler):
    """Reads arrays, numbers and text: nothing that a file names is run."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _Arrays(file, encoding="latin1").load()
    except Exception as error:  # of damaged pickles nearly anything
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a table, as in the python version of CIFAR")
    return content
