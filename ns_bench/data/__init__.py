"""Data sets as uint8 tensors, split by seed. The unlabeled part's type holds no labels."""
