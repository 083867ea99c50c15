"""Abilities of models of vectors."""

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
        """Name of the variable that rows without a name belong to; None if there are several."""

    @property
    def columns(self) -> Sequence[Hashable]:
        """Names of its elements, in order; empty if they have none."""
        return ()


class SolvableModel(FactorModel):
    """A model with its own method for the optimal parameters given its observable variables."""

    takes_holes = False
    """Whether rows may have missing values."""

    @property
    @abstractmethod
    def observable(self) -> Collection[Hashable]:
        """Names of the variables in complete rows; the others are hidden."""

    @abstractmethod
    def solve(
        self, values: Mapping[Hashable, Tensor], weights: Tensor, seed: int | None = None
    ) -> Mapping[str, Any] | None:
        """Set the learnable parameters, in place, to the maximum-likelihood ones for complete rows.

        Args:
            values: ``(N, *shape)`` values of each observable variable.
            weights: ``(N,)`` weight of each row.
            seed: Random seed.

        Returns:
            Figures for the history; None if the history should contain the log-likelihood.
        """


class ReconstructingModel(VectorModel):
    """A model that computes the expectation of a vector given its observed elements."""

    @abstractmethod
    def reconstruct(self, data: Any) -> Tensor:
        """Return ``(N, *shape)`` expectations of rows with missing elements."""


class LatentFactorModel(NetworkModel, SolvableModel, ReconstructingModel):
    """A vector linear in few standard normal hidden factors, with independent noise.

    The conditional of the vector is a ``LinearGaussian`` of diagonal covariance.
    """

    @property
    @abstractmethod
    def latent(self) -> Hashable:
        """Name of the hidden factors."""


class GaussianFieldModel(SolvableModel, VectorModel):
    """Real values at the nodes of a graph, jointly normal with a sparse precision."""

    @property
    @abstractmethod
    def numbers(self) -> Mapping[Hashable, int]:
        """The index of each node in the vector."""

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
        """Square root of the value added to the diagonal of the precision."""

    @abstractmethod
    def precision(self) -> Any:
        """Return the precision, a SciPy sparse matrix ``(n, n)``."""

    @abstractmethod
    def log_determinant(self) -> float:
        """Return the log of the product of the non-zero eigenvalues of the precision."""

    @abstractmethod
    def edges(self) -> tuple[Any, Any, Any]:
        """``(E,)`` indices of first and second nodes, and square roots of the edges' terms."""

    @abstractmethod
    def parts(self) -> Any:
        """``(n,)`` index of the connected part of each node."""
