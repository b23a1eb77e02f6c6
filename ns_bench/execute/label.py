"""Labels of pools too large for their logits to be stored: shards, which jobs of an array share.

    python -m ns_bench.execute.label RUN_DIR
    sbatch --array 0-31 --gpus 1 --wrap "python -m ns_bench.execute.label RUN_DIR"

A shard is a file, RUN_DIR/labels/00003-of-01000, of at most 100,000 images: there whole or not at
all, sealed with its checksum, and noting the weights it was made by. How many there are is a
function of the pool's size alone. A student needs all those of its teacher, and before it trains
makes what is missing, damaged or of other weights, each of its processes on its own device. The
command does the same for a run that is done, before its students or beside them, in any number of
jobs. Whoever labels takes the next shard that nobody is at, by a lease. A job that is killed loses
that one, and another takes it over. All of them end when every shard is there.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import nn

from ns_bench.data.split import Images
from ns_bench.design import cost
from ns_bench.errors import UserError
from ns_bench.execute.trained import dataset_of, network_of
from ns_bench.files import Corrupt, publish, seal, unseal
from ns_bench.runs.lease import Held, Lease
from ns_bench.runs.store import MODEL, Run, run_in
from ns_bench.selftrain.evaluate import predict_sparse
from ns_bench.selftrain.scale.shards import bounds
from ns_bench.selftrain.targets import Sparse, sparse
from ns_bench.selftrain.train import Diverged

Labeler = Callable[[], nn.Module]
"""Returns the network that labels, on its device."""


class Shard(NamedTuple):
    """Rows of a pool with their labels; `fresh` if they were made just now."""

    rows: slice
    labels: Sparse
    fresh: bool


def pool_labels(
    run: Run, pool: Images, classes: int, labeler: Labeler, alive: Callable[[], None]
) -> Sparse:
    """Return the labels of a whole pool, from its shards; arguments and errors are `shards`'s."""
    one = sparse(torch.zeros(1, classes), cost.TOP)
    size = (len(pool), one.classes.shape[1])
    kinds, logs = one.classes.new_empty(size), one.log_probabilities.new_empty(size)
    for shard in shards(run, pool, classes, labeler, alive):
        kinds[shard.rows] = shard.labels.classes
        logs[shard.rows] = shard.labels.log_probabilities
    return Sparse(kinds, logs, classes)


def shards(
    run: Run,
    pool: Images,
    classes: int,
    labeler: Labeler,
    alive: Callable[[], None] = lambda: None,
) -> Iterator[Shard]:
    """Yield the shards of a run's pool as they are there, and make those that are not.

    Args:
        run: is done; its averaged weights label clean images.
        pool: its images, as large as the network sees them.
        labeler: is called once, if there is something to label.
        alive: is called every 1,024 images, and every second of waiting for others; may raise.

    Raises:
        UserError: the run is not done. Corrupt: its result is damaged. Diverged: its network's
        output on the pool is not finite.
    """
    result = run.result()
    if result is None:
        raise UserError(f"{run.id} is not done: it has no weights to label with")
    model, of = result.artifacts[MODEL]["sha256"], -(-len(pool) // cost.SHARD)
    left, network = list(range(of)), None
    while left:
        others = []
        for number in left:
            alive()
            rows = bounds(len(pool), number, of)
            path = run.path / "labels" / f"{number:05d}-of-{of:05d}"
            shape = (rows.stop - rows.start, min(cost.TOP, classes))
            note = {
                "of": f"{model}, rows {rows.start} to {rows.stop}"
            }  # one entry: their order varies
            read = partial(_read, path, note, shape, classes)
            labels, fresh = read(), False
            if labels is None:
                network = network or labeler()
                make = partial(_label, network, pool[rows], classes)
                try:
                    with Lease(path.parent, f"{path.name}.lease").held() as lease:
                        labels = read()  # made by another meanwhile?
                        if labels is None:
                            labels, fresh = make(partial(_alive, lease, alive)), True
                            _keep(path, labels, note)
                except Held:
                    others.append(number)
                    continue
            yield Shard(rows, labels, fresh)
        if others == left:
            time.sleep(1)
        left = others


def _alive(lease: Lease, alive: Callable[[], None]) -> None:
    alive()
    with contextlib.suppress(Held):  # taken over: both publish the same
        lease.renew()


def _label(net: nn.Module, images: Images, classes: int, alive: Callable[[], None]) -> Sparse:
    labels = predict_sparse(net, images, cost.TOP, classes, alive)
    if not labels.log_probabilities.isfinite().all():
        raise Diverged("the teacher's output on the pool is not finite")
    return labels


def _keep(path: Path, labels: Sparse, note: dict[str, str]) -> None:
    """Publish a shard's labels with a note of the SHA-256 of the weights, and of its rows."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    if path.is_dir():
        path.rename(path.with_name(f"{path.name}.{time.time_ns()}"))
    tensors = {"classes": labels.classes, "log_probabilities": labels.log_probabilities}
    publish(path, seal(safetensors.torch.save(tensors, note)))


def _read(path: Path, note: dict[str, str], shape: tuple[int, int], classes: int) -> Sparse | None:
    """Return a shard's labels; None if it is not there, damaged, or of other weights or rows."""
    try:
        content = unseal(path.read_bytes())
        header = int.from_bytes(content[:8], "little")
        same = json.loads(content[8 : 8 + header])["__metadata__"] == note
        labels = Sparse(**safetensors.torch.load(content), of=classes)
    except (FileNotFoundError, IsADirectoryError, Corrupt, ValueError, KeyError):
        return None
    return labels if same and labels.classes.shape == shape else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Label the pool of the run that the command line names, or what other jobs leave of it."""
    parser = argparse.ArgumentParser(description="Label the large pool of a run that is done.")
    parser.add_argument("run_dir", type=Path, help="folder of the run")
    options = parser.parse_args(arguments)
    try:
        run = run_in(options.run_dir.resolve())
        if not cost.sparse_labels(run.recipe.data):
            raise UserError(f"the pool of {run.id} is small: its logits are stored already")
        data = dataset_of(run)

        device = "cuda" if torch.cuda.is_available() else "cpu"
        labeler = partial(network_of, run, data, device)
        shard_count = fresh = 0
        for shard in shards(run, data.unlabeled.images, data.classes, labeler):
            shard_count, fresh = shard_count + 1, fresh + shard.fresh
            if shard.fresh:
                print(f"images {shard.rows.start:,} to {shard.rows.stop - 1:,} labeled", flush=True)
    except (UserError, Corrupt, Diverged) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{run.id}: all {shard_count} shards of labels are there, {fresh} of them made here")


if __name__ == "__main__":
    main()
