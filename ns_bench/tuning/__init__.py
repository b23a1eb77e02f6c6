"""Hyperparameter search: a space of recipes, trials that are ordinary runs, what came of them.

Names are here, so that a command can show its help without waiting for the rest beside it.
"""

from typing import Literal

Sampler = Literal["tpe", "random", "gp", "cmaes", "grid"]
Pruning = Literal["both", "seeds", "none"]
Objective = Literal["accuracy", "cost"]
