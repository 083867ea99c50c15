"""Initialisation of real variables that were never observed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.finite import is_all_nan

Features = Callable[[Hashable], Tensor]


def latent_reals(model: Any, observed: RowEvidence) -> list[Hashable]:
    """Return the real variables that no row observes and that have real children."""
    parents = {
        v.name for c in model.conditionals.values() if c.is_linear_gaussian for v in c.parents
    }
    return [
        n for n, v in model.variables.items()
        if not v.is_discrete and n in parents
        and (n not in observed.reals or is_all_nan(observed.reals[n]))
    ]  # fmt: skip


def without_effect(model: Any, names: Sequence[Hashable]) -> bool:
    """Whether some real variable has no effect, a saddle point that learning cannot leave."""
    for name in names:
        children = [
            c for c in model.conditionals.values()
            if c.is_linear_gaussian and any(v.name == name for v in c.parents)
        ]  # fmt: skip
        if children and not any(bool(c.regression().weight.detach().any()) for c in children):
            return True
    return False


def principal_components(
    model: Any,
    names: Sequence[Hashable],
    features: Features,
    observed: RowEvidence,
    generator: torch.Generator,
) -> dict[Hashable, Tensor]:
    """Return values ``(B, *shape)`` of latent real variables: principal components plus noise.

    Args:
        model: The model.
        names: Names of the latent real variables.
        features: Function that returns ``(B, F)`` features of a variable.
        observed: The rows.
        generator: Random generator of the noise, with the variance of the components.
    """
    rows, used = observed.num_rows, 0
    values: dict[Hashable, Tensor] = {}
    for name in names:
        v = model.variables[name]
        size = v.num_elements
        x = torch.randn(rows, size, dtype=torch.float64, generator=generator)
        table = features(name)
        table = table - table.mean(dim=0)
        deviation = table.std(dim=0, correction=0)
        table = table / deviation.masked_fill(deviation == 0, 1.0)
        if table.numel():
            left, _, _ = torch.linalg.svd(table, full_matrices=False)
            scores = left[:, used : used + size] * rows**0.5
            x[:, : scores.shape[1]] = (x[:, : scores.shape[1]] + scores) / 2.0**0.5
        used += size
        values[name] = x.reshape(rows, *v.shape)
    return values
