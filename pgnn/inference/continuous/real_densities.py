"""Joint densities of the latent real variables of a model and its evidence."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.evidence.evidence import Evidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.inference.continuous.coordinates import Reals
from pgnn.inference.engine import FactorModel, Inputs
from pgnn.inference.exact import torch_executor
from pgnn.inference.exact.differentiable import Differentiable
from pgnn.inference.exact.model_solver import model_solver
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.solver import Solver

_FEW = 24
"""So many discrete elements are summed out quicker by torch than by the exact engine's kernel."""


class ProductDensity:
    r"""Density of a directed model in which nothing discrete is latent.

    .. math:: \log p(r, e) = \sum_i \log p(x_i \mid x_{\mathrm{pa}(i)})

    What does not depend on the latent variables is computed once.

    Args:
        conditionals: Of the model, parents first.
        latent: Names of the latent real variables.
        seen: ``(1, ...)`` values of all others.
        inputs: Covariates, ``(1, ...)``.
    """

    def __init__(
        self,
        conditionals: Mapping[Hashable, Conditional],
        latent: set[Hashable],
        seen: Mapping[Hashable, Tensor],
        inputs: Inputs | None = None,
    ) -> None:
        self.seen, self.inputs = seen, inputs
        self.varying: list[Conditional] = []
        self.fixed: dict[Hashable, Tensor] = {}
        for name, conditional in conditionals.items():
            if latent.isdisjoint(v.name for v in conditional.scope):
                with torch.no_grad():
                    self.fixed[name] = self._term(conditional, {}, 1).sum()
            else:
                self.varying.append(conditional)
        self.constant = torch.stack([torch.zeros(()).double(), *self.fixed.values()]).sum()

    def log_density(self, reals: Reals) -> Tensor:
        """Return ``(B,)`` log densities of ``(B, *shape)`` values."""
        rows = len(next(iter(reals.values())))
        total: Tensor = self.constant.expand(rows)
        for conditional in self.varying:
            total = total + self._term(conditional, reals, rows)
        return total

    def terms(self, reals: Reals) -> dict[Hashable, Tensor]:
        """Return the log density of each variable, ``(B,)``."""
        rows = len(next(iter(reals.values())))
        own = {c.child.name: self._term(c, reals, rows).expand(rows) for c in self.varying}
        return {**own, **{n: x.expand(rows) for n, x in self.fixed.items()}}

    def marginals(self, reals: Reals, wanted: Any) -> Tensor:
        """Return none: nothing discrete is latent."""
        return torch.zeros(len(next(iter(reals.values()))), 0)

    def _term(self, c: Conditional, reals: Reals, rows: int) -> Tensor:
        values = {}
        for v in c.scope:
            x = reals.get(v.name)
            values[v.name] = self.seen[v.name].expand(rows, *v.shape) if x is None else x
        own = values[c.child.name]
        inputs = {n: x.expand(rows, *x.shape[1:]) for n, x in (self.inputs or {}).items()}
        found: Tensor = c.distribution(
            {v.name: values[v.name] for v in c.parents}, inputs or None
        ).log_prob(own)
        if found.dim() > 1 or (found.dim() == 1 and len(found) not in (1, rows)):
            raise ModelError(
                f"the distribution of {c.child.name!r} must have batch shape ({rows},) for {rows} "
                f"values of its parents, got log probabilities of shape {tuple(found.shape)}"
            )
        return found


class SummedDensity:
    r"""Density of any model with tables, its discrete variables summed out exactly.

    .. math:: \log p(r, e) = \log \sum_z p(z, r, e)

    Args:
        model: Has tables once its real variables are known.
        seen: One row of evidence.
        inputs: Covariates, ``(1, ...)``.
    """

    def __init__(self, model: FactorModel, seen: Evidence, inputs: Inputs | None = None) -> None:
        self.model, self.seen, self.inputs = model, seen, inputs
        self._rows: dict[int, Evidence] = {}

    def log_density(self, reals: Reals) -> Tensor:
        """Return ``(B,)`` log densities of ``(B, *shape)`` values."""
        return self._guarded(reals, self._solved(reals).log_evidence())

    def recordable(self, reals: Reals) -> Tensor:
        """Return the same in the way that is quickest once it is written down."""
        few = len(self.model.elements) <= _FEW
        return self._log_density_by_torch(reals) if few else self.log_density(reals)

    def _log_density_by_torch(self, reals: Reals) -> Tensor:
        """Operations of torch alone: no step out of it, but several for each element."""
        rows = len(next(iter(reals.values())))
        seen, solver = self._over(rows), self._solver(reals, rows)
        if not solver.graph.variables:
            return self._guarded(reals, Differentiable(solver, seen).log_evidence())
        found = torch.zeros(rows, dtype=torch.float64)
        for plan, part in solver.plans(seen.codes, Ask(soft=solver.softly(seen.soft))):
            arguments = solver.torch_rows(plan, seen.codes, seen.soft, part).arguments
            own = torch_executor.log_partition(**arguments).to(found)
            found = found.index_add(0, torch.from_numpy(part), own)
        return self._guarded(reals, found + torch.from_numpy(seen.soft_scale))

    def terms(self, reals: Reals) -> dict[Hashable, Tensor]:
        """Return the largest entry of each variable's table, ``(B,)``."""
        rows = len(next(iter(reals.values())))
        found: dict[Hashable, Tensor] = {}
        for factor in self._solver(reals, rows).graph.factors:
            table = factor.log_values
            table = table.reshape(rows if table.dim() > len(factor.variables) else 1, -1)
            names = [v.name for v in factor.variables]
            found[factor.child or tuple(names)] = table.amax(dim=1).expand(rows)
        return found

    def marginals(self, reals: Reals, wanted: Any) -> Tensor:
        """Return ``(B, S)`` marginals of the wanted elements, exact given the reals."""
        return self._solved(reals).marginals(wanted)[0]

    def draw(self, reals: Reals, seed: int) -> Tensor:
        """Return ``(B, E)`` states of all elements, drawn exactly given the reals."""
        rows = len(next(iter(reals.values())))
        seen = self._over(rows)
        solver = self._solver(reals, rows)
        states, _ = solver.draw(seen.codes, seen.soft, 1, seed)
        return torch.from_numpy(states.astype(np.int64)).reshape(rows, -1)

    def _solved(self, reals: Reals) -> Differentiable:
        rows = len(next(iter(reals.values())))
        return Differentiable(self._solver(reals, rows), self._over(rows))

    def _solver(self, reals: Reals, rows: int) -> Solver:
        both = {**self._over(rows).reals, **reals}
        inputs = {n: x.expand(rows, *x.shape[1:]) for n, x in (self.inputs or {}).items()}
        return model_solver(self.model, both, inputs)

    def _over(self, rows: int) -> Evidence:
        """The evidence with that many rows."""
        if rows not in self._rows:
            self._rows[rows] = replace(self.seen, soft_tensors={}).tiled(rows)
        return self._rows[rows]

    @staticmethod
    def _guarded(reals: Reals, found: Tensor) -> Tensor:
        """``NaN`` where a value is none: tables take it as not seen."""
        for x in reals.values():
            bad = ~x.detach().isfinite().reshape(len(x), -1).all(dim=1)
            found = found.masked_fill(bad, torch.nan)
        return found
