"""Fewer and larger groups of factors, for engines that work through groups one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pgnn.factors.factor_group import FactorGroup, PottsGroup


def merged(groups: Sequence[FactorGroup]) -> tuple[FactorGroup, ...]:
    """Join groups of one kind, shape and type; tables that many factors share stay as they are.

    Args:
        groups: Of any potentials; the order of the first ones is kept.
    """
    alike: dict[tuple[object, ...], list[FactorGroup]] = {}
    for k, g in enumerate(groups):
        alike.setdefault(_kind(g) if _own_tables(g) else (k,), []).append(g)
    return tuple(_joined(held) if len(held) > 1 else held[0] for held in alike.values())


def _own_tables(g: FactorGroup) -> bool:
    """Whether each factor has a table of its own."""
    return g.num_factors == 1 or not g.shared


def _kind(g: FactorGroup) -> tuple[object, ...]:
    tables = g.numbers.shape[len(g.batch_shape) + 1 :]
    states = g.num_states if isinstance(g, PottsGroup) else None
    kind = (type(g), g.numbers.dtype, g.numbers.device)
    return (*kind, g.arity, g.batch_shape, tables, states, g.child)


def _joined(groups: Sequence[FactorGroup]) -> FactorGroup:
    scopes = np.concatenate([g.scopes for g in groups])
    numbers = torch.cat([g.numbers for g in groups], dim=len(groups[0].batch_shape))
    if isinstance(groups[0], PottsGroup):
        return PottsGroup(scopes, numbers, groups[0].num_states)
    return FactorGroup(scopes, numbers, groups[0].child)
