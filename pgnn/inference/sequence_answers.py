"""Answers about variables over time: what is asked and refused, results put in order."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import ImpossibleEvidence, Unsupported
from pgnn.factors.variable import Variable
from pgnn.inference.posterior import Posterior
from pgnn.inference.sequences import Sequences
from pgnn.inference.unknown_variable import unknown_variable


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
