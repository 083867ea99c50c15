"""Most probable states: one assignment, or the k best of them."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, SupportsIndex, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError, counted
from pgnn.evidence.wrappers import CodedMapping
from pgnn.factors.variable import Variable
from pgnn.inference.answer_columns import AnswerColumns
from pgnn.inference.answer_frames import (
    at_a_step,
    by_step,
    label_frame,
    nested_index,
    num_steps_of,
    row_index,
    step_index,
    within,
)
from pgnn.inference.answer_text import diagnostics_text, state_table

_ROUNDING = 1e-9


class Assignment(CodedMapping):
    r"""A state for each variable, :math:`x^* = \arg\max_x p(x, e)`, and its log probability.

    A mapping from a variable to the label of its state, or to ``(B,)`` int64 state indices if the
    evidence is a batch; from an array of variables to a NumPy array ``shape`` of labels, or to
    ``(B, *shape)`` indices. Elements of arrays are keys like any variable. ``None`` (-1 in a batch)
    marks rows without an answer.

    Args:
        variables: The variables asked for.
        states: ``(B, E)`` int64 state indices of their elements.
        log_prob: ``(B,)`` log probability of the assignment together with the evidence.
        batched: Whether the evidence came in rows; if not, ``B`` is 1.
        index: The data frame's index, if the evidence was one.
        upper_bound: ``(B,)`` upper bound on the log probability of any assignment, where it is
            known; equal to ``log_prob`` if the assignment is optimal.
        engine: Name of the engine.
        diagnostics: The engine's diagnostics of this answer, by name.

    Attributes:
        is_score: Whether :attr:`log_prob` is a log score, as of undirected models: :math:`\log Z`
            was not subtracted. ``model.log_prob`` does so.

    Example:
        >>> import torch
        >>> rain, wet = Variable("rain", ["no", "yes"]), Variable("wet", ["no", "yes"])
        >>> states = torch.tensor([[1, 1]])
        >>> best = Assignment([rain, wet], states, torch.tensor([-0.5]), batched=False)
        >>> best["rain"], dict(best)
        ('yes', {'rain': 'yes', 'wet': 'yes'})
    """

    is_score: bool = False
    lengths: Sequence[int] | None = None
    """Steps of each sequence of a batch of evidence over time."""

    def __init__(
        self,
        variables: Sequence[Variable],
        states: Tensor,
        log_prob: Tensor,
        *,
        batched: bool,
        index: Any = None,
        upper_bound: Tensor | None = None,
        engine: str = "",
        diagnostics: Mapping[str, Any] | None = None,
    ) -> None:
        self.variables = tuple(variables)
        self.batched = batched
        self.engine = engine
        self.diagnostics: Mapping[str, Any] = diagnostics or {}
        self._states = states
        self._log_prob = log_prob
        self._upper_bound = upper_bound
        self._index = index

    @property
    def log_prob(self) -> Tensor:
        """``()`` or ``(B,)`` log probability of the assignment together with the evidence."""
        return self._log_prob if self.batched else self._log_prob[0]

    @property
    def kind(self) -> str:
        """``"exact"`` if no assignment is more probable, ``"best found"`` if one may be.

        Of a batch, ``"exact"`` if all rows are.
        """
        gaps = self._gaps
        return "exact" if gaps is not None and not bool((gaps > 0.0).any()) else "best found"

    @property
    def upper_bound(self) -> Tensor | None:
        """``()`` or ``(B,)`` bound on the log probability of any assignment; None if unknown."""
        if self._upper_bound is None or self.batched:
            return self._upper_bound
        return self._upper_bound[0]

    def to_the_power(self, power: float) -> Assignment:
        """Return the answer with its log probabilities multiplied by a number."""
        scaled = copy.copy(self)
        scaled._log_prob = self._log_prob * power
        if self._upper_bound is not None:
            scaled._upper_bound = self._upper_bound * power
        return scaled

    @property
    def codes(self) -> Tensor:
        """``(E,)`` or ``(B, E)`` state indices in the order of :attr:`variables`."""
        return self._states if self.batched else self._states[0]

    def frame(self, *, steps: bool = False) -> Any:
        """Return a data frame of labels: one column per element, one row per row of evidence.

        Args:
            steps: Whether each position along the first axis of the arrays (time, in models over
                time) has its own row: index ``step``, for a batch ``(row, step)``; rows end
                where their sequences do.

        Raises:
            EvidenceError: With ``steps``, if the variables do not share a first axis.
        """
        if not steps:
            return label_frame(self.variables, self._states, self._index)
        size, variables = num_steps_of(self.variables), at_a_step(self.variables)
        rows = len(self._states)
        columns = [
            by_step(self._columns.cut(self._states, v.name), v, size, 1) for v in self.variables
        ]
        codes = torch.cat([c.reshape(rows * size, -1) for c in columns], dim=1)
        index = step_index(size, rows if self.batched else None, self._index)
        return within(label_frame(variables, codes, index), size, self.lengths)

    def table(self, row: int = 0) -> str:
        """Return one row as text: a line for each variable, then the log probability."""
        table = state_table(self.variables, self._states[row].cpu().numpy())
        what = "log score" if self.is_score else "log probability"
        return f"{table}\n{what} {self._log_prob[row].item():z.6f}{self._bound_text(row)}"

    @property
    def _gaps(self) -> Tensor | None:
        """``(B,)`` by how much another assignment may be more probable, 0 up to rounding."""
        if self._upper_bound is None:
            return None
        gaps = (self._upper_bound - self._log_prob).nan_to_num(nan=0.0)
        size = self._log_prob.abs().clamp(min=1.0)
        return gaps.where(gaps > _ROUNDING * size, 0.0)

    def _bound_text(self, row: int) -> str:
        """Return a note on how much better another assignment may be."""
        by = f" by {self.engine}" if self.engine else ""
        if self._gaps is None:
            return f" (best found{by})" if by else ""
        gap = self._gaps[row].item()
        if gap > 0.0:
            return f" (best found{by}; no other is more than {gap:.4g} above)"
        return f" (exact, {self.engine})" if by else " (exact)"

    def __getitem__(self, name: Hashable) -> Any:
        codes = self._columns.cut(self._states, name)
        if self.batched:
            return codes
        variable = self._columns.find(name)[0]
        if variable.shape:
            return _labels(variable, codes[0].cpu().numpy())
        return variable.decode([int(codes[0])])[0]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __len__(self) -> int:
        return len(self.variables)

    def __str__(self) -> str:
        rows = int(self._states.shape[0])
        if not rows:
            return (
                f"most probable states of {counted(len(self), 'variable')} for 0 rows of evidence"
            )
        text = self.table()
        if self.batched:
            name = 0 if self._index is None else self._index[0]
            text += f"; row {name}, the first of {rows}"
        return "\n".join(filter(None, [text, diagnostics_text(self.diagnostics)]))

    def _repr_html_(self) -> str:
        from pgnn.inference.answer_html import assignment_html

        return assignment_html(self)

    def __repr__(self) -> str:
        if self.batched:
            rows = counted(int(self._states.shape[0]), "row")
            return f"<Assignment of {counted(len(self), 'variable')}, {rows}>"
        number = f"{'log_score' if self.is_score else 'log_prob'}={self.log_prob.item():z.6f}"
        if any(v.shape for v in self.variables):
            return f"<Assignment of {counted(len(self), 'variable')}, {number}>"
        return f"Assignment({dict(self)!r}, {number})"

    @cached_property
    def _columns(self) -> AnswerColumns:
        return AnswerColumns(self.variables, "this assignment")


class KBest(Sequence[Assignment]):
    """The ``k`` most probable assignments, best first.

    If fewer exist, an answer to one row is shorter, and a row of a batch is padded with states -1
    of log probability ``-inf``.

    Args:
        variables: The variables asked for.
        states: ``(B, k, E)`` int64 state indices of their elements.
        log_prob: ``(B, k)`` log probabilities, in decreasing order.
        batched: Whether the evidence came in rows; if not, ``B`` is 1.
        index: The data frame's index, if the evidence was one.

    Example:
        >>> import torch
        >>> rain = Variable("rain", ["no", "yes"])
        >>> logs = torch.tensor([[0.7, 0.3]]).log()
        >>> best = KBest([rain], torch.tensor([[[1], [0]]]), logs, batched=False)
        >>> [a["rain"] for a in best], best[0].log_prob
        (['yes', 'no'], tensor(-0.3567))
    """

    is_score: bool = False
    """See :class:`Assignment`."""

    def __init__(
        self,
        variables: Sequence[Variable],
        states: Tensor,
        log_prob: Tensor,
        *,
        batched: bool,
        index: Any = None,
    ) -> None:
        self.variables = tuple(variables)
        self.batched = batched
        if not batched:
            exist = ~log_prob[0].isneginf()
            exist[:1] = True  # a best assignment of probability zero is still the answer
            states, log_prob = states[:, exist], log_prob[:, exist]
        self._states = states
        self._log_prob = log_prob
        self._index = index

    @property
    def log_prob(self) -> Tensor:
        """``(k,)`` or ``(B, k)`` log probabilities of the assignments with the evidence."""
        return self._log_prob if self.batched else self._log_prob[0]

    def to_the_power(self, power: float) -> KBest:
        """Return the answer with its log probabilities multiplied by a number."""
        scaled = copy.copy(self)
        scaled._log_prob = self._log_prob * power
        return scaled

    @property
    def codes(self) -> Tensor:
        """``(k, E)`` or ``(B, k, E)`` state indices in the order of :attr:`variables`."""
        return self._states if self.batched else self._states[0]

    def frame(self) -> Any:
        """Return a data frame of labels with index ``rank``, or ``(row, rank)`` for a batch."""
        import pandas as pd

        size, k, width = self._states.shape
        ranks = pd.RangeIndex(1, k + 1, name="rank")
        index = nested_index(row_index(self._index, size), ranks) if self.batched else ranks
        return label_frame(self.variables, self._states.reshape(size * k, width), index)

    @overload
    def __getitem__(self, rank: int) -> Assignment: ...
    @overload
    def __getitem__(self, rank: slice) -> list[Assignment]: ...
    def __getitem__(self, rank: int | slice) -> Assignment | list[Assignment]:
        if isinstance(rank, slice):
            return [self[k] for k in range(len(self))[rank]]
        if not isinstance(rank, SupportsIndex):
            raise EvidenceError(
                f"these are the {len(self)} best assignments",
                f"choose one before a variable, as in answer[0][{rank!r}]",
            )
        ranked = self._at(range(len(self))[rank])
        ranked.is_score = self.is_score
        return ranked

    def _at(self, k: int) -> Assignment:
        """Return the assignment with a given rank, counted from 0."""
        return Assignment(
            self.variables,
            self._states[:, k],
            self._log_prob[:, k],
            batched=self.batched,
            index=self._index,
        )

    def __len__(self) -> int:
        return int(self._states.shape[1])

    def __str__(self) -> str:
        return "\n\n".join(f"number {k + 1} of {len(self)}\n{best}" for k, best in enumerate(self))

    def _repr_html_(self) -> str:
        from pgnn.inference.answer_html import best_html

        return best_html(self)

    def __repr__(self) -> str:
        return f"<KBest: {len(self)} assignments of {len(self.variables)} variables>"


def _labels(variable: Variable, codes: NDArray[Any]) -> NDArray[Any]:
    """Return the labels of an array, in a native NumPy type if evidence accepts them again."""
    states = variable.states or ()
    kinds = {type(state) for state in states}
    indices = kinds <= {int} and states == tuple(range(len(states)))
    natural = indices or kinds <= {str} or kinds <= {bool}
    table = np.empty(len(states) + 1, dtype=object)  # the last one for -1
    table[:-1] = states
    labels = table[codes]
    kind = np.array(states).dtype if natural and (codes >= 0).all() else object
    return np.asarray(labels, dtype=kind)
