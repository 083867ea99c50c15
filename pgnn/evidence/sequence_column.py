"""The values of one variable over time, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.factors.variable import MISSING, Variable

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class SequenceColumn:
    """The rows of one variable.

    Attributes:
        variable: Whose.
        parts: Each row's values, ``(t, ...)``.
        batched: Whether they came in rows.
        soft: Whether they are likelihoods.
    """

    variable: Variable
    parts: list[Array]
    batched: bool
    soft: bool

    @property
    def steps(self) -> int:
        """Most steps of a row."""
        return max((len(p) for p in self.parts), default=0)

    @classmethod
    def read(cls, variable: Variable, values: Any) -> SequenceColumn:
        """Read the values of a variable in the forms that :class:`Sequences` takes.

        Raises:
            EvidenceError: If a value is no state or number, or the shape is wrong.
        """
        event = len(variable.shape) - 1
        ragged = _is_ragged(values, event)
        soft = variable.is_discrete and _is_soft(variable, values, ragged)
        if ragged:
            parts = [_numbers(variable, v, soft) for v in values]
            return cls(variable, parts, True, soft)
        array = _numbers(variable, values, soft)
        axes = array.ndim - event - soft
        if axes == 1:
            return cls(variable, [array], False, soft)
        if axes == 2:
            return cls(variable, list(array), True, soft)
        shape = ", ".join(map(str, ["T", *variable.shape[1:]]))
        raise EvidenceError(
            f"evidence for {variable.name!r} must be ({shape}) for one sequence or (B, {shape}) "
            f"for several, got {array.shape}"
        )

    def filled(self, rows: int, steps: int, lengths: Array, mask: Array | None) -> Tensor:
        """``(B, T, ...)``, nothing seen beyond the ends and outside the mask."""
        event = tuple(self.variable.shape[1:])
        if self.soft:
            fill: Any = 1.0
            event = (self.variable.num_states,)
        else:
            fill = MISSING if self.variable.is_discrete else np.nan
        kind = np.int64 if self.variable.is_discrete and not self.soft else _real(self.parts)
        out = np.full((rows, steps, *event), fill, dtype=kind)
        parts = self.parts if self.batched else self.parts * rows
        for r, part in enumerate(parts):
            if part.shape[1:] != event:
                raise EvidenceError(
                    f"{self.variable.name!r} must have {event} at each step, got {part.shape[1:]} "
                    f"in row {r}"
                )
            out[r, : len(part)] = part
        out[np.arange(steps) >= lengths[:, None]] = fill
        if mask is not None:
            unseen = np.ones((rows, steps), dtype=np.bool_)
            unseen[:, : mask.shape[1]] = ~mask
            out[unseen] = fill
        return torch.from_numpy(out)


def _is_ragged(values: Any, event: int) -> bool:
    """Whether values are a list of sequences, each of a length of its own."""
    if isinstance(values, np.ndarray | Tensor) or hasattr(values, "to_numpy"):
        return False
    if not isinstance(values, list | tuple) or not len(values):
        return False
    return all(np.ndim(v) > event if _is_array(v) else _depth(v) > event for v in values)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor) or hasattr(value, "to_numpy")


def _depth(value: Any) -> int:
    """How deeply lists are nested."""
    depth = 0
    while isinstance(value, list | tuple):
        depth += 1
        if not len(value):
            break
        value = value[0]
        if _is_array(value):
            return depth + np.ndim(value)
    return depth


def _is_soft(variable: Variable, values: Any, ragged: bool) -> bool:
    """Whether values are likelihoods: floats with an axis more than states have."""
    if ragged:
        return any(np.ndim(v) > 1 if _is_array(v) else _depth(v) > 1 for v in values)
    if not isinstance(values, np.ndarray | Tensor) or not _is_float(values) or values.ndim < 2:
        return False
    if values.ndim > 2:
        return True
    array = _array(values)
    whole = np.isnan(array) | (array == np.floor(array))
    return array.shape[1] == variable.num_states and not bool(whole.all())


def _is_float(values: np.ndarray | Tensor) -> bool:
    return (
        values.dtype.is_floating_point if isinstance(values, Tensor) else values.dtype.kind == "f"
    )


def _array(values: Any) -> Array:
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach()
    return np.asarray((values.double() if _is_float(values) else values).cpu())


def _numbers(variable: Variable, values: Any, soft: bool) -> Array:
    """Codes, likelihoods or reals."""
    if not variable.is_discrete:
        return _reals(variable, values)
    if soft:
        return _likelihoods(variable, values)
    if isinstance(values, Tensor):
        values = _array(values)
    if isinstance(values, list | tuple) and not _scalars(values):
        raise EvidenceError(
            f"evidence for {variable.name!r} must be states, one for each step, got {values!r}"
        )
    return variable.encode(values).astype(np.int64)


def _scalars(values: Sequence[Any]) -> bool:
    return not any(isinstance(v, list | tuple | np.ndarray | Tensor) for v in values)


def _likelihoods(variable: Variable, values: Any) -> Array:
    try:
        array = np.asarray(_array(values), dtype=np.float64)
    except (TypeError, ValueError):
        raise EvidenceError(f"likelihoods of {variable.name!r} must be numbers") from None
    k = variable.num_states
    array = array.reshape(0, k) if not array.size else array
    if array.shape[-1] != k or array.ndim < 2:
        raise EvidenceError(
            f"likelihoods of {variable.name!r} must have {k} numbers at each step, got shape "
            f"{array.shape}"
        )
    array = np.where(np.isnan(array), 1.0, array)
    if (array < 0).any() or not np.isfinite(array).all():
        raise EvidenceError(f"likelihoods of {variable.name!r} must be finite and not negative")
    return array


def _reals(variable: Variable, values: Any) -> Array:
    event = tuple(variable.shape[1:])
    if event and isinstance(values, list | tuple):
        values = [np.full(event, np.nan) if v is None else v for v in values]
    try:
        array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
        if array.dtype == object:
            array = np.array(array.tolist(), dtype=np.float64)  # None is NaN
        if array.dtype.kind not in "fiub":
            raise TypeError
    except (TypeError, ValueError):
        raise EvidenceError(f"evidence for {variable.name!r} must be numbers") from None
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    array = array.reshape(0, *event) if array.shape == (0,) else array
    if np.isinf(array).any():
        raise EvidenceError(f"evidence for {variable.name!r} is infinite somewhere")
    return array


def _real(parts: Sequence[Array]) -> Any:
    return np.result_type(np.float32, *(p.dtype for p in parts)) if parts else np.float64
