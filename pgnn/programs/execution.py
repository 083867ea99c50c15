"""Weighted executions of a program with some values fixed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.randomness import seeded_with
from pgnn.programs.handlers import Visitor, execute, observed_values, scaled
from pgnn.programs.log_probabilities import log_prob_of
from pgnn.programs.parameters import ProgramParameters
from pgnn.programs.sites import (
    Kind,
    Site,
    elementwise,
    has_density,
    is_computed,
    site_of,
)


@dataclass
class Execution:
    """One execution.

    Attributes:
        sites: Sites of the execution, in order.
        values: State indices of finite latent sites, values of other latent sites.
        log_weight: Log probability of the fixed and observed values given the draws.
        terms: Terms of the log weight by site.
        log_joint: Log density of all sites, draws included.
        unnamed: Latent sites without a variable of the model.
        computed: Values of deterministic sites.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    values: dict[Hashable, Tensor] = field(default_factory=dict)
    log_weight: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    terms: dict[Hashable, Tensor] = field(default_factory=dict)
    log_joint: float = 0.0
    unnamed: tuple[str, ...] = ()
    computed: dict[Hashable, Tensor] = field(default_factory=dict)


class _WeightedExecution(Visitor):
    """Draws the sites that are not fixed; the weight is the probability of the fixed ones."""

    def __init__(self, held: Mapping[str, Tensor]) -> None:
        self.held, self.execution = held, Execution()

    def visit(self, name: str, fn: Any, observed: Any, message: dict[str, Any]) -> Any:
        """See :class:`Visitor`."""
        if name in self.execution.sites:
            raise ModelError(f"site {name!r} occurs twice in the program", "rename one of them")
        if observed is None and is_computed(fn):
            if not has_density(fn):
                self.note(name, fn.v)
                return fn.v
            observed = fn()
        with torch.no_grad():
            drawn = fn() if observed is None else observed
        value = drawn if observed is None else observed
        site = site_of(name, fn, value, observed, message)
        self.execution.sites[name] = site
        if observed is not None:
            log_likelihood = log_prob_of(fn, observed_values(fn, value, message), site.in_support)
            self._count(name, scaled(log_likelihood, message).sum())
            return value
        if site.weighted and name not in self.held:
            raise Unsupported(
                f"site {name!r} is latent and scaled, and cannot be drawn",
                "scale only observed sites",
            )
        if name in self.held:
            value, held = self._held(site, value)
            per_element = log_prob_of(elementwise(fn) if site.elements else fn, value)
            log_prob = scaled(per_element, message, latent=True).expand(held.shape)
            total = torch.where(held, log_prob, torch.zeros_like(log_prob)).sum()
            self._count(name, total)
            log_prior = torch.where(held, torch.zeros_like(log_prob), log_prob)
            self.execution.log_joint += float(log_prior.detach().sum())
        else:
            self.execution.log_joint += float(site.log_prob.sum())
        self.execution.values[name] = _read(site, value)
        return value

    def note(self, name: str, value: Tensor) -> None:
        """See :class:`Visitor`."""
        self.execution.computed[name] = value.detach()

    def _count(self, name: str, term: Tensor) -> None:
        self.execution.terms[name] = term
        self.execution.log_weight = self.execution.log_weight + term
        self.execution.log_joint += float(term.detach())

    def _held(self, site: Site, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value with its fixed cells replaced, and a mask of the fixed cells."""
        values = self.held[site.name]
        if site.kind is Kind.REAL:
            flat = values.reshape(drawn.shape)
            missing = flat.isnan()
            lead = drawn.shape[: drawn.dim() - len(site.event)]
            held = ~missing.reshape([*lead, -1]).any(-1)
            return torch.where(missing, drawn, flat.to(drawn)), held
        codes = values.reshape(site.shape_in(drawn))
        held = codes >= 0
        chosen = site.states[codes.clamp(min=0)].reshape(drawn.shape)
        cells = held.reshape([*held.shape, *[1] * (drawn.dim() - held.dim())])
        return torch.where(cells, chosen, drawn), held


def run_once(
    program: Callable[[], Any],
    parameters: ProgramParameters,
    held: Mapping[str, Tensor],
    seed: int,
) -> Execution:
    """Execute a program with some values fixed; differentiable with respect to these.

    Args:
        program: The program, its arguments bound.
        parameters: Parameters of the program.
        held: Fixed state indices of finite sites (-1: free), values of other sites (NaN: free).
        seed: Seed of the draws.
    """
    visitor = _WeightedExecution(held)

    def run() -> None:
        seeded_with(seed)
        program()

    differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in held.values())
    with torch.set_grad_enabled(differentiable):
        execute(run, visitor, parameters)
    return visitor.execution


def _read(site: Site, value: Tensor) -> Tensor:
    """Return the state indices ``(*sizes, *elements)`` of a finite site, values of other sites."""
    if site.kind is Kind.REAL:
        return value.reshape([*site.sizes, *site.event])
    return site.codes(value).reshape([*site.sizes, *site.elements])
