"""Running statistics of batches for streaming EM, stored with the model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import Unsupported
from pgnn.factors.conditionals.data_start import StartsFromData
from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics
from pgnn.factors.conditionals.renamed import bare
from pgnn.inference.history import RUNNING
from pgnn.inference.learning.batch_expansions import (
    expansions,
    missing_expansions,
    released_rows,
    waiting_rows,
    with_earlier,
)
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.estimated_zeros import expected_of
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Pieces, WeightedRows
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.training_data import check_observed

_FEW = 20
"""Largest number of parameters of a conditional whose second derivatives are kept after a fit."""


@dataclass(frozen=True)
class RunningStatistics:
    r"""Running means over the rows of all batches, with larger weights of later ones.

    .. math:: s \leftarrow (1 - \eta_k) s + \eta_k \hat s_k, \qquad
        \eta_k = (k + 2)^{-\kappa} \text{ or } w_k / \textstyle\sum_{j \le k} w_j

    Args:
        batches: Number of batches.
        weight: Total weight of their rows.
        mean: Statistics per unit of weight.
        expansions: Quadratic approximations of the log-likelihood per unit of weight, for
            conditionals without sufficient statistics.
        waiting: Rows of such conditionals, by name, with their weights per unit of weight, that
            have no useful expansion before there are rows of another class.

    References:
        Cappé and Moulines (2009), On-line expectation-maximization algorithm for latent data
        models. Neal and Hinton (1998), A view of the EM algorithm that justifies incremental,
        sparse, and other variants.
    """

    batches: int
    weight: float
    mean: ExpectedStatistics
    expansions: ExpectedStatistics = field(default_factory=lambda: ExpectedStatistics(0.0, 1.0))
    waiting: Mapping[Hashable, WeightedRows] = field(default_factory=dict)

    @classmethod
    def of(cls, history: Mapping[str, Any]) -> RunningStatistics | None:
        """Return the statistics stored in a model's history, or None."""
        kept = history.get(RUNNING)
        if kept is None:
            return None
        mean, expansions = (
            ExpectedStatistics(0.0, 1.0, _tensors(kept.get(part, {})))
            for part in ("sums", "expansions")
        )
        waiting = {
            n: WeightedRows(_named(x["values"]), _named(x["inputs"]), _tensor(x["weights"]))
            for n, x in kept.get("waiting", {}).items()
        }
        return cls(int(kept["batches"]), float(kept["weight"]), mean, expansions, waiting)

    @classmethod
    def first(cls, expected: ExpectedStatistics) -> RunningStatistics:
        """Return the statistics of the first batch."""
        return cls(1, expected.weight, expected.mixed(expected, 1.0, 1.0 / expected.weight))

    @classmethod
    def after_fit(cls, pieces: Pieces, expected: ExpectedStatistics) -> RunningStatistics | None:
        """Return the statistics of all rows of a fit; None if there are none.

        Those of conditionals without sufficient statistics are of few parameters alone.

        Args:
            pieces: The conditionals, by name, at the fitted parameters.
            expected: Expected statistics of the rows.
        """
        if not expected.sums and not expected.rows:
            return None
        sizes = {n: sum(LearnableParameters(bare(pieces[n])).sizes) for n in expected.rows}
        small = {n: rows for n, rows in expected.rows.items() if sizes[n] <= _FEW}
        own = ExpectedStatistics(0.0, 1.0, expansions(pieces, replace(expected, rows=small)))
        return replace(cls.first(expected), expansions=own.mixed(own, 1.0, 1.0 / expected.weight))

    def with_batch(self, expected: ExpectedStatistics, decay: float | None) -> RunningStatistics:
        """Return the statistics updated with one more batch.

        Args:
            expected: Expected statistics of its rows.
            decay: Exponent of the step sizes; None for equal weights of all rows.
        """
        weight, share = self.weight + expected.weight, self.share_of(expected, decay)
        mean = self.mean.mixed(expected, share, 1.0 / expected.weight)
        faded = self.expansions.mixed(ExpectedStatistics(0.0, 1.0), share, 1.0)
        waiting = {n: x.times(1.0 - share) for n, x in self.waiting.items()}
        return RunningStatistics(self.batches + 1, weight, mean, faded, waiting)

    def expanded(self, sums: Mapping[Hashable, Statistics]) -> RunningStatistics:
        """Return the statistics with the expansions of more rows, which are not per weight."""
        own = ExpectedStatistics(0.0, 1.0, sums)
        expansions = own.mixed(own, 1.0, 1.0 / self.weight) + self.expansions
        return replace(self, expansions=expansions)

    def share_of(self, expected: ExpectedStatistics, decay: float | None) -> float:
        """Return the share of one more batch; arguments as in :meth:`with_batch`."""
        weight = self.weight + expected.weight
        return expected.weight / weight if decay is None else (self.batches + 2.0) ** -decay

    @property
    def total(self) -> ExpectedStatistics:
        """The sums that correspond to the mean."""
        return self.mean.mixed(self.mean, 1.0, self.weight)

    def kept(self) -> dict[str, Any]:
        """Return the form that is stored in a history and in files."""
        kept = {"batches": self.batches, "weight": self.weight, "sums": _arrays(self.mean.sums)}
        more = {"expansions": _arrays(self.expansions.sums), "waiting": self._waiting_arrays()}
        return kept | {name: x for name, x in more.items() if x}

    def _waiting_arrays(self) -> dict[Hashable, Any]:
        return {
            name: {
                "values": {n: x.numpy(force=True) for n, x in rows.values.items()},
                "inputs": {n: x.numpy(force=True) for n, x in rows.inputs.items()},
                "weights": rows.weights.numpy(force=True),
            }
            for name, rows in self.waiting.items()
        }


