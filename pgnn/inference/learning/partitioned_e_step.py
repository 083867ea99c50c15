"""Expectations of partitioned rows, summed partition by partition."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, Unsupported
from pgnn.evidence.partitioned_frame import PartitionedFrame, PartitionedRows, Shipped
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.e_steps import e_step_of
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Pieces
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.training_data import check_complete, check_observed

_SAMPLE = 20_000
"""Number of rows that determine initial hidden states and the origins of sums."""


@dataclass(frozen=True)
class LearningRows:
    """Rows in partitions.

    Args:
        rows: The partitions, each a :class:`RowEvidence`.
        sample: A sample of the rows of all partitions that fits into memory; all rows if they are
            few.
        num_rows: Number of rows of all partitions.
    """

    rows: PartitionedRows
    sample: RowEvidence
    num_rows: int


class PartitionedEStep(EStep[Any]):
    """Expectations of all rows of a partitioned frame, computed by the workers.

    The partitions are read once. In each pass the parameters are sent to the workers, which return
    sums; Dask recomputes those of a process that ended, so that each partition is included once.

    Args:
        local: The E-step for local rows.
    """

    shared = True

    def __init__(self, local: EStep[Any]) -> None:
        super().__init__(local.model)
        self._local = local
        self._expect, self._total = (
            Shipped(partial(_expect, local)),
            Shipped(partial(_total, local)),
        )

    @property
    def pieces(self) -> Mapping[Hashable, Conditional]:
        """The learnable conditionals."""
        return self._local.pieces

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The learnable parameters."""
        return self._local.parameters

    def check(self) -> None:
        """Check that the model is learnable from sums over rows."""
        self._local.check()
        if self._local.noisy or self._local.learns_other_parameters:
            raise Unsupported(
                f"the statistics of {type(self.model).__name__} are not sums over rows",
                "learn from frame.compute()",
            )

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> LearningRows:
        """Read each partition on its worker.

        Raises:
            DataError: If there are no rows, or weights are not the name of a column.
        """
        if inputs is not None or not (weights is None or isinstance(weights, str)):
            raise DataError(
                "a frame in partitions is learned from without inputs=, and weights= is the "
                "name of "
                "a column"
            )
        rows = PartitionedFrame(data).read(partial(_read, self._local, weights))
        first = max(_SAMPLE // len(rows.parts), 1)
        sample = PartitionedFrame(data).mapped(partial(_first, first)).compute()
        return LearningRows(rows, self._local.read(sample, weights, None), rows.summed(_size))

    def check_observed(self, observed: LearningRows) -> None:
        """Check that some cell of some partition is observed."""
        if not observed.rows.summed(_has_observations):
            check_observed(observed.sample)

    def improve(
        self, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
    ) -> list[Hashable]:
        """Run the M-step."""
        return self._local.improve(expected, priors)

    def log_prior(self, priors: Mapping[Hashable, Any]) -> float:
        """Return the log prior."""
        return self._local.log_prior(priors)

    def expect(self, observed: LearningRows) -> ExpectedStatistics:
        """Return the summed expectations of the rows of all partitions."""
        expected: ExpectedStatistics = observed.rows.summed(self._expect, self._numbers())
        if expected.rows:
            name = next(iter(expected.rows))
            raise Unsupported(
                f"the conditional of {name!r} has no closed form: its statistics cannot be "
                "summed over partitions",
                "learn from frame.compute()",
            )
        return expected

    def total(self, observed: LearningRows) -> float:
        """Return the log-likelihood of all rows."""
        total: float = observed.rows.summed(self._total, self._numbers())
        return total

    def log_partition(self, observed: LearningRows) -> Tensor:
        """Return log probabilities of the sample."""
        return self._local.log_partition(observed.sample)

    def symmetric(self, observed: LearningRows) -> bool:
        """Whether some hidden states are interchangeable in the sample."""
        return self._local.symmetric(observed.sample)

    def prepare(self, observed: LearningRows) -> None:
        """Choose origins from the sample."""
        self._local.prepare(observed.sample)

    def initialize(self, observed: LearningRows, seed: int, at_random: bool) -> None:
        """Initialise by clusters of the sample."""
        self._local.initialize(observed.sample, seed, at_random)

    def _numbers(self) -> Mapping[str, Tensor]:
        """Return the parameters that expectations depend on."""
        return {name: x.detach().clone() for name, x in self.model.state_dict().items()}


def fit_partitions(
    model: Any,
    learner: Any,
    data: Any,
    *,
    weights: Any,
    inputs: Inputs | None,
    priors: Callable[[Pieces], Mapping[Hashable, Any]],
) -> None:
    """Fit a model to the complete rows of a partitioned frame, by sums of statistics.

    Args:
        model: The model, which is updated if the fit succeeds.
        learner: The learner, for the history.
        data: The frame.
        weights: Name of a column of weights.
        inputs: None.
        priors: Priors of the pieces, by name.
    """
    e_step = PartitionedEStep(e_step_of(model))
    e_step.check()
    with fitting(model, learner) as history:
        observed = e_step.read(data, weights, inputs)
        observed.rows.computed(Shipped(partial(check_complete, model)))
        e_step.prepare(observed)
        expected = e_step.expect(observed)
        e_step.improve(expected, priors(e_step.pieces))
        extent = {"rows": observed.num_rows, "weight": expected.weight}
        history.update(extent, log_likelihood=e_step.total(observed))


def _read(local: EStep[Any], weights: Any, frame: Any) -> RowEvidence:
    """Return the distinct rows of a partition, with counts."""
    rows = local.read(frame, weights, None)
    if not isinstance(rows, RowEvidence):
        raise Unsupported(
            f"{type(local.model).__name__} reads sequences, which partitions of rows would split"
        )
    return rows.merged()


def _first(number: int, frame: Any) -> Any:
    return frame.head(number)


def _size(rows: RowEvidence) -> int:
    return rows.num_rows


def _has_observations(rows: RowEvidence) -> bool:
    try:
        check_observed(rows)
    except DataError:
        return False
    return True


def _expect(local: EStep[Any], rows: RowEvidence, numbers: Mapping[str, Tensor]) -> Any:
    _set_numbers(local.model, numbers)
    return local.expect(rows)


def _total(local: EStep[Any], rows: RowEvidence, numbers: Mapping[str, Tensor]) -> float:
    _set_numbers(local.model, numbers)
    return local.total(rows)


def _set_numbers(model: Any, numbers: Mapping[str, Tensor]) -> None:
    """Change the parameters in place, so that cached plans remain valid."""
    with torch.no_grad():
        for name, x in model.state_dict().items():
            x.copy_(numbers[name])
