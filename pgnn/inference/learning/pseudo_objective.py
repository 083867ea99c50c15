"""The mean log pseudo-likelihood of rows as a function of a model's parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.evidence.evidence import Evidence
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.inference.exact.known_slopes import with_slopes
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.learning.climb import Mean
from pgnn.inference.learning.cpu_pseudo_likelihood import CpuPseudoLikelihood
from pgnn.inference.numba_support import has_numba
from pgnn.inference.propagation.state_columns import StateColumns

_ENTRIES = 2**21
"""How many states of places of factors are looked up at once."""


class PseudoObjective:
    r"""Mean of :math:`\sum_i \log p(x_i \mid x_{-i})` over complete rows.

    A compiled kernel walks over the rows; on a GPU, or without numba, torch works through them in
    blocks. Either way memory does not grow with the number of rows that share their tables.

    Args:
        model: With factors over discrete variables.
        compiled: Whether the kernel may be used.
    """

    figure: str | None = "pseudo_log_likelihood"

    def __init__(self, model: Any, compiled: bool = True) -> None:
        self.model = model
        self.compiled = compiled and has_numba()

    def __call__(self, rows: Evidence) -> Mean:
        """Return a function that returns the mean of some rows, ``()``."""
        rows = rows.merged()
        shares = rows.row_weights / rows.row_weights.sum()
        kernel = CpuPseudoLikelihood(rows.codes, shares)

        def mean() -> Tensor:
            groups = self.model.factor_groups(rows.reals or None, rows.inputs or None)
            graph = FactorGraph(self.model.elements, groups)
            if self.compiled and graph.device.type == "cpu":
                return kernel.mean(graph)
            codes = torch.from_numpy(rows.codes.astype(np.int64))
            return _Blocks(graph.elements, groups, codes, torch.from_numpy(shares)).mean()

        return mean


def log_conditionals(
    elements: Elements, groups: Sequence[FactorGroup], codes: Tensor, columns: StateColumns
) -> Tensor:
    r"""Return ``(N, E)`` values :math:`\log p(x_i \mid x_{-i})` of complete rows.

    Args:
        elements: The elements.
        groups: Factors; of row-wise ones the rows are those of ``codes``.
        codes: ``(N, E)`` int64 states.
        columns: Of the elements.
    """
    rows = len(codes)
    total = torch.zeros(rows, int(elements.offset[-1]), dtype=torch.float64, device=codes.device)
    for g in groups:
        for place in range(g.arity if g.num_factors else 0):
            scopes = torch.from_numpy(g.scopes).to(codes.device)
            first = columns.first[scopes[:, place]]
            total = g.add_conditionals(total, first, codes[:, scopes], place)
    norm = columns.log_sums(total)
    own = total.gather(1, codes + columns.first)
    impossible = own.isneginf()
    logs = own.masked_fill(impossible, 0.0) - norm.masked_fill(impossible, 0.0)
    return logs.masked_fill(impossible, -math.inf)


class _Blocks:
    """Rows in blocks that fit."""

    def __init__(
        self, elements: Elements, groups: Sequence[FactorGroup], codes: Tensor, shares: Tensor
    ) -> None:
        self.elements, self.groups = elements, groups
        device = groups[0].numbers.device if groups else codes.device
        self.codes, self.shares = codes.to(device), shares.to(device)
        self.columns = StateColumns(elements, device)
        states = int(elements.offset[-1]) + sum(int(elements.card[g.scopes].sum()) for g in groups)
        self.step = max(1, _ENTRIES // states)

    def mean(self) -> Tensor:
        """The mean, with derivatives by the numbers where gradients are wanted."""
        numbers = [g.numbers for g in self.groups]
        wanted = torch.is_grad_enabled() and any(n.requires_grad for n in numbers)
        leaves = [n.detach().requires_grad_(wanted and n.requires_grad) for n in numbers]
        learned = [k for k, n in enumerate(leaves) if n.requires_grad]
        value = torch.zeros((), dtype=torch.float64, device=self.codes.device)
        slopes = [torch.zeros_like(leaves[k]) for k in learned]
        for first in range(0, len(self.codes), self.step):
            rows = slice(first, first + self.step)
            groups = [_of_rows(g, n, rows) for g, n in zip(self.groups, leaves, strict=True)]
            logs = log_conditionals(self.elements, groups, self.codes[rows], self.columns)
            part = (logs.sum(1) * self.shares[rows]).sum()
            value = value + part.detach()
            if learned:
                more = torch.autograd.grad(
                    part, [leaves[k] for k in learned], materialize_grads=True
                )
                for slope, m in zip(slopes, more, strict=True):
                    slope += m
        if not learned:
            return value
        return with_slopes(value, [numbers[k] for k in learned], slopes)


def _of_rows(g: FactorGroup, numbers: Tensor, rows: slice) -> FactorGroup:
    """A group with other numbers, of some rows if they differ."""
    if g.batch_shape and numbers.shape[0] > 1:
        numbers = numbers[rows]
    return g.with_numbers(numbers)
