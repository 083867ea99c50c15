"""Unobserved real variables given observed ones: the linear system of one query."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.factors.gaussians.elimination import (
    Elimination,
    Moments,
    eliminate,
    elimination_order,
)
from pgnn.factors.gaussians.least_squares import Block
from pgnn.factors.gaussians.log_integral import family_moments, log_integral
from pgnn.factors.gaussians.plain_elimination import PlainElimination
from pgnn.factors.variable import Variable

LOG_2PI = math.log(2.0 * math.pi)
AT_ONCE = 2**20
"""Numbers of rows that are computed together."""


@dataclass(frozen=True, eq=False)
class Observed:
    """The observed components of a variable in some rows.

    Attributes:
        mask: ``(B, D)`` which components were observed.
        values: ``(B, D)`` their values, zeros elsewhere.
    """

    mask: Tensor
    values: Tensor


class Mode(NamedTuple):
    r"""The most likely values :math:`x^*` of some variables given states and observations.

    Attributes:
        values: ``(B, K1 or 1, ..., Kn or 1, D)`` by name.
        log_density: ``(B or 1, K1 or 1, ..., Kn or 1)`` :math:`\log p(x^* \mid e, j)`.
    """

    values: dict[Hashable, Tensor]
    log_density: Tensor


@dataclass(frozen=True, eq=False)
class LinearSystem:
    r"""The joint density of hidden and observed reals, for each configuration of states.

    .. math:: p(x, e \mid j) = \exp(c_j - \tfrac12 \|A_j x - b_j\|^2)

    Args:
        hidden: The real variables, numbered in this order.
        free: Discrete variables, whose states are the axes behind the rows.
        blocks: Rows of the matrices, conditional by conditional.
        constant: ``(B or 1, K1 or 1, ..., Kn or 1)`` logs :math:`c`.
        order: In which variables are eliminated.
        observed: What was observed of variables that only some rows have observed, by number.
        num_rows: Rows of evidence ``B``.
        width: Numbers of the largest matrix that is reduced, about.
    """

    hidden: tuple[Variable, ...]
    free: tuple[Variable, ...]
    blocks: tuple[Block, ...]
    constant: Tensor
    order: tuple[int, ...]
    observed: Mapping[int, Observed]
    num_rows: int
    width: int

    @cached_property
    def sizes(self) -> dict[int, int]:
        """Dimensions of each variable."""
        return {k: v.num_elements for k, v in enumerate(self.hidden)}

    @property
    def states(self) -> tuple[int, ...]:
        """``(K1, ..., Kn)``."""
        return tuple(v.num_states for v in self.free)

    def pieces(self) -> list[LinearSystem]:
        """Return the same of some rows after the other, few enough to stay in a cache."""
        step = max(1, AT_ONCE // (math.prod(self.states) * self.width))
        starts = range(0, self.num_rows, step)
        return [self] if len(starts) < 2 else [self._at(slice(k, k + step)) for k in starts]

    def _at(self, rows: slice) -> LinearSystem:
        def cut(x: Tensor) -> Tensor:
            return x if len(x) == 1 else x[rows]

        return replace(
            self,
            blocks=tuple(Block(b.scope, cut(b.matrix), cut(b.target)) for b in self.blocks),
            constant=cut(self.constant),
            observed={n: Observed(cut(x.mask), cut(x.values)) for n, x in self.observed.items()},
            num_rows=len(range(self.num_rows)[rows]),
        )

    def with_axes(self, free: tuple[Variable, ...], first: int) -> LinearSystem:
        """Return the same with axes for more discrete variables, its own in the same order.

        Args:
            free: The discrete variables.
            first: The number of the first real variable.
        """
        states = {v.name: v.num_states for v in self.free}

        def wide(x: Tensor, tail: int) -> Tensor:
            sizes = iter(x.shape[1:])
            lead = [next(sizes) if v.name in states else 1 for v in free]
            return x.reshape(len(x), *lead, *x.shape[x.dim() - tail :])

        return replace(
            self,
            free=free,
            blocks=tuple(
                Block(tuple(k + first for k in b.scope), wide(b.matrix, 2), wide(b.target, 1))
                for b in self.blocks
            ),
            constant=wide(self.constant, 0),
            order=tuple(k + first for k in self.order),
            observed={k + first: x for k, x in self.observed.items()},
        )

    @classmethod
    def joined(cls, systems: Sequence[LinearSystem], free: tuple[Variable, ...]) -> LinearSystem:
        """Return several systems of the same rows as one.

        Args:
            systems: Of different variables.
            free: The discrete variables of all of them, in their common order.
        """
        first, wide = 0, []
        for s in systems:
            wide.append(s.with_axes(free, first))
            first += len(s.hidden)
        return cls(
            tuple(v for s in wide for v in s.hidden),
            free,
            tuple(b for s in wide for b in s.blocks),
            sum((s.constant for s in wide[1:]), wide[0].constant),
            tuple(k for s in wide for k in s.order),
            {k: x for s in wide for k, x in s.observed.items()},
            systems[0].num_rows,
            max(s.width for s in systems),
        )

    def log_evidence(self) -> Tensor:
        r"""Return ``(B, K1, ..., Kn)`` values :math:`\log p(e \mid j)`; differentiable."""
        pieces = self.pieces()
        if len(pieces) > 1:
            return torch.cat([p.log_evidence() for p in pieces])
        logs = log_integral(self.blocks, self.sizes, self.order) + self.constant
        logs = logs + 0.5 * LOG_2PI * self._num_hidden(logs.dim())
        return logs.expand(self.num_rows, *self.states)

    def elimination(
        self, last: Sequence[Hashable] = (), *, together: bool = True
    ) -> Elimination | PlainElimination:
        """Return each variable given later ones.

        Args:
            last: Names of variables that are eliminated after all others.
            together: Whether these have moments together.
        """
        order, blocks = self.order, self.blocks
        if last and (together or len(last) < len(self.hidden)):
            numbers = self._numbers(last)
            if together:
                size = sum(self.sizes[k] for k in numbers)
                lead = [1] * (1 + len(self.free))
                nothing = self.blocks[0].target.new_zeros(*lead, 1, size)
                blocks = (*blocks, Block(tuple(numbers), nothing, nothing[..., 0]))
            order = elimination_order([b.scope for b in blocks], self.sizes, numbers)
        tensors = (x for b in blocks for x in (b.matrix, b.target))
        plain = not torch.is_grad_enabled() or not any(x.requires_grad for x in tensors)
        by_one_matrix = PlainElimination.of(blocks, self.sizes, order) if plain else None
        return by_one_matrix or eliminate(blocks, self.sizes, order, compress=plain)

    def moments(
        self,
        elimination: Elimination | PlainElimination,
        cliques: Mapping[int, Moments],
        names: Sequence[Hashable],
    ) -> tuple[Tensor, Tensor]:
        """Return ``(B or 1, *lead, D)`` means and ``(B or 1, *lead, D, D)`` covariances.

        Args:
            elimination: An elimination.
            cliques: Its moments.
            names: Of a variable, or of those that were eliminated last and together.
        """
        numbers = self._numbers(names)
        family = family_moments(elimination, cliques, numbers)
        mean, covariance = family.mean, family.covariance
        observed = [self.observed.get(k) for k in numbers]
        if any(x is not None for x in observed):
            sizes = [self.sizes[k] for k in numbers]
            pairs = list(zip(observed, sizes, strict=True))
            some = next(x for x in observed if x is not None)
            mask = torch.cat([x.mask if x else some.mask.new_zeros(len(some.mask), n)
                              for x, n in pairs], dim=1)  # fmt: skip
            values = torch.cat([x.values if x else some.values.new_zeros(len(some.mask), n)
                                for x, n in pairs], dim=1)  # fmt: skip
            lead = [len(mask), *[1] * len(self.free)]
            pair = (mask.unsqueeze(-1) | mask.unsqueeze(-2)).reshape(*lead, *[mask.shape[1]] * 2)
            flat = [x.reshape(*lead, mask.shape[1]) for x in (mask, values)]
            mean = torch.where(flat[0], flat[1], mean)
            covariance = torch.where(pair, 0.0, covariance)
        return mean, covariance

    def draw(self) -> dict[int, Tensor]:
        """Return a draw ``(B, *lead, D)`` of each variable, by torch's present random state."""
        return self._with_observed(self.elimination().draw(self.num_rows))

    def mode(self, names: Sequence[Hashable]) -> Mode:
        r"""Return the most likely values of some variables, given states and observations.

        Args:
            names: Names of the variables; the others are integrated out.
        """
        pieces = self.pieces()
        if len(pieces) > 1:
            modes = [p.mode(names) for p in pieces]
            logs = [
                m.log_density.expand(p.num_rows, *m.log_density.shape[1:])
                for p, m in zip(pieces, modes, strict=True)
            ]
            values = {n: torch.cat([m.values[n] for m in modes]) for n in names}
            return Mode(values, torch.cat(logs))
        numbers = self._numbers(names)
        elimination = self.elimination(names, together=False)
        best = self._with_observed(elimination.mode())
        hidden = self._num_hidden(1 + len(self.free), numbers)
        return Mode(
            {
                n: best[k].expand(self.num_rows, *best[k].shape[1:])
                for n, k in zip(names, numbers, strict=True)
            },
            -elimination.log_spread(numbers) - 0.5 * LOG_2PI * hidden,
        )

    def _with_observed(self, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Values ``(B, *lead, D)`` of each variable, with the observed components filled in."""
        whole = dict(values)
        for number, observed in self.observed.items():
            lead = [len(observed.mask), *[1] * len(self.free), -1]
            mask, known = observed.mask.reshape(lead), observed.values.reshape(lead)
            whole[number] = torch.where(mask, known, whole[number])
        return whole

    def _numbers(self, names: Sequence[Hashable]) -> list[int]:
        return [self._place[n] for n in names]

    @cached_property
    def _place(self) -> dict[Hashable, int]:
        return {v.name: k for k, v in enumerate(self.hidden)}

    def _num_hidden(self, axes: int, variables: Collection[int] | None = None) -> Tensor:
        """``(B or 1, 1, ...)`` the number of unobserved components of some variables, or of all."""
        counted = self.sizes if variables is None else variables
        total = self.constant.new_full((1,), float(sum(self.sizes[k] for k in counted)))
        for number, observed in self.observed.items():
            if number in counted:
                total = total - observed.mask.sum(dim=1)
        return total.reshape(-1, *[1] * (axes - 1))
