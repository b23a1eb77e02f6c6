"""Hyperparameter search: a space of recipes, trials that are ordinary runs, what came of them."""
