"""What expectation maximisation asks of a model over time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from pgnn.evidence.sequences import Sequences
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Values


class EStep(Protocol):
    """The expectations of one kind of models, under the present parameters of one of them."""

    model: Any

    @property
    def places(self) -> Mapping[Hashable, Conditional]:
        """The learnable conditionals, each by the name of its place."""

    @property
    def states(self) -> Sequence[Hashable]:
        """Labels of the states whose expected steps are counted; empty if none are."""

    def expect(self, seen: Sequences) -> ExpectedStatistics:
        """Return what is expected of sequences, given what was seen of them.

        Raises:
            DataError: If a sequence is impossible.
        """

    def log_partition(self, seen: Sequences) -> Tensor:
        """Return ``(B,)`` log probabilities of what was seen."""

    def symmetric(self, seen: Sequences) -> bool:
        """Whether nothing that was seen tells some states from one another."""

    def start_values(self, place: Hashable, seen: Sequences) -> Values | None:
        """Return what a place's conditional can be started from; None if it stays as it is."""
