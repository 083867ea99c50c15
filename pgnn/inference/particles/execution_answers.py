"""Answers from weighted executions: marginals, samples, the best execution."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ImpossibleEvidence, Unsupported
from pgnn.factors.elements import Elements
from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment
from pgnn.inference.assignment_with_reals import AssignmentWithReals
from pgnn.inference.convergence import TRUSTED_DRAWS, Convergence
from pgnn.inference.diagnostics import weighted_sample_size
from pgnn.inference.model_reader import no_posterior
from pgnn.inference.particles.executions import (
    Executions,
    weighted_marginals,
    weights_by_state,
)
from pgnn.inference.particles.weighted_posterior import WeightedPosterior
from pgnn.inference.question import Question, names_of, targets_of
from pgnn.inference.samples import Samples

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Diagnostics = Mapping[str, Any]

_CELLS = 2**22
"""Numbers held at once for standard errors."""


def posterior_of(
    question: Question, runs: Sequence[Executions], *, engine: str, diagnostics: Diagnostics
) -> WeightedPosterior:
    """Return the marginals of the targets, with standard errors."""
    discrete, reals = _target_variables(question)
    targets = targets_of(question.model, discrete)
    for v in reals:
        if any(v.name in r.uneven for r in runs):
            raise Unsupported(
                f"the shape of {v.name!r} differs between executions, so that it has no mean",
                "use other targets, or a value computed from it that always has the same shape",
            )
    named = None if question.names is None else (targets.numbers, [v.name for v in reals])
    log_evidence, figures = _figures(question, runs, engine, named)
    columns = targets.columns
    estimates = [_marginals(question, r) for r in runs]
    errors = {
        v.name: _in_rows([e[1][_places(question, v)] for e in estimates], (*v.shape, v.num_states))
        for v in targets.variables
        if v.name in question.model.elements.first
    }
    observed = question.observed
    size = len(question.model.elements.offset) and int(question.model.elements.offset[-1])
    table = np.stack([e[0] for e in estimates]) if estimates else np.zeros((0, size))
    return WeightedPosterior(
        targets.variables,
        np.ascontiguousarray(table[:, columns]),
        log_evidence + torch.from_numpy(observed.soft_scale),
        reals,
        {v.name: _stacked([r.reals[v.name] for r in runs], v) for v in reals},
        _log_weights(runs),
        families=_families(runs),
        batched=observed.batched,
        kind="estimate",
        engine=engine,
        diagnostics={
            **diagnostics,
            **figures,
            "standard_error": {n: x if observed.batched else x[0] for n, x in errors.items()},
        },
        index=observed.index,
    )


def log_evidence_of(question: Question, runs: Sequence[Executions], engine: str) -> Tensor:
    """Return ``(B,)`` estimates of the log evidence."""
    log_evidence, _ = _figures(question, runs, engine)
    return log_evidence + torch.from_numpy(question.observed.soft_scale)


def samples_of(
    question: Question, runs: Sequence[Executions], *, n: int | None = None, seed: int | None = None
) -> Samples:
    """Return the executions as samples.

    Args:
        question: The query.
        runs: Executions of each row.
        n: Number of samples, resampled to equal weights; None for all executions with their
            weights.
        seed: Random seed of the resampling.
    """
    observed, model = question.observed, question.model
    rng = np.random.default_rng(seed)
    available = len(runs[0].codes) if runs else 0
    chosen = [np.arange(available)] * len(runs)
    if n is not None:
        chosen = [rng.choice(len(r.codes), n, p=r.normalised) for r in runs]
    codes = [torch.from_numpy(r.codes[k]) for r, k in zip(runs, chosen, strict=True)]
    reals = {
        v.name: _stacked([r.reals[v.name][k] for r, k in zip(runs, chosen, strict=True)], v)
        for v in model.variables.values()
        if not v.is_discrete
    }
    size = len(model.elements)
    states = torch.stack(codes, 1) if codes else torch.zeros(n or 0, 0, size, dtype=torch.int64)
    log_weights = None if n is not None else _log_weights(runs)
    if not observed.batched:
        states, reals = states[:, 0], {k: x[:, 0] for k, x in reals.items()}
        log_weights = None if log_weights is None else log_weights[:, 0]
    return Samples(
        tuple(model.variables.values()),
        states,
        reals,
        batched=observed.batched,
        index=observed.index,
        log_weights=log_weights,
    )


def best_of(
    question: Question, runs: Sequence[Executions], *, engine: str, diagnostics: Diagnostics
) -> Assignment:
    """Return the execution of the largest density, or the states of the largest weight.

    If targets were named, they are discrete, and the other variables are summed out: states are
    ranked by the total weight of the executions that agree on them.
    """
    observed, model = question.observed, question.model
    scale = torch.from_numpy(observed.soft_scale)
    _figures(question, runs, engine)
    if question.names is None:
        at = [int(r.log_joint.argmax()) for r in runs]
        values = torch.tensor([r.log_joint[k] for r, k in zip(runs, at, strict=True)])
        pairs = [*zip(runs, at, strict=True)]
        reals = {
            v.name: torch.stack([r.reals[v.name][k] for r, k in pairs])
            if pairs
            else torch.zeros((0, *v.shape), dtype=torch.float64)
            for v in model.variables.values()
            if not v.is_discrete
        }
        states = _in_rows([r.codes[k] for r, k in pairs], (len(model.elements),), np.int64)
        variables: tuple[Variable, ...] = model.elements.variables
    else:
        targets = question.targets
        heaviest = [_heaviest(r, targets.numbers) for r in runs]
        states = _in_rows([s for s, _ in heaviest], (len(targets.numbers),), np.int64)
        values, reals = torch.tensor([x for _, x in heaviest]), {}
        variables = targets.variables
    return AssignmentWithReals(
        reals,
        variables,
        states,
        values.double() + scale,
        batched=observed.batched,
        index=observed.index,
        engine=engine,
        diagnostics=dict(diagnostics),
    )


def _target_variables(question: Question) -> tuple[list[Hashable], list[Variable]]:
    """Names of the discrete and the real targets; all latent variables if none was named."""
    model, observed = question.model, question.observed.reals
    known = {n for n, x in observed.items() if not bool(x.isnan().any())}
    if question.names is None:
        reals = [v for v in model.variables.values() if not v.is_discrete and v.name not in known]
        return [v.name for v in model.elements.variables], reals
    discrete: list[Hashable] = []
    reals = []
    for name in names_of(question.names, model.variables, model.elements):
        v = model.variables.get(name)
        if v is None or v.is_discrete:
            discrete.append(name)
        elif name in known:
            raise no_posterior(model, name)
        else:
            reals.append(v)
    return discrete, reals


def _figures(
    question: Question,
    runs: Sequence[Executions],
    engine: str,
    named: tuple[Ints, Sequence[Hashable]] | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Log evidence and its diagnostics, with a warning for small effective sample sizes.

    The effective sample size of a row is the smallest of the targets that were named (numbers of
    elements, and names of reals), over the executions that have them.
    """
    log_evidence = np.array([r.weights.log_evidence[0] for r in runs], dtype=np.float64)
    number = runs[0].weights.number if runs else 0
    lost = np.flatnonzero(np.isneginf(log_evidence))
    if len(lost) and question.errors == "raise":
        raise ImpossibleEvidence(
            f"none of {number} executions agreed with the evidence in rows {lost[:5].tolist()}: "
            "it is impossible, or too improbable for this number of executions",
            tuple(lost.tolist()),
            advice=f"draw more with {engine}(...)",
        )
    sizes = np.array([min([_size(r.normalised), *_sizes_of(r, *named or ((), ()))]) for r in runs])
    sizes[lost] = 0.0
    least = np.array([min(r.weights.least[0], s) for r, s in zip(runs, sizes, strict=True)])
    judged = Convergence(engine).few_draws(
        least, number, f"draw more with {engine}(...)", TRUSTED_DRAWS
    )
    judged.warn()
    errors = [r.weights.standard_error()[0] for r in runs]
    return torch.from_numpy(log_evidence), {
        "num_samples": number,
        "effective_sample_size": torch.from_numpy(sizes),
        "log_evidence_standard_error": torch.tensor(errors, dtype=torch.float64),
    }


