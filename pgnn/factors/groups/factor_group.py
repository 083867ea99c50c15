"""Groups of factors of one kind and shape, as arrays; each kind has its own operations."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.decomposition import Decomposition
from pgnn.factors.conditionals.linear_predictor import LinearPredictor
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.group_messages import GroupMessages, TableMessages, WrittenDownMessages
from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.factors.variable import Variable

Ints = NDArray[np.int64]


class FactorGroup(ABC):
    r"""``F`` factors of ``n`` elements each, :math:`\prod_f \phi_f(x_{s_{f1}}, \dots, x_{s_{fn}})`.

    The couplings of a grid, for instance, are one group. The elements on one axis of the scopes
    all have the same number of states.

    A kind of factors is a subclass. It must define its tables (:attr:`log_values`) and how many
    axes its parameters have behind that of the factors (:attr:`number_axes`); every other operation
    is then done on the tables, and may be overridden where the kind has a faster one. Engines call
    these operations and never ask for the class. A subclass keeps nothing that is computed from
    its parameters; its other attributes are hashable settings, by which groups are compared before
    they are merged.

    Args:
        scopes: ``(F, n)`` indices of elements, see :class:`~pgnn.factors.elements.Elements`.
        numbers: Parameters ``(*batch, F, ...)``, or ``(*batch, 1, ...)`` if all factors share them.
        child: The axis over which every row of the tables sums to one, if there is one (see
            :class:`~pgnn.factors.factor.Factor`).

    Attributes:
        scopes: The scopes as an int64 array.
        numbers: The parameters of the factors.
        kernel_kind: The kind's code for the compiled kernels
            (:mod:`pgnn.inference.kernels.kinds`); ``None`` if they read its tables.
        written_down: Whether the tables are small enough to be computed in advance.
        is_linear: Whether log values are linear in the parameters, so that their counts are
            sufficient statistics.

    Raises:
        ModelError: If the shapes do not agree.
    """

    kernel_kind: ClassVar[int | None] = None
    is_linear: ClassVar[bool] = False
    written_down: ClassVar[bool] = True

    def __init__(self, scopes: ArrayLike, numbers: Tensor, child: int | None = None) -> None:
        self.child = child
        self.scopes: Ints = np.asarray(scopes, dtype=np.int64)
        if self.scopes.ndim != 2:
            raise ModelError(f"scopes must have shape (F, n), got {self.scopes.shape}")
        self.numbers = numbers
        axis = numbers.dim() - self.number_axes - 1
        if axis not in (0, 1) or numbers.shape[axis] not in (1, self.num_factors):
            raise ModelError(
                f"{self.num_factors} factors over {self.arity} elements need numbers of shape "
                f"(F, ...) or (B, F, ...) with {self.number_axes} axes behind F, got "
                f"{tuple(numbers.shape)}"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_factors} factors over {self.arity} elements)"

    # --- defined by each kind ------------------------------------------------------------------

    @property
    @abstractmethod
    def number_axes(self) -> int:
        """Number of axes of :attr:`numbers` after that of the factors."""

    @property
    @abstractmethod
    def log_values(self) -> Tensor:
        """The log tables ``(*batch, F or 1, K1, ..., Kn)``; differentiable."""

    # --- shape ---------------------------------------------------------------------------------

    @property
    def num_factors(self) -> int:
        """Number of factors ``F``."""
        return int(self.scopes.shape[0])

    @property
    def arity(self) -> int:
        """Number of elements ``n`` of each factor."""
        return int(self.scopes.shape[1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """``(B,)`` if the parameters differ by row, else ``()``."""
        return tuple(self.numbers.shape[: self.numbers.dim() - self.number_axes - 1])

    @property
    def shared(self) -> bool:
        """Whether all factors share the same parameters."""
        count = self.numbers.shape[len(self.batch_shape)]
        return count != self.num_factors or self.num_factors == 1

    @property
    def sides(self) -> tuple[Ints, Ints] | None:
        """Two sets of elements if each of one is joined to each of the other by a matrix."""
        return None

    def decomposition(self, ranks: Ints | None = None) -> Decomposition | None:
        """Return small factors that make up the table of the one factor, if there are such.

        Args:
            ranks: ``(E,)`` by which elements are best combined, lowest first.
        """
        return None

    def linear_predictor(self) -> LinearPredictor | None:
        """Return the sums whose softmax the one factor is, its child last; None if it is not."""
        return None

    def given(self, codes: NDArray[np.int32]) -> FactorGroup:
        """Return the factors given rows of evidence; by default the same factors.

        Args:
            codes: ``(B, E)`` states of all elements, -1 where not observed.
        """
        return self

    @property
    def merge_key(self) -> tuple[object, ...]:
        """Groups with equal keys whose factors do not share parameters may be merged."""
        numbers = self.numbers
        shape = tuple(numbers.shape[numbers.dim() - self.number_axes :])
        settings = tuple(v for k, v in vars(self).items() if k not in ("scopes", "numbers"))
        return (type(self), numbers.dtype, numbers.device, self.arity, self.batch_shape, shape,
                *settings)  # fmt: skip

    # --- the same kind with other parameters, rows or factors ----------------------------------

    def with_numbers(self, numbers: Tensor, scopes: Ints | None = None) -> Self:
        """Return the same factors with other parameters of the same shape (and other scopes)."""
        other = copy.copy(self)
        other.numbers = numbers
        if scopes is not None:
            other.scopes = scopes
        return other

    def of_rows(self, rows: Ints) -> Self:
        """Return the group with the parameters of some rows, if they differ by row."""
        if not self.batch_shape:
            return self
        return self.with_numbers(self.numbers[torch.from_numpy(rows).to(self.numbers.device)])

    def select(self, indices: Tensor) -> Self:
        """Return some of the factors, by their indices ``(m,)``."""
        scopes = self.scopes[indices.cpu().numpy()]
        if self.shared and self.num_factors > 1:
            return self.with_numbers(self.numbers, scopes)
        indices = indices.to(self.numbers.device)
        return self.with_numbers(self.numbers.index_select(len(self.batch_shape), indices), scopes)

    def snapshot(self) -> Self:
        """Return the group with a copy of its parameters, which does not change with them."""
        return self.with_numbers(self.numbers.clone()) if self.numbers.is_leaf else self

    def prepared(self) -> Self:
        """Return the group detached, for repeated lookups while the parameters are constant."""
        return self.with_numbers(self.numbers.detach())

    # --- as tables -----------------------------------------------------------------------------

    def as_tables(self) -> TableGroup:
        """Return the same factors as dense tables."""
        return TableGroup(self.scopes, self.log_values, self.child)

    def factors(self, elements: Elements) -> list[Factor]:
        """Return each factor separately, over the elements as variables."""
        return self.over(elements.singles)

    def over(self, variables: Sequence[Variable]) -> list[Factor]:
        """Return each factor separately.

        Args:
            variables: Variables of the indices in the scopes.
        """
        table, axis = self.log_values, len(self.batch_shape)
        shape = table.shape[axis + 1 :]
        tables = table.expand(*self.batch_shape, self.num_factors, *shape)
        # factors that share a table share one tensor, which engines recognise
        each = [tables.select(axis, 0)] * self.num_factors if self.shared else tables.unbind(axis)
        scopes = [[variables[e] for e in scope] for scope in self.scopes.tolist()]
        names = [None if self.child is None else s[self.child].name for s in scopes]
        return [Factor(s, t, n) for s, t, n in zip(scopes, each, names, strict=True)]

    def product(self) -> TableGroup:
        """Return the product of constant factors as a single one."""
        axis, table = len(self.batch_shape), self.log_values
        if self.num_factors > 1 or table.shape[axis] != 1:
            copies = self.num_factors // max(table.shape[axis], 1)
            table = copies * table.sum(axis, keepdim=True)
        return TableGroup(np.zeros((1, 0)), table)

    # --- complete rows -------------------------------------------------------------------------

    def lead(self, states: Tensor, rows: Tensor | None = None) -> tuple[Tensor, ...]:
        """Indices of the first axes of tables or parameters for the ``(B, F)`` values of states."""
        device = self.numbers.device
        index = torch.arange(self.num_factors, device=device)[None]
        index = torch.zeros_like(index) if self.shared else index
        if not self.batch_shape:
            return (index,)
        row = (torch.arange(len(states), device=device) if rows is None else rows)[:, None]
        return (row if self.batch_shape[0] > 1 else torch.zeros_like(row), index)

    def look_up(self, states: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return ``(B, F)`` log values of complete rows.

        Args:
            states: ``(B, F, n)`` states of the scopes' elements.
            rows: ``(B,)`` row of the parameters of each row, if they differ; in order if not
                given.
        """
        return self.log_values[(*self.lead(states, rows), *states.unbind(-1))]

    def score(self, columns: Tensor) -> Tensor:
        """Return ``(B,)`` sums of the log values of complete rows.

        Args:
            columns: ``(E, B)`` states of all elements, integers of any type.
        """
        scopes = torch.from_numpy(self.scopes).to(columns.device)
        states = torch.stack([columns.index_select(0, s).T.long() for s in scopes.T], dim=-1)
        return self.look_up(states).sum(1)

    def conditionals(self, states: Tensor, place: int, rows: Tensor | None = None) -> Tensor:
        """Return ``(B, F, K)`` log values as functions of the element on one axis.

        Args:
            states: ``(B, F, n)``; those at ``place`` are ignored.
            place: The axis of the scopes that is free.
            rows: See :meth:`look_up`.
        """
        table = self.log_values.movedim(place - self.arity, -1)
        others = [s for k, s in enumerate(states.unbind(-1)) if k != place]
        values = table[(*self.lead(states, rows), *others)]
        return values.expand(len(states), self.num_factors, table.shape[-1])

    def add_conditionals(self, total: Tensor, first: Tensor, states: Tensor, place: int) -> Tensor:
        """Return ``(B, S)`` sums with :meth:`conditionals` added.

        Args:
            total: ``(B, S)``, the states of all elements concatenated.
            first: ``(F,)`` first column of the element at ``place``.
            states: See :meth:`conditionals`.
            place: Likewise.
        """
        values = self.conditionals(states, place)
        column = first[:, None] + torch.arange(values.shape[-1], device=first.device)
        return total.index_add(1, column.reshape(-1), values.flatten(1).to(total.dtype))

    # --- expectations --------------------------------------------------------------------------

    def expected(self, probabilities: Sequence[Tensor]) -> Tensor:
        """Return ``(B,)`` finite parts of the expected log values under independent elements.

        Args:
            probabilities: For each axis of the scopes ``(B, F, K)``.
        """
        weights = probabilities[0]
        for probs in probabilities[1:]:
            shape = [*probs.shape[:2], *[1] * (weights.dim() - 2), probs.shape[2]]
            weights = weights[..., None] * probs.reshape(shape)
        return weighed(weights, self.log_values.double()).flatten(start_dim=1).sum(dim=1)

    def messages(self, numbers: Tensor, scale: Tensor | float, hard: bool) -> GroupMessages:
        """Return the messages of these factors with some parameters.

        Args:
            numbers: Like :attr:`numbers`.
            scale: Factor of the log values: a number, or ``(F,)`` numbers.
            hard: Maximise instead of summing.
        """

        def tables(numbers: Tensor) -> Tensor:
            return self.with_numbers(numbers).log_values

        return WrittenDownMessages(numbers, tables, self.arity, scale, hard)

    # --- compiled kernels ----------------------------------------------------------------------

    def for_kernels(self) -> FactorGroup:
        """Return the group in the form that compiled kernels read: itself, or its tables."""
        return self if self.kernel_kind is not None else self.as_tables()

    @property
    def num_entries(self) -> int:
        """Number of entries of a factor that kernels read; here those of its table."""
        return math.prod(self.log_values.shape[len(self.batch_shape) + 1 :])

    @property
    def message_cost(self) -> int:
        """Number of table entries that the messages of one factor visit."""
        return self.num_entries

    def entries(self) -> Tensor:
        """Return the entries ``(*batch, F or 1, num_entries)`` that kernels read."""
        table = self.log_values
        return table.reshape(*table.shape[: len(self.batch_shape) + 1], self.num_entries)

    def numbers_gradient(self, by_entry: Tensor) -> Tensor:
        """Return gradients by :attr:`numbers`, given those by :meth:`entries`."""
        return by_entry.reshape(self.numbers.shape)


