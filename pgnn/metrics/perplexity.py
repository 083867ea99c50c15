"""How many values a model wavers between at each step."""

from __future__ import annotations

import math
from typing import Any

from pgnn.abilities import Inputs, StepwiseModel
from pgnn.errors import DataError
from pgnn.metrics.criterion import log_likelihood
from pgnn.metrics.model_choice import num_observations
from pgnn.models.model import Model


def perplexity(model: Model, data: Any, inputs: Inputs | None = None) -> float:
    r"""Return :math:`\exp(-\frac1N \sum_n \log p(y_n))` of sequences of ``N`` steps in all.

    It is the number of equally probable values that were as hard to guess. Where the model says
    where sequences end, each end counts as a step.

    Args:
        model: Of sequences; of a model without time each row is a step.
        data: As for ``model.log_prob``.
        inputs: Covariates.

    Raises:
        DataError: If nothing was observed.

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
            f"data has no sequences, got {data!r}, so that there is no perplexity; one that is "
            "empty is [[]], or [''] of characters"
        )
    if isinstance(model, StepwiseModel):
        lengths: Any = model.read(data, inputs).lengths
        steps = int(lengths.sum()) + len(lengths) * model.ends
    else:
        steps = num_observations(model, data)
    if not steps:
        raise DataError("nothing was observed, so that there is no perplexity")
    exponent = -log_likelihood(model, data, inputs) / steps
    return math.exp(exponent) if exponent < _MOST else math.inf


_MOST = 700.0
"""From here on exponentials are too large to be numbers."""
