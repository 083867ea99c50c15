"""Reading conditional probability tables in any supported form."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from pgnn.errors import EvidenceError, ModelError
from pgnn.factors.cells import dense, is_masked
from pgnn.factors.conditionals.labelled_tables import by_labels
from pgnn.factors.piece import learnable_zeros
from pgnn.factors.variable import Variable
from pgnn.limits import check_size, entries_of

ROW_TOLERANCE = 1e-4
"""How far a printed row may be from summing to one."""


def read_table(
    child: Variable, parents: Sequence[Variable], table: Any, normalise: bool = False
) -> np.ndarray:
    """Return a checked copy of a table in probability units, ``(K_pa1, ..., K_child)``.

    Args:
        child: The variable whose states run along the last axis.
        parents: The variables of the other axes.
        table: Nested lists, an array, a tensor or a data frame of that shape; or a mapping from
            parent states (a tuple of labels; a bare label for one parent) to rows. A row may be a
            mapping from child labels to probabilities; a data frame whose columns are the child's
            labels is read by its labels.
        normalise: Whether rows are weights, such as percentages, to be divided by their sums.

    Raises:
        ModelError: If the shape is wrong, an entry is negative or not finite, or a row does not
            sum to one within ``1e-4``; with ``normalise`` only if its sum is zero.
    """
    table = by_labels(child, parents, table)
    if isinstance(table, Mapping):
        table = _from_mapping(child, parents, table)
    values = read_numbers(f"table of {child.name!r}", table)
    shape = tuple(v.num_states for v in (*parents, child))
    if values.shape != shape:
        raise ModelError(_shape_message(child, parents, shape, values.shape))
    return distributions(child, parents, values, normalise)


def distributions(
    child: Variable, parents: Sequence[Variable], values: np.ndarray, normalise: bool
) -> np.ndarray:
    """Return checked rows, normalised if they are weights.

    Raises:
        ModelError: If a row is invalid; names it by the states of the parents.
    """
    if normalise:
        total = values.sum(axis=-1, keepdims=True)
        usable = np.isfinite(values).all(axis=-1, keepdims=True) & (values >= 0) & (total > 0)
        values = np.divide(values, total, out=values.copy(), where=usable)
    check_distributions(child, parents, values)
    return values


def check_distributions(child: Variable, parents: Sequence[Variable], values: np.ndarray) -> None:
    """Check that every row is a distribution.

    Raises:
        ModelError: If a row is invalid; names it by the states of the parents.
    """
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        raise ModelError(
            f"table of {child.name!r} must hold probabilities, but P({_label(child, where[-1])}"
            f"{_given(parents, where)}) is {values[where]:g}"
        )
    off = np.abs(values.sum(axis=-1) - 1.0)
    if (off > ROW_TOLERANCE).any():
        where = tuple(int(k) for k in np.unravel_index(int(off.argmax()), off.shape))
        total = float(values[where].sum())
        count = int((off > ROW_TOLERANCE).sum())
        others = f" (and {count - 1} other rows do not either)" if count > 1 else ""
        raise ModelError(
            f"row P({child.name}{_given(parents, where)}) of the table of {child.name!r} must "
            f"sum to 1, but sums to {total:.7g}, off by {total - 1.0:+.3g}{others}",
            f"correct the row (the last axis runs over the states of {child.name!r}), or give "
            "Tabular or the model normalise=True, which divides rounded rows, percentages and "
            "counts by their sums",
        )


def read_numbers(what: str, numbers: Any) -> np.ndarray:
    """Return a float64 copy of an array-like.

    Args:
        what: Description of the values for messages: ``"table of 'rain'"``.
        numbers: Nested lists, array or tensor.

    Raises:
        ModelError: If it is not a rectangular array of numbers, has masked cells, or requires grad.
    """
    if is_masked(numbers):
        raise ModelError(
            f"{what} has masked cells, and parameters are never missing",
            "fill them, or leave the whole out to have it learned",
        )
    if isinstance(numbers, torch.Tensor):
        if numbers.requires_grad:
            raise ModelError(
                f"{what} requires grad, but values are copied",
                "pass the tensor detached and differentiate with respect to the conditional's own "
                "parameters",
            )
        numbers = dense(numbers.detach()).cpu().numpy()
    try:
        return np.array(numbers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{what} must be a rectangular array of numbers: {error}") from None


def numbers_or_zeros(what: str, values: Any, shape: Sequence[int]) -> nn.Parameter:
    """Return a constant float64 copy of an array-like, or learnable zeros if it is ``None``.

    Args:
        what: Description of the values for messages: ``"weight of 'rain'"``.
        values: Finite numbers, or ``None``.
        shape: Shape of the parameter.

    Raises:
        ModelError: If the shape is wrong or a number is not finite.
    """
    if values is None:
        return learnable_zeros(what, shape)
    numbers = read_numbers(what, values)
    if numbers.shape != tuple(shape):
        raise ModelError(f"{what} must have shape {tuple(shape)}, got {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ModelError(f"{what} must be finite, got {numbers[~np.isfinite(numbers)][0]}")
    return nn.Parameter(torch.from_numpy(numbers), requires_grad=False)


def _shape_message(
    child: Variable, parents: Sequence[Variable], shape: tuple[int, ...], got: tuple[int, ...]
) -> str:
    axes = ", ".join(f"{v.name}: {v.num_states}" for v in (*parents, child))
    message = (
        f"table of {child.name!r} must have shape {shape}, axes ({axes}) with the parents first "
        f"and {child.name!r} last, got {got}"
    )
    if len(got) == 2 and got == (shape[-1], math.prod(shape[:-1])) and got != shape:
        message += f"; a table with one column a configuration is table.T.reshape{shape}"
    elif math.prod(got) == math.prod(shape):
        message += "; the number of entries fits, so only the axes need another order or shape"
    return message


def _from_mapping(child: Variable, parents: Sequence[Variable], rows: Mapping[Any, Any]) -> Any:
    """Return an array of rows keyed by the labels of the parents' states."""
    if not parents:
        return _row(child, rows)
    shape = tuple(v.num_states for v in parents)
    check_size(f"the table of {child.name!r}", entries_of((*shape, child.num_states)),
               advice="Use NoisyOr, Sigmoid, Softmax or Neural")  # fmt: skip
    values = np.full((*shape, child.num_states), np.nan)
    filled = np.zeros(shape, dtype=bool)
    for key, row in rows.items():
        where = _configuration(child, parents, key)
        entries = read_numbers(f"table of {child.name!r}", _row(child, row))
        if entries.shape != (child.num_states,):
            raise ModelError(
                f"row {key!r} of the table of {child.name!r} must have {child.num_states} "
                f"entries, got shape {entries.shape}"
            )
        if filled[where]:
            raise ModelError(f"row {key!r} of the table of {child.name!r} is given twice")
        values[where] = entries
        filled[where] = True
    if not filled.all():
        where = tuple(int(k) for k in np.argwhere(~filled)[0])
        raise ModelError(
            f"table of {child.name!r} misses {int((~filled).sum())} of {filled.size} rows, the "
            f"first is P({child.name}{_given(parents, where)})"
        )
    return values


