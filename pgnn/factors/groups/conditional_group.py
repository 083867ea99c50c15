"""A conditional as a factor, whose table is computed on demand only."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import Intractable
from pgnn.factors.conditionals.checks import in_words
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.decomposition import Decomposition
from pgnn.factors.conditionals.linear_predictor import LinearPredictor
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.untabulated_group import UntabulatedGroup
from pgnn.factors.variable import Variable

Ints = NDArray[np.int64]
Values = Mapping[Hashable, Tensor]

MAX_ENTRIES = 2**26
"""Most entries that a table may have, those of all rows together."""
_LEAST, _LEAST_DECOMPOSED = 2**12, 2**6
_NUMBERS = 2**22
"""Numbers of states that are scored together."""


class ConditionalGroup(UntabulatedGroup):
    r"""One conditional :math:`p(x \mid \mathrm{pa}(x))`, scored by its distribution.

    Complete rows need no table, and evidence is applied before one is computed. So a
    conditional may have hundreds of parents.

    Args:
        conditional: Of a single discrete child.
        scope: ``(n,)`` indices of the elements of the discrete variables that were not observed,
            parents first, the child last.
        observed: ``(B, ...)`` values of the other variables of its scope.
        inputs: Covariates by name, ``(B, ...)``.
    """

    def __init__(
        self,
        conditional: Conditional,
        scope: Sequence[int],
        observed: Values | None = None,
        inputs: Values | None = None,
    ) -> None:
        known = {v.name for v in conditional.scope}
        self.conditional = conditional
        self._prepared: Any = None
        self.observed = {n: x for n, x in (observed or {}).items() if n in known}
        self.inputs = {n: x for n, x in (inputs or {}).items() if n in conditional.inputs}
        values = (*self.observed.values(), *self.inputs.values())
        rows = [len(x) for x in values][:1]
        super().__init__(scope, conditional.parameters(), values, rows, len(scope) - 1)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables of the scope."""
        return tuple(v for v in self.conditional.scope if v.name not in self.observed)

    @property
    def log_values(self) -> Tensor:
        """The table as a dense array.

        Raises:
            Intractable: If it has too many entries.
        """
        with torch.set_grad_enabled(self.numbers.requires_grad):
            table = self._written({}).log_values
        return table.unsqueeze(len(self.batch_shape))

    def of_rows(self, rows: Ints) -> Self:
        """Return the group for some rows of its observed values, if there are any."""
        if not self.batch_shape:
            return self
        index = torch.from_numpy(rows)
        subset = super().of_rows(rows)
        subset.observed = {n: x[index.to(x.device)] for n, x in self.observed.items()}
        subset.inputs = {n: x[index.to(x.device)] for n, x in self.inputs.items()}
        return subset

    def decomposition(self, ranks: Ints | None = None) -> Decomposition | None:
        """Return small factors whose product is the table, if there are such."""
        if self.observed or self.inputs:
            return None
        by_parent = None if ranks is None else ranks[self.scopes[0, :-1]].tolist()
        with torch.set_grad_enabled(self.numbers.requires_grad):
            return self.conditional.decomposition(by_parent)

    def linear_predictor(self) -> LinearPredictor | None:
        """See :class:`FactorGroup`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.numbers.requires_grad):
            return self.conditional.linear_predictor(self.observed, self.inputs)

    def given(self, codes: NDArray[np.int32]) -> FactorGroup:
        """Return the table over the variables that some row does not observe.

        Args:
            codes: ``(B, E)`` states of all elements, -1 where not observed.

        Raises:
            Intractable: If it has too many entries.
        """
        states = codes[:, self.scopes[0]]
        if not self.batch_shape and len(states) and (states == states[:1]).all():
            states = states[:1]  # one table serves all rows
        observed = np.asarray((states >= 0).all(axis=0))
        known = {
            v.name: torch.from_numpy(states[:, k].astype(np.int64)).to(self.numbers.device)
            for k, v in enumerate(self.variables)
            if observed[k]
        }
        rows = len(states) if known or self.batch_shape else 1
        if self.batch_shape:
            known = {n: x.expand(rows) for n, x in known.items()}
        with torch.set_grad_enabled(self.numbers.requires_grad):
            factor = self._written(known, rows)
        table = factor.log_values
        if rows == 1 and not self.batch_shape:
            table = table.reshape(table.shape[len(factor.batch_shape) :]).unsqueeze(0)
        else:
            table = table.unsqueeze(1)
        child = len(factor.variables) - 1 if not observed[-1] else None
        return TableGroup(self.scopes[:, ~observed], table, child)

    def look_up(self, states: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return ``(B, 1)`` log probabilities of complete rows; see the base class."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.numbers.requires_grad):
            flat = states[:, 0].to(self.numbers.device)
            values, inputs = (self._at(x, rows, len(flat)) for x in (self.observed, self.inputs))
            return self.conditional.log_prob_rows(flat, values, inputs)[:, None]

    def score(self, columns: Tensor) -> Tensor:
        """Return ``(B,)`` log probabilities of complete rows; see the base class."""
        scope = torch.from_numpy(self.scopes[0]).to(columns.device)
        step = max(1, _NUMBERS // len(scope))
        if self.batch_shape or columns.shape[1] <= step:
            return self.look_up(columns.index_select(0, scope).T.long()[:, None])[:, 0]
        starts = range(0, columns.shape[1], step)
        return torch.cat([self.score(columns[:, k : k + step]) for k in starts])

    def conditionals(self, states: Tensor, place: int, rows: Tensor | None = None) -> Tensor:
        """Return ``(B, 1, K)`` log probabilities by the state on one axis; see the base class."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.numbers.requires_grad):
            flat = states[:, 0].to(self.numbers.device)
            values, inputs = (self._at(x, rows, len(flat)) for x in (self.observed, self.inputs))
            conditional = self.conditional
            return conditional.log_conditionals(flat, place, values, inputs, self._prepared)[
                :, None
            ]

    def prepared(self) -> Self:
        """Return the group with cached lookups; see the base class."""
        other = self.with_numbers(self.numbers.detach())
        with torch.no_grad():
            other._prepared = self.conditional.prepared()
        return other

    def _written(self, known: Values, rows: int = 1) -> Factor:
        """The table over the unobserved variables; its size is checked first."""
        free = [v for v in self.variables if v.name not in known]
        entries = math.prod(v.num_states for v in free)
        if entries * rows > MAX_ENTRIES:
            name = self.conditional.child.name
            raise Intractable(
                f"the table of {name!r} over its {len(free)} unobserved variables has "
                f"{in_words(entries)} entries" + (f" in each of {rows:,} rows" if rows > 1 else "")
                + f", at most {MAX_ENTRIES:,} are written down", "observe more of its parents, or "
                "use Gibbs() or ImportanceSampling(), which need no table, or MeanField() (of a "
                "Sigmoid or Softmax)"
            )  # fmt: skip
        return self.conditional.factor({**self.observed, **known}, self.inputs or None)

    def _at(self, values: Values, rows: Tensor | None, count: int) -> dict[Hashable, Tensor]:
        """Values at the rows of states."""
        if rows is None:
            return {n: x if len(x) == count else x.expand(count, *x.shape[1:])
                    for n, x in values.items()}  # fmt: skip
        zero = torch.zeros_like(rows)
        return {
            n: x[(rows if len(x) > 1 else zero).to(x.device)].to(x.device)
            for n, x in values.items()
        }


def is_large(conditional: Conditional, observed: Collection[Hashable]) -> bool:
    """Return whether a conditional's table is too large to be computed in advance.

    Args:
        conditional: Of any kind.
        observed: Names of the variables that are not axes of the table.
    """
    free = [v for v in conditional.scope if v.name not in observed]
    if (
        conditional.is_table
        or conditional.child.name in observed
        or any(not v.is_discrete or v.shape for v in free)
    ):
        return False
    most = _LEAST_DECOMPOSED if conditional.decomposes else _LEAST
    return math.prod(v.num_states for v in free) > most
