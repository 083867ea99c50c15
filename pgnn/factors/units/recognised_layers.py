"""The protocol of models of layers that learn with a recognition network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from pgnn.factors.units.unit_layers import State


class RecognisedLayers(ABC):
    """Layers of binary units with a second network that draws hidden ones from the visible ones."""

    @property
    @abstractmethod
    def visible(self) -> Hashable:
        """Name of the observed layer."""

    @abstractmethod
    def begin_learning(self, mean: Tensor, rng: torch.Generator) -> None:
        """Initialize the parameters that have not been set.

        Args:
            mean: ``(n,)`` means of the visible units.
            rng: Random generator of small random weights.
        """

    @abstractmethod
    def recognise(self, visible: Tensor, rng: torch.Generator | None) -> list[Tensor]:
        """Return ``(N, n_k)`` states of all layers, hidden ones drawn from below."""

    @abstractmethod
    def recognition_terms(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return ``(N,)`` log probabilities of the draws of each hidden layer, given that below."""

    @abstractmethod
    def joint_terms(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return the ``(N,)`` terms of :meth:`log_joint`, one for each hidden layer.

        That of a hidden layer depends on this layer, the one below and those above.
        """

    def log_recognition(self, states: Sequence[Tensor]) -> Tensor:
        """Return ``(N,)`` log probabilities of the draws of all hidden layers."""
        return torch.stack(self.recognition_terms(states)).sum(0)

    def log_joint(self, states: Sequence[Tensor]) -> Tensor:
        """Return ``(N,)`` log scores of complete states, differentiable.

        If the top layers are not normalised, subtract :meth:`log_normaliser` to obtain the gradient
        of the log-likelihood.
        """
        return torch.stack(self.joint_terms(states)).sum(0)

    @abstractmethod
    def log_normaliser(
        self, states: Sequence[Tensor], rng: torch.Generator | None, chains: State
    ) -> Tensor:
        """Return a scalar whose gradient estimates that of the log partition function.

        Args:
            states: States of all layers, for rows of data.
            rng: Random generator of the draws.
            chains: Persistent states of the layers, updated in place; empty at first.
        """

    @abstractmethod
    def dream(
        self, rows: int, rng: torch.Generator | None, chains: State | None = None
    ) -> list[Tensor]:
        """Return states ``(rows, n_k)`` of all layers, drawn from the model.

        Args:
            rows: Number of draws.
            rng: Random generator of the draws.
            chains: Persistent states of :meth:`log_normaliser`, which initialise the draws if there
                are enough of them.
        """
