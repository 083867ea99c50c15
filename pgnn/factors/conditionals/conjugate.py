"""Conditionals with conjugate priors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor

from pgnn.factors.conditionals.exponential_family import Statistics

Beliefs = tuple[Tensor, ...]
"""Numbers of a prior or posterior distribution of a conditional's numbers."""


class Conjugate(ABC):
    r"""The interface of conditionals :math:`p(x \mid \theta)` for variational Bayes.

    Given a posterior :math:`q(\theta)` the conditional is replaced by its geometric mean
    :math:`\exp E_q[\log p(x \mid \theta)]`, which is not normalised.
    """

    @abstractmethod
    def beliefs(self, prior: Any, values: Mapping[Hashable, Tensor] | None) -> Beliefs:
        """Return the hyperparameters of a prior.

        Args:
            prior: The given prior; None for a weak one, which may depend on the data.
            values: What was observed of the child, if that is real.

        Raises:
            ModelError: If the prior has an unsupported kind, or is improper.
            Unsupported: If this conditional has no conjugate prior.
        """

    @abstractmethod
    def updated(self, prior: Beliefs, statistics: Statistics) -> Beliefs:
        """Return the posterior for expected statistics."""

    @abstractmethod
    def set_geometric_mean(self, posterior: Beliefs) -> None:
        """Set the parameters to the geometric mean under a posterior, in place (unnormalised)."""

    @abstractmethod
    def set_mean(self, posterior: Beliefs) -> None:
        """Set the parameters to the posterior mean, in place."""

    @abstractmethod
    def divergence(self, posterior: Beliefs, prior: Beliefs) -> float:
        """Return the Kullback-Leibler divergence of a posterior from a prior."""

    @abstractmethod
    def described(self, posterior: Beliefs) -> Any:
        """Return a posterior in the form of histories: arrays, or a dict of arrays."""
