"""Conditionals of independent causes: what the parents do, each on its own, is combined."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.decomposition import Decomposition


class CausalIndependence(Conditional):
    r"""A child that combines effects :math:`z_i` which its parents have independently.

    .. math:: y = z_0 \circ z_1 \circ \dots \circ z_n, \qquad z_i \sim q_i(z \mid x_i)

    The effects are hidden; expectation maximisation counts them.

    References:
        Heckerman and Breese (1996), Causal independence for probability assessment and inference
        using Bayesian networks.
    """

    @property
    def decomposes(self) -> bool:
        """Whether :meth:`decomposition` gives factors."""
        return True

    def decomposition(self, ranks: Sequence[int] | None = None) -> Decomposition:
        """Return the effects combined one after another; see the base class."""
        return self.chained(self.log_effects(), ranks)

    @abstractmethod
    def log_effects(self) -> Tensor:
        """Return logs ``(R, K)`` of :math:`q_0`, then of :math:`q_i` in each state of parents."""

    @abstractmethod
    def chained(self, log_effects: Tensor, ranks: Sequence[int] | None = None) -> Decomposition:
        """Return the decomposition with some logs in place of :meth:`log_effects`.

        Args:
            log_effects: ``(R, K)`` as :meth:`log_effects` lists them.
            ranks: By which the parents are combined; as they are given, if not given.
        """

    @abstractmethod
    def maximize_effects(self, counts: Tensor) -> None:
        """Set what is learnable to what fits expected counts of the effects best, in place.

        Args:
            counts: ``(R, K)`` how often each cause had each effect, as :meth:`log_effects` lists
                them; what was never counted stays as it is.
        """
