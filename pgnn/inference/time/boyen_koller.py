"""Filtering and smoothing with factorised beliefs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.abilities import SlicedModel
from pgnn.errors import ModelError, closest
from pgnn.factors.factor import Factor
from pgnn.factors.time_steps import lagged
from pgnn.factors.variable import Variable
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.slice_elimination import SliceElimination
from pgnn.inference.time.slice_tables import SliceTables


@dataclass(frozen=True)
class BoyenKoller(SequenceEngine):
    r"""Filtering and smoothing in networks over time by projection onto products.

    .. math:: \hat p(z_t \mid e_{1:t}) = \prod_c p(z_{t,c} \mid \hat p_{t-1}, e_t)

    After each step the belief about the interface, on which the next slice depends, is replaced
    by the product of its marginals over some clusters. The error does not accumulate over time,
    since stochastic transitions contract it. A single cluster of the whole interface is exact.
    Smoothing passes backward over the filtered beliefs and projects in the same way.

    Args:
        clusters: Disjoint tuples of names; every other variable is a separate cluster.

    Cost: Exponential in the width of one slice with its clusters, instead of the interface.

    References:
        Boyen & Koller (1998), Tractable inference for complex stochastic processes; (1999),
        Exploiting the architecture of dynamic systems.

    Example:
        >>> BoyenKoller([("rain", "wind")])
        BoyenKoller(clusters=(('rain', 'wind'),))
    """

    clusters: Sequence[Sequence[Hashable]] = ()

    answers_about = SlicedModel
    subject = "models of time slices, such as dynamic Bayesian networks"

    def __post_init__(self) -> None:
        listed = isinstance(self.clusters, Sequence) and not isinstance(self.clusters, str)
        if not listed or not all(isinstance(c, Sequence) for c in self.clusters):
            raise ModelError(f"clusters must be tuples of names, got {self.clusters!r}")
        parts = tuple((c,) if isinstance(c, str) else tuple(c) for c in self.clusters)
        names = [n for c in parts for n in c]
        twice = next((n for k, n in enumerate(names) if n in names[:k]), None)
        if twice is not None:
            raise ModelError(f"clusters must be disjoint, but {twice!r} is named twice")
        object.__setattr__(self, "clusters", parts)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals of each step given the evidence so far; see the base class."""
        run = _Run.of(self, question)
        steps = run.forward()
        return run.answer(steps, [s.queried for s in steps])

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals given all evidence; see the base class."""
        run = _Run.of(self, question)
        steps = run.forward()
        return run.answer(steps, run.backward(steps))

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return log probabilities of the evidence; see the base class."""
        run = _Run.of(self, question.about([]))
        return run.increments(run.forward()).sum(1)

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        observed, model = question.observed, question.model
        parts, cells = self.parts(model), observed.num_rows * observed.steps
        sizes = [math.prod(v.num_states for v in part) for part in parts]
        return Explanation(
            engine=type(self).__name__,
            kind=self.kind(model),
            reason=f"the belief is kept as a product of {len(parts)} clusters",
            num_variables=cells * len(model.variables),
            num_eliminated=cells * len(model.variables),
            memory_bytes=8.0 * cells * sum(sizes),
            num_factors=cells * len(model.variables),
        )

    def parts(self, model: SlicedModel) -> list[list[Variable]]:
        """Return the clusters of a model's interface.

        Raises:
            ModelError: If a cluster names a variable that is not in the interface.
        """
        interface = model.interface
        for name in (n for c in self.clusters for n in c):
            if name not in interface:
                hint = closest(name, interface)
                raise ModelError(
                    f"clusters name {name!r}, on which the next slice does not depend{hint}"
                )
        rest = [(n,) for n in interface if all(n not in c for c in self.clusters)]
        return [[model.conditionals[n].child for n in c] for c in (*self.clusters, *rest) if c]

    def kind(self, model: SlicedModel) -> str:
        """Return ``"exact"`` if one cluster has all of the interface."""
        return "exact" if len(self.parts(model)) <= 1 else "estimate"


class _Step(NamedTuple):
    """Results of one step, in rows.

    ``before`` and ``now`` are beliefs about the clusters, one step earlier and at this one.
    """

    log_evidence: Tensor
    before: list[Tensor]
    now: list[Tensor]
    queried: list[Tensor]


