"""Linear regressions as conditionals, one for each configuration of discrete parents."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from pgnn.errors import AdvisedWarning, EvidenceError, ModelError
from pgnn.factors.conditionals.covariance import Covariance, log_normalizer, whitened_square
from pgnn.factors.conditionals.emission import Emission, read_parameter
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.factors.conditionals.full_covariance import Full, completions, patterns
from pgnn.factors.conditionals.gaussian import factors, read_scale
from pgnn.factors.conditionals.normal_wishart import (
    NormalMoments,
    NormalWishart,
    check_prior,
    floor_doubt,
    normal_log_prior,
    update_scale,
)
from pgnn.factors.conditionals.parameter_prior import ParameterPrior
from pgnn.factors.conditionals.penalised_quadratic import penalised_coefficients
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.finite import all_finite, has_nan
from pgnn.factors.piece import Settings, learnable_zeros
from pgnn.factors.variable import Variable

_ROUNDS = 200
"""Most turns of coefficients and covariances, under a prior of parameters."""
_AT_REST = 1e-10
"""Largest move of the logs of deviations that is none."""


class LinearGaussian(Emission):
    r"""A linear regression on real parents for each configuration of discrete parents.

    .. math:: p(y \mid j, x) = N(y; W_j x + b_j, \Sigma_j)

    With the previous observation as real parent this is an autoregressive emission; with a hidden
    real parent, factor analysis. A vector :math:`y` may be partially observed, but real parents
    must be observed if any element of :math:`y` is.

    Args:
        child: Real variable of shape ``()`` or ``(D,)``.
        parents: Discrete and real variables of known shape, in any order; the real ones have ``F``
            elements in total, flattened and concatenated in order.
        weight: ``(K1, ..., Kn, F)`` or ``(K1, ..., Kn, D, F)``; learnable zeros by default.
        bias: ``(K1, ..., Kn)`` or ``(K1, ..., Kn, D)``; learnable zeros by default.
        covariance: See ``Gaussian``.
        form: See ``Gaussian``.

    Attributes:
        weight: :math:`W`, a parameter.
        bias: :math:`b`, a parameter.
        scale: Unconstrained parameters of the covariances, as in ``Gaussian``.
        origin: ``(F + D,)`` values of parents and child subtracted in statistics, which keeps
            accuracy for rows far from zero; None for zero.

    Raises:
        ModelError: If a variable has another kind, a shape is wrong or a covariance is singular.

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, definition 5.14 (conditional
        linear Gaussian) and section 17.2.4 (estimation).

    Example:
        >>> x, y = Variable("x"), Variable("y")
        >>> p_y = LinearGaussian(y, [x], weight=[2.0], bias=1.0, covariance=0.25)
        >>> p_y.distribution({"x": torch.tensor([0.0, 1.0])}).mean
        tensor([1., 3.], dtype=torch.float64)
    """

    takes_reals = True
    is_linear_gaussian = True

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        weight: Any = None,
        bias: Any = None,
        covariance: Any = None,
        form: Covariance | None = None,
    ) -> None:
        super().__init__(child, parents)
        self.form = Full() if form is None else form
        if len(child.shape) > 1:
            raise ModelError(
                f"LinearGaussian needs a child of shape () or (D,), {child.name!r} has "
                f"{child.shape}"
            )
        K = self.configurations
        self.num_features = sum(v.num_elements for v in self.parents if not v.is_discrete)
        shape = (*K, *child.shape)
        self.weight = _numbers("weight", child, weight, (*shape, self.num_features))
        self.bias = _numbers("bias", child, bias, shape)
        self.scale = read_scale(child, covariance, self.form, self.form.lead(K))
        self.register_buffer("origin", None)

    origin: Tensor | None

    def settings(self) -> Settings:
        """Return the variables, and the form of the covariances."""
        return super().settings() | {"form": self.form}

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        origin = state_dict.get(f"{prefix}origin")
        self.origin = None if origin is None else torch.zeros_like(origin)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def covariance(self) -> Tensor:
        """Matrices ``(K1, ..., Kn, D, D)``, or variances ``(K1, ..., Kn)``; differentiable."""
        factor = self._factor(self.scale)
        matrices = (factor @ factor.mT).expand(self.num_configurations, -1, -1)
        return matrices.reshape((*self.configurations, *2 * self.child.shape))

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the normal distributions at the parents' states and values."""
        index = self._index(parents)
        values = self._values(parents)
        weight, bias = (p[index] if index else p for p in (self.weight, self.bias))
        scale = self.scale if self.form.tied or not index else self.scale[index]
        mean = bias
        reals = [v for v in self.parents if not v.is_discrete]
        if reals:
            x = torch.cat([_flat(v, values[v.name]).to(bias) for v in reals], dim=-1)
            x = x.unsqueeze(-2) if self.child.shape else x
            mean = bias + (weight * x).sum(dim=-1)
        if not self.child.shape:
            return Normal(mean, self.form.cholesky(scale, 1)[..., 0, 0])
        tail = self.form.unconstrained_tail(self.size)
        return self.form.distribution(mean, scale.expand(*mean.shape[:-1], *tail))

    def regression(self) -> Regression:
        """Return weights, biases and factors of covariances; see the base class."""
        weight = self.weight.reshape(*self.configurations, self.size, self.num_features)
        bias = self.bias.reshape(*self.configurations, self.size)
        return Regression(weight, bias, factors(self, self.form, self.scale))

    def prepare(self, values: Mapping[Hashable, Tensor]) -> None:
        """Set :attr:`origin` to the means of the observations; see the base class."""
        self.origin = torch.cat([
            _mean(values.get(v.name), v).to(self._device)
            for v in (*(p for p in self.parents if not p.is_discrete), self.child)
        ])  # fmt: skip

    def _about(self, coefficients: Tensor, origin: Tensor | None, sign: float = 1.0) -> Tensor:
        """Return coefficients relative to an origin; the opposite sign inverts this."""
        if origin is None:
            return coefficients
        x, y = self._split(origin)
        moved = coefficients.clone()
        moved[..., -1] += sign * (coefficients[..., :-1] @ x - y)
        return moved

    def _placed(self, statistics: Statistics, prior: Any) -> tuple[NormalMoments, Tensor | None]:
        """Return sums and their origin, which is zero if a bias is fixed or has a prior."""
        moments = NormalMoments(self.form, *statistics)
        flat = isinstance(prior, ParameterPrior) and prior.rates("bias") == (0.0, 0.0)
        if self.origin is None or (self.bias.requires_grad and (prior is None or flat)):
            return moments, self.origin
        return moments.moved(*self._split(self.origin)), None

    def _split(self, origin: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parts of the parents and of the child."""
        return origin[: self.num_features].double(), origin[self.num_features :].double()

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return counts and sums of products of :math:`z = (x, 1)` and :math:`y` about the origin.

        Cost:
            ``O(N K (D + F)^2)``; see ``Gaussian`` for partially observed vectors.
        """
        parent_values = self._read(values)
        y = parent_values[self.child.name].reshape(-1, self.size)
        w = self._weights(weights, len(y), self.configurations)
        features = self._features(parent_values)
        if self.origin is not None:
            x, origin = self._split(self.origin)
            features, y = features - x, y - origin
        z = torch.cat([features, torch.ones_like(y[:, :1])], dim=1)
        whole = all_finite(y)
        if not whole:
            kept = ~y.isnan().all(dim=1)
            y, w, z = y[kept], w[kept], z[kept]
        self._check_features(z)
        _, zz = Full().moments(z, w, z, z)
        if whole:
            yz, yy = self._products(y, z, w)
        else:
            hole = y.isnan().any(dim=1)
            yz, yy = self._products(y[~hole], z[~hole], w[~hole])
            more = self._expected_products(y[hole], z[hole], w[hole])
            yz, yy = yz + more[0], yy + more[1]
        return w.sum(dim=0), zz, yz, yy

    def _products(self, y: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return sums over complete rows."""
        _, yy = self.form.moments(y, w, y, y)
        return torch.stack([(y * column.unsqueeze(1)).t() @ z for column in w.t()]), yy

    def _expected_products(self, y: Tensor, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return expected sums over partially observed rows."""
        coefficients = self._about(self._coefficients().detach().double(), self.origin)
        mean = torch.einsum("kdf,nf->nkd", coefficients, z)
        factor = self._factor(self.scale.detach().double())
        yz = torch.zeros_like(coefficients)
        yy = y.new_zeros(len(yz), self.size, self.size)
        for rows, filled, spread in completions(y, mean, factor @ factor.mT):
            weight = w[rows]
            yz = yz + torch.einsum("nk,nkd,nf->kdf", weight, filled, z[rows])
            yy = yy + torch.einsum("nk,nki,nkj->kij", weight, filled, filled)
            yy = yy + weight.sum(dim=0)[:, None, None] * spread
        eye = torch.eye(self.size, dtype=y.dtype, device=y.device)
        return yz, self.form.product(yy, eye.expand_as(yy))

    @torch.no_grad()
    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set coefficients by least squares, then covariances; see the base class.

        Weights and biases are learned together, if both are learnable.

        Args:
            statistics: The result of :meth:`statistics`.
            prior: A :class:`NormalWishart`, with biases about its mean and weights about 0; or a
                :class:`ParameterPrior`, such as :class:`NormalPrior` for the weights.

        Raises:
            ModelError: If the prior has another type.
        """
        if isinstance(prior, ParameterPrior):
            self._maximize_penalised(*self._placed(statistics, prior), prior)
            return
        check_prior(prior, NormalWishart, "LinearGaussian")
        moments, origin = self._placed(statistics, prior)
        centre = self._prior_coefficients(prior)
        confidence = 0.0 if prior is None else prior.confidence
        old = self._about(self._coefficients().double(), origin)
        free = torch.tensor(
            [self.weight.requires_grad] * self.num_features + [self.bias.requires_grad]
        ).to(self._device)
        if bool(free.any()):
            new = moments.coefficients(confidence, centre, old, free)
            known = (moments.counted | (confidence > 0))[:, None, None]
            old = torch.where(known, new, old)
            self._write(self._about(old, origin, -1.0))
        if self.scale.requires_grad:
            update_scale(self.scale, moments, old, prior, centre)

    def _write(self, new: Tensor) -> None:
        """Assign the coefficients to the parameters."""
        self.weight.copy_(new[..., :-1].reshape(self.weight.shape))
        self.bias.copy_(new[..., -1].reshape(self.bias.shape))

    def _maximize_penalised(
        self, moments: NormalMoments, origin: Tensor | None, prior: ParameterPrior
    ) -> None:
        """Alternate updates of coefficients and covariances until the joint mode."""
        terms = self.num_features * [prior.rates("weight")] + [prior.rates("bias")]
        l1, l2 = np.array(terms).T
        free = np.array([self.weight.requires_grad] * self.num_features + [self.bias.requires_grad])
        centre = self._prior_coefficients(None)
        counted = moments.counted.tolist()
        before = torch.full_like(self.scale, math.inf).double()
        for _ in range(_ROUNDS if self.scale.requires_grad else 1):
            factor = self._factor(self.scale.double())
            precision = torch.cholesky_inverse(factor).expand(self.num_configurations, -1, -1)
            old = self._about(self._coefficients().double(), origin)
            new = old.clone()
            for k in range(self.num_configurations) if free.any() else ():
                if counted[k]:
                    zz, yz, p, penalty = (
                        x[k].numpy(force=True) for x in (moments.zz, moments.yz, precision, old)
                    )
                    new[k] = torch.from_numpy(
                        penalised_coefficients(zz, yz, p, l1, l2, penalty, free)
                    )
            self._write(self._about(new, origin, -1.0))
            if self.scale.requires_grad:
                update_scale(self.scale, moments, new, None, centre)
            now = self.scale.detach().double().clone()
            moved, before = float((now - before).abs().max()), now
            if moved <= _AT_REST:
                break

    def accepts(self, prior: Any) -> bool:
        """Return whether a prior applies to learnable parameters of this conditional."""
        return isinstance(prior, ParameterPrior) and prior.applies(self)

    def doubt(self, statistics: Statistics) -> AdvisedWarning | None:
        """Warn if a learnable covariance is at its lower bound; see the base class."""
        if not self.scale.requires_grad:
            return None
        return floor_doubt(self.child, NormalMoments(self.form, *statistics), self.scale)

    def log_prior(self, prior: Any) -> Tensor:
        """Return the log density of a prior, up to a constant; zero without one."""
        if isinstance(prior, ParameterPrior):
            return prior.log_density(self)
        check_prior(prior, NormalWishart, "LinearGaussian")
        if prior is None:
            return self.bias.new_zeros(())
        error = self._coefficients() - self._prior_coefficients(prior).to(self.bias)
        return normal_log_prior(prior, error, self._factor(self.scale), self.num_configurations)

    def _prior_coefficients(self, prior: NormalWishart | None) -> Tensor:
        centre = torch.zeros(self.size, self.num_features + 1, dtype=torch.float64)
        if prior is not None:
            centre[:, -1] = prior.location(self.size)
        return centre.to(self._device)

    def _coefficients(self) -> Tensor:
        """Return ``(K, D, F + 1)`` weights followed by biases."""
        weight = self.weight.reshape(self.num_configurations, self.size, self.num_features)
        return torch.cat([weight, self.bias.reshape(-1, self.size, 1)], dim=2)

    def _factor(self, scale: Tensor) -> Tensor:
        raw = scale.reshape(-1, *self.form.unconstrained_tail(self.size))
        return self.form.cholesky(raw, self.size)

    def _features(self, values: Mapping[Hashable, Tensor]) -> Tensor:
        """Return ``(N, F)`` values of the real parents."""
        rows = len(values[self.child.name])
        reals = [v for v in self.parents if not v.is_discrete]
        flat = [values[v.name].reshape(rows, v.num_elements) for v in reals]
        if len(flat) == 1:
            return flat[0]
        return torch.cat(flat, dim=1) if flat else values[self.child.name].new_zeros(rows, 0)

    def _check_features(self, x: Tensor) -> None:
        if has_nan(x):
            names = [v.name for v in self.parents if not v.is_discrete]
            raise EvidenceError(
                f"{self.child.name!r} was observed in a row in which one of its real parents "
                f"{names} was not",
                "mark it as not observed there too (NaN), or fill the parent",
            )

    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        y = x
        features = self._features(values).to(y)
        kept = ~y.isnan().all(dim=1)
        self._check_features(features[kept])
        coefficients = self._coefficients()
        factor = self._factor(self.scale)
        if not bool(y.isnan().any()):
            return _log_density(y, features, coefficients, factor)
        matrices = factor @ factor.mT
        table = y.new_zeros(len(y), len(coefficients))
        for observed, rows in patterns(y):
            if len(observed):
                cholesky = torch.linalg.cholesky(matrices[:, observed][:, :, observed])
                part = _log_density(
                    y[rows][:, observed], features[rows], coefficients[:, observed], cholesky
                )
                table = table.index_copy(0, rows, part)
        return table


def _mean(values: Tensor | None, v: Variable) -> Tensor:
    """Return ``(D,)`` means of observed values of a variable; zeros if none was observed."""
    if values is None:
        return torch.zeros(v.num_elements, dtype=torch.float64)
    x = values.detach().double().reshape(-1, v.num_elements)
    observed = x.isfinite()
    return x.masked_fill(~observed, 0.0).sum(dim=0) / observed.sum(dim=0).clamp_min(1)


def _flat(v: Variable, value: Tensor) -> Tensor:
    """Return values ``(*batch, F)`` of a real parent."""
    return value.reshape(*value.shape[: value.dim() - len(v.shape)], v.num_elements)


def _log_density(y: Tensor, x: Tensor, coefficients: Tensor, factor: Tensor) -> Tensor:
    """Return log densities ``(N, K)`` of complete rows, whitening residuals by a matrix product."""
    eye = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
    inverse = torch.linalg.solve_triangular(factor, eye, upper=False)
    inverse = inverse.expand(len(coefficients), -1, -1)
    white = inverse @ coefficients
    matrix = torch.cat([inverse, -white[..., :-1]], dim=2)
    square = whitened_square(torch.cat([y, x], dim=1), matrix, white[..., -1])
    return log_normalizer(factor.diagonal(dim1=-2, dim2=-1).log()) - 0.5 * square


def _numbers(name: str, child: Variable, value: Any, shape: tuple[int, ...]) -> nn.Parameter:
    if value is None and 0 in shape:
        value = torch.zeros(shape)
    if value is None:
        return learnable_zeros(f"{name} of {child.name!r}", shape)
    return nn.Parameter(read_parameter(name, child, value, shape), requires_grad=False)
