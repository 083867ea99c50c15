"""Sequences generated step by step with completed unobserved steps."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.randomness import generator
from pgnn.inference.particles.particle_weights import ParticleWeights
from pgnn.inference.time.beams import rows_of
from pgnn.inference.time.gapped_question import GappedQuestion


@dataclass(frozen=True, eq=False)
class CompletedSequences:
    """Weighted completions of each of ``B`` sequences.

    Attributes:
        values: ``(B, N, T, *event)`` values of each variable, arbitrary beyond the ends.
        log_weights: ``(B, N)`` log weights; weights of a possible row sum to one.
        log_evidence: ``(B,)`` log probability of the observations.
        diagnostics: Diagnostics of the completion.
    """

    values: Mapping[Hashable, Tensor]
    log_weights: Tensor
    log_evidence: Tensor
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


def every_completion(question: GappedQuestion) -> CompletedSequences:
    """Return all completions of discrete variables with exact, differentiable weights.

    Args:
        question: The question, with finitely many completions.

    Cost: A step of the model for each prefix of each completion.
    """
    model = question.model
    row = torch.arange(question.num_rows)
    state = model.start(question.observed)
    total = torch.zeros(len(row), dtype=torch.float64)
    paths: dict[Hashable, Tensor] = {
        n: x.new_zeros(len(row), 0, *x.shape[2:]) for n, x in question.values.items()
    }
    for t in range(question.steps + 1):
        total = total + _ends(question, state, t, row)
        if t == question.steps:
            break
        parent, values = _extensions(question, t, row)
        row, total, state = row[parent], total[parent], rows_of(state, parent)
        outside = ~question.inside[row, t]
        for logs in model.step_log_probs(state, values).values():
            total = total + _cpu(logs, outside)
        paths = {n: torch.cat([x[parent], values[n].unsqueeze(1)], 1) for n, x in paths.items()}
        state = model.advance(state, values)
    return _side_by_side(question, row, total, paths)


def drawn_completions(
    question: GappedQuestion, weights: ParticleWeights, seed: int | None
) -> CompletedSequences:
    """Return draws from the model weighted by the observations.

    Args:
        question: The question.
        weights: Initial weights of the particles of each row.
        seed: Random seed of the samples.

    References:
        Doucet and Johansen (2011), A tutorial on particle filtering and smoothing, section 3.
    """
    model, number, rng = question.model, weights.number, generator(seed)
    row = torch.arange(question.num_rows).repeat_interleave(number)
    state = rows_of(model.start(question.observed), row)
    paths: dict[Hashable, Tensor] = {
        n: x.new_zeros(len(row), 0, *x.shape[2:]) for n, x in question.values.items()
    }
    for t in range(question.steps + 1):
        increments = _ends(question, state, t, row)
        if t == question.steps:
            weights.weigh(increments.reshape(-1, number).numpy())
            break
        values = _filled(question, model.draw(state, rng), t, row)
        inside = question.inside[row, t]
        for name, logs in model.step_log_probs(state, values).items():
            known = question.observed_at[name][row, t]
            increments = increments + _cpu(logs, ~(inside & known))
        paths = {n: torch.cat([x, values[n].unsqueeze(1)], 1) for n, x in paths.items()}
        state = model.advance(state, values)
        weights.weigh(increments.reshape(-1, number).numpy())
        if weights.any_moved:
            chosen = _ancestors(weights)
            state, paths = rows_of(state, chosen), {n: x[chosen] for n, x in paths.items()}
    if weights.any_moved:
        chosen = _ancestors(weights)
        paths = {n: x[chosen] for n, x in paths.items()}
    shape = (question.num_rows, number)
    return CompletedSequences(
        {n: x.reshape(*shape, *x.shape[1:]) for n, x in paths.items()},
        torch.from_numpy(weights.current()).log(),
        torch.from_numpy(weights.log_evidence.copy()),
        {
            "num_particles": number,
            "effective_sample_size": torch.from_numpy(weights.least.copy()),
            "log_evidence_standard_error": torch.from_numpy(weights.standard_error()),
        },
    )


def _cpu(logs: Tensor, ignored: Tensor) -> Tensor:
    """Return log probabilities in double precision on the CPU, zero where ignored."""
    return logs.double().cpu().masked_fill(ignored, 0.0)


def _ends(question: GappedQuestion, state: Any, t: int, row: Tensor) -> Tensor:
    """Return ``(M,)`` log probabilities that sequences continue before step ``t``, or end there."""
    none = torch.zeros(len(row), dtype=torch.float64)
    if not question.model.ends:
        return none
    going, ended = question.model.end_log_probs(state)
    goal = question.goals[row]
    return _cpu(going, goal <= t) + _cpu(ended, goal != t)


def _extensions(
    question: GappedQuestion, t: int, row: Tensor
) -> tuple[Tensor, dict[Hashable, Tensor]]:
    """Return the prefixes to extend, repeated for each extension, and their values."""
    values: dict[Hashable, Tensor] = {}
    parent = torch.arange(len(row))
    for name, v in question.model.variables.items():
        column = question.values[name][:, t]
        missing = question.inside[:, t] & ~question.observed_at[name][:, t]
        counts = torch.where(missing[row[parent]], v.num_states if v.is_discrete else 1, 1)
        again = torch.arange(len(parent)).repeat_interleave(counts)
        first = (counts.cumsum(0) - counts)[again]
        parent, values = parent[again], {n: x[again] for n, x in values.items()}
        known = column[row[parent]]
        if v.is_discrete:
            each = torch.arange(len(parent)) - first
            values[name] = torch.where(missing[row[parent]], each, known.clamp_min(0))
        else:
            values[name] = known.nan_to_num(0.0)
    return parent, values


def _filled(
    question: GappedQuestion, drawn: Mapping[Hashable, Tensor], t: int, row: Tensor
) -> dict[Hashable, Tensor]:
    """Return observed values, and drawn ones where not observed."""
    values = {}
    for name, x in drawn.items():
        known = question.observed_at[name][row, t].reshape(-1, *[1] * (x.dim() - 1))
        values[name] = torch.where(known, question.values[name][row, t].to(x.dtype), x.cpu())
    return values


def _ancestors(weights: ParticleWeights) -> Tensor:
    """Return ``(B N,)`` particles that continue, unchanged in rows without resampling."""
    each = torch.arange(weights.number).expand(weights.rows, -1)
    moved = torch.from_numpy(weights.moved.copy())[:, None]
    chosen = torch.where(moved, torch.from_numpy(weights.ancestors.copy()), each)
    return (chosen + weights.number * torch.arange(weights.rows)[:, None]).reshape(-1)


def _side_by_side(
    question: GappedQuestion, row: Tensor, total: Tensor, paths: Mapping[Hashable, Tensor]
) -> CompletedSequences:
    """Return completions sorted by row as ``(B, N)``, padded with impossible ones."""
    rows = question.num_rows
    counts = torch.bincount(row, minlength=rows)
    place = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    shape = (rows, int(counts.max()) if rows else 0)
    logs = total.new_full(shape, -math.inf).index_put((row, place), total)
    evidence = logs.logsumexp(1)
    values = {
        n: x.new_zeros(*shape, *x.shape[1:]).index_put((row, place), x) for n, x in paths.items()
    }
    possible = torch.where(evidence.isneginf(), 0.0, evidence)
    return CompletedSequences(values, logs - possible[:, None], evidence)
