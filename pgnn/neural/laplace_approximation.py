"""Laplace approximations of the posterior of the last layer of a network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.limits import POSITIVE, check_real


class Curvature(nn.Module, ABC):
    r"""The posterior precision of the weights ``(K, F)`` of a layer: curvature of loss and prior.

    .. math:: P = \sum_n \Lambda_n \otimes \phi_n \phi_n^\top + \delta I

    Args:
        features: ``(N, F)`` features :math:`\phi`.
        outputs: ``(N, K, K)`` Hessians :math:`\Lambda` of the loss with respect to the outputs.
        precision: Precision :math:`\delta` of the prior.
    """

    @abstractmethod
    def __init__(self, features: Tensor, outputs: Tensor, precision: float) -> None:
        super().__init__()

    @abstractmethod
    def covariance(self, features: Tensor) -> Tensor:
        """Return ``(B, K, K)`` covariances of the outputs at features ``(B, F)``."""

    @abstractmethod
    def log_det(self) -> Tensor:
        """Return the log determinant of the precision."""


class FullCurvature(Curvature):
    """The full precision matrix, at a cost of ``(K F)^3``; see the base class."""

    root: Tensor

    def __init__(self, features: Tensor, outputs: Tensor, precision: float) -> None:
        super().__init__(features, outputs, precision)
        number, k = features.shape[1], outputs.shape[1]
        blocks = torch.einsum("nkl,nf,ng->kflg", outputs, features, features)
        matrix = blocks.reshape(k * number, k * number)
        self.size = (k, number)
        root = torch.linalg.cholesky(matrix + precision * torch.eye(k * number).to(matrix))
        self.register_buffer("root", root)

    def covariance(self, features: Tensor) -> Tensor:
        """See the base class."""
        k, number = self.size
        eye = torch.eye(k).to(features)
        jacobian = torch.einsum("kl,bf->bklf", eye, features).reshape(-1, k * number)
        white = torch.linalg.solve_triangular(self.root, jacobian.T, upper=False)
        white = white.reshape(k * number, len(features), k)
        return torch.einsum("ibk,ibl->bkl", white, white)

    def log_det(self) -> Tensor:
        """See the base class."""
        total: Tensor = 2 * self.root.diagonal().log().sum()
        return total


class KroneckerCurvature(Curvature):
    r"""The Kronecker-factored approximation, which averages both factors separately.

    .. math:: P \approx N \, \bar\Lambda \otimes \overline{\phi \phi^\top} + \delta I

    It is exact if all :math:`\Lambda_n` are equal, as in regression. See the base class.

    References:
        Martens and Grosse (2015), Optimizing neural networks with Kronecker-factored approximate
        curvature; Ritter, Botev and Barber (2018), A scalable Laplace approximation for neural
        networks.
    """

    inner: Tensor
    outer: Tensor
    values: Tensor

    def __init__(self, features: Tensor, outputs: Tensor, precision: float) -> None:
        super().__init__(features, outputs, precision)
        inner, inner_axes = torch.linalg.eigh(features.T @ features)
        outer, outer_axes = torch.linalg.eigh(outputs.mean(0))
        both = outer.clamp_min(0)[:, None] * inner.clamp_min(0)
        self.register_buffer("inner", inner_axes)
        self.register_buffer("outer", outer_axes)
        self.register_buffer("values", both + precision)  # (K, F)

    def covariance(self, features: Tensor) -> Tensor:
        """See the base class."""
        spread = (features @ self.inner).square() @ (1 / self.values).T  # (B, K)
        return torch.einsum("kj,bj,lj->bkl", self.outer, spread, self.outer)

    def log_det(self) -> Tensor:
        """See the base class."""
        total: Tensor = self.values.log().sum()
        return total


class LaplaceApproximation(nn.Module):
    r"""The posterior predictive of a network, from a normal posterior of its last layer.

    .. math:: p(w \mid \text{data}) \approx N(w^*, P^{-1}), \qquad P = \sum_n J_n^\top \Lambda_n
        J_n + \delta I

    with the Gauss-Newton curvature. The network must have been fitted with a normal prior of
    precision :math:`\delta` on its last layer (``l2`` of a learner). In regression with fixed
    features, the posterior is exact. The module can replace the network.

    Args:
        body: The network without its last layer.
        last: The last layer.
        scale: Standard deviation of the noise of a real child; the child is discrete by default.
        precision: Precision :math:`\delta` of the prior of each weight and bias.
        curvature: :class:`FullCurvature` or :class:`KroneckerCurvature`.

    References:
        MacKay (1992), The evidence framework applied to classification networks; Daxberger et al.
        (2021), Laplace redux, sections 3 and 4.

    Example:
        >>> x, body, last = torch.randn(20, 2), nn.Linear(2, 8), nn.Linear(8, 3)
        >>> laplace = LaplaceApproximation(body, last).learn(x)
        >>> careful, plain = laplace(100 * x).softmax(-1), last(body(100 * x)).softmax(-1)
        >>> bool((careful.amax(-1) <= plain.amax(-1)).all())
        True
    """

    def __init__(
        self, body: nn.Module, last: nn.Linear, *, scale: float | None = None,
        precision: float = 1.0, curvature: type[Curvature] = KroneckerCurvature,
    ) -> None:  # fmt: skip
        super().__init__()
        if not isinstance(last, nn.Linear):
            raise ModelError(f"the last layer must be nn.Linear, got {type(last).__name__}")
        check_real("precision", precision, POSITIVE)
        if scale is not None:
            check_real("scale", scale, POSITIVE)
        self.body, self.last, self.scale, self.precision = body, last, scale, float(precision)
        self.kind = curvature
        self._curvature: Curvature | None = None

    @property
    def curvature(self) -> Curvature:
        """The posterior precision of the weights.

        Raises:
            ModelError: Before :meth:`learn`.
        """
        if self._curvature is None:
            raise ModelError("the posterior of the last layer is not set", "call learn(x) first")
        return self._curvature

    def learn(self, x: Tensor) -> LaplaceApproximation:
        """Compute the posterior precision from the training inputs; it does not depend on labels.

        Args:
            x: ``(N, ...)`` inputs of the body.
        """
        with torch.no_grad():
            features = self._features(x)
            outputs = self.last(features)
            k = outputs.shape[-1]
            if self.scale is None:
                probs = outputs.softmax(-1)
                curve = torch.diag_embed(probs) - probs[:, :, None] * probs[:, None]
            else:
                curve = (torch.eye(k) / self.scale**2).to(outputs).expand(len(x), k, k)
            self._curvature = self.kind(self._with_one(features), curve, self.precision)
        return self

    def covariance(self, x: Tensor) -> Tensor:
        """Return ``(B, K, K)`` covariances of the outputs, without the noise of a child."""
        return self.curvature.covariance(self._with_one(self._features(x)))

    def forward(self, x: Tensor) -> Tensor:
        r"""Return logits for a discrete child, or :class:`~pgnn.NormalHead` inputs for a real one.

        Logits are divided by :math:`\sqrt{1 + \pi v / 8}`, where :math:`v` is their variance. A
        real child has a mean and a standard deviation (before the softplus), including the noise.
        """
        curvature, features = self.curvature, self._features(x)
        mean: Tensor = self.last(features)
        spread = curvature.covariance(self._with_one(features)).diagonal(dim1=-2, dim2=-1)
        if self.scale is None:
            return mean / (1 + math.pi / 8 * spread).sqrt()
        deviation = (spread + self.scale**2).sqrt()
        return torch.cat([mean, deviation + (-(-deviation).expm1()).log()], dim=-1)

    def log_evidence(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Return the log marginal likelihood of all data, ``()``.

        .. math:: \log p(y \mid x) \approx \log p(y \mid x, w^*) + \log p(w^*) +
            \tfrac{D}{2} \log 2\pi - \tfrac12 \log \det P

        It serves to compare networks and precisions of the prior.

        Args:
            x: ``(N, ...)`` inputs.
            y: ``(N,)`` states, or ``(N, K)`` reals.
        """
        outputs = self.last(self.body(x))
        if self.scale is None:
            fit = outputs.log_softmax(-1).gather(1, y[:, None].long()).sum()
        else:
            away = (y - outputs) / self.scale
            constant = 2 * math.log(self.scale) + math.log(2 * math.pi)
            fit = -0.5 * (away.square() + constant).sum()
        weights = torch.cat([p.flatten() for p in self.last.parameters()])
        prior = 0.5 * (len(weights) * math.log(self.precision)) - 0.5 * self.precision * (
            weights.square().sum()
        )
        evidence: Tensor = fit + prior - 0.5 * self.curvature.log_det()
        return evidence

    def _features(self, x: Tensor) -> Tensor:
        """Return the features of the body."""
        features: Tensor = self.body(x)
        if features.dim() != 2 or features.shape[1] != self.last.in_features:
            raise ModelError(
                f"the body must return (B, {self.last.in_features}) for the last layer, got "
                f"{tuple(features.shape)}"
            )
        return features

    def _with_one(self, features: Tensor) -> Tensor:
        """Append a one for the bias, if there is one."""
        biases = len([*self.last.parameters()]) - 1
        return torch.cat([features, features.new_ones(len(features), biases)], dim=1)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Make room for the curvature of a module that had learned it."""
        if self._curvature is None and any(
            n.startswith(f"{prefix}_curvature.") for n in state_dict
        ):
            weight, k = self.last.weight, self.last.out_features
            features = self._with_one(weight.new_zeros(1, self.last.in_features))
            self._curvature = self.kind(features, weight.new_zeros(1, k, k), 1.0)
        super()._load_from_state_dict(state_dict, prefix, *rest)
