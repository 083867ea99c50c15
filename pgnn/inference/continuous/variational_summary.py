"""Answers from a fitted guide: bounds, marginals and draws."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgnn.factors.variable import Variable
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, by_row
from pgnn.inference.continuous.objective import Objective, Renyi
from pgnn.inference.continuous.variational_targets import VariationalTargets
from pgnn.inference.continuous.weighted_draws import Weighted
from pgnn.inference.diagnostics import weighted_sample_size
from pgnn.inference.history import History
from pgnn.inference.question import Targets
from pgnn.inference.samples import Samples

_CELLS = 20_000
"""Largest number of draws times rows that are evaluated at once."""


class Summary(NamedTuple):
    """Averages over draws from a fitted guide.

    Attributes:
        marginals: ``(B, S)`` marginals of the discrete targets.
        log_evidence: ``(B,)`` bounds on the log evidence.
        draws: Draws of the real latents by name.
        kind: Kind of the log evidence.
        diagnostics: Standard error of the bound, effective sample size and others.
    """

    marginals: Tensor
    log_evidence: Tensor
    draws: dict[Hashable, Tensor]
    kind: str
    diagnostics: dict[str, Any]


class Guided(NamedTuple):
    """A fitted guide and its summary.

    Attributes:
        problem: The density and the guide.
        history: The record of the fit.
        summary: Draws, marginals and diagnostics.
        targets: The targets of the query.
    """

    problem: ModelAndGuide
    history: History
    summary: Summary
    targets: VariationalTargets


def summarize(
    problem: ModelAndGuide,
    objective: Objective,
    draws: int,
    generator: torch.Generator,
    targets: Targets,
) -> Summary:
    """Draw from a fitted guide and average.

    Args:
        problem: Model and fitted guide.
        objective: Objective whose value is the bound.
        draws: Number of draws, rounded up to a multiple of the particles of the objective.
        generator: Random generator of the draws.
        targets: The discrete targets.
    """
    K = objective.num_particles
    draws = -(-draws // K) * K
    model, rows = problem.density.model, problem.num_rows
    columns = torch.from_numpy(targets.columns)
    mask = targets.mask
    order = targets.order
    total = torch.zeros(rows, len(columns), dtype=torch.float64)
    weights: list[Tensor] = []
    values: dict[Hashable, list[Tensor]] = {}
    with torch.no_grad():
        for size in _batch_sizes(draws, max(1, _CELLS // max(rows, 1))):
            weighted = problem.weighted(objective, generator, draws=size)
            weights.append(weighted.log_weights)
            for k, x in _values(weighted).items():
                values.setdefault(k, []).append(x)
            if len(columns):
                answer = problem.density.solved(by_row(_broadcast(weighted, rows)))
                marginals, _ = answer.marginals(mask)
                total += marginals.double().reshape(size, rows, len(columns)).sum(0)
    if order is not None:
        total = total[:, torch.from_numpy(order)]
    drawn = {k: torch.cat(x) for k, x in values.items() if not model.variables[k].is_discrete}
    log_weights = torch.cat(weights)
    return _bounded(problem, objective, log_weights, total / draws, drawn)


def _bounded(
    problem: ModelAndGuide,
    objective: Objective,
    log_weights: Tensor,
    marginals: Tensor,
    draws: dict[Hashable, Tensor],
) -> Summary:
    K = objective.num_particles
    count, rows = log_weights.shape
    groups = log_weights.reshape(count // K, K, rows).unbind(0)
    values = torch.stack([objective.combine(g) for g in groups])
    mean = values.mean(0)
    diagnostics: dict[str, Any] = {}
    kind = "lower bound"
    if not problem.is_density:
        diagnostics["log_density"] = mean
        return Summary(marginals, torch.full_like(mean, torch.nan), draws, "estimate", diagnostics)
    if isinstance(objective, Renyi) and objective.alpha < 0:
        kind = "estimate"
    best = log_weights.max(0).values
    scaled = (log_weights - best.nan_to_num(neginf=0.0)).exp()
    size = weighted_sample_size(scaled.sum(0), scaled.square().sum(0))
    if len(values) > 1:  # a single value has no standard error
        spread = (values - mean).square().sum(0) / (len(values) - 1.0)
        diagnostics["standard_error"] = (spread / len(values)).sqrt()
    diagnostics["importance_weighted"] = log_weights.logsumexp(0) - float(np.log(len(log_weights)))
    diagnostics["effective_sample_size"] = size
    impossible = mean.isneginf()
    if "shared" not in problem.parts and bool(impossible.any()):
        marginals = marginals.masked_fill(impossible.unsqueeze(1), torch.nan)
    return Summary(marginals, mean, draws, kind, diagnostics)


def drawn_samples(
    problem: ModelAndGuide, objective: Objective, n: int, generator: torch.Generator
) -> Samples:
    """Draw real latents from the guide, and discrete variables exactly given them.

    Real variables that the guide does not draw are ``NaN``.
    """
    with torch.no_grad():
        weighted = problem.weighted(objective, generator, draws=max(n, 1))
    return samples_given(problem, _values(weighted), generator, n)


def samples_given(
    problem: ModelAndGuide,
    draws: Mapping[Hashable, Tensor],
    generator: torch.Generator,
    n: int | None = None,
) -> Samples:
    """Return samples of all variables, discrete ones drawn exactly given those of the guide.

    Args:
        problem: Model and fitted guide.
        draws: ``(S, B, *shape)`` draws of the guide; ``(S, *shape)`` of shared latents.
        generator: Random generator of the states.
        n: Number of samples, at most ``S``; all by default.
    """
    model, observed = problem.density.model, problem.density.observed
    rows, number = observed.num_rows, len(next(iter(draws.values())))
    n = number if n is None else n
    values = {k: _in_all_rows(model.variables[k], x, rows) for k, x in draws.items()}
    with torch.no_grad():
        answer = problem.density.solved(by_row(values))
        seed = int(torch.randint(2**31, (), generator=generator))
        states, _ = answer.solver.draw(answer.codes, answer.soft, 1, seed)
    codes = torch.from_numpy(states.astype(np.int64))[0].reshape(number, rows, states.shape[-1])[:n]
    reals = {}
    for v in model.variables.values():
        if v.is_discrete:
            continue
        known = values.get(v.name, observed.reals.get(v.name))
        if known is None:  # a program's guide may leave out what nothing depends on
            known = torch.full((1,), torch.nan).reshape([1] * (2 + len(v.shape)))
        reals[v.name] = known[:n] if v.name in values else known.expand(n, rows, *v.shape)
    if not observed.batched:
        codes, reals = codes[:, 0], {k: x[:, 0] for k, x in reals.items()}
    variables = tuple(model.variables.values())
    return Samples(variables, codes, reals, batched=observed.batched, index=observed.index)


def _in_all_rows(variable: Variable, draws: Tensor, rows: int) -> Tensor:
    """``(S, B, *shape)`` draws; those of a shared latent are repeated."""
    draws = draws.unsqueeze(1) if draws.dim() == 1 + len(variable.shape) else draws
    return draws.expand(len(draws), rows, *draws.shape[2:])


def _batch_sizes(draws: int, largest: int) -> list[int]:
    """Return the sizes of batches of draws."""
    full, remainder = divmod(draws, largest)
    return [largest] * full + ([remainder] if remainder else [])


def _values(weighted: Weighted) -> dict[Hashable, Tensor]:
    """Return ``(S, B, *shape)`` draws, ``(S, *shape)`` of shared latents."""
    values: dict[Hashable, Tensor] = {}
    if weighted.shared is not None:
        values.update({k: x[:, 0] for k, x in weighted.shared.values.items()})
    if weighted.local is not None:
        values.update(weighted.local.values)
    return values


def _broadcast(weighted: Weighted, rows: int) -> dict[Hashable, Tensor]:
    """Return ``(S, B, *shape)`` draws of all latents, shared ones repeated."""
    values: dict[Hashable, Tensor] = {}
    for drawn in (weighted.shared, weighted.local):
        for k, x in ({} if drawn is None else drawn.values).items():
            values[k] = x.expand(len(x), rows, *x.shape[2:])
    return values
