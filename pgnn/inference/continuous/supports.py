"""Supports of real variables, from conditionals or from the sites of a program."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import DirectedModel, ExecutableModel
from pgnn.errors import Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.randomness import kept_randomness
from pgnn.factors.support import Support, same_constraint, support_of
from pgnn.factors.variable import Variable
from pgnn.inference.continuous.coordinates import Coordinates, Reals

Rows = Mapping[Hashable, Tensor]


def supports_of(
    model: Any, latent: Sequence[Variable], observed: Rows, inputs: Rows | None = None
) -> Mapping[Hashable, Support]:
    """Return the support of each latent real variable, given its predecessors.

    Args:
        model: Any model; supports are the real line unless it has conditionals or is a program.
        latent: Real variables, parents first.
        observed: ``(N, ...)`` values of the observed variables, state indices of discrete ones.
        inputs: Covariates, ``(N, ...)``.

    Raises:
        Unsupported: If a support depends on the state of a latent discrete variable, or on the
            evidence of a row.
    """
    if isinstance(model, DirectedModel):
        return conditional_supports(model.conditionals, latent, observed, inputs)
    if isinstance(model, ExecutableModel):
        return model.real_supports([v.name for v in latent], _fixed_values(model, observed))
    return {v.name: Support() for v in latent}


def parents_first(model: Any) -> list[Variable]:
    """Return the variables of a model, parents before children."""
    order = model.order if isinstance(model, DirectedModel) else model.variables
    return [model.variables[n] for n in order]


def _fixed_values(model: ExecutableModel, observed: Rows) -> dict[Hashable, Tensor]:
    """Return the observed values on which the sites of a program without tables may depend."""
    return {} if model.obstacle is None else {n: x[0] for n, x in observed.items()}


def conditional_supports(
    conditionals: Mapping[Hashable, Conditional],
    latent: Sequence[Variable],
    observed: Rows,
    inputs: Rows | None = None,
) -> dict[Hashable, Support]:
    """Return the support of each latent variable of a graph; see :func:`supports_of`."""
    first = {n: x[:1] for n, x in observed.items()}
    covariates = {n: x[:1] for n, x in (inputs or {}).items()}
    readers = {
        v.name: _ConditionalSupport(
            conditional=conditionals[v.name], observed=first, inputs=covariates
        )
        for v in latent
    }
    points = _two_points(latent, readers)
    supports: dict[Hashable, Support] = {}
    for name, reader in readers.items():
        constraint, other = (reader.given(p) for p in points)
        reader.check_states(points[0], constraint)
        _check_rows(
            replace(reader, observed=observed, inputs=inputs),
            points[0],
            constraint,
        )
        fixed = same_constraint(constraint, other)
        dtype = reader.dtype_of(points[0])
        supports[name] = Support(constraint, dtype) if fixed else replace(reader, dtype=dtype)
    return supports


@dataclass(frozen=True, eq=False, kw_only=True)
class _ConditionalSupport(Support):
    """The support of the distribution of a conditional, which may depend on its parents."""

    conditional: Conditional
    observed: Rows = field(default_factory=dict)
    inputs: Rows | None = None

    def given(self, reals: Reals) -> Any:
        """Return the constraint, with unobserved discrete parents in their first state."""
        return support_of(self.distribution(reals, {}))

    def dtype_of(self, reals: Reals) -> torch.dtype:
        """Return the dtype of draws."""
        with kept_randomness(), torch.no_grad():
            dtype: torch.dtype = self.distribution(reals, {}).sample().dtype
        return dtype

    def check_states(self, reals: Reals, constraint: Any) -> None:
        """Raise if the constraint differs in another state of a discrete parent."""
        for p in self.conditional.parents:
            if not p.is_discrete or p.name in self.observed:
                continue
            for state in range(1, p.num_states):
                other = support_of(self.distribution(reals, {p.name: state}))
                if not same_constraint(constraint, other):
                    raise Unsupported(
                        f"the support of {self.conditional.child.name!r} depends on the state of "
                        f"{p.name!r}, which is unobserved",
                        f"give {p.name!r} as evidence",
                    )

    def distribution(self, reals: Reals, states: Mapping[Hashable, int]) -> Any:
        """Return the distribution of the child."""
        values = {}
        counts = [len(x) for x in [*reals.values(), *self.observed.values()]]
        rows = max(counts, default=1)
        for p in self.conditional.parents:
            if p.name in reals:
                values[p.name] = reals[p.name].expand(rows, *p.shape)
            elif p.name in self.observed:
                values[p.name] = self.observed[p.name].expand(rows, *p.shape)
            elif p.is_discrete:
                values[p.name] = torch.full((rows, *p.shape), states.get(p.name, 0))
            else:
                raise Unsupported(
                    f"the support of {self.conditional.child.name!r} depends on {p.name!r}, which "
                    "is shared by all rows",
                    "share both variables or neither",
                )
        inputs = {n: x.expand(rows, *x.shape[1:]) for n, x in (self.inputs or {}).items()}
        return self.conditional.distribution(values, inputs or None)


def _two_points(latent: Sequence[Variable], supports: Mapping[Hashable, Support]) -> list[Reals]:
    """Return two points in the supports of all latent variables."""
    coordinates = Coordinates(latent, supports)
    spread = torch.linspace(0.3, 1.0, coordinates.size, dtype=torch.float64)
    with torch.no_grad():
        return [coordinates.constrain(q.unsqueeze(0))[0] for q in (0.0 * spread, spread)]


def _check_rows(reader: _ConditionalSupport, reals: Reals, constraint: Any) -> None:
    """Raise if the constraint differs in another row of evidence."""
    if not same_constraint(support_of(reader.distribution(reals, {})), constraint):
        raise Unsupported(
            f"the support of {reader.conditional.child.name!r} depends on the evidence of the row",
            "query the rows in a loop, or declare it as a transform of a variable with a constant "
            "support",
        )
