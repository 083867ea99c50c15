"""Learning from fully observed sequences: each conditional separately."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Prior
from pgnn.factors.time_steps import has_lag, without_lag
from pgnn.inference.convergence import Convergence
from pgnn.inference.learning.complete_rows import fit_to
from pgnn.inference.learning.expected_statistics import check_owners
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.training_data import read_sequences

if TYPE_CHECKING:
    from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood


def fit_slices(
    model: Any,
    learner: MaximumLikelihood,
    data: Any,
    *,
    weights: Any = None,
    inputs: Inputs | None = None,
) -> None:
    """Fit a model over time to fully observed sequences.

    The log-likelihood is a sum of terms, one for each conditional, so that each is fitted to the
    steps at which it applies: in closed form if it has one, by L-BFGS otherwise.

    Args:
        model: A model over time.
        learner: Its prior and its limit of iterations.
        data: Sequences, see :class:`~pgnn.evidence.sequence_evidence.SequenceEvidence`.
        weights: ``(B,)`` weights of the sequences.
        inputs: Covariates ``(B, T, ...)``.

    Raises:
        DataError: If values are missing, or there are no steps. After an error the model is
            unchanged.
        ModelError: If nothing is learnable.
        Unsupported: If conditionals share learnable parameters, or are those of segments.

    Warns:
        NotConverged: If an iterative fit did not converge.
    """
    verdicts: list[Convergence] = []
    if not model.is_stepwise:
        raise Unsupported(
            f"MaximumLikelihood() counts steps, and {type(model).__name__} has segments of several",
            "learn with EM(), which takes sequences with observed states, too",
        )
    with fitting(model, learner) as history:
        observed = read_sequences(model, data, weights, inputs)
        if not any(p.requires_grad for p in model.parameters()):
            raise ModelError(
                "every conditional was given and is a constant",
                "model.requires_grad_() makes them learnable",
            )
        pieces = _pieces(model)
        check_owners(pieces)
        if isinstance(learner.prior, Prior):
            learner.prior.check({c.child.name: c for c in pieces.values()})
        for name, conditional in model.conditionals.items():
            begun = model.first(name) is conditional
            start = 0 if begun else 1
            verdicts += _fit(observed, conditional, start, observed.steps, learner)
            if not begun:
                verdicts += _fit(observed, model.first(name), 0, 1, learner)
        with torch.no_grad():
            log_z = model.log_prob(observed, inputs=inputs).double().reshape(-1)
        history.update(
            observed.extent,
            log_likelihood=float(observed.weighted_sum(log_z)),
            converged=all(v.converged for v in verdicts),
        )
    for verdict in verdicts:
        verdict.warn()


def fully_observed(names: Iterable[Hashable], observed: SequenceEvidence) -> bool:
    """Whether all variables were observed at every step of every sequence."""
    known = {**observed.codes, **observed.reals}
    if any(n not in known for n in names):
        return False
    for x in known.values():
        missing = x.isnan() if x.is_floating_point() else x < 0
        if bool((missing.reshape(*x.shape[:2], -1).any(-1) & observed.inside).any()):
            return False
    return True


def _pieces(model: Any) -> dict[Hashable, Conditional]:
    """Conditionals by their names in EM, including those of the first step if they differ."""
    firsts = {n: model.first(n) for n in model.conditionals}
    initial = {("initial", n): c for n, c in firsts.items() if c is not model.conditionals[n]}
    return {**model.conditionals, **initial}


def _fit(
    observed: SequenceEvidence,
    conditional: Conditional,
    first: int,
    last: int,
    learner: MaximumLikelihood,
) -> Sequence[Convergence]:
    """Fit a conditional to the steps of a span; return concerns."""
    if not any(p.requires_grad for p in conditional.parameters()):
        return ()
    present = observed.inside[:, first:last]
    if not bool(present.any()):
        return ()
    values = {v.name: _values(observed, v.name, first, last)[present] for v in conditional.scope}
    inputs = {
        n: observed.inputs[n][:, first:last][present]
        for n in conditional.inputs
        if n in observed.inputs
    }
    weights = torch.from_numpy(observed.row_weights)[:, None].expand_as(present)[present]
    return fit_to(conditional, values, inputs, weights, learner).verdicts


def _values(observed: SequenceEvidence, name: Hashable, first: int, last: int) -> Tensor:
    """Return ``(B, steps, ...)`` values of a variable, of the previous step for ``(name, -1)``."""
    known = {**observed.codes, **observed.reals}
    source, late = without_lag(name), has_lag(name)
    if source not in known:
        raise DataError(
            f"{source!r} was not observed; counting needs every variable",
            "learn with EM(), which sums out hidden variables",
        )
    x = known[source]
    missing = (x.isnan() if x.is_floating_point() else x < 0).reshape(*x.shape[:2], -1).any(-1)
    if bool((missing & observed.inside).any()):
        row, step = (missing & observed.inside).nonzero()[0].tolist()
        raise DataError(
            f"{source!r} was not observed in row {row} at step {step}; counting needs every "
            "variable at every step",
            "learn with EM(), which sums out missing values",
        )
    return x[:, first - late : last - late]
