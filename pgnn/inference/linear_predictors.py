"""Softmax factors, which depend on their elements through linear predictors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from pgnn.factors.conditionals.linear_predictor import LinearPredictor
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearPredictors:
    r"""Children of ``C`` states whose logits are sums of terms, one for each parent.

    .. math:: p(y_u = c \mid x) = \mathrm{softmax}(\eta_u)_c, \qquad
        \eta_u = b_u + \sum_{n : u(n) = u} h_n(x_{i(n)})

    A change of one element changes the sums of its children only.

    Args:
        elements: The elements of the graph.
        child: ``(U,)`` indices of the children.
        unit: ``(N,)`` index in ``child`` of the child of each term, in increasing order.
        parent: ``(N,)`` index of the parent of each term.
        offset: ``(1, U, C)`` or ``(B, U, C)`` biases :math:`b_u`.
        terms: ``(N, K, C)`` terms :math:`h_n`; zeros where a parent has fewer than ``K`` states.
    """

    elements: Elements
    child: Ints
    unit: Ints
    parent: Ints
    offset: Tensor
    terms: Tensor

    @property
    def num_classes(self) -> int:
        """Number of states ``C`` of each child."""
        return int(self.terms.shape[2])

    @cached_property
    def first_term(self) -> Ints:
        """``(U,)`` index of the first term of each child."""
        return np.searchsorted(self.unit, np.arange(len(self.child)))

    @cached_property
    def parent_columns(self) -> Ints:
        """``(N, K)`` columns of the parents' states; one past the last column as padding."""
        state = np.arange(self.terms.shape[1])
        columns = self.elements.offset[self.parent][:, None] + state
        past = state >= self.elements.card[self.parent][:, None]
        return np.where(past, self.elements.offset[-1], columns)

    @cached_property
    def child_columns(self) -> Ints:
        """``(U, C)`` columns of the children's states."""
        return np.asarray(self.elements.offset[self.child][:, None] + np.arange(self.num_classes))

    @cached_property
    def terms_of(self) -> dict[int, Ints]:
        """Indices of the terms of each parent."""
        order = np.argsort(self.parent, kind="stable")
        parents, first = np.unique(self.parent[order], return_index=True)
        return dict(zip(parents.tolist(), np.split(order, first[1:]), strict=True))

    @cached_property
    def unit_of(self) -> dict[int, int]:
        """The index of each child."""
        return {int(e): u for u, e in enumerate(self.child)}

    def summed(self, by_term: Tensor) -> Tensor:
        """Return ``(B, U, ...)`` sums over the terms of each child, of ``(B, N, ...)``."""
        shape = by_term.shape[2:]
        size, left = divmod(len(self.unit), max(len(self.child), 1))
        if not left and (np.diff(self.first_term) == size).all():  # several times faster
            return by_term.reshape(len(by_term), len(self.child), size, *shape).sum(2)
        total = by_term.new_zeros(len(by_term), len(self.child), *shape)
        return total.index_add(1, torch.from_numpy(self.unit).to(by_term.device), by_term)


def split_predictors(
    elements: Elements, groups: Iterable[FactorGroup]
) -> tuple[list[FactorGroup], list[LinearPredictors]]:
    """Separate softmax factors without tables from all other groups.

    Returns:
        The other groups, and the linear predictors of the softmax factors by number of states.
    """
    others: list[FactorGroup] = []
    by_size: dict[int, list[tuple[Ints, LinearPredictor]]] = {}
    for g in groups:
        predictor = None if g.written_down else g.linear_predictor()
        if predictor is None:
            others.append(g)
        else:
            by_size.setdefault(predictor.offset.shape[-1], []).append((g.scopes[0], predictor))
    return others, [_gathered(elements, members) for members in by_size.values()]


def _gathered(
    elements: Elements, predictors: list[tuple[Ints, LinearPredictor]]
) -> LinearPredictors:
    most = max(p.terms.shape[1] for _, p in predictors)
    terms = [pad(p.terms, (0, 0, 0, most - p.terms.shape[1])) for _, p in predictors]
    rows = max(len(p.offset) for _, p in predictors)
    return LinearPredictors(
        elements,
        np.array([scope[-1] for scope, _ in predictors], dtype=np.int64),
        np.repeat(np.arange(len(predictors)), [len(scope) - 1 for scope, _ in predictors]),
        np.concatenate([scope[:-1] for scope, _ in predictors]),
        torch.stack([p.offset.expand(rows, -1) for _, p in predictors], dim=1).double(),
        torch.cat(terms).double(),
    )
