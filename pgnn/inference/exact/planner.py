"""Chooses and caches plans for batches of evidence."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.exact.compilation import KERNELS
from pgnn.inference.exact.hidden_components import HiddenComponents
from pgnn.inference.exact.plan import (
    Mask,
    Plan,
    Task,
    interim_plan,
    make_plan,
    make_task,
    ordered_plan,
)
from pgnn.inference.exact.plate_elimination import PlateElimination
from pgnn.inference.factor_graph import FactorGraph

Rows = NDArray[np.int64]
MakePlan = Callable[[], Plan]

# seconds: planning, per variable; a multiply-add for one row, and in a tile of rows
_PLANNING, _PLANNING_AT_ALL = 4e-6, 3e-5
_SINGLE, _TILED = 2e-9, 0.6e-9
REMEMBERED = 64
"""Number of cached plans, or results derived from plans, of each kind."""
_BATCHES = 4
"""Number of batches whose components are cached."""
_WORTH = 0.2
"""Ratio of the cost of a multiply-add to that of a state and factor of a component."""
_MOST_WORK = 2.0**18
"""Product of states and factors of a row below which components are always enumerated."""
_MANY_MORE = 8
# a plan for any evidence is made once per model
_GENERAL_ROWS = 1000
# limits below which torch answers, and finds an order, in well under a second
_FEW_VARIABLES, _FEW_ENTRIES = 500, 5e6


@dataclass(frozen=True, eq=False)
class Ask:
    """The results that are wanted for every row of a batch.

    Args:
        wanted: ``(V,)`` variables whose marginals are wanted.
        belief: ``(F,)`` factors whose beliefs are wanted.
        maximize: ``(V,)`` variables to maximise over.
        soft: ``(V,)`` variables with soft evidence.
        prune: Whether to omit barren variables.
        relaxed: Whether maxima may precede sums, for an upper bound.
        repeatable: Whether the answer must be bitwise equal in all processes.
    """

    wanted: Mask | None = None
    belief: Mask | None = None
    maximize: Mask | None = None
    soft: Mask | None = None
    prune: bool = True
    relaxed: bool = False
    repeatable: bool = False

    @cached_property
    def key(self) -> bytes:
        """A key that is equal for equal requests."""
        masks = (self.wanted, self.belief, self.maximize, self.soft)
        return b"|".join(b"" if m is None else m.tobytes() for m in masks) + bytes(
            [self.prune, self.relaxed]
        )


@dataclass(eq=False)
class Planner:
    """The plans for one model structure.

    Either one plan is used for all rows, whatever they observe, with observations entered as
    likelihoods; or rows that observe the same variables have their own plan, in which these
    variables are sliced out of every table. The faster alternative is estimated from the costs of
    the plans.

    Small queries have plans for torch until the kernels are compiled.

    Args:
        rank: ``(E,)`` ranks by which a model's elements are eliminated, if the user chose an order;
            auxiliary elements of gates are placed next to their causes.
    """

    rank: tuple[int, ...] | None = None
    _plans: OrderedDict[bytes, tuple[Plan, int]] = field(default_factory=OrderedDict)
    _any_row: OrderedDict[bytes, Plan] = field(default_factory=OrderedDict)
    _plates: OrderedDict[bytes, PlateElimination] = field(default_factory=OrderedDict)
    _components: OrderedDict[bytes, HiddenComponents] = field(default_factory=OrderedDict)
    _last_components: tuple[NDArray[np.int32], bytes, HiddenComponents] | None = None

    def plates(self, graph: FactorGraph, free: Mask) -> PlateElimination:
        """Return the arrays of unobserved variables that can be summed out as a whole.

        Args:
            graph: The factor graph; only its structure is used.
            free: ``(V,)`` variables that no row observes.
        """
        key = b"".join([graph.digest, *(g.scopes.shape[0].to_bytes(8) for g in graph.groups),
                        np.packbits(free).tobytes()])  # fmt: skip
        elimination = self._plates.pop(key, None)
        if elimination is None:
            elimination = PlateElimination.find(graph, free)
        self._plates[key] = elimination
        while len(self._plates) > REMEMBERED:
            self._plates.popitem(last=False)
        return elimination

    def components(
        self, graph: FactorGraph, codes: NDArray[np.int32], ask: Ask
    ) -> HiddenComponents:
        """Return the components of unobserved variables if they are cheaper than a plan.

        Args:
            graph: The factor graph, without row-wise tables; only its structure is used.
            codes: ``(B, V)`` observed states, -1 where none.
            ask: The wanted results.
        """
        last = self._last_components
        if last is not None and last[0] is codes and last[1] == graph.digest:
            return last[2]
        digest = blake2b(graph.digest, digest_size=16)
        digest.update(codes.tobytes())
        key = digest.digest()
        components = self._components.pop(key, None)
        if components is None:
            observed = codes >= 0
            always, ever = np.asarray(observed.all(axis=0)), np.asarray(observed.any(axis=0))
            plan = self._general(graph, always, ever, len(codes), ask)
            most = min(_WORTH * plan.multiply_adds, _MOST_WORK)
            components = HiddenComponents.of(graph, codes, most)
        self._last_components = codes, graph.digest, components
        self._components[key] = components
        while len(self._components) > _BATCHES:
            self._components.popitem(last=False)
        return components

    def split(
        self, graph: FactorGraph, codes: NDArray[np.int32], ask: Ask
    ) -> list[tuple[Plan, Rows]]:
        """Return plans with the rows that each answers; see :meth:`parts`."""
        return [(make(), rows) for make, rows in self.parts(graph, codes, ask)]

    def parts(
        self, graph: FactorGraph, codes: NDArray[np.int32], ask: Ask
    ) -> list[tuple[MakePlan, Rows]]:
        """Return functions that create plans, with the rows that each plan answers.

        Rows that all observe different variables may need one plan each: plans are created when
        they are executed, and only the last few are cached.

        Args:
            graph: The factor graph; only its structure is used.
            codes: ``(B, V)`` observed states, -1 where none.
            ask: The wanted results.
        """
        if len(codes) == 0:
            return []
        everything = np.arange(len(codes))
        interim = None if KERNELS.ready() else self._interim(graph, codes, ask)
        if interim is not None:
            return [(lambda: interim, everything)]
        if codes.size and codes.max() >= 0:
            # without evidence, the barren variables are always the same
            for_any = self._for_any_row(graph, ask)
            if self._cheaper_than_planning(for_any, len(codes)):
                return [(lambda: for_any, everything)]
        observed = codes >= 0
        always, ever = np.asarray(observed.all(axis=0)), np.asarray(observed.any(axis=0))
        if (always == ever).all():
            return [(partial(self.for_pattern, graph, always, len(codes), ask), everything)]
        probe = self.for_pattern(graph, observed[0], 1, ask)
        general = self._general(graph, always, ever, len(codes), ask)
        run_general = len(codes) * general.multiply_adds * _TILED
        run_apart = len(codes) * (_PLANNING_AT_ALL + probe.multiply_adds * _TILED)
        if run_general <= run_apart:
            return [(lambda: general, everything)]
        patterns = _group(observed)
        planning = _PLANNING * len(graph.variables) + _PLANNING_AT_ALL
        per_row = _TILED if len(codes) > 4 * len(patterns) else _SINGLE
        run_apart = len(patterns) * planning + len(codes) * probe.multiply_adds * per_row
        if run_general <= run_apart:
            return [(lambda: general, everything)]
        return [
            (partial(self.for_pattern, graph, observed[rows[0]], len(rows), ask), rows)
            for rows in patterns
        ]

    def plan(self, graph: FactorGraph, task: Task, rows: int = 1) -> Plan:
        """Return the plan for a task, from the cache if possible.

        A plan that was made for few rows is improved when it is used for many.
        """
        key = graph.digest + task.key
        plan, served = self._plans.pop(key, (None, 0))
        if plan is None or rows > _MANY_MORE * served:
            better = self._new_plan(graph, task, rows)
            if plan is None or better.total < plan.total:
                plan = better
            served = rows
        self._remember(key, plan, served)
        return plan

    def _new_plan(self, graph: FactorGraph, task: Task, rows: int) -> Plan:
        """Return a new plan; for torch if ``rows`` is None."""
        if self.rank is not None:
            rank = np.array(self.rank)
            if graph.origin is not None:
                rank = graph.origin.rank(rank)
            return ordered_plan(graph, task, rank, not rows)
        return make_plan(graph, task, rows) if rows else interim_plan(graph, task)

    def _remember(self, key: bytes, plan: Plan, served: int) -> None:
        self._plans[key] = plan, served
        while len(self._plans) > REMEMBERED:
            self._plans.popitem(last=False)

    def _interim(self, graph: FactorGraph, codes: NDArray[np.int32], ask: Ask) -> Plan | None:
        """Return the plan for torch for all rows; None if it is worth compiling the kernels."""
        if len(graph.variables) > _FEW_VARIABLES or ask.repeatable:
            return None
        observed = codes >= 0
        always, ever = np.asarray(observed.all(axis=0)), np.asarray(observed.any(axis=0))
        task = self._task(graph, always, ask, ever)
        key = b"interim" + graph.digest + task.key
        remembered = self._plans.pop(key, None)
        plan = self._new_plan(graph, task, 0) if remembered is None else remembered[0]
        self._remember(key, plan, len(codes))
        return plan if plan.total * len(codes) <= _FEW_ENTRIES else None

    def for_pattern(self, graph: FactorGraph, observed: Mask, rows: int, ask: Ask) -> Plan:
        """Return the plan for rows that all observe the same variables.

        Args:
            graph: The factor graph; only its structure is used.
            observed: ``(V,)`` the observed variables.
            rows: How many rows the plan will serve.
            ask: The wanted results.
        """
        return self.plan(graph, self._task(graph, observed, ask), rows)

    def for_any_row(self, graph: FactorGraph, ask: Ask) -> Plan | None:
        """Return the plan for any evidence, if executing it is cheaper than planning."""
        plan = self._for_any_row(graph, ask)
        return plan if self._cheaper_than_planning(plan, 1) else None

    def _for_any_row(self, graph: FactorGraph, ask: Ask) -> Plan:
        """Return the plan without sliced variables."""
        key = graph.digest + ask.key
        plan = self._any_row.get(key)
        if plan is None:
            nobody = np.zeros(len(graph.variables), dtype=np.bool_)
            plan = self._any_row[key] = self._general(graph, nobody, ~nobody, 1, ask)
            if self._cheaper_than_planning(plan, 1):
                plan = self._any_row[key] = self._general(
                    graph, nobody, ~nobody, _GENERAL_ROWS, ask
                )
            while len(self._any_row) > REMEMBERED:
                self._any_row.popitem(last=False)
        return plan

    def _cheaper_than_planning(self, general: Plan, rows: int) -> bool:
        planning = _PLANNING * len(general.graph.variables) + _PLANNING_AT_ALL
        return rows * general.multiply_adds * _SINGLE < planning

    def _general(self, graph: FactorGraph, always: Mask, ever: Mask, rows: int, ask: Ask) -> Plan:
        task = self._task(graph, always, ask, ever)
        return self.plan(graph, task, rows)

    def _task(self, graph: FactorGraph, observed: Mask, ask: Ask, ever: Mask | None = None) -> Task:
        """Return the task of rows that all observe some variables, and may observe others."""
        masks = [mask for mask in (ever, ask.soft) if mask is not None]
        return make_task(
            graph,
            observed,
            unary=np.logical_or.reduce(masks) if masks else None,
            wanted=ask.wanted,
            belief=ask.belief,
            maximize=ask.maximize,
            prune=ask.prune,
            relaxed=ask.relaxed,
        )


def _group(observed: Mask) -> list[Rows]:
    """Return the rows grouped by their observed variables."""
    packed = np.packbits(observed, axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, group = np.unique(keys, return_inverse=True)
    order = np.argsort(group, kind="stable")
    edges = np.flatnonzero(np.diff(group[order])) + 1
    return np.split(order, edges)
