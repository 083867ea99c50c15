"""The perceptron and the structured perceptron."""

from __future__ import annotations

from dataclasses import dataclass

from pgnn.inference.learning.mistake_driven import MistakeDriven
from pgnn.inference.learning.mistakes import Rule


@dataclass(frozen=True, kw_only=True)
class Perceptron(MistakeDriven):
    r"""Perceptron: adds the features of the true states and subtracts those of the predicted ones.

    .. math:: \theta \leftarrow \theta + \phi(x_n, y_n) - \phi(x_n, \hat y_n), \qquad
        \hat y_n = \arg\max_y \theta^\top \phi(x_n, y)

    It needs no partition function, only best states. If some unit vector :math:`u` separates every
    row with margin :math:`\gamma`, at most :math:`R^2 / \gamma^2` mistakes are made from zero
    initial weights, where :math:`R` is the largest norm of an update.

    Args:
        averaged: Whether to keep the average of the parameters after each row, which generalises
            far better than the last ones.
        voted: Whether ``model.history.voters`` keeps all parameter vectors, with the number of rows
            that each survived, see :class:`~pgnn.inference.learning.voters.Voters`.

    The other settings are ``max_iterations``, ``targets`` and ``engine``, see
    :class:`~pgnn.inference.learning.mistake_driven.MistakeDriven`.

    References:
        Collins (2002), Discriminative training methods for hidden Markov models; Freund and
        Schapire (1999), Large margin classification using the perceptron algorithm.

    Example:
        >>> from pgnn.models import LogisticRegression
        >>> rows = {"x": [-2.0, -1.0, 1.0, 2.0], "y": ["low", "low", "high", "high"]}
        >>> model = LogisticRegression("y", ["x"]).fit(rows, learner=Perceptron(targets="y"))
        >>> model.history["converged"], model.history["trace"]["mistakes"][-1]
        (True, 0.0)
    """

    voted: bool = False

    @property
    def rule(self) -> Rule:
        """Updates of size one."""
        return Rule()

    @property
    def keeps_voters(self) -> bool:
        """Whether all parameter vectors are kept."""
        return self.voted
