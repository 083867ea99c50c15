"""Information criteria and model selection."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pgnn.abilities import FactorModel, Inputs, StepwiseModel, UnrollableModel
from pgnn.errors import DataError, ModelError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.evidence.wrappers import with_lengths
from pgnn.factors.piece import Piece
from pgnn.inference.model_reader import reader_of
from pgnn.metrics.criterion import Criterion, log_likelihood
from pgnn.models.model import Model

if TYPE_CHECKING:
    import pandas as pd


def num_learnable_parameters(model: nn.Module) -> int:
    """Return the number of free parameters of a model that a fit changes.

    Unlike those of ``model.num_free_parameters``, constants such as given tables are excluded.
    Each row of a table has one free parameter fewer than entries: those that a fit estimated as
    zero count, those that were declared as zero, such as by ``mask=``, do not. The number is the
    same before and after a fit. For other parameters, redundant ones, such as a rotation of hidden
    factors, are subtracted.

    Example:
        >>> from pgnn import HiddenMarkovModel
        >>> model = HiddenMarkovModel(3, {"x": 4})
        >>> num_learnable_parameters(model)  # 3 rows of 4, 3 of 3 and 1 of 3
        17
    """
    counted = {p: p.numel() for p in model.parameters() if p.requires_grad}
    for owner in model.modules():
        if isinstance(owner, Piece | Model):  # shared parameters are counted once
            own = [p for p in _own_parameters(owner) if p in counted]
            counted |= {p: owner.num_free(p) for p in own}
    redundant = sum(m.num_redundant for m in model.modules() if isinstance(m, Model))
    return sum(counted.values()) - redundant


def _own_parameters(owner: Piece | Model) -> list[nn.Parameter]:
    """Parameters that do not belong to a part."""
    parts = [m for m in owner.modules() if m is not owner and isinstance(m, Piece | Model)]
    nested = {p for part in parts for p in part.parameters()}
    return [p for p in owner.parameters() if p not in nested]


def num_observations(model: Model, data: Any) -> int:
    """Return the number of steps (or rows, for a model without time) with an observation.

    Args:
        model: A model of the variables in the data.
        data: See ``model.log_prob``.
    """
    if isinstance(model, UnrollableModel):
        return _observed_steps(SequenceEvidence.of(model, data))
    if isinstance(model, FactorModel) and not isinstance(model, StepwiseModel):
        return _observed_rows(reader_of(model).read_given(data))
    return model.log_prob(data).numel()


def _observed_steps(evidence: SequenceEvidence) -> int:
    present = torch.zeros(evidence.num_rows, evidence.steps, dtype=torch.bool)
    for codes in evidence.codes.values():
        present |= codes >= 0
    for reals in evidence.reals.values():
        present |= ~reals.isnan().reshape(*present.shape, -1).all(-1)
    for likely in evidence.soft.values():
        present |= (likely != likely[..., :1]).any(-1)
    return int((present & evidence.inside).sum())


def _observed_rows(evidence: RowEvidence) -> int:
    present = (evidence.codes >= 0).any(axis=1)
    if evidence.soft is not None:
        present |= (evidence.soft != 1).any(axis=1)  # ones where there is no finding
    for reals in evidence.reals.values():
        present |= (~reals.isnan().reshape(len(reals), -1).all(-1)).numpy(force=True)
    return int(present.sum())


def bic(
    model: Model,
    data: Any,
    inputs: Inputs | None = None,
    *,
    num_parameters: int | None = None,
    lengths: Any = None,
) -> float:
    r"""Return the Bayesian information criterion; smaller is better.

    .. math:: -2 \log p(\text{data} \mid \hat\theta) + k \log n

    with :math:`k` free parameters and :math:`n` observed steps (or rows).

    Args:
        model: A model fitted to the data.
        data: See ``model.log_prob``.
        inputs: Covariates.
        num_parameters: ``k``; by default, :func:`num_learnable_parameters` of the fitted model.
        lengths: Lengths of sequences that are concatenated in one array.

    Raises:
        DataError: If the data has no observation.

    References:
        Schwarz (1978), Estimating the dimension of a model.
    """
    data = with_lengths(data, lengths)
    n = num_observations(model, data)
    if not n:
        raise DataError("the criterion needs at least one observation, but all data is missing")
    k = num_learnable_parameters(model) if num_parameters is None else num_parameters
    return k * math.log(n) - 2.0 * log_likelihood(model, data, inputs)


def aic(
    model: Model,
    data: Any,
    inputs: Inputs | None = None,
    *,
    num_parameters: int | None = None,
    lengths: Any = None,
) -> float:
    r"""Return Akaike's criterion :math:`2 k - 2 \log p(\text{data})`; smaller is better.

    See :func:`bic` for the arguments.

    References:
        Akaike (1974), A new look at the statistical model identification.
    """
    k = num_learnable_parameters(model) if num_parameters is None else num_parameters
    return 2.0 * k - 2.0 * log_likelihood(model, with_lengths(data, lengths), inputs)


@dataclass(frozen=True)
class Bic(Criterion):
    """The Bayesian information criterion of a model fitted to all data, see :func:`bic`."""

    def figure(self, model: Model, data: Any, inputs: Inputs | None, **fit: Any) -> float:
        """See the base class."""
        model.fit(data, inputs=inputs, **fit)
        return bic(model, data, inputs)


@dataclass(frozen=True)
class Choice:
    """The best of several fitted candidates.

    Attributes:
        name: Name of the best candidate.
        model: The fitted model.
        table: The ``figure`` of each candidate by name, its number of free ``parameters`` and its
            ``log_likelihood`` of all data.
        models: All fitted candidates.
    """

    name: Hashable
    model: Model
    table: dict[Hashable, dict[str, float]]
    models: dict[Hashable, Model]

    def __str__(self) -> str:
        """The best candidate, and the table."""
        return f"best candidate {self.name!r}\n{self.frame().to_string()}"

    def __repr__(self) -> str:
        """The best candidate; the figures are in :meth:`frame`."""
        return f"Choice({self.name!r} of {len(self.table)} candidates)"

    def frame(self) -> pd.DataFrame:
        """Return the table as a data frame with a row for each candidate."""
        import pandas as pd

        return pd.DataFrame.from_dict(self.table, orient="index")


def choose(
    models: Mapping[Hashable, Model] | Iterable[Model],
    data: Any,
    inputs: Inputs | None = None,
    *,
    criterion: Criterion | None = None,
    lengths: Any = None,
    **fit: Any,
) -> Choice:
    """Fit candidates, such as hidden Markov models with 2 to 6 states, and return the best one.

    Args:
        models: Candidates, as a mapping or a sequence; they are fitted in place.
        data: See ``model.fit``.
        inputs: Covariates.
        criterion: ``Bic()`` by default, or ``HeldOut()``.
        lengths: Lengths of sequences that are concatenated in one array.
        **fit: Further arguments of ``model.fit``, such as ``learner`` and ``seed``.

    Raises:
        ModelError: If there are no candidates.
        DataError: If the criterion of a candidate is not a number.

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
        raise ModelError("model selection needs at least one candidate, got none")
    criterion, data = Bic() if criterion is None else criterion, with_lengths(data, lengths)
    table: dict[Hashable, dict[str, float]] = {}
    for name, model in candidates.items():
        figure = criterion.figure(model, data, inputs, **fit)
        if math.isnan(figure):
            raise DataError(f"the criterion of candidate {name!r} is not a number", "check its fit")
        table[name] = {
            "figure": figure,
            "parameters": num_learnable_parameters(model),
            "log_likelihood": log_likelihood(model, data, inputs),
        }
    best = min(table, key=lambda name: table[name]["figure"])
    return Choice(best, candidates[best], table, candidates)
