"""The base class of E-steps: expected sufficient statistics, and initialisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.data_start import StartsFromData
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.conditionals.renamed import bare
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Values, check_ties
from pgnn.inference.learning.extrapolation import Unit
from pgnn.inference.learning.m_step import accepting, log_prior, maximize
from pgnn.inference.learning.priors import Laplace
from pgnn.inference.learning.training_data import check_observed, check_squares

_NOISE = 0.6
"""Share of uniform responsibilities in a start from clusters."""

EvidenceT = TypeVar("EvidenceT", RowEvidence, SequenceEvidence)


class EStep(ABC, Generic[EvidenceT]):
    """The E-step for one kind of models, under the current parameters of a model.

    Args:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    @abstractmethod
    def pieces(self) -> Mapping[Hashable, Conditional]:
        """The learnable conditionals by the names that priors refer to."""

    @property
    def learns_other_parameters(self) -> bool:
        """Whether the model also learns parameters outside the conditionals."""
        return False

    def improve(
        self, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
    ) -> list[Hashable]:
        """Run the M-step: maximise the expected log-likelihood, in place.

        Args:
            expected: Results of :meth:`expect`, or sums of these.
            priors: Priors of the conditionals, by name.

        Returns:
            Names of conditionals that made no step although their gradient is not zero.
        """
        return maximize(self.pieces, expected, priors)

    def log_prior(self, priors: Mapping[Hashable, Any]) -> float:
        """Return the log prior, which is added to the log-likelihood."""
        return log_prior(self.pieces, priors)

    def unit_of(self, parameter: Tensor) -> Unit:
        """Return origin and unit of a parameter, in which extrapolations measure steps."""
        return Unit()

    def unit_free(self, value: float) -> float:
        """Return a log-likelihood for comparison with gains, without the units of the data."""
        return value

    takes_likelihoods = False
    """Whether rows may have likelihoods of states, as soft evidence in a query."""

    noisy = False
    """Whether values and statistics are averages over draws."""

    shared = False
    """Whether the rows are distributed over several processes."""

    def total(self, observed: EvidenceT) -> float:
        """Return the weighted log-likelihood of all rows."""
        with torch.no_grad():
            log_z = self.log_partition(observed)
        return float(observed.weighted_sum(log_z.double()))

    def of_all(self, number: float) -> float:
        """Return the sum of a number over all processes."""
        return number

    def snapshot(self) -> dict[str, Any]:
        """Return the state on which expectations depend, other than parameters and data."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`snapshot`."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The learnable parameters, without repetition."""
        parameters: dict[Tensor, None] = {}
        for conditional in self.pieces.values():
            parameters |= dict.fromkeys(p for p in conditional.parameters() if p.requires_grad)
        return [*parameters]

    @property
    def states(self) -> Sequence[Hashable]:
        """Labels of the states whose occupancy is recorded; empty if none is."""
        return ()

    @abstractmethod
    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> EvidenceT:
        """Read the training data.

        Raises:
            DataError: If the data is empty or invalid.
        """

    def check_observed(self, observed: EvidenceT) -> None:
        """Check that some cell is observed, and that squares can be summed where they are needed.

        Raises:
            DataError: If every cell is missing, or real values are too large.
        """
        check_observed(observed)
        parts = [c for c in self.pieces.values() if isinstance(c, ExponentialFamily)]
        check_squares(observed, {v.name for c in parts for v in c.scope if not v.is_discrete})

    @abstractmethod
    def expect(self, observed: EvidenceT) -> ExpectedStatistics:
        """Return the expected statistics of rows given their observations.

        Raises:
            DataError: If a row is impossible.
        """

    @abstractmethod
    def log_partition(self, observed: EvidenceT) -> Tensor:
        """Return ``(B,)`` log probabilities of the observations."""

    def check(self) -> None:
        """Check that the model has learnable parameters, and that shared ones can be learned.

        Raises:
            ModelError: If nothing is learnable.
            Unsupported: If closed forms share some parameters and not others.
        """
        if not self.model.variables:
            raise ModelError("the model has no variables", "give it edges, or nodes")
        if not self.parameters and not self.learns_other_parameters:
            raise ModelError(
                "the model has nothing to learn: given parameters are constants",
                "model.requires_grad_() makes them learnable",
            )
        check_ties(self.pieces)

    def prepare(self, observed: EvidenceT) -> None:
        """Choose the origins of statistics, near the rows, for numerical accuracy.

        Args:
            observed: The training data, or its first batch.
        """
        for name, conditional in self.pieces.items():
            values = self.values_of(name, conditional, observed)
            if (
                isinstance(conditional, ExponentialFamily)
                and not conditional.inputs
                and values is not None
            ):
                with suppress(DataError):  # never observed
                    conditional.prepare(values)

    def start_possible(self, observed: EvidenceT) -> None:
        """Begin with numbers in the units of the data if rows are impossible under initial ones."""
        if not any(isinstance(bare(c), StartsFromData) for c in self.pieces.values()):
            return
        with torch.no_grad():
            impossible = bool(self.log_partition(observed).isneginf().any())
        if impossible:
            self.start_from_data(observed)

    def start_from_data(self, observed: EvidenceT) -> None:
        """Begin with numbers in the units of the data, where none were given or learned."""
        for name, conditional in self.pieces.items():
            values, piece = self.values_of(name, conditional, observed), bare(conditional)
            if values is None or not isinstance(piece, StartsFromData):
                continue
            rows = len(next(iter(values.values())))
            weights = torch.from_numpy(observed.row_weights)
            weights = weights if len(weights) == rows else torch.ones(rows).double()
            lead = [v.num_states for v in conditional.parents if v.is_discrete]
            each = weights.reshape(-1, *[1] * len(lead)).expand(-1, *lead)
            piece.start_from(values, each)
            if not lead:
                piece.start_nearer(values, each)

    def values_of(
        self, name: Hashable, conditional: Conditional, observed: EvidenceT
    ) -> Values | None:
        """Return observed values of a real child and its real parents; None without the child."""
        return None

    def completed(self, observed: EvidenceT) -> EvidenceT:
        """Return the rows with the most probable hidden states filled in.

        Raises:
            Unsupported: If the model does not support this.
        """
        raise Unsupported(
            "EM(hard=True) fills in discrete variables, of networks, fields, mixtures and models "
            f"over time; {type(self.model).__name__} has others",
            "leave hard= out",
        )

    @abstractmethod
    def symmetric(self, observed: EvidenceT) -> bool:
        """Whether the observations do not distinguish some hidden states."""

    @abstractmethod
    def initialize(self, observed: EvidenceT, seed: int, at_random: bool) -> None:
        """Initialise hidden states by clusters of the observations.

        Args:
            observed: The training data.
            seed: Random seed.
            at_random: Whether to randomise the initialisation, for restarts.
        """

    def initialize_pieces(
        self, values: Mapping[Hashable, Values | None], seed: int, at_random: bool
    ) -> None:
        """Initialise each conditional separately from the observations.

        Args:
            values: Observed values for each conditional, by name; None to leave it unchanged except
                for random noise on tables.
            seed: Random seed of the initial values.
            at_random: Whether to add noise.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, conditional in self.pieces.items():
            piece_seed, known = int(torch.randint(2**31, (), generator=generator)), values.get(name)
            if not isinstance(conditional, ExponentialFamily):
                continue
            if known is not None and at_random:
                conditional.initialize_at_random(known, piece_seed)
            elif known is not None:
                conditional.initialize(known, piece_seed)
            elif at_random:
                conditional.add_noise(generator)

    def initialize_by(self, completed: EvidenceT, noise: EvidenceT | None = None) -> None:
        """Initialise all conditionals from rows in which hidden states were filled in.

        One M-step, with a pseudo-count of one row for each possible table entry, so that none is
        zero.

        Args:
            completed: Rows with informative states, such as clusters.
            noise: The same rows with random states, which are included because states that are
                certain given a row would remain so.

        Raises:
            DataError: If the filled-in states are impossible.
        """
        expected = self.expect(completed)
        if noise is not None:
            expected = expected.mixed(self.expect(noise), _NOISE, 1.0)
        unit = min(1.0, float(completed.row_weights.mean()))
        self.improve(expected, accepting(self.pieces, Laplace(unit)))


def completed_exactly(model: Any, observed: RowEvidence) -> RowEvidence:
    """Return rows with the states that are most probable together, by the junction tree."""
    best = JunctionTree().most_probable(model, observed)
    codes = best.codes.reshape(observed.num_rows, -1).numpy(force=True)
    return replace(observed, codes=np.ascontiguousarray(codes, dtype=np.int32))


def reals_observed(conditional: Conditional, reals: Values) -> dict[Hashable, Tensor] | None:
    """Return the observed values of a real child and its real parents; None without the child.

    Args:
        conditional: The conditional.
        reals: Values of real variables by their names in the conditional.
    """
    if conditional.child.is_discrete or conditional.child.name not in reals:
        return None
    return {v.name: reals[v.name] for v in conditional.scope if v.name in reals}
