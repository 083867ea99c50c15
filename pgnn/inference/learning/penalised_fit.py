"""Maximum a posteriori parameters of a conditional without a closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import overflowing
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.curved import Curved
from pgnn.factors.conditionals.parameter_prior import ParameterPrior
from pgnn.inference.learning.conditional_fit import Term, evaluating
from pgnn.inference.learning.lbfgs import run_lbfgs
from pgnn.inference.learning.optimisation_problem import (
    FitRecord,
    LearnableParameters,
    Mean,
    OptimisationProblem,
)

Floats = NDArray[np.float64]

_NEAR = 1e-3
"""Largest derivative of the mean at which Newton's method starts."""
_GRADIENT = 1e-9
"""Largest derivative at which L-BFGS without Newton's method stops, for few parameters."""
_LARGE = 1e-6
"""Largest derivative at which L-BFGS without Newton's method stops, for many parameters."""
_NEWTON = 400
"""Largest number of parameters for Newton's method."""
_STEPS = 12
_STEADY = 1e-5
"""Largest derivative at which the curvature is not recomputed."""
_REST = 1e-14
"""Largest derivative that is treated as zero."""


class _Mean:
    """The mean of the terms at the current parameters."""

    def __init__(self, terms: Sequence[Term], total: float) -> None:
        self.terms, self.total = terms, total
        self.term = terms[0] if len(terms) == 1 else None

    def __call__(self) -> Tensor:
        return torch.stack([t.value() for t in self.terms]).sum() / self.total


class _Terms:
    """The mean expected log-likelihood of conditionals."""

    figure: str | None = "log_likelihood"

    def __init__(self, terms: Sequence[Term], total: float) -> None:
        self.terms, self.total = terms, total

    def __call__(self, rows: Any) -> Mean:
        return _Mean(self.terms, self.total)


def fit_penalised(terms: Sequence[Term], prior: ParameterPrior | None, max_iterations: int) -> bool:
    r"""Maximise the weighted log-likelihood and the log prior of a conditional, in place.

    .. math:: \sum_n w_n \log p(x_n \mid \theta) + \log p(\theta)

    By L-BFGS, with exact zeros under a :class:`LaplacePrior`; then by Newton's method on the
    non-zero parameters (for generalised linear models iteratively reweighted least squares).

    Args:
        terms: The terms; several if conditionals share parameters.
        prior: On the parameters.
        max_iterations: Largest number of L-BFGS iterations.

    Returns:
        Whether it converged.

    References:
        Nocedal and Wright (2006), Numerical Optimization, sections 3.3 and 7.2. McCullagh and
        Nelder (1989), Generalized Linear Models, section 2.5.
    """
    conditional = terms[0].conditional
    total = sum(float(t.weights.sum()) for t in terms)
    if total <= 0 or not any(p.requires_grad for p in conditional.parameters()):
        return True
    with evaluating([conditional]):
        learnable = LearnableParameters(conditional)
        rates = [(0.0, 0.0) if prior is None else prior.rates(n) for n in learnable.names]
        l1, l2 = ([r[k] / total for r in rates] for k in (0, 1))
        few = sum(learnable.sizes) <= _NEWTON
        rows: Any = None

        def problem(tolerance: float) -> OptimisationProblem:
            record = FitRecord(learnable, None, 0)
            return OptimisationProblem(
                learnable, rows, _Terms(terms, total), l1, l2, tolerance, record
            )

        converged = False
        if few and not any(l1):
            near = problem(_NEAR)
            run_lbfgs(near, max_iterations, False)
            converged = _newton(near, conditional)
        if not converged:
            last = problem(_GRADIENT if few else _LARGE)
            converged = run_lbfgs(last, max_iterations, False)
            converged = (few and _newton(last, conditional)) or converged
        learnable.clear()
    return converged


def derivatives(terms: Sequence[Term]) -> tuple[Floats, Floats, Floats]:
    """Return learnable parameters, gradient and Hessian of a sum of terms, all flat.

    Args:
        terms: The terms; several if conditionals share parameters.
    """
    conditional = terms[0].conditional
    with evaluating([conditional]):
        learnable, mean = LearnableParameters(conditional), _Mean(terms, 1.0)
        theta = learnable.vector()
        every = np.ones(len(theta), dtype=np.bool_)
        return theta, _gradient(learnable, mean), _hessian(learnable, mean, every)


