"""Supports of real variables, read from conditionals or from a program's sites."""

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
    """Return the support of each latent real variable of any model, given those before it.

    Args:
        model: A model with conditionals, or a program; in others all supports are the real line.
        latent: Real variables, parents first.
        observed: ``(N, ...)`` values of the observed variables, state indices of discrete ones.
        inputs: Covariates, ``(N, ...)``.

    Raises:
        Unsupported: If a support depends on the state of a latent discrete variable, or on what
            was observed in a row.
    """
    if isinstance(model, DirectedModel):
        return conditional_supports(model.conditionals, latent, observed, inputs)
    if isinstance(model, ExecutableModel):
        return model.real_supports([v.name for v in latent], _fixed_values(model, observed))
    return {v.name: Support() for v in latent}


def parents_first(model: Any) -> list[Variable]:
    """Return the variables of any model in the order in which they are drawn."""
    order = model.order if isinstance(model, DirectedModel) else model.variables
    return [model.variables[n] for n in order]


def _fixed_values(model: ExecutableModel, observed: Rows) -> dict[Hashable, Tensor]:
    """Observed values on which the sites of a program without tables may depend."""
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
    """The support of a conditional's distribution, which depends on the values of its parents."""

    conditional: Conditional
    observed: Rows = field(default_factory=dict)
    inputs: Rows | None = None

    def given(self, reals: Reals) -> Any:
        """Return the constraint, unobserved discrete parents being in their first state."""
        return support_of(self.distribution(reals, {}))

    def dtype_of(self, reals: Reals) -> torch.dtype:
        """Return the dtype of draws."""
        with kept_randomness(), torch.no_grad():
            dtype: torch.dtype = self.distribution(reals, {}).sample().dtype
        return dtype

    def check_states(self, reals: Reals, constraint: Any) -> None:
        """Raise if another state of a discrete parent allows other values."""
        for p in self.conditional.parents:
            if not p.is_discrete or p.name in self.observed:
                continue
            for state in range(1, p.num_states):
                other = support_of(self.distribution(reals, {p.name: state}))
                if not same_constraint(constraint, other):
                    raise Unsupported(
                        f"which values {self.conditional.child.name!r} can have depends on the "
                        f"state of {p.name!r}, which was not observed, so it has no coordinates"
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
                    f"which values {self.conditional.child.name!r} can have depends on "
                    f"{p.name!r}, which all rows share; share both, or none"
                )
        inputs = {n: x.expand(rows, *x.shape[1:]) for n, x in (self.inputs or {}).items()}
        return self.conditional.distribution(values, inputs or None)


def _two_points(latent: Sequence[Variable], supports: Mapping[Hashable, Support]) -> list[Reals]:
    """Two points in the supports of all latent variables."""
    coordinates = Coordinates(latent, supports)
    spread = torch.linspace(0.3, 1.0, coordinates.size, dtype=torch.float64)
    with torch.no_grad():
        return [coordinates.constrain(q.unsqueeze(0))[0] for q in (0.0 * spread, spread)]


def _check_rows(reader: _ConditionalSupport, reals: Reals, constraint: Any) -> None:
    """Raise if another row of evidence allows other values."""
    if not same_constraint(support_of(reader.distribution(reals, {})), constraint):
        raise Unsupported(
            f"which values {reader.conditional.child.name!r} can have depends on the evidence in a "
            "row; ask for one row after the other in a loop, or write it as a transform of a "
            "variable that has the same support always"
        )
