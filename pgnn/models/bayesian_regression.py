"""Bayesian linear regression."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import torch

from pgnn.errors import Unsupported
from pgnn.factors.conditionals.bayesian_linear import BayesianLinear
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.models.regression import Parents, Regression

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner
    from pgnn.inference.posterior import Posterior


class BayesianRegression(Regression):
    r"""Bayesian linear regression, whose predictions include the uncertainty of the weights.

    .. math:: p(y \mid x, \text{data}) = N\big(y; m^\top z, \sigma^2 + z^\top S z\big), \quad
        z = (x, 1)

    ``model.posterior`` is the posterior of the weights and, last, the bias. See
    :class:`BayesianLinear` for prior and evidence.

    Args:
        child: See :class:`Regression`; a scalar variable.
        parents: See :class:`Regression`; real variables.
        scale: Prior standard deviation of the weights; by default the one of the largest evidence.
        noise: Variance of the noise, with the same default.

    Raises:
        ModelError: See :class:`Regression`.

    References:
        MacKay (1992), Bayesian interpolation.

    Example:
        >>> rows = {"x": [-1.0, 0.0, 1.0], "y": [-2.0, 0.0, 2.0]}
        >>> model = BayesianRegression("y", "x", scale=1.0, noise=1.0).fit(rows, progress=False)
        >>> answer = model.query("y", {"x": [0.0, 3.0]})["y"]
        >>> answer.mean.round(decimals=4), answer.std.square().round(decimals=4)
        (tensor([0., 4.], dtype=torch.float64), tensor([1.3333, 4.3333], dtype=torch.float64))
    """

    def __init__(
        self,
        child: Hashable | Variable,
        parents: Parents = None,
        scale: float | None = None,
        noise: float | None = None,
    ) -> None:
        self.scale, self.noise = scale, noise
        super().__init__(child, parents, BayesianLinear)

    def _made(self, child: Variable, parents: list[Variable]) -> Conditional:
        return BayesianLinear(child, parents, self.scale, self.noise)

    def settings(self) -> Settings:
        """Return the variables, the scale and the noise."""
        conditional = self.conditional
        standard_deviations = {"scale": self.scale, "noise": self.noise}
        return {"child": conditional.child, "parents": conditional.parents, **standard_deviations}

    def _arguments(self, parents: Any) -> dict[str, Any]:
        standard_deviations = {"scale": self.scale, "noise": self.noise}
        return {"child": self._child, "parents": parents, **standard_deviations}

    def default_learner(self, data: Any) -> Learner:
        """Return ``MaximumLikelihood()``, since the weights have a prior."""
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        return MaximumLikelihood()

    @property
    def posterior(self) -> Any:
        """A ``MultivariateNormal`` of the weights and, last, the bias."""
        conditional: Any = self.conditional
        return conditional.posterior

    @property
    def log_evidence(self) -> float:
        """Log density of the training data, for comparing models."""
        conditional: Any = self.conditional
        return float(conditional.log_evidence)

    def query(
        self,
        targets: Any = None,
        evidence: Any = None,
        *,
        inputs: Any = None,
        engine: Any = None,
        errors: str = "raise",
    ) -> Posterior:
        """Return the predictive distribution of the child; see :meth:`Model.query`."""
        from pgnn.inference.gaussian_marginals import NormalMarginal
        from pgnn.inference.known_marginals import KnownMarginals
        from pgnn.inference.model_reader import reader_of
        from pgnn.inference.question import names_of

        conditional: Any = self.conditional
        queried = [self._child] if targets is None else names_of(targets, self.variables)
        observed = reader_of(self).read(evidence)
        known = [v.name for v in conditional.parents if v.name in observed.reals]
        if engine is not None or queried != [self._child] or self._child in observed.reals:
            return super().query(targets, evidence, inputs=inputs, engine=engine, errors=errors)
        if len(known) < len(conditional.parents) or any(
            bool(observed.reals[n].isnan().any()) for n in known
        ):
            raise Unsupported(
                f"{self._child!r} is predicted if all of "
                f"{[v.name for v in conditional.parents]} were observed"
            )
        with torch.no_grad():
            normal = conditional.distribution({n: observed.reals[n] for n in known})
        pick = slice(None) if observed.batched else 0
        marginal = NormalMarginal(normal.mean[pick], normal.stddev[pick])
        return KnownMarginals(
            [conditional.child],
            {self._child: marginal},
            torch.zeros(observed.num_rows, dtype=torch.float64),
            batched=observed.batched,
            engine="predictive",
            index=observed.index,
        )
