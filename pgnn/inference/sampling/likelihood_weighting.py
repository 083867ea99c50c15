"""Likelihood weighting: forward samples with the evidence fixed, and sums over them."""

from __future__ import annotations

import graphlib
import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.abilities import DirectedModel
from pgnn.errors import Unsupported
from pgnn.factors.factor import Factor
from pgnn.inference.ancestral_draws import weighted_states
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.loop import Info
from pgnn.inference.question import Question
from pgnn.inference.threads import Stop, interruptible

if TYPE_CHECKING:
    from pgnn.inference.sampling.kernels.likelihood_weighting import DirectedTables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def directed_tables(graph: FactorGraph, num_rows: int) -> DirectedTables:
    r"""Return the tables :math:`p(x_i \mid x_{\mathrm{pa}(i)})`, and other factors of the weight.

    A factor that is not the conditional of an element, such as the density of an observed real
    variable, multiplies the weight once its variables have been drawn.

    Args:
        graph: The factor graph.
        num_rows: Number of rows of evidence ``B``.

    Raises:
        Unsupported: If a variable has no table given its parents.
    """
    from pgnn.inference.sampling.kernels.likelihood_weighting import DirectedTables

    child_factor = graph.child_factor
    if (child_factor < 0).any():
        name = graph.variables[int(np.flatnonzero(child_factor < 0)[0])].name
        raise Unsupported(
            f"ImportanceSampling() needs a directed model, but {name!r} has no table given its "
            "parents",
            "use Gibbs() or BeliefPropagation()",
        )
    rest = np.setdiff1d(np.arange(graph.num_factors), child_factor).tolist()
    scopes, logs = [], []
    for f in [*child_factor.tolist(), *rest]:
        scope, table = _child_last(graph, f)
        scopes.append(scope)
        logs.append(table)
    children = len(child_factor)
    parents = [s[:-1] if k < children else s for k, s in enumerate(scopes)]
    strides = [_strides(t.shape[1:], len(p)) for t, p in zip(logs, parents, strict=True)]
    rowwise = np.array(
        [graph.factors[f].batch_shape != () for f in [*child_factor, *rest]], dtype=np.bool_
    )
    cdfs = [_cumulative(t) if k < children else np.zeros_like(t) for k, t in enumerate(logs)]
    start = np.zeros(len(logs), dtype=np.int64)
    for which in (rowwise, ~rowwise):
        sizes = np.array([t[0].size if len(t) else 0 for t in logs], dtype=np.int64)[which]
        start[which] = np.cumsum(sizes) - sizes
    return DirectedTables(
        order=_order(parents[:children]),
        card=graph.card,
        offset=graph.offset,
        ptr=np.concatenate([[0], np.cumsum([len(p) for p in parents])]).astype(np.int64),
        parent=np.array([v for p in parents for v in p], dtype=np.int64),
        stride=np.array([n for s in strides for n in s], dtype=np.int64),
        start=start,
        rowwise=rowwise,
        log_shared=_side_by_side(logs, ~rowwise, 1)[0],
        log_own=_side_by_side(logs, rowwise, num_rows),
        cdf_shared=_side_by_side(cdfs, ~rowwise, 1)[0],
        cdf_own=_side_by_side(cdfs, rowwise, num_rows),
    )


def _child_last(graph: FactorGraph, f: int) -> tuple[list[int], Floats]:
    """Scope and ``(1 or B, K1, ..., Kn)`` log table of a factor, with the child's axis last."""
    factor: Factor = graph.factors[f]
    scope = list(graph.scopes[f])
    table = factor.log_values.detach().to("cpu", torch.float64).numpy()
    table = table if factor.batch_shape else table[None]
    if factor.child is not None:
        axis = factor.names.index(factor.child)
        scope.append(scope.pop(axis))
        table = np.moveaxis(table, axis + 1, -1)
    return scope, np.ascontiguousarray(table)


def _strides(shape: tuple[int, ...], count: int) -> list[int]:
    """Return strides of the first axes of a table in row-major order."""
    return [int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(count)]


def _cumulative(log_table: Floats) -> Floats:
    """Return cumulative probabilities along the last axis, ending at one."""
    total = np.cumsum(np.exp(log_table), axis=-1)
    last = total[..., -1:]
    return np.asarray(total / np.where(last > 0, last, 1.0))


def _order(parents: list[list[int]]) -> Ints:
    """Return elements in topological order."""
    return np.array(
        [*graphlib.TopologicalSorter(dict(enumerate(parents))).static_order()], np.int64
    )


def _side_by_side(tables: list[Floats], which: NDArray[np.bool_], rows: int) -> Floats:
    """``(rows, .)`` some of the tables, flattened."""
    kept = [_flat(t) for t, taken in zip(tables, which, strict=True) if taken]
    return np.ascontiguousarray(np.concatenate([np.zeros((rows, 0)), *kept], axis=1))


def _flat(table: Floats) -> Floats:
    return table.reshape(len(table), math.prod(table.shape[1:]))


