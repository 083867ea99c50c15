"""Perplexity of sequence models."""

from __future__ import annotations

import math
from typing import Any

from pgnn.abilities import Inputs, StepwiseModel
from pgnn.errors import DataError
from pgnn.metrics.criterion import log_likelihood
from pgnn.metrics.model_choice import num_observations
from pgnn.models.model import Model


def perplexity(model: Model, data: Any, inputs: Inputs | None = None) -> float:
    r"""Return :math:`\exp(-\frac1N \sum_n \log p(y_n))` of sequences with ``N`` steps in total.

    It is the number of equally probable values with the same entropy. If the model includes the end
    of sequences, each end counts as a step.

    Args:
        model: A model of sequences, or a model without time, for which each row is a step.
        data: See ``model.log_prob``.
        inputs: Covariates.

    Raises:
        DataError: If the data has no observation.

    References:
        Jelinek, Mercer, Bahl and Baker (1977), Perplexity: a measure of the difficulty of speech
        recognition tasks.

    Example:
        >>> import pgnn
        >>> die = pgnn.HiddenMarkovModel(1, {"face": [[0.25, 0.25, 0.25, 0.25]]})
        >>> round(perplexity(die, {"face": [[0, 1, 2], [3, 3]]}), 4)
        4.0
    """
    if isinstance(data, list | tuple) and not data:
        raise DataError(
            f"perplexity needs at least one sequence, got {data!r}; an empty sequence is [[]], "
            "or [''] for characters"
        )
    if isinstance(model, StepwiseModel):
        lengths: Any = model.read(data, inputs).lengths
        steps = int(lengths.sum()) + len(lengths) * model.ends
    else:
        steps = num_observations(model, data)
    if not steps:
        raise DataError("perplexity needs at least one observation, but all data is missing")
    exponent = -log_likelihood(model, data, inputs) / steps
    return math.exp(exponent) if exponent < _MOST else math.inf


_MOST = 700.0
"""Exponents from here on overflow."""
