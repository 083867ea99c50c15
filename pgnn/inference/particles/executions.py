"""Executions of a program for each row of evidence, and their weights."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import ExecutableModel
from pgnn.errors import Unsupported
from pgnn.factors.elements import Elements
from pgnn.inference.loop import Info, iterate
from pgnn.inference.particles.particle_weights import ParticleWeights
from pgnn.inference.question import Question

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MANY, SOME = 10_000, 1000
"""Default numbers of executions: vectorised, and one by one."""

_BATCH = 2**13
"""Number of executions in a vectorised run."""


@dataclass(eq=False)
class Executions:
    """Executions of one row.

    Attributes:
        weights: Weights of the executions.
        codes: ``(n, E)`` states of all elements; -1 if a site is not in the execution.
        reals: ``(n, *shape)`` values of real variables, ``NaN`` if a site is not in the execution.
        log_joint: ``(n,)`` joint log densities of the executions, if known.
        together: Whether they were batched.
        uneven: Real variables whose shape differs between executions.
    """

    weights: ParticleWeights
    codes: Ints
    reals: dict[Hashable, Tensor]
    log_joint: Floats
    together: bool
    uneven: set[Hashable] = field(default_factory=set)

    @property
    def normalised(self) -> Floats:
        """``(n,)`` normalised weights."""
        return np.asarray(self.weights.current()[0])


def held_of(question: Question, row: int) -> dict[Hashable, Tensor]:
    """Return the evidence of one row: state indices and real values by variable."""
    observed, elements = question.observed, question.model.elements
    held: dict[Hashable, Tensor] = {
        n: x[row].detach() for n, x in observed.reals.items() if not bool(x[row].isnan().all())
    }
    for v in elements.variables:
        codes = np.asarray(observed.codes[row][elements.numbers(v.name)])
        if (codes >= 0).any():
            held[v.name] = torch.as_tensor(codes, dtype=torch.int64)
    return held


def executable(question: Question, engine: str) -> ExecutableModel:
    """Return the model as an executable model.

    Raises:
        Unsupported: If it is not executable.
    """
    model = question.model
    if not isinstance(model, ExecutableModel):
        raise Unsupported(
            f"{engine}() needs a program, and a {type(model).__name__} is none",
            "use ImportanceSampling() on directed graphs, or pgnn.Program(model.program()), "
            "Gibbs() on any discrete model",
        )
    return model


def independent(
    question: Question, n: int | None, seed: int | None, *, engine: str, progress: bool
) -> list[Executions]:
    """Return independent executions for each row, weighted by the likelihood.

    Args:
        question: A query of an executable model.
        n: Number of executions; None for a default.
        seed: Random seed.
        engine: Name of the engine.
        progress: Whether to show a progress bar if it takes longer than a second.
    """
    executable(question, engine)
    rng = np.random.default_rng(seed)
    executions = []
    for row in range(question.num_rows):
        held = held_of(question, row)
        pieces: _Pieces = _SideBySide(question, held, MANY if n is None else n, rng)
        try:
            pieces.step(0)
        except Unsupported:
            pieces = _OneByOne(question, held, SOME if n is None else n, rng)
        start = 1 if isinstance(pieces, _SideBySide) else 0
        left = pieces.count - start
        if left > 0:
            iterate(pieces, left, state=start, progress=progress, label="executions")
        executions.append(pieces.gathered(row))
    return executions


def resampled(
    question: Question, n: int, seed: int | None, *, engine: str, weights: ParticleWeights, row: int
) -> Executions:
    """Return ``n`` executions of one row, resampled after each observation.

    Raises:
        Unsupported: If they cannot be batched.
    """
    model = executable(question, engine)
    if question.observed.soft is not None:
        raise Unsupported(
            f"{engine}() does not support soft evidence about a program's states",
            "use ExecutionSampling()",
        )

    def weigh(term: Tensor) -> Tensor | None:
        weights.weigh(term.numpy()[None])
        return torch.from_numpy(weights.ancestors[0].copy()) if weights.moved[0] else None

    start = int(np.random.default_rng(seed).integers(2**62))
    done = model.execute_together(held_of(question, row), n, start, weigh, scored=True)
    codes, reals = _codes(question, done.values, n), _reals(question, done.values)
    return Executions(weights, codes, reals, done.log_joint.numpy(), True)


class _Pieces:
    """Executions in chunks, between which they can be interrupted."""

    count: int

    def __init__(
        self, question: Question, held: Mapping[Hashable, Tensor], n: int, rng: np.random.Generator
    ) -> None:
        self.question, self.held, self.n, self.rng = question, held, n, rng
        self.codes: list[Ints] = []
        self.log_weights: list[Floats] = []
        self.log_joint: list[Floats] = []

    def init(self) -> int:
        """Return the initial state."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Run the next chunk."""
        raise NotImplementedError

    def reals(self) -> tuple[dict[Hashable, Tensor], set[Hashable]]:
        """Values of the real variables, and names of those without a common shape."""
        raise NotImplementedError

    def gathered(self, row: int) -> Executions:
        """Return all executions with their weights."""
        codes = np.concatenate(self.codes)
        soft = log_likelihoods(self.question, row, codes)
        log_weights = np.concatenate(self.log_weights) + soft
        weights = ParticleWeights(1, len(log_weights), threshold=0.0)
        weights.weigh(log_weights[None])
        reals, uneven = self.reals()
        joint = np.concatenate(self.log_joint) + soft
        together = isinstance(self, _SideBySide)
        return Executions(weights, codes, reals, joint, together, uneven)


