"""Rows of the visible layer of a model with a layered recognition network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import AmortisedModel
from pgnn.errors import DataError
from pgnn.factors.units.recognised_layers import RecognisedLayers
from pgnn.inference.learning.training_data import read_rows
from pgnn.inference.learning.unit_rows import by_layer, is_nested, numbers_of, read_binary


def plain_rows(model: Any, data: Any) -> Any:
    """Return rows of a model with a recognition that are lists as an array; others unchanged."""
    if not isinstance(model, RecognisedLayers | AmortisedModel):
        return data
    return np.array(data) if is_nested(data) else data


def read_layered_rows(model: Any, data: Any, *, probabilities: bool = False) -> Tensor:
    """Return ``(N, n)`` complete values 0 and 1 of the visible layer.

    Args:
        model: A :class:`~pgnn.factors.units.recognised_layers.RecognisedLayers`.
        data: Array ``(N, *shape)``, list of rows, mapping or frame.
        probabilities: Whether values may lie between 0 and 1.

    Raises:
        DataError: If values are missing or invalid, or there are no rows.
    """
    name, like = model.visible, next(model.parameters())
    data = by_layer(data, [name])
    alone = isinstance(data, Mapping) and set(data) == {name}
    array = numbers_of(model.variables[name], data[name]) if alone else None
    if array is not None:
        values, hole = read_binary(model.variables[name], array, like, probabilities)
        complete = hole is None
    else:
        codes = read_rows(model, data).codes[:, model.elements.numbers(name).ravel()]
        values = torch.from_numpy(codes.astype(np.float64)).to(like)
        complete = bool((codes >= 0).all())
    if not complete:
        raise DataError(f"the units of {name!r} must all be observed")
    return values
