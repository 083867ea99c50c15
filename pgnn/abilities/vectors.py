"""What models of vectors can do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence

from torch import Tensor

from pgnn.abilities.core import NetworkModel, VariableModel


class VectorModel(VariableModel):
    """A model of a vector: rows may come as a matrix, or as columns named after its numbers."""

    @property
    @abstractmethod
    def vector(self) -> Hashable:
        """Name of the real variable that the columns of a matrix are."""

    @property
    def columns(self) -> Sequence[Hashable]:
        """Names of its numbers, in order; empty if they have none."""
        return ()


class SolvableModel(NetworkModel):
    """A network of which the best numbers have a solution of their own where some of it is seen."""

    @property
    @abstractmethod
    def observable(self) -> Collection[Hashable]:
        """Names of the variables that complete rows have; the others are hidden."""

    @abstractmethod
    def solve(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> None:
        """Set the learnable numbers, in place, to the most likely ones for complete rows.

        Args:
            values: ``(N, *shape)`` of each observable variable.
            weights: ``(N,)`` what each row counts.
        """


class LatentFactorModel(SolvableModel, VectorModel):
    """A vector that is linear in few hidden numbers, standard normal ones, with independent noise.

    The conditional of the vector is a ``LinearGaussian`` of diagonal covariance.
    """

    @property
    @abstractmethod
    def latent(self) -> Hashable:
        """Name of the hidden numbers."""
