"""A model whose tables are made once, however often they are asked for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.inference.engine import Inputs


class TablesOnce:
    """An undirected model for which networks run once, at the first question.

    A score and its normaliser must come from the same tables: with dropout, networks make other
    ones each time.

    Args:
        model: Whose tables. Inputs must be the same in all questions.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._grad = torch.is_grad_enabled()
        self._made: tuple[FactorGroup, ...] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """See :meth:`Model.factors`."""
        groups = self.factor_groups(observed, inputs)
        return tuple(f for g in groups for f in g.factors(self._model.elements))

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """See :meth:`Model.factor_groups`; differentiable if gradients were wanted at first."""
        if self._made is None:
            with torch.set_grad_enabled(self._grad):
                self._made = tuple(self._model.factor_groups(observed, inputs))
        return self._made
