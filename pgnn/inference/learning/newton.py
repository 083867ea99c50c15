"""Newton's method for the parameters of a conditional: gradients, Hessians, last steps of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import overflowing
from pgnn.factors.conditionals.curved import Curved
from pgnn.inference.learning.optimisation_problem import LearnableParameters, Mean, PenalizedMean
from pgnn.inference.learning.term import MeanOfTerms, Term, evaluating

Floats = NDArray[np.float64]

_STEPS = 12
_STEADY = 1e-5
"""Largest derivative at which the curvature is not recomputed."""
_REST = 1e-14
"""Largest derivative that is treated as zero."""


def newton(problem: PenalizedMean, tolerance: float, names: Sequence[Any]) -> bool:
    """Take Newton steps on the non-zero parameters; return whether the gradient vanishes.

    Near convergence the Hessian is not updated, since its error is negligible there.

    Args:
        problem: The problem at the result of L-BFGS.
        tolerance: Largest derivative that counts as zero where rounding ends the steps.
        names: Names of the real variables, for a message.

    Raises:
        DataError: If the curvature overflows.
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
            return best <= tolerance
        if largest <= _REST:
            return True
        if curvature is None or largest > _STEADY:
            curvature = np.diag(l2[kept]) - _hessian(learnable, mean, kept)
            if not np.isfinite(curvature).all():
                raise overflowing(names)
        before, best = theta, largest
        step = np.linalg.lstsq(curvature, subgradient, rcond=1e-12)[0]
        theta = theta.copy()
        theta[kept] += step
        if ((np.sign(theta) != sign) & (l1 > 0)).any() or not np.isfinite(theta).all():
            return best <= tolerance
        learnable.assign(theta)
    return True


def derivatives(terms: Sequence[Term]) -> tuple[Floats, Floats, Floats]:
    """Return learnable parameters, gradient and Hessian of a sum of terms, all flat.

    Args:
        terms: The terms; several if conditionals share parameters.
    """
    conditional = terms[0].conditional
    with evaluating([conditional]):
        learnable, mean = LearnableParameters(conditional), MeanOfTerms(terms, 1.0)
        theta = learnable.vector()
        every = np.ones(len(theta), dtype=np.bool_)
        return theta, _gradient(learnable, mean), _hessian(learnable, mean, every)


def _curvature(learnable: LearnableParameters, mean: Mean) -> Floats | None:
    """Minus the Hessian in closed form, for one conditional whose parameters are all learnable."""
    term = mean.single if isinstance(mean, MeanOfTerms) else None
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
