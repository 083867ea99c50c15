"""Particles that move through a model over time, weighted by the evidence of each step."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import SlicedModel
from pgnn.errors import EvidenceError
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.validation import unvalidated
from pgnn.factors.variable import Variable
from pgnn.inference.loop import Info, iterate
from pgnn.inference.particles.particle_weights import ParticleWeights
from pgnn.inference.time.particle_step import (
    Observed,
    ParticleStep,
    Pattern,
    Slice,
    observed_in_part,
)

Floats = NDArray[np.float64]
Array = NDArray[Any]

_GONE_ON = Info()


@dataclass(eq=False)
class ParticleHistory:
    """The particles of a run: their values at each step, ancestors and final weights.

    Attributes:
        weights: Weights at the end.
        increments: ``(B, T)`` logs of :math:`p(e_t | e_{<t})`.
        kept: Names of the stored variables.
        values: For each step, ``(B N, *shape)`` values of these.
        step_weights: For each step, ``(B, N)`` weights before resampling, if stored.
        ancestors: For each step, ``(B N,)`` indices of resampled particles; None without
            resampling.
        scores: ``(B, N)`` log densities of complete paths, if requested.
    """

    weights: ParticleWeights
    increments: Floats
    kept: Sequence[Variable]
    values: list[list[Array]]
    step_weights: list[Floats]
    ancestors: list[Array | None]
    scores: Tensor | None = None

    def paths(self, name: Hashable) -> Tensor:
        """Return ``(N, B, T, *shape)`` values of a variable along the surviving paths."""
        line: Array | None = None
        steps: list[Array] = []
        at = self._place(name)
        for values, ancestors in zip(reversed(self.values), reversed(self.ancestors), strict=True):
            if ancestors is not None:
                line = ancestors if line is None else ancestors[line]
            steps.append(values[at] if line is None else values[at][line])
        return self._in_rows(at, steps[::-1])

    def clouds(self, name: Hashable) -> Tensor:
        """Return ``(N, B, T, *shape)`` values of a variable at each step, before resampling."""
        at = self._place(name)
        return self._in_rows(at, [v[at] for v in self.values])

    def num_distinct(self) -> NDArray[np.int64]:
        """Return ``(B, T)`` numbers of particles of each step with descendants at the end."""
        rows, n = self.weights.rows, self.weights.number
        line = np.arange(rows * n)
        distinct = np.empty((rows, len(self.ancestors)), np.int64)
        for t in reversed(range(len(self.ancestors))):
            ancestors = self.ancestors[t]
            line = line if ancestors is None else np.unique(ancestors[line])
            distinct[:, t] = np.bincount(line // n, minlength=rows)
        return distinct

    def _place(self, name: Hashable) -> int:
        return [v.name for v in self.kept].index(name)

    def _in_rows(self, at: int, steps: Sequence[Array]) -> Tensor:
        rows, n = self.weights.rows, self.weights.number
        if not steps:
            variable = self.kept[at]
            kind = torch.int64 if variable.is_discrete else torch.float64
            return torch.zeros(n, rows, 0, *variable.shape[1:], dtype=kind)
        whole = np.stack([x.reshape(rows, n, *x.shape[1:]) for x in steps])
        return torch.from_numpy(whole.swapaxes(0, 2))  # a view; a copy takes as long as a step


@dataclass(frozen=True, eq=False)
class ParticleFilter:
    """A run of particles through one batch of sequences.

    Args:
        model: A slice that repeats.
        observed: The evidence.
        inputs: Covariates ``(B, T, ...)``.
        proposals: Conditionals from which variables are drawn instead of the transitions.
        kept: Names of variables whose values are returned at all steps.
        filtered: Whether the weights of all steps are returned.
        scored: Whether log densities of complete paths are returned.
    """

    model: SlicedModel
    observed: SequenceEvidence
    inputs: Mapping[Hashable, Tensor]
    proposals: Mapping[Hashable, Conditional]
    kept: Sequence[Hashable]
    filtered: bool = False
    scored: bool = False

    def run(self, weights: ParticleWeights, progress: bool) -> ParticleHistory:
        """Propagate all particles to the end, using torch's random state.

        Args:
            weights: Initial weights of all rows, which determine the resampling.
            progress: Whether to show a progress bar if it takes longer than a second.
        """
        moving = _Moving(self, weights)
        with torch.no_grad(), unvalidated(), np.errstate(all="ignore"):
            iterate(moving, self.observed.steps, progress=progress, label="particles")
        scores = moving.scores
        if scores is not None:
            scores = scores.reshape(weights.rows, weights.number)
        return ParticleHistory(
            weights,
            moving.increments,
            [self.model.variables[n] for n in self._every_kept],
            moving.values,
            moving.step_weights,
            moving.ancestors,
            None if scores is None else torch.from_numpy(scores),
        )

    @property
    def _every_kept(self) -> tuple[Hashable, ...]:
        return tuple(dict.fromkeys([*self.lagged, *self.kept]))

    @property
    def _parents(self) -> set[Hashable]:
        """Variables on which others depend, in the same slice or the next one."""
        model = self.model
        pieces = [*model.conditionals.values(), *(model.first(n) for n in model.order)]
        parents = {v.name for c in (*pieces, *self.proposals.values()) for v in c.parents}
        return {n for n in model.order if n in parents or (n, -1) in parents}

    @property
    def lagged(self) -> list[Hashable]:
        """Variables on which the next slice depends."""
        pieces = [*self.model.conditionals.values(), *self.proposals.values()]
        late = {v.name for c in pieces for v in c.parents}
        return [n for n in self.model.order if (n, -1) in late]

    def patterns(self) -> tuple[list[Pattern], list[int]]:
        """Return the distinct patterns of steps, and the pattern of each step."""
        columns = [self._modes(name) for name in self.model.order]
        whole = self.observed.inside.all(0).tolist()
        each = [
            Pattern(t == 0, tuple(c[t] for c in columns), whole[t])
            for t in range(self.observed.steps)
        ]
        patterns = [*dict.fromkeys(each)]
        number = {p: k for k, p in enumerate(patterns)}
        return patterns, [number[p] for p in each]

    def _modes(self, name: Hashable) -> list[Observed]:
        """Return which rows of a variable are observed, for each step."""
        observed = self.observed
        if name in observed.soft:
            return [Observed.LIKELIHOOD] * observed.steps
        values = observed.codes.get(name, observed.reals.get(name))
        if values is None:
            return [Observed.NOWHERE] * observed.steps
        missing = values < 0 if name in observed.codes else values.isnan()
        present = (
            ~missing.reshape(*values.shape[:2], math.prod(values.shape[2:])).all(-1)
            & observed.inside
        )
        pairs = zip(present.all(0).tolist(), present.any(0).tolist(), strict=True)
        return [
            Observed.EVERYWHERE if a else Observed.SOMEWHERE if b else Observed.NOWHERE
            for a, b in pairs
        ]

    def slice_at(self, first: bool, number: int) -> Slice:
        """Return the slice of the first step, or of a later one."""
        model = self.model
        conditionals = {n: model.first(n) if first else model.conditionals[n] for n in model.order}
        wanted = {*self.kept, *self._parents}
        skipped = frozenset(n for n in model.order if n not in wanted)
        in_part = frozenset(
            n
            for n, values in self.observed.reals.items()
            if observed_in_part(model.conditionals[n], values, n in self._parents)
        )
        return Slice(
            conditionals, self.proposals, skipped, self._every_kept, number, self.scored, in_part
        )


class _Moving:
    """The steps of one run."""

    def __init__(self, run: ParticleFilter, weights: ParticleWeights) -> None:
        self.filter, self.weights = run, weights
        self.lagged = run.lagged
        self.before: list[Array] = []
        self.values: list[list[Array]] = []
        self.step_weights: list[Floats] = []
        self.ancestors: list[Array | None] = []
        self.scores: Array | None = None
        self._path = np.zeros((run.observed.steps, weights.rows))
        self._offset = (np.arange(weights.rows) * weights.number)[:, None]
        self._patterns, self._which = run.patterns()
        self._prepared: list[tuple[ParticleStep, list[list[Array]]] | None]
        self._prepared = [None] * len(self._patterns)

    def init(self) -> int:
        """Return the number of completed steps."""
        return 0

    def step(self, t: int) -> tuple[int, Info]:
        """Propagate and weight the particles for one step, and resample where needed."""
        weights, filtered = self.weights, self.filter.filtered
        prepared = self._prepared[self._which[t]] or self._make(self._which[t])
        step, feeds = prepared
        outputs = step.run([*self.before, *(x[t] for x in feeds)])
        line = None
        if step.weighs:
            line = self._weigh(outputs[len(step.slice.kept)], t)
        elif weights.any_moved:
            weights.rest()
        self._path[t] = weights.log_evidence
        if filtered:
            self.step_weights.append(weights.weights.copy())
        self.before = outputs[: len(self.lagged)]
        if self.filter.scored:
            self.scores = outputs[-1] if self.scores is None else self.scores + outputs[-1]
        if line is not None:
            self.before = [x.take(line, axis=0) for x in self.before]
            self.scores = None if self.scores is None else self.scores[line]
        if self.filter.kept:
            self.values.append(outputs)
            self.ancestors.append(line)
        return t + 1, _GONE_ON

    def _make(self, which: int) -> tuple[ParticleStep, list[list[Array]]]:
        """Return the step of a pattern, and its arguments at each time step."""
        run, pattern = self.filter, self._patterns[which]
        names = [*run.inputs]
        slice_ = run.slice_at(pattern.first, self.weights.number)
        step = ParticleStep(slice_, pattern, self.lagged, names, self.weights.rng)
        observed = {**run.observed.codes, **run.observed.reals, **run.observed.soft}
        tensors = [
            *(observed[n] for n in step.fed),
            *(run.inputs[n] for n in names),
            run.observed.inside,
        ]
        feeds = [list(np.moveaxis(x.numpy(force=True), 1, 0)) for x in tensors]
        self._prepared[which] = (step, feeds)
        return step, feeds

    def _weigh(self, increments: Array, t: int) -> Array | None:
        """Update the weights; return indices of resampled particles, None if all are kept."""
        weights = self.weights
        if t + 1 == self.filter.observed.steps:
            weights.threshold = 0.0  # no resampling after the last step
        weights.weigh(increments.reshape(weights.rows, weights.number))
        if not weights.any_moved:
            return None
        if weights.rows > 1:
            return np.asarray((weights.ancestors + self._offset).reshape(-1))
        return np.array(weights.ancestors[0], copy=bool(self.filter.kept) or None)

    @property
    def increments(self) -> Floats:
        """Return ``(B, T)`` log probabilities of the evidence of each step given previous steps."""
        before = np.concatenate([np.zeros((1, self.weights.rows)), self._path[:-1]])
        lost = np.isneginf(self._path)
        before[lost] = 0.0
        return np.asarray((self._path - before).T)


def check_proposals(model: SlicedModel, proposals: Mapping[Hashable, Conditional]) -> None:
    """Check that each proposal is a conditional of a variable of the model.

    Raises:
        EvidenceError: If one is a conditional of another variable.
    """
    for name, conditional in proposals.items():
        if name not in model.conditionals or conditional.child != model.conditionals[name].child:
            raise EvidenceError(
                f"the proposal of {name!r} must be a conditional of {name!r}, a variable of the "
                f"slice; got one of {conditional.child.name!r}"
            )
