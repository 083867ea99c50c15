"""What the approximate engines see: elements, and factors grouped by shape in flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


class Wiring(NamedTuple):
    """The integers of a graph: which factors touch which elements, and where numbers stand.

    A *slot* is one place of one factor's scope; messages between the factor and the element at
    that place stand at ``message[slot] : message[slot] + card``.

    Attributes:
        card: ``(E,)`` state counts.
        offset: ``(E + 1,)`` first column of each element, states side by side.
        scope_ptr: ``(F + 1,)`` first slot of each factor.
        scope_var: ``(L,)`` element of each slot.
        slot_factor: ``(L,)`` factor of each slot.
        message: ``(L + 1,)`` first message entry of each slot.
        var_ptr: ``(E + 1,)`` where each element's slots begin in ``var_slot``.
        var_slot: ``(L,)`` slots of each element.
        potts: ``(F,)`` whether the entries are ``[differ, same]`` instead of one a joint state.
        table: ``(F,)`` first entry of each factor; shared entries stand there once.
        num_entries: Length of all tables together, ``T``.
    """

    card: Ints
    offset: Ints
    scope_ptr: Ints
    scope_var: Ints
    slot_factor: Ints
    message: Ints
    var_ptr: Ints
    var_slot: Ints
    potts: NDArray[np.bool_]
    table: Ints
    num_entries: int


@dataclass(frozen=True, eq=False)
class GroupedGraph:
    r"""A product of factors over elements, those of one element folded into one field.

    .. math:: \log \tilde p(x) = c + \sum_i \theta_i(x_i) + \sum_f \theta_f(x_{s_f})

    Args:
        elements: The numbered elements.
        given: All factors in groups; a group with batch shape ``(B,)`` differs from row to row.
    """

    elements: Elements
    given: tuple[FactorGroup, ...]

    @cached_property
    def groups(self) -> tuple[FactorGroup, ...]:
        """The groups of factors over two or more elements."""
        return tuple(g for g in self.given if g.arity > 1 and g.num_factors)

    def of_rows(self, rows: Ints) -> GroupedGraph:
        """Return the graph of some rows, where tables differ from row to row."""
        if all(not g.batch_shape for g in self.given):
            return self
        return GroupedGraph(self.elements, tuple(g.of_rows(rows) for g in self.given))

    @property
    def num_factors(self) -> int:
        """Factors over two or more elements."""
        return sum(g.num_factors for g in self.groups)

    @cached_property
    def log_constant(self) -> Tensor:
        """``(1,)`` or ``(B,)`` sum of the factors over nothing."""
        total = torch.zeros(1, dtype=self.dtype, device=self.device)
        for g in self.given:
            if g.arity == 0:
                total = total + g.log_values.expand(*g.batch_shape, g.num_factors).sum(-1)
        return total

    @cached_property
    def log_field(self) -> Tensor:
        """``(1, S)`` or ``(B, S)`` sum of each element's own factors, states side by side."""
        offset = self.elements.offset
        field = torch.zeros(1, int(offset[-1]), dtype=self.dtype, device=self.device)
        for g in self.given:
            if g.arity != 1 or not g.num_factors:
                continue
            states = g.log_values.shape[-1]
            place = torch.from_numpy(offset[g.scopes] + np.arange(states)).to(self.device)
            table = g.log_values.expand(*g.batch_shape, g.num_factors, states)
            rows = table.reshape(-1, g.num_factors * states).to(self.dtype)
            field = field.expand(len(rows) if len(field) == 1 else len(field), -1)
            # two infinities of one sign add up to an infinity: no NaN
            field = field.index_add(1, place.reshape(-1), rows.expand(len(field), -1))
        return field

    @cached_property
    def rowwise(self) -> bool:
        """Whether some table of :attr:`groups` differs from row to row."""
        return any(g.batch_shape for g in self.groups)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Type of the answers: the widest of the tables, at least float32."""
        widest = torch.float32
        for g in self.given:
            widest = torch.promote_types(widest, g.numbers.dtype)
        return widest if self.given else torch.float64

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.given[0].numbers.device if self.given else torch.device("cpu")

    @cached_property
    def requires_grad(self) -> bool:
        """Whether any table wants a gradient."""
        return any(g.numbers.requires_grad for g in self.given)

    @cached_property
    def compiled(self) -> tuple[FactorGroup, ...]:
        """:attr:`groups` as the compiled kernels know them."""
        return tuple(g.for_kernels() for g in self.groups)

    @cached_property
    def wiring(self) -> Wiring:
        """The integers that kernels walk along."""
        return _wire(self.elements, self.compiled)

    @cached_property
    def log_tables(self) -> Floats:
        """``(1, T)`` or ``(B, T)`` log values as :class:`Wiring` places them, in float64."""
        parts = [_flat(g) for g in self.compiled]
        if not parts:
            return np.zeros((1, 1))
        lengths = {len(p) for p in parts}
        rows = max(lengths) if min(lengths) else 0
        return np.concatenate([np.broadcast_to(p, (rows, p.shape[1])) for p in parts], axis=1)

    def log_score(self, codes: Codes) -> Tensor:
        r"""Return ``(B,)`` values :math:`\log \tilde p` of complete rows; differentiable.

        Args:
            codes: ``(B, E)`` state indices, none missing.
        """
        x = torch.from_numpy(np.ascontiguousarray(codes, dtype=np.int64)).to(self.device)
        columns = x + torch.from_numpy(self.elements.offset[:-1]).to(self.device)
        total = self.log_constant + self.log_field.expand(len(x), -1).gather(1, columns).sum(1)
        if not self.groups:
            return total
        # the rows of an element side by side, in the least bytes
        small = np.uint8 if int(self.elements.card.max(initial=1)) <= 256 else np.int32
        by_element = torch.from_numpy(np.ascontiguousarray(codes.T, dtype=small)).to(self.device)
        for g in self.groups:
            total = total + g.score(by_element)
        return total


def _flat(g: FactorGroup) -> Floats:
    """The entries of a group in one row (or one for each row of a batch)."""
    entries = _array(g.entries())
    return entries.reshape(len(entries) if g.batch_shape else 1, -1)


def _wire(elements: Elements, groups: Sequence[FactorGroup]) -> Wiring:
    card = elements.card
    arity = np.concatenate([[0], *(np.full(g.num_factors, g.arity) for g in groups)])
    scope_ptr = np.cumsum(arity).astype(np.int64)
    scope_var = np.concatenate([np.zeros(0, np.int64), *(g.scopes.ravel() for g in groups)])
    slot_factor = np.repeat(np.arange(len(scope_ptr) - 1), np.diff(scope_ptr))
    message = np.concatenate([[0], np.cumsum(card[scope_var])]).astype(np.int64)
    tables, kinds = [np.zeros(0, np.int64)], [np.zeros(0, np.int8)]
    first = 0
    for g in groups:
        size = g.num_entries
        step = 0 if g.shared and g.num_factors > 1 else size
        tables.append(first + step * np.arange(g.num_factors, dtype=np.int64))
        kinds.append(np.full(g.num_factors, g.kernel_kind, dtype=np.int8))
        first += size if step == 0 else size * g.num_factors
    counts = np.bincount(scope_var, minlength=len(elements))
    return Wiring(
        card=card,
        offset=elements.offset,
        scope_ptr=scope_ptr,
        scope_var=scope_var,
        slot_factor=slot_factor.astype(np.int64),
        message=message,
        var_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        var_slot=np.argsort(scope_var, kind="stable").astype(np.int64),
        potts=np.concatenate(kinds) == 1,
        table=np.concatenate(tables),
        num_entries=first,
    )


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float64).numpy()
