"""Vectorised executions of a program, with independent draws."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.randomness import seeded_with
from pgnn.programs.batched_tensor import ExecutionBatch, batched_distribution
from pgnn.programs.handlers import Visitor, execute, observed_values, scaled
from pgnn.programs.log_probabilities import log_prob_of
from pgnn.programs.parameters import ProgramParameters
from pgnn.programs.sites import Kind, Site, has_density, is_computed

Weigh = Callable[[Tensor], Tensor | None]
"""Receives ``(n,)`` log probabilities; may return the ``(n,)`` ancestors of a resampling step."""


@dataclass
class JointExecution:
    """A batch of executions with the same sites.

    Attributes:
        values: ``(n, *shape)`` state indices of finite latent sites, values of other sites.
        log_joint: ``(n,)`` log densities of all sites, if requested.
        computed: ``(n, *shape)`` values of deterministic sites.
    """

    values: dict[Hashable, Tensor] = field(default_factory=dict)
    log_joint: Tensor | None = None
    computed: dict[Hashable, Tensor] = field(default_factory=dict)


class _Joint(Visitor):
    """Draws the free sites in each execution, and reports the probability of the fixed ones."""

    def __init__(
        self,
        sites: Mapping[str, Site],
        held: Mapping[str, Tensor],
        batch: ExecutionBatch,
        weigh: Weigh,
        scored: bool,
    ) -> None:
        self.sites, self.held, self.batch, self.weigh = sites, held, batch, weigh
        self.scored = scored
        self.values: dict[str, Tensor] = {}
        self.computed: dict[str, Tensor] = {}
        self.drawn: Any = None
        self.score: Any = torch.zeros((), dtype=torch.float64)
        self.visited = 0

    def visit(self, name: str, fn: Any, observed: Any, message: dict[str, Any]) -> Any:
        """See :class:`Visitor`."""
        if observed is None and is_computed(fn):
            if not has_density(fn):
                self.note(name, fn.v)
                return fn.v
            observed = fn()
        site = self.sites.get(name)
        if site is None or name in self.values:
            raise Unsupported(f"site {name!r} is not in every execution of the program")
        self.visited += 1
        if observed is not None:
            known = log_prob_of(fn, observed_values(fn, observed, message), site.in_support)
            self._count(scaled(known, message).sum(), held=True)
            return observed
        if site.elements:
            raise Unsupported(f"the elements of site {name!r} are separate variables")
        if site.weighted and name not in self.held:
            raise Unsupported(f"site {name!r} is latent and scaled, and cannot be drawn")
        value, held = self._value(site, fn)
        if self.scored or held is not None:
            bare = log_prob_of(fn, value) if held is not None else self.drawn
            log_probs = scaled(bare, message, latent=True)
            log_prob = log_probs.reshape(site.sizes)
            if held is not None and not bool(held.all()):
                nothing = torch.zeros_like(log_prob)
                self._count(torch.where(held, nothing, log_prob).sum(), held=False)
                log_prob = torch.where(held, log_prob, nothing)
            self._count(log_prob.sum(), held=held is not None)
        self.values[name] = value
        return value

    def note(self, name: str, value: Tensor) -> None:
        """See :class:`Visitor`."""
        self.computed[name] = value

    def _count(self, term: Tensor, *, held: bool) -> None:
        term = term.double()
        if self.scored:
            self.score = self.score + term
        if held:
            ancestors = self.weigh(self.batch.per_execution(term).contiguous())
            if ancestors is not None:
                self.batch.replace(ancestors)

    def _value(self, site: Site, fn: Any) -> tuple[Any, Tensor | None]:
        """Return the value of a latent site, and a mask of its fixed cells."""
        held = self.held.get(site.name)
        if held is None:
            return self._drawn(fn), None
        batch, event = [*fn.batch_shape], [*site.event]
        if site.kind is Kind.REAL:
            value, missing = held.to(site.value.dtype), held.isnan()
            axes = len(site.sizes) + len(event)
        else:
            assert site.support is not None
            value, missing = site.support[held.clamp(min=0)], held < 0
            axes, event = len(site.sizes), [1] * len(event)
        if held.dim() > axes:  # complete values for each execution
            value = self.batch.tensor(value.reshape([self.batch.number, *batch, *site.event]))
            return value, torch.ones(site.sizes, dtype=torch.bool)
        value = value.reshape([*batch, *site.event])
        if bool(missing.any()):
            value = torch.where(missing.reshape([*batch, *event]), self._drawn(fn), value)
        cells = missing.reshape([*site.sizes, -1]).any(-1)
        return value, ~cells

    def _drawn(self, fn: Any) -> Tensor:
        whole = batched_distribution(fn, self.batch)
        batched = whole.sample()
        shape = (self.batch.number, *fn.batch_shape, *fn.event_shape)
        if tuple(batched.shape) != shape:
            raise Unsupported(f"{type(fn).__name__} does not support vectorised draws")
        if self.scored:  # check that draws belong to the right executions
            self.drawn = self.batch.tensor(log_prob_of(whole, batched))
        return self.batch.tensor(batched)


def run_together(
    program: Callable[[], Any],
    parameters: ProgramParameters,
    sites: Mapping[str, Site],
    held: Mapping[str, Tensor],
    number: int,
    seed: int,
    weigh: Weigh,
    scored: bool = False,
) -> JointExecution:
    """Execute a program many times in one vectorised run.

    Args:
        program: The program, its arguments bound.
        parameters: Parameters of the program.
        sites: Sites of every execution.
        held: Fixed state indices of finite sites (-1: free), values of other sites (NaN: free),
            ``(*shape)``; or complete values ``(number, *shape)`` for each execution.
        number: Number of executions.
        seed: Seed of the draws.
        weigh: Called with the log probabilities of fixed and observed values, once per site.
        scored: Whether to compute log densities of all sites.

    Raises:
        PgnnError: If executions differ in more than their values, or an operation cannot be
            vectorised.
        LatentRead: If the program reads a random number.
    """
    batch = ExecutionBatch(number)
    visitor = _Joint(sites, held, batch, weigh, scored)

    def run() -> None:
        seeded_with(seed)
        program()

    with torch.no_grad():
        execute(run, visitor, parameters)
        if visitor.visited < len(sites):
            raise Unsupported("some sites are not in every execution of the program")
        values: dict[Hashable, Tensor] = {
            n: batch.per_execution(_read(sites[n], x)).contiguous()
            for n, x in visitor.values.items()
        }
        computed: dict[Hashable, Tensor] = {
            n: batch.per_execution(x).contiguous() for n, x in visitor.computed.items()
        }
        score = batch.per_execution(visitor.score) if scored else None
        return JointExecution(values, score, computed)


def _read(site: Site, value: Tensor) -> Tensor:
    """Return state indices ``(*sizes)`` of a finite site, or ``(*sizes, *event)`` reals."""
    if site.kind is Kind.REAL:
        return value.reshape([*site.sizes, *site.event])
    return site.codes(value).reshape(site.sizes)
