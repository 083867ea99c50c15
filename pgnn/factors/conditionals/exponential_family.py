"""Conditionals with sufficient statistics and closed-form estimates."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import AdvisedWarning, DataError, overflowing
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

    depends on the rows only through sums over them, its sufficient statistics. In expectation
    maximisation the weights are posterior probabilities, in supervised learning zeros and ones.
    Constant parameters (``requires_grad=False``, such as given values) are kept, and the others
    maximise the likelihood given these.

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
                A row with a ``NaN`` child contributes nothing. An unobserved discrete child is
                omitted.
            weights: ``(N, K1, ..., Kn)`` weight of each row for each configuration of the
                discrete parents, in their order; ``(N,)`` without any. If a discrete child is
                omitted from the values, the last axis is that of its states, with posterior
                probabilities.

        Returns:
            Tensors that are additive over rows.

        Raises:
            EvidenceError: If a value is missing from ``values`` or has a wrong shape.
            DataError: If the weights have a wrong shape, are negative or not finite.
        """

    def learn(
        self, values: Mapping[Hashable, Tensor], weights: Tensor, prior: Any = None
    ) -> Statistics:
        """Set learnable parameters to their estimates from weighted rows; return the statistics.

        Args:
            values: See :meth:`statistics`; all rows.
            weights: See :meth:`statistics`.
            prior: See :meth:`maximize`.
        """
        self.prepare(values)
        statistics = self.statistics(values, weights)
        check_sums(self, statistics)
        self.maximize(statistics, prior)
        return statistics

    @abstractmethod
    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set learnable parameters to their estimates from statistics, in place.

        Without a prior, a configuration without counts keeps its parameters.

        Args:
            statistics: Results of :meth:`statistics`, or sums of these.
            prior: Prior whose log density is added; each class supports certain kinds.

        Raises:
            ModelError: If the prior has an unsupported kind.
        """

    def accepts(self, prior: Any) -> bool:
        """Whether a prior for a whole model, such as ``Laplace()``, applies to this conditional."""
        return False

    def add_noise(self, generator: torch.Generator) -> None:
        """Perturb the parameters randomly, to break symmetries (tables only)."""

    def make_uninformative(self) -> None:
        """Reset learnable parameters to a neutral value (tables only).

        Tables become uniform on possible entries; other classes do nothing.
        """

    def prepare(self, values: Mapping[Hashable, Tensor]) -> None:
        """Choose the origin of statistics, near the rows, for numerical accuracy.

        It must not change between statistics that are added.

        Args:
            values: See :meth:`statistics`.
        """

    def log_likelihood(
        self, statistics: Statistics, values: Mapping[Hashable, Tensor], weights: Tensor
    ) -> Tensor | None:
        """Return the log-likelihood of complete rows under the current parameters.

        Args:
            statistics: Statistics of the rows, by :meth:`statistics`.
            values: The rows, for terms that do not depend on parameters, such as factorials.
            weights: ``(N,)`` weight of each row.

        Returns:
            The weighted sum over the rows; None if statistics are not sufficient for it.
        """
        return None

    def doubt(self, statistics: Statistics) -> AdvisedWarning | None:
        """Return a concern about the current parameters as an estimate from some statistics.

        Returns:
            A warning, such as that a variance is at its lower bound; None if there is no concern.
        """
        return None

    @abstractmethod
    def log_prior(self, prior: Any) -> Tensor:
        """Return the log density of a prior, as used by :meth:`maximize`.

        It is up to a constant; log-likelihood plus log prior never decreases in expectation
        maximisation.
        """

    @abstractmethod
    def initialize(self, values: Mapping[Hashable, Tensor], seed: int | None = None) -> None:
        """Initialise learnable parameters such that configurations differ.

        Args:
            values: See :meth:`statistics`.
            seed: Random seed; the same seed gives the same initialisation.

        Raises:
            DataError: If the child is not observed in any row.
        """

    def initialize_at_random(self, values: Mapping[Hashable, Tensor], seed: int) -> None:
        """Initialise for a restart; seeds should differ more than those of :meth:`initialize`."""
        self.initialize(values, seed)

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
    """Check that sums over rows are finite.

    Raises:
        DataError: If values are so large that sums of them, or of their squares, overflow.
    """
    if not all(all_finite(total) for total in statistics):
        raise overflowing(v.name for v in conditional.scope if not v.is_discrete)
