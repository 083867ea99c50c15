"""Rows answered by torch instead of the compiled kernels, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.inference.exact import torch_executor
from pgnn.inference.exact.plan import Plan
from pgnn.inference.factor_graph import FactorGraph

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TorchRows:
    """Some rows of evidence, answered by one plan and the torch executor.

    Args:
        graph: Variables and tables.
        plan: The plan.
        codes: ``(B, V)`` observed states of all rows, -1 where none.
        soft: ``(B, S)`` likelihoods of all states of all variables, or None.
        rows: Indices of the rows to answer.
    """

    graph: FactorGraph
    plan: Plan
    codes: Codes
    soft: Floats | None
    rows: NDArray[np.int64]

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The common arguments of the functions of the torch executor."""
        rowwise = self.graph.rowwise.any()
        return {
            "graph": self.graph.at_rows(self.rows) if rowwise else self.graph,
            "order": self.plan.order.tolist(),
            "codes": torch.from_numpy(self.codes[self.rows]).to(self.graph.device),
            "unary": self._unary(),
            "sliced": self.plan.task.observed,
            "used": self.plan.task.used,
        }

    def marginals(self) -> tuple[Floats, Floats]:
        """Return concatenated marginals of the wanted variables, and ``(B,)`` log evidence."""
        wanted = np.flatnonzero(self.plan.task.wanted).tolist()
        tables, log_z = torch_executor.marginals(**self.arguments, wanted=wanted)
        return _array(tables), _array(log_z)

    def log_evidence(self) -> Floats:
        """Return ``(B,)`` log evidence."""
        log_z: Floats = _array(torch_executor.log_partition(**self.arguments))
        return log_z

    def beliefs(self, factors: Sequence[int]) -> list[Floats]:
        """Return the joint posterior over the scope of each factor, ``(B, K1, ..., Kn)``."""
        tables = torch_executor.beliefs(**self.arguments, factors=factors)
        return [_array(table) for table in tables]

    def best(self) -> tuple[Codes, Floats]:
        """Return ``(B, V)`` best states (-1 where summed out) and ``(B,)`` log maxima."""
        maximized = np.flatnonzero(self.plan.task.maximize).tolist()
        states, top = torch_executor.most_probable(**self.arguments, maximized=maximized)
        return states.cpu().numpy().astype(np.int32), _array(top)

    def upper_bound(self) -> Floats:
        """Return ``(B,)`` upper bounds on the log maxima; maxima and sums may be in any order."""
        maximized = np.flatnonzero(self.plan.task.maximize).tolist()
        log_bounds: Floats = _array(
            torch_executor.upper_bound(**self.arguments, maximized=maximized)
        )
        return log_bounds

    def draw(self, n: int, seed: int) -> tuple[Codes, Floats]:
        """Return ``(n, B, V)`` exact samples and ``(B,)`` log evidence."""
        states = torch_executor.sample(**self.arguments, n=n, seed=seed)
        return states.cpu().numpy().astype(np.int32), self.log_evidence()

    def _unary(self) -> dict[int, Tensor]:
        """Return log-likelihoods of the variables with soft evidence in some row."""
        likelihoods: dict[int, Tensor] = {}
        if self.soft is None:
            return likelihoods
        for v in np.flatnonzero(self.plan.task.free).tolist():
            states = slice(self.graph.offset[v], self.graph.offset[v + 1])
            if (self.soft[:, states] != 1.0).any():
                with np.errstate(divide="ignore"):
                    table = np.log(self.soft[self.rows, states])
                likelihoods[v] = torch.from_numpy(table).to(self.graph.device)
        return likelihoods


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()
