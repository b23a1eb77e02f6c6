"""Data sets as uint8 tensors, split by seed. The unlabeled part's type holds no labels."""

from ns_bench.data.split import Dataset, Labeled, Unlabeled, hidden_labels, load

__all__ = ["Dataset", "Labeled", "Unlabeled", "hidden_labels", "load"]
