"""One finding on one variable: states, a likelihood, or real values; for all rows or row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.factors.variable import Variable


@dataclass(frozen=True, eq=False, slots=True)
class Finding:
    """What was seen of one variable; one of ``codes``, ``likelihood``, ``real``, or none of them.

    Attributes:
        variable: The variable.
        rows: Number of rows ``B``; ``None`` if the finding holds for all rows.
        codes: ``shape`` or ``(B, *shape)`` state indices, -1 where not seen.
        likelihood: ``(*shape, K)`` or ``(B, *shape, K)``, scaled to a largest entry of one.
        log_scale: ``()`` or ``(B,)`` logarithms of the scales, summed over the shape.
        tensor: The unscaled likelihood as given, if it wants a gradient.
        real: ``event`` or ``(B, *event)`` values, ``NaN`` where not seen.
    """

    variable: Variable
    rows: int | None = None
    codes: NDArray[np.int32] | None = None
    likelihood: NDArray[np.float64] | None = None
    log_scale: NDArray[np.float64] | float = 0.0
    tensor: Tensor | None = None
    real: Tensor | None = None


def is_column(value: Any) -> bool:
    """Whether a value is a pandas Series, Categorical or the like."""
    return hasattr(value, "to_numpy") or hasattr(getattr(value, "dtype", None), "categories")


def read_discrete(variable: Variable, value: Any) -> Finding:
    """Read a finding on a discrete variable; the rules are :class:`EvidenceReader`'s.

    Raises:
        EvidenceError: If a value is no state, or a likelihood or a shape is wrong.
    """
    if _is_likelihood(variable, value):
        return read_likelihood(variable, value)
    if is_column(value):
        codes = _encode_column(variable, value)
    elif isinstance(value, Tensor | np.ndarray) or (
        isinstance(value, list | tuple) and not is_label(variable, value)
    ):
        if isinstance(value, Tensor) and value.is_floating_point():
            value = value.double()  # NumPy has no bfloat16
        codes = variable.encode(value)
    else:
        codes = np.array(variable.index(value), dtype=np.int32)
    if codes.ndim > 1:
        raise EvidenceError(
            f"evidence for {variable.name!r} has shape {codes.shape}; expected (B,) state indices, "
            f"or a likelihood ({variable.num_states},) or (B, {variable.num_states}) of floats"
        )
    return Finding(variable, codes.shape[0] if codes.ndim else None, codes=codes)


def read_real(variable: Variable, value: Any, in_part: bool = False) -> Finding:
    """Read a finding on a real variable.

    Args:
        variable: The variable.
        value: Its value, or rows of them.
        in_part: Whether some numbers of a value may be ``NaN``: its conditional integrates them
            out.

    Raises:
        EvidenceError: If it is no number, infinite, partly ``NaN``, or of the wrong shape.
    """
    tensor = _real_tensor(variable, value)
    event = variable.shape
    batched = tensor.dim() == len(event) + 1
    if tuple(tensor.shape[batched:]) != event:
        expected = f"{event} or (B, {', '.join(map(str, event))})" if event else "() or (B,)"
        raise EvidenceError(
            f"evidence for real variable {variable.name!r} must have shape {expected}, got "
            f"{tuple(tensor.shape)}"
        )
    flat = tensor.detach().reshape(tensor.shape[0] if batched else 1, math.prod(event))
    missing = flat.isnan()
    if bool(flat.isinf().any()):
        raise EvidenceError(f"evidence for real variable {variable.name!r} must be finite, got inf")
    if not in_part and bool((missing.any(dim=1) & ~missing.all(dim=1)).any()):
        raise EvidenceError(
            f"evidence for {variable.name!r} is NaN in a part of an event of shape {event}; that "
            "needs a conditional that integrates out what is missing, such as Gaussian: here a "
            "value is seen as a whole or not at all"
        )
    rows = tensor.shape[0] if batched else None
    unseen = flat.numel() > 0 and bool(missing.all())
    return Finding(variable, rows, real=None if unseen else tensor)


def _real_tensor(variable: Variable, value: Any) -> Tensor:
    shape = variable.shape
    if is_missing(value):
        return torch.full(shape, torch.nan, dtype=torch.float64)
    try:
        if isinstance(value, Tensor) and not value.is_complex():
            return value if value.is_floating_point() else value.double()
        return torch.tensor(_real_column(variable, value) if is_column(value) else _floats(value))
    except (TypeError, ValueError):
        raise EvidenceError(
            f"evidence for real variable {variable.name!r} must be numbers of shape {shape}, or "
            f"rows of them, got {type(value).__name__}"
        ) from None


def _real_column(variable: Variable, column: Any) -> NDArray[Any]:
    """A column of numbers, or of arrays where the variable has a shape."""
    if not variable.shape and column.dtype.kind in "biuf":
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if not variable.shape:
        return _floats(column.to_numpy(dtype=object, na_value=np.nan))
    unseen = np.full(variable.shape, np.nan)
    cells = [unseen if is_missing(cell) else _floats(cell) for cell in column]
    return np.stack(cells) if cells else np.empty((0, *variable.shape))


def _floats(value: Any) -> NDArray[Any]:
    """A new float array; ``None`` is ``NaN``, and text is refused though NumPy would read it."""
    array = np.asarray(value)
    if array.dtype.kind in "USc" or (
        array.dtype.kind == "O" and any(isinstance(x, str | bytes) for x in array.ravel().tolist())
    ):
        raise TypeError("not numbers")
    return np.array(array, dtype=np.float32 if array.dtype == np.float32 else np.float64)


def is_missing(value: object) -> bool:
    """Whether a value is ``None``, ``NaN`` or one of pandas' own."""
    return (
        value is None
        or (isinstance(value, float) and value != value)
        or type(value).__name__ in ("NAType", "NaTType")
    )


