"""Factor analysis, in which few hidden factors explain the correlations of a vector."""

from __future__ import annotations

import numpy as np
import torch

from pgnn.errors import ModelError
from pgnn.factors.conditionals.covariance import Diagonal
from pgnn.factors.gaussians.factor_loadings import factor_loadings, orthomax
from pgnn.limits import FINITE, check_real, whole_number
from pgnn.models.latent_factors import LatentFactors


class FactorAnalysis(LatentFactors):
    r"""Factor analysis: latent factors explain the correlations of a vector; the rest is noise.

    .. math:: z \sim N(0, I), \qquad x \mid z \sim N(W z + \mu, \mathrm{diag}(\psi))

    ``model.query("factors", rows)`` returns the posterior of the factors for complete or incomplete
    rows, ``model.scores(rows)`` its means. Complete rows are fitted by the profile likelihood of
    the variances :math:`\psi`, incomplete ones by :class:`EM`. Factors are determined up to a
    rotation, see :meth:`rotate`.

    Args:
        factors: Number of hidden factors.
        features: Number or names of the elements of the vector; derived by :meth:`fit` by default.
        weight: ``(D, factors)`` :math:`W`; learnable by default.
        mean: ``(D,)`` :math:`\mu`; learnable by default.
        noise: ``(D,)`` variances :math:`\psi`; learnable by default.
        min_variance: Lower bound on the learned variances of the noise; see :class:`Diagonal`.
        name: Name of the vector.
        latent: Name of the factors.

    Raises:
        ModelError: If a shape or size is wrong.

    References:
        Jöreskog (1967), Some contributions to maximum likelihood factor analysis. Rubin and Thayer
        (1982), EM algorithms for ML factor analysis. Barber (2012), Bayesian Reasoning and Machine
        Learning, chapter 21.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 1)) @ [[1.0, 2.0, 3.0]] + 0.1 * rng.normal(size=(500, 3))
        >>> model = FactorAnalysis(1).fit(x)
        >>> (model.weight[:, 0] / model.weight[0, 0]).round(decimals=1)
        tensor([1., 2., 3.], dtype=torch.float64)
        >>> model.query("factors", {"x": x[0]})["factors"].mean.shape
        torch.Size([1])
    """

    noise_form = Diagonal

    def rotate(self, gamma: float = 1.0, max_iterations: int = 500) -> FactorAnalysis:
        r"""Rotate the factors so that each loads on few elements; the distribution is unchanged.

        The rotation maximises the orthomax criterion,

        .. math:: \sum_k \Big( \sum_d w_{dk}^4 - \tfrac{\gamma}{D} \big(\sum_d w_{dk}^2\big)^2 \Big)

        Args:
            gamma: 1 for varimax, 0 for quartimax.
            max_iterations: Largest number of rounds.

        Returns:
            The model itself.

        References:
            Kaiser (1958), The varimax criterion for analytic rotation in factor analysis.
        """
        check_real("gamma", gamma, FINITE)
        rounds = whole_number("max_iterations", max_iterations, 1, ModelError)
        turned = self.weight @ torch.from_numpy(orthomax(self.weight.numpy(), gamma, rounds))
        with torch.no_grad():
            self._regression.weight.copy_(turned)
        return self

    def _solution(self, centred: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return factor_loadings(centred.T @ centred, self.num_factors, floor)
