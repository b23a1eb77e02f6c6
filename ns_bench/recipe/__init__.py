"""What one training run is: its recipe, with code and weights of one's own that it may name."""

from ns_bench.recipe.recipe import (
    EVALUATIONS,
    HISTORICAL_DEFAULTS,
    NO_FILES,
    Recipe,
    dotted,
    idle_fields,
    read_fields,
)
from ns_bench.recipe.tables import (
    NO_NOISE,
    Consistency,
    Data,
    Distillation,
    Files,
    Glyphs,
    Noise,
    Part,
    PseudoLabels,
    RowNoise,
    Train,
    without_noise,
)

__all__ = [
    "EVALUATIONS",
    "HISTORICAL_DEFAULTS",
    "NO_FILES",
    "NO_NOISE",
    "Consistency",
    "Data",
    "Distillation",
    "Files",
    "Glyphs",
    "Noise",
    "Part",
    "PseudoLabels",
    "Recipe",
    "RowNoise",
    "Train",
    "dotted",
    "idle_fields",
    "read_fields",
    "without_noise",
]
