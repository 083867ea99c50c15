"""Causal independence: conditionals that combine independent effects of the parents."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.decomposition import Decomposition


class CausalIndependence(Conditional):
    r"""A child that is a function of independent effects :math:`z_i` of its parents.

    .. math:: y = z_0 \circ z_1 \circ \dots \circ z_n, \qquad z_i \sim q_i(z \mid x_i)

    The effects are hidden variables, learned by expectation maximisation.

    References:
        Heckerman and Breese (1996), Causal independence for probability assessment and inference
        using Bayesian networks.
    """

    @property
    def decomposes(self) -> bool:
        """Whether :meth:`decomposition` gives factors."""
        return True

    def decomposition(self, ranks: Sequence[int] | None = None) -> Decomposition:
        """Return a chain that combines the effects one by one; see the base class."""
        return self.chained(self.log_effects(), ranks)

    @abstractmethod
    def log_effects(self) -> Tensor:
        """Return logs ``(R, K)`` of :math:`q_0`, then of :math:`q_i` in each state of parents."""

    @abstractmethod
    def chained(self, log_effects: Tensor, ranks: Sequence[int] | None = None) -> Decomposition:
        """Return the decomposition with given log probabilities of the effects.

        Args:
            log_effects: ``(R, K)`` as :meth:`log_effects` lists them.
            ranks: Order in which the parents are combined; the given order by default.
        """

    @abstractmethod
    def maximize_effects(self, counts: Tensor) -> None:
        """Set learnable parameters to their estimates from expected counts of effects, in place.

        Args:
            counts: ``(R, K)`` expected counts of the effects of each cause, ordered as in
                :meth:`log_effects`; rows without counts are not changed.
        """