def _size(weights: Floats) -> float:
    return float(weighted_sample_size(weights.sum(), np.square(weights).sum()))


def _sizes_of(
    run: Executions, numbers: Sequence[int] | Ints, reals: Sequence[Hashable]
) -> list[float]:
    """Effective sample sizes of some targets, over the executions that have them."""
    absent = [run.codes[:, k] < 0 for k in numbers]
    absent += [run.reals[n].isnan().reshape(len(run.codes), -1).any(-1).numpy() for n in reals]
    return [_size(run.normalised[~x]) for x in absent if x.any()]


def _marginals(question: Question, run: Executions) -> tuple[Floats, Floats]:
    """``(S,)`` marginals of all elements, and their standard errors."""
    elements = question.model.elements
    total = int(elements.offset[-1]) if len(elements) else 0
    if np.isneginf(run.weights.log_evidence[0]) or not len(elements):
        nothing = np.full(total, np.nan)
        return nothing, nothing
    p = weighted_marginals(elements, run.codes, run.normalised)
    return p, _errors(run, elements, p)


def _errors(run: Executions, elements: Elements, p: Floats) -> Floats:
    """``(S,)`` standard errors of ratios of sums, over families of executions."""
    n, families = run.weights.number, run.weights.families()[0]
    place, state_weights = weights_by_state(elements, run.codes, run.normalised)
    totals = np.repeat(state_weights.sum(axis=0), elements.card)
    squares = np.empty(len(p))
    step = max(1, _CELLS // (n * int(elements.card.max())))
    for first in range(0, len(elements), step):
        some = slice(first, min(first + step, len(elements)))
        start, end = elements.offset[some.start], elements.offset[some.stop]
        shares = np.zeros((n, end - start))
        np.add.at(shares, (families[:, None], place[:, some] - start), state_weights[:, some])
        alive = np.zeros((n, some.stop - some.start))
        np.add.at(alive, families, state_weights[:, some])
        shares -= np.repeat(alive, elements.card[some], axis=1) * p[start:end]
        squares[start:end] = np.square(shares).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(squares) / totals)


