"""Reading declarations of layers of units."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from pgnn.errors import ModelError, closest
from pgnn.factors.variable import Variable


def layer_of(name: Hashable, units: Any, states: Any = 2) -> Variable:
    """Return the variable of a layer, given as a variable, or as a number or shape of units.

    Args:
        name: Name of the layer, unless a variable is given.
        units: A :class:`Variable`, a number of units, or the shape of their array.
        states: Number or labels of the states; None for real units.

    Raises:
        ModelError: If it is none of these, or has no units.
    """
    if isinstance(units, Variable):
        return units
    one = isinstance(units, int | np.integer) and not isinstance(units, bool)
    shape = (int(units),) if one else units
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        raise ModelError(
            f"{name!r} must be a number of units, the shape of their array or a Variable, got "
            f"{units!r}"
        )
    variable = Variable(name, states, tuple(shape))
    if not variable.num_elements:
        raise ModelError(f"{name!r} must have at least one unit, got the shape {variable.shape}")
    return variable


def coupling_of(pair: Any, layers: Mapping[Hashable, Variable]) -> tuple[Hashable, Hashable, Any]:
    """Return a coupling ``(name, name, weight)`` of known layers.

    Raises:
        ModelError: If it is invalid.
    """
    if not isinstance(pair, tuple) or len(pair) != 3:
        raise ModelError(f"a coupling is (name, name, weight or None), got {pair!r}")
    for name in pair[:2]:
        if name not in layers:
            raise ModelError(f"a coupling names the unknown layer {name!r}{closest(name, layers)}")
    return pair
