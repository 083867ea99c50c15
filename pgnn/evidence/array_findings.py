"""Findings on whole arrays of discrete variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.evidence.findings import (
    Finding,
    is_column,
    is_label,
    is_missing,
    numeric_labels,
    read_likelihood,
)
from pgnn.factors.variable import MISSING, Variable


def read_array(variable: Variable, value: Any) -> Finding:
    """Read a finding on an array; the rules are :class:`EvidenceReader`'s.

    Raises:
        EvidenceError: If a value is no state, a likelihood or a shape is wrong, or one state was
            given for the whole array.

    Example:
        >>> pixel = Variable("pixel", 2, shape=(2, 2))
        >>> read_array(pixel, [[0, 1], [None, 1]]).codes.tolist()
        [[0, 1], [-1, 1]]
    """
    if _is_single(variable, value):
        return _read_single(variable, value)
    if is_column(value) or _has_gaps(variable, value):
        return _read_rows(variable, list(value))
    table = _table(variable, value)
    if isinstance(table, Tensor) and table.dtype == torch.bfloat16:
        table = table.double()  # NumPy has no bfloat16
    if _is_likelihood(variable, table):
        return read_likelihood(variable, table)
    codes = variable.encode(table)
    if not _fits(variable, codes.shape):
        raise _wrong_shape(variable, codes.shape)
    rows = codes.shape[0] if codes.ndim > len(variable.shape) else None
    return Finding(variable, rows, codes=codes)


def check_apart(findings: Sequence[Finding]) -> None:
    """Refuse findings on an array as a whole together with findings on elements of it.

    Raises:
        EvidenceError: If there are both.
    """
    whole = {f.variable.name for f in findings if f.variable.shape}
    for f in findings if whole else ():
        name = f.variable.name
        if isinstance(name, tuple) and len(name) > 1 and name[0] in whole:
            raise EvidenceError(
                f"{name[0]!r} is given as a whole, and its element {name!r} again; put all into "
                "one array, -1 where a cell was not seen"
            )


def _is_single(variable: Variable, value: Any) -> bool:
    """Whether a value is one state, or none."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0
    return is_label(variable, value) or not (isinstance(value, list | tuple) or is_column(value))


def _read_single(variable: Variable, value: Any) -> Finding:
    if isinstance(value, Tensor | np.ndarray):
        value = value.item()
    if is_missing(value) or (value == MISSING and not is_label(variable, value)):
        return Finding(variable, codes=np.full(variable.shape, MISSING, dtype=np.int32))
    raise EvidenceError(
        f"{variable.name!r} is an array of {variable.num_elements} variables: expected states or "
        f"likelihoods in the shape {variable.shape}, got {value!r} alone; to see it in every cell "
        f"give an array full of it, to see it in one cell name the cell, as in "
        f"{(variable.name, *[0] * len(variable.shape))}"
    )


def _has_gaps(variable: Variable, value: Any) -> bool:
    """Whether a value is a list of arrays with nothing in place of some."""
    if not isinstance(value, list | tuple) or not any(is_missing(part) for part in value):
        return False
    return any(
        isinstance(part, list | tuple | np.ndarray | Tensor) and not is_label(variable, part)
        for part in value
    )


def _read_rows(variable: Variable, parts: list[Any]) -> Finding:
    """Read arrays of rows, of which some may be missing."""
    here = [k for k, part in enumerate(parts) if not is_missing(part)]
    rows = len(parts)
    codes = np.full((rows, *variable.shape), MISSING, dtype=np.int32)
    if not here:
        return Finding(variable, rows, codes=codes)
    found = read_array(variable, [parts[k] for k in here])
    if found.rows != len(here):
        raise _wrong_shape(variable, f"{len(here)} parts that are no arrays of that shape")
    if found.codes is not None:
        codes[here] = found.codes
        return Finding(variable, rows, codes=codes)
    likelihood = np.ones((rows, *variable.shape, variable.num_states))
    log_scale = np.zeros(rows)
    likelihood[here], log_scale[here] = found.likelihood, found.log_scale
    tensor = found.tensor
    if tensor is not None:
        tensor = tensor.new_ones(likelihood.shape).index_put((torch.tensor(here),), tensor)
    return Finding(variable, rows, likelihood=likelihood, log_scale=log_scale, tensor=tensor)


def _table(variable: Variable, value: Any) -> Any:
    """A value as a tensor or array: of floats, of indices, or of labels as objects."""
    if isinstance(value, Tensor | np.ndarray):
        return value
    try:
        if len(value) and all(isinstance(part, Tensor) for part in value):
            return torch.stack(list(value))
        if len(value) and all(isinstance(part, np.ndarray) for part in value):
            return np.stack(value)
        table = np.array(value, dtype=object)
    except (ValueError, RuntimeError):
        raise _wrong_shape(variable, "parts of different shapes") from None
    if table.shape == (0,) and variable.shape != (0,):
        return np.empty((0, *variable.shape), dtype=np.int64)
    numbers = numeric_labels(variable) and _fits(variable, table.shape)
    leaves = table.ravel().tolist()
    if leaves and not numbers and all(isinstance(x, float) for x in leaves):
        return table.astype(np.float64)
    return table


def _fits(variable: Variable, shape: tuple[int, ...]) -> bool:
    """Whether a shape is that of states, for all rows or for some."""
    axes = len(variable.shape)
    return len(shape) - axes in (0, 1) and shape[-axes:] == variable.shape


def _is_likelihood(variable: Variable, table: Any) -> bool:
    """Whether floats are likelihoods; the shape tells, but where both readings fit."""
    floats = table.is_floating_point() if isinstance(table, Tensor) else table.dtype.kind == "f"
    if not floats or tuple(table.shape) == variable.shape:
        return False
    shape = variable.shape
    if not _fits(variable, tuple(table.shape)) or not bool((table != table).any()):
        return True
    if tuple(table.shape) == (*shape, variable.num_states):
        raise EvidenceError(
            f"evidence for {variable.name!r} of shape {tuple(table.shape)} may be states of "
            f"{len(table)} rows or likelihoods; give states as integers, -1 where not seen, or "
            "likelihoods without NaN, all ones where not seen"
        )
    return False


def _wrong_shape(variable: Variable, got: object) -> EvidenceError:
    axes = ", ".join(map(str, variable.shape))
    one = f"({axes}{',' * (len(variable.shape) == 1)})"
    K = variable.num_states
    return EvidenceError(
        f"evidence for {variable.name!r} must have shape {one} or (B, {axes}) of states, or "
        f"({axes}, {K}) or (B, {axes}, {K}) of likelihoods, got {got}"
    )
