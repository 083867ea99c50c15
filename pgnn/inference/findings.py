"""What a posterior was given, in the form that pictures and notebooks show."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pgnn.errors import EvidenceError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.elements import Elements


class Observed(NamedTuple):
    """How many elements of an array were observed."""

    known: int
    total: int

    def __str__(self) -> str:
        return f"{self.known:,} of {self.total:,} observed"


@dataclass(frozen=True, eq=False)
class Findings:
    """The evidence of a query, by the names of variables.

    Attributes:
        evidence: ``B`` rows of evidence.
        elements: The elements of the model's discrete variables.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> model.query("a", {"b": [0, 1]}).findings.of_row(1)
        {'b': 1}
    """

    evidence: RowEvidence
    elements: Elements

    def of_row(self, row: int) -> dict[Hashable, Any]:
        """Return what was observed in a row.

        Args:
            row: Index of the row.

        Returns:
            By name the state of a discrete variable, the number of a real one, an
            :class:`Observed` of an array, and None for soft evidence.

        Raises:
            EvidenceError: If the row does not exist.
        """
        rows = self.evidence.num_rows
        if not 0 <= row < rows:
            raise EvidenceError(f"row must be below {rows}, the number of rows, got {row}")
        variables = {v.name: v for v in self.elements.variables}
        found: dict[Hashable, Any] = {}
        for name in self.evidence.names:
            if name not in variables:
                found |= self._number(name, row)
                continue
            numbers = self.elements.numbers(name)
            codes = self.evidence.codes[row, numbers]
            known = int((codes >= 0).sum())
            if known:
                states = variables[name].states or ()
                shaped = variables[name].shape
                found[name] = Observed(known, codes.size) if shaped else states[int(codes)]
            elif self._is_soft(name, row):
                found[name] = None
        return found

    def _number(self, name: Hashable, row: int) -> dict[Hashable, Any]:
        """Return the number of a real variable, if it was observed."""
        if name not in self.evidence.reals:
            return {}
        values = self.evidence.reals[name][row].detach().cpu().double()
        known = int((~values.isnan()).sum())
        if not known:
            return {}
        return {name: Observed(known, values.numel()) if values.dim() else float(values)}

    def _is_soft(self, name: Hashable, row: int) -> bool:
        """Return whether there is a likelihood of a variable that is not constant."""
        if name in self.evidence.soft_tensors:
            return True
        if self.evidence.soft is None:
            return False
        first = self.elements.offset[self.elements.numbers(name).ravel()[0]]
        variable = next(v for v in self.elements.variables if v.name == name)
        size = math.prod(variable.shape) * variable.num_states
        weights = self.evidence.soft[row, int(first) : int(first) + size]
        return bool(np.any(weights != 1.0))
