"""Learning with a margin, of classes and of structures."""

from __future__ import annotations

from dataclasses import dataclass

from pgnn.inference.learning.mistake_driven import MistakeDriven
from pgnn.inference.learning.mistakes import Rule
from pgnn.limits import POSITIVE, check_settings


@dataclass(frozen=True, kw_only=True)
class MaxMargin(MistakeDriven):
    r"""Passive-aggressive steps on the structured hinge loss, row after row.

    .. math:: \ell_n(\theta) = \max_y \big[ s_\theta(y) + c \sum_i [y_i \ne y_{ni}] \big]
        - s_\theta(y_n)

    A step is the smallest one that brings the loss at the best states down to zero, of at most the
    size ``aggressiveness``: the right states are to score more than any others, by the more the
    more of these are wrong. Best states are found with the cost of wrong ones as soft evidence.

    Args:
        cost: The margin :math:`c` for each wrong state.
        aggressiveness: Largest size of a step; smaller ones for noisy labels.

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
        """Corrections that bring the loss down to zero."""
        return Rule(self.cost, self.aggressiveness)
