"""Gibbs chains on the CPU: tables of a graph, and compiled sweeps over chunks of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import Unsupported
from pgnn.inference.question import Question
from pgnn.inference.sampling.compilation import KERNELS
from pgnn.inference.threads import Stop, in_threads, interruptible

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
States = NDArray[np.uint16]

# joint states of the neighbours beyond which a table costs more than it saves
LARGEST_TABLE = 2**17
_VISIT, _CHOICE = 15.0, 100.0  # nanoseconds
# entries of all of them together, 128 MiB
_ROOM = 2**24
_LARGEST_CARD = 2**16


@dataclass(frozen=True, eq=False)
class TemperedTables:
    """The tables for some rows of evidence and temperatures: ``P`` programs of one structure.

    Args:
        question: The query; hard evidence is not included in the tables.
        temperatures: ``(C,)`` temperatures of the chains.
        rows: ``(first, last)`` range of the rows of evidence.
        penalty: Finite penalty of an impossible entry, in log units.
    """

    question: Question
    temperatures: tuple[float, ...] = (1.0,)
    rows: tuple[int, int] = (0, 1)
    penalty: float = math.inf

    @property
    def num_rows(self) -> int:
        """Number of rows of evidence."""
        return self.rows[1] - self.rows[0]

    @cached_property
    def steps(self) -> tuple[float, ...]:
        """Distinct temperatures, in order."""
        return tuple(sorted(set(self.temperatures)))

    @cached_property
    def rowwise(self) -> bool:
        """Whether the tables depend on the row of evidence."""
        graph = self.question.graph
        return (
            graph.interactions_rowwise
            or len(graph.log_field) > 1
            or self.question.observed.soft is not None
        )

    def which(self) -> Ints:
        """``(rows * C,)`` program of each chain, chains of a row being adjacent."""
        levels = np.array([self.steps.index(t) for t in self.temperatures], dtype=np.int64)
        lead = np.arange(self.num_rows)[:, None] * len(self.steps) * self.rowwise
        return (lead + levels).ravel().astype(np.int64)

    def log_field(self) -> Floats:
        """``(P or 1, S)`` unary log potentials with soft evidence, with a largest entry of zero."""
        graph = self.question.graph
        log_field = self._of_rows(graph.log_field.detach().to("cpu", torch.float64).numpy())
        if self.question.observed.soft is not None:
            with np.errstate(divide="ignore"):
                log_field = log_field + np.log(self._of_rows(self.question.observed.soft))
        return self._by_temperature(_lowered(log_field, graph.elements.offset[:-1]))

    def log_linear(self) -> Floats:
        """``(P or 1, T)`` log tables, with a largest entry of zero."""
        graph = self.question.graph
        logs = _lowered(self._of_rows(graph.log_tables), np.unique(graph.wiring.table))
        return self._by_temperature(np.maximum(logs, -self.penalty))

    def _of_rows(self, array: Floats) -> Floats:
        return array[self.rows[0] : self.rows[1]] if len(array) > 1 else array

    def _by_temperature(self, logs: Floats) -> Floats:
        scale = 1.0 / np.array(self.steps)
        scaled = (logs[:, None] * scale[:, None]).reshape(len(logs) * len(scale), logs.shape[1])
        if self.rowwise and len(logs) < self.num_rows and len(scale) > 1:
            scaled = np.tile(scaled, (self.num_rows, 1))
        return np.ascontiguousarray(scaled)


def compile_sweeps(tables: TemperedTables, visits: int, largest_table: int = LARGEST_TABLE) -> Any:
    """Return the program that the kernels run.

    Args:
        tables: The tables.
        visits: Number of visits of each element with these tables: its full conditionals are
            tabulated if they have fewer entries than that.
        largest_table: Largest number of joint states of the neighbours of a tabulated element.

    Raises:
        Unsupported: If an element has too many states.
    """
    from pgnn.inference.sampling.kernels import gibbs, gibbs_tables

    graph = tables.question.graph
    wiring = graph.wiring
    if int(wiring.card.max(initial=0)) > _LARGEST_CARD:
        raise Unsupported(
            f"Gibbs sampling needs variables of at most {_LARGEST_CARD} states",
            "use JunctionTree() or ImportanceSampling()",
        )
    log_field, log_linear = tables.log_field(), tables.log_linear()
    cost = _CHOICE * (len(wiring.slot_var) + log_linear.size)
    ptr, size = np.zeros((2, len(wiring.card) + 1), dtype=np.int64)
    KERNELS.choose(gibbs_tables.count_neighbours, cost)(wiring, largest_table, ptr, size)
    size, neighbour = size[:-1], np.zeros(ptr[-1], dtype=np.int64)
    KERNELS.choose(gibbs_tables.blankets, cost)(wiring, largest_table, ptr, size, neighbour)
    hashes = np.zeros(len(size), dtype=np.uint64)
    KERNELS.choose(gibbs_tables.signatures, cost)(
        wiring,
        (ptr, neighbour, size),
        log_field.view(np.int64),
        log_linear.view(np.int64),
        hashes,
    )
    _, first, kind, count = np.unique(
        hashes, return_index=True, return_inverse=True, return_counts=True
    )
    programs = max(len(log_field), len(log_linear))
    chosen = _worth_it(size[first], count * visits, wiring.card[first], _ROOM // programs)
    entries = np.where(chosen, size[first] * wiring.card[first], 0)
    start = np.concatenate([[0], np.cumsum(entries)])
    program = gibbs.GibbsProgram(
        card=wiring.card.astype(np.uint32),
        offset=wiring.offset[:-1].astype(np.uint32),
        tabulated=chosen[kind],
        table=start[kind].astype(np.uint32),
        link_ptr=ptr.astype(np.uint32),
        neighbour=neighbour.astype(np.uint32),
        link_stride=_link_strides(wiring.card, ptr, neighbour).astype(np.uint32),
        wiring=wiring,
        values=np.zeros((programs, int(start[-1]))),
        linear=np.exp(log_linear),
        field=np.exp(log_field),
        log_linear=log_linear,
        log_field=log_field,
    )
    cost = _CHOICE * program.values.size
    tabulate = KERNELS.choose(gibbs_tables.tabulate, cost)

    def work(part: Ints, stop: Stop) -> None:
        tabulate(program, part, stop)

    in_threads(work, first[chosen].astype(np.int64), cost)
    return program


def _worth_it(size: Ints, visits: Ints, card: Ints, room: int) -> NDArray[np.bool_]:
    """Return the kinds of elements to tabulate: those visited often enough, the smallest first."""
    wanted = (size >= 0) & (size <= visits)
    cost = np.where(wanted, size * card, 0)
    order = np.argsort(cost, kind="stable")
    fits = np.zeros(len(cost), dtype=np.bool_)
    fits[order] = np.cumsum(cost[order]) <= room
    return np.asarray(wanted & fits)


def _link_strides(card: Ints, ptr: Ints, neighbour: Ints) -> Ints:
    """Return strides of a table over the neighbours and the element itself, last axis fastest."""
    stride = np.ones(len(neighbour), dtype=np.int64)
    count = np.diff(ptr)
    last = ptr[1:][count > 0] - 1
    stride[last] = card[count > 0]
    # the j-th last neighbour of each element, all elements at once
    for j in range(1, int(count.max(initial=0))):
        at = ptr[1:][count > j] - 1 - j
        stride[at] = stride[at + 1] * card[neighbour[at + 1]]
    return stride


def _lowered(logs: Floats, first: Ints) -> Floats:
    """Return segments minus their largest entry; segments of ``-inf`` are unchanged."""
    if not len(first):
        return np.array(logs)
    top = np.maximum.reduceat(logs, first, axis=1)
    top = np.where(np.isneginf(top), 0.0, top)
    width = np.diff(np.append(first, logs.shape[1]))
    return np.asarray(logs - np.repeat(top, width, axis=1))


_PENALTIES = (3.0, 6.0, 12.0, 24.0)
_ROUNDS = 8
_SETTLING = 25


class CpuChains:
    """``C`` chains for each of some rows of evidence, run in parallel.

    Args:
        tables: Rows, temperatures and tables.
        seeds: ``(rows * C,)`` uint64 seeds of the chains.
        visits: Number of visits of each element.
        largest_table: See :func:`~pgnn.inference.sampling.cpu_gibbs.compile_sweeps`.

    Attributes:
        states: ``(rows * C, E)`` current states.
    """

    def __init__(
        self,
        tables: TemperedTables,
        seeds: NDArray[np.uint64],
        visits: int,
        largest_table: int = LARGEST_TABLE,
    ) -> None:
        chains = len(tables.temperatures)
        self._tables, self._num_chains = tables, chains
        shared = 1 if tables.rowwise else tables.num_rows
        visits = visits * chains // len(tables.steps) * shared
        self._program = compile_sweeps(tables, visits, largest_table)
        self._which, self._counters = tables.which(), seeds.copy()
        codes = tables.question.observed.codes[slice(*tables.rows)]
        self.states: States = np.repeat(np.maximum(codes, 0), chains, axis=0).astype(np.uint16)
        free = (codes < 0) & (tables.question.graph.elements.card > 1)
        self._order, self._ptr = _orders(free, _colour_order(self._program.wiring), chains)
        self._numbered = _orders(free, np.arange(self.num_elements), chains)[0]

    @property
    def num_elements(self) -> int:
        """Number of elements ``E``."""
        return int(self.states.shape[1])

    def start(self) -> NDArray[np.int64]:
        """Find states of positive probability.

        Returns:
            ``(rows,)`` 0 if all chains have one, 1 if the search was stopped, 2 if there is none.
            Chains of rows without one do not move.
        """
        from pgnn.inference.sampling.kernels.gibbs_start import FOUND, GIVEN_UP

        outcome = self._search(self._ptr, 4 * self.num_elements + 1000)
        if (outcome == GIVEN_UP).any():
            self._settle(outcome)
        rows = outcome.reshape(-1, self._num_chains).max(axis=1)
        lost = np.repeat(rows != FOUND, self._num_chains)
        self._ptr[lost, 1] = self._ptr[lost, 0]
        return np.asarray(rows)

    def run(self, sweeps: int) -> None:
        """Run sweeps without recording."""
        self._run((1, sweeps), _NOTHING_KEPT, _NOTHING_KEPT, _NO_TRACE)

    def collect(self, kept: int, thin: int) -> tuple[Floats, Floats]:
        """Run sweeps; return ``(rows * C, S)`` sums of full conditionals and of their squares."""
        shape = len(self._which), int(self._program.wiring.offset[-1])
        sums, squares = np.zeros(shape), np.zeros(shape)
        self._run((kept, thin), sums, squares, _NO_TRACE)
        return sums, squares

    def trace(self, kept: int, thin: int) -> States:
        """Run sweeps, and return ``(kept, rows * C, E)`` states."""
        out = np.empty((kept, *self.states.shape), dtype=np.uint16)
        self._run((kept, thin), _NOTHING_KEPT, _NOTHING_KEPT, out)
        return out

    def conditionals(self) -> Floats:
        """Return ``(rows * C, S)`` full conditionals at the current states."""
        from pgnn.inference.sampling.kernels.gibbs import conditionals

        out = np.zeros((len(self._which), int(self._program.wiring.offset[-1])))
        cost = _VISIT * out.size
        find = KERNELS.choose(conditionals, cost)

        def work(stop: Stop) -> None:
            find(self._program, self._which, self.states, out, stop)

        interruptible([work], cost=cost)
        return out

    # --- running ------------------------------------------------------------------------------

    def _run(self, sweeps: tuple[int, int], sums: Floats, squares: Floats, trace: States) -> None:
        from pgnn.inference.sampling.kernels.gibbs import run

        num = len(self._which)
        visits = float(np.diff(self._ptr, axis=1).sum()) * sweeps[0] * sweeps[1]
        cost = _VISIT * visits
        sweep = KERNELS.choose(run, cost)
        sums = np.zeros((num, 0)) if sums is _NOTHING_KEPT else sums
        squares = np.zeros((num, 0)) if squares is _NOTHING_KEPT else squares

        def piece(part: Ints, stop: Stop) -> None:
            sweep(
                self._program, (self._order, self._ptr), self._which, self.states,
                self._counters, (part[0], part[-1] + 1), sweeps, sums, squares, trace, stop,
            )  # fmt: skip

        in_threads(piece, np.arange(num), cost)

    def _search(self, ptr: Ints, budget: int) -> Ints:
        from pgnn.inference.sampling.kernels.gibbs_start import search

        outcome = np.zeros(len(self._which), dtype=np.int64)
        cost = _CHOICE * (self.states.size + budget)
        find = KERNELS.choose(search, _CHOICE * self.states.size)

        def piece(part: Ints, stop: Stop) -> None:
            find(
                self._program, (self._numbered, ptr), self._which, self.states,
                self._counters, (part[0], part[-1] + 1), self._num_chains, budget, outcome, stop,
            )  # fmt: skip

        in_threads(piece, np.arange(len(outcome)), cost)
        return outcome

    def _settle(self, outcome: Ints) -> None:
        """Move chains without a possible state to one by sweeps with increasing penalties."""
        from pgnn.inference.sampling.kernels.gibbs_start import FOUND, GIVEN_UP

        program_and_ptr = self._program, self._ptr
        ptr, empty = program_and_ptr[1].copy(), program_and_ptr[1].copy()
        empty[:, 1] = empty[:, 0]
        for k in range(_ROUNDS * len(_PENALTIES)):
            soft = replace(self._tables, penalty=_PENALTIES[k % len(_PENALTIES)])
            self._program = compile_sweeps(soft, _SETTLING)
            ptr[outcome != GIVEN_UP, 1] = ptr[outcome != GIVEN_UP, 0]
            self._ptr = ptr
            self.run(_SETTLING)
            self._program, self._ptr = program_and_ptr
            possible = (self._search(empty, 0) == FOUND) & (outcome == GIVEN_UP)
            outcome[possible] = FOUND
            if not (outcome == GIVEN_UP).any():
                break


_NOTHING_KEPT = np.zeros((0, 0))
_NO_TRACE = np.zeros((0, 0, 0), dtype=np.uint16)


def _colour_order(wiring: Any) -> Ints:
    """Return all elements, colour by colour, so that consecutive updates are independent."""
    from pgnn.inference.sampling.kernels.gibbs import colour

    colours = np.empty(len(wiring.card), dtype=np.int64)
    KERNELS.choose(colour, _CHOICE * len(wiring.slot_var))(wiring, colours)
    return np.argsort(colours, kind="stable")


def _orders(
    free: NDArray[np.bool_], coloured: Ints, chains: int
) -> tuple[NDArray[np.uint32], Ints]:
    """Free elements of every row in order, and ``(rows * chains, 2)`` the range of each chain."""
    members = free[:, coloured]
    if (members == members[:1]).all():
        order = coloured[members[0]]
        ptr = np.tile([0, len(order)], (len(free), 1))
    else:
        order = coloured[np.nonzero(members)[1]]
        ends = np.cumsum(members.sum(axis=1))
        ptr = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    return order.astype(np.uint32), np.repeat(ptr, chains, axis=0).astype(np.int64)
