"""Marginal MAP by local search over the maximised elements; the others are summed out exactly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import Intractable, Unsupported
from pgnn.inference.exact.solver import Solver
from pgnn.inference.question import Question

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Codes = NDArray[np.int32]

# number of perturbations, and of elements that a perturbation changes
_KICKS, _KICKED = 10, 3


@dataclass(frozen=True, eq=False)
class MarginalSearch:
    r"""Local search for :math:`\max_{x_M} \sum_{x_S} \tilde p(x_M, x_S)` in each row.

    A step evaluates exactly, as rows of evidence, every change of one maximised element of every
    candidate, and applies the best; candidates that no change improves are perturbed.

    Args:
        question: The query.
        maximized: ``(E,)`` the elements M.

    Cost:
        A step evaluates ``chains * |M| (K - 1)`` rows by the exact engine, in whose plans the
        maximised elements are observed.
    """

    question: Question
    maximized: Mask
    solver: Solver = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "solver", Solver(self.question.graph))

    def improve(self, row: int, start: Codes, seed: int) -> tuple[Codes, float, int]:
        """Return the best states found ``(E,)``, their log value, and the number of evaluations.

        Args:
            row: Index of a row of the evidence.
            start: ``(C, E)`` initial candidates; only their maximised elements are used.
            seed: Random seed of the perturbations.

        Raises:
            Unsupported: If summing out the other elements is too expensive.
        """
        rng = np.random.default_rng(seed)
        observed = self.question.observed.codes[row]
        changeable = np.flatnonzero(self.maximized & (observed < 0))
        changeable = changeable[self.question.graph.elements.card[changeable] > 1]
        codes = np.where(self.maximized, start, -1).astype(np.int32)
        codes = np.unique(np.where(observed >= 0, observed, codes), axis=0)
        values = self._values(row, codes)
        count = len(codes)
        best, top = codes[0], -np.inf
        for _ in range(_KICKS + 1):
            codes, values, spent = self._improve(row, codes, values, changeable)
            count += spent
            if values.max() > top or top == -np.inf:
                best, top = codes[values.argmax()].copy(), float(values.max())
            if not len(changeable):
                break
            codes = np.repeat(best[None], len(start), axis=0)
            for code in codes:
                some = rng.choice(changeable, min(_KICKED, len(changeable)), replace=False)
                code[some] = rng.integers(self.question.graph.elements.card[some])
            values = self._values(row, codes)
            count += len(codes)
        return best, top, count

    def _improve(
        self, row: int, codes: Codes, values: Floats, changeable: Ints
    ) -> tuple[Codes, Floats, int]:
        """Apply the best change of one element of each candidate while the score increases."""
        count, open_ = 0, np.ones(len(codes), dtype=np.bool_)
        while open_.any() and len(changeable):
            which = np.flatnonzero(open_)
            changes = [self._changes(codes[n], changeable) for n in which]
            scores = self._values(row, np.concatenate(changes))
            count += len(scores)
            at = 0
            for n, change in zip(which, changes, strict=True):
                gains = scores[at : at + len(change)]
                at += len(change)
                top = float(gains.max())
                rounding = 0.0 if np.isneginf(top) else 1e-10 * max(1.0, abs(top))
                if top > values[n] + rounding:
                    codes[n], values[n] = change[gains.argmax()], top
                else:
                    open_[n] = False
        return codes, values, count

    def _changes(self, code: Codes, changeable: Ints) -> Codes:
        """Return every change of one element."""
        card = self.question.graph.elements.card[changeable]
        element = np.repeat(changeable, card - 1)
        step = np.concatenate([np.arange(1, k) for k in card])
        changed = np.repeat(code[None], len(element), axis=0)
        rows = np.arange(len(element))
        changed[rows, element] = (code[element] + step) % np.repeat(card, card - 1)
        return changed

    def _values(self, row: int, codes: Codes) -> Floats:
        """``(n,)`` logs of the sums over the other variables; soft evidence included."""
        soft = self.question.observed.soft
        many = None if soft is None else np.repeat(soft[row : row + 1], len(codes), axis=0)
        solver = self.solver.at_rows(np.full(len(codes), row))
        try:
            return solver.log_evidence(np.ascontiguousarray(codes), many)
        except Intractable as error:
            raise Unsupported(
                "Annealing() finds marginal MAP states if the exact engine can sum out the "
                f"other variables, which is too expensive for this query ({error.reason})",
                "maximise over more variables, or over all, or observe more",
            ) from error
