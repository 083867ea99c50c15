"""The base class of queries, also of models over time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import ChainModel, FactorModel, Inputs, VariableModel
from pgnn.errors import EvidenceError
from pgnn.evidence.evidence import Evidence

Names = Hashable | Iterable[Hashable]


class BaseQuestion:
    """A model, rows of evidence, and targets.

    Args:
        model: The model.
        observed: ``B`` rows of evidence.
        inputs: Covariates by name.
        names: Names of the targets; None for all variables.
        errors: Treatment of impossible rows: ``"raise"`` or ``"nan"``.

    Raises:
        EvidenceError: If ``errors`` is neither of the two.
    """

    __slots__ = ("errors", "inputs", "model", "names", "observed")

    model: VariableModel
    observed: Evidence

    def __init__(
        self,
        model: VariableModel,
        observed: Evidence,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> None:
        if errors not in ("raise", "nan"):
            raise EvidenceError(f"errors must be 'raise' or 'nan', got {errors!r}")
        self.model, self.observed, self.inputs = model, observed, inputs
        self.names, self.errors = names, errors

    def check_whole(self) -> None:
        """Refuse targets that are elements of real arrays, where they cannot be answered."""

    def answered(self, answer: Any) -> Any:
        """Return an engine's posterior as it is given to the caller."""
        answer.is_partition = self.of_scores
        return answer

    @property
    def num_rows(self) -> int:
        """Number of rows of evidence ``B``."""
        return self.observed.num_rows

    @property
    def num_cells(self) -> int:
        """Number of values of all variables in all rows."""
        return self.num_rows * sum(v.num_elements for v in self.model.variables.values())

    @property
    def of_scores(self) -> bool:
        """Whether log probabilities are unnormalised scores, without the log partition function."""
        model = self.model
        return isinstance(model, FactorModel | ChainModel) and not model.is_normalized

    @property
    def wants_gradients(self) -> bool:
        """Whether gradients with respect to parameters, evidence or inputs are required."""
        if not torch.is_grad_enabled():
            return False
        if self.model.passes_gradients or self.observed.requires_grad:
            return True
        values: Iterable[Any] = (self.inputs or {}).values()
        return any(isinstance(x, Tensor) and x.requires_grad for x in values)

    def gradient_mode(self) -> AbstractContextManager[Any]:
        """Return the context of an answer, without gradients unless some are required."""
        as_it_is = self.wants_gradients == torch.is_grad_enabled()
        return nullcontext() if as_it_is else torch.no_grad()
