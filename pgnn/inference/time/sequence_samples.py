"""Draws of sequences of different lengths."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor

from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.samples import Samples
from pgnn.inference.time.beginning_question import BeginningQuestion


def sequence_samples(
    question: BeginningQuestion, values: Mapping[Hashable, Tensor], lengths: Tensor
) -> Samples:
    """Return draws of all variables, -1 and NaN beyond the ends.

    Args:
        question: The question.
        values: ``(n, B, T, *event)`` values of each variable, arbitrary beyond the ends.
        lengths: ``(n, B)`` number of steps of the sequences, at most ``T``.
    """
    n, rows = lengths.shape
    batched = question.observed.batched
    steps = next(iter(values.values())).shape[2]
    beyond = torch.arange(steps) >= lengths[..., None]
    variables = [of_length(v, steps) for v in question.model.variables.values()]
    codes, reals = [torch.zeros(n, rows, 0, dtype=torch.int64)], {}
    for v in variables:
        gone = beyond.reshape(*beyond.shape, *[1] * (len(v.shape) - 1))
        if v.is_discrete:
            codes.append(values[v.name].masked_fill(gone, MISSING).reshape(n, rows, v.num_elements))
        else:
            reals[v.name] = values[v.name].double().masked_fill(gone, torch.nan)
    joined = torch.cat(codes, dim=2)
    if not batched:
        joined, reals = joined[:, 0], {name: x[:, 0] for name, x in reals.items()}
    return Samples(variables, joined, reals, batched=batched, index=question.index)


def of_length(variable: Variable, steps: int) -> Variable:
    """Return a variable with a given number of steps."""
    return Variable(variable.name, variable.states, (steps, *variable.shape[1:]))
