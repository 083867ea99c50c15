"""Integrated real variables as one factor over discrete ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.elements import Elements
from pgnn.factors.gaussians.component import GaussianComponent
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.untabulated_group import UntabulatedGroup
from pgnn.factors.variable import Variable

Ints = NDArray[np.int64]
Values = Mapping[Hashable, Tensor]

_LEAST = 2**10
"""Entries of a row's table from which it is better not written down at once."""


class GaussianGroup(UntabulatedGroup):
    r"""The density of observed real variables, hidden ones integrated out.

    .. math:: \phi(j) = \int p(x, e \mid j) \, dx

    A factor over the discrete variables on which the real ones depend. Its table is computed given
    the evidence on them.

    Args:
        component: The hidden variables and their conditionals.
        scope: ``(n,)`` indices of the elements of its discrete variables.
        observed: ``(B, *shape)`` values of real variables, ``NaN`` where not observed.
    """

    def __init__(self, component: GaussianComponent, scope: Ints, observed: Values) -> None:
        self.component = component
        self.observed = component.relevant(observed)
        values = [*self.observed.values()]
        rows = max((len(x) for x in values), default=1)
        super().__init__(scope, component.tensors, values, [rows])

    @classmethod
    def of(
        cls, component: GaussianComponent, elements: Elements, observed: Values
    ) -> GaussianGroup:
        """Return the factor of a component.

        Args:
            component: Component of a model.
            elements: Elements of its discrete variables.
            observed: Values of its real variables.
        """
        numbers = [int(elements.numbers(v.name)) for v in component.discrete]
        return cls(component, np.asarray(numbers, dtype=np.int64), observed)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables of the scope."""
        return self.component.discrete

    @property
    def is_large(self) -> bool:
        """Whether its table is too large to be computed in advance."""
        return self.num_entries > _LEAST

    @property
    def log_values(self) -> Tensor:
        """The table as a dense array.

        Raises:
            Intractable: If there are too many configurations.
        """
        return self._written({}, len(self.numbers)).unsqueeze(1)

    def of_rows(self, rows: Ints) -> Self:
        """Return the group with the values of some rows."""
        index = torch.from_numpy(rows)
        subset = super().of_rows(rows)
        subset.observed = {n: x[index.to(x.device)] for n, x in self._spread(self.observed).items()}
        return subset

    def given(self, codes: NDArray[np.int32]) -> FactorGroup:
        """Return the table over the variables that some row does not observe.

        Args:
            codes: ``(B, E)`` states of all elements, -1 where not observed.

        Raises:
            Intractable: If there are too many configurations.
        """
        states = codes[:, self.scopes[0]]
        observed = (
            np.asarray((states >= 0).all(axis=0))
            if len(states)
            else np.zeros(states.shape[1], np.bool_)
        )
        known = {
            v.name: torch.from_numpy(states[:, k].astype(np.int64))
            for k, v in enumerate(self.variables)
            if observed[k]
        }
        table = self._written(known, max(len(self.numbers), len(states)))
        return TableGroup(self.scopes[:, ~observed], table.unsqueeze(1))

    def look_up(self, states: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return ``(B, 1)`` log densities given complete states; see the base class."""
        group = self if rows is None else self._at(rows)
        flat = states[:, 0]
        known = {v.name: flat[:, k] for k, v in enumerate(self.variables)}
        return group._written(known, len(flat))[:, None]

    def score(self, columns: Tensor) -> Tensor:
        """Return ``(B,)`` log densities of complete rows; see the base class."""
        scope = torch.from_numpy(self.scopes[0]).to(columns.device)
        return self.look_up(columns.index_select(0, scope).T.long()[:, None])[:, 0]

    def conditionals(self, states: Tensor, place: int, rows: Tensor | None = None) -> Tensor:
        """Return ``(B, 1, K)`` log densities by the state on one axis; see the base class."""
        group = self if rows is None else self._at(rows)
        flat = states[:, 0]
        known = {v.name: flat[:, k] for k, v in enumerate(self.variables) if k != place}
        return group._written(known, len(flat))[:, None]

    def _written(self, known: Values, rows: int) -> Tensor:
        """The table ``(rows, K1, ..., Kn)`` over the unobserved variables."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.numbers.requires_grad):
            table = self.component.log_evidence(self.observed, known, rows)
        return table.to(self.numbers.dtype)

    def _at(self, rows: Tensor) -> Self:
        return self.of_rows(rows.cpu().numpy())

    def _spread(self, values: Values) -> dict[Hashable, Tensor]:
        """Values with a row for each row of the parameters."""
        rows = len(self.numbers)
        return {n: x.expand(rows, *x.shape[1:]) for n, x in values.items()}