def _configuration(child: Variable, parents: Sequence[Variable], key: Any) -> tuple[int, ...]:
    labels = key if isinstance(key, tuple) and len(parents) > 1 else (key,)
    if isinstance(key, tuple) and len(parents) == 1 and len(key) == 1:
        labels = key
    if len(labels) != len(parents):
        names = tuple(v.name for v in parents)
        raise ModelError(
            f"row {key!r} of the table of {child.name!r} must be keyed by one state each of {names}"
        )
    return tuple(_state(child, v, label) for v, label in zip(parents, labels, strict=True))


def _row(child: Variable, row: Any) -> Any:
    if not isinstance(row, Mapping):
        return row
    entries = [math.nan] * child.num_states
    for label, value in row.items():
        entries[_state(child, child, label)] = value
    missing = [s for s, e in zip(child.states or (), entries, strict=True) if e != e]
    if missing:
        raise ModelError(f"a row of the table of {child.name!r} misses state {missing[0]!r}")
    return entries


def _state(child: Variable, variable: Variable, label: Hashable) -> int:
    try:
        index = variable.index(label)
    except EvidenceError as error:
        raise ModelError(f"table of {child.name!r}: {error.reason}", error.advice) from None
    if index < 0:
        raise ModelError(f"table of {child.name!r}: {label!r} is no state of {variable.name!r}")
    return index


def _label(variable: Variable, index: int) -> str:
    return f"{variable.name}={(variable.states or ())[index]}"


def _given(parents: Sequence[Variable], where: Sequence[int]) -> str:
    """Return ``" | rain=yes, wet=no"``, or an empty string without parents."""
    text = ", ".join(_label(v, k) for v, k in zip(parents, where, strict=False))
    return f" | {text}" if text else ""
