"""Running statistics of batches for streaming EM, stored with the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pgnn.abilities import Inputs
from pgnn.errors import Unsupported
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.inference.history import RUNNING
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.expected_statistics import ExpectedStatistics
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.training_data import check_observed


@dataclass(frozen=True)
class RunningStatistics:
    r"""Running means over the rows of all batches, with larger weights of later ones.

    .. math:: s \leftarrow (1 - \eta_k) s + \eta_k \hat s_k, \qquad
        \eta_k = (k + 2)^{-\kappa} \text{ or } w_k / \textstyle\sum_{j \le k} w_j

    Args:
        batches: Number of batches.
        weight: Total weight of their rows.
        mean: Statistics per unit of weight.

    References:
        Cappé and Moulines (2009), On-line expectation-maximization algorithm for latent data
        models. Neal and Hinton (1998), A view of the EM algorithm that justifies incremental,
        sparse, and other variants.
    """

    batches: int
    weight: float
    mean: ExpectedStatistics

    @classmethod
    def of(cls, history: Mapping[str, Any]) -> RunningStatistics | None:
        """Return the statistics stored in a model's history, or None."""
        kept = history.get(RUNNING)
        if kept is None:
            return None
        sums = {
            name: tuple(torch.from_numpy(np.array(x)) for x in totals)
            for name, totals in kept["sums"].items()
        }
        return cls(int(kept["batches"]), float(kept["weight"]), ExpectedStatistics(0.0, 1.0, sums))

    @classmethod
    def first(cls, expected: ExpectedStatistics) -> RunningStatistics:
        """Return the statistics of the first batch."""
        return cls(1, expected.weight, expected.mixed(expected, 1.0, 1.0 / expected.weight))

    def with_batch(self, expected: ExpectedStatistics, decay: float | None) -> RunningStatistics:
        """Return the statistics updated with one more batch.

        Args:
            expected: Expected statistics of its rows.
            decay: Exponent of the step sizes; None for equal weights of all rows.
        """
        weight = self.weight + expected.weight
        share = expected.weight / weight if decay is None else (self.batches + 2.0) ** -decay
        mean = self.mean.mixed(expected, share, 1.0 / expected.weight)
        return RunningStatistics(self.batches + 1, weight, mean)

    @property
    def total(self) -> ExpectedStatistics:
        """The sums that correspond to the mean."""
        return self.mean.mixed(self.mean, 1.0, self.weight)

    def kept(self) -> dict[str, Any]:
        """Return the form that is stored in a history and in files."""
        sums: dict[Hashable, Any] = {
            name: [x.numpy(force=True) for x in totals] for name, totals in self.mean.sums.items()
        }
        return {"batches": self.batches, "weight": self.weight, "sums": sums}


def learn_from_batch(
    model: Any,
    learner: Any,
    e_step_of: Callable[[Any], EStep[Any]],
    data: Any,
    *,
    weights: Any = None,
    inputs: Inputs | None = None,
    seed: int | None = None,
    decay: float | None,
    priors: Callable[[EStep[Any]], Mapping[Hashable, Any]],
    check: Callable[[Any, Any], None] = lambda _, observed: check_observed(observed),
) -> None:
    """Take one step of streaming EM, from one batch.

    Args:
        model: The model, which is updated if the step succeeds.
        learner: The learner, for the history.
        e_step_of: Function that creates the E-step of a copy of the model.
        data: The batch.
        weights: Weights of its rows.
        inputs: Covariates.
        seed: Random seed of the initialisation, at the first batch.
        decay: See :meth:`RunningStatistics.with_batch`.
        priors: Priors of the pieces, by name.
        check: Function that raises an error if the model cannot learn from the batch.
    """
    trained = copy.deepcopy(model)
    e_step = e_step_of(trained)
    e_step.check()
    for name, conditional in e_step.pieces.items():
        if isinstance(conditional, ExponentialFamily) and not conditional.is_additive:
            raise Unsupported(
                f"a {type(conditional).__name__} depends on all rows at once, to which batches of "
                f"{name!r} cannot be added; fit() all rows"
            )
    with fitting(model, learner) as history:
        observed = e_step.read(data, weights, inputs)
        check(trained, observed)
        before = RunningStatistics.of(model.history)
        if before is None:
            e_step.prepare(observed)
            if e_step.symmetric(observed):
                e_step.initialize(observed, int(np.random.default_rng(seed).integers(2**31)), False)
        expected = e_step.expect(observed)
        if before is None:
            after = RunningStatistics.first(expected)
        else:
            after = before.with_batch(expected, decay)
        e_step.improve(after.total, priors(e_step))
        model.load_state_dict(trained.state_dict())
        mean = expected.log_likelihood / expected.weight
        trace = model.history.get("trace", {}).get("batch_log_likelihood", [])
        history.update(
            batches=after.batches,
            rows=(0 if before is None else model.history.get("rows", 0)) + observed.num_rows,
            weight=after.weight,
            batch_log_likelihood=mean,
            trace={"batch_log_likelihood": [*trace, mean]},
        )
        history[RUNNING] = after.kept()
