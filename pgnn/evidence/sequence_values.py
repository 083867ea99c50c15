"""Evidence on one variable over time: one sequence, or a sequence for each row."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError, short_repr
from pgnn.evidence.framed_values import only_column, plain_values
from pgnn.evidence.reading import floats_of
from pgnn.evidence.texts import spelled
from pgnn.evidence.values import Rule, both_readings, could_be_weights, whole_numbers
from pgnn.evidence.wrappers import Codes, Likelihood
from pgnn.factors.cells import cells_of, dense, is_container, is_missing
from pgnn.factors.labels import MISSING, WrongCell
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import Variable

Array = NDArray[Any]

_NO_LABEL = -2
"""Stands for what is no label."""


@dataclass(frozen=True, eq=False, slots=True)
class Parts:
    """The sequences of one variable.

    Attributes:
        variable: The variable of the sequences.
        rows: Values of each row, ``(t, ...)``.
        batched: Whether the sequences were given in rows.
        soft: Whether the values are likelihoods.
    """

    variable: Variable
    rows: list[Array]
    batched: bool
    soft: bool

    @property
    def steps(self) -> int:
        """Largest number of steps of a row."""
        return max((len(p) for p in self.rows), default=0)

    def cut(self, lengths: Array | None) -> Parts:
        """Return one sequence split into consecutive ones, if lengths are given.

        Raises:
            EvidenceError: If the sum of several lengths differs from the length of the sequence.
        """
        if lengths is None or lengths.ndim != 1 or lengths.dtype.kind not in "iu" or self.batched:
            return self
        (row,) = self.rows
        if int(lengths.sum()) != len(row):
            raise EvidenceError(
                f"{self.variable.name!r} has {len(row)} steps in one sequence, but the lengths "
                f"{lengths.tolist()[:10]} sum to {int(lengths.sum())}",
                "give concatenated sequences, rows of equal length, or a list of sequences",
            )
        return replace(self, rows=np.split(row, np.cumsum(lengths)[:-1]), batched=True)

    def filled(self, rows: int, steps: int, lengths: Array, mask: Array | None) -> Tensor:
        """Return ``(B, T, ...)`` values, missing beyond the ends and outside the mask."""
        event = tuple(self.variable.shape[1:])
        if self.soft:
            fill: Any = 1.0
            event = (self.variable.num_states,)
        else:
            fill = MISSING if self.variable.is_discrete else np.nan
        kind: Any = np.int64
        if self.soft or not self.variable.is_discrete:
            kind = np.result_type(np.float32, *(p.dtype for p in self.rows or [np.empty(0)]))
        out = np.full((rows, steps, *event), fill, dtype=kind)
        for r, row in enumerate(self.rows if self.batched else self.rows * rows):
            if row.shape[1:] != event:
                raise EvidenceError(
                    f"{self.variable.name!r} must have {event} at each step, got {row.shape[1:]} "
                    f"in row {r}"
                )
            out[r, : len(row)] = row
        out[np.arange(steps) >= lengths[:, None]] = fill
        if mask is not None:
            unobserved = np.ones((rows, steps), dtype=np.bool_)
            unobserved[:, : mask.shape[1]] = ~mask
            out[unobserved] = fill
        return torch.from_numpy(out)


def read_parts(variable: Variable, values: Any, rule: Rule, lengths: Array | None) -> Parts:
    """Read the evidence on a variable.

    Args:
        variable: A variable whose shape starts with the axis of time.
        values: One sequence ``(T, ...)``, rows ``(B, T, ...)``, or a list of sequences; a scalar
            may have a trailing axis of one; texts, see :func:`spelled`.
        rule: Rule for reading values.
        lengths: Lengths of the rows as passed by the caller.

    Raises:
        EvidenceError: If a value is no state or number, the shape is wrong, or the evidence is
            ambiguous.
    """
    if isinstance(values, Codes):
        values, rule = values.values, replace(rule, coded=True)
    if isinstance(values, list) and values and all(isinstance(v, Codes) for v in values):
        values, rule = [v.values for v in values], replace(rule, coded=True)
    is_likelihood = isinstance(values, Likelihood)
    values = values.values if isinstance(values, Likelihood) else values
    if isinstance(values, Iterator):
        values = list(values)
    values = plain_values(variable, values, scalar=len(variable.shape) == 1)
    if not rule.ignore_unknown:  # else a longer string is no state, and missing
        values = spelled(variable, values)
    if isinstance(values, Tensor):
        values = dense(values)
    if (codes := _codes_of_texts(variable, values)) is not None and not (
        is_likelihood or rule.coded
    ):
        return Parts(variable, codes, True, False)
    if not _holds_several(variable, values):
        raise EvidenceError(
            f"evidence for {variable.name!r} must be a sequence, a value for each step, got "
            f"{short_repr(values)}"
        )
    event = len(variable.shape) - 1
    parts = [values]
    ragged = _is_ragged(variable, values, event)
    if ragged:
        parts = list(values)
    shapes = [_shape(variable, p) for p in parts]
    soft = variable.is_discrete and (
        is_likelihood
        or (any(len(s) > 1 for s in shapes) if ragged else _is_soft(variable, values, rule))
    )
    rows = [_numbers(variable, p, soft, rule, k if ragged else None) for k, p in enumerate(parts)]
    axes = event + soft
    if ragged:
        return Parts(
            variable, [_column(r) if r.ndim == 2 and not axes else r for r in rows], True, soft
        )
    (array,) = rows
    if not axes and array.ndim == 2 and array.shape[1] == 1 and not _tells_rows(lengths, array):
        array = _column(array)
    if variable.shape[1:] == (1,) and array.ndim == 1:
        array = array[..., None]  # numbers are vectors of one
    if array.ndim - axes == 1:
        return Parts(variable, [array], False, soft)
    if array.ndim - axes == 2:
        return Parts(variable, list(array), True, soft)
    shape = ", ".join(map(str, [AXIS, *variable.shape[1:]]))
    raise EvidenceError(
        f"evidence for {variable.name!r} must be ({shape}) for one sequence or (B, {shape}) "
        f"for several, got {array.shape}"
    )


def event_shape(name: Hashable, values: Any, lengths: Array | None) -> tuple[int, ...]:
    """Return the shape of each step of a real variable, inferred from data.

    Args:
        name: Name of the variable.
        values: A list of sequences, one sequence, or rows ``(B, T)`` or ``(B, T, D)``.
        lengths: Lengths of the sequences, if given.

    Raises:
        EvidenceError: If the data is ambiguous.
    """
    if isinstance(values, list | tuple):  # of sequences
        first = next((x for x in values if is_container(x, {})), 0.0)
        return tuple(np.shape(only_column(first))[1:])
    shape = np.shape(only_column(values))
    if len(shape) != 2 or min(shape) == 1:
        return tuple(shape[2:])
    if lengths is not None and lengths.ndim:
        return () if len(lengths) == shape[0] else shape[1:]
    raise EvidenceError(
        f"{name!r} is real and of shape {tuple(shape)}: one sequence of {shape[0]} vectors of "
        f"{shape[1]} numbers, or {shape[0]} sequences of {shape[1]} numbers?",
        f"Declare shapes={{{name!r}: ({shape[1]},)}} in the model for the one, {{{name!r}: ()}} "
        "for the other",
    )


def step_codes(variable: Variable, values: Any, rule: Rule, step: int) -> Array:
    """Return the state indices of all rows, or of a single row, at one step."""
    try:
        return _codes(variable, values, rule)
    except WrongCell as error:
        row = error.at[0] if _holds_several(variable, values) else None
        raise error.over_time(row, step, *error.at[1:]) from None


def _codes(variable: Variable, values: Any, rule: Rule) -> Array:
    if isinstance(values, Codes):
        values, rule = values.values, replace(rule, coded=True)
    if not _holds_several(variable, values):
        values = [values]
    cells = cells_of(values, variable.labels.codes)
    if rule.coded and cells.categories is None:
        return variable.labels.check_indices(whole_numbers(cells)).astype(np.int64)
    column = variable.labels.column(cells, ignore_unknown=rule.ignore_unknown)
    return column.take().astype(np.int64)


def _codes_of_texts(variable: Variable, values: Any) -> list[Array] | None:
    """Codes of lists of lists of labels that are texts, by loops in C; None of anything else."""
    if type(values) is not list or set(map(type, values)) != {list}:
        return None
    if len(variable.shape) != 1 or not variable.is_discrete:
        return None
    cells = [*chain.from_iterable(values)]
    if not set(map(type, cells)) <= {str, type(None)}:
        return None
    codes = {None: MISSING, **variable.labels.codes}
    flat = np.fromiter(map(codes.get, cells, repeat(_NO_LABEL)), np.int64, len(cells))
    if (flat == _NO_LABEL).any():
        return None
    return np.split(flat, np.cumsum([len(row) for row in values])[:-1])


def _holds_several(variable: Variable, values: Any) -> bool:
    return is_container(values, variable.labels.codes) and not (
        isinstance(values, np.ndarray | Tensor) and values.ndim == 0
    )


def _is_ragged(variable: Variable, values: Any, event: int) -> bool:
    """Return whether values are a list of sequences with their own lengths."""
    if isinstance(values, np.ndarray | Tensor) or hasattr(values, "dtype") or not len(values):
        return False
    return all(_holds_several(variable, v) and len(_shape(variable, v)) > event for v in values)


def _shape(variable: Variable, values: Any) -> tuple[int, ...]:
    """Return the shape of a container; of ragged lists along the first items."""
    if isinstance(values, np.ndarray | Tensor) or hasattr(values, "dtype"):
        return tuple(np.shape(values))
    inner = [v for v in values if _holds_several(variable, v)]
    return (len(values), *(_shape(variable, inner[0]) if inner else ()))


def _tells_rows(lengths: Array | None, array: Array) -> bool:
    """Return whether lengths apply to rows rather than to parts of one column."""
    return lengths is not None and lengths.ndim > 0 and len(lengths) == len(array) > 1


def _column(array: Array) -> Array:
    return array[:, 0] if array.shape[1] == 1 else array


def _is_soft(variable: Variable, values: Any, rule: Rule) -> bool:
    """Return whether values are likelihoods, floats with one axis more than states."""
    if rule.coded or not isinstance(values, np.ndarray | Tensor) or values.ndim < 2:
        return False
    cells = cells_of(values, variable.labels.codes)
    array = cells.values
    if array.dtype.kind != "f":
        return False
    if array.ndim > 2:
        return True
    if array.shape[1] != variable.num_states:
        return False
    if isinstance(values, Tensor) and values.requires_grad:
        return True
    if not variable.labels.could_be(cells):
        return True
    if cells.missing is None and array.size and could_be_weights(array):
        raise EvidenceError(both_readings(variable, array))
    return False


def _numbers(
    variable: Variable, values: Any, soft: bool, rule: Rule, row: int | None = None
) -> Array:
    """Return codes, likelihoods or reals of a row, of all rows, or of a single sequence."""
    if soft:
        return _likelihoods(variable, values)
    if variable.is_discrete:
        if isinstance(values, list | tuple):
            held = [_holds_several(variable, v) for v in values]
            if any(held) and not all(held):
                raise EvidenceError(
                    f"evidence for {variable.name!r} must be states, one for each step, got "
                    f"{short_repr(values)}"
                )
        try:
            return _codes(variable, values, rule)
        except WrongCell as error:
            in_rows = row is None and len(error.at) > len(variable.shape)
            row, (step, *rest) = (error.at[0], error.at[1:]) if in_rows else (row, error.at)
            raise error.over_time(row, step, *rest) from None
    event = tuple(variable.shape[1:])
    if event and isinstance(values, list | tuple):
        values = [np.full(event, np.nan) if is_missing(v) else v for v in values]
    try:
        array = floats_of(values)
    except (TypeError, ValueError, EvidenceError):
        raise EvidenceError(f"evidence for {variable.name!r} must be numbers") from None
    array = array.reshape(0, *event) if array.shape == (0,) else array
    if np.isinf(array).any():
        raise EvidenceError(f"evidence for {variable.name!r} is infinite somewhere")
    return array


def _likelihoods(variable: Variable, values: Any) -> Array:
    num_states = variable.num_states
    try:
        array = floats_of(values)
    except (TypeError, ValueError, EvidenceError):
        raise EvidenceError(f"likelihoods of {variable.name!r} must be numbers") from None
    array = array.reshape(0, num_states) if not array.size else array
    if array.shape[-1] != num_states or array.ndim < 2:
        raise EvidenceError(
            f"likelihoods of {variable.name!r} must have {num_states} numbers at each step, got "
            f"shape {array.shape}"
        )
    array = np.where(np.isnan(array), 1.0, array)
    if (array < 0).any() or not np.isfinite(array).all():
        raise EvidenceError(f"likelihoods of {variable.name!r} must be finite and not negative")
    return array
