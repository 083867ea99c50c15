"""Conditionals whose numbers have a posterior of the same family as their prior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor

from pgnn.factors.conditionals.exponential_family import Statistics

Beliefs = tuple[Tensor, ...]
"""Numbers of a prior or posterior distribution of a conditional's numbers."""


class Conjugate(ABC):
    r"""What variational Bayes asks of a conditional :math:`p(x \mid \theta)`.

    With a posterior :math:`q(\theta)` the place of the conditional is taken by its geometric mean
    :math:`\exp E_q[\log p(x \mid \theta)]`, which does not sum to one.
    """

    @abstractmethod
    def beliefs(self, prior: Any, values: Mapping[Hashable, Tensor] | None) -> Beliefs:
        """Return the numbers of a prior.

        Args:
            prior: What was given; None for a weak one, that may look at the data.
            values: What was observed of the child, if that is real.

        Raises:
            ModelError: If the prior is of another kind, or no proper distribution.
            Unsupported: If this conditional has none.
        """

    @abstractmethod
    def updated(self, prior: Beliefs, statistics: Statistics) -> Beliefs:
        """Return the posterior for expected statistics."""

    @abstractmethod
    def set_geometric_mean(self, posterior: Beliefs) -> None:
        """Take, in place, the geometric mean under a posterior: no distribution any more."""

    @abstractmethod
    def set_mean(self, posterior: Beliefs) -> None:
        """Take, in place, the posterior mean: a distribution again."""

    @abstractmethod
    def divergence(self, posterior: Beliefs, prior: Beliefs) -> float:
        """Return the Kullback-Leibler divergence of a posterior from a prior."""

    @abstractmethod
    def described(self, posterior: Beliefs) -> Any:
        """Return a posterior as histories keep it: arrays, or a dict of them."""
