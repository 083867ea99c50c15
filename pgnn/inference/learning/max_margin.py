"""Max-margin learning of classifiers and structured models."""

from __future__ import annotations

from dataclasses import dataclass

from pgnn.inference.learning.mistake_driven import MistakeDriven
from pgnn.inference.learning.mistakes import Rule
from pgnn.limits import POSITIVE, check_settings


@dataclass(frozen=True, kw_only=True)
class MaxMargin(MistakeDriven):
    r"""Passive-aggressive updates for the structured hinge loss, row by row.

    .. math:: \ell_n(\theta) = \max_y \big[ s_\theta(y) + c \sum_i [y_i \ne y_{ni}] \big]
        - s_\theta(y_n)

    An update is the smallest one that reduces the loss at the best states to zero, with a size of
    at most ``aggressiveness``: the score of the true states must exceed that of any others by a
    margin proportional to the number of wrong states. Best states are found with the cost of wrong
    states as soft evidence.

    Args:
        cost: The margin :math:`c` per wrong state.
        aggressiveness: Largest size of an update; smaller for noisy labels.

    The other settings are ``averaged``, ``max_iterations``, ``targets`` and ``engine``, see
    :class:`~pgnn.inference.learning.mistake_driven.MistakeDriven`.

    References:
        Crammer, Dekel, Keshet, Shalev-Shwartz and Singer (2006), Online passive-aggressive
        algorithms, sections 4 and 10 (PA-I); Taskar, Guestrin and Koller (2003), Max-margin Markov
        networks.

    Example:
        >>> from pgnn.models import MarkovRandomField
        >>> model = MarkovRandomField([("a", "b")], states={"a": 2, "b": 2})
        >>> _ = model.fit({"a": [0, 1], "b": [0, 0]}, learner=MaxMargin(targets="b"))
        >>> model.most_probable({"a": 1})["b"]
        0
    """

    cost: float = 1.0
    aggressiveness: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, cost=POSITIVE, aggressiveness=POSITIVE)

    @property
    def rule(self) -> Rule:
        """Updates that reduce the loss to zero."""
        return Rule(self.cost, self.aggressiveness)
