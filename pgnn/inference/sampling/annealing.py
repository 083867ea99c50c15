"""Simulated annealing: most probable states by cooled Markov chains and local search."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import ChecksArguments, ModelError
from pgnn.inference.beliefs import Best
from pgnn.inference.engine import Engine
from pgnn.inference.exact.marginal_map import MarginalSearch
from pgnn.inference.expansion import WRITTEN
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.local_search import polish, score, unsettled
from pgnn.inference.loop import Info, iterate
from pgnn.inference.question import Question
from pgnn.inference.sampling.chain_starts import (
    chain_rows,
    most_likely_states,
    possible,
    streams_of,
    temperature_range,
    walled,
)
from pgnn.inference.sampling.compilation import KERNELS
from pgnn.inference.sampling.possibility import proven_impossible
from pgnn.inference.threads import Stop, in_threads
from pgnn.inference.wiring import LocalWiring
from pgnn.limits import POSITIVE, check_settings, check_size, check_work

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cooling(metaclass=ChecksArguments):
    """A cooling schedule from a high temperature to a low one.

    Args:
        start: First temperature, in units of the log scores; estimated from the model if not given.
        end: Last temperature; estimated likewise.

    Raises:
        ModelError: If a temperature is not positive.
    """

    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        check_settings(self, start=POSITIVE, end=POSITIVE)

    def temperatures(self, sweeps: int, hot: float = 10.0, cold: float = 0.1) -> Floats:
        """Return ``(sweeps,)`` temperatures.

        Args:
            sweeps: Number of temperatures.
            hot: First temperature if ``start`` is not given.
            cold: Last temperature if ``end`` is not given.
        """
        part = np.linspace(0.0, 1.0, sweeps) if sweeps > 1 else np.ones(sweeps)
        start = hot if self.start is None else self.start
        return self.between(start, cold if self.end is None else self.end, part, sweeps)

    @abstractmethod
    def between(self, start: float, end: float, part: Floats, sweeps: int) -> Floats:
        """Return the temperatures at given fractions of the schedule."""


@dataclass(frozen=True)
class GeometricCooling(Cooling):
    r"""A temperature that decreases by a constant factor, :math:`T = T_0 (T_1 / T_0)^s`.

    Example:
        >>> GeometricCooling(8.0, 1.0).temperatures(4).round(3).tolist()
        [8.0, 4.0, 2.0, 1.0]

    References:
        Kirkpatrick, Gelatt & Vecchi (1983), Optimization by simulated annealing.
    """

    def between(self, start: float, end: float, part: Floats, sweeps: int) -> Floats:
        """See :meth:`Cooling.between`."""
        return np.asarray(start * (end / start) ** part)


@dataclass(frozen=True)
class LinearCooling(Cooling):
    r"""A temperature that decreases linearly, :math:`T = T_0 + s (T_1 - T_0)`.

    Example:
        >>> LinearCooling(4.0, 1.0).temperatures(4).tolist()
        [4.0, 3.0, 2.0, 1.0]
    """

    def between(self, start: float, end: float, part: Floats, sweeps: int) -> Floats:
        """See :meth:`Cooling.between`."""
        return start + part * (end - start)


@dataclass(frozen=True)
class LogarithmicCooling(Cooling):
    r"""The schedule :math:`1 / \log(2 + t)`, which guarantees convergence asymptotically.

    It is shifted and scaled to begin at ``start`` and to end at ``end``.

    Example:
        >>> LogarithmicCooling(4.0, 1.0).temperatures(4).round(3).tolist()
        [4.0, 2.055, 1.365, 1.0]

    References:
        Geman & Geman (1984), section XII; Hajek (1988).
    """

    def between(self, start: float, end: float, part: Floats, sweeps: int) -> Floats:
        """See :meth:`Cooling.between`."""
        height = np.log(2.0) / np.log(2.0 + part * (sweeps - 1))
        lowest = np.log(2.0) / np.log(1.0 + max(sweeps, 2))
        return np.asarray(end + (start - end) * (height - lowest) / (1.0 - lowest))


Schedule = Cooling | Callable[[int], float]


def temperatures_of(schedule: Schedule, sweeps: int, hot: float, cold: float) -> Floats:
    """Return ``(sweeps,)`` temperatures of a schedule or of a function of the step.

    Raises:
        ModelError: If a temperature is not positive.
    """
    if isinstance(schedule, Cooling):
        return schedule.temperatures(sweeps, hot, cold)
    values = np.array([float(schedule(step)) for step in range(sweeps)])
    wrong = np.flatnonzero(~((values > 0.0) & (values < np.inf)))
    if len(wrong):
        raise ModelError(
            f"a schedule must give positive temperatures, got {values[wrong[0]]} at step {wrong[0]}"
        )
    return values


# sweeps in one step of the loop, whose overhead is about one sweep
_AT_LEAST, _STEPS = 50, 50
_VISIT = 20.0  # nanoseconds
# log distance below the smallest finite value that replaces zeros, in hot temperatures
_WALL = 5.0
_ADVICE = "no possible states were found; take more sweeps or chains, or JunctionTree()"


@dataclass(frozen=True)
class Annealing(Engine):
    r"""Most probable states by simulated annealing (Kirkpatrick, Gelatt & Vecchi 1983).

    Chains visit all unobserved elements in turn and sample each from :math:`p(x_i \mid
    x_{-i})^{1/T}` while the temperature T decreases; the best states of each chain are then
    improved by :func:`~pgnn.inference.local_search.polish`. Factors may be of any order. At high
    temperatures chains may pass through impossible states; among those, states that violate fewer
    factors are preferred. Rows for which no possible state was found have not converged, and their
    log score is NaN.

    Args:
        schedule: The temperatures: :class:`~pgnn.inference.sampling.annealing.GeometricCooling`,
            ``LinearCooling``, ``LogarithmicCooling``, or any function from step to temperature.
            Temperatures that are not given are estimated from the spread of the model's tables.
        sweeps: Number of visits of every element.
        chains: Number of independent chains per row of evidence; the best one is the answer.
        polish: Whether to improve the result by local search.
        seed: Random seed of the draws; the same seed gives the same answer.
        progress: Whether to show a progress bar if it takes longer than a second.

    Raises:
        ModelError: If a setting is not positive.

    Cost:
        ``O(K)`` per visit and ``O(degree K)`` per change, with ``sweeps * chains`` visits of every
        element per row.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> best = model.most_probable({"b": 1}, engine=Annealing(sweeps=50, seed=0))
        >>> best["a"], round(float(best.log_prob), 4)
        (1, -0.9163)
    """

    schedule: Schedule = field(default_factory=GeometricCooling)
    sweeps: int = 1000
    chains: int = 8
    polish: bool = True
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, sweeps=1, chains=1)
        if not isinstance(self.schedule, Cooling) and not callable(self.schedule):
            raise ModelError(
                f"schedule must be one such as GeometricCooling(), got {self.schedule!r}"
            )

    def reason(self) -> str:
        """See :meth:`Engine.reason`."""
        return "simulated annealing, polished" if self.polish else "simulated annealing"

    def maximize(self, question: Question, maximized: Mask) -> Best:
        """See :meth:`Engine.maximize`."""
        elements, question = len(question.graph.elements), question.expanded(WRITTEN)
        best = self._maximized(question, question.graph.mask(maximized))
        return replace(best, states=best.states[:, :elements])

    def _maximized(self, question: Question, maximized: Mask) -> Best:
        """Return the best states of all elements, including auxiliary ones."""
        log_field = question.log_field()
        if not (maximized | ~unsettled(question.graph, log_field).any(axis=0)).all():
            return self._marginal(question, maximized, log_field)
        cooled, values, diagnostics = self.cool(question.graph, log_field)
        best = values.argmax(axis=1)
        rows = np.arange(len(values))
        top = values[rows, best]
        reached = (values >= (top - 1e-9 * np.maximum(np.abs(top), 1.0))[:, None]).sum(axis=1)
        none = np.isneginf(top) & possible(question.graph, log_field)
        none &= ~proven_impossible(question, none)
        return Best(
            torch.from_numpy(cooled[rows, best]),
            torch.from_numpy(np.where(none, np.nan, top)).to(question.graph.dtype),
            diagnostics={**diagnostics, "chains_at_best": reached, "converged": ~none},
            advice=_ADVICE,
        )

    def _marginal(self, question: Question, maximized: Mask, log_field: Floats) -> Best:
        """Solve marginal MAP by exact local search from the chains' best joint states."""
        search = MarginalSearch(question, maximized)
        cooled, _, diagnostics = self.cool(question.graph, log_field)
        seeds = np.random.default_rng(self.seed).integers(2**31, size=len(cooled))
        states = np.zeros((len(cooled), cooled.shape[2]), dtype=np.int64)
        values, counts = np.zeros(len(cooled)), np.zeros(len(cooled), dtype=np.int64)
        for row, start in enumerate(cooled):
            code, values[row], counts[row] = search.improve(row, start, int(seeds[row]))
            states[row] = code
        return Best(
            torch.from_numpy(states),
            torch.from_numpy(values).to(question.graph.dtype),
            diagnostics={**diagnostics, "exact_evaluations": counts},
        )

    def cool(self, graph: FactorGraph, log_field: Floats) -> tuple[Ints, Floats, dict[str, Any]]:
        """Return each chain's best states ``(B, C, E)``, log scores ``(B, C)``, and diagnostics.

        Args:
            graph: The factors.
            log_field: ``(B, S)`` unary log potentials, evidence included.
        """
        elements, count = len(graph.elements), self.chains * len(log_field)
        what = f"{self.chains:,} chains of {len(log_field):,} rows and {self.sweeps:,} sweeps"
        check_size(what, self.sweeps + count * (2 * elements + 8), advice="Take fewer")
        check_work(what, count * self.sweeps * elements, "Take fewer")
        cooling = Cooled.prepare(self, graph, log_field)
        steps = -(-self.sweeps // cooling.size)
        run = iterate(cooling, steps, progress=self.progress, label="Annealing")
        chains = run.state[1]
        shape = (len(log_field), self.chains)
        rows = np.repeat(np.arange(len(log_field)), self.chains)
        states = chains.best.astype(np.int64)
        if self.polish:
            states, values = polish(graph, log_field, states, cooling.free[rows], rows)
        else:
            values = score(graph, log_field, states, rows)
        visits = self.sweeps * np.maximum(cooling.free.sum(axis=1), 1)
        changes = chains.changes.reshape(shape).mean(axis=1)
        diagnostics = {
            "sweeps": self.sweeps,
            "chains": self.chains,
            "acceptance": changes / visits,
            "temperatures": (float(cooling.temperatures[0]), float(cooling.temperatures[-1])),
        }
        return states.reshape(*shape, states.shape[1]), values.reshape(shape), diagnostics


class AnnealedChains(NamedTuple):
    """The state of the chains, ``C`` for each row, row by row."""

    states: NDArray[np.int32]
    streams: NDArray[np.uint64]
    best: NDArray[np.int32]
    top: Floats
    changes: Ints


@dataclass(frozen=True, eq=False)
class Cooled:
    """Annealing as an iterative method: each step runs some sweeps of all chains.

    Attributes:
        wiring: Wiring of the graph.
        tables: ``(1, T)`` or ``(B, T)`` finite log values.
        fields: ``(B, S)`` unary log potentials.
        free: ``(B, E)`` elements to sample.
        temperatures: Temperature of each sweep.
        streams: ``(B, C)`` random streams.
    """

    wiring: LocalWiring
    tables: Floats
    fields: Floats
    free: Mask
    temperatures: Floats
    streams: NDArray[np.uint64]

    @classmethod
    def prepare(cls, engine: Annealing, graph: FactorGraph, log_field: Floats) -> Cooled:
        """Read the settings of an engine for a graph."""
        hot, cold = temperature_range(graph, log_field)
        temperatures = temperatures_of(engine.schedule, engine.sweeps, hot, cold)
        return cls(
            wiring=graph.local_wiring,
            tables=walled(graph, _WALL * float(temperatures.max())),
            fields=np.ascontiguousarray(log_field),
            free=unsettled(graph, log_field),
            temperatures=temperatures,
            streams=streams_of(engine.seed, len(log_field), engine.chains),
        )

    @property
    def size(self) -> int:
        """Number of sweeps in one step."""
        return max(_AT_LEAST, -(-len(self.temperatures) // _STEPS))

    def init(self) -> tuple[int, AnnealedChains]:
        """Initialise all chains at the best states of the unary potentials."""
        num = self.streams.shape[1]
        states = np.repeat(most_likely_states(self.wiring, self.fields), num, axis=0)
        chains = AnnealedChains(
            states=states,
            streams=self.streams.ravel().copy(),
            best=states.copy(),
            top=np.full(len(states), -np.inf),
            changes=np.zeros(len(states), dtype=np.int64),
        )
        return 0, chains

    def step(self, state: tuple[int, AnnealedChains]) -> tuple[tuple[int, AnnealedChains], Info]:
        """Run some sweeps of all chains, in place."""
        from pgnn.inference.sampling.kernels.annealing import anneal

        done, at = state
        temperatures = self.temperatures[done : done + self.size]

        cost = _VISIT * len(temperatures) * at.states.size
        run_chains = KERNELS.choose(anneal, cost)

        def run(part: Ints, stop: Stop) -> None:
            run_chains(
                self.wiring,
                self.tables,
                self.fields,
                self.free,
                part,
                temperatures,
                *at,
                stop,
            )

        in_threads(run, chain_rows(*self.streams.shape), cost)
        figures = {"temperature": float(temperatures[-1])}
        if len(at.top):
            figures["best"] = float(at.top.max())
        return (done + len(temperatures), at), Info(values=figures)
