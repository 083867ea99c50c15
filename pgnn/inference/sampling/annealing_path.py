"""The way from independent elements to a model, and chains that walk it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import Intractable
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.local_search import score, unsettled
from pgnn.inference.loop import Info
from pgnn.inference.question import Question
from pgnn.inference.sampling.chain_starts import chain_rows, walled
from pgnn.inference.threads import in_threads
from pgnn.inference.wiring import LocalWiring, local_wiring

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Codes = NDArray[np.int32]

_STEPS = 50
# how far below a factor's least possible value its zeros stand on the way
_WALL = 20.0
# exact draws are worth this much planning and memory
_LARGEST, _MAX_BYTES = 5000, 2**28


class PathChains(NamedTuple):
    """Where chains stand: ``(C, E)`` states, ``(C,)`` random streams and log weights."""

    states: Codes
    streams: NDArray[np.uint64]
    log_weights: Floats


@dataclass(frozen=True, eq=False)
class AnnealingPath:
    r"""Distributions :math:`p_\beta \propto e^{h(x) + \beta U(x)}` for each row of evidence.

    Attributes:
        graph: The factors.
        wiring: What kernels walk along.
        tables: ``(1, T)`` or ``(B, T)`` log values of U, finite.
        fields: ``(B, S)`` own fields h, evidence included.
        free: ``(B, E)`` elements that move.
        betas: Inverse temperatures from 0 to 1.
        sweeps: At each of them.
        log_start: ``(B,)`` log partition function at 0, the model's constant included; ``-inf``
            where an element has no possible state.
    """

    graph: FactorGraph
    wiring: LocalWiring
    tables: Floats
    fields: Floats
    free: Mask
    betas: Floats
    sweeps: int
    log_start: Floats

    @classmethod
    def prepare(cls, question: Question, betas: Floats, sweeps: int) -> AnnealingPath:
        """Read a question."""
        graph, fields = question.graph, np.ascontiguousarray(question.log_field())
        constant = graph.log_constant.detach().cpu().double().numpy()
        start = constant + _log_normalisers(fields, graph.elements.offset).sum(axis=1)
        return cls(
            graph,
            local_wiring(graph.wiring),
            walled(graph, _WALL),
            fields,
            unsettled(graph, fields) & ~np.isneginf(start)[:, None],
            betas,
            sweeps,
            start,
        )

    def walk(self, at: PathChains, chains: int, betas: Floats, sweeps: int) -> None:
        """Move chains along some inverse temperatures, in place; down if these fall."""
        from pgnn.inference.sampling.kernels.annealing import follow_path

        def run(part: Ints) -> None:
            backward = bool(betas[-1] < betas[0])
            follow_path(
                self.wiring, self.tables, self.fields, self.free, part, betas, backward, sweeps, *at
            )

        in_threads(run, chain_rows(len(self.fields), chains))

    def violated(self, states: Codes) -> Mask:
        """``(B, C)`` whether ``(B, C, E)`` states are impossible."""
        rows, chains = states.shape[:2]
        flat = states.reshape(rows * chains, states.shape[2])
        value = score(self.graph, self.fields, flat, np.repeat(np.arange(rows), chains))
        return np.asarray(~np.isfinite(value).reshape(rows, chains))

    def smoothed(self, states: Codes, shares: Floats) -> Floats:
        """``(B, S)`` averages of each element's conditional given the rest of the states.

        Args:
            states: ``(B, C, E)``, possible where the share is positive.
            shares: ``(B, C)`` weights.
        """
        from pgnn.inference.sampling.kernels.annealing import smooth

        rows, chains = shares.shape
        marginals = np.zeros(self.fields.shape)
        flat = np.ascontiguousarray(states).reshape(rows * chains, states.shape[2])
        tables, number = self.graph.log_tables, chain_rows(rows, chains)
        smooth(
            self.wiring, np.ascontiguousarray(tables), self.fields, number,
            np.ascontiguousarray(shares.ravel()), flat, marginals,
        )  # fmt: skip
        return marginals


@dataclass(frozen=True, eq=False)
class PathWalk:
    """Chains that walk a path, as an iteration: each step is a part of the way.

    Attributes:
        path: Where.
        at: The chains before, changed in place.
        chains: How many for each row.
        betas: Inverse temperatures on the way.
    """

    path: AnnealingPath
    at: PathChains
    chains: int
    betas: Floats

    @property
    def size(self) -> int:
        """Temperatures in one step."""
        return max(_STEPS, -(-(len(self.betas) - 1) // _STEPS))

    @property
    def steps(self) -> int:
        """Steps to the end."""
        return -(-(len(self.betas) - 1) // self.size)

    def init(self) -> int:
        """Temperatures done."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Walk a part of the way."""
        part = self.betas[state : state + self.size + 1]
        self.path.walk(self.at, self.chains, part, self.path.sweeps)
        return state + len(part) - 1, Info(values={"inverse temperature": float(part[-1])})


def exact_draws(question: Question, n: int, seed: int) -> Codes | None:
    """Return ``(B, n, E)`` draws of the junction tree, None if that is not cheap."""
    graph = question.graph
    if len(graph.elements) > _LARGEST or graph.num_interactions > 4 * _LARGEST:
        return None
    solver = Solver(graph, max_bytes=_MAX_BYTES)
    try:
        drawn, _ = solver.draw(question.seen.codes, question.seen.soft, n, seed)
    except Intractable:
        return None
    return np.ascontiguousarray(drawn.transpose(1, 0, 2))


def _log_normalisers(fields: Floats, offset: Ints) -> Floats:
    """``(B, E)`` log sums of the exponentials of each element's field."""
    if fields.size == 0:
        return np.zeros((len(fields), len(offset) - 1))
    top = np.maximum.reduceat(fields, offset[:-1], axis=1)
    level = np.where(np.isneginf(top), 0.0, top)
    shifted = np.exp(fields - np.repeat(level, np.diff(offset), axis=1))
    with np.errstate(divide="ignore"):
        return np.asarray(level + np.log(np.add.reduceat(shifted, offset[:-1], axis=1)))
