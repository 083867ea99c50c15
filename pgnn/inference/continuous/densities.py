"""Joint densities of the latent real variables of a model and the evidence."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import ExecutableModel, FactorModel, Inputs
from pgnn.errors import EvidenceError, ModelError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.elements import Elements
from pgnn.factors.finite import all_finite
from pgnn.factors.support import log_density as log_density_of
from pgnn.inference.continuous.coordinates import Reals, num_points
from pgnn.inference.continuous.row_product import is_product, log_product
from pgnn.inference.exact import torch_executor
from pgnn.inference.exact.differentiable import Differentiable
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.solver import Solver, model_solver
from pgnn.inference.model_reader import reader_of

_FEW = 24
"""Largest number of discrete elements that torch sums out faster than the kernels."""
_CELLS = 2**20
"""Points times elements that are evaluated at once if no gradient is required."""


class JointDensity(ABC):
    r"""Evaluates :math:`\log p(r, e)` at a batch of points of the latent reals.

    ``reals`` are ``(N, *shape)`` values by name. Unobserved discrete variables are summed out;
    their marginals and draws are conditional on the reals.
    """

    @abstractmethod
    def log_density(self, reals: Reals) -> Tensor:
        """Return ``(N,)`` log densities, differentiable with respect to the reals; NaN at NaN."""

    def recordable(self, reals: Reals) -> Tensor:
        """Return the same, by the operations that are fastest on a tape."""
        return self.log_density(reals)

    @abstractmethod
    def terms(self, reals: Reals) -> dict[Hashable, Tensor]:
        """Return ``(N,)`` terms of each variable, finite if and only if its density is."""

    @abstractmethod
    def marginals(self, reals: Reals, mask: Any) -> Tensor:
        """Return ``(N, S)`` marginals of the elements in ``mask``, ``(E,)``, given the reals."""

    @abstractmethod
    def draw(self, reals: Reals, seed: int) -> Tensor:
        """Return ``(N, E)`` states of all elements, drawn exactly given the reals."""

    def blame(self, reals: Reals) -> str:
        """Return a message that names the variables whose densities are not finite."""
        for name, x in reals.items():
            if not bool(torch.isfinite(x.double()).all()):
                return f"the draws of {name!r} are not finite"
        bad = [n for n, x in self.terms(reals).items() if not bool(x.isfinite().all())]
        names = ", ".join(repr(n) for n in bad) or "the evidence"
        return f"the log density of {names} is not finite"


class KnownStates(JointDensity):
    """A density of a model whose discrete variables are all observed.

    Args:
        elements: Elements of the discrete variables.
        observed: ``(1, ...)`` values of the observed variables, state indices of discrete ones.
    """

    def __init__(self, elements: Elements, observed: Reals) -> None:
        self.elements, self.observed = elements, observed

    def marginals(self, reals: Reals, mask: Any) -> Tensor:
        """See :class:`JointDensity`."""
        states = self.draw(reals, 0)
        parts = [
            torch.nn.functional.one_hot(states[:, e], int(self.elements.card[e])).double()
            for e in range(len(self.elements))
            if mask[e]
        ]
        return torch.cat([torch.zeros(len(states), 0, dtype=torch.float64), *parts], dim=1)

    def draw(self, reals: Reals, seed: int) -> Tensor:
        """See :class:`JointDensity`."""
        states = torch.zeros(len(self.elements), dtype=torch.int64)
        for v in self.elements.variables:
            numbers = torch.from_numpy(self.elements.numbers(v.name))
            states[numbers] = self.observed[v.name].reshape(-1)
        return states.expand(num_points(reals), -1)


class ProductDensity(KnownStates):
    r"""Density of a directed model without latent discrete variables.

    .. math:: \log p(r, e) = \sum_i \log p(x_i \mid x_{\mathrm{pa}(i)})

    Terms that do not depend on the latent variables are computed once.

    Args:
        model: A model with a conditional for each variable.
        latent: Names of the latent real variables.
        observed: ``(1, ...)`` values of all other variables.
        inputs: Covariates, ``(1, ...)``.
    """

    def __init__(
        self, model: Any, latent: set[Hashable], observed: Reals, inputs: Inputs | None = None
    ) -> None:
        super().__init__(model.elements, observed)
        self.inputs = inputs
        self.varying: list[Conditional] = []
        self.fixed: dict[Hashable, Tensor] = {}
        for name in model.order:
            conditional = model.conditionals[name]
            if latent.isdisjoint(v.name for v in conditional.scope):
                with torch.no_grad():
                    self.fixed[name] = self._term(conditional, {}, 1).sum()
            else:
                self.varying.append(conditional)
        self.constant = torch.stack([torch.zeros(()).double(), *self.fixed.values()]).sum()

    def log_density(self, reals: Reals) -> Tensor:
        """See :class:`JointDensity`."""
        rows = num_points(reals)
        total: Tensor = self.constant.expand(rows)
        for conditional in self.varying:
            total = total + self._term(conditional, reals, rows)
        return total

    def terms(self, reals: Reals) -> dict[Hashable, Tensor]:
        """Return the log density of each variable."""
        rows = num_points(reals)
        terms = {c.child.name: self._term(c, reals, rows).expand(rows) for c in self.varying}
        return {**terms, **{n: x.expand(rows) for n, x in self.fixed.items()}}

    def _term(self, c: Conditional, reals: Reals, rows: int) -> Tensor:
        values = {}
        for v in c.scope:
            x = reals.get(v.name)
            values[v.name] = self.observed[v.name].expand(rows, *v.shape) if x is None else x
        value = values[c.child.name]
        inputs = {n: x.expand(rows, *x.shape[1:]) for n, x in (self.inputs or {}).items()}
        distribution = c.distribution({v.name: values[v.name] for v in c.parents}, inputs or None)
        observed = c.child.name not in reals and not c.child.is_discrete
        log_probs: Tensor = (
            log_density_of(distribution, value) if observed else distribution.log_prob(value)
        )
        if log_probs.dim() > 1 or (log_probs.dim() == 1 and len(log_probs) not in (1, rows)):
            raise ModelError(
                f"the distribution of {c.child.name!r} must have batch shape ({rows},) for {rows} "
                f"values of its parents, got log probabilities of shape {tuple(log_probs.shape)}"
            )
        return log_probs


class SummedDensity(JointDensity):
    r"""Density of a model with tables, whose discrete variables are summed out exactly.

    .. math:: \log p(r_n, e_b) = \log \sum_z p(z, r_n, e_b), \qquad b = n \bmod B

    Points are evaluated in blocks of ``B``, one point for each row of evidence. ``reals`` may also
    contain discrete variables, as ``(N, *shape)`` states.

    Args:
        model: A model with tables given its real variables.
        observed: ``B`` rows of evidence.
        inputs: Covariates, ``(B, ...)``.
        checked: Whether the evidence is known to contain all discrete variables, no missing number,
            and only values in the supports of their distributions.
    """

    def __init__(
        self,
        model: FactorModel,
        observed: RowEvidence,
        inputs: Inputs | None = None,
        *,
        checked: bool = False,
    ) -> None:
        self.model, self.observed, self.inputs = model, observed, dict(inputs or {})
        self.checked = checked
        self.power = _power(model)
        self._tiled: dict[int, RowEvidence] = {}

    @cached_property
    def latents(self) -> tuple[Hashable, ...]:
        """Names of the real variables that no row observes."""
        reals = [v.name for v in self.model.variables.values() if not v.is_discrete]
        observed = self.observed.reals
        return tuple(
            n
            for n in reals
            if n not in observed or not (self.checked or observed[n].isnan().logical_not().any())
        )

    def take(self, rows: Tensor) -> SummedDensity:
        """Return the density of some of the rows."""
        inputs = {n: torch.as_tensor(x)[rows] for n, x in self.inputs.items()}
        observed = self.observed.take(rows.numpy())
        return type(self)(self.model, observed, inputs, checked=self.checked)

    def log_parts(self, reals: Reals, without: Collection[Hashable] = ()) -> Sequence[Tensor]:
        """Return :meth:`log_density` as ``(N,)`` terms, one for each layer of a guide."""
        return (self.log_density(reals, without),)

    def log_density(self, reals: Reals, without: Collection[Hashable] = ()) -> Tensor:
        """See :class:`JointDensity`.

        Args:
            reals: Points.
            without: Variables whose conditional densities are omitted; requires :attr:`is_product`.
        """
        if self.is_product:
            observed, inputs = self._evidence_over(reals), self._inputs_over(reals)
            log_densities = log_product(self.model, observed, inputs, reals, without, self.checked)
            return self._guarded(reals, log_densities)
        points, most = num_points(reals), self._max_points()
        if points > most and not torch.is_grad_enabled():
            parts = [{n: x[k : k + most] for n, x in reals.items()} for k in range(0, points, most)]
            return torch.cat([self.log_density(part) for part in parts])
        log_evidence = self.solved(reals).log_evidence()
        return self._guarded(
            reals, log_evidence if self.power == 1.0 else log_evidence * self.power
        )

    @cached_property
    def is_product(self) -> bool:
        """Whether the density is a product of conditionals: no discrete variable is hidden."""
        return self.checked or is_product(self.model, self.observed, self.latents)

    def recordable(self, reals: Reals) -> Tensor:
        """See :class:`JointDensity`."""
        is_small = len(self.model.elements) <= _FEW
        return self._log_density_by_torch(reals) if is_small else self.log_density(reals)

    def solved(self, reals: Reals) -> Differentiable:
        """Return the exact solver of the discrete variables, with a row for each point."""
        observed = self._evidence_over(reals)
        return Differentiable(self._solver(reals, observed), observed)

    def terms(self, reals: Reals) -> dict[Hashable, Tensor]:
        """Return the largest entry of the table of each variable."""
        rows = num_points(reals)
        largest: dict[Hashable, Tensor] = {}
        for factor in self._solver(reals, self._evidence_over(reals)).graph.factors:
            table = factor.log_values
            table = table.reshape(rows if table.dim() > len(factor.variables) else 1, -1)
            scope = tuple(v.name for v in factor.variables)
            largest[factor.child or scope] = table.amax(dim=1).expand(rows)
        return largest

    def blame(self, reals: Reals) -> str:
        """See :class:`JointDensity`; executable models are diagnosed by their sites."""
        if isinstance(self.model, ExecutableModel):
            with torch.no_grad():
                first = int((~self.log_density(reals).isfinite()).int().argmax())
                values = {**self._evidence_over(reals).reals, **reals}
                point = {n: x[first].detach() for n, x in values.items()}
                terms = self.model.execute(point, 0).terms
            if bad := [repr(n) for n, x in terms.items() if not bool(x.isfinite())]:
                return f"the log density of {', '.join(bad)} is not finite"
        return super().blame(reals)

    def marginals(self, reals: Reals, mask: Any) -> Tensor:
        """See :class:`JointDensity`."""
        return self.solved(reals).marginals(mask)[0]

    def draw(self, reals: Reals, seed: int) -> Tensor:
        """See :class:`JointDensity`."""
        evidence = self._evidence_over(reals)
        solver = self._solver(reals, evidence)
        observed = solver.graph.evidence(evidence)
        states = solver.draw(observed.codes, observed.soft, 1, seed)[0]
        states = states[..., : len(self.model.elements)].astype(np.int64)
        return torch.from_numpy(states).reshape(num_points(reals), -1)

    def _log_density_by_torch(self, reals: Reals) -> Tensor:
        """Sum out the discrete variables by torch operations alone."""
        observed = self._evidence_over(reals)
        solver = self._solver(reals, observed)
        if not solver.graph.variables:
            return self._guarded(reals, Differentiable(solver, observed).log_evidence())
        observed = solver.graph.evidence(observed)
        log_evidence = torch.zeros(num_points(reals), dtype=torch.float64)
        for plan, part in solver.plans(observed.codes, Ask(soft=solver.softly(observed.soft))):
            arguments = solver.torch_rows(plan, observed.codes, observed.soft, part).arguments
            part_evidence = torch_executor.log_partition(**arguments).to(log_evidence)
            log_evidence = log_evidence.index_add(0, torch.from_numpy(part), part_evidence)
        return self._guarded(reals, log_evidence + torch.from_numpy(observed.soft_scale))

    def _solver(self, reals: Reals, observed: RowEvidence) -> Solver:
        real_values = {n: x for n, x in reals.items() if not self.model.variables[n].is_discrete}
        return model_solver(self.model, {**observed.reals, **real_values}, self._inputs_over(reals))

    def _inputs_over(self, reals: Reals) -> dict[Hashable, Tensor]:
        """Repeat the covariates for each block of points."""
        times = num_points(reals) // max(self.observed.num_rows, 1)
        return {n: _tiled(x, times) for n, x in self.inputs.items()}

    def _evidence_over(self, reals: Reals) -> RowEvidence:
        """Repeat the evidence for each block of points, and add the states among the reals."""
        times = num_points(reals) // max(self.observed.num_rows, 1)
        if times not in self._tiled:
            once = times == 1 and self.observed.batched
            self._tiled[times] = self.observed if once else self.observed.tiled(times)
        observed = self._tiled[times]
        states = {n: x for n, x in reals.items() if self.model.variables[n].is_discrete}
        if not states:
            return observed
        codes = observed.codes.copy()
        for name, x in states.items():
            codes[:, self.model.elements.numbers(name).ravel()] = x.reshape(len(x), -1).numpy()
        return replace(observed, codes=codes)

    def _max_points(self) -> int:
        """Return the number of points that are evaluated at once, a multiple of the rows."""
        rows = max(1, self.observed.num_rows)
        cells = len(self.model.elements)
        if isinstance(self.model, ExecutableModel):
            cells = max(cells, self.model.largest_plate)
        return rows * max(1, _CELLS // max(1, rows * cells))

    @staticmethod
    def _guarded(reals: Reals, log_densities: Tensor) -> Tensor:
        """Set log densities at non-finite values to ``NaN``, which lowering treats as missing."""
        for x in reals.values():
            if x.is_floating_point() and not all_finite(x):
                bad = ~x.detach().isfinite().reshape(len(x), math.prod(x.shape[1:])).all(dim=1)
                log_densities = log_densities.masked_fill(bad, torch.nan)
        return log_densities


def log_density(
    model: FactorModel,
    reals: Reals,
    evidence: Any,
    inputs: Inputs | None = None,
) -> Tensor:
    r"""Return :math:`\log \sum_z p(z, r, e)`, differentiable with respect to reals and parameters.

    Args:
        model: A model with tables given its real variables.
        reals: ``(B, *shape)`` values by name.
        evidence: One row or ``B`` rows of evidence about other variables.
        inputs: Covariates by name, one row or ``B`` rows.

    Returns:
        ``(B,)`` log densities.

    Raises:
        EvidenceError: If a name is unknown, a shape is wrong, or numbers of rows differ.
    """
    checked = {n: _checked(model, n, x) for n, x in reals.items()}
    covariates = {n: torch.as_tensor(x) for n, x in (inputs or {}).items()}
    rows = {len(x) for x in [*checked.values(), *(x for x in covariates.values() if len(x) != 1)]}
    observed = reader_of(model).read(evidence)
    if observed.batched:
        rows.add(observed.num_rows)
    if len(rows) > 1:
        raise EvidenceError(f"the reals and the evidence have different numbers of rows: {rows}")
    number = next(iter(rows), 1)
    observed = observed if observed.num_rows == number else observed.tiled(number)
    repeated = {n: x.expand(number, *x.shape[1:]) for n, x in covariates.items()}
    solver = model_solver(model, {**observed.reals, **checked}, repeated)
    return _power(model) * Differentiable(solver, observed).log_evidence()


def _power(model: FactorModel) -> float:
    """Return the factor of the log evidence, the common scale of discrete sites of a program."""
    return model.power if isinstance(model, ExecutableModel) else 1.0


def _checked(model: FactorModel, name: Hashable, value: Tensor) -> Tensor:
    v = model.variables.get(name)
    if v is None or v.is_discrete:
        raise EvidenceError(f"{name!r} is not a real variable of the model")
    x = torch.as_tensor(value)
    if tuple(x.shape[1:]) != v.shape or x.dim() != len(v.shape) + 1:
        shape = ", ".join(["B", *map(str, v.shape)])
        raise EvidenceError(f"{name!r} must have shape ({shape}), got {tuple(x.shape)}")
    return x


def _tiled(x: Any, times: int) -> Tensor:
    t = torch.as_tensor(x)
    if len(t) == 1:
        return t.expand(times, *t.shape[1:])
    return t if times == 1 else t.repeat([times, *[1] * (t.dim() - 1)])
