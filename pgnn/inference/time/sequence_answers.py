"""Answers about variables over time: what is asked and refused, results put in order."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError, ImpossibleEvidence, Unsupported
from pgnn.evidence.sequences import AXIS, Sequences
from pgnn.evidence.unknown_variable import unknown_variable
from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples


def asked_for(variables: Mapping[Hashable, Variable], targets: Any) -> list[Variable]:
    """Return the discrete variables that a question is about, all of them for None.

    Raises:
        EvidenceError: If a name is unknown.
        Unsupported: If a variable is real.
    """
    if targets is None:
        return [v for v in variables.values() if v.is_discrete]
    found = []
    for name in _listed(targets, variables):
        if name not in variables:
            raise unknown_variable(name, [*variables.values()], "variable of the model")
        if not variables[name].is_discrete:
            raise Unsupported(
                f"{name!r} is real: it has no marginal table; predict or sample it instead"
            )
        found.append(variables[name])
    return found


def concrete(variables: Sequence[Variable], steps: int) -> list[Variable]:
    """Return variables whose first axis is ``T`` long."""
    return [Variable(v.name, v.states, (steps, *v.shape[1:])) for v in variables]


def answer(
    seen: Sequences,
    asked: Sequence[Variable],
    found: Sequence[Tensor],
    log_evidence: Tensor,
    *,
    engine: str,
    kind: str = "exact",
    diagnostics: Mapping[str, Any] | None = None,
) -> Posterior:
    """Put marginals ``(B, T, S)`` of some variables together; NaN beyond a row's end."""
    outside = ~seen.inside
    lost = log_evidence.detach().isneginf()
    gone = outside.to(lost.device) | lost[:, None]
    if bool(gone.any()):
        found = [p.masked_fill(gone.unsqueeze(-1), torch.nan) for p in found]
    flat = [p.flatten(start_dim=1) for p in found]
    table = flat[0] if len(flat) == 1 else log_evidence.new_zeros((seen.num_rows, 0))
    return Posterior(
        concrete(asked, seen.steps),
        torch.cat(flat, dim=1) if len(flat) > 1 else table,
        log_evidence,
        batched=seen.batched,
        kind=kind,
        engine=engine,
        diagnostics=diagnostics,
        index=seen.index if seen.batched else None,
    )


def best_answer(
    seen: Sequences,
    asked: Sequence[Variable],
    paths: Sequence[Tensor],
    scores: Tensor,
    *,
    engine: str,
) -> Assignment | KBest:
    """Put the best states of some variables together.

    Args:
        seen: Evidence.
        asked: The variables.
        paths: For each rank ``(B, .)`` states of all of them, side by side.
        scores: ``(B, k)`` their log probabilities.
        engine: Whose answer it is.
    """
    variables, index = concrete(asked, seen.steps), seen.index if seen.batched else None
    if len(paths) > 1:
        states = torch.stack([*paths], dim=1)
        return KBest(variables, states, scores, batched=seen.batched, index=index)
    return Assignment(
        variables,
        paths[0],
        scores[:, 0],
        batched=seen.batched,
        index=index,
        upper_bound=scores[:, 0],
        engine=engine,
    )


def drawn_answer(
    model_variables: Sequence[Variable], seen: Sequences, drawn: Mapping[Hashable, Tensor], n: int
) -> Samples:
    """Put draws ``(n, B, T, ...)`` of all variables together."""
    variables = concrete(model_variables, seen.steps)
    discrete = [drawn[v.name].flatten(start_dim=2) for v in variables if v.is_discrete]
    codes = torch.cat(discrete, dim=2) if discrete else torch.zeros(n, seen.num_rows, 0)
    reals = {v.name: drawn[v.name] for v in variables if not v.is_discrete}
    if not seen.batched:
        codes, reals = codes[:, 0], {name: x[:, 0] for name, x in reals.items()}
    index = seen.index if seen.batched else None
    return Samples(variables, codes, reals, batched=seen.batched, index=index)


def check_draws(n: int, seen: Sequences) -> None:
    """Check that a number of draws, and of steps, is known.

    Raises:
        EvidenceError: If it is negative, or nothing tells the length.
    """
    if n < 0:
        raise EvidenceError(f"the number of samples must not be negative, got {n}")
    if not seen.steps:
        raise EvidenceError(
            f"how many steps? say so in the evidence, as in sample(n, {{{AXIS!r}: 100}})"
        )


def refuse_impossible(log_z: Tensor, errors: str) -> None:
    """Raise for rows of probability zero, unless they are to be answered by NaN."""
    lost = log_z.detach().isneginf()
    if errors == "raise" and bool(lost.any()):
        rows = tuple(lost.nonzero()[:, 0].tolist())
        raise ImpossibleEvidence(
            f"{len(rows)} of {len(lost)} rows have probability zero (first: row {rows[0]}); "
            "errors='nan' skips them",
            rows,
        )


def _listed(targets: Any, variables: Mapping[Hashable, Variable]) -> list[Hashable]:
    """A name or names as a list."""
    try:
        alone = isinstance(targets, str) or targets in variables
    except TypeError:  # not hashable: a list
        alone = False
    return [targets] if alone else list(targets)
