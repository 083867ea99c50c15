"""Answers about models over time from particles, with diagnostics."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.factors.variable import MISSING
from pgnn.inference.assignment_with_reals import AssignmentWithReals
from pgnn.inference.convergence import TRUSTED_DRAWS, Convergence
from pgnn.inference.particles.weighted_posterior import WeightedPosterior
from pgnn.inference.time.particle_filter import ParticleHistory
from pgnn.inference.time.sequence_question import SequenceQuestion


def particle_posterior(
    question: SequenceQuestion,
    run: ParticleHistory,
    values: Mapping[Hashable, Tensor],
    log_weights: Tensor,
    diagnostics: Mapping[str, Any],
    *,
    traced: bool,
) -> WeightedPosterior:
    """Return the marginals of the targets.

    Args:
        question: The question.
        run: The particles.
        values: ``(N, B, T, *shape)`` values of each variable.
        log_weights: ``(N, B, T)`` normalised log weights.
        diagnostics: More diagnostics.
        traced: Whether values belong to paths, whose particles share ancestors.
    """
    observed = question.observed
    log_evidence = torch.from_numpy(run.weights.log_evidence)
    gone = ~observed.inside | log_evidence.isneginf()[:, None]
    parts = [torch.zeros(observed.num_rows, 0, dtype=torch.float64)]
    weights = log_weights.exp() if question.queried else log_weights
    for v in question.queried:
        hot = one_hot(values[v.name].long(), v.num_states).double()
        probs = torch.einsum("nbt,nbtk->btk", weights, hot)
        parts.append(probs.masked_fill(gone.unsqueeze(-1), torch.nan).flatten(start_dim=1))
    draws = {v.name: _blank(values[v.name], gone, torch.nan) for v in question.reals}
    families = None
    if traced:
        family = torch.from_numpy(run.weights.families()).T
        families = family[..., None].expand(log_weights.shape)
    return WeightedPosterior(
        question.over_time(question.queried),
        torch.cat(parts, dim=1),
        log_evidence,
        question.over_time(question.reals),
        draws,
        log_weights,
        families=families,
        batched=observed.batched,
        kind="estimate",
        engine=question.engine,
        index=question.index,
        diagnostics={
            "num_particles": run.weights.number,
            "effective_sample_size": torch.from_numpy(run.weights.least),
            "log_evidence_standard_error": torch.from_numpy(run.weights.standard_error()),
            **diagnostics,
        },
    )


def path_weights(run: ParticleHistory, steps: int) -> Tensor:
    """Return ``(N, B, T)`` log weights of the surviving paths, the same at all steps."""
    return logs(run.weights.current()).T[..., None].expand(-1, -1, steps)


def cloud_weights(run: ParticleHistory) -> Tensor:
    """Return ``(N, B, T)`` log weights of the particles of each step."""
    if not run.step_weights:
        rows, n = run.weights.rows, run.weights.number
        return torch.zeros(n, rows, 0, dtype=torch.float64)
    return logs(np.stack(run.step_weights)).permute(2, 1, 0)


def chosen_paths(
    question: SequenceQuestion, run: ParticleHistory, chosen: NDArray[np.int64]
) -> dict[Hashable, Tensor]:
    """Return ``(n, B, T, *shape)`` values of all variables along some paths.

    Args:
        question: The question, with its evidence.
        run: The particles.
        chosen: ``(n, B)`` indices of the paths.
    """
    rows = torch.arange(question.observed.num_rows)
    paths = {n: run.paths(n)[torch.from_numpy(chosen), rows] for n in question.model.variables}
    return within(question, paths)


def within(question: SequenceQuestion, paths: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
    """Return ``(n, B, T, *shape)`` values along paths, missing beyond the ends of rows."""
    outside, variables = ~question.observed.inside, question.model.variables
    fills = {n: MISSING if variables[n].is_discrete else torch.nan for n in paths}
    return {n: _blank(x, outside, fills[n]) for n, x in paths.items()}


def best_path(
    question: SequenceQuestion, run: ParticleHistory, diagnostics: Mapping[str, Any]
) -> AssignmentWithReals:
    """Return the path of the largest density; ``run`` has scores."""
    rows = question.observed.num_rows
    none = torch.zeros(rows, run.weights.number, dtype=torch.float64)
    best = (none if run.scores is None else run.scores).max(dim=1)
    at, outside = torch.arange(rows), ~question.observed.inside
    paths = {n: run.paths(n)[best.indices, at] for n in question.every_name}
    codes = [paths[v.name].masked_fill(outside, MISSING) for v in question.queried]
    return AssignmentWithReals(
        {v.name: paths[v.name] for v in question.reals},
        question.over_time(question.queried),
        torch.cat([torch.zeros(rows, 0, dtype=torch.int64), *codes], dim=1),
        best.values,
        batched=question.observed.batched,
        index=question.index,
        engine=question.engine,
        diagnostics=dict(diagnostics),
    )


def warn_of_few(run: ParticleHistory, distinct: NDArray[np.int64] | None, engine: str) -> None:
    """Warn if an answer is based on few particles.

    Args:
        run: The particles.
        distinct: ``(B, T)`` number of particles of each step with descendants, for answers from
            paths.
        engine: Whose answer it is.
    """
    number, least = run.weights.number, run.weights.least
    advice = "take more particles, or a proposal that depends on the evidence"
    judged = Convergence(engine)
    judged.few_draws(least, number, advice, TRUSTED_DRAWS)
    if judged.converged and distinct is not None and distinct.size:
        thin = distinct.min(axis=1) < min(TRUSTED_DRAWS, number)
        if thin.any():
            judged.add(
                f"the paths of {int(thin.sum())} of {len(thin)} rows come from {distinct.min()} "
                "particles at some step",
                f"{advice}, draw paths backward, as in SequentialMonteCarlo(backward=200), or "
                "filter",
            )
    judged.warn()


def logs(weights: NDArray[np.float64]) -> Tensor:
    """Return logarithms, minus infinity for zero."""
    with np.errstate(divide="ignore"):
        return torch.from_numpy(np.log(weights))


def _blank(values: Tensor, outside: Tensor, fill: float) -> Tensor:
    """Return ``(n, B, T, *shape)`` values, replaced where the mask ``(B, T)`` is True."""
    if not bool(outside.any()):
        return values
    gone = outside.reshape(*outside.shape, *[1] * (values.dim() - 3))
    return values.masked_fill(gone, fill)
