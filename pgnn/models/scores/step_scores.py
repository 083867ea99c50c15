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

    A subclass reads its input into tensors (:meth:`covariates`) and makes scores of them
    (:meth:`scores`). A conditional random field adds the scores of all its parts up.

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
        """Return an input in a form that is read faster, where it is read several times."""
        return raw

    def prepared(self, raw: Any, codes: Tensor, num_labels: int) -> StepScores:
        """Return scores with the parameters that training data tells, if they depend on it.

        Args:
            raw: The input of all sequences.
            codes: ``(N,)`` labels of all steps, -1 where not observed.
            num_labels: ``K``.
        """
        return self

    @abstractmethod
    def lengths(self, raw: Any) -> Any:
        """Return ``(B,)`` lengths of sequences, a number of a lone one, or None."""

    def array_lengths(self, raw: Any) -> Any:
        """Return the lengths where nothing but the input tells them: those of arrays, too."""
        return self.lengths(raw)

    @property
    def input_names(self) -> tuple[Hashable, ...]:
        """Names of the input, and of what :meth:`covariates` makes of it."""
        return (self.input_name,)

    @abstractmethod
    def covariates(self, raw: Any, shape: tuple[int, int], batched: bool) -> Covariates:
        """Read the input.

        Args:
            raw: As it came, or what this made of it before.
            shape: Sequences ``B`` and most steps ``T``.
            batched: Whether sequences came as a batch.

        Raises:
            EvidenceError: If it does not fit.
        """

    @abstractmethod
    def scores(self, covariates: Mapping[Hashable, Tensor], inside: Tensor) -> Tensor:
        """Return ``(N, K)`` logs of the steps that there are, sequence after sequence.

        Args:
            covariates: What :meth:`covariates` made, ``(B, T, ...)`` each.
            inside: ``(B, T)`` whether a step belongs to its sequence.
        """

    def scorer(self, covariates: Mapping[Hashable, Tensor], inside: Tensor) -> Callable[[], Tensor]:
        """Return what scores the same steps again and again, as :meth:`scores` does once."""
        return lambda: self.scores(covariates, inside)

    def attribute_sums(
        self, covariates: Mapping[Hashable, Tensor], inside: Tensor
    ) -> AttributeSums | None:
        """Return the scores as sums of :attr:`attribute_weights`; None if they are no such sums."""
        return None

    @property
    def attribute_weights(self) -> Tensor:
        """Weights of numbered attributes, where scores are sums of these.

        Raises:
            ModelError: Where they are not.
        """
        raise ModelError(f"the scores of {self.input_name!r} are no sums over attributes")
