"""Weights of rows, spread over the states of parents that were seen."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.factors.conditionals.conditional import Conditional


def family_weights(
    conditional: Conditional, values: Mapping[Hashable, Tensor], weights: Tensor
) -> Tensor:
    """Return weights with an axis for each discrete parent, as statistics need them.

    Args:
        conditional: Whose parents.
        values: ``(N,)`` states of the parents that were seen; other names are ignored.
        weights: ``(N, ...)`` with an axis for each discrete parent that was not, in their order;
            further axes stay the last ones.
    """
    axis = 1
    for v in conditional.parents:
        if not v.is_discrete:
            continue
        if v.name in values:
            hot = one_hot(values[v.name], v.num_states).to(weights)
            lead = [len(hot), *[1] * (axis - 1), v.num_states]
            weights = weights.unsqueeze(axis)
            weights = weights * hot.reshape(*lead, *[1] * (weights.dim() - len(lead)))
        axis += 1
    return weights
