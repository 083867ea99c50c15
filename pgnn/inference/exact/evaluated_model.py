"""A model whose tables are evaluated only once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import FactorModel, Inputs
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.variable import Variable


class EvaluatedModel(FactorModel):
    """An undirected model whose networks run only once, at the first query.

    A score and its normaliser must use the same tables; with dropout, each evaluation of a network
    differs.

    Args:
        model: The model. Inputs must be the same in all queries.
    """

    def __init__(self, model: FactorModel) -> None:
        self._model = model
        self._grad = torch.is_grad_enabled()
        self._groups: tuple[FactorGroup, ...] | None = None

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """See the model."""
        return self._model.variables

    @property
    def elements(self) -> Elements:
        """See the model."""
        return self._model.elements

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """See :meth:`FactorModel.cached`; the cache is that of the model."""
        return self._model.cached(key, make)

    def cached_numbers(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """See :meth:`FactorModel.cached_numbers`; the cache is that of the model."""
        return self._model.cached_numbers(key, make)

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """See :meth:`Model.factors`."""
        groups = self.factor_groups(observed, inputs)
        return tuple(f for g in groups for f in g.factors(self._model.elements))

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """See :meth:`Model.factor_groups`; differentiable if the first call was."""
        if self._groups is None:
            with torch.set_grad_enabled(self._grad):
                self._groups = tuple(self._model.factor_groups(observed, inputs))
        return self._groups
