"""Prepares a graph for Gibbs sweeps: which elements are tabulated, and the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import Unsupported
from pgnn.inference.question import Question

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# joint states of the neighbours; beyond, a table takes longer to make than it saves
LARGEST_TABLE = 2**17
# entries of all of them together, 128 MiB
_ROOM = 2**24
_LARGEST_CARD = 2**16


@dataclass(frozen=True, eq=False)
class Tables:
    """The numbers of some rows of evidence and temperatures, ``P`` programs of one structure.

    Args:
        question: Graph and evidence; hard evidence is no part of the numbers.
        temperatures: ``(C,)`` of the chains.
        rows: ``(first, last)`` of the rows of evidence.
        penalty: What an impossible entry costs instead of everything, in log units.
    """

    question: Question
    temperatures: tuple[float, ...] = (1.0,)
    rows: tuple[int, int] = (0, 1)
    penalty: float = math.inf

    @property
    def num_rows(self) -> int:
        """Rows of evidence."""
        return self.rows[1] - self.rows[0]

    @cached_property
    def steps(self) -> tuple[float, ...]:
        """Different temperatures, in order."""
        return tuple(sorted(set(self.temperatures)))

    @cached_property
    def rowwise(self) -> bool:
        """Whether the numbers differ from row to row of evidence."""
        graph = self.question.graph
        return (
            graph.interactions_rowwise
            or len(graph.log_field) > 1
            or self.question.seen.soft is not None
        )

    def which(self) -> Ints:
        """``(rows * C,)`` program of each chain, the chains of a row side by side."""
        own = np.array([self.steps.index(t) for t in self.temperatures], dtype=np.int64)
        lead = np.arange(self.num_rows)[:, None] * len(self.steps) * self.rowwise
        return (lead + own).ravel().astype(np.int64)

    def log_field(self) -> Floats:
        """``(P or 1, S)`` fields with soft evidence, each element's largest entry zero."""
        graph = self.question.graph
        own = self._of_rows(graph.log_field.detach().to("cpu", torch.float64).numpy())
        if self.question.seen.soft is not None:
            with np.errstate(divide="ignore"):
                own = own + np.log(self._of_rows(self.question.seen.soft))
        return self._by_temperature(_lowered(own, graph.elements.offset[:-1]))

    def log_linear(self) -> Floats:
        """``(P or 1, T)`` tables, each one's largest entry zero."""
        graph = self.question.graph
        logs = _lowered(self._of_rows(graph.log_tables), np.unique(graph.wiring.table))
        return self._by_temperature(np.maximum(logs, -self.penalty))

    def _of_rows(self, array: Floats) -> Floats:
        return array[self.rows[0] : self.rows[1]] if len(array) > 1 else array

    def _by_temperature(self, logs: Floats) -> Floats:
        scale = 1.0 / np.array(self.steps)
        made = (logs[:, None] * scale[:, None]).reshape(-1, logs.shape[1])
        if self.rowwise and len(logs) < self.num_rows and len(scale) > 1:
            made = np.tile(made, (self.num_rows, 1))
        return np.ascontiguousarray(made)


def compile_sweeps(tables: Tables, visits: int, largest_table: int = LARGEST_TABLE) -> Any:
    """Return what the kernels read.

    Args:
        tables: The numbers.
        visits: How often each element will be visited with the same numbers: a table is made
            if it has fewer entries than that.
        largest_table: Most joint states of the neighbours of a tabulated element.

    Raises:
        Unsupported: If an element has more states than fit.
    """
    from pgnn.inference.sampling.kernels import gibbs, gibbs_tables

    graph = tables.question.graph
    wiring = graph.wiring
    if int(wiring.card.max(initial=0)) > _LARGEST_CARD:
        raise Unsupported(
            f"Gibbs sampling needs variables of at most {_LARGEST_CARD} states; use "
            "JunctionTree() or ImportanceSampling()"
        )
    log_field, log_linear = tables.log_field(), tables.log_linear()
    ptr, neighbour, size = gibbs_tables.blankets(wiring, largest_table)
    hashes = gibbs_tables.signatures(
        wiring,
        (ptr, neighbour, size),
        log_field.view(np.int64),
        log_linear.view(np.int64),
    )
    _, first, kind, count = np.unique(
        hashes, return_index=True, return_inverse=True, return_counts=True
    )
    programs = max(len(log_field), len(log_linear))
    chosen = _worth_it(size[first], count * visits, wiring.card[first], _ROOM // programs)
    entries = np.where(chosen, size[first] * wiring.card[first], 0)
    start = np.concatenate([[0], np.cumsum(entries)])
    program = gibbs.Program(
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
    gibbs_tables.tabulate(program, first[chosen].astype(np.int64))
    return program


def _worth_it(size: Ints, visits: Ints, card: Ints, room: int) -> NDArray[np.bool_]:
    """Which kinds of elements get tables: those used often enough, the smallest first."""
    wanted = (size >= 0) & (size <= visits)
    cost = np.where(wanted, size * card, 0)
    order = np.argsort(cost, kind="stable")
    fits = np.zeros(len(cost), dtype=np.bool_)
    fits[order] = np.cumsum(cost[order]) <= room
    return np.asarray(wanted & fits)


def _link_strides(card: Ints, ptr: Ints, neighbour: Ints) -> Ints:
    """Steps of a table over neighbours and then the element itself, the last one fastest."""
    stride = np.ones(len(neighbour), dtype=np.int64)
    count = np.diff(ptr)
    last = ptr[1:][count > 0] - 1
    stride[last] = card[count > 0]
    # the j-th from the end of each element, all elements at once
    for j in range(1, int(count.max(initial=0))):
        at = ptr[1:][count > j] - 1 - j
        stride[at] = stride[at + 1] * card[neighbour[at + 1]]
    return stride


def _lowered(logs: Floats, first: Ints) -> Floats:
    """Each segment's largest entry subtracted; segments of ``-inf`` stay."""
    if not len(first):
        return np.array(logs)
    top = np.maximum.reduceat(logs, first, axis=1)
    top = np.where(np.isneginf(top), 0.0, top)
    width = np.diff(np.append(first, logs.shape[1]))
    return np.asarray(logs - np.repeat(top, width, axis=1))