@dataclass(frozen=True, eq=False)
class _Run:
    """One question to a model."""

    engine: BoyenKoller
    question: SequenceQuestion
    tables: SliceTables
    queried: list[Variable]
    clusters: list[list[Variable]]

    @classmethod
    def of(cls, engine: BoyenKoller, question: SequenceQuestion) -> _Run:
        model, names = question.model, question.queried_names
        wanted = frozenset(names)
        tables = SliceTables(model, question.observed, question.covariates, wanted=wanted)
        queried = [tables.variable(n) for n in names]
        return cls(engine, question, tables, queried, engine.parts(model))

    def forward(self) -> list[_Step]:
        """Filter."""
        steps: list[_Step] = []
        for t in range(self.tables.observed.steps):
            steps.append(self._step(t, steps[-1].now if steps else []))
        return steps

    def backward(self, steps: Sequence[_Step]) -> list[list[Tensor]]:
        """Smooth: marginals of the targets at each step."""
        smoothed: list[list[Tensor]] = []
        ratios: list[Tensor] = []
        for t in reversed(range(len(steps))):
            before = steps[t - 1].now if t else []
            step = self._step(t, before, ratios)
            smoothed.append(step.queried)
            pairs = zip(step.before, before, strict=True)
            ratios = [
                _log(late) - _log(early).masked_fill(early <= 0, 0.0) for late, early in pairs
            ]
        return smoothed[::-1]

    def _step(self, t: int, before: Sequence[Tensor], ratios: Sequence[Tensor] = ()) -> _Step:
        """One slice given beliefs about the previous one, and the backward message."""
        span, rows = slice(t, t + 1), self.tables.observed.num_rows
        late = [[lagged(v) for v in c] for c in self.clusters]
        scopes = [*(late if t else []), *self.clusters, *([v] for v in self.queried)]
        shapes = [[v.num_states for v in scope] for scope in scopes]
        with torch.enable_grad():
            factors = self.tables.conditionals(span)
            zero = torch.zeros(rows, dtype=torch.float64, device=_device(factors))
            probes = [zero.new_zeros(rows, *s, requires_grad=True) for s in shapes]
            unary = [self.tables.unary(n, span) for n in self._discrete]
            factors += [f for f in unary if f is not None]
            factors += [Factor(c, _log(p)) for c, p in zip(late, before, strict=False)]
            factors += [Factor(c, r) for c, r in zip(self.clusters, ratios, strict=False)]
            factors += [Factor(c, p) for c, p in zip(scopes, probes, strict=True)]
            total = zero
            for f in SliceElimination.of(factors, ()).left:
                total = total + f.log_values
            gradients = _gradients(total, probes, self.question.wants_gradients)
        first = len(late) if t else 0
        last = first + len(self.clusters)
        total = total if self.question.wants_gradients else total.detach()
        return _Step(total, gradients[:first], gradients[first:last], gradients[last:])

    def answer(self, steps: Sequence[_Step], marginals: Sequence[Sequence[Tensor]]) -> Posterior:
        """Put the marginals of all steps together."""
        gained = self.increments(steps)
        self.engine.check_possible(self.question, gained.sum(1))
        parts = []
        for k, v in enumerate(self.queried):
            empty = gained.new_zeros(len(gained), 0, v.num_states)
            parts.append(torch.cat([empty, *(x[k].unsqueeze(1) for x in marginals)], dim=1))
        kind = self.engine.kind(self.tables.model)
        return self.question.filtered(parts, gained.sum(1), gained, kind=kind)

    def increments(self, steps: Sequence[_Step]) -> Tensor:
        """``(B, T)`` logs of p(e_t | e_1..t-1)."""
        observed = self.tables.observed
        if not steps:
            return torch.zeros(observed.num_rows, 0, dtype=torch.float64)
        gained = torch.stack([s.log_evidence for s in steps], dim=1)
        return gained.masked_fill(~observed.inside.to(gained.device), 0.0)

    @property
    def _discrete(self) -> list[Hashable]:
        conditionals = self.tables.model.conditionals
        return [n for n, c in conditionals.items() if c.child.is_discrete]


def _device(factors: Sequence[Factor]) -> torch.device:
    """Return the device of the tables; constants may be on the CPU."""
    devices = [f.log_values.device for f in factors]
    return next((d for d in devices if d.type != "cpu"), torch.device("cpu"))


def _gradients(total: Tensor, probes: Sequence[Tensor], again: bool) -> list[Tensor]:
    if not probes:
        return []
    with torch.enable_grad():
        possible = total.masked_fill(total.isneginf(), 0.0).sum()
    return [*torch.autograd.grad(possible, probes, create_graph=again)]


def _log(probs: Tensor) -> Tensor:
    zero = probs <= 0
    return probs.masked_fill(zero, 1.0).log().masked_fill(zero, -math.inf)
