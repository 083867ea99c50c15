"""Mean field between blocks of elements, exact inference inside them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import ChecksArguments, Intractable, ModelError
from pgnn.evidence.unknown_variable import UnknownVariable
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.variable import Variable
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.loop import Info
from pgnn.inference.mean_field.coordinate_ascent import CoordinateAscent, MeanFieldState
from pgnn.inference.threads import Stop, interruptible
from pgnn.inference.wiring import Wiring
from pgnn.limits import MAX_COUNT, check_settings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Slices(metaclass=ChecksArguments):
    """Blocks that are the slices of an array of variables, such as the rows of a grid.

    Args:
        name: Name of the array.
        axis: The axis; each index along it is one block.
    """

    name: Hashable
    axis: int = 0

    def __post_init__(self) -> None:
        check_settings(self, axis=-MAX_COUNT)


def elements_of_blocks(
    elements: Elements, named_blocks: Iterable[Sequence[Hashable] | Slices]
) -> list[Ints]:
    """Return the indices of the elements of each block.

    Raises:
        EvidenceError: If a name is unknown (also a ``KeyError``).
        ModelError: If an element is in two blocks, or an array has no such axis.
    """
    blocks: list[Ints] = []
    for names in named_blocks:
        if isinstance(names, Slices):
            cells = _numbers(elements, names.name)
            if not -cells.ndim <= names.axis < cells.ndim:
                raise ModelError(f"{names.name!r} has the shape {cells.shape}, no {names.axis=}")
            blocks += [np.sort(part.ravel()) for part in np.moveaxis(cells, names.axis, 0)]
        elif isinstance(names, str):
            raise ModelError(f"a block must be a list of names, got the string {names!r}")
        else:
            parts = [_numbers(elements, name).ravel() for name in names]
            blocks.append(np.sort(np.concatenate([np.zeros(0, np.int64), *parts])))
    blocks = [b for b in blocks if len(b)]
    count = np.bincount(np.concatenate([np.zeros(0, np.int64), *blocks]), minlength=1)
    if count.max() > 1:
        raise ModelError(f"{elements.name(int(count.argmax()))!r} is named twice in blocks")
    return blocks


def _numbers(elements: Elements, name: Hashable) -> Ints:
    result = elements.find(name)
    if result is None:
        raise UnknownVariable(name, (v.name for v in elements.variables))
    return result[1]


@dataclass(frozen=True, eq=False)
class StraddlingFactor:
    """A factor with several elements in one block and others outside it.

    Args:
        factor: Its index.
        axes: Axes of the factor in each of its blocks, by the index of the block.
    """

    factor: int
    axes: dict[int, list[int]]


@dataclass(frozen=True, eq=False)
class Blocks:
    """A partition of the elements into blocks and single elements.

    Args:
        wiring: Wiring of the graph.
        numbers: Indices of the elements of each block.
    """

    wiring: Wiring
    numbers: list[Ints]

    @cached_property
    def block_of(self) -> Ints:
        """``(E,)`` index of each element's block; each single element has its own index."""
        count = len(self.wiring.card)
        owner = len(self.numbers) + np.arange(count, dtype=np.int64)
        for b, elements in enumerate(self.numbers):
            owner[elements] = b
        return owner

    @cached_property
    def spans(self) -> Ints:
        """``(F,)`` 0 inside one block; 1 no two elements in one block; 2 straddling."""
        wiring = self.wiring
        kind = np.zeros(len(wiring.table), dtype=np.int64)
        arity = np.diff(wiring.factor_ptr)
        for n in np.unique(arity):
            factors = np.flatnonzero(arity == n)
            scopes = wiring.slot_var[wiring.factor_ptr[factors][:, None] + np.arange(n)]
            owners = np.sort(self.block_of[scopes], axis=1)
            apart = (np.diff(owners, axis=1) > 0).all(axis=1)
            kind[factors] = np.where(owners[:, 0] == owners[:, -1], 0, np.where(apart, 1, 2))
        return kind

    @cached_property
    def straddling(self) -> dict[int, list[StraddlingFactor]]:
        """Straddling factors by the blocks of their elements."""
        wiring = self.wiring
        straddling: dict[int, list[StraddlingFactor]] = {}
        for f in np.flatnonzero(self.spans == 2).tolist():
            scope = wiring.slot_var[wiring.factor_ptr[f] : wiring.factor_ptr[f + 1]]
            axes: dict[int, list[int]] = {}
            for axis, owner in enumerate(self.block_of[scope].tolist()):
                axes.setdefault(owner, []).append(axis)
            for owner in axes:
                straddling.setdefault(owner, []).append(StraddlingFactor(f, axes))
        return straddling

    @cached_property
    def members(self) -> dict[int, Ints]:
        """Elements of the blocks, and single elements of straddling factors."""
        members = dict(enumerate(self.numbers))
        for owner in self.straddling:
            if owner not in members:
                members[owner] = np.array([owner - len(self.numbers)])
        return members

    @cached_property
    def singles(self) -> Ints:
        """All other elements."""
        is_single = np.ones(len(self.block_of), dtype=np.bool_)
        for elements in self.members.values():
            is_single[elements] = False
        return np.flatnonzero(is_single)

    @cached_property
    def inside(self) -> Ints:
        """``(F,)`` the block that contains a factor, or -1."""
        first = self.wiring.slot_var[self.wiring.factor_ptr[:-1]]
        return np.where(self.spans == 0, self.block_of[first], -1)

    def columns(self, elements: Ints) -> Ints:
        """Return the columns of some elements' states."""
        wiring = self.wiring
        parts = [np.arange(wiring.offset[i], wiring.offset[i + 1]) for i in elements]
        return np.concatenate([np.zeros(0, np.int64), *parts])


