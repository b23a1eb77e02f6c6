"""Label a shard of a published run's pool: one job of an array, for pools too large for one.

    python -m ns_bench.execute.label RUN_DIR --shard 3 --of 128
    sbatch --array 0-127 --wrap "python -m ns_bench.execute.label RUN_DIR --of 128"

A shard is a file, RUN_DIR/labels/top10-of-128/00003, that is there whole or not at all: sealed with
its checksum, and noting the weights it was made by. One that is there is not made again.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import safetensors.torch
import torch

from ns_bench.data.catalog import TOP
from ns_bench.errors import UserError
from ns_bench.execute.run_one import dataset_of, loaded, run_in
from ns_bench.selftrain.evaluate import predict_sparse
from ns_bench.selftrain.shards import Sparse, bounds
from ns_bench.store import MODEL, Corrupt, Run, publish, seal, unseal


def label_shard(run: Run, shard: int, of: int, top: int = TOP, device: str = "cpu") -> bool:
    """Label one of `of` shards of the pool by the run's averaged weights, on clean images.

    Returns whether that was needed.

    Raises:
        UserError: there is no such shard, or the run is not done. Corrupt: its weights are damaged.
    """
    if not 0 <= shard < of:
        raise UserError(f"--shard {shard}: expected 0 to {of - 1}")
    path = _path(run, shard, of, top)
    if _read(run, path) is not None:
        return False
    weights = safetensors.torch.load(run.artifact(MODEL).read_bytes())
    data = dataset_of(run)
    net = loaded(run.recipe, data, weights).to(device)
    images = data.unlabeled.images[bounds(len(data.unlabeled), shard, of)]
    found = predict_sparse(net, images, data.mean, data.std, top, data.classes)
    tensors = {"classes": found.classes, "log_probabilities": found.log_probabilities}
    note = {"model": _model(run), "of": str(data.classes)}
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, seal(safetensors.torch.save(tensors, note)))
    return True


def labels(run: Run, of: int, top: int = TOP) -> Iterator[Sparse]:
    """Yield the labels of a run's pool, shard by shard.

    Raises:
        UserError: some are not there yet, or damaged.
    """
    paths = [_path(run, shard, of, top) for shard in range(of)]
    missing = [shard for shard, path in enumerate(paths) if not path.is_file()]
    if missing:
        listed = ",".join(map(str, missing[:20])) + (",..." if len(missing) > 20 else "")
        raise UserError(
            f"{len(missing)} of {of} shards of the labels of {run.id} are not there: {listed}"
        )
    for shard, path in enumerate(paths):
        found = _read(run, path)
        if found is None:
            raise UserError(f"{path} is damaged or of other weights: label shard {shard} again")
        yield found


def _path(run: Run, shard: int, of: int, top: int) -> Path:
    return run.path / "labels" / f"top{top}-of-{of}" / f"{shard:05d}"


def _model(run: Run) -> str:
    result = run.result()
    if result is None:
        raise UserError(f"{run.id} is not done: it has no weights to label with")
    return str(result.artifacts[MODEL]["sha256"])


def _read(run: Run, path: Path) -> Sparse | None:
    """Return a shard's labels; None if it is not there, damaged, or made by other weights."""
    model = _model(run)
    try:
        content = unseal(path.read_bytes())
    except (FileNotFoundError, Corrupt):
        return None
    header = int.from_bytes(content[:8], "little")
    note = json.loads(content[8 : 8 + header])["__metadata__"]
    if note["model"] != model:
        return None
    return Sparse(**safetensors.torch.load(content), of=int(note["of"]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Label the shard that the command line, or SLURM's array, names."""
    parser = argparse.ArgumentParser(description="Label a shard of a published run's pool.")
    add = parser.add_argument
    add("run_dir", type=Path, help="folder of the run")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    add("--shard", type=int, default=task, required=task is None, help="from 0 (default: the "
        "number in the job array)")  # fmt: skip
    add("--of", type=int, required=True, help="number of shards")
    add("--top", type=int, default=TOP, help=f"classes kept of each image (default: {TOP})")
    options = parser.parse_args(arguments)
    try:
        run = run_in(options.run_dir.resolve())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        fresh = label_shard(run, options.shard, options.of, options.top, device)
    except (UserError, Corrupt) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"shard {options.shard} of {options.of}: {'labeled' if fresh else 'was there already'}")


if __name__ == "__main__":
    main()
