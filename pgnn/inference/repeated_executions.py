"""Executions of a program with some values fixed, vectorised where possible."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from pgnn.abilities import ExecutableModel
from pgnn.errors import Unsupported

_BATCH = 2**13
"""Number of executions in a vectorised run."""


class Run(NamedTuple):
    """The values of all variables in one execution of a model.

    Attributes:
        values: Values of the variables, by name.
        computed: Deterministic values that are computed from them, by name.
    """

    values: Mapping[Hashable, Tensor]
    computed: Mapping[Hashable, Tensor]


def executed(
    model: ExecutableModel, held: Mapping[Hashable, Tensor], number: int, seed: int
) -> list[Run]:
    """Execute a model with some values fixed, once for each of ``number`` draws.

    Args:
        model: The program, run side by side where possible.
        held: ``(number, *shape)`` states and reals by variable; those that are -1 or ``NaN`` are
            drawn.
        number: Number of executions.
        seed: Random seed; the same seed gives the same draws.
    """
    rng = np.random.default_rng(seed)
    runs: list[Run] = []
    for first in range(0, number, _BATCH):
        part = {n: x[first : first + _BATCH] for n, x in held.items()}
        count = min(_BATCH, number - first)
        try:
            runs += _side_by_side(model, part, count, int(rng.integers(2**62)))
        except Unsupported:
            for k in range(count):
                execution = model.execute(
                    {n: x[k] for n, x in part.items()}, int(rng.integers(2**62))
                )
                runs.append(Run(execution.values, execution.computed))
    return runs


def _side_by_side(
    model: ExecutableModel, held: Mapping[Hashable, Tensor], number: int, seed: int
) -> list[Run]:
    """Run all executions at once, as one batch.

    Raises:
        Unsupported: If the model cannot be batched, or different values are missing in them.
    """
    each, same = {}, {}
    for name, x in held.items():
        missing = x.isnan() if x.is_floating_point() else x < 0
        if not bool(missing.any()):
            each[name] = x
        elif bool(((x == x[:1]) | (missing & missing[:1])).all()):
            same[name] = x[0]
        else:
            raise Unsupported(f"{name!r} is missing in some of the executions")
    joint = model.execute_together(same, number, seed, lambda _: None, each=each)
    return [
        Run(
            {n: x[k] for n, x in joint.values.items()}, {n: x[k] for n, x in joint.computed.items()}
        )
        for k in range(number)
    ]
