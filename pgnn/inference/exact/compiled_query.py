"""Queries that are prepared once and evaluated many times."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import FactorModel
from pgnn.errors import EvidenceError
from pgnn.inference.exact.compilation import KERNELS
from pgnn.inference.exact.solver import Solver, model_solver
from pgnn.inference.question import Targets

if TYPE_CHECKING:
    from pgnn.inference.exact.row_answer import RowAnswer

Codes = NDArray[np.int32]


class Answer(NamedTuple):
    """The result of a compiled query.

    Attributes:
        marginals: ``(S,)`` or ``(B, S)`` probabilities, the targets' states concatenated; zeros in
            impossible rows.
        log_evidence: ``()`` or ``(B,)``; ``-inf`` in impossible rows, which raise no error.
    """

    marginals: Tensor
    log_evidence: Tensor


class CompiledQuery:
    """A prepared query: a function from state indices to probabilities, without lookups of names.

    Changes of parameters take effect at the next call. Impossible rows raise no error: check
    ``log_evidence``.

    Args:
        model: The model, whose current parameters are used.
        targets: The targets.
        observed: Variables that every row observes; None if any variables may be observed.
        max_bytes: Largest memory of messages, in bytes.

    Attributes:
        observed: Names of the columns of the codes; an array has one for each of its elements.
        targets: Names of the targets.
        columns: The slice of ``marginals`` that belongs to each target.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> query = model.compile(targets="a", observed=["b"])
        >>> query(torch.tensor([[0], [1]])).marginals
        tensor([[0.8182, 0.1818],
                [0.1111, 0.8889]], dtype=torch.float64)
    """

    def __init__(
        self, model: FactorModel, targets: Targets, observed: Targets | None, max_bytes: int
    ) -> None:
        self._model, self._max_bytes = model, max_bytes
        elements = targets.elements
        self._observed = None if observed is None else observed.numbers
        numbers = range(len(elements)) if observed is None else observed.numbers.tolist()
        self.observed = tuple(elements.singles[e].name for e in numbers)
        self.targets = tuple(v.name for v in targets.variables)
        self._wanted = targets.mask
        sizes = [v.num_elements * v.num_states for v in targets.variables]
        ends = np.cumsum(sizes, dtype=np.int64).tolist()
        self.columns: Mapping[Hashable, slice] = {
            name: slice(end - size, end)
            for name, size, end in zip(self.targets, sizes, ends, strict=True)
        }
        self._mask = None if observed is None else observed.mask
        self._prepared: tuple[Solver, RowAnswer | None] | None = None
        # answers have the targets in the model's order
        self._take = targets.order

    def __call__(self, codes: Any) -> Answer:
        """Answer one row or a batch.

        Args:
            codes: ``(len(observed),)`` or ``(B, len(observed))`` state indices, -1 where a
                variable was not observed.

        Raises:
            EvidenceError: If the shape is wrong or an index out of range.
            Intractable: If a plan exceeds the budget.
        """
        row_codes = codes.numpy() if isinstance(codes, Tensor) else np.asarray(codes)
        if row_codes.dtype.kind not in "iu" and row_codes.size:
            raise EvidenceError(
                "a compiled query takes integer state indices, -1 where not observed, got "
                f"{row_codes.dtype}",
                "for labels and likelihoods use model.query(...)",
            )
        row_codes = _narrowed(row_codes)
        with torch.no_grad():
            solver = model_solver(self._model, max_bytes=self._max_bytes)
        if row_codes.ndim == 1 and row_codes.shape[0] == len(self.observed) and KERNELS.ready():
            at_once = self._at_once(solver, row_codes)
            if at_once is not None:
                return at_once
        rows = self._read(row_codes[None] if row_codes.ndim == 1 else row_codes, solver)
        solver = solver.given(rows)
        log_z, out = solver.marginals(rows, None, solver.graph.mask(self._wanted))
        marginals = torch.from_numpy(out if self._take is None else out[:, self._take])
        log_evidence = torch.from_numpy(log_z)
        if row_codes.ndim == 1:
            return Answer(marginals[0], log_evidence[0])
        return Answer(marginals, log_evidence)

    def __repr__(self) -> str:
        observed = "any variables" if self._observed is None else f"{len(self.observed)} variables"
        return f"CompiledQuery({len(self.targets)} targets given {observed})"

    def _at_once(self, solver: Solver, row_codes: NDArray[Any]) -> Answer | None:
        """Answer one row without planning, if possible."""
        if self._prepared is None or self._prepared[0] is not solver:
            self._prepared = solver, self._row_answer(solver)
        answer, row = self._prepared[1], self._filled(row_codes[None], solver)
        numbers = answer(row) if answer is not None and answer.accepts(row) else None
        if numbers is None:
            return None
        log_z, out = numbers
        marginals = torch.from_numpy(out[0] if self._take is None else out[0, self._take])
        return Answer(marginals, torch.from_numpy(log_z.reshape(())))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": None}

    def _row_answer(self, solver: Solver) -> RowAnswer | None:
        graph = solver.graph
        if not graph.written_down:
            return None  # the graph's tables depend on the evidence
        observed = None if self._mask is None else graph.mask(self._mask)
        return solver.row_answer(graph.mask(self._wanted), observed)

    def _filled(self, row_codes: NDArray[Any], solver: Solver) -> Codes:
        """Return codes ``(B, V)`` of all elements of the graph."""
        size = len(solver.graph.elements)
        if self._observed is None and row_codes.shape[1] == size:
            return np.ascontiguousarray(row_codes, dtype=np.int32)
        rows = np.full((len(row_codes), size), -1, dtype=np.int32)
        columns = slice(row_codes.shape[1]) if self._observed is None else self._observed
        rows[:, columns] = row_codes
        return rows

    def _read(self, row_codes: NDArray[Any], solver: Solver) -> Codes:
        if row_codes.ndim != 2 or row_codes.shape[1] != len(self.observed):
            raise EvidenceError(
                f"expected codes of shape (B, {len(self.observed)}) for the observed variables, "
                f"got {row_codes.shape}"
            )
        card = solver.graph.card
        rows = self._filled(row_codes, solver)
        if ((rows < -1) | (rows >= card)).any():
            _, column = np.argwhere((rows < -1) | (rows >= card))[0]
            name = solver.graph.variables[column].name
            raise EvidenceError(
                f"a state index of {name!r} is out of range 0..{card[column] - 1} "
                "(-1: not observed)"
            )
        return rows


def _narrowed(codes: NDArray[Any]) -> NDArray[Any]:
    """Return codes as 32-bit integers; values out of range become an invalid code."""
    narrow = codes.astype(np.int32)
    if codes.dtype.kind in "iu" and codes.dtype.itemsize >= 4 and (narrow != codes).any():
        return np.where(narrow == codes, narrow, np.iinfo(np.int32).max).astype(np.int32)
    return narrow
