"""Probabilistic principal component analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.factors.conditionals.covariance import Spherical
from pgnn.models.latent_factors import LatentFactors


class PrincipalComponents(LatentFactors):
    r"""Probabilistic principal component analysis: factors with the same noise in all directions.

    .. math:: z \sim N(0, I), \qquad x \mid z \sim N(W z + \mu, \sigma^2 I)

    The most likely :math:`W` spans the principal subspace, and :math:`\sigma^2` is the mean of the
    variances outside of it. ``scores`` are posterior means, with any numbers missing; as the noise
    goes to zero they become the coordinates of PCA in units of their deviations, which
    :meth:`whiten` returns, and :meth:`project` in the vector's own.

    Args:
        factors: How many hidden numbers there are.
        features: Number or names of those of the vector; :meth:`fit` finds them if not given.
        weight: ``(D, factors)`` :math:`W`; learnable if not given.
        mean: ``(D,)`` :math:`\mu`, likewise.
        noise: The variance :math:`\sigma^2`, likewise.
        min_variance: Least variance of the noise that is learned; see :class:`Diagonal`.
        name: Name of the vector.
        latent: Of the hidden numbers.

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
        """``(factors,)`` these variances as shares of the sum over all directions."""
        return self.explained_variance / self.covariance.diagonal().sum()

    @property
    def components(self) -> Tensor:
        """``(factors, D)`` orthonormal directions, the most variance first.

        The largest number of each is positive.
        """
        left, _, _ = torch.linalg.svd(self.weight, full_matrices=False)
        largest = left.gather(0, left.abs().argmax(dim=0, keepdim=True))
        turned: Tensor = (left * largest.sign()).T
        return turned

    def project(self, data: Any) -> Tensor:
        """Return ``(N, factors)`` coordinates along the components, as PCA has them.

        Args:
            data: As for :meth:`fit`; missing numbers are estimated by the model.
        """
        return (self.reconstruct(data) - self.mean) @ self.components.T

    def whiten(self, data: Any) -> Tensor:
        """Return the coordinates in units of their deviations: of covariance one over the rows.

        Args:
            data: As for :meth:`fit`.
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
