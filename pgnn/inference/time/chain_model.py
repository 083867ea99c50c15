"""What makes a chain of a hidden Markov model: its tables, and what was seen."""

from __future__ import annotations

import torch

from pgnn.abilities import EmittingModel
from pgnn.evidence.sequences import Sequences
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.segment_chain import SegmentChain
from pgnn.inference.engine import Inputs
from pgnn.inference.time.emission_fields import log_field, own_inputs


def chain_of(
    model: EmittingModel, seen: Sequences, inputs: Inputs | None = None, *, best: bool = False
) -> Chain | SegmentChain:
    """Return the chain of states, or of segments where a model has durations, given what was seen.

    Args:
        model: A hidden Markov model.
        seen: Evidence.
        inputs: Covariates by name, ``(B, T, ...)``.
        best: Emissions that were not seen take their best states, instead of being summed out.
    """
    given, k = model.covariates(inputs, seen), model.state.num_states
    moves, first = model.transitions, model.initial[model.state.name]
    transition = moves.factor(None, own_inputs(moves, given, slice(1, None))).log_values
    if moves.inputs:
        transition = transition.reshape(seen.num_rows, max(seen.steps - 1, 0), k, k)
    starts = own_inputs(first, given, slice(0, 1)) if seen.steps else None
    if first.inputs and not seen.steps:
        initial = transition.new_zeros(k)
    else:
        initial = first.factor(None, starts).log_values
    field = log_field(model, seen, given, best=best).to(transition.device)
    if model.durations is not None:
        lasts = model.durations.factor().log_values
        return SegmentChain(initial, transition, lasts, field, seen.lengths, censored=True)
    kind = torch.promote_types(torch.promote_types(initial.dtype, transition.dtype), field.dtype)
    initial, transition, field = (x.to(kind) for x in (initial, transition, field))
    return Chain(initial, transition, field, seen.lengths, per_step=bool(moves.inputs))