def _newton(problem: OptimisationProblem, conditional: Conditional) -> bool:
    """Newton steps on the non-zero parameters; return whether the gradient vanishes.

    Near convergence the Hessian is not updated, since its error is negligible there.
    """
    learnable, mean = problem.learnable, problem.whole
    l1, l2 = (learnable.spread(rates) for rates in (problem.l1, problem.l2))
    theta = learnable.vector()
    kept = (l1 == 0) | (theta != 0)
    sign = np.sign(theta)
    best, before = np.inf, theta
    curvature: Floats | None = None
    for _ in range(_STEPS):
        gradient = _gradient(learnable, mean)
        subgradient = (gradient - l2 * theta - l1 * sign)[kept]
        largest = float(np.abs(subgradient).max(initial=0.0))
        if not largest < best:  # rounding, or not convex
            learnable.assign(before)
            return best <= 1e3 * _GRADIENT
        if largest <= _REST:
            return True
        if curvature is None or largest > _STEADY:
            curvature = np.diag(l2[kept]) - _hessian(learnable, mean, kept)
            if not np.isfinite(curvature).all():
                raise overflowing(v.name for v in conditional.scope if not v.is_discrete)
        before, best = theta, largest
        step = np.linalg.lstsq(curvature, subgradient, rcond=1e-12)[0]
        theta = theta.copy()
        theta[kept] += step
        if ((np.sign(theta) != sign) & (l1 > 0)).any() or not np.isfinite(theta).all():
            return best <= 1e3 * _GRADIENT
        learnable.assign(theta)
    return True


def _curvature(learnable: LearnableParameters, mean: Mean) -> Floats | None:
    """Minus the Hessian in closed form, for one conditional whose parameters are all learnable."""
    term = mean.term if isinstance(mean, _Mean) else None
    if term is None or not isinstance(term.conditional, Curved):
        return None
    if len(learnable.parameters) < len([*term.conditional.parameters()]):
        return None
    weights = term.weights.double()
    weights = weights.reshape(len(weights), -1).sum(dim=1)
    curvature = term.conditional.curvature(term.values, term.inputs, weights)
    if curvature is None or len(curvature) != sum(learnable.sizes):
        return None
    if term.earlier is not None:
        curvature = curvature + term.earlier.precision.to(curvature)
    return np.asarray((curvature / mean.total).numpy(force=True))  # type: ignore[attr-defined]


def _flat(learnable: LearnableParameters, tensors: Sequence[Tensor | None]) -> Tensor:
    """Return concatenated derivatives with respect to the finite parameters."""
    pairs = zip(tensors, learnable.parameters, strict=True)
    parts = [(torch.zeros_like(p) if t is None else t)[torch.isfinite(p.detach())]
             for t, p in pairs]  # fmt: skip
    return torch.cat([x.double() for x in parts])


def _gradient(learnable: LearnableParameters, mean: Mean, create_graph: bool = False) -> Any:
    """Return the gradient of the mean, differentiable if needed."""
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            mean(), learnable.parameters, create_graph=create_graph, allow_unused=True
        )
        flat = _flat(learnable, gradients)
    return flat if create_graph else flat.numpy()


def _hessian(learnable: LearnableParameters, mean: Mean, kept: NDArray[np.bool_]) -> Floats:
    """Return the second derivatives with respect to the selected parameters."""
    known = _curvature(learnable, mean)
    if known is not None:
        return -known[np.ix_(kept, kept)]
    gradient = _gradient(learnable, mean, create_graph=True)
    rows = []
    for k in np.flatnonzero(kept).tolist():
        second = torch.autograd.grad(
            gradient[k], learnable.parameters, retain_graph=True, allow_unused=True
        )
        rows.append(_flat(learnable, second).detach())
    hessian = torch.stack(rows) if rows else gradient.new_zeros(0, len(gradient))
    return np.asarray(hessian.numpy()[:, kept])