class _SideBySide(_Pieces):
    """Batched executions."""

    def __init__(
        self, question: Question, held: Mapping[Hashable, Tensor], n: int, rng: np.random.Generator
    ) -> None:
        super().__init__(question, held, n, rng)
        self.count = -(-n // _BATCH)
        self.values: list[dict[Hashable, Tensor]] = []

    def step(self, state: int) -> tuple[int, Info]:
        """See the base class."""
        number = min(_BATCH, self.n - state * _BATCH)
        total = np.zeros(number)

        def weigh(term: Tensor) -> None:
            total[:] += term.numpy()

        model: ExecutableModel = self.question.model  # type: ignore[assignment]
        done = model.execute_together(
            self.held, number, int(self.rng.integers(2**62)), weigh, scored=True
        )
        self.codes.append(_codes(self.question, done.values, number))
        self.values.append(_reals(self.question, done.values))
        self.log_weights.append(total)
        self.log_joint.append(done.log_joint.numpy())
        return state + 1, Info()

    def reals(self) -> tuple[dict[Hashable, Tensor], set[Hashable]]:
        """See the base class."""
        return {n: torch.cat([v[n] for v in self.values]) for n in self.values[0]}, set()


class _OneByOne(_Pieces):
    """Executions one by one, for programs whose sites depend on values."""

    def __init__(
        self, question: Question, held: Mapping[Hashable, Tensor], n: int, rng: np.random.Generator
    ) -> None:
        super().__init__(question, held, n, rng)
        self.count = n
        self.values: list[Mapping[Hashable, Tensor]] = []

    def step(self, state: int) -> tuple[int, Info]:
        """See the base class."""
        model: ExecutableModel = self.question.model  # type: ignore[assignment]
        done = model.execute(self.held, int(self.rng.integers(2**62)))
        elements = self.question.model.elements
        codes = np.full((1, len(elements)), -1, np.int64)
        for v in elements.variables:
            if v.name in done.values:
                codes[0, elements.numbers(v.name)] = done.values[v.name].numpy(force=True)
        self.codes.append(codes)
        self.values.append({n: x for n, x in done.values.items() if n not in elements.first})
        self.log_weights.append(np.array([float(done.log_weight)]))
        self.log_joint.append(np.array([done.log_joint]))
        return state + 1, Info()

    def reals(self) -> tuple[dict[Hashable, Tensor], set[Hashable]]:
        """See the base class."""
        values: dict[Hashable, Tensor] = {}
        uneven: set[Hashable] = set()
        for v in self.question.model.variables.values():
            if v.is_discrete:
                continue
            rows = [x.get(v.name) for x in self.values]
            present = [x for x in rows if x is not None]
            if any(tuple(x.shape) != v.shape for x in present):
                uneven.add(v.name)
            kind = present[0].dtype if present else torch.float64
            kind = kind if kind.is_floating_point else torch.float64
            nothing = torch.full(v.shape, torch.nan, dtype=kind)
            same = [nothing if x is None or x.shape != v.shape else x.to(kind) for x in rows]
            values[v.name] = torch.stack(same).detach()
        return values, uneven


def _codes(question: Question, values: Mapping[Hashable, Tensor], n: int) -> Ints:
    elements = question.model.elements
    codes = np.full((n, len(elements)), -1, np.int64)
    for v in elements.variables:
        if v.name in values:
            numbers = np.asarray(elements.numbers(v.name)).ravel()
            codes[:, numbers] = values[v.name].numpy(force=True).reshape(n, -1)
    return codes


def _reals(question: Question, values: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
    reals = {}
    for v in question.model.variables.values():
        if not v.is_discrete:
            x = values[v.name].detach()
            reals[v.name] = x if x.is_floating_point() else x.double()
    return reals


def log_likelihoods(question: Question, row: int, codes: Ints) -> Floats:
    """Return ``(n,)`` log-likelihoods of ``(n, E)`` states given soft evidence."""
    soft, offset = question.observed.soft, question.model.elements.offset
    if soft is None:
        return np.zeros(len(codes))
    with np.errstate(divide="ignore"):
        logs = np.log(soft[row, offset[:-1] + np.maximum(codes, 0)])
    return np.asarray(np.where(codes >= 0, logs, 0.0).sum(axis=1))


def weights_by_state(elements: Elements, codes: Ints, weights: Floats) -> tuple[Ints, Floats]:
    """Return the column of each execution's states, with the weights of the executions.

    Args:
        elements: Elements of the model.
        codes: ``(n, E)`` states; -1 if a site is not in the execution.
        weights: ``(n,)`` weights of the executions.

    Returns:
        ``(n, E)`` columns among all ``S`` states, and ``(n, E)`` weights, zero if a site is not in
        the execution.
    """
    place = elements.offset[:-1] + np.maximum(codes, 0)
    return place, np.where(codes >= 0, weights[:, None], 0.0)


def weighted_marginals(elements: Elements, codes: Ints, weights: Floats) -> Floats:
    """Return ``(S,)`` marginals of weighted executions; arguments as :func:`weights_by_state`.

    Marginals are conditional on the presence of the site, ``NaN`` if it is in no execution.
    """
    place, state_weights = weights_by_state(elements, codes, weights)
    sums = np.bincount(place.ravel(), state_weights.ravel(), int(elements.offset[-1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / np.repeat(state_weights.sum(axis=0), elements.card))