def _tensor(x: Any) -> Tensor:
    return torch.from_numpy(np.array(x))


def _tensors(kept: Mapping[Hashable, Any]) -> dict[Hashable, Statistics]:
    return {n: tuple(map(_tensor, all_)) for n, all_ in kept.items()}


def _named(kept: Mapping[Hashable, Any]) -> dict[Hashable, Tensor]:
    return {n: _tensor(x) for n, x in kept.items()}


def _arrays(sums: Mapping[Hashable, Statistics]) -> dict[Hashable, Any]:
    return {n: [x.numpy(force=True) for x in totals] for n, totals in sums.items()}


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
                f"a {type(conditional).__name__} depends on all rows at once, to which batches "
                f"of {name!r} cannot be added",
                "fit() all rows",
            )
    with fitting(model, learner) as history:
        observed = e_step.read(data, weights, inputs)
        check(trained, observed)
        before = RunningStatistics.of(model.history)
        if before is None:
            e_step.prepare(observed)
            if e_step.symmetric(observed):
                e_step.initialize(observed, int(np.random.default_rng(seed).integers(2**31)), False)
            e_step.start_possible(observed)
        expected = expected_of(e_step, observed)
        if before is not None:
            _warn_forgotten(e_step, before, expected)
        if before is None:
            after, share = RunningStatistics.first(expected), 1.0
        else:
            after, share = before.with_batch(expected, decay), before.share_of(expected, decay)
        after = _improved(e_step, after, share * after.weight / expected.weight, priors(e_step))
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


def _warn_forgotten(
    e_step: EStep[Any], before: RunningStatistics, expected: ExpectedStatistics
) -> None:
    """Warn of conditionals that have parameters but no statistics of the rows of a fit."""
    kept = {**before.expansions.sums, **before.waiting}
    forgotten = missing_expansions(e_step.pieces, expected, kept)
    if forgotten:
        warnings.warn(
            f"the rows of fit() do not count for {', '.join(map(repr, forgotten))}, which has more "
            f"than {_FEW} parameters and no sufficient statistics; give all batches to "
            "partial_fit(), or all rows to fit()",
            UserWarning,
            stacklevel=2,
        )


def _improved(
    e_step: EStep[Any], after: RunningStatistics, scale: float, priors: Mapping[Hashable, Any]
) -> RunningStatistics:
    """Run the M-step; return the statistics with an expansion of the last batch.

    Args:
        e_step: The E-step of the model.
        after: Statistics of all batches, with expansions of earlier ones.
        scale: Factor of the rows of the last batch among those of all.
        priors: Priors of the pieces, by name.
    """
    pieces, weight = e_step.pieces, after.weight
    batch = replace(after.total, rows={n: x.times(scale) for n, x in after.total.rows.items()})
    waiting = {n: x.times(weight) for n, x in after.waiting.items()}
    released = released_rows(pieces, waiting, batch)
    after = after.expanded(expansions(pieces, replace(batch, rows=released)))
    kept = {n: x for n, x in waiting.items() if n not in released}
    joined = {
        n: WeightedRows.joined(x for x in (kept.get(n), batch.rows.get(n)) if x is not None)
        for n in {**kept, **batch.rows}
    }
    for name in kept.keys() - after.expansions.sums.keys():
        piece = bare(pieces[name])
        if isinstance(piece, StartsFromData):  # which its few rows have led astray
            piece.restart()
    earlier = after.expansions.mixed(after.expansions, 1.0, weight)
    e_step.improve(with_earlier(pieces, replace(batch, rows=joined), earlier.sums), priors)
    new = waiting_rows(pieces, batch)
    rest = {n: x for n, x in batch.rows.items() if n not in new}
    after = after.expanded(expansions(pieces, replace(batch, rows=rest)))
    kept |= {n: joined[n] for n in new}
    return replace(after, waiting={n: x.times(1.0 / weight) for n, x in kept.items()})
