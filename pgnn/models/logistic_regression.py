"""Logistic and softmax regression."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.logistic import Logistic
from pgnn.factors.conditionals.parameter_prior import ParameterPrior
from pgnn.factors.conditionals.softmax import Softmax
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.models.regression import Parents, Regression


class LogisticRegression(Regression):
    r"""Logistic regression of a discrete variable; for more than two states softmax regression.

    .. math:: p(y = 1 \mid x) = \sigma(w^\top x + b), \qquad
        p(y = k \mid x) \propto \exp(w_k^\top x + b_k)

    Discrete parents are encoded by indicators of all states but the first.

    Args:
        child: See :class:`Regression`.
        parents: See :class:`Regression`.
        prior: Prior on the weights, such as ``NormalPrior(C ** 0.5)`` for scikit-learn's ``C``;
            flat if not given, in which case weights are infinite for separable data.

    Raises:
        ModelError: See :class:`Regression`.

    Example:
        >>> from pgnn import NormalPrior
        >>> rows = {"x": [0.0, 1.0, 2.0, 3.0], "ill": ["no", "no", "yes", "yes"]}
        >>> model = LogisticRegression("ill", prior=NormalPrior(1.0)).fit(rows, progress=False)
        >>> model.predict({"x": [0.5, 2.5]})
        array(['no', 'yes'], dtype=object)
    """

    def __init__(
        self,
        child: Hashable | Variable,
        parents: Parents = None,
        prior: ParameterPrior | None = None,
    ) -> None:
        super().__init__(child, parents, Softmax, prior, discrete=True)

    def _made(self, child: Variable, parents: list[Variable]) -> Conditional:
        two = child.is_discrete and child.num_states == 2
        return Logistic(child, parents) if two else Softmax(child, parents)

    def settings(self) -> Settings:
        """Return the variables and the prior."""
        conditional = self.conditional
        return {"child": conditional.child, "parents": conditional.parents, "prior": self.prior}

    def _arguments(self, parents: Any) -> dict[str, Any]:
        return {"child": self._child, "parents": parents, "prior": self.prior}