# smallest log message relative to the largest one: clipped messages make q slightly suboptimal, #
# but the bound is still that of q
_SMALLEST_LOG_MESSAGE = -700.0


@dataclass(frozen=True, eq=False)
class BlockAscent:
    r"""Maximises :math:`E_q[\log \tilde p] + H(q)` over :math:`q(x) = \prod_B q_B(x_B)`.

    The optimal :math:`q_B` given the others is the product of the factors inside B and of the
    exponentiated expected logs of those that cross its boundary; the exact solver computes its
    marginals and normaliser.

    Args:
        ascent: Updates of the elements in no block.
        blocks: Blocks whose joint distributions are exact.
    """

    ascent: CoordinateAscent
    blocks: Blocks
    _inside: dict[int, Floats] = field(default_factory=dict)
    _parts: dict[tuple[int, int], Floats] = field(default_factory=dict)
    _solvers: dict[int, Solver] = field(default_factory=dict)

    # --- the iteration --------------------------------------------------------------------------

    def begin(self, q: Floats, rows: Ints) -> MeanFieldState:
        """Return the initial state, with independent elements."""
        self._parts.clear()
        self._inside.clear()
        for owner, factors in self.blocks.straddling.items():
            for w in factors:
                if len(w.axes[owner]) > 1:
                    self._parts[owner, w.factor] = self._product(q, w, w.axes[owner])
        for owner, elements in self.blocks.members.items():
            entropy = self.ascent.entropies(q[:, self.blocks.columns(elements)])
            energy = self.ascent.energies(q, self.blocks.inside == owner)
            self._inside[owner] = entropy + energy
        return self.ascent.begin(q, rows)

    def init(self) -> MeanFieldState:
        """Return the initial state from uniform distributions."""
        return self.begin(self.ascent.init().q, self.ascent.all_rows)

    def step(self, state: MeanFieldState) -> tuple[MeanFieldState, Info]:
        """Update each block once, in the rows that have not converged."""
        q, residual = state.q.copy(), state.residual.copy()
        residual[state.active] = 0.0
        self.ascent.sweep(q, state.active, self.blocks.singles, self.ascent.tables, residual)
        for owner in self.blocks.members if len(state.active) else ():
            try:
                self._update(owner, state.active, q, residual)
            except Intractable as error:
                raise Intractable(
                    f"MeanField: a block is too wide: {error.reason}", "make it smaller"
                ) from None
        return self.ascent.next_state(state, q, residual)

    def bounds(self, q: Floats) -> Floats:
        """Return ``(B,)`` lower bounds of the log evidence."""
        total = self.ascent.scores(q) + self.ascent.energies(q, self.blocks.spans == 1)
        total += self.ascent.entropies(q[:, self.blocks.columns(self.blocks.singles)])
        for inside in self._inside.values():
            total += inside
        rows = self.ascent.all_rows
        for f in {w.factor: w for ws in self.blocks.straddling.values() for w in ws}.values():
            total += self._expected(f, None, rows, q)
        return total

    # --- one block ------------------------------------------------------------------------------

    def _update(self, owner: int, rows: Ints, q: Floats, residual: Floats) -> None:
        """Set one block of some rows of ``q`` to its optimum given the others."""
        elements = self.blocks.members[owner]
        columns, card = self.blocks.columns(elements), self.ascent.wiring.card[elements]
        first = np.cumsum(card) - card
        logits, tables = self._messages_into(owner, rows, q)
        top = np.maximum.reduceat(logits, first, axis=1)
        # messages that exclude all states of an element are ignored
        ruled_out = np.repeat(np.isneginf(top), card, axis=1)
        field = self.ascent.field[np.ix_(rows, columns)]
        logits = np.where(ruled_out, np.where(np.isneginf(field), -np.inf, 0.0), logits)
        top = np.where(np.isneginf(top), 0.0, top)
        zero = np.isneginf(logits)
        relative = np.maximum(logits - np.repeat(top, card, axis=1), _SMALLEST_LOG_MESSAGE)
        soft = np.where(zero, 0.0, np.exp(relative))
        codes = np.ascontiguousarray(self.ascent.question.observed.codes[np.ix_(rows, elements)])
        solver = self._solver(owner, rows, tables)
        log_z, marginals = solver.marginals(codes, soft, np.ones(len(elements), dtype=np.bool_))
        good = ~np.isneginf(log_z)
        inside = log_z - np.where(zero, 0.0, marginals * np.where(zero, 0.0, relative)).sum(axis=1)
        if tables:
            beliefs = solver.expected(codes, soft, np.ones(len(rows)))[-len(tables) :]
            for (w, table), group_beliefs in zip(tables, beliefs, strict=True):
                belief = group_beliefs[:, 0]
                positive = belief > 0
                energy = np.where(positive, belief * np.where(positive, table, 0.0), 0.0)
                inside = inside - energy.reshape(len(rows), -1).sum(axis=1)
                self._parts[owner, w.factor][rows[good]] = belief[good]
        self._inside[owner][rows[good]] = inside[good]
        change = np.abs(marginals - q[np.ix_(rows, columns)]).max(axis=1, initial=0.0)
        residual[rows[good]] = np.maximum(residual[rows[good]], change[good])
        q[np.ix_(rows[good], columns)] = marginals[good]

    def _messages_into(
        self, owner: int, rows: Ints, q: Floats
    ) -> tuple[Floats, list[tuple[StraddlingFactor, Floats]]]:
        """Messages into a block: ``(B, S)`` log fields, and log tables over several elements."""
        from pgnn.inference.mean_field.kernels import mean_field

        ascent, elements = self.ascent, self.blocks.members[owner]
        logits = np.ascontiguousarray(ascent.field[np.ix_(rows, self.blocks.columns(elements))])
        included = self.blocks.spans == 1

        def work(stop: Stop) -> None:
            mean_field.messages(
                ascent.wiring,
                ascent.sizes,
                ascent.tables,
                rows,
                elements,
                q,
                included,
                logits,
                stop,
            )

        interruptible([work], cost=ascent.cost(rows))
        tables = []
        for w in self.blocks.straddling.get(owner, []):
            table = self._expected(w, owner, rows, q)
            if len(w.axes[owner]) > 1:
                tables.append((w, table))
            else:
                slot = ascent.wiring.factor_ptr[w.factor] + w.axes[owner][0]
                position = int(np.searchsorted(elements, ascent.wiring.slot_var[slot]))
                first = int(ascent.wiring.card[elements[:position]].sum())
                logits[:, first : first + table.shape[1]] += table
        return logits, tables

    def _solver(
        self, owner: int, rows: Ints, tables: list[tuple[StraddlingFactor, Floats]]
    ) -> Solver:
        """Return the exact solver of a block, with the messages into it as additional factors."""
        if owner not in self._solvers:
            self._solvers[owner] = Solver(self._graph_inside(owner))
        solver = self._solvers[owner]
        if not tables:
            return solver.at_rows(rows)
        extra = []
        for w, table in tables:
            scope = self._scope(w.factor)
            variables = [self._singles[scope[axis]] for axis in w.axes[owner]]
            extra.append(Factor(variables, torch.from_numpy(table)))
        return Solver(solver.at_rows(rows).graph.with_factors(*extra), solver.planner)

    def _graph_inside(self, owner: int) -> FactorGraph:
        """Return the factor graph of a block, with the factors inside it."""
        members, graph = self.blocks.members[owner], self.ascent.question.graph
        position = np.full(len(graph.elements), -1, dtype=np.int64)
        position[members] = np.arange(len(members))
        groups, first = [], 0
        for g in graph.interactions:
            selected = np.flatnonzero(self.blocks.inside[first : first + g.num_factors] == owner)
            first += g.num_factors
            if len(selected):
                part = g.select(torch.from_numpy(selected))
                tables = part.log_values.detach().to("cpu", torch.float64)
                groups.append(TableGroup(position[part.scopes], tables))
        return FactorGraph([self._singles[i] for i in members.tolist()], groups)

    # --- one factor -----------------------------------------------------------------------------

    @cached_property
    def _singles(self) -> tuple[Variable, ...]:
        return self.ascent.question.graph.elements.singles

    def _scope(self, f: int) -> list[int]:
        """Return the elements of a factor."""
        wiring = self.ascent.wiring
        scope: list[int] = wiring.slot_var[wiring.factor_ptr[f] : wiring.factor_ptr[f + 1]].tolist()
        return scope

    def _table(self, f: int) -> Floats:
        """``(1, K1, ..., Kn)`` or ``(B, K1, ..., Kn)`` log table of a factor."""
        group = self.ascent.question.graph.interaction(f)
        table = group.log_values.detach().to("cpu", torch.float64).numpy()
        return table[:, 0] if group.batch_shape else table

    def _product(self, q: Floats, w: StraddlingFactor, axes: list[int]) -> Floats:
        """``(B, K, ...)`` product of the marginals of some elements of a factor."""
        scope, offset = self._scope(w.factor), self.ascent.wiring.offset
        out = np.ones((len(q), *[1] * len(axes)))
        for k, axis in enumerate(axes):
            marginal = q[:, offset[scope[axis]] : offset[scope[axis] + 1]]
            shape = [1] * len(axes)
            shape[k] = marginal.shape[1]
            out = out * marginal.reshape(len(q), *shape)
        return out

    def _expected(self, w: StraddlingFactor, keep: int | None, rows: Ints, q: Floats) -> Floats:
        """``(B, K, ...)`` expected log table as a function of the elements in block ``keep``."""
        table = self._table(w.factor)
        table = table if len(table) == 1 else table[rows]
        weights = np.ones((len(rows), *[1] * (table.ndim - 1)))
        summed_axes: list[int] = []
        for owner, axes in w.axes.items():
            if owner == keep:
                continue
            joint = (
                self._parts[owner, w.factor][rows]
                if len(axes) > 1
                else self._product(q[rows], w, axes)
            )
            shape = [1] * (table.ndim - 1)
            for axis in axes:
                shape[axis] = table.shape[axis + 1]
            weights = weights * joint.reshape(len(rows), *shape)
            summed_axes += [axis + 1 for axis in axes]
        positive = weights > 0
        product = np.where(positive, table, 0.0) * weights
        out: Floats = product.sum(axis=tuple(summed_axes))
        return out
