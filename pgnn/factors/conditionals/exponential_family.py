"""What learners by counting ask of a conditional: statistics, and the best numbers for them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import DataError, overflowing
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.finite import all_finite

Statistics = tuple[Tensor, ...]
"""Sums over rows, in float64: those of two batches may be added, and scaled."""

LEAST_COUNT = 1e-200
"""Below this a configuration has not been counted: smaller sums have lost their digits."""


class ExponentialFamily(Conditional):
    r"""A conditional whose weighted maximum likelihood has a closed form.

    For each configuration :math:`j` of the discrete parents the weighted log-likelihood

    .. math:: \sum_n w_{nj} \log p(x_n \mid j, \text{real parents}_n)

    depends on the rows only through sums over them, its sufficient statistics. Expectation
    maximisation fills the weights with posterior probabilities, supervised learning with zeros
    and ones. Parameters that are constants (``requires_grad=False``, such as numbers that were
    given) stay as they are, and the others are the best beside them.

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, section 19.2.2.
    """

    has_hidden_parts = False
    """Whether statistics depend on the present numbers though all variables were observed.

    So they do where something inside was not, such as the component of a mixture; the best numbers
    are then found by repetition.
    """

    is_additive = True
    """Whether statistics of several batches may be added; rows that are kept may not."""

    @abstractmethod
    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return the sufficient statistics of weighted rows.

        Args:
            values: The child ``(N, *event)`` and the real parents, by name; others are ignored.
                A row in which the child is ``NaN`` is missing and contributes nothing. A discrete
                child that was not observed is not among them.
            weights: ``(N, K1, ..., Kn)`` weight of each row for each configuration of the
                discrete parents, in their order; ``(N,)`` without any. Of a discrete child that is
                not among the values they have its axis too, the last one: expectation
                maximisation hands over posterior probabilities of all states.

        Returns:
            Tensors that may be added to and scaled with those of other rows.

        Raises:
            EvidenceError: If a value is missing from ``values`` or has a wrong shape.
            DataError: If the weights have a wrong shape, are negative or not finite.
        """

    def learn(
        self, values: Mapping[Hashable, Tensor], weights: Tensor, prior: Any = None
    ) -> Statistics:
        """Set the learnable numbers to the best ones for weighted rows; return the statistics.

        Args:
            values: As for :meth:`statistics`, all rows there are.
            weights: Likewise.
            prior: As for :meth:`maximize`.
        """
        self.prepare(values)
        statistics = self.statistics(values, weights)
        check_sums(self, statistics)
        self.maximize(statistics, prior)
        return statistics

    @abstractmethod
    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set the learnable numbers, in place, to the best ones for some statistics.

        Without a prior, a configuration that nothing was counted for keeps its numbers.

        Args:
            statistics: As :meth:`statistics` returns them, or sums of such.
            prior: Added to the log-likelihood; the class says which kinds it takes.

        Raises:
            ModelError: If the prior is of another kind.
        """

    def accepts(self, prior: Any) -> bool:
        """Whether a prior of a whole model, such as ``Laplace()``, applies to this conditional."""
        return False

    def add_noise(self, generator: torch.Generator) -> None:
        """Make configurations differ a little, at random, where nothing was observed (tables)."""

    def make_uninformative(self) -> None:
        """Forget what was learned earlier, where there is a neutral choice: in tables alone.

        They become uniform on the entries that are possible; other classes keep their numbers.
        """

    def prepare(self, values: Mapping[Hashable, Tensor]) -> None:
        """Choose what statistics are taken about, such as an origin near the rows.

        It must not change between statistics that are added.

        Args:
            values: As for :meth:`statistics`.
        """

    def log_likelihood(
        self, statistics: Statistics, values: Mapping[Hashable, Tensor], weights: Tensor
    ) -> Tensor | None:
        """Return the log-likelihood of rows without holes under the present numbers.

        Args:
            statistics: Statistics of the rows, by :meth:`statistics`.
            values: The rows, for what no number changes, such as factorials.
            weights: ``(N,)`` weight of each row.

        Returns:
            The weighted sum over the rows; None where statistics do not tell it.
        """
        return None

    def doubt(self, statistics: Statistics) -> str | None:
        """Return what is doubtful about the present numbers as an estimate from some statistics.

        Returns:
            A sentence, such as that a variance stands at the least that is allowed; None if nothing
            is doubtful.
        """
        return None

    @abstractmethod
    def log_prior(self, prior: Any) -> Tensor:
        """Return what :meth:`maximize` adds to the log-likelihood for a prior.

        Up to a constant this is the log density of the present numbers, so that the sum of the
        two never falls under expectation maximisation.
        """

    @abstractmethod
    def initialize(self, values: Mapping[Hashable, Tensor], seed: int | None = None) -> None:
        """Set the learnable numbers to a start that tells the configurations apart.

        Args:
            values: As for :meth:`statistics`.
            seed: Seed of what is drawn; the same seed gives the same start.

        Raises:
            DataError: If the child is not observed in any row.
        """

    @property
    def configurations(self) -> tuple[int, ...]:
        """``(K1, ..., Kn)``, the states of the discrete parents in their order."""
        return tuple(v.num_states for v in self.parents if v.is_discrete)

    def _weights(self, weights: Tensor, num_rows: int, shape: tuple[int, ...]) -> Tensor:
        """Checked weights ``(N, K)`` in float64, configurations flattened."""
        expected = (num_rows, *shape)
        weights = torch.as_tensor(weights).detach()
        if tuple(weights.shape) != expected:
            raise DataError(
                f"weights for the conditional of {self.child.name!r} must have shape {expected}, "
                f"rows and then the states of its discrete parents, got {tuple(weights.shape)}"
            )
        if weights.numel():
            least, most = weights.aminmax()
            if not bool((least >= 0) & most.isfinite()):
                raise DataError(
                    f"weights for the conditional of {self.child.name!r} must be finite and not "
                    f"negative, got values from {least.item():g} to {most.item():g}"
                )
        return weights.to(self._device, torch.float64).reshape(num_rows, math.prod(shape))


def check_sums(conditional: ExponentialFamily, statistics: Statistics) -> None:
    """Check that sums over rows are numbers.

    Raises:
        DataError: If values are so large that sums of them, or of their squares, overflow.
    """
    if not all(all_finite(total) for total in statistics):
        raise overflowing(v.name for v in conditional.scope if not v.is_discrete)
