"""The paper's Algorithm 1: train, label, train a noised student on both, repeat.

Knows nothing of studies, stores or clusters: data and recipes in, weights and numbers out.
"""

from ns_bench.selftrain.algorithm import self_train

__all__ = ["self_train"]