def is_label(variable: Variable, value: Any) -> bool:
    """Whether a sequence is itself a label: labels may be tuples."""
    return isinstance(value, tuple) and value in (variable.states or ())


def _is_likelihood(variable: Variable, value: Any) -> bool:
    """Whether a finding is soft: floats, unless they are a vector with a ``NaN`` in it."""
    if isinstance(value, Tensor):
        floats = value.is_floating_point()
    elif isinstance(value, np.ndarray):
        floats = value.dtype.kind == "f"
    elif isinstance(value, list | tuple) and value and not is_label(variable, value):
        if isinstance(value[0], list | tuple | np.ndarray) and not is_label(variable, value[0]):
            return True
        if numeric_labels(variable):
            return False
        floats = all(isinstance(x, float | np.floating) for x in value)
    else:
        return False
    if not floats or np.ndim(value) != 1:
        return floats and np.ndim(value) > 1
    if not len(value):
        return False
    return not (bool(value.isnan().any()) if isinstance(value, Tensor) else np.isnan(value).any())


def numeric_labels(variable: Variable) -> bool:
    """Whether some label is a number, so that numbers in lists are labels."""
    return any(
        isinstance(s, int | float) and not isinstance(s, bool) for s in variable.states or ()
    )


def read_likelihood(variable: Variable, value: Any) -> Finding:
    """Read a likelihood ``(*shape, K)`` or ``(B, *shape, K)``.

    Raises:
        EvidenceError: If the shape is wrong, or an entry negative, infinite or all are zero.
    """
    name, K = variable.name, variable.num_states
    tensor = value if isinstance(value, Tensor) else None
    try:
        table = _floats(value if tensor is None else tensor.detach().to("cpu", torch.float64))
        got = f"shape {table.shape}"
    except (TypeError, ValueError):
        table, got = np.empty(()), "no table of numbers"
    event = (*variable.shape, K)
    axes = ", ".join(map(str, event))
    if table.ndim - len(event) not in (0, 1) or table.shape[-len(event) :] != event:
        raise EvidenceError(
            f"evidence for {name!r} given as floats is a likelihood of its {K} states: expected "
            f"shape ({axes}{',' * (len(event) == 1)}) or (B, {axes}), got {got}; states must be "
            "labels or integers"
        )
    table = table.astype(np.float64, copy=False)  # `_floats` made it new
    rows = table.shape[0] if table.ndim > len(event) else None
    unseen = np.asarray(np.isnan(_largest(table)))
    if unseen.any():
        unseen &= np.isnan(table).all(axis=-1)
        table[unseen] = 1.0
    top = _check_likelihood(variable, table)
    if tensor is None or not (tensor.requires_grad and torch.is_grad_enabled()):
        tensor = None
    elif unseen.any():
        blank = torch.as_tensor(unseen, device=tensor.device)[..., None]
        tensor = tensor.masked_fill(blank, 1.0)
    cells = tuple(range(-len(variable.shape), 0))
    log_scale = np.log(top).sum(axis=cells) if cells else np.log(top)
    return Finding(
        variable, rows, likelihood=table / top[..., None], log_scale=log_scale, tensor=tensor
    )


def _check_likelihood(variable: Variable, table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest entry of each likelihood."""
    top = _largest(table)
    if not top.size or (table.min() >= 0 and top.min() > 0 and top.max() < np.inf):
        return top  # and so no entry is NaN
    wrong = np.asarray(~np.isfinite(table).all(axis=-1) | (table < 0).any(axis=-1))
    bad = wrong | (top == 0)
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), bad.shape)
        what = "finite and not negative" if wrong[at] else "positive for some state"
        row, cell = at[: len(at) - len(variable.shape)], at[len(at) - len(variable.shape) :]
        where = f" in row {row[0]}" if row else ""
        where += f" at {tuple(int(i) for i in cell)}" if cell else ""
        got = table[at].tolist()
        raise EvidenceError(f"likelihood of {variable.name!r} must be {what}, got {got}{where}")
    return top


def _largest(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest entries along the last axis, NaN if there is one; NumPy is slow along short axes."""
    top = table[..., 0].copy()
    for k in range(1, table.shape[-1]):
        np.maximum(top, table[..., k], out=top)
    return np.asarray(top)


def common_rows(findings: Sequence[Finding], index_rows: int | None) -> int | None:
    """Return the ``B`` on which all findings agree; ``None`` if nothing is batched.

    Raises:
        EvidenceError: If they do not agree.
    """
    first, rows = "the data frame", index_rows
    for f in findings:
        if f.rows is None:
            continue
        if rows is None:
            first, rows = repr(f.variable.name), f.rows
        elif f.rows != rows:
            raise EvidenceError(
                f"evidence for {f.variable.name!r} has {f.rows} rows but {first} has {rows}; "
                "give all of them the same number of rows, or one value for all rows"
            )
    return rows


def _encode_column(variable: Variable, column: Any) -> NDArray[np.int32]:
    """Encode a column of labels: each different one is looked up once."""
    if hasattr(column.dtype, "categories"):
        return variable.encode(column)
    import pandas as pd

    try:
        places, labels = pd.factorize(column)
    except TypeError:  # not hashable: `encode` names the cell
        return variable.encode(column)
    table = np.append(variable.encode(labels.tolist()), np.int32(-1))
    return np.asarray(table[places], dtype=np.int32)
