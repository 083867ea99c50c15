"""Mean field by coordinate ascent, on the arrays of a query."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.inference.loop import Info
from pgnn.inference.mean_field.compilation import KERNELS
from pgnn.inference.question import Question
from pgnn.inference.threads import Stop, in_threads, interruptible
from pgnn.inference.wiring import Wiring

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

# log distance below the smallest finite entry that replaces zeros in the search for a start
_PENALTIES = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 1e3, 1e5, 1e7)
_SWEEPS_PER_PENALTY = 3
_NEGLIGIBLE = 1e-9
_BUDGET = 10_000
# rows are divided among threads only if each has at least this many table entries
_ENTRY = 5.0


@dataclass(frozen=True, eq=False)
class MeanFieldState:
    """The state of the coordinate ascent.

    Attributes:
        q: ``(B, S)`` probabilities, the states of all elements concatenated.
        active: Rows that have not converged.
        iterations: ``(B,)`` sweeps of each row.
        residual: ``(B,)`` largest change of a probability in a row's last sweep.
    """

    q: Floats
    active: Ints
    iterations: Ints
    residual: Floats


@dataclass(frozen=True, eq=False)
class CoordinateAscent:
    r"""Maximises :math:`E_q[\log \tilde p] + H(q)` over :math:`q(x) = \prod_i q_i(x_i)`.

    Args:
        question: The query.
        field: ``(B, S)`` log fields, the evidence included.
        tolerance: A row has converged when no probability changes by more in a sweep.
    """

    question: Question
    field: Floats
    tolerance: float

    @property
    def wiring(self) -> Wiring:
        """Wiring of the graph."""
        return self.question.graph.wiring

    @cached_property
    def sizes(self) -> Ints:
        """Largest number of states of an element, and of elements of a factor."""
        most = np.diff(self.wiring.factor_ptr).max(initial=1)
        return np.array([self.wiring.card.max(initial=1), most], dtype=np.int64)

    @cached_property
    def tables(self) -> Floats:
        """``(1, T)`` or ``(B, T)`` log tables."""
        return np.array(self.question.graph.log_tables, order="C")

    @cached_property
    def log_constant(self) -> Floats:
        """``(1,)`` or ``(B,)`` log of the constant factors."""
        constant = self.question.graph.log_constant.detach()
        return np.asarray(constant.to("cpu", torch.float64).numpy())

    @cached_property
    def hard(self) -> Mask:
        """``(F,)`` whether a factor has zeros."""
        wiring = self.wiring
        zeros = np.concatenate([[0], np.cumsum(np.isneginf(self.tables).any(axis=0))])
        return np.asarray(zeros[wiring.table + wiring.size] > zeros[wiring.table])

    @cached_property
    def all_rows(self) -> Ints:
        """Indices of all rows."""
        return np.arange(self.question.num_rows, dtype=np.int64)

    @cached_property
    def all_elements(self) -> Ints:
        """Indices of all elements."""
        return np.arange(len(self.wiring.card), dtype=np.int64)

    # --- the iteration --------------------------------------------------------------------------

    def begin(self, q: Floats, rows: Ints) -> MeanFieldState:
        """Return the initial state for some rows."""
        count = len(q)
        return MeanFieldState(q, rows, np.zeros(count, np.int64), np.zeros(count))

    def init(self) -> MeanFieldState:
        """Return the initial state from uniform distributions."""
        return self.begin(self.softmax(np.where(np.isneginf(self.field), -np.inf, 0.0)),
                          self.all_rows)  # fmt: skip

    def step(self, state: MeanFieldState) -> tuple[MeanFieldState, Info]:
        """Sweep once over the rows that have not converged."""
        q, residual = state.q.copy(), state.residual.copy()
        self.sweep(q, state.active, self.all_elements, self.tables, residual)
        return self.next_state(state, q, residual)

    def next_state(
        self, state: MeanFieldState, q: Floats, residual: Floats
    ) -> tuple[MeanFieldState, Info]:
        """Return the state after a sweep, and its residual."""
        swept, iterations = state.active, state.iterations.copy()
        iterations[swept] += 1
        active = swept[residual[swept] > self.tolerance]
        largest = float(residual[swept].max(initial=0.0))
        state = replace(state, q=q, active=active, iterations=iterations, residual=residual)
        return state, Info(len(active) == 0, {"residual": largest})

    def sweep(
        self, q: Floats, rows: Ints, elements: Ints, tables: Floats, residual: Floats
    ) -> None:
        """Set each element to its optimum given the others, in turn, in some rows of ``q``."""
        from pgnn.inference.mean_field.kernels import mean_field

        cost = self.cost(rows)
        kernel = KERNELS.choose(mean_field.sweep, cost)

        def work(part: Ints, stop: Stop) -> None:
            kernel(self.wiring, self.sizes, tables, self.field, part, elements, q, residual, stop)

        in_threads(work, rows, cost)

    def bounds(self, q: Floats) -> Floats:
        """Return ``(B,)`` lower bounds of the log evidence; ``-inf`` if q has mass on zeros."""
        included = np.ones(len(self.hard), dtype=np.bool_)
        return self.scores(q) + self.entropies(q) + self.energies(q, included)

    @property
    def requires_grad(self) -> bool:
        """Whether a parameter of the graph requires a gradient."""
        return self.question.graph.requires_grad

    def expected_bounds(self, q: torch.Tensor) -> torch.Tensor:
        """Return ``(B,)`` bounds on the expected logs of factors without tables, or zeros."""
        return torch.zeros(len(q), dtype=torch.float64, device=q.device)

    def scores(self, q: Floats) -> Floats:
        """Return ``(B,)`` expected log fields, the constant factors included."""
        score: Floats = (q * np.where(q > 0, self.field, 0.0)).sum(axis=1)
        return score + self.log_constant

    @staticmethod
    def entropies(q: Floats) -> Floats:
        """Return ``(B,)`` sums of the entropies of all elements."""
        return np.asarray(-(q * np.log(np.where(q > 0, q, 1.0))).sum(axis=1))

    def energies(self, q: Floats, included: Mask) -> Floats:
        """Return ``(B,)`` expected logs of some factors under independent elements."""
        from pgnn.inference.mean_field.kernels import mean_field

        out = np.zeros(len(q))
        cost = self.cost(self.all_rows)
        kernel = KERNELS.choose(mean_field.energies, cost)

        def work(part: Ints, stop: Stop) -> None:
            kernel(self.wiring, self.sizes, self.tables, part, q, included, out, stop)

        in_threads(work, self.all_rows, cost)
        return out

    def cost(self, rows: Ints) -> float:
        """Approximate time of a pass over all tables for some rows, in nanoseconds."""
        return _ENTRY * len(rows) * int(self.tables.shape[1] + self.field.shape[1])

    # --- starts ---------------------------------------------------------------------------------

    def start(self, rng: np.random.Generator, spread: float) -> Floats:
        """Return ``(B, S)`` random perturbations of the distributions given by the fields.

        The perturbation favours the same states in all elements, since symmetric models would
        otherwise converge to domains of different states.

        Args:
            rng: Random number generator.
            spread: Standard deviation of the noise of each log probability.
        """
        wiring = self.wiring
        state = np.arange(wiring.offset[-1]) - np.repeat(wiring.offset[:-1], wiring.card)
        tilt = 0.1 * rng.standard_normal(int(self.sizes[0]))[state]
        noise = tilt + spread * rng.standard_normal(len(state))
        q = self.softmax(self.field + noise)
        return self._possible(q) if self.hard.any() else q

    def softmax(self, logits: Floats) -> Floats:
        """Return the softmax over the states of each element; uniform where all are ``-inf``."""
        first, card = self.wiring.offset[:-1], self.wiring.card
        if not logits.size:
            return np.zeros_like(logits)
        top = np.maximum.reduceat(logits, first, axis=1)
        top = np.where(np.isneginf(top), 0.0, top)
        weights = np.exp(logits - np.repeat(top, card, axis=1))
        total = np.repeat(np.add.reduceat(weights, first, axis=1), card, axis=1)
        share = np.broadcast_to(np.repeat(1.0 / card, card), weights.shape)
        return np.where(total > 0, weights / np.where(total > 0, total, 1.0), share)

    def _possible(self, q: Floats) -> Floats:
        """Move distributions away from configurations of probability zero, where possible.

        Zeros of tables are replaced by decreasing positive values. If q still has mass on zeros
        after that, the method searches for an assignment of positive probability.
        """
        smallest = self.tables[np.isfinite(self.tables)].min(initial=0.0)
        zeros, residual = np.isneginf(self.tables), np.zeros(len(q))
        for penalty in _PENALTIES:
            soft = np.where(zeros, smallest - penalty, self.tables)
            for _ in range(_SWEEPS_PER_PENALTY):
                self.sweep(q, self.all_rows, self.all_elements, soft, residual)
        with np.errstate(divide="ignore"):
            hardened = self.softmax(np.log(np.where(q < _NEGLIGIBLE, 0.0, q)))
        infeasible = np.flatnonzero(np.isneginf(self.bounds(hardened)))
        if len(infeasible):
            allowed = self.field > -np.inf
            status = self._search(allowed, q, infeasible, _BUDGET)
            solved = infeasible[status[infeasible] == 0]
            certain = self._certain(allowed[solved])
            hardened[solved] = np.where(certain, allowed[solved], hardened[solved])
        return hardened

    def _certain(self, allowed: Mask) -> Mask:
        """Return columns of the elements with a single allowed state."""
        count = np.add.reduceat(allowed, self.wiring.offset[:-1], axis=1, dtype=np.int64)
        return np.repeat(count == 1, self.wiring.card, axis=1)

    def possible(self) -> tuple[CoordinateAscent, Mask]:
        """Remove states that zeros of tables exclude.

        Returns:
            The distributions without these states, and ``(B,)`` whether a row may be possible.
        """
        allowed = self.field > -np.inf
        empty: Mask = np.zeros(len(allowed), dtype=np.bool_) | np.isneginf(self.log_constant)
        if allowed.size:
            empty |= ~np.logical_or.reduceat(allowed, self.wiring.offset[:-1], axis=1).all(axis=1)
        if not self.hard.any():
            return self, ~empty
        status = self._search(allowed, self.field, np.flatnonzero(~empty), -1)
        return replace(self, field=np.where(allowed, self.field, -np.inf)), ~empty & (status != 2)

    def proven_impossible(self, rows: Ints) -> Mask:
        """Return ``(len(rows),)`` whether a search proves that a row has no possible assignment."""
        status = self._search(self.field > -np.inf, self.field, rows, _BUDGET)
        return np.asarray(status[rows] == 2)

    def _search(self, allowed: Mask, preferences: Floats, rows: Ints, budget: int) -> Ints:
        """Run :func:`pgnn.inference.kernels.consistency.search`; return its status."""
        from pgnn.inference.kernels import consistency

        wiring = self.wiring
        in_hard = self.hard[wiring.slot_factor]
        elements = np.unique(wiring.slot_var[in_hard])
        if budget >= 0 and len(elements):  # elements with the strongest preferences first
            strength = np.maximum.reduceat(preferences, wiring.offset[:-1], axis=1)[:, elements]
            orders = np.ascontiguousarray(elements[np.argsort(-strength, axis=1, kind="stable")])
        else:
            orders = np.tile(elements, (len(preferences), 1))
        status = np.zeros(len(preferences), dtype=np.int64)
        cost = self.cost(rows) * max(budget, 1)
        kernel = KERNELS.choose(consistency.search, self.cost(rows) * len(wiring.card))

        def work(stop: Stop) -> None:
            kernel(
                wiring, self.sizes, self.tables, self.hard, orders, preferences, budget, rows,
                allowed, status, stop,
            )  # fmt: skip

        interruptible([work], cost=cost)
        return status
