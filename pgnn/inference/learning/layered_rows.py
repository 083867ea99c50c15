"""Rows of the visible layer of a model that is recognised layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.inference.learning.training_data import read_rows


def read_layered_rows(model: Any, data: Any) -> Tensor:
    """Return ``(N, n)`` complete values 0 and 1 of the visible layer.

    Args:
        model: A :class:`~pgnn.factors.units.recognised_layers.RecognisedLayers`.
        data: Array ``(N, *shape)``, mapping or frame.

    Raises:
        DataError: If something is missing or no state, or there are no rows.
    """
    name = model.visible
    v = model.variables[name]
    like = next(model.parameters())
    given = data.get(name) if isinstance(data, Mapping) and set(data) == {name} else data
    if isinstance(given, Tensor | np.ndarray) and v.states in ((0, 1), (False, True)):
        x = torch.as_tensor(given)
        if x.dim() < 2 or x.shape[1:].numel() != v.num_elements:
            raise DataError(
                f"rows of {name!r} must have the shape (N, {v.num_elements}), got {tuple(x.shape)}"
            )
        if not len(x):
            raise DataError("data has no rows")
        values = x.detach().reshape(len(x), v.num_elements).to(like)
        if not bool(((values == 0) | (values == 1)).all()):
            raise DataError(
                f"the units of {name!r} are binary and must all be seen, but values range from "
                f"{float(values.min()):g} to {float(values.max()):g}"
            )
        return values
    rows = read_rows(model, data)
    codes = rows.codes[:, model.elements.numbers(name).ravel()]
    if (codes < 0).any():
        raise DataError(f"the units of {name!r} must all be seen")
    return torch.from_numpy(codes.astype(np.float64)).to(like)