class TableGroup(FactorGroup):
    """Dense tables: one entry for each joint state.

    Args:
        scopes: ``(F, n)`` indices of elements.
        log_values: ``(*batch, F, K1, ..., Kn)`` log values, or ``(*batch, 1, K1, ..., Kn)`` if
            all factors share one table; ``-inf`` is legal.
        child: See :class:`FactorGroup`.

    Raises:
        ModelError: If the shapes do not agree.
    """

    kernel_kind: ClassVar[int | None] = TABLE
    is_linear: ClassVar[bool] = True

    def __init__(self, scopes: ArrayLike, log_values: Tensor, child: int | None = None) -> None:
        super().__init__(scopes, log_values, child)

    @property
    def number_axes(self) -> int:
        """See :class:`FactorGroup`: one for each place."""
        return self.arity

    @property
    def log_values(self) -> Tensor:
        """The tables, ``(*batch, F or 1, K1, ..., Kn)``."""
        return self.numbers

    def as_tables(self) -> TableGroup:
        """Return the group itself."""
        return self

    def messages(self, numbers: Tensor, scale: Tensor | float, hard: bool) -> GroupMessages:
        """See :meth:`FactorGroup.messages`."""
        return TableMessages(numbers, self.arity, scale, hard)


def weighed(weights: Tensor, log_values: Tensor) -> Tensor:
    """Weights times values; 0 where the weight is zero or the value infinite."""
    finite = (weights > 0) & log_values.isfinite()
    return weights * torch.where(finite, log_values, 0.0)
