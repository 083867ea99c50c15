"""The terms of the scores of a conditional random field."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from pgnn.errors import Advice, EvidenceError, ModelError, closest
from pgnn.models.scores.attribute_scores import AttributeScores
from pgnn.models.scores.step_scores import StepScores


def read_parts(scores: Any) -> list[StepScores]:
    """Return the terms of a field's scores; the name of an input stands for its attributes.

    Raises:
        ModelError: If there is no part, or two parts use the same input.
    """
    listed = scores if isinstance(scores, list | tuple) else [scores]
    parts = [p if isinstance(p, StepScores) else AttributeScores(p) for p in listed]
    names = [p.input_name for p in parts]
    if not parts:
        raise ModelError("a conditional random field needs scores: a part, or the name of an input")
    if len(set(names)) < len(names):
        raise ModelError(f"two parts use the same input: {names}", "pass it under two names")
    return parts


def input_of(part: StepScores, inputs: Any) -> Any:
    """Return the input of a part.

    Raises:
        EvidenceError: If the input is missing.
    """
    if not isinstance(inputs, Mapping) or part.input_name not in inputs:
        hint = closest(part.input_name, inputs) if isinstance(inputs, Mapping) else ""
        raise EvidenceError(
            f"the field needs the input {part.input_name!r}",
            Advice(f"give inputs={{{part.input_name!r}: ...}}{hint}", "inputs"),
        )
    return inputs[part.input_name]


def common_lengths(
    parts: Sequence[StepScores], inputs: Mapping[Hashable, Any], alone: bool = False
) -> Any:
    """Return the lengths of sequences determined by the inputs, None if there are none.

    Args:
        parts: The parts of the scores.
        inputs: Covariates by name.
        alone: Whether only the inputs determine the lengths, see :meth:`StepScores.array_lengths`.

    Raises:
        EvidenceError: If the lengths of two inputs differ.
    """
    known: dict[Hashable, Any] = {}
    for part in parts:
        if part.input_name not in inputs:
            continue
        raw = inputs[part.input_name]
        lengths = part.array_lengths(raw) if alone else part.lengths(raw)
        if lengths is not None:
            known[part.input_name] = lengths
    if not known:
        return None
    first = next(iter(known))
    for name, lengths in known.items():
        if not np.array_equal(lengths, known[first]):
            raise EvidenceError(f"inputs {first!r} and {name!r} have different sequence lengths")
    return known[first]
