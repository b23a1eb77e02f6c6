"""What a short training rounds to, bit by bit: a version of the numerics stands for these bits.

Where this test fails after a change, results are no longer those of before: raise `NUMERICS` in
`ns_bench/execute/provenance.py`, and put the digests that it prints here.
"""

import hashlib

import pytest
import torch
from builders import present
from torch import Tensor, nn

from ns_bench.data.split import load
from ns_bench.execute.provenance import NUMERICS
from ns_bench.recipe import Recipe
from ns_bench.selftrain.evaluate import predict
from ns_bench.selftrain.train import train

GOLDEN = {
    # torch, and what it alone rounds to on this kind of processor: the version, and its bits
    ("2.14.1", "35c06486d674"): (2, "1ddf1a4b399b"),
}


def digest(*tensors: Tensor) -> str:
    content = b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)
    return hashlib.sha256(content).hexdigest()[:12]


def of_torch() -> str:
    """Return what torch alone rounds a convolution, a norm, a product and their gradients to."""
    draws = torch.Generator().manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(8, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32)
    )
    for weights in layers.parameters():
        nn.init.normal_(weights, generator=draws)
    x = torch.randn(40, 8, 4, 4, generator=draws).contiguous(memory_format=torch.channels_last)
    y = nn.functional.silu(layers(x))
    y.square().mean().backward()
    rows = x.permute(0, 2, 3, 1).reshape(-1, 8)
    exact = rows.double()
    products = rows @ torch.randn(8, 24, generator=draws), exact.t() @ exact
    return digest(y, *(present(w.grad) for w in layers.parameters()), *products)


def test_a_short_training_rounds_as_its_version_of_the_numerics_does() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = torch.__version__.partition("+")[0], of_torch()
        recipe = Recipe().set({"train.epochs": 2, "noise.labeled.randaugment_n": 1})
        data = load(recipe.data, 0)
        net = train(recipe, data)
        made = digest(*net.state_dict().values(), predict(net, data.test.images))
    finally:
        torch.set_num_threads(threads)
    if here not in GOLDEN:
        pytest.skip(f"{here} rounds otherwise than {[*GOLDEN]}; ours is {made}")
    assert (NUMERICS, made) == GOLDEN[here]
