"""Dense matrices of couplings between two arrays of units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.units.axes import cut

Ints = NDArray[np.int64]


class Sides(NamedTuple):
    """Two sets of elements, each of the first joined to each of the second.

    Attributes:
        first: ``(m,)`` indices of elements.
        second: ``(n,)`` indices of elements; the same as ``first`` for all pairs of one set.
    """

    first: Ints
    second: Ints

    @property
    def is_symmetric(self) -> bool:
        """Whether the pairs are those of one set."""
        return self.first is self.second

    def pairs(self) -> Ints:
        """Return ``(F, 2)`` scopes in row-major order."""
        if self.is_symmetric:
            return self.first[np.stack(np.triu_indices(len(self.first), 1), axis=1)]
        grid = np.meshgrid(self.first, self.second, indexing="ij")
        return np.stack(grid, axis=-1).reshape(-1, 2)


class MatrixGroup(FactorGroup):
    r"""A dense matrix of couplings, :math:`\prod_{ij} \exp(\varphi(x_i)^\top W_{ij} \psi(y_j))`.

    One factor for each pair, in log units. Complete rows are scored by one matrix product; within
    one array of units every pair counts once.

    Args:
        sides: The elements that are joined.
        numbers: ``(*batch, F, d, e)`` couplings of the pairs' features.
        first: ``(K, d)`` features of the states of a unit on the first side.
        second: ``(L, e)`` features of those on the second side.
        scopes: ``sides.pairs()``, if it is known.

    Raises:
        ModelError: If the shapes do not agree.
    """

    def __init__(
        self,
        sides: Sides,
        numbers: Tensor,
        first: Tensor,
        second: Tensor,
        scopes: ArrayLike | None = None,
    ) -> None:
        self.first, self.second = first, second
        self.joined: Sides | None = sides
        super().__init__(sides.pairs() if scopes is None else scopes, numbers)
        if numbers.shape[-2:] != (first.shape[1], second.shape[1]):
            raise ModelError(
                f"couplings of {first.shape[1]} and {second.shape[1]} features need numbers "
                f"(..., {first.shape[1]}, {second.shape[1]}), got {tuple(numbers.shape)}"
            )

    @property
    def number_axes(self) -> int:
        """See :class:`FactorGroup`: one for the features of each side."""
        return 2

    @property
    def sides(self) -> Sides | None:
        """See :meth:`FactorGroup.sides`."""
        return self.joined

    @property
    def merge_key(self) -> tuple[object, ...]:
        """Unique, since several matrices are not one matrix."""
        return (id(self),)

    @property
    def num_entries(self) -> int:
        """See :class:`FactorGroup`."""
        return len(self.first) * len(self.second)

    @property
    def log_values(self) -> Tensor:
        """The tables as dense arrays, ``(*batch, F, K, L)``."""
        return self.first @ self.numbers @ self.second.T

    def with_numbers(self, numbers: Tensor, scopes: Ints | None = None) -> MatrixGroup:
        """See :meth:`FactorGroup.with_numbers`; other scopes may leave out pairs."""
        other = super().with_numbers(numbers, scopes)
        if scopes is not None:
            other.joined = None
        return other

    def matrix(self) -> Tensor:
        """Return ``(*batch, m d, n e)`` couplings; symmetric within one set, zero for no pair.

        Raises:
            ModelError: If pairs are missing.
        """
        if self.joined is None:
            raise ModelError("some pairs of a matrix are no matrix")
        m, n = len(self.joined.first), len(self.joined.second)
        d, e = self.numbers.shape[-2:]
        if self.joined.is_symmetric:
            i, j = torch.triu_indices(m, m, 1, device=self.numbers.device)
            grid = self.numbers.new_zeros(*self.batch_shape, m, m, d, e)
            grid[..., i, j, :, :] = self.numbers
            grid[..., j, i, :, :] = self.numbers.transpose(-1, -2)
        else:
            grid = self.numbers.reshape(*self.batch_shape, m, n, d, e)
        return grid.movedim(-2, -3).reshape(*self.batch_shape, m * d, n * e)

    # --- complete rows -------------------------------------------------------------------------

    def look_up(self, states: Tensor, rows: Tensor | None = None) -> Tensor:
        """See :meth:`FactorGroup.look_up`."""
        numbers = self.numbers[self.lead(states, rows)]
        left = self.first[states[..., 0]].unsqueeze(-2)
        return (left @ numbers @ self.second[states[..., 1]].unsqueeze(-1))[..., 0, 0]

    def score(self, columns: Tensor) -> Tensor:
        """See :meth:`FactorGroup.score`: a matrix product."""
        if self.joined is None:
            return super().score(columns)
        parts = []
        for elements, table in zip(self.joined, (self.first, self.second), strict=True):
            index = torch.from_numpy(elements).to(columns.device)
            parts.append(table[columns.index_select(0, index).T.long()].flatten(start_dim=1))
        left, right = parts
        pulled = (left.unsqueeze(-2) @ self.matrix()).squeeze(-2)
        total = (pulled * right).sum(-1)
        return 0.5 * total if self.joined.is_symmetric else total

    def conditionals(self, states: Tensor, place: int, rows: Tensor | None = None) -> Tensor:
        """See :meth:`FactorGroup.conditionals`."""
        numbers = self.numbers[self.lead(states, rows)]
        if place == 0:
            fields = numbers @ self.second[states[..., 1]].unsqueeze(-1)
            return (self.first @ fields)[..., 0].expand(*states.shape[:2], len(self.first))
        fields = self.first[states[..., 0]].unsqueeze(-2) @ numbers
        return (fields @ self.second.T)[..., 0, :].expand(*states.shape[:2], len(self.second))

    def expected(self, probabilities: Sequence[Tensor]) -> Tensor:
        """See :meth:`FactorGroup.expected`: the features are independent."""
        numbers = self.numbers.double()
        left = (probabilities[0].double() @ self.first.double()).unsqueeze(-2)
        right = (probabilities[1].double() @ self.second.double()).unsqueeze(-1)
        return (left @ numbers @ right)[..., 0, 0].sum(-1)

    def numbers_gradient(self, by_entry: Tensor) -> Tensor:
        """See :meth:`FactorGroup.numbers_gradient`."""
        table = cut(by_entry, by_entry.dim() - 1, len(self.second))
        gradient: Tensor = self.first.T @ table @ self.second
        return gradient.reshape(self.numbers.shape)
