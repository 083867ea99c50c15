"""Maximum pseudo-likelihood, which needs no partition function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import ChainModel, Inputs, UnrollableModel
from pgnn.errors import DataError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.inference.factor_graph import Codes, FactorGraph, Floats
from pgnn.inference.known_gradients import with_gradients
from pgnn.inference.learning.ascent import Ascent
from pgnn.inference.learning.optimisation_problem import Mean, MeanObjective
from pgnn.inference.learning.training_data import read_sequences
from pgnn.inference.numba_support import has_numba
from pgnn.inference.state_columns import StateColumns
from pgnn.inference.threads import Stop, in_threads
from pgnn.inference.wiring import LocalWiring


@dataclass(frozen=True)
class PseudoLikelihood(Ascent):
    r"""Maximises the mean log pseudo-likelihood, with optional penalties.

    .. math:: \frac{1}{N} \sum_n \sum_i \log p(x_{ni} \mid x_{n, -i})

    It needs no partition function: models of any size and treewidth are learned in time linear in
    rows and factors. The estimator is consistent if the model is correct, with a slightly larger
    variance than maximum likelihood. Every cell must be observed.

    The settings are those of all gradient-based learners: ``optimizer``, ``scheduler``,
    ``batch_size``, ``l1``, ``l2``, ``max_norm``, ``max_iterations``, ``tolerance``,
    ``validation``, ``patience``; see :class:`~pgnn.inference.learning.ascent.Ascent`.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        Per row, one pass over the states of every element of every factor.

    References:
        Besag (1975), Statistical analysis of non-lattice data.
        Koller and Friedman (2009), Probabilistic Graphical Models, section 20.6.1.

    Example:
        >>> import torch
        >>> from pgnn.models import MarkovRandomField
        >>> model = MarkovRandomField.grid((4, 4))
        >>> pictures = torch.tensor([[[0, 0, 1, 1]] * 4, [[1, 1, 1, 0]] * 4])
        >>> _ = model.fit({"x": pictures}, learner=PseudoLikelihood(l2=0.01))
        >>> round(model.potentials[0].coupling.item(), 2)
        2.83
    """

    def read_rows(self, model: Any, data: Any, weights: Any, inputs: Inputs | None) -> Any:
        """Return rows, or sequences of a chain."""
        if not isinstance(model, UnrollableModel):
            return super().read_rows(model, data, weights, inputs)
        if not isinstance(model, ChainModel) or model.is_normalized:
            raise Unsupported(
                "the pseudo-likelihood of sequences needs labels given inputs, as in a "
                f"ConditionalRandomField; {type(model).__name__} has its own learner"
            )
        return read_sequences(model, data, weights, inputs)

    def objective(self, model: Any, rows: Any, seed: int | None) -> MeanObjective:
        """Return the mean log pseudo-likelihood, see :meth:`Ascent.objective`."""
        is_chain = isinstance(rows, SequenceEvidence)
        return SequencePseudoObjective(model) if is_chain else PseudoObjective(model)

    def check_rows(self, rows: Any, model: Any) -> None:
        """Raise an error for rows with missing cells.

        Raises:
            DataError: If a cell is missing.
            Unsupported: If the model has no discrete variables.
        """
        if isinstance(rows, SequenceEvidence):
            if not rows.is_known(model.state.name):
                raise DataError(
                    f"some of {model.state.name!r} are missing: pseudo-likelihood needs all labels",
                    "learn with Gradient(), which sums out missing values",
                )
            return
        if not rows.codes.shape[1]:
            raise Unsupported(
                "PseudoLikelihood() scores discrete variables given the others; the "
                f"{type(model).__name__} has none",
                "learn with MaximumLikelihood() or EM()",
            )
        missing = rows.codes < 0
        if not missing.any():
            return
        row, element = np.argwhere(missing)[0].tolist()
        raise DataError(
            f"{int(missing.any(axis=1).sum())} of {rows.num_rows} rows have missing cells (first: "
            f"{model.elements.name(element)!r} in row {row}); pseudo-likelihood needs complete "
            "rows",
            "learn with Gradient(), which sums out missing values",
        )


class SequencePseudoObjective:
    r"""Mean of :math:`\sum_t \log p(z_t \mid z_{t-1}, z_{t+1})` over sequences.

    Args:
        model: A chain of labels.
    """

    figure: str | None = "pseudo_log_likelihood"

    def __init__(self, model: ChainModel) -> None:
        self.model = model

    def __call__(self, rows: SequenceEvidence) -> Mean:
        """Return a function that returns the scalar mean of some sequences."""
        states, free = rows.codes[self.model.state.name], replace(rows, codes={})

        def mean() -> Tensor:
            chain: Any = self.model.chain(free, rows.inputs or None)
            total = rows.weighted_sum(chain.log_conditionals(states).sum(1).double())
            return total / float(rows.row_weights.sum())

        return mean


_ENTRIES = 2**21
"""Largest number of states of positions in factors that are looked up at once."""


class PseudoObjective:
    r"""Mean of :math:`\sum_i \log p(x_i \mid x_{-i})` over complete rows.

    Computed by a compiled kernel; on a GPU, or without numba, by torch in blocks of rows. The
    memory does not depend on the number of rows that share their tables.

    Args:
        model: A model with factors over discrete variables.
        compiled: Whether the kernel may be used.
    """

    figure: str | None = "pseudo_log_likelihood"

    def __init__(self, model: Any, compiled: bool = True) -> None:
        self.model = model
        self.compiled = compiled and has_numba()

    def __call__(self, rows: RowEvidence) -> Mean:
        """Return a function that returns the scalar mean of some rows."""
        rows = rows.merged()
        shares = rows.row_weights / rows.row_weights.sum()
        kernel = CpuPseudoLikelihood(rows.codes, shares)

        def mean() -> Tensor:
            groups = self.model.factor_groups(rows.reals or None, rows.inputs or None)
            graph = FactorGraph(self.model.elements, groups)
            if self.compiled and graph.device.type == "cpu":
                return kernel.mean(graph)
            codes = torch.from_numpy(rows.codes.astype(np.int64))
            return _Blocks(graph.elements, groups, codes, torch.from_numpy(shares)).mean()

        return mean


def log_conditionals(
    elements: Elements, groups: Sequence[FactorGroup], codes: Tensor, columns: StateColumns
) -> Tensor:
    r"""Return ``(N, E)`` values :math:`\log p(x_i \mid x_{-i})` of complete rows.

    Args:
        elements: The elements.
        groups: Factors; the rows of row-wise ones are those of ``codes``.
        codes: ``(N, E)`` int64 states.
        columns: Columns of the elements.
    """
    rows = len(codes)
    total = torch.zeros(rows, int(elements.offset[-1]), dtype=torch.float64, device=codes.device)
    for g in groups:
        for position in range(g.arity if g.num_factors else 0):
            scopes = torch.from_numpy(g.scopes).to(codes.device)
            first = columns.first[scopes[:, position]]
            total = g.add_conditionals(total, first, codes[:, scopes], position)
    norm = columns.log_sums(total)
    observed_score = total.gather(1, codes + columns.first)
    impossible = observed_score.isneginf()
    logs = observed_score.masked_fill(impossible, 0.0) - norm.masked_fill(impossible, 0.0)
    return logs.masked_fill(impossible, -math.inf)


class _Blocks:
    """Blocks of rows that fit into memory."""

    def __init__(
        self, elements: Elements, groups: Sequence[FactorGroup], codes: Tensor, shares: Tensor
    ) -> None:
        self.elements, self.groups = elements, groups
        device = groups[0].numbers.device if groups else codes.device
        self.codes, self.shares = codes.to(device), shares.to(device)
        self.columns = StateColumns(elements, device)
        states = int(elements.offset[-1]) + sum(int(elements.card[g.scopes].sum()) for g in groups)
        self.step = max(1, _ENTRIES // states)

    def mean(self) -> Tensor:
        """Return the mean, differentiable if needed."""
        numbers = [g.numbers for g in self.groups]
        wanted = torch.is_grad_enabled() and any(n.requires_grad for n in numbers)
        leaves = [n.detach().requires_grad_(wanted and n.requires_grad) for n in numbers]
        learned = [k for k, n in enumerate(leaves) if n.requires_grad]
        value = torch.zeros((), dtype=torch.float64, device=self.codes.device)
        gradients = [torch.zeros_like(leaves[k]) for k in learned]
        for first in range(0, len(self.codes), self.step):
            rows = slice(first, first + self.step)
            groups = [_of_rows(g, n, rows) for g, n in zip(self.groups, leaves, strict=True)]
            logs = log_conditionals(self.elements, groups, self.codes[rows], self.columns)
            part = (logs.sum(1) * self.shares[rows]).sum()
            value = value + part.detach()
            if learned:
                more = torch.autograd.grad(
                    part, [leaves[k] for k in learned], materialize_grads=True
                )
                for gradient, m in zip(gradients, more, strict=True):
                    gradient += m
        if not learned:
            return value
        return with_gradients(value, [numbers[k] for k in learned], gradients)


def _of_rows(g: FactorGroup, numbers: Tensor, rows: slice) -> FactorGroup:
    """Return a group with other parameters, of some rows if they are row-wise."""
    if g.batch_shape and numbers.shape[0] > 1:
        numbers = numbers[rows]
    return g.with_numbers(numbers)


Ints = NDArray[np.int64]


class CpuPseudoLikelihood:
    """The mean over complete rows, as a function of the parameters of a graph.

    Args:
        codes: ``(N, E)`` states.
        shares: ``(N,)`` weight of each row.
    """

    def __init__(self, codes: Codes, shares: Floats) -> None:
        self.codes, self.shares = np.ascontiguousarray(codes, dtype=np.int32), shares
        self._wiring: LocalWiring | None = None

    def mean(self, graph: FactorGraph) -> Tensor:
        """Return the scalar mean, differentiable to first order.

        Args:
            graph: A graph of the same structure; row-wise tables have the rows of ``codes``.
        """
        if self._wiring is None:
            self._wiring = graph.local_wiring
        walk = _Walk(self._wiring, graph, self.codes, self.shares)
        in_threads(walk.run, np.arange(len(self.codes)))
        value = torch.tensor(sum(walk.values), dtype=torch.float64)
        return with_gradients(
            value, [graph.log_field, *(g.numbers for g in graph.compiled)], walk.gradients
        )


class _Walk:
    """One evaluation."""

    def __init__(
        self, wiring: LocalWiring, graph: FactorGraph, codes: Codes, shares: Floats
    ) -> None:
        self.wiring, self.graph, self.codes, self.shares = wiring, graph, codes, shares
        self.tables = np.ascontiguousarray(graph.log_tables)
        field = graph.log_field.detach().to(torch.float64).numpy()
        self.field = np.ascontiguousarray(field)
        self.values: list[float] = []
        self._parts: list[tuple[Floats, Floats]] = []
        # rows of row-wise tables write to separate gradients, from any thread
        self._table_gradients = np.zeros_like(self.tables) if len(self.tables) > 1 else None
        self._field_gradients = np.zeros_like(self.field) if len(self.field) > 1 else None

    def run(self, rows: Ints, stop: Stop) -> None:
        """Evaluate some rows."""
        from pgnn.inference.learning.kernels import pseudo_likelihood

        tables, field = self._table_gradients, self._field_gradients
        tables = np.zeros_like(self.tables) if tables is None else tables
        field = np.zeros_like(self.field) if field is None else field
        self.values.append(
            pseudo_likelihood.mean(
                self.wiring,
                self.tables,
                self.field,
                self.codes,
                self.shares,
                rows,
                tables,
                field,
                stop,
            )
        )
        self._parts.append((tables, field))

    @cached_property
    def gradients(self) -> list[Tensor]:
        """Gradients with respect to the field and the parameters of each group."""
        tables, field = self._parts[0]
        for more, others in self._parts[1:]:
            tables = tables if self._table_gradients is not None else tables + more
            field = field if self._field_gradients is not None else field + others
        gradients, first = [torch.from_numpy(field)], 0
        for g in self.graph.compiled:
            size = g.num_entries * g.numbers.shape[len(g.batch_shape)]
            gradients.append(_like_numbers(g, torch.from_numpy(tables[:, first : first + size])))
            first += size
        return gradients


def _like_numbers(g: FactorGroup, gradient: Tensor) -> Tensor:
    """Gradients with respect to a group's parameters, from those with respect to table entries."""
    if not g.batch_shape or g.batch_shape == (1,):
        gradient = gradient.sum(0)
    lead = g.numbers.shape[: len(g.batch_shape) + 1]
    return g.numbers_gradient(gradient.reshape(*lead, g.num_entries))
