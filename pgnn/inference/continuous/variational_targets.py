"""The targets of a query that a guide answers: discrete, drawn by the guide, or given its draws."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from torch import Tensor

from pgnn.inference.ancestral_draws import partly_observed
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.model_reader import no_posterior
from pgnn.inference.question import Question, Targets, names_of, targets_of


@dataclass(frozen=True, eq=False)
class VariationalTargets:
    """The targets of a query.

    Attributes:
        discrete: The discrete targets.
        named: The names of all targets; None if none was named.
        latents: The real variables of the density.
        partly: Real arrays that are observed in part, whose other elements are targets.
    """

    discrete: Targets
    named: list[Hashable] | None
    latents: list[Hashable]
    partly: list[Hashable]

    @classmethod
    def of(cls, question: Question, density: SummedDensity) -> VariationalTargets:
        """Return the targets of a query.

        Raises:
            EvidenceError: If a target is real and observed.
        """
        model, partly, latents = question.model, partly_observed(question), [*density.latents]
        if question.names is None:
            return cls(targets_of(model, None), None, latents, partly)
        names = names_of(question.names, model.variables, model.elements)
        reals = [n for n in names if n in model.variables and not model.variables[n].is_discrete]
        for name in reals:
            if name not in density.latents and name not in partly:
                raise no_posterior(model, name)
        discrete = targets_of(model, [n for n in names if n not in reals])
        return cls(discrete, names, latents, [n for n in partly if n in names])

    def given_draws(self, draws: Mapping[Hashable, Tensor]) -> list[Hashable]:
        """Return the real targets without draws: as the guide of a program leaves some out."""
        left_out = [n for n in self.latents if n not in draws]
        named = left_out if self.named is None else [n for n in left_out if n in self.named]
        return [*self.partly, *named]
