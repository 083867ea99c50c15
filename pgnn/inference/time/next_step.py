"""Prediction of the next step of sequences generated step by step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.inference.posterior import Posterior
from pgnn.inference.time.beginning_question import BeginningQuestion
from pgnn.inference.time.sequence_samples import of_length


def next_step(question: BeginningQuestion, engine: str) -> Posterior:
    r"""Return :math:`p(y_{t+1} \mid y_1, \dots, y_t)` of rows of any lengths, by one pass.

    Args:
        question: A question about fully observed prefixes.
        engine: The engine that answers.

    Returns:
        The posterior at one step. If the model decides where sequences end, diagnostics contain
        ``end``, ``(B,)`` probabilities of no further step; all others are conditional on
        its existence.

    Raises:
        EvidenceError: If a step was not observed.
    """
    model, known, rows = question.model, question.known, question.num_rows
    if not question.whole:
        row = int((known != question.observed.lengths).nonzero()[0])
        raise EvidenceError(
            f"row {row} was observed in {int(known[row])} of "
            f"{int(question.observed.lengths[row])} steps",
            "pass only prefixes; predict() returns the distribution of the next step",
        )
    variable = next(iter(model.variables.values()))
    state = model.start(question.observed)
    steps = int(known.max()) if rows else 0
    logs: Tensor = model.next_log_probs(state)
    going, ended = model.end_log_probs(state)
    total = going.new_zeros(rows)
    for t in range(steps):
        present = (t < known).to(logs.device)
        codes = question.observed.codes[variable.name][:, t].clamp_min(0).to(logs.device)
        observed = logs.gather(1, codes[:, None])[:, 0] + going
        total = total + observed.masked_fill(~present, 0.0)
        state = model.advance(state, {variable.name: codes.cpu()})
        new_going, new_ended = model.end_log_probs(state)
        logs = torch.where(present[:, None], model.next_log_probs(state), logs)
        going = torch.where(present, new_going, going)
        ended = torch.where(present, new_ended, ended)
    diagnostics: dict[str, Any] = {}
    if model.ends:
        end = ended.exp()
        diagnostics["end"] = end if question.observed.batched else end[0]
    return Posterior(
        [of_length(variable, 1)],
        logs.exp(),
        total,
        batched=question.observed.batched,
        engine=engine,
        index=question.index,
        diagnostics=diagnostics,
    )
