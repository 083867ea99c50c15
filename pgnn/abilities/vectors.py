"""What models of vectors can do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pgnn.abilities.core import FactorModel, NetworkModel, VariableModel


class VectorModel(VariableModel):
    """A model of an array: rows may come without its name, or as columns with their own names."""

    @property
    @abstractmethod
    def vector(self) -> Hashable:
        """Name of the variable that rows without a name are; None if there are several."""

    @property
    def columns(self) -> Sequence[Hashable]:
        """Names of its numbers, in order; empty if they have none."""
        return ()


class SolvableModel(FactorModel):
    """A model whose best numbers have a solution of their own where some of it is observed."""

    takes_holes = False
    """Whether numbers may be missing in the rows that it is solved for."""

    @property
    @abstractmethod
    def observable(self) -> Collection[Hashable]:
        """Names of the variables that complete rows have; the others are hidden."""

    @abstractmethod
    def solve(
        self, values: Mapping[Hashable, Tensor], weights: Tensor, seed: int | None = None
    ) -> Mapping[str, Any] | None:
        """Set the learnable numbers, in place, to the most likely ones for complete rows.

        Args:
            values: ``(N, *shape)`` of each observable variable.
            weights: ``(N,)`` weight of each row.
            seed: Random seed.

        Returns:
            Figures for the history; None where the log-likelihood is to be told.
        """


class ReconstructingModel(VectorModel):
    """A model that tells what is expected of a vector, given the numbers that are there."""

    @abstractmethod
    def reconstruct(self, data: Any) -> Tensor:
        """Return ``(N, *shape)`` what is expected of rows, some numbers of which are missing."""


class LatentFactorModel(NetworkModel, SolvableModel, ReconstructingModel):
    """A vector that is linear in few hidden numbers, standard normal ones, with independent noise.

    The conditional of the vector is a ``LinearGaussian`` of diagonal covariance.
    """

    @property
    @abstractmethod
    def latent(self) -> Hashable:
        """Name of the hidden numbers."""


class GaussianFieldModel(SolvableModel, VectorModel):
    """Numbers at the nodes of a graph, jointly normal with a sparse precision."""

    @property
    @abstractmethod
    def numbers(self) -> Mapping[Hashable, int]:
        """The place of each node in the vector."""

    @property
    @abstractmethod
    def location(self) -> float:
        """The mean of every node."""

    @property
    @abstractmethod
    def is_proper(self) -> bool:
        """Whether the precision is positive definite; if not, the level of each part is free."""

    @property
    @abstractmethod
    def anchor_root(self) -> float:
        """Root of what is added to the diagonal of the precision."""

    @abstractmethod
    def precision(self) -> Any:
        """The precision, a SciPy sparse matrix ``(n, n)``."""

    @abstractmethod
    def log_determinant(self) -> float:
        """Log of the product of the eigenvalues of the precision that are not zero."""

    @abstractmethod
    def edges(self) -> tuple[Any, Any, Any]:
        """``(E,)`` places of first and second nodes, and roots of what edges add."""

    @abstractmethod
    def parts(self) -> Any:
        """``(n,)`` numbers of the connected parts that nodes are in."""
