"""Normal distributions from weighted sums over rows, and their conjugate prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import AdvisedWarning, ModelError
from pgnn.factors.conditionals.covariance import Covariance
from pgnn.factors.conditionals.exponential_family import LEAST_COUNT
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.piece import Restorable
from pgnn.factors.variable import Variable
from pgnn.limits import FINITE, NOT_NEGATIVE, check_settings


@dataclass(frozen=True, eq=False)
class NormalWishart(Restorable):
    r"""A normal-inverse-Wishart prior on each mean and covariance; fits give the joint mode.

    .. math:: \mu \mid \Sigma \sim N(m, \Sigma / \kappa), \qquad
        \Sigma \sim W^{-1}(\Psi, \nu): \quad
        \hat\Sigma = \frac{\Psi + S + \kappa (\hat\mu - m)(\hat\mu - m)^\top}{n + \nu + D + 2}

    with :math:`S` the scatter about :math:`\hat\mu = (\kappa m + n \bar x) / (\kappa + n)`.
    Diagonal and spherical covariances have the same density restricted to their form. A tied one
    has one such prior and a normal prior for each mean. In a regression the coefficients have the
    prior of the mean, about zero, and count in the denominator like the mean.

    Args:
        mean: :math:`m`, a scalar or ``(D,)``.
        confidence: :math:`\kappa`, the number of rows to which the prior mean is equivalent.
        degrees: :math:`\nu`, degrees of freedom; the formula also holds for values that make the
            prior improper.
        scale: :math:`\Psi`, a scalar (times the identity), ``(D,)`` (a diagonal) or ``(D, D)``.

    Raises:
        ModelError: If the confidence is negative, or a number is not finite.

    References:
        Gelman et al. (2013), Bayesian Data Analysis, third edition, section 3.6.

    Example:
        >>> NormalWishart(confidence=1.0, degrees=4.0, scale=[1.0, 2.0]).matrix(2)
        tensor([[1., 0.],
                [0., 2.]], dtype=torch.float64)
    """

    mean: Any = 0.0
    confidence: float = 0.0
    degrees: float = 0.0
    scale: Any = 0.0

    def __post_init__(self) -> None:
        check_settings(self, confidence=NOT_NEGATIVE, degrees=FINITE)

    def location(self, size: int) -> Tensor:
        """The prior mean ``(D,)``.

        Raises:
            ModelError: If the given mean has another shape.
        """
        numbers = _finite("mean of NormalWishart", self.mean)
        if numbers.shape not in ((), (size,)):
            raise ModelError(
                f"mean of NormalWishart must have shape ({size},), got {numbers.shape}"
            )
        return torch.from_numpy(np.broadcast_to(numbers, (size,)).copy())

    def matrix(self, size: int) -> Tensor:
        """The scale as a matrix ``(D, D)``.

        Raises:
            ModelError: If the given scale has another shape, or is not symmetric with a nonnegative
                diagonal.
        """
        numbers = _finite("scale of NormalWishart", self.scale)
        if numbers.shape in ((), (size,)):
            numbers = np.diag(np.broadcast_to(numbers, (size,)))
        if numbers.shape != (size, size):
            raise ModelError(
                f"scale of NormalWishart must be a number or have shape ({size},) or "
                f"({size}, {size}), got {numbers.shape}"
            )
        if not np.allclose(numbers, numbers.T) or np.linalg.eigvalsh(numbers)[0] < -1e-9:
            raise ModelError("scale of NormalWishart must be symmetric and nonnegative")
        return torch.from_numpy(numbers.copy())


def _finite(what: str, numbers: Any) -> np.ndarray:
    values = read_numbers(what, numbers)
    if not np.isfinite(values).all():
        raise ModelError(f"{what} must be finite")
    return values


@dataclass(frozen=True)
class NormalMoments:
    r"""Sums over rows of :math:`y \approx W_k z`, with weights :math:`w_{nk}`.

    Attributes:
        form: Form of the covariances of the noise.
        count: ``(K,)`` sums of weights.
        zz: ``(K, F, F)`` sums of :math:`w z z^\top`.
        yz: ``(K, D, F)`` sums of :math:`w y z^\top`.
        yy: ``(C, *tail)`` sums of :math:`w y y^\top`, in the form of the covariance.
    """

    form: Covariance
    count: Tensor
    zz: Tensor
    yz: Tensor
    yy: Tensor

    def moved(self, x: Tensor, y: Tensor) -> NormalMoments:
        """Return the sums about zero from sums about other values.

        Args:
            x: ``(F - 1,)`` origin of the regressors without the constant, which is the last one.
            y: ``(D,)`` origin of the responses.
        """
        size = self.zz.shape[-1]
        turn = torch.eye(size, dtype=self.zz.dtype, device=self.zz.device)
        turn[:-1, -1] = x
        shift = torch.zeros_like(self.yz)
        shift[..., -1] = y
        yy = self.yy + self.form.product(self.yz, shift) + self.form.product(shift, self.yz)
        yy = yy + self.form.product(shift @ self.zz, shift)
        yz = (self.yz + shift @ self.zz) @ turn.mT
        return NormalMoments(self.form, self.count, turn @ self.zz @ turn.mT, yz, yy)

    @property
    def counted(self) -> Tensor:
        """``(K,)`` mask of configurations with positive weight."""
        return self.count > LEAST_COUNT

    def coefficients(self, confidence: float, centre: Tensor, old: Tensor, free: Tensor) -> Tensor:
        """Return optimal coefficients ``(K, D, F)``, given prior coefficients ``(D, F)``.

        Args:
            confidence: Number of rows to which the prior coefficients are equivalent.
            centre: The prior coefficients.
            old: ``(K, D, F)`` current coefficients, kept where not free.
            free: ``(F,)`` mask of coefficients that may change.
        """
        eye = torch.eye(self.zz.shape[-1], dtype=self.zz.dtype, device=self.zz.device)
        zz, yz = self.zz + confidence * eye, self.yz + confidence * centre
        new = old.clone()
        yz = yz[..., free] - old[..., ~free] @ zz[:, ~free][..., free]
        gram = zz[:, free][..., free]
        if gram.shape[-1] == 1:
            new[..., free] = torch.where(gram > 0, yz / gram.masked_fill(gram <= 0, 1.0), 0.0)
        else:
            # regressors that follow from others share their part: the shortest solution, in
            # units of each regressor, so that small ones keep theirs
            size = gram.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
            unit = size.masked_fill(size == 0, 1.0)
            inverse = torch.linalg.pinv(
                gram / unit.unsqueeze(-1) / unit.unsqueeze(-2), hermitian=True
            )
            scaled = (yz / unit.unsqueeze(-2)) @ inverse
            new[..., free] = scaled / unit.unsqueeze(-2)
        return new

    def scatter(self, w: Tensor) -> Tensor:
        """Return sums ``(C, *tail)`` of products of the errors of coefficients ``(K, D, F)``."""
        scatter = self.yy - self.form.product(self.yz, w) - self.form.product(w, self.yz)
        return scatter + self.form.product(w @ self.zz, w)

    def covariances(self, w: Tensor, prior: NormalWishart | None, centre: Tensor) -> Tensor:
        """Return optimal covariances ``(C, *tail)`` for coefficients ``w``."""
        size, terms = self.yz.shape[1:]
        scatter = self.scatter(w)
        weight = self.form.pool(self.count)
        if prior is not None:
            scatter = scatter + self.form.restrict(prior.matrix(size).to(w))
            scatter = scatter + prior.confidence * self.form.product(w - centre, w - centre)
            means = self.form.pool(torch.full_like(self.count, terms))
            extra = prior.degrees + size + 1 + means
            if bool((extra < 0).any()):
                raise ModelError(
                    f"degrees of NormalWishart must be at least {-(size + 1 + terms)} in "
                    f"{size} dimensions, got {prior.degrees}"
                )
            weight = weight + extra
        weight = weight.masked_fill(weight <= LEAST_COUNT, 1.0)
        return self.form.estimate(scatter, weight, self.floor)

    @property
    def floor(self) -> Tensor:
        """``(D,)`` lower bounds of variances, from the variance of all rows."""
        size, total = self.yz.shape[1], self.count.sum().clamp(min=LEAST_COUNT)
        mean = self.yz[..., -1].sum(dim=0) / total  # the last regressor is the constant
        second = self.form.variances(self.yy.sum(dim=0, keepdim=True), size)[0] / total
        second = second / size if self.form.shared else second
        square = mean.square().mean().expand(size) if self.form.shared else mean.square()
        variance = second - square
        rounding = 1e-14 * second
        return self.form.floor(torch.where(variance > rounding, variance, 0.0))

    def floored(self, natural: Tensor) -> Tensor:
        """Return a ``(C,)`` mask of covariances at the lower bound in some direction."""
        return self.form.at_floor(natural, self.floor) & (self.form.pool(self.count) > LEAST_COUNT)


def check_prior(prior: Any, kind: type, name: str) -> None:
    """Check that a prior has the type that a conditional accepts.

    Raises:
        ModelError: If the prior has another type.
    """
    if prior is not None and not isinstance(prior, kind):
        raise ModelError(
            f"the prior of the {name} conditional must be a {kind.__name__}, got "
            f"{type(prior).__name__}"
        )


def normal_log_prior(
    prior: NormalWishart, error: Tensor, factor: Tensor, num_configurations: int
) -> Tensor:
    r"""Return the log density of a prior, up to a constant.

    Args:
        prior: The prior.
        error: ``(K, D, F)`` coefficients minus their prior mean.
        factor: ``(C, D, D)`` Cholesky factors of the covariances.
        num_configurations: ``K``.
    """
    size, terms = error.shape[1:]
    log_det = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    whitened = torch.linalg.solve_triangular(factor, error, upper=False)
    inside = torch.cholesky_solve(prior.matrix(size).to(factor).expand_as(factor), factor)
    trace = inside.diagonal(dim1=-2, dim2=-1).sum()
    each = terms * num_configurations / len(factor)
    exponent = (prior.degrees + size + 1 + each) * log_det.sum()
    total: Tensor = prior.confidence * whitened.square().sum() + trace + exponent
    return -0.5 * total


def floor_doubt(child: Variable, moments: NormalMoments, scale: Tensor) -> AdvisedWarning | None:
    """Return a warning about covariances at their lower bound; None if there are none.

    Args:
        child: The child variable.
        moments: Sums from which the covariances were estimated.
        scale: Unconstrained parameters of the covariances.
    """
    size, form = moments.yz.shape[1], moments.form
    raw = scale.detach().double().reshape(-1, *form.unconstrained_tail(size))
    on_floor = moments.floored(form.constrain(raw, size)).nonzero()[:, 0].tolist()
    if not on_floor:
        return None
    which = "" if form.tied else f" in {len(on_floor)} of {len(raw)} configurations"
    return AdvisedWarning(
        f"the variance of {child.name!r} is at its lower bound{which}: it collapsed onto few "
        "rows, or elements are functions of others",
        "use a prior (NormalWishart), fewer states, or another min_variance= of the covariance's "
        "form",
    )


def update_scale(
    scale: nn.Parameter,
    moments: NormalMoments,
    coefficients: Tensor,
    prior: NormalWishart | None,
    centre: Tensor,
) -> None:
    """Assign unconstrained covariances where statistics determine them."""
    natural = moments.covariances(coefficients, prior, centre)
    known = moments.form.pool(moments.count) > LEAST_COUNT
    if prior is not None and bool(prior.matrix(coefficients.shape[1]).any()):
        known = torch.ones_like(known)
    tail = moments.form.unconstrained_tail(coefficients.shape[1])
    new = scale.detach().reshape(-1, *tail).double().clone()
    new[known] = moments.form.unconstrain(natural[known])
    scale.copy_(new.reshape(scale.shape))
