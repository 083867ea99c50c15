"""Executions of a program with some values held: what is drawn, and how much it weighs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.randomness import seeded_with
from pgnn.programs.handlers import Visitor, execute, scaled, seen_values
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
        sites: The sites it came by, in order.
        values: State indices of finite latent sites, values of the other latent ones.
        log_weight: Log probability of what was held or observed, given what was drawn.
        terms: The parts that it is the sum of, by site.
        log_joint: Log density of everything, what was drawn included.
        unnamed: Latent sites that no variable of the model stands for.
        computed: Values of the sites that are computed, not drawn.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    values: dict[Hashable, Tensor] = field(default_factory=dict)
    log_weight: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    terms: dict[Hashable, Tensor] = field(default_factory=dict)
    log_joint: float = 0.0
    unnamed: tuple[str, ...] = ()
    computed: dict[Hashable, Tensor] = field(default_factory=dict)


class _Weighing(Visitor):
    """Draws what is not held; the weight is the probability of what is (likelihood weighting)."""

    def __init__(self, held: Mapping[str, Tensor]) -> None:
        self.held, self.found = held, Execution()

    def visit(self, name: str, fn: Any, observed: Any, message: dict[str, Any]) -> Any:
        """See :class:`Visitor`."""
        if name in self.found.sites:
            raise ModelError(f"site {name!r} occurs twice in the program; rename one")
        if observed is None and is_computed(fn):
            if not has_density(fn):
                self.note(name, fn.v)
                return fn.v
            observed = fn()
        with torch.no_grad():
            drawn = fn() if observed is None else observed
        value = drawn if observed is None else observed
        site = site_of(name, fn, value, observed, message)
        self.found.sites[name] = site
        if observed is not None:
            known = log_prob_of(fn, seen_values(fn, value, message), site.in_support)
            self._count(name, scaled(known, message).sum())
            return value
        if site.weighted and name not in self.held:
            raise Unsupported(
                f"site {name!r} is latent and scaled, so that it cannot be drawn; scale observed "
                "sites only"
            )
        if name in self.held:
            value, seen = self._held(site, value)
            own = log_prob_of(elementwise(fn) if site.elements else fn, value)
            log_prob = scaled(own, message, latent=True).expand(seen.shape)
            total = torch.where(seen, log_prob, torch.zeros_like(log_prob)).sum()
            self._count(name, total)
            rest = torch.where(seen, torch.zeros_like(log_prob), log_prob)
            self.found.log_joint += float(rest.detach().sum())
        else:
            self.found.log_joint += float(site.log_prob.sum())
        self.found.values[name] = _read(site, value)
        return value

    def note(self, name: str, value: Tensor) -> None:
        """See :class:`Visitor`."""
        self.found.computed[name] = value.detach()

    def _count(self, name: str, term: Tensor) -> None:
        self.found.terms[name] = term
        self.found.log_weight = self.found.log_weight + term
        self.found.log_joint += float(term.detach())

    def _held(self, site: Site, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value with what is held in its place, and which cells are."""
        given = self.held[site.name]
        if site.kind is Kind.REAL:
            flat = given.reshape(drawn.shape)
            missing = flat.isnan()
            lead = drawn.shape[: drawn.dim() - len(site.event)]
            seen = ~missing.reshape([*lead, -1]).any(-1)
            return torch.where(missing, drawn, flat.to(drawn)), seen
        codes = given.reshape(site.shape_in(drawn))
        seen = codes >= 0
        chosen = site.states[codes.clamp(min=0)].reshape(drawn.shape)
        cells = seen.reshape([*seen.shape, *[1] * (drawn.dim() - seen.dim())])
        return torch.where(cells, chosen, drawn), seen


def run_once(
    program: Callable[[], Any],
    parameters: ProgramParameters,
    held: Mapping[str, Tensor],
    seed: int,
) -> Execution:
    """Execute a program with some values held; differentiable in these.

    Args:
        program: The program, its arguments bound.
        parameters: Of the program.
        held: State indices of finite sites (-1: not held), values of the others (NaN: not held).
        seed: Of what is drawn.
    """
    visitor = _Weighing(held)

    def run() -> None:
        seeded_with(seed)
        program()

    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in held.values())
    with torch.set_grad_enabled(wanted):
        execute(run, visitor, parameters)
    return visitor.found


def _read(site: Site, value: Tensor) -> Tensor:
    """State indices of a finite site's value, ``(*sizes, *elements)``; reals likewise."""
    if site.kind is Kind.REAL:
        return value.reshape([*site.sizes, *site.event])
    return site.codes(value).reshape([*site.sizes, *site.elements])
