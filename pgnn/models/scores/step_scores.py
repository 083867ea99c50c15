"""Scores of labels at each step of a sequence, computed from inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.piece import Piece

if TYPE_CHECKING:
    from pgnn.inference.chains.attribute_sums import AttributeSums

Covariates = dict[Hashable, Tensor]


class StepScores(Piece):
    r"""Log potentials :math:`f_t(z_t; x)` of the label at each step, given inputs.

    A subclass converts its input to tensors (:meth:`covariates`) and computes scores from these
    (:meth:`scores`). The scores of a conditional random field are the sum over its parts.

    Attributes:
        input_name: Name of the input.
    """

    noun = "scores"
    input_name: Hashable

    @property
    def key(self) -> Hashable:
        """The name of the input."""
        return self.input_name

    def read(self, raw: Any) -> Any:
        """Return the input in a form that is faster to read repeatedly."""
        return raw

    def prepared(self, raw: Any, codes: Tensor, num_labels: int) -> StepScores:
        """Return scores whose parameters match the training data, if they depend on it.

        Args:
            raw: The input of all sequences.
            codes: ``(N,)`` labels of all steps, -1 where not observed.
            num_labels: Number of labels ``K``.
        """
        return self

    @abstractmethod
    def lengths(self, raw: Any) -> Any:
        """Return ``(B,)`` lengths of sequences, an integer for a single sequence, or None."""

    def array_lengths(self, raw: Any) -> Any:
        """Return the lengths if only the input determines them; arrays have lengths as well."""
        return self.lengths(raw)

    @property
    def input_names(self) -> tuple[Hashable, ...]:
        """Names of the input and of the tensors that :meth:`covariates` returns."""
        return (self.input_name,)

    @abstractmethod
    def covariates(self, raw: Any, shape: tuple[int, int], batched: bool) -> Covariates:
        """Convert the input to tensors.

        Args:
            raw: The input as passed by the caller, or a tensor that this method returned.
            shape: Number of sequences ``B`` and maximum number of steps ``T``.
            batched: Whether the sequences are a batch.

        Raises:
            EvidenceError: If the input is invalid.
        """

    @abstractmethod
    def scores(self, covariates: Mapping[Hashable, Tensor], inside: Tensor) -> Tensor:
        """Return ``(N, K)`` log potentials of all steps of all sequences, without padding.

        Args:
            covariates: Result of :meth:`covariates`, ``(B, T, ...)`` each.
            inside: ``(B, T)`` False for padding.
        """

    def scorer(self, covariates: Mapping[Hashable, Tensor], inside: Tensor) -> Callable[[], Tensor]:
        """Return a function that evaluates :meth:`scores` of the same steps repeatedly."""
        return lambda: self.scores(covariates, inside)

    def attribute_sums(
        self, covariates: Mapping[Hashable, Tensor], inside: Tensor
    ) -> AttributeSums | None:
        """Return the scores as sums of :attr:`attribute_weights`, or None for other scores."""
        return None

    @property
    def attribute_weights(self) -> Tensor:
        """Weights of the attributes, if the scores are sums of weights.

        Raises:
            ModelError: If the scores have another form.
        """
        raise ModelError(f"the scores of {self.input_name!r} are not sums over attributes")