# states that a chunk of samples holds at once
_CELLS = 2**21
_LEAST_PIECE = 2**11


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted sums over samples, relative to the largest weight of each row.

    Attributes:
        log_top: ``(B,)`` log of the largest weight so far.
        weights: ``(B, 2)`` sums of the weights and of their squares.
        states: ``(B, 2, S)`` such sums over the samples in each state.
        done: Number of completed chunks.
    """

    log_top: Floats
    weights: Floats
    states: Floats
    done: int = 0


@dataclass(frozen=True, eq=False)
class LikelihoodWeighting:
    """Likelihood weighting as an iterative method over chunks of samples.

    Args:
        question: A query of a directed model.
        samples: Number of samples per row.
        seed: Random seed of the samples.
    """

    question: Question
    samples: int
    seed: int | None

    @cached_property
    def tables(self) -> DirectedTables:
        """The model's tables, cached until its parameters change."""
        question, graph = self.question, self.question.graph
        if question.observed.reals or question.inputs:
            return directed_tables(graph, question.num_rows)
        tables: DirectedTables = question.model.cached_numbers(
            "directed tables", lambda: directed_tables(graph, 1)
        )
        return tables

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """``(B,)`` keys of the random numbers of each row."""
        rows = max(self.question.num_rows, 1)
        keys = np.random.SeedSequence(self.seed).generate_state(rows, np.uint64)
        return keys.astype(np.uint64)

    @cached_property
    def log_soft(self) -> Floats:
        """``(B, S)`` log likelihoods, or ``(B, 0)``."""
        soft = self.question.observed.soft
        if soft is None:
            return np.zeros((self.question.num_rows, 0))
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(soft))

    @cached_property
    def rounds(self) -> list[list[tuple[int, int, int]]]:
        """Row, first sample and size of each chunk; chunks of a round run in parallel."""
        size = max(_LEAST_PIECE, _CELLS // max(len(self.question.graph.elements), 1))
        pieces = [
            (row, first, min(size, self.samples - first))
            for row in range(self.question.num_rows)
            for first in range(0, self.samples, size)
        ]
        threads = 1 if self.by_distribution else torch.get_num_threads()
        return [pieces[k : k + threads] for k in range(0, len(pieces), threads)]

    def init(self) -> Sums:
        """Return empty sums."""
        rows, states = self.question.num_rows, int(self.question.graph.elements.offset[-1])
        return Sums(np.full(rows, -np.inf), np.zeros((rows, 2)), np.zeros((rows, 2, states)))

    def step(self, state: Sums) -> tuple[Sums, Info]:
        """Add the samples of one round."""
        pieces = self.rounds[state.done]
        result: dict[int, tuple[float, Floats, Floats]] = {}

        def weigh(k: int, _: Stop) -> None:
            result[k] = self._weighed(*pieces[k])

        interruptible([partial(weigh, k) for k in range(len(pieces))], len(pieces))
        for k, (row, _, _) in enumerate(pieces):
            log_top, weights, states = result[k]
            top = max(state.log_top[row], log_top)
            if top == -np.inf:
                continue
            powers = np.array([1.0, 2.0])
            old = np.exp(powers * (state.log_top[row] - top))
            new = np.exp(powers * (log_top - top))
            state.weights[row] = state.weights[row] * old + weights * new
            state.states[row] = state.states[row] * old[:, None] + states * new[:, None]
            state.log_top[row] = top
        return Sums(state.log_top, state.weights, state.states, state.done + 1), Info()

    @cached_property
    def by_distribution(self) -> bool:
        """Whether samples come from the conditionals' distributions because some have no tables."""
        graph, model = self.question.graph, self.question.model
        return not graph.written_down and isinstance(model, DirectedModel)

    def drawn(self, row: int, first: int, count: int) -> tuple[NDArray[np.int32], Floats]:
        """Return ``(E, count)`` states and ``(count,)`` log weights of some samples for a row."""
        from pgnn.inference.sampling.kernels import likelihood_weighting

        if self.by_distribution:
            seed = int(self.keys[row]) % 2**31 + first
            states, logs = weighted_states(self.question, row, count, seed)
            columns = np.ascontiguousarray(states.numpy().T, dtype=np.int32)
            return columns, logs.numpy()

        tables = self.tables
        columns = np.empty((len(tables.card), count), dtype=np.int32)
        log_weights = np.empty(count)
        codes = np.ascontiguousarray(self.question.observed.codes[row], dtype=np.int64)
        at = row if tables.rowwise.any() else 0
        likelihood_weighting.weighted_draws(
            tables, at, codes, self.log_soft[row], self.keys[row], first, columns, log_weights
        )
        return columns, log_weights

    def _weighed(self, row: int, first: int, count: int) -> tuple[float, Floats, Floats]:
        """Return the log of the largest weight, and sums relative to it."""
        from pgnn.inference.sampling.kernels import likelihood_weighting

        columns, log_weights = self.drawn(row, first, count)
        top = float(log_weights.max())
        offset = self.question.graph.elements.offset
        states = np.zeros((2, int(offset[-1])))
        if top == -np.inf:
            return top, np.zeros(2), states
        weights = np.exp(log_weights - top)
        likelihood_weighting.weigh(columns, weights, offset, states)
        return top, np.array([weights.sum(), (weights * weights).sum()]), states
