"""Mean field by coordinate ascent, on the arrays of a question."""

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

# what stands in for the zeros of tables while a start is looked for: ever less than the least
# other entry
_FORBIDDING = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 1e3, 1e5, 1e7)
_SWEEPS_EACH = 3
_NOTHING = 1e-9
_BUDGET = 10_000
# rows are shared between threads only when each gets this many table entries
_ENTRY = 5.0


@dataclass(frozen=True, eq=False)
class Ascending:
    """Where an ascent stands.

    Attributes:
        q: ``(B, S)`` probabilities, the states of all elements side by side.
        todo: Rows that still change.
        iterations: ``(B,)`` sweeps that each row has taken.
        residual: ``(B,)`` largest change of a probability in a row's last sweep.
    """

    q: Floats
    todo: Ints
    iterations: Ints
    residual: Floats


@dataclass(frozen=True, eq=False)
class CoordinateAscent:
    r"""Maximises :math:`E_q[\log \tilde p] + H(q)` over :math:`q(x) = \prod_i q_i(x_i)`.

    Args:
        question: A graph with evidence.
        field: ``(B, S)`` log fields, findings included.
        tolerance: A row is done when no probability changes by more in a sweep.
    """

    question: Question
    field: Floats
    tolerance: float

    @property
    def wiring(self) -> Wiring:
        """The integers of the graph."""
        return self.question.graph.wiring

    @cached_property
    def sizes(self) -> Ints:
        """Largest state count and most elements of a factor."""
        most = np.diff(self.wiring.factor_ptr).max(initial=1)
        return np.array([self.wiring.card.max(initial=1), most], dtype=np.int64)

    @cached_property
    def tables(self) -> Floats:
        """``(1, T)`` or ``(B, T)`` log tables."""
        return np.array(self.question.graph.log_tables, order="C")

    @cached_property
    def log_constant(self) -> Floats:
        """``(1,)`` or ``(B,)`` log of the factors over nothing."""
        constant = self.question.graph.log_constant.detach()
        return np.asarray(constant.to("cpu", torch.float64).numpy())

    @cached_property
    def hard(self) -> Mask:
        """``(F,)`` factors that have zeros."""
        wiring = self.wiring
        zeros = np.concatenate([[0], np.cumsum(np.isneginf(self.tables).any(axis=0))])
        return np.asarray(zeros[wiring.table + wiring.size] > zeros[wiring.table])

    @cached_property
    def all_rows(self) -> Ints:
        """Numbers of all rows."""
        return np.arange(self.question.num_rows, dtype=np.int64)

    @cached_property
    def all_elements(self) -> Ints:
        """Numbers of all elements."""
        return np.arange(len(self.wiring.card), dtype=np.int64)

    # --- the iteration --------------------------------------------------------------------------

    def begin(self, q: Floats, rows: Ints) -> Ascending:
        """Return the state before the first sweep over some rows."""
        count = len(q)
        return Ascending(q, rows, np.zeros(count, np.int64), np.zeros(count))

    def init(self) -> Ascending:
        """Return the state before the first sweep, from uniform distributions."""
        return self.begin(self.softmax(np.where(np.isneginf(self.field), -np.inf, 0.0)),
                          self.all_rows)  # fmt: skip

    def step(self, state: Ascending) -> tuple[Ascending, Info]:
        """Sweep once over the rows that still change."""
        q, residual = state.q.copy(), state.residual.copy()
        self.sweep(q, state.todo, self.all_elements, self.tables, residual)
        return self.after(state, q, residual)

    def after(self, state: Ascending, q: Floats, residual: Floats) -> tuple[Ascending, Info]:
        """Return the state after a sweep, and what to tell of it."""
        todo, iterations = state.todo, state.iterations.copy()
        iterations[todo] += 1
        left = todo[residual[todo] > self.tolerance]
        worst = float(residual[todo].max(initial=0.0))
        done = replace(state, q=q, todo=left, iterations=iterations, residual=residual)
        return done, Info(len(left) == 0, {"residual": worst})

    def sweep(
        self, q: Floats, rows: Ints, elements: Ints, tables: Floats, residual: Floats
    ) -> None:
        """Bring one element after the other to its optimum in some rows of ``q``."""
        from pgnn.inference.mean_field.kernels import mean_field

        cost = self.cost(rows)
        kernel = KERNELS.choose(mean_field.sweep, cost)

        def work(part: Ints, stop: Stop) -> None:
            kernel(self.wiring, self.sizes, tables, self.field, part, elements, q, residual, stop)

        in_threads(work, rows, cost)

    def bounds(self, q: Floats) -> Floats:
        """Return ``(B,)`` lower bounds of the log evidence; ``-inf`` beside impossible states."""
        counted = np.ones(len(self.hard), dtype=np.bool_)
        return self.scores(q) + self.entropies(q) + self.energies(q, counted)

    @property
    def requires_grad(self) -> bool:
        """Whether any number wants a gradient."""
        return self.question.graph.requires_grad

    def expected_bounds(self, q: torch.Tensor) -> torch.Tensor:
        """Return ``(B,)`` bounds of the expected logs of factors without tables: here, of none."""
        return torch.zeros(len(q), dtype=torch.float64, device=q.device)

    def scores(self, q: Floats) -> Floats:
        """Return ``(B,)`` expected log fields, with the factors over nothing."""
        taken = q > 0
        score: Floats = (q * np.where(taken, self.field, 0.0)).sum(axis=1)
        return score + self.log_constant

    @staticmethod
    def entropies(q: Floats) -> Floats:
        """Return ``(B,)`` sums of the entropies of all elements."""
        return np.asarray(-(q * np.log(np.where(q > 0, q, 1.0))).sum(axis=1))

    def energies(self, q: Floats, counted: Mask) -> Floats:
        """Return ``(B,)`` expected logs of some factors, as if elements were independent."""
        from pgnn.inference.mean_field.kernels import mean_field

        out = np.zeros(len(q))
        cost = self.cost(self.all_rows)
        kernel = KERNELS.choose(mean_field.energies, cost)

        def work(part: Ints, stop: Stop) -> None:
            kernel(self.wiring, self.sizes, self.tables, part, q, counted, out, stop)

        in_threads(work, self.all_rows, cost)
        return out

    def cost(self, rows: Ints) -> float:
        """About how many nanoseconds a walk over the numbers of some rows takes."""
        return _ENTRY * len(rows) * int(self.tables.shape[1] + self.field.shape[1])

    # --- where to begin -------------------------------------------------------------------------

    def start(self, rng: np.random.Generator, spread: float) -> Floats:
        """Return ``(B, S)`` random distributions near those of the fields alone.

        All elements lean to the same states: a field without a preference of its own would
        otherwise fall apart into regions.

        Args:
            rng: Source of randomness.
            spread: Standard deviation of what is added to each log probability.
        """
        wiring = self.wiring
        state = np.arange(wiring.offset[-1]) - np.repeat(wiring.offset[:-1], wiring.card)
        tilt = 0.1 * rng.standard_normal(int(self.sizes[0]))[state]
        noise = tilt + spread * rng.standard_normal(len(state))
        q = self.softmax(self.field + noise)
        return self._possible(q) if self.hard.any() else q

    def softmax(self, logits: Floats) -> Floats:
        """Return each element's distribution from log weights; uniform where all are ``-inf``."""
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
        """Move distributions away from configurations of probability zero, if that is found.

        Zeros of tables are made small numbers, then smaller and smaller ones. Where mass on
        zeros is left after that, one assignment of positive probability is searched for.
        """
        least = self.tables[np.isfinite(self.tables)].min(initial=0.0)
        zeros, residual = np.isneginf(self.tables), np.zeros(len(q))
        for forbidding in _FORBIDDING:
            soft = np.where(zeros, least - forbidding, self.tables)
            for _ in range(_SWEEPS_EACH):
                self.sweep(q, self.all_rows, self.all_elements, soft, residual)
        with np.errstate(divide="ignore"):
            hardened = self.softmax(np.log(np.where(q < _NOTHING, 0.0, q)))
        lost = np.flatnonzero(np.isneginf(self.bounds(hardened)))
        if len(lost):
            alive = self.field > -np.inf
            status = self._search(alive, q, lost, _BUDGET)
            found = lost[status[lost] == 0]
            certain = self._certain(alive[found])
            hardened[found] = np.where(certain, alive[found], hardened[found])
        return hardened

    def _certain(self, alive: Mask) -> Mask:
        """Columns of elements that have one state left."""
        count = np.add.reduceat(alive, self.wiring.offset[:-1], axis=1, dtype=np.int64)
        return np.repeat(count == 1, self.wiring.card, axis=1)

    def possible(self) -> tuple[CoordinateAscent, Mask]:
        """Rule out states that the zeros of tables forbid.

        Returns:
            The same without these states, and ``(B,)`` rows that are not proven impossible.
        """
        alive = self.field > -np.inf
        empty: Mask = np.zeros(len(alive), dtype=np.bool_) | np.isneginf(self.log_constant)
        if alive.size:
            empty |= ~np.logical_or.reduceat(alive, self.wiring.offset[:-1], axis=1).all(axis=1)
        if not self.hard.any():
            return self, ~empty
        status = self._search(alive, self.field, np.flatnonzero(~empty), -1)
        return replace(self, field=np.where(alive, self.field, -np.inf)), ~empty & (status != 2)

    def proven_impossible(self, rows: Ints) -> Mask:
        """Search rows for an assignment; return ``(len(rows),)`` whether there surely is none."""
        status = self._search(self.field > -np.inf, self.field, rows, _BUDGET)
        return np.asarray(status[rows] == 2)

    def _search(self, alive: Mask, liked: Floats, rows: Ints, budget: int) -> Ints:
        """See :func:`pgnn.inference.kernels.consistency.search`; returns the status."""
        from pgnn.inference.kernels import consistency

        wiring = self.wiring
        in_hard = self.hard[wiring.slot_factor]
        elements = np.unique(wiring.slot_var[in_hard])
        if budget >= 0 and len(elements):  # those first that are surest of themselves
            surest = np.maximum.reduceat(liked, wiring.offset[:-1], axis=1)[:, elements]
            orders = np.ascontiguousarray(elements[np.argsort(-surest, axis=1, kind="stable")])
        else:
            orders = np.tile(elements, (len(liked), 1))
        status = np.zeros(len(liked), dtype=np.int64)
        cost = self.cost(rows) * max(budget, 1)
        kernel = KERNELS.choose(consistency.search, self.cost(rows) * len(wiring.card))

        def work(stop: Stop) -> None:
            kernel(
                wiring, self.sizes, self.tables, self.hard, orders, liked, budget, rows, alive,
                status, stop,
            )  # fmt: skip

        interruptible([work], cost=cost)
        return status
