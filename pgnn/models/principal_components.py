"""Probabilistic principal component analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.factors.conditionals.covariance import Spherical
from pgnn.models.latent_factors import LatentFactors


class PrincipalComponents(LatentFactors):
    r"""Probabilistic principal component analysis: latent factors with isotropic noise.

    .. math:: z \sim N(0, I), \qquad x \mid z \sim N(W z + \mu, \sigma^2 I)

    The maximum-likelihood :math:`W` spans the principal subspace, and :math:`\sigma^2` is the mean
    variance outside it. ``scores`` are posterior means, also with missing values; as the noise goes
    to zero they become the coordinates of PCA in units of standard deviations, which :meth:`whiten`
    returns; :meth:`project` returns them in the vector's units.

    Args:
        factors: Number of hidden factors.
        features: Number or names of the features; from the data if not given.
        weight: ``(D, factors)`` :math:`W`; learnable if not given.
        mean: ``(D,)`` :math:`\mu`, likewise.
        noise: The variance :math:`\sigma^2`, likewise.
        min_variance: Lower bound on the learned variance of the noise; see :class:`Diagonal`.
        name: Name of the vector.
        latent: Name of the hidden factors.

    Raises:
        ModelError: If a shape or size is wrong.

    References:
        Tipping and Bishop (1999), Probabilistic principal component analysis.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 1)) @ [[3.0, 4.0]] + 0.1 * rng.normal(size=(500, 2))
        >>> model = PrincipalComponents(1).fit(x)
        >>> model.components.abs().round(decimals=1)
        tensor([[0.6000, 0.8000]], dtype=torch.float64)
        >>> model.scores([{"x": [3.0, np.nan]}]).shape
        torch.Size([1, 1])
    """

    noise_form = Spherical

    @property
    def explained_variance(self) -> Tensor:
        """``(factors,)`` variances of the vector along the components, the largest first."""
        variance: Tensor = torch.linalg.svdvals(self.weight).square() + self.noise[0]
        return variance

    @property
    def explained_variance_ratio(self) -> Tensor:
        """``(factors,)`` these variances as fractions of the total variance."""
        return self.explained_variance / self.covariance.diagonal().sum()

    @property
    def components(self) -> Tensor:
        """``(factors, D)`` orthonormal directions, in decreasing order of variance.

        The entry of largest magnitude of each is positive.
        """
        left, _, _ = torch.linalg.svd(self.weight, full_matrices=False)
        largest = left.gather(0, left.abs().argmax(dim=0, keepdim=True))
        turned: Tensor = (left * largest.sign()).T
        return turned

    def project(self, data: Any) -> Tensor:
        """Return ``(N, factors)`` coordinates along the components, as in PCA.

        Args:
            data: See :meth:`fit`; missing values are estimated by the model.
        """
        return (self.reconstruct(data) - self.mean) @ self.components.T

    def whiten(self, data: Any) -> Tensor:
        """Return the coordinates in units of their standard deviations (unit covariance).

        Args:
            data: See :meth:`fit`.
        """
        white: Tensor = self.project(data) / self.explained_variance.sqrt()
        return white

    def _solution(self, centred: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size, k = centred.shape[1], self.num_factors
        _, deviations, right = np.linalg.svd(centred, full_matrices=False)
        variances = np.zeros(size)
        variances[: len(deviations)] = deviations**2
        noise = variances[k:].mean() if k < size else 0.0
        noise = max(float(noise), float(floor.mean()))
        scale = np.sqrt(np.maximum(variances[:k] - noise, 0.0))
        weight = np.zeros((size, k))
        rank = min(k, len(right))
        weight[:, :rank] = right[:rank].T * scale[:rank]
        return weight, np.array(noise)
