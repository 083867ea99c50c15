"""What expectation maximisation asks of a model: its expected statistics, and where to begin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Values, check_ties
from pgnn.inference.learning.m_step import accepting, log_prior, maximize
from pgnn.inference.learning.priors import Laplace
from pgnn.inference.learning.training_data import check_observed

_NOISE = 0.6
"""Share of a start that is not what clusters say."""

EvidenceT = TypeVar("EvidenceT", RowEvidence, SequenceEvidence)


class EStep(ABC, Generic[EvidenceT]):
    """The expectations of one kind of models, under the present parameters of one of them.

    Args:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    @abstractmethod
    def pieces(self) -> Mapping[Hashable, Conditional]:
        """The learnable conditionals, each by the name that priors call it."""

    @property
    def learns_as_a_whole(self) -> bool:
        """Whether something is learned that is in none of the pieces."""
        return False

    def improve(
        self, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
    ) -> list[Hashable]:
        """Set the model to what fits expected statistics best, in place: the M-step.

        Args:
            expected: What :meth:`expect` returned, or sums of such.
            priors: Priors of the pieces, by name.

        Returns:
            Names of pieces that made no step though their gradient is not zero.
        """
        return maximize(self.pieces, expected, priors)

    def log_prior(self, priors: Mapping[Hashable, Any]) -> float:
        """Return what priors add to the log-likelihood."""
        return log_prior(self.pieces, priors)

    noisy = False
    """Whether values and statistics are averages over draws."""

    shared = False
    """Whether other processes take part."""

    def total(self, observed: EvidenceT) -> float:
        """Return the log-likelihood of all rows, weighted."""
        with torch.no_grad():
            log_z = self.log_partition(observed)
        return float(observed.weighted_sum(log_z.double()))

    def of_all(self, number: float) -> float:
        """Return the sum of a number over all processes that take part."""
        return number

    def snapshot(self) -> dict[str, Any]:
        """Return what expectations depend on besides the model's numbers and what was observed."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`snapshot` returned."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The learnable parameters, each once."""
        parameters: dict[Tensor, None] = {}
        for conditional in self.pieces.values():
            parameters |= dict.fromkeys(p for p in conditional.parameters() if p.requires_grad)
        return [*parameters]

    @property
    def states(self) -> Sequence[Hashable]:
        """Labels of the states whose expected steps are counted; empty if none are."""
        return ()

    @abstractmethod
    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> EvidenceT:
        """Read what is learned from.

        Raises:
            DataError: If there is nothing, or something is wrong with it.
        """

    def check_observed(self, observed: EvidenceT) -> None:
        """Check that something was observed at all.

        Raises:
            DataError: If every cell is missing.
        """
        check_observed(observed)

    @abstractmethod
    def expect(self, observed: EvidenceT) -> ExpectedStatistics:
        """Return what is expected of rows, given what was observed of them.

        Raises:
            DataError: If a row is impossible.
        """

    @abstractmethod
    def log_partition(self, observed: EvidenceT) -> Tensor:
        """Return ``(B,)`` log probabilities of what was observed."""

    def check(self) -> None:
        """Check that there is something to learn, and that what is shared can be.

        Raises:
            ModelError: If nothing is learnable.
            Unsupported: If closed forms share some parameters and not others.
        """
        if not self.model.variables:
            raise ModelError("the model has no variables; give it edges, or nodes")
        if not self.parameters and not self.learns_as_a_whole:
            raise ModelError(
                "the model has nothing to learn: what was given is constant; "
                "model.requires_grad_() makes it where learning begins"
            )
        check_ties(self.pieces)

    def prepare(self, observed: EvidenceT) -> None:
        """Choose what statistics are taken about, such as origins near the rows.

        Args:
            observed: What is learned from, all of it or what came first.
        """
        for name, conditional in self.pieces.items():
            values = self.values_of(name, conditional, observed)
            if (
                isinstance(conditional, ExponentialFamily)
                and not conditional.inputs
                and values is not None
            ):
                with suppress(DataError):  # nobody saw it
                    conditional.prepare(values)

    def values_of(
        self, name: Hashable, conditional: Conditional, observed: EvidenceT
    ) -> Values | None:
        """Observed values of a real child and its real parents; None without the child."""
        return None

    def completed(self, observed: EvidenceT) -> EvidenceT:
        """Return rows with their most probable states filled in.

        Raises:
            Unsupported: If the model's are not known.
        """
        raise Unsupported(
            "EM(hard=True) fills in discrete variables of networks, mixtures and models over time; "
            f"{type(self.model).__name__} has others: leave hard= out"
        )

    @abstractmethod
    def symmetric(self, observed: EvidenceT) -> bool:
        """Whether nothing that was observed tells some hidden states from one another."""

    @abstractmethod
    def initialize(self, observed: EvidenceT, seed: int, at_random: bool) -> None:
        """Begin where hidden states differ: at clusters of what was observed.

        Args:
            observed: What is learned from.
            seed: Random seed of clusters and of what is drawn.
            at_random: Whether to begin elsewhere than the first start does.
        """

    def initialize_pieces(
        self, values: Mapping[Hashable, Values | None], seed: int, at_random: bool
    ) -> None:
        """Start conditionals from what was observed of each, on its own.

        Args:
            values: Of each conditional, by name; None if it is to stay as it is, but for noise on
                tables of starts at random.
            seed: Random seed of the initial values.
            at_random: Whether there is such noise.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, conditional in self.pieces.items():
            piece_seed, known = int(torch.randint(2**31, (), generator=generator)), values.get(name)
            if not isinstance(conditional, ExponentialFamily):
                continue
            if known is not None:
                conditional.initialize(known, piece_seed)
            elif at_random:
                conditional.add_noise(generator)

    def initialize_by(self, completed: EvidenceT, noise: EvidenceT | None = None) -> None:
        """Start all conditionals from rows in which hidden states were filled in.

        One M-step; tables count each possible entry once more, so that none becomes zero.

        Args:
            completed: With states that tell something, such as clusters.
            noise: The same rows with states at random, which count too: states that are certain
                given a row would stay so.

        Raises:
            DataError: If what was filled in is impossible.
        """
        expected = self.expect(completed)
        if noise is not None:
            expected = expected.mixed(self.expect(noise), _NOISE, 1.0)
        self.improve(expected, accepting(self.pieces, Laplace()))


def reals_observed(conditional: Conditional, reals: Values) -> dict[Hashable, Tensor] | None:
    """Return what was observed of a real child and of real parents; None if nothing of the child.

    Args:
        conditional: The conditional.
        reals: Values of real variables, by the names that the conditional has for them.
    """
    if conditional.child.is_discrete or conditional.child.name not in reals:
        return None
    return {v.name: reals[v.name] for v in conditional.scope if v.name in reals}
