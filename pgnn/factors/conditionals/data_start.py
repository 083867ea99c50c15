"""Starting values of a torch distribution from data: locations, scales and rates in its units."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Exponential, Gamma, LogNormal
from torch.nn.functional import one_hot

from pgnn.factors.variable import Variable


class StartsFromData(ABC):
    """A conditional that begins a fit at numbers in the units of the data, if none were given."""

    @abstractmethod
    def start_from(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> None:
        """Set the numbers that were not given.

        Args:
            values: Observed values ``(N, ...)`` by name.
            weights: ``(N, K...)`` weights of rows, with an axis for each unobserved parent.
        """


def by_configuration(
    parents: Sequence[Variable], values: Mapping[Hashable, Tensor], weights: Tensor
) -> Tensor:
    """Return ``(N, J)`` weights of rows for each configuration of the discrete parents.

    Args:
        parents: The discrete parents.
        values: ``(N,)`` states of observed ones.
        weights: ``(N, K...)`` weights of rows, with an axis for each unobserved one.
    """
    lead = [v.num_states for v in parents]
    size = math.prod(lead)
    unknown = [v for v in parents if v.name not in values]
    if len(unknown) == len(parents) and weights.shape[1:] == torch.Size(lead):
        return weights.reshape(len(weights), size)
    total = weights.reshape(len(weights), -1).sum(dim=1, keepdim=True)
    if unknown:
        return total.expand(-1, size)
    number = torch.zeros(len(weights), dtype=torch.int64)
    for v in parents:
        number = number * v.num_states + values[v.name].long().cpu()
    return one_hot(number, size).to(total) * total


def data_start(kind: type[Distribution], x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Return ``(J, D)`` locations, scales and rates that match means and deviations.

    Args:
        kind: The class of the distribution.
        x: ``(N, D)`` values, ``NaN`` where missing.
        weights: ``(N, J)`` weights of rows for each configuration.

    Returns:
        Values of its parameters by name; none for parameters of other names.
    """
    names: Any = kind.arg_constraints
    x = x.log() if issubclass(kind, LogNormal) else x
    w = weights.to(x)[:, :, None] * x.isfinite().to(x)[:, None, :]
    x = x.nan_to_num(posinf=0.0, neginf=0.0)[:, None, :]
    total = w.sum(dim=0)
    everywhere = (w.sum(dim=1, keepdim=True) * x).sum(0) / w.sum(dim=(0, 1)).clamp_min(1e-300)
    mean = torch.where(total > 1e-8, (w * x).sum(0) / total.clamp_min(1e-300), everywhere)
    size = (w * x.abs()).sum(0) / total.clamp_min(1e-300)
    deviation = ((w * (x - mean).square()).sum(0) / total.clamp_min(1e-300)).sqrt()
    falls = issubclass(kind, Exponential | Gamma)  # with a larger rate
    found = {
        "loc": mean,
        "scale": deviation if "loc" in names else size,
        "rate": 1.0 / mean if falls else mean,
    }
    return {n: v for n, v in found.items() if n in names}
