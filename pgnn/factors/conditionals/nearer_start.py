"""Parameters of a torch distribution at the data, where others are far from these."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.data_start import data_start
from pgnn.factors.conditionals.parameter_constraints import WRONG, transform_of

_FAR = 5.0
"""Gain of the log-likelihood of a row, in nats, from which a start counts as far from the data."""


def begin_at(piece: Any, found: Mapping[str, Tensor]) -> None:
    """Set parameters, in place, where values are in the interior of their constraints.

    Args:
        piece: A conditional with ``unconstrained`` parameters and their ``constraints``, by name.
        found: Values by name; those of another size are left out.
    """
    for name, value in found.items():
        raw, transform = piece.unconstrained[name], transform_of(piece.constraints[name])
        shape = transform(raw).shape
        if value.numel() == shape.numel():
            begin = transform.inv(value.reshape(shape))
            raw.copy_(torch.where(begin.isfinite(), begin, raw))


def begin_nearer(piece: Any, kind: type[Distribution], x: Tensor, shares: Tensor) -> None:
    """Set the learnable parameters, in place, to those of the data where these are far likelier.

    Args:
        piece: See :func:`begin_at`; its parents are discrete.
        kind: The class of the distribution.
        x: ``(N, *shape)`` values of the child.
        shares: ``(N, J)`` weights of rows for each configuration of the parents.
    """
    found = data_start(kind, x.reshape(len(x), -1), shares)
    before = {n: raw.clone() for n, raw in piece.unconstrained.items()}
    now = _log_likelihoods(piece, x, shares)
    free = [n for n, raw in piece.unconstrained.items() if raw.requires_grad]
    begin_at(piece, {n: found[n] for n in free if n in found})
    then = _log_likelihoods(piece, x, shares)
    kept = ~then.isfinite() | (now >= then - _FAR * shares.sum(dim=0))
    lead = [v.num_states for v in piece.parents]
    for name, raw in piece.unconstrained.items():
        rows = kept.reshape([*lead, *[1] * (raw.dim() - len(lead))])
        raw.copy_(torch.where(rows, before[name], raw))


def _log_likelihoods(piece: Conditional, x: Tensor, shares: Tensor) -> Tensor:
    """``(J,)`` weighted log-likelihoods for each configuration; ``-inf`` where impossible."""
    try:
        table = piece.factor({piece.child.name: x}).log_values.reshape(shares.shape)
    except WRONG:  # a scale that rounds to zero
        return shares.new_full(shares.shape[1:], -math.inf)
    return torch.where(shares > 0, shares * table, 0.0).sum(dim=0)
