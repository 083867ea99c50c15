"""Covariates of rows in any numeric container."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.evidence.frames import is_frame, unframed
from pgnn.factors.cells import is_masked, unmasked
from pgnn.factors.inference_mode import ordinary
from pgnn.factors.sparse_rows import is_scipy_sparse


def read_covariates(inputs: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """Return covariates by name as tensors ``(B, ...)``; values that are not numeric arrays stay.

    Args:
        inputs: Tensors, arrays, lists of numbers, or frames of numeric columns.

    Raises:
        EvidenceError: If a frame has columns that are not numeric, rows differ in length, or cells
            are masked.
    """
    return {name: _read(name, value) for name, value in inputs.items()}


def input_sequences(name: Hashable, value: Any) -> Any:
    """Return an input of sequences in which frames are arrays, and so are lists of equal steps.

    Raises:
        EvidenceError: If cells are masked.
    """
    _check_unmasked(name, value)
    value = unframed(value)
    if isinstance(value, np.ndarray):
        return np.require(value, requirements="W")  # as torch warns of others
    if isinstance(value, list | tuple) and isinstance(_first_leaf(value), float | int):
        try:
            array = np.asarray(value)
        except ValueError:  # sequences of different lengths
            return value
        return array if array.dtype.kind == "f" else value
    return value


def _check_unmasked(name: Hashable, value: Any) -> None:
    if is_masked(value):
        raise EvidenceError(
            f"input {name!r} has masked cells, and inputs are never missing",
            "fill them, or make it a variable",
        )


def _first_leaf(value: Any) -> Any:
    """The first thing in nested lists that is no list; None if there is none."""
    while isinstance(value, list | tuple):
        value = value[0] if value else None
    return value


def _read(name: Hashable, value: Any) -> Any:
    if isinstance(value, Tensor) or is_scipy_sparse(value):
        return ordinary(value)
    _check_unmasked(name, value)
    try:
        array = np.asarray(unmasked(unframed(value)))
    except ValueError as error:
        raise EvidenceError(f"input {name!r} must be numbers of shape (B, ...): {error}") from None
    if array.dtype.kind in "biuf":
        # torch warns of arrays that are not to be written to, such as those of a file's bytes
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    if is_frame(value) or array.dtype.kind in "US":
        raise EvidenceError(
            f"input {name!r} must be numbers of shape (B, ...), got {array.dtype} such as "
            f"{array.reshape(-1)[:1].tolist()}",
            "encode labels as numbers first",
        )
    return value
