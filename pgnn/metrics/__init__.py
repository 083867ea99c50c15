"""Metrics of models and predictions, and model selection."""

from pgnn.metrics.credible_intervals import credible_intervals
from pgnn.metrics.criterion import Criterion
from pgnn.metrics.earth_mover import earth_mover
from pgnn.metrics.held_out import HeldOut
from pgnn.metrics.mode_coverage import ModeCoverage, mode_coverage
from pgnn.metrics.model_choice import (
    Bic,
    Choice,
    aic,
    bic,
    choose,
    num_learnable_parameters,
    num_observations,
)
from pgnn.metrics.perplexity import perplexity
from pgnn.metrics.sequence_labels import (
    ChunkScores,
    chunk_scores,
    chunks,
    edit_distance,
    token_accuracy,
)

__all__ = [
    "Bic",
    "Choice",
    "ChunkScores",
    "Criterion",
    "HeldOut",
    "ModeCoverage",
    "aic",
    "bic",
    "choose",
    "chunk_scores",
    "chunks",
    "credible_intervals",
    "earth_mover",
    "edit_distance",
    "mode_coverage",
    "num_learnable_parameters",
    "num_observations",
    "perplexity",
    "token_accuracy",
]
