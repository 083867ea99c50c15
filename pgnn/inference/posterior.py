"""Posterior marginals, as distributions, as a data frame, or as a printed table."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Categorical

from pgnn.errors import EvidenceError, Unsupported, counted
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.answer_columns import AnswerColumns
from pgnn.inference.answer_frames import (
    at_a_step,
    by_step,
    num_steps_of,
    state_index,
    step_index,
    within,
)
from pgnn.inference.answer_text import CELLS, diagnostics_text, probability_table
from pgnn.inference.findings import Findings

Numbers = Tensor | NDArray[np.float64]
LINES = 100  # lines of a printed posterior; `table` shows more


class Marginal(Categorical):
    """A ``Categorical`` with exactly the given probabilities, zeros included.

    ``torch.distributions.Categorical`` normalises, and replaces a probability of zero by the
    smallest positive float; in this class its log probability is ``-inf``, with gradient zero.

    Args:
        probs: ``(*batch, K)`` probabilities that sum to one.

    Example:
        >>> import torch
        >>> Marginal.of(torch.tensor([0.0, 1.0])).log_prob(torch.tensor([0, 1]))
        tensor([-inf, 0.])
    """

    # torch's constructor takes longer than a query: attributes are computed when they are accessed
    _validate_args = False
    _event_shape = torch.Size()
    _param = cached_property(lambda self: self.probs)
    _num_events = cached_property(lambda self: self.probs.shape[-1])
    _batch_shape = cached_property(lambda self: self.probs.shape[:-1])

    @classmethod
    def of(cls, probs: Tensor) -> Marginal:
        """Return the distribution with exactly these probabilities."""
        marginal = cls.__new__(cls)
        marginal.probs = probs
        return marginal

    def _repr_html_(self) -> str:
        from pgnn.inference.answer_html import marginal_html

        return marginal_html(self.probs)

    @cached_property
    def logits(self) -> Tensor:
        """Log probabilities; ``-inf`` is legal."""
        zero = self.probs == 0
        return self.probs.masked_fill(zero, 1.0).log().masked_fill(zero, -math.inf)


class Posterior(Mapping[Hashable, Categorical]):
    r"""Posterior marginals :math:`p(x_i \mid e)` of variables, and :math:`\log p(e)`.

    ``posterior["rain"]`` is a ``torch.distributions.Categorical`` of batch shape ``()``, or of
    ``(B,)`` if the evidence came in rows. An array of variables adds its shape:
    ``posterior["pixel"]`` is of batch shape ``shape`` or ``(B, *shape)``, and its element
    ``posterior["pixel", 3, 4]`` is like any other variable.

    Args:
        variables: The targets.
        marginals: ``(B, S)`` probabilities, the states of all elements concatenated; an array
            is converted to a tensor on demand.
        log_evidence: ``(B,)`` log probability of the evidence; of undirected models the log
            partition function (see :attr:`log_evidence`); ``NaN`` where the engine has no estimate.
        batched: Whether the evidence came in rows; if not, ``B`` is 1.
        kind: ``"exact"``, ``"lower bound"``, ``"upper bound"`` or ``"estimate"``.
        engine: Name of the engine.
        diagnostics: Diagnostics of the engine by name: scalars, or tensors ``(B,)``.
        joint: Function that computes the joint table over some variables from their names.
        index: The data frame's index, if the evidence was one.
        columns: Columns of the variables' states, if known.

    Attributes:
        findings: The evidence, for pictures; None if there was none, or it is not known.
        is_partition: Whether :attr:`log_evidence` is a log partition function, as of undirected
            models.

    Example:
        >>> import torch
        >>> rain = Variable("rain", ["no", "yes"])
        >>> wet = torch.tensor([[0.25, 0.75]])
        >>> posterior = Posterior([rain], wet, torch.tensor([-0.5]), batched=False)
        >>> posterior["rain"].probs
        tensor([0.2500, 0.7500])
        >>> print(posterior)
        variable  posterior probability of each state
        rain      no 0.2500   yes 0.7500
        log evidence -0.500000 (exact)
    """

    __hash__ = object.__hash__
    findings: Findings | None = None
    is_partition: bool = False
    lengths: Sequence[int] | None = None

    def __init__(
        self,
        variables: Sequence[Variable],
        marginals: Numbers,
        log_evidence: Numbers,
        *,
        batched: bool,
        kind: str = "exact",
        engine: str = "",
        diagnostics: Mapping[str, Any] | None = None,
        joint: Callable[[tuple[Hashable, ...]], Factor] | None = None,
        index: Any = None,
        columns: AnswerColumns | None = None,
    ) -> None:
        self.variables = tuple(variables)
        self.kind = kind
        self.engine = engine
        self.diagnostics: Mapping[str, Any] = diagnostics or {}
        self.batched = batched
        self._numbers = marginals, log_evidence
        self._joint = joint
        self._index = index
        if columns is not None:
            self._columns = columns

    @property
    def log_evidence(self) -> Tensor:
        r"""``()`` or ``(B,)`` log probability of the evidence, :math:`\log p(e)`.

        Of undirected models the log partition function given the evidence, :math:`\log Z(e)`: the
        sum of the product of all potentials over the states that agree with the evidence. The log
        probability of the evidence is :math:`\log Z(e) - \log Z`, the difference from the answer
        without evidence.
        """
        return self._log_evidence if self.batched else self._log_evidence[0]

    @property
    def name_of_evidence(self) -> str:
        """What :attr:`log_evidence` is, for printing."""
        return "log partition function" if self.is_partition else "log evidence"

    @property
    def index(self) -> Any:
        """The data frame's index, if the evidence was one."""
        return self._index

    @property
    def numbers(self) -> tuple[Numbers, Numbers]:
        """``(B, S)`` probabilities and ``(B,)`` log evidence, as given."""
        return self._numbers

    @property
    def joint_of(self) -> Callable[[tuple[Hashable, ...]], Factor] | None:
        """The function that computes joint tables, if there is one."""
        return self._joint

    @property
    def num_rows(self) -> int:
        """Number of rows of evidence."""
        return int(self._numbers[0].shape[0])

    def probs(self, name: Hashable) -> Tensor:
        """Return the marginal of one variable, ``(K,)`` or ``(B, K)`` probabilities.

        For an array of variables ``(*shape, K)`` or ``(B, *shape, K)``.

        Raises:
            EvidenceError: If the variable is not a target (also a ``KeyError``).
        """
        return Posterior.__getitem__(self, name).probs

    def joint(self, *names: Hashable) -> Factor:
        r"""Return the joint distribution :math:`p(x_a, x_b, \dots \mid e)` of some variables.

        Args:
            names: Discrete variables of the model, or single elements of arrays, in the order of
                the table's axes.

        Returns:
            A factor of batch shape ``()`` or ``(B,)`` that sums to one in each row.

        Raises:
            EvidenceError: If no name is given, or one is unknown, repeated, or that of an array.
            Unsupported: If the engine computes marginals only.
            Intractable: If the table or an intermediate one is too large.
        """
        if not names or len(set(names)) != len(names):
            raise EvidenceError(f"name each variable of the joint once, got {list(names)}")
        if self._joint is None:
            raise Unsupported(
                f"{self.engine or 'this engine'} computes no joint tables", "use JunctionTree()"
            )
        return _rearranged(self._joint(names).normalize(), names, self.batched)

    def to_the_power(self, power: float) -> Posterior:
        """Return the posterior with its log evidence multiplied by a number."""
        scaled = copy.copy(self)
        scaled.__dict__.pop("_log_evidence", None)
        scaled._numbers = self._numbers[0], self._numbers[1] * power
        return scaled

    def about(self, names: Sequence[Hashable]) -> Self:
        """Return the posterior of some targets, or of elements of arrays, in the given order.

        Raises:
            EvidenceError: If a name is not that of a target (also a ``KeyError``).
        """
        chosen = [self._columns.find(name)[0] for name in names]
        parts = [self._columns.cut(self._marginals, n).reshape(self.num_rows, -1) for n in names]
        part = copy.copy(self)
        for cached in ("_marginals", "_of_variables", "_columns"):
            part.__dict__.pop(cached, None)
        part.variables = tuple(chosen)
        part._numbers = torch.cat([self._marginals[:, :0], *parts], dim=1), self._numbers[1]
        return part

    @property
    def num_steps(self) -> int:
        """Length of the first axis that all arrays share.

        Raises:
            EvidenceError: If there is none.
        """
        return num_steps_of(self.variables)

    def frame(self, *, steps: bool = False) -> Any:
        """Return the probabilities as a data frame.

        Args:
            steps: Whether each position along the first axis of the arrays (time, in models over
                time) has its own row.

        Returns:
            For one row: index ``(variable, state)``, column ``probability``. For a batch: columns
            ``(variable, state)``, and the index of the evidence if it was a data frame. The
            elements of an array are variables, such as ``("pixel", 3, 4)``. With ``steps`` columns
            ``(variable, state)`` and index ``step``, of a batch ``(row, step)``.

        Raises:
            EvidenceError: With ``steps``, if the variables do not share a first axis.
        """
        import pandas as pd

        if not steps:
            table = self._marginals.detach().cpu().numpy()
            labels = state_index([single for v in self.variables for single in v.elements()])
            if self.batched:
                return pd.DataFrame(table.copy(), columns=labels, index=self._index)
            return pd.DataFrame({"probability": table[0]}, index=labels)
        size, lead = self.num_steps, int(self.batched)
        parts = [by_step(self.probs(v.name), v, size, lead) for v in self.variables]
        parts = [x.reshape(self.num_rows * size, -1) for x in parts]
        table = torch.cat(parts, dim=1).detach().cpu().numpy()
        labels = state_index([e for v in at_a_step(self.variables) for e in v.elements()])
        index = step_index(size, self.num_rows if self.batched else None, self._index)
        return within(pd.DataFrame(table, columns=labels, index=index), size, self.lengths)

    def table(
        self,
        *names: Hashable,
        row: int = 0,
        max_lines: int | None = None,
        max_cells: int | None = None,
    ) -> str:
        """Return the marginals of one row as text.

        Args:
            names: Names of variables or of elements of arrays; all variables if none is given.
            row: Index of a row of the batch.
            max_lines: Largest number of lines of probabilities; ``None`` for all.
            max_cells: Larger arrays are summarised; ``None`` writes all of their elements.

        Raises:
            EvidenceError: If a name is not a target, or the row does not exist.
        """
        if not -self.num_rows <= row < self.num_rows:
            raise EvidenceError(f"there is no row {row}: the posterior has {self.num_rows}")
        variables, table = self.variables, self._marginals[row]
        if names:
            chosen = [self._columns.find(name)[0] for name in names]
            parts = [self._columns.cut(table, name).reshape(-1) for name in names]
            variables, table = tuple(chosen), torch.cat(parts)
        values = table.detach().cpu().numpy()
        return probability_table(variables, values, max_lines, max_cells)

    @property
    def _origin(self) -> str:
        return f"{self.kind}, {self.engine}" if self.engine else self.kind

    def evidence_line(self) -> str:
        """Return the log evidence of the first row, with the engine, as ``print`` shows it."""
        log_evidence = self._log_evidence[0].item()
        number = "is not known" if math.isnan(log_evidence) else f"{log_evidence:z.6f}"
        return f"{self.name_of_evidence} {number} ({self._origin})"

    def plot(self, *names: Hashable, row: int = 0, ax: Any = None) -> Any:
        """Draw the marginals as bars, see :func:`pgnn.plot.marginals`."""
        from pgnn.plot.marginals import marginals

        return marginals(self, *names, row=row, ax=ax)

    def __getitem__(self, name: Hashable) -> Categorical:
        try:
            return self._of_variables[name]
        except (KeyError, TypeError):  # an element of an array, or not a target
            return Marginal.of(self._columns.cut(self._table, name))

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self.variables)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __eq__(self, other: object) -> bool:
        return self is other

    def __str__(self) -> str:
        if not self.num_rows:
            counts = f"{counted(len(self), 'variable')} for 0 rows of evidence"
            return f"posterior of {counts} ({self._origin})"
        table = [self.table(max_lines=LINES, max_cells=CELLS)] if self.variables else []
        text = "\n".join([*table, self.evidence_line()])
        if self.batched:
            name = 0 if self._index is None else self._index[0]
            text += f"; row {name}, the first of {self.num_rows}"
        return "\n".join(filter(None, [text, diagnostics_text(self.diagnostics)]))

    def _repr_html_(self) -> str:
        from pgnn.inference.answer_html import posterior_html

        return posterior_html(self)

    def __repr__(self) -> str:
        rows = f", {counted(self.num_rows, 'row')}" if self.batched else ""
        return f"<Posterior of {counted(len(self), 'variable')}{rows}, {self.kind}>"

    @cached_property
    def _marginals(self) -> Tensor:
        """``(B, S)`` probabilities."""
        return _as_tensor(self._numbers[0])

    @cached_property
    def _log_evidence(self) -> Tensor:
        """``(B,)`` log evidence."""
        return _as_tensor(self._numbers[1])

    @property
    def _table(self) -> Tensor:
        """``(S,)`` or ``(B, S)`` probabilities."""
        return self._marginals if self.batched else _as_tensor(self._numbers[0][0])

    @cached_property
    def _of_variables(self) -> dict[Hashable, Marginal]:
        """The marginal of each variable, computed on demand."""
        views = self._columns.views(self._table)
        return {name: Marginal.of(probs) for name, probs in views.items()}

    @cached_property
    def _columns(self) -> AnswerColumns:
        return AnswerColumns(self.variables, "this posterior", states=True)


def _as_tensor(numbers: Numbers) -> Tensor:
    return numbers if isinstance(numbers, Tensor) else torch.from_numpy(numbers)


def _rearranged(factor: Factor, names: Sequence[Hashable], batched: bool) -> Factor:
    """Return the factor with axes in the order of ``names``, without a batch axis of one row."""
    table = factor.log_values
    batch = table.dim() - len(factor.variables)
    order = [factor.names.index(name) for name in names]
    table = table.permute([*range(batch), *(batch + k for k in order)])
    if batch and not batched:
        table = table[0]
    return Factor([factor.variables[k] for k in order], table)
