"""Random variables: a name, and either named states or a real shape."""

from __future__ import annotations

import math
import numbers
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from pgnn.errors import EvidenceError, ModelError, closest

MISSING = -1


class Variable:
    """A named random variable, discrete with labelled states or real with a shape.

    A discrete variable has states ``0 .. K-1``, each with a label. Evidence may give a label or an
    index, under one rule: a Python scalar is a *label* if it is one of the labels; a plain integer
    that is not a label is an *index* only when no label is a number; integer arrays of NumPy or
    torch always hold indices. ``None``, ``NaN``, ``pandas.NA`` and ``-1`` mean "not seen".

    Args:
        name: Any hashable; unique within a model.
        states: Number of states, or their labels in order; ``None`` for a real variable.
        shape: Event shape of a real variable, or array shape of an array of discrete ones.

    Raises:
        ModelError: If there is no state, or a label occurs twice.

    Example:
        >>> rain = Variable("rain", ["no", "yes"])
        >>> rain.num_states, rain.index("yes"), rain.decode([1, 0])
        (2, 1, ('yes', 'no'))
    """

    __slots__ = ("_index", "_numeric", "name", "shape", "states")

    def __init__(
        self,
        name: Hashable,
        states: int | Iterable[Hashable] | None = None,
        shape: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.shape = tuple(shape)
        self.states = _labels(name, states)
        self._index = {label: k for k, label in enumerate(self.states or ())}
        self._numeric = any(_is_number(label) for label in self.states or ())

    @property
    def is_discrete(self) -> bool:
        """Whether the variable has states."""
        return self.states is not None

    @property
    def num_states(self) -> int:
        """Number of states.

        Raises:
            ModelError: If the variable is real.
        """
        if self.states is None:
            raise ModelError(f"variable {self.name!r} is real: it has no states")
        return len(self.states)

    def index(self, state: object) -> int:
        """Return the index of one state, given by label or index; -1 where it is missing.

        Raises:
            EvidenceError: If the variable has no such state.
        """
        try:
            found = self._index.get(state) if type(state) is not bool else self._bool_index(state)
        except TypeError:
            found = None
        if found is not None:
            return found
        if _is_missing(state):
            return MISSING
        if not self._numeric and _is_number(state) and float(state) == int(state):  # type: ignore[arg-type,call-overload]
            index = int(state)  # type: ignore[call-overload]
            if index == MISSING or 0 <= index < self.num_states:
                return index
            raise EvidenceError(
                f"state index {index} of {self.name!r} is out of range 0..{self.num_states - 1}"
            )
        if self._numeric and _is_number(state) and state == MISSING:
            return MISSING
        hint = closest(state, self.states or ())
        raise EvidenceError(f"variable {self.name!r} has no state {state!r}{hint}")

    def encode(self, values: Any) -> np.ndarray:
        """Turn labels or indices into state indices.

        Args:
            values: A sequence or Series of labels, or an integer tensor or array of indices.

        Returns:
            int32 array of the same shape; -1 where a value is missing.

        Raises:
            EvidenceError: If a value is no state of this variable.
        """
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu().numpy()
        if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
            return self._check_indices(values)
        if hasattr(values, "dtype") and hasattr(values.dtype, "categories"):
            return self._encode_categories(values)
        array = values if isinstance(values, np.ndarray) else _object_array(values)
        codes: dict[object, int] = {}
        flat = array.ravel()
        out = np.empty(flat.shape, dtype=np.int32)
        for position, value in enumerate(flat.tolist()):
            code = codes.get(value)
            if code is None:
                code = codes[value] = self.index(value)
            out[position] = code
        return out.reshape(array.shape)

    def decode(self, indices: Any) -> tuple[Any, ...]:
        """Return the labels of a one-dimensional sequence of state indices (``None`` for -1)."""
        states = self.states or ()
        return tuple(None if k < 0 else states[k] for k in np.asarray(indices).ravel().tolist())

    def __repr__(self) -> str:
        if self.states is None:
            return f"Variable({self.name!r}, shape={self.shape})"
        shape = f", shape={self.shape}" if self.shape else ""
        return f"Variable({self.name!r}, {list(self.states)!r}{shape})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Variable)
            and self.name == other.name
            and self.states == other.states
            and self.shape == other.shape
        )

    def __hash__(self) -> int:
        return hash((self.name, self.states, self.shape))

    def _bool_index(self, state: bool) -> int | None:
        """``True`` equals 1 in Python; as a label it only stands for itself or for a number."""
        found = self._index.get(state)
        if found is None:
            hint = closest(state, self.states or ())
            raise EvidenceError(f"variable {self.name!r} has no state {state!r}{hint}")
        return found

    def _check_indices(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "f":
            whole = np.nan_to_num(values, nan=MISSING)
            if (whole != np.floor(whole)).any():
                raise EvidenceError(
                    f"evidence for {self.name!r} must be state indices, got fractional numbers; "
                    f"a likelihood needs shape (B, {self.num_states})"
                )
            values = whole
        codes = values.astype(np.int32)
        if codes.size and (codes.min() < MISSING or codes.max() >= self.num_states):
            bad = codes[(codes < MISSING) | (codes >= self.num_states)].ravel()[0]
            raise EvidenceError(
                f"state index {bad} of {self.name!r} is out of range 0..{self.num_states - 1} "
                "(-1 means missing)"
            )
        return codes

    def _encode_categories(self, values: Any) -> np.ndarray:
        """Encode a pandas categorical: look every category up once, then gather."""
        categories = getattr(values, "cat", values)
        codes = np.asarray(categories.codes)
        used = set(np.unique(codes).tolist()) - {MISSING}
        table = np.full(len(categories.categories) + 1, MISSING, dtype=np.int32)
        for k, label in enumerate(categories.categories):
            if k in used:
                table[k] = self.index(label)
        return table[codes]


def _labels(name: Hashable, states: int | Iterable[Hashable] | None) -> tuple[Any, ...] | None:
    if states is None:
        return None
    if isinstance(states, str):
        raise ModelError(f"states of {name!r} must be a number or a list of labels, got {states!r}")
    labels = tuple(range(states)) if isinstance(states, numbers.Integral) else tuple(states)  # type: ignore[call-overload,arg-type]
    if not labels:
        raise ModelError(f"variable {name!r} has no states; give at least one")
    if len(set(labels)) != len(labels):
        twice = next(label for k, label in enumerate(labels) if label in labels[:k])
        raise ModelError(f"state {twice!r} of variable {name!r} occurs twice; labels must differ")
    return labels


def _object_array(values: Any) -> np.ndarray:
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy(dtype=object))
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        values = [values]
    items = list(values)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_missing(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return type(value).__name__ in ("NAType", "NaTType")
