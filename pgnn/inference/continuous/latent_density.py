"""The density of draws of real latents and what was seen, the discrete rest summed out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import DirectedModel, ExecutableModel
from pgnn.errors import ModelError, Unsupported
from pgnn.evidence.evidence import Evidence
from pgnn.inference.engine import FactorModel, Inputs
from pgnn.inference.exact.differentiable import Differentiable
from pgnn.inference.exact.model_solver import model_solver
from pgnn.inference.exact.solver import Solver

Values = Mapping[Hashable, Tensor]

_CELLS = 2**20
"""Draws times rows times cells that are looked at together, where nothing is learnt."""


class LatentDensity:
    r"""Evaluates :math:`\log p(r_s, e_b) = \log \sum_z p(z, r_s, e_b)` for draws and rows.

    Args:
        model: With tables once its real variables are known.
        seen: ``B`` rows of evidence.
        inputs: Covariates by name, ``(B, ...)``.
    """

    def __init__(self, model: FactorModel, seen: Evidence, inputs: Inputs | None = None) -> None:
        self.model, self.seen, self.inputs = model, seen, dict(inputs or {})

    @property
    def latents(self) -> tuple[Hashable, ...]:
        """Names of the real variables that no row observes."""
        reals = [v.name for v in self.model.variables.values() if not v.is_discrete]
        return tuple(n for n in reals if n not in self.seen.reals or _none(self.seen.reals[n]))

    def take(self, rows: Tensor) -> LatentDensity:
        """Return the same for some of the rows."""
        index = rows.numpy()
        seen = replace(
            self.seen,
            codes=np.ascontiguousarray(self.seen.codes[index]),
            soft=None if self.seen.soft is None else self.seen.soft[index],
            soft_scale=self.seen.soft_scale[index],
            soft_tensors={n: x[rows] for n, x in self.seen.soft_tensors.items()},
            reals={n: x[rows] for n, x in self.seen.reals.items()},
        )
        return LatentDensity(self.model, seen, {n: x[rows] for n, x in self.inputs.items()})

    def __call__(self, values: Values) -> Tensor:
        """Return ``(S, B)`` log densities, differentiable in the draws and the parameters.

        Args:
            values: ``(S, B, *shape)`` draws of the real latents, ``(S, B, *shape)`` states of
                discrete variables that were drawn too.
        """
        draws = len(next(iter(values.values())))
        most = max(1, _CELLS // max(1, self.seen.num_rows * _cells(self.model)))
        if draws > most and not torch.is_grad_enabled():
            parts = [{n: x[k : k + most] for n, x in values.items()} for k in range(0, draws, most)]
            return torch.cat([self(part) for part in parts])
        solver, seen = self._lowered(values)
        found = Differentiable(solver, seen).log_evidence() * _power(self.model)
        return found.reshape(-1, self.seen.num_rows)

    def given(self, values: Values) -> Differentiable:
        """Return what answers about the discrete variables, a row for each draw and row."""
        return Differentiable(*self._lowered(values))

    def _lowered(self, values: Values) -> tuple[Solver, Evidence]:
        """A row of evidence and tables for each draw and row."""
        draws = len(next(iter(values.values())))
        flat = {n: x.flatten(end_dim=1) for n, x in values.items()}
        seen = self.seen.tiled(draws)
        codes = seen.codes
        for name, x in flat.items():
            if self.model.variables[name].is_discrete:
                first = self.model.elements.first[name]
                width = self.model.variables[name].num_elements
                codes[:, first : first + width] = x.reshape(len(x), width).numpy()
        reals = {n: x for n, x in flat.items() if not self.model.variables[n].is_discrete}
        inputs = {n: _tiled(x, draws) for n, x in self.inputs.items()}
        return model_solver(self.model, {**seen.reals, **reals}, inputs), seen

    def features(self) -> Tensor:
        """Return ``(B, F)`` what was seen as numbers: reals, indicators of states, inputs."""
        model, seen, rows = self.model, self.seen, self.seen.num_rows
        parts = [torch.zeros(rows, 0, dtype=torch.float64)]
        latent = set(self.latents)
        for n in model.variables:
            if n in seen.reals and n not in latent:
                parts.append(seen.reals[n].reshape(rows, -1).nan_to_num().double())
        for e in np.flatnonzero((seen.codes >= 0).any(axis=0)):
            codes = torch.from_numpy(seen.codes[:, e].astype(np.int64))
            parts.append((codes.unsqueeze(1) == torch.arange(int(model.elements.card[e]))).double())
        parts += [torch.as_tensor(x).reshape(rows, -1).double() for x in self.inputs.values()]
        return torch.cat(parts, dim=1)

    def prior(self, values: Values) -> Tensor:
        """Return ``(S,)`` log densities of variables that depend on each other alone.

        Args:
            values: ``(S, *shape)`` draws.

        Raises:
            Unsupported: If the model has no conditionals.
            ModelError: If one of the variables depends on another variable, or on inputs.
        """
        if not isinstance(self.model, DirectedModel):
            raise Unsupported(
                "shared latents are those of directed graphs; in a program put what is in rows in "
                "a plate, and the rest outside of it"
            )
        total = torch.zeros((), dtype=torch.float64)
        for name, value in values.items():
            own = self.model.conditionals[name]
            rest = [v.name for v in own.parents if v.name not in values] + list(own.inputs)
            if rest:
                raise ModelError(
                    f"{name!r} is to be shared by all rows but depends on {rest[0]!r}, which is not"
                )
            total = total + own.distribution(
                {v.name: values[v.name] for v in own.parents}
            ).log_prob(value)
        return total

    def blame(self, values: Values) -> str:
        """Say which variable makes the density of draws infinite or undefined."""
        for name, x in values.items():
            if not bool(torch.isfinite(x.double()).all()):
                return f"the draws of {name!r} are not finite"
        draws = len(next(iter(values.values())))
        known = {n: x.flatten(end_dim=1) for n, x in values.items()}
        known = {**self.seen.tiled(draws).reals, **known}
        inputs = {n: _tiled(x, draws) for n, x in self.inputs.items()}
        model = self.model
        conditionals = model.conditionals if isinstance(model, DirectedModel) else {}
        for name, conditional in conditionals.items():
            if name not in known:
                continue
            try:
                table = conditional.factor(known, inputs or None).log_values
            except (ValueError, RuntimeError, Unsupported) as error:
                return f"the conditional of {name!r} fails: {error}"
            flat = table.reshape(len(table), -1)
            if bool(flat.isnan().any()) or bool((flat == -torch.inf).all(1).any()):
                return f"the conditional of {name!r} has no finite density"
        if isinstance(self.model, ExecutableModel):
            from pgnn.inference.continuous.pyro_trace import site_without_density

            site = site_without_density(self.model, {n: x[0, 0] for n, x in values.items()})
            if site is not None:
                return f"site {site!r} has no finite density"
        return f"the density at the draws of {', '.join(map(repr, values))} is not finite"


def _cells(model: Any) -> int:
    """Discrete elements, or cells of a program's widest site, if these are more."""
    widest = model.largest_plate if isinstance(model, ExecutableModel) else 0
    return max(len(model.elements), widest)


def _power(model: Any) -> float:
    """What the sum over discrete variables counts: more than once where rows stand for others."""
    return model.power if isinstance(model, ExecutableModel) else 1.0


def _tiled(x: Any, draws: int) -> Tensor:
    t = torch.as_tensor(x)
    return t if draws == 1 else t.repeat([draws, *[1] * (t.dim() - 1)])


def _none(x: Any) -> bool:
    return bool(torch.as_tensor(x).isnan().all())
