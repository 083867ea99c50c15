"""What follows from draws of the real variables: the discrete ones, given them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.inference.continuous.real_densities import ProductDensity, SummedDensity
from pgnn.inference.continuous.real_potential import RealPotential

_THINNED = 400


def spread(values: Mapping[Hashable, Tensor], n: int) -> dict[Hashable, Tensor]:
    """Return ``n`` of the draws, evenly over all chains."""
    picked = {}
    for name, x in values.items():
        flat = x.flatten(end_dim=1)
        picked[name] = flat[torch.linspace(0, len(flat) - 1, n).round().long()]
    return picked


def codes_of(
    model: Any, potential: RealPotential, reals: Mapping[Hashable, Tensor], n: int, seed: int | None
) -> Tensor:
    """Return ``(n, E)`` states drawn given the reals."""
    if not len(model.elements) or not n:
        return torch.zeros(n, len(model.elements), dtype=torch.int64)
    density = potential.density
    if isinstance(density, ProductDensity):
        density = SummedDensity(model, potential.seen, potential.inputs)
    return density.draw(reals, int(np.random.default_rng(seed).integers(2**31)))


def all_reals(
    model: Any, potential: RealPotential, reals: Mapping[Hashable, Tensor], n: int
) -> dict[Hashable, Tensor]:
    """Return all real variables, those that were observed too."""
    found = dict(reals)
    for v in model.variables.values():
        if not v.is_discrete and v.name not in found:
            found[v.name] = potential.seen.reals[v.name].expand(n, *v.shape)
    return found


def marginals_of(
    model: Any, potential: RealPotential, values: Mapping[Hashable, Tensor], wanted: Any
) -> Tensor:
    """Return ``(1, S)`` averages of exact marginals given some of the draws."""
    size = int(model.elements.offset[-1])
    if not wanted.any():
        return torch.zeros(1, size, dtype=torch.float64)
    density = potential.density
    if isinstance(density, ProductDensity):
        density = SummedDensity(model, potential.seen, potential.inputs)
    number = next(iter(values.values())).shape[:2].numel()
    some = spread(values, min(_THINNED, number))
    with torch.no_grad():
        return density.marginals(some, wanted).mean(dim=0, keepdim=True)
