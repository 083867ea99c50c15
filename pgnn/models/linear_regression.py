"""Linear regression, ridge regression and the lasso."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.conditionals.parameter_prior import ParameterPrior
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.models.regression import Parents, Regression


class LinearRegression(Regression):
    r"""Linear regression: least squares, or ridge and lasso by a prior.

    .. math:: p(y \mid x) = N(y; W x + b, \Sigma)

    With ``prior=NormalPrior(s)`` this is ridge regression, with ``LaplacePrior(s)`` the lasso. For
    noise variance :math:`\sigma^2` the penalties relative to half the sum of squared errors are

    .. math:: \frac{\sigma^2}{2 s^2} \sum w^2, \qquad \frac{\sigma^2}{s} \sum |w|.

    There is a separate regression for each configuration of discrete parents.

    Args:
        child: See :class:`Regression`; a scalar or a vector.
        parents: See :class:`Regression`.
        prior: Prior on the weights; flat if not given.
        noise: Variance, or covariance matrix, of the noise; learned if not given.

    Raises:
        ModelError: See :class:`Regression`.

    Example:
        >>> rows = {"rooms": [1.0, 2.0, 3.0], "price": [2.0, 3.0, 4.5]}
        >>> model = LinearRegression("price").fit(rows, progress=False)
        >>> model.coefficients().round(4)
               weight
        rooms  1.2500
        bias   0.6667
    """

    def __init__(
        self,
        child: Hashable | Variable,
        parents: Parents = None,
        prior: ParameterPrior | None = None,
        noise: Any = None,
    ) -> None:
        self.noise = noise
        super().__init__(child, parents, LinearGaussian, prior)

    def _made(self, child: Variable, parents: list[Variable]) -> Conditional:
        return LinearGaussian(child, parents, covariance=self.noise)

    def settings(self) -> Settings:
        """Return the variables, the prior and the noise."""
        conditional = self.conditional
        noise = None if self.noise is None else torch.as_tensor(self.noise, dtype=torch.float64)
        return {
            "child": conditional.child,
            "parents": conditional.parents,
            "prior": self.prior,
            "noise": noise,
        }

    def _arguments(self, parents: Any) -> dict[str, Any]:
        arguments = {"prior": self.prior, "noise": self.noise}
        return {"child": self._child, "parents": parents, **arguments}
