"""Starting values of a torch distribution from data: locations, scales and rates in its units."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Cauchy,
    Distribution,
    Exponential,
    Gamma,
    GeneralizedPareto,
    HalfCauchy,
    Independent,
    LogNormal,
    StudentT,
    VonMises,
)
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

    @abstractmethod
    def start_nearer(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> None:
        """Begin at the data where the present numbers are far from these.

        A fit from numbers that are far from the data, for which a density may be zero or its
        gradient misleading, has the same result as one without given numbers.

        Args:
            values: Observed values ``(N, ...)`` by name.
            weights: ``(N, K...)`` posterior weights, with an axis for each unobserved parent.
        """

    @abstractmethod
    def restart(self) -> None:
        """Forget learned numbers, so that :meth:`start_from` sets them again."""

    def units(self) -> dict[Tensor, Tensor]:
        """Return the size of a step of the parameters that have the units of the data.

        Optimisers measure steps of a location in units of the current scale, so that they take the
        same steps whatever the units of the data. Parameters without an entry, such as logarithms
        of scales, have no units.
        """
        return {}


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
    """Return ``(J, D)`` locations, scales and rates that match moments or medians.

    Those of triangular matrices are ``(J, D, D)``.

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
    least = 1e-8 * total.amax(dim=0, keepdim=True).clamp_max(1.0)
    mean = torch.where(total > least, (w * x).sum(0) / total.clamp_min(1e-300), everywhere)
    size = (w * x.abs()).sum(0) / total.clamp_min(1e-300)
    deviation = ((w * (x - mean).square()).sum(0) / total.clamp_min(1e-300)).sqrt()
    falls = issubclass(kind, Exponential | Gamma)  # with a larger rate
    found = {
        "loc": mean,
        "scale": deviation if "loc" in names else size,
        "rate": 1.0 / mean if falls else mean,
    }
    if issubclass(kind, Cauchy | StudentT):  # which may have no mean
        found["loc"] = _median(x, w)
        found["scale"] = _median((x - found["loc"]).abs(), w)
    elif issubclass(kind, HalfCauchy):
        found["scale"] = _median(x.abs(), w)
    elif issubclass(kind, VonMises):
        found["loc"] = torch.atan2((w * x.sin()).sum(0), (w * x.cos()).sum(0))
    elif issubclass(kind, Beta):
        total = mean * (1.0 - mean) / deviation.square() - 1.0
        found |= {"concentration1": total * mean, "concentration0": total * (1.0 - mean)}
    elif issubclass(kind, GeneralizedPareto):
        shape = (0.5 * (1.0 - (mean / deviation).square())).clamp(0.05, 0.45)
        found |= {"concentration": shape, "scale": mean * (1.0 - shape)}
    found["scale_tril"] = deviation.diag_embed()
    return {n: v for n, v in found.items() if n in names}


def units_of(dist: Distribution, unconstrained: Mapping[str, Tensor]) -> dict[Tensor, Tensor]:
    """Return the units of the location, and of a triangular scale below the diagonal.

    Args:
        dist: The distributions of all configurations.
        unconstrained: Parameters by name, without constraints.
    """
    made: Any = dist
    while isinstance(made, Independent):
        made = made.base_dist
    scale, triangle = (getattr(made, n, None) for n in ("scale", "scale_tril"))
    spread = triangle.diagonal(dim1=-2, dim2=-1) if isinstance(triangle, Tensor) else scale
    if not isinstance(spread, Tensor) or not bool((spread.isfinite() & (spread > 0)).all()):
        return {}
    found = {}
    location, below = unconstrained.get("loc"), unconstrained.get("scale_tril")
    if location is not None and location.numel() % spread.numel() == 0:
        found[location] = spread.detach().expand(made.loc.shape).reshape(location.shape).clone()
    if below is not None and below.numel() == spread.numel() * spread.shape[-1]:
        rows = spread.detach().unsqueeze(-1).expand(*spread.shape, spread.shape[-1])
        units = rows.tril(-1) + torch.ones_like(rows).triu()
        found[below] = units.reshape(below.shape)
    return found


def _median(x: Tensor, weights: Tensor) -> Tensor:
    """Return ``(J, D)`` weighted medians of ``(N, 1 or J, D)`` values."""
    x = x.expand_as(weights)
    order = x.argsort(dim=0)
    share = weights.gather(0, order).cumsum(dim=0)
    first = (share >= 0.5 * share[-1]).to(torch.int64).argmax(dim=0, keepdim=True)
    return x.gather(0, order).gather(0, first).squeeze(0)
