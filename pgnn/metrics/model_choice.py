"""Figures by which models are compared, and the choice among candidates."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pgnn.abilities import DirectedModel, Inputs, UnrollableModel
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.piece import Piece
from pgnn.limits import Interval, check_real, check_settings, whole_number
from pgnn.models.model import Model

if TYPE_CHECKING:
    import pandas as pd


def num_free_parameters(model: nn.Module) -> int:
    """Return how many numbers of a model are free to be learnt.

    Constants, such as tables that were given, do not count. A table has one number less in each
    row than it has entries that may be positive: zeros are taken for structural ones, so count
    before a fit, in which entries may become zero. Of anything else each number counts.

    Example:
        >>> from pgnn import HiddenMarkovModel
        >>> num_free_parameters(HiddenMarkovModel(3, {"x": 4}))  # 3 rows of 4, 3 of 3 and 1 of 3
        17
    """
    counted: dict[nn.Parameter, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:  # shared ones count once
                free = module.num_free(parameter) if isinstance(module, Piece) else None
                counted[parameter] = parameter.numel() if free is None else free
    return sum(counted.values())


def num_observations(model: Model, data: Any) -> int:
    """Return how many steps, or rows of a model without time, have something observed.

    Args:
        model: Whose variables the data names.
        data: As for ``model.log_prob``.
    """
    if not isinstance(model, UnrollableModel):
        return model.log_prob(data).numel()
    seen = SequenceEvidence.of(model, data)
    there = torch.zeros(seen.num_rows, seen.steps, dtype=torch.bool)
    for codes in seen.codes.values():
        there |= codes >= 0
    for reals in seen.reals.values():
        there |= ~reals.flatten(start_dim=2).isnan().all(-1) if reals.dim() > 2 else ~reals.isnan()
    for likely in seen.soft.values():
        there |= (likely != likely[..., :1]).any(-1)
    return int((there & seen.inside).sum())


def bic(
    model: Model, data: Any, inputs: Inputs | None = None, *, num_parameters: int | None = None
) -> float:
    r"""Return the Bayesian information criterion; smaller is better.

    .. math:: -2 \log p(\text{data} \mid \hat\theta) + k \log n

    with :math:`k` learnable numbers and :math:`n` steps (or rows) that were observed.

    Args:
        model: After a fit to the data.
        data: As for ``model.log_prob``.
        inputs: Covariates.
        num_parameters: ``k``; :func:`num_free_parameters` of the model as it is if not given.

    Raises:
        DataError: If nothing was observed.

    References:
        Schwarz (1978), Estimating the dimension of a model.
    """
    n = num_observations(model, data)
    if not n:
        raise DataError("nothing was observed, so that there is no criterion")
    k = num_free_parameters(model) if num_parameters is None else num_parameters
    return k * math.log(n) - 2.0 * _total(model, data, inputs)


def aic(
    model: Model, data: Any, inputs: Inputs | None = None, *, num_parameters: int | None = None
) -> float:
    r"""Return Akaike's criterion :math:`2 k - 2 \log p(\text{data})`; smaller is better.

    Arguments as of :func:`bic`.

    References:
        Akaike (1974), A new look at the statistical model identification.
    """
    k = num_free_parameters(model) if num_parameters is None else num_parameters
    return 2.0 * k - 2.0 * _total(model, data, inputs)


class Criterion(ABC):
    """How candidates are compared."""

    @abstractmethod
    def figure(self, model: Model, data: Any, inputs: Inputs | None, **fit: Any) -> float:
        """Fit the model in place and return a figure, of which the smallest is the best.

        Args:
            model: Candidate.
            data: As for ``model.fit``.
            inputs: Covariates.
            **fit: Further arguments of ``model.fit``.
        """


@dataclass(frozen=True)
class Bic(Criterion):
    """The Bayesian information criterion of a model fitted to all data, see :func:`bic`."""

    def figure(self, model: Model, data: Any, inputs: Inputs | None, **fit: Any) -> float:
        """See the base class."""
        k = _count(model)
        model.fit(data, inputs=inputs, **fit)
        return bic(model, data, inputs, num_parameters=k)


@dataclass(frozen=True)
class HeldOut(Criterion):
    r"""Minus the log-likelihood, for each step that was observed, of sequences or rows set apart.

    A single sequence is cut in two: the last steps are held out, and predicted from those
    before, :math:`\log p(x_{1:T}) - \log p(x_{1:S})`. The fit sees the rest alone.

    Args:
        share: Of the sequences, or of the steps of a single one, that is set apart.
        seed: Of which sequences.

    Raises:
        ModelError: If the share is not between 0 and 1.
    """

    share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, share=Interval(0.0, 1.0, open_low=True, open_high=True))

    def figure(self, model: Model, data: Any, inputs: Inputs | None, **fit: Any) -> float:
        """See the base class.

        Raises:
            DataError: If there is too little to set anything apart.
            Unsupported: If the model is not one over time.
        """
        if not isinstance(model, UnrollableModel):
            raise Unsupported("HeldOut sets sequences apart; use a model over time")
        sequential: Any = model
        seen = SequenceEvidence.of(model, data)
        covariates = sequential.covariates(inputs, seen)
        if seen.num_rows == 1:
            first = seen.take(torch.tensor([0]), self._left(int(seen.lengths[0])))
            first_covariates = {n: x[:, : first.steps] for n, x in covariates.items()} or None
            model.fit(first, inputs=first_covariates, **fit)
            before = _total(model, first, first_covariates)
            later = num_observations(model, seen) - num_observations(model, first)
            return (before - _total(model, seen, inputs)) / max(later, 1)
        order = torch.from_numpy(np.random.default_rng(self.seed).permutation(seen.num_rows))
        left = self._left(seen.num_rows)
        kept, apart = order[:left].sort().values, order[left:].sort().values
        parts = [seen.take(rows, seen.steps) for rows in (kept, apart)]
        split_covariates = [
            {n: x[rows] for n, x in covariates.items()} or None for rows in (kept, apart)
        ]
        model.fit(parts[0], inputs=split_covariates[0], **fit)
        total = _total(model, parts[1], split_covariates[1])
        return -total / max(num_observations(model, parts[1]), 1)

    def _left(self, count: int) -> int:
        """How many of so many are learnt from."""
        left = count - max(1, round(self.share * count))
        if left < 1:
            raise DataError(f"{count} are too few to set some apart")
        return left


@dataclass(frozen=True)
class Choice:
    """The best of several fitted candidates.

    Attributes:
        name: Its name among the candidates.
        model: The fitted model.
        table: For each candidate by name its ``figure``, learnable numbers ``parameters`` and
            ``log_likelihood`` of all data.
        models: All of them.
    """

    name: Hashable
    model: Model
    table: dict[Hashable, dict[str, float]]
    models: dict[Hashable, Model]

    def frame(self) -> pd.DataFrame:
        """Return the table as a data frame, a row for each candidate."""
        import pandas as pd

        return pd.DataFrame.from_dict(self.table, orient="index")


def choose(
    models: Mapping[Hashable, Model] | Iterable[Model],
    data: Any,
    inputs: Inputs | None = None,
    *,
    criterion: Criterion | None = None,
    **fit: Any,
) -> Choice:
    """Fit candidates, such as hidden Markov models of 2 to 6 states, and return the best one.

    Args:
        models: Candidates, by name or numbered; they are fitted in place.
        data: As for ``model.fit``.
        inputs: Covariates.
        criterion: ``Bic()`` if not given, or ``HeldOut()``.
        **fit: Further arguments of ``model.fit``, such as ``learner`` and ``seed``.

    Raises:
        ModelError: If there are no candidates.
        DataError: If a figure is not a number.

    Example:
        >>> import pgnn
        >>> model = pgnn.HiddenMarkovModel(1, {"x": [[0.9, 0.1]]})
        >>> data = model.sample(1, {"T": 500}, seed=0)
        >>> found = choose(
        ...     {k: pgnn.HiddenMarkovModel(k, {"x": 2}) for k in (1, 2)},
        ...     {"x": data["x"][0]},
        ...     learner=pgnn.EM(tolerance=1e-4),
        ...     seed=0,
        ...     progress=False,
        ... )
        >>> found.name
        1
    """
    candidates = dict(models) if isinstance(models, Mapping) else dict(enumerate(models))
    if not candidates:
        raise ModelError("there are no candidates to choose from")
    criterion = Bic() if criterion is None else criterion
    table: dict[Hashable, dict[str, float]] = {}
    for name, model in candidates.items():
        count = _count(model)
        figure = criterion.figure(model, data, inputs, **fit)
        count = num_free_parameters(model) if count is None else count
        if math.isnan(figure):
            raise DataError(f"the figure of candidate {name!r} is not a number")
        table[name] = {
            "figure": figure,
            "parameters": count,
            "log_likelihood": _total(model, data, inputs),
        }
    best = min(table, key=lambda name: table[name]["figure"])
    return Choice(best, candidates[best], table, candidates)


def _count(model: Model) -> int | None:
    """Learnable numbers before a fit; None where only data tells what the model is."""
    try:
        model.variables  # noqa: B018
    except ModelError:
        return None
    return num_free_parameters(model)


def _total(model: Model, data: Any, inputs: Inputs | None) -> float:
    with torch.no_grad():
        return float(model.log_prob(data, inputs=inputs).double().sum())


@dataclass(frozen=True)
class CredibleIntervals:
    """What the data leaves uncertain about posterior probabilities.

    Attributes:
        mean: ``(K,)`` or ``(B, K)`` means over the posterior of the tables, by variable.
        low: The lower ends of the intervals, likewise.
        high: The upper ends.
        labels: States of each variable.
    """

    mean: dict[Hashable, np.ndarray]
    low: dict[Hashable, np.ndarray]
    high: dict[Hashable, np.ndarray]
    labels: dict[Hashable, tuple[Any, ...]]

    def frame(self) -> pd.DataFrame:
        """Return a data frame: a row for each state (of each row of a batch)."""
        import pandas as pd

        parts = []
        for name, own in self.mean.items():
            told = {"mean": own, "low": self.low[name], "high": self.high[name]}
            index = [range(len(own)), self.labels[name]] if own.ndim == 2 else [self.labels[name]]
            names = ["row", "state"] if own.ndim == 2 else ["state"]
            rows = pd.MultiIndex.from_product([[name], *index], names=["variable", *names])
            parts.append(pd.DataFrame({n: x.reshape(-1) for n, x in told.items()}, index=rows))
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
    r"""Return intervals for the answer of a query, from the Dirichlet posteriors of the tables.

    Tables are drawn from their posteriors, and the query is asked of each draw: the ends are
    quantiles of the answers, by Monte Carlo, with an error of about :math:`1 / \sqrt{\text{draws}}`
    of the width. Tables that were given are certain.

    Args:
        model: A network of tables, after a fit with a prior or by :class:`VariationalBayes`:
            ``model.history["posterior"]`` has the pseudo-counts.
        targets: As in a query; discrete.
        evidence: As in a query.
        level: Probability of an interval; as much is left out on either side.
        draws: How many tables.
        seed: Of the draws.

    Raises:
        ModelError: If the history has no posterior, or a setting is out of range.

    Cost:
        That of so many queries.

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
    inside = Interval(0.0, 1.0, open_low=True, open_high=True)
    check_real("level", level, inside)
    draws = whole_number("draws", draws, 2, ModelError)
    counts = model.history.get("posterior")
    if not counts or not isinstance(model, DirectedModel) or isinstance(model, UnrollableModel):
        raise ModelError(
            "intervals need Dirichlet posteriors of a network's tables: fit with a prior, such as "
            "learner=MaximumLikelihood(Laplace()), or with VariationalBayes()"
        )
    if model.history.get("normal_posterior"):
        raise Unsupported("intervals are of networks of tables; this one has normal distributions")
    own, random = copy.deepcopy(model), np.random.default_rng(seed)
    tables: dict[Hashable, Any] = {n: own.conditionals[n] for n in counts}
    answers: dict[Hashable, list[np.ndarray]] = {}
    labels: dict[Hashable, tuple[Any, ...]] = {}
    for _ in range(draws):
        for name, table in tables.items():
            drawn = random.standard_gamma(np.asarray(counts[name]))
            total = drawn.sum(-1, keepdims=True)
            table.set_probs(drawn / np.where(total > 0, total, 1.0))
        posterior = own.query(targets, evidence)
        for v in posterior.variables:
            labels[v.name] = tuple(v.states or ())
            answers.setdefault(v.name, []).append(posterior.probs(v.name).numpy(force=True))
    ends = (1.0 - level) / 2.0, (1.0 + level) / 2.0
    stacked = {n: np.stack(x) for n, x in answers.items()}
    low, high = ({n: np.quantile(x, q, axis=0) for n, x in stacked.items()} for q in ends)
    return CredibleIntervals({n: x.mean(axis=0) for n, x in stacked.items()}, low, high, labels)
