"""Learning from complete rows: each conditional separately, in closed form if it has one."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pgnn.abilities import Inputs, NetworkModel
from pgnn.errors import DataError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import LEAST_COUNT, ExponentialFamily
from pgnn.inference.convergence import Convergence
from pgnn.inference.learning.conditional_fit import fit_terms
from pgnn.inference.learning.expected_statistics import configuration_weights
from pgnn.inference.learning.given_values import contradiction
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.term import Term
from pgnn.inference.learning.training_data import read_rows
from pgnn.inference.learning.whole_number_rows import statistics_of_whole_numbers

if TYPE_CHECKING:
    from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

_GAIN = 1e-10
"""Relative gain of the log-likelihood at which a conditional with hidden parts has converged."""


class Fitted(NamedTuple):
    """The result of fitting a conditional.

    Attributes:
        unobserved: Number of configurations of discrete parents without any row, for closed forms.
        log_likelihood: Log-likelihood of the rows, if it follows from their statistics.
        verdicts: Concerns about an iterative fit; none of a closed form.
    """

    unobserved: int = 0
    log_likelihood: float | None = None
    verdicts: tuple[Convergence, ...] = ()


def fit_rows(
    model: Any,
    learner: MaximumLikelihood,
    data: Any,
    *,
    weights: Any = None,
    inputs: Inputs | None = None,
) -> None:
    """Fit a network with real variables, arrays or inputs to complete rows.

    The log-likelihood is a sum of terms, one for each conditional.

    Args:
        model: A directed network, :class:`~pgnn.abilities.NetworkModel`.
        learner: Learner with the prior and the limit of iterations.
        data: Rows, all at once.
        weights: ``(N,)`` weight of each row, or the name of a column.
        inputs: Covariates ``(N, ...)``.

    Raises:
        DataError: If something was not observed, or there are no rows. After an error the model is
            unchanged.

    Warns:
        NotConverged: If an iterative fit did not converge.
    """
    unobserved: dict[Hashable, int] = {}
    verdicts: list[Convergence] = []
    total = 0.0
    with fitting(model, learner) as history:
        rows = read_rows(model, data, weights, inputs)
        values, counts = _values(model, rows), torch.tensor(rows.row_weights)
        for name, conditional in model.conditionals.items():
            observed = {v.name: values[v.name] for v in conditional.scope}
            fitted = fit_to(conditional, observed, rows.inputs, counts, learner)
            unobserved |= {name: fitted.unobserved} if fitted.unobserved else {}
            verdicts += fitted.verdicts
            if fitted.log_likelihood is not None:
                total += fitted.log_likelihood
                continue
            found = log_likelihood(conditional, observed, rows.inputs, counts)
            given = not any(p.requires_grad for p in conditional.parameters())
            if found == -math.inf and given and not conditional.parents:  # as after do()
                raise contradiction(conditional)
            total += found
        converged = all(v.converged for v in verdicts)
        history.update(rows.extent, log_likelihood=total, converged=converged, unseen=unobserved)
    for verdict in verdicts:
        verdict.warn()


def fit_to(
    conditional: Conditional,
    values: Mapping[Hashable, Tensor],
    inputs: Mapping[Hashable, Tensor],
    weights: Tensor,
    learner: MaximumLikelihood,
) -> Fitted:
    """Fit a conditional, in place, to rows that observe all of its variables.

    Args:
        conditional: The conditional; without learnable parameters it is unchanged.
        values: ``(N, ...)`` values of its scope, by name.
        inputs: ``(N, ...)`` covariates; those of other conditionals are ignored.
        weights: ``(N,)`` weight of each row.
        learner: Learner with the prior and the limit of iterations.

    Returns:
        The result of the fit.
    """
    if not any(p.requires_grad for p in conditional.parameters()):
        return Fitted()
    if conditional.inputs or not isinstance(conditional, ExponentialFamily):
        covariates = {n: inputs[n] for n in conditional.inputs if n in inputs}
        prior, most = learner.prior_of(conditional), learner.max_iterations
        found = fit_terms([Term(conditional, values, covariates, weights)], prior, most)
        return Fitted(verdicts=(found.judge(conditional.child.name, most),))
    value: Tensor | None = None
    verdicts: tuple[Convergence, ...] = ()
    with torch.no_grad():
        spread = configuration_weights(conditional, values, weights)
        prior = learner.prior_of(conditional)
        conditional.make_uninformative()
        if conditional.has_hidden_parts:
            conditional.prepare(values)
            verdicts = (_by_passes(conditional, values, spread, weights, learner),)
        else:
            statistics = statistics_of_whole_numbers(conditional, values, spread)
            if statistics is None:
                statistics = conditional.learn(values, spread, prior)
            else:
                conditional.maximize(statistics, prior)
            value = conditional.log_likelihood(statistics, values, weights)
    each = spread.sum(dim=0)
    unobserved = int((each <= LEAST_COUNT).sum()) if each.dim() else 0
    return Fitted(unobserved, None if value is None else float(value), verdicts)


def log_likelihood(
    conditional: Conditional,
    values: Mapping[Hashable, Tensor],
    inputs: Mapping[Hashable, Tensor],
    weights: Tensor,
) -> float:
    """Return the weighted log-likelihood of rows; arguments as in :func:`fit_to`."""
    covariates = {n: inputs[n] for n in conditional.inputs if n in inputs}
    with torch.no_grad():
        logs = conditional.factor(values, covariates or None).log_values.double()
        return float((weights.to(logs) * logs).masked_fill(weights.to(logs) == 0, 0.0).sum())


def _by_passes(
    conditional: ExponentialFamily,
    values: Mapping[Hashable, Tensor],
    spread: Tensor,
    weights: Tensor,
    learner: MaximumLikelihood,
) -> Convergence:
    """Repeat steps that increase the likelihood until it converges."""
    verdict, prior = Convergence("MaximumLikelihood"), learner.prior_of(conditional)
    conditional.initialize(values, 0)
    value = log_likelihood(conditional, values, {}, weights)
    for _ in range(learner.max_iterations):
        conditional.maximize(conditional.statistics(values, spread), prior)
        before, value = value, log_likelihood(conditional, values, {}, weights)
        if value - before <= _GAIN * max(1.0, abs(value)):
            return verdict
    name = conditional.child.name
    return verdict.stopped(
        learner.max_iterations, "raise max_iterations", f"before the fit of {name!r} converged"
    )


def _values(model: NetworkModel, rows: RowEvidence) -> dict[Hashable, Tensor]:
    """``(N, *shape)`` of every variable.

    Raises:
        DataError: If values are missing.
    """
    codes = torch.from_numpy(rows.codes).long()
    values: dict[Hashable, Tensor] = {}
    for name, v in model.variables.items():
        if v.is_discrete:
            numbers = torch.from_numpy(model.elements.numbers(name))
            x = codes[:, numbers.reshape(-1)].reshape(len(codes), *v.shape)
            missing = x < 0
        elif name in rows.reals:
            x = rows.reals[name]
            if rows.fully_observes(name):
                values[name] = x
                continue
            missing = x.isnan()
        else:
            raise DataError(
                f"there are no observations of {name!r}; maximum likelihood needs all",
                "add its column, or learn with EM(), which sums out hidden variables",
            )
        gone = missing.reshape(len(x), -1).any(dim=1)
        if bool(gone.any()):
            raise DataError(
                f"cells are missing: column {name!r} in {int(gone.sum())} of {len(x)} rows "
                f"(first row {int(gone.nonzero()[0])}). Maximum likelihood needs complete rows",
                "learn with EM(), if the model can sum them out, or drop or fill those rows "
                "yourself",
            )
        values[name] = x
    return values
