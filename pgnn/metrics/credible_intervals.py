"""Credible intervals of query results under the posterior of the tables."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pgnn.abilities import DirectedModel, UnrollableModel
from pgnn.errors import ModelError, Unsupported
from pgnn.limits import Interval, check_real, whole_number
from pgnn.models.model import Model

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CredibleIntervals:
    """Credible intervals of the probabilities in a query result.

    Attributes:
        mean: ``(K,)`` or ``(B, K)`` means over the posterior of the tables, by variable.
        low: Lower ends of the intervals, by variable.
        high: Upper ends of the intervals, by variable.
        labels: States of each variable.
    """

    mean: dict[Hashable, np.ndarray]
    low: dict[Hashable, np.ndarray]
    high: dict[Hashable, np.ndarray]
    labels: dict[Hashable, tuple[Any, ...]]

    def frame(self) -> pd.DataFrame:
        """Return a data frame with a row for each state (of each row of a batch)."""
        import pandas as pd

        parts = []
        for name, mean in self.mean.items():
            columns = {"mean": mean, "low": self.low[name], "high": self.high[name]}
            index = [range(len(mean)), self.labels[name]] if mean.ndim == 2 else [self.labels[name]]
            names = ["row", "state"] if mean.ndim == 2 else ["state"]
            rows = pd.MultiIndex.from_product([[name], *index], names=["variable", *names])
            parts.append(pd.DataFrame({n: x.reshape(-1) for n, x in columns.items()}, index=rows))
        return pd.concat(parts)


def credible_intervals(
    model: Model,
    targets: Any = None,
    evidence: Any = None,
    *,
    level: float = 0.9,
    draws: int = 500,
    seed: int | None = None,
) -> CredibleIntervals:
    r"""Return credible intervals of a query result, from the Dirichlet posteriors of the tables.

    Tables are drawn from their posteriors, and the query is answered for each draw. The ends are
    empirical quantiles, with a Monte Carlo error of about :math:`1 / \sqrt{\text{draws}}` of the
    width. Given tables are constants.

    Args:
        model: A network of tables, after a fit with a prior or by :class:`VariationalBayes`:
            ``model.history["posterior"]`` has the pseudo-counts.
        targets: Discrete targets, as in a query.
        evidence: Evidence, as in a query.
        level: Probability of an interval, which is equal-tailed.
        draws: Number of draws.
        seed: Random seed of the samples.

    Raises:
        ModelError: If the history has no posterior, or a setting is out of range.

    Cost:
        ``draws`` queries.

    References:
        Gelman et al. (2013), Bayesian Data Analysis, third edition, section 2.3 and chapter 10.

    Example:
        >>> import pgnn
        >>> rows = {"a": [0, 0, 1, 1, 1], "b": [0, 1, 1, 1, 1]}
        >>> net = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
        >>> _ = net.fit(rows, learner=pgnn.MaximumLikelihood(pgnn.Laplace()), progress=False)
        >>> found = credible_intervals(net, "b", {"a": 1}, seed=0)
        >>> [round(float(x["b"][1]), 1) for x in (found.low, found.mean, found.high)]
        [0.4, 0.8, 1.0]
    """
    check_real("level", level, Interval(0.0, 1.0, open_low=True, open_high=True))
    draws, random = whole_number("draws", draws, 2, ModelError), np.random.default_rng(seed)
    drawn, counts = copy.deepcopy(model), _pseudo_counts(model)
    probs: dict[Hashable, list[np.ndarray]] = {}
    labels: dict[Hashable, tuple[Any, ...]] = {}
    for _ in range(draws):
        _draw_tables(drawn, counts, random)
        posterior = drawn.query(targets, evidence)
        for v in posterior.variables:
            labels[v.name] = tuple(v.states or ())
            probs.setdefault(v.name, []).append(posterior.probs(v.name).numpy(force=True))
    ends = (1.0 - level) / 2.0, (1.0 + level) / 2.0
    low, high = ({n: np.quantile(x, q, axis=0) for n, x in probs.items()} for q in ends)
    return CredibleIntervals({n: np.mean(x, axis=0) for n, x in probs.items()}, low, high, labels)


def _pseudo_counts(model: Model) -> Mapping[Hashable, Any]:
    """Return the parameters of the posteriors of the tables.

    Raises:
        ModelError: If the history has no posterior.
        Unsupported: If it also has posteriors of normal distributions.
    """
    counts: Mapping[Hashable, Any] | None = model.history.get("posterior")
    if not counts or not isinstance(model, DirectedModel) or isinstance(model, UnrollableModel):
        raise ModelError(
            "intervals need Dirichlet posteriors of a network's tables",
            "fit with a prior, such as learner=MaximumLikelihood(Laplace()), or with "
            "VariationalBayes()",
        )
    if model.history.get("normal_posterior"):
        raise Unsupported(
            "intervals need a network whose conditionals are all tables, got normal distributions"
        )
    return counts


def _draw_tables(model: Any, counts: Mapping[Hashable, Any], random: np.random.Generator) -> None:
    """Draw tables of a model from their Dirichlet posteriors."""
    for name, pseudo_counts in counts.items():
        drawn = random.standard_gamma(np.asarray(pseudo_counts))
        total = drawn.sum(-1, keepdims=True)
        model.conditionals[name].set_probs(drawn / np.where(total > 0, total, 1.0))