def _places(question: Question, variable: Variable) -> Any:
    """Columns of a variable's states, ``(*shape, K)``."""
    elements = question.model.elements
    first = elements.offset[np.asarray(elements.numbers(variable.name))]
    return np.asarray(first)[..., None] + np.arange(variable.num_states)


def _heaviest(run: Executions, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
    """The states of some elements with the largest weight, and the log of their probability."""
    states, inverse = np.unique(run.codes[:, numbers], axis=0, return_inverse=True)
    sums = np.bincount(inverse.ravel(), run.normalised)
    best = int(sums.argmax())
    with np.errstate(divide="ignore"):
        return states[best], float(run.weights.log_evidence[0] + np.log(sums[best]))


def _log_weights(runs: Sequence[Executions]) -> Tensor:
    with np.errstate(divide="ignore"):
        logs = [np.log(r.normalised) + np.log(r.weights.number) for r in runs]
    rows = [x + r.weights.log_evidence[0] for x, r in zip(logs, runs, strict=True)]
    return torch.from_numpy(np.stack(rows, axis=1)) if rows else torch.zeros(0, 0).double()


def _in_rows(rows: Sequence[Any], shape: tuple[int, ...], dtype: Any = np.float64) -> Tensor:
    """Concatenated rows, of which there may be none."""
    return torch.from_numpy(np.stack(rows) if rows else np.zeros((0, *shape), dtype))


def _families(runs: Sequence[Executions]) -> Tensor | None:
    if not runs:
        return None
    return torch.from_numpy(np.stack([r.weights.families()[0] for r in runs], axis=1))


def _stacked(rows: Sequence[Tensor], variable: Variable) -> Tensor:
    """``(n, B, *shape)`` values of all rows, stacked."""
    if not rows:
        return torch.zeros(0, 0, *variable.shape, dtype=torch.float64)
    return torch.stack([*rows], dim=1)
