"""A graph and what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.evidence.evidence import Evidence, over_inputs
from pgnn.inference.engine import FactorModel, Inputs
from pgnn.inference.grouped_graph import GroupedGraph
from pgnn.inference.question import reader_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Problem:
    """A graph and what was seen of it.

    Attributes:
        model: Whose graph it is.
        graph: Elements and groups of factors.
        seen: ``B`` rows of evidence.
        inputs: Covariates that row-wise tables were made from.
    """

    model: FactorModel
    graph: GroupedGraph
    seen: Evidence
    inputs: Inputs | None = None

    @classmethod
    def read(cls, model: FactorModel, evidence: Any, inputs: Inputs | None) -> Problem:
        """Read evidence about a model; the graph is kept while the parameters stay."""
        seen = over_inputs(reader_of(model).read(evidence), inputs)
        if seen.reals or inputs:
            groups = model.factor_groups(seen.reals or None, inputs)
            return cls(model, GroupedGraph(model.elements, groups), seen, inputs)
        graph = model.cached_numbers(
            "grouped graph", lambda: GroupedGraph(model.elements, model.factor_groups())
        )
        return cls(model, graph, seen)

    def given(self, codes: NDArray[np.integer]) -> Problem:
        """Return the same with more states known.

        Args:
            codes: ``(B, E)`` states; -1 for elements of which nothing is added.
        """
        known = np.where(codes >= 0, codes, self.seen.codes).astype(np.int32)
        return replace(self, seen=replace(self.seen, codes=known))

    @property
    def num_rows(self) -> int:
        """Rows of evidence ``B``."""
        return self.seen.num_rows

    @property
    def complete(self) -> bool:
        """Whether every element is observed in every row."""
        return self.seen.soft is None and bool((self.seen.codes >= 0).all())

    def log_field(self) -> Floats:
        """``(B, S)`` field of every element, what was seen included: ``-inf`` at other states."""
        offset = self.graph.elements.offset
        own = self.graph.log_field.detach().to("cpu", torch.float64).numpy()
        total = np.array(np.broadcast_to(own, (self.num_rows, own.shape[1])))
        if self.seen.soft is not None:
            with np.errstate(divide="ignore"):
                total += np.log(self.seen.soft)
        rows, seen = np.nonzero(self.seen.codes >= 0)
        if len(rows):
            kept = offset[seen] + self.seen.codes[rows, seen]
            values = total[rows, kept]
            hidden = np.repeat(self.seen.codes >= 0, np.diff(offset), axis=1)
            total[hidden] = -np.inf
            total[rows, kept] = values
        return total
