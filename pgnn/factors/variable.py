"""Random variables: a name, and either named states or a real shape."""

from __future__ import annotations

import math
import numbers
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from pgnn.errors import EvidenceError, Intractable, ModelError, Unsupported, closest

MISSING = -1


MAX_STATES = 2**24
"""Most states of a variable."""


class Variable:
    """A named random variable, discrete with labelled states or real with a shape.

    A discrete variable has states ``0 .. K-1``, each with a label. Evidence may give a label or an
    index, under one rule: a Python scalar is a *label* if it is one of the labels; a plain integer
    that is not a label is an *index* only when no label is a number; integer arrays of NumPy or
    torch always hold indices. ``None``, ``NaN``, ``pandas.NA`` and ``-1`` mean "not seen".

    Args:
        name: Any hashable; unique within a model.
        states: Number of states, or their labels in order; ``None`` for a real variable.
        shape: Event shape of a real variable, or array shape of an array of discrete ones. An
            axis whose length only data knows has a name instead, as in ``("T",)``.

    Raises:
        ModelError: If there is no state, a label occurs twice, or an axis is no length or name.

    Example:
        >>> rain = Variable("rain", ["no", "yes"])
        >>> rain.num_states, rain.index("yes"), rain.decode([1, 0])
        (2, 1, ('yes', 'no'))
    """

    __slots__ = ("_boolean", "_index", "_numeric", "name", "shape", "states")

    def __init__(
        self,
        name: Hashable,
        states: int | Iterable[Hashable] | None = None,
        shape: Sequence[int | str] = (),
    ) -> None:
        self.name = name
        self.shape: tuple[Any, ...] = _axes(name, shape)
        self.states = _labels(name, states)
        self._index: dict[Any, int] = {label: k for k, label in enumerate(self.states or ())}
        self._numeric = any(_is_number(label) for label in self.states or ())
        self._boolean = any(isinstance(label, bool | np.bool_) for label in self.states or ())

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

    @property
    def num_elements(self) -> int:
        """Number of cells of an array; 1 without a shape.

        Raises:
            Unsupported: If an axis has a name instead of a length.
        """
        if self.shape and any(isinstance(n, str) for n in self.shape):
            raise Unsupported(
                f"{self.name!r} has the shape {self.shape}: the length of a named axis is known "
                "only with the data; this needs an array whose lengths are all numbers"
            )
        return math.prod(self.shape)

    def element(self, *index: int) -> Variable:
        """Return one element of an array as a variable of its own, named ``(name, *index)``.

        Raises:
            EvidenceError: If the index does not fit the shape.
        """
        if not self.has_element(index):
            raise EvidenceError(
                f"{self.name!r} has the shape {self.shape} and no element {list(index)}"
            )
        return self._single((self.name, *map(int, index)))

    def position(self, index: Sequence[int]) -> int:
        """Return the place of an element in row-major order."""
        place = 0
        for i, n in zip(index, self.shape, strict=True):
            place = place * n + int(i)
        return place

    def elements(self) -> Iterator[Variable]:
        """Yield every element as a variable of its own; without a shape, the variable itself."""
        if not self.shape:
            yield self
        else:
            for index in product(*map(range, self.shape)):
                yield self._single((self.name, *index))

    def has_element(self, index: Sequence[object]) -> bool:
        """Whether an index is that of an element; along a named axis any number is."""
        return len(index) == len(self.shape) and all(
            isinstance(i, int | np.integer) and i >= 0 and (isinstance(n, str) or i < n)
            for i, n in zip(index, self.shape, strict=True)
        )

    def index(self, state: object) -> int:
        """Return the index of one state, given by label or index; -1 where it is missing.

        Raises:
            EvidenceError: If the variable has no such state.
        """
        found = self._find(state)
        if found is not None:
            return found
        if _is_missing(state) or (_is_number(state) and state == MISSING):
            return MISSING
        index = None if self._numeric else _whole(state)
        if index is not None:
            if 0 <= index < self.num_states:
                return index
            raise EvidenceError(
                f"state index {index} of {self.name!r} is out of range 0..{self.num_states - 1}"
            )
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
        if isinstance(values, np.ndarray) and (
            values.dtype.kind in "iuf" or (values.dtype.kind == "b" and not self._boolean)
        ):
            return self._check_indices(values)
        if hasattr(values, "dtype") and hasattr(values.dtype, "categories"):
            return self._encode_categories(values)
        array = values if isinstance(values, np.ndarray) else _object_array(values)
        if array.dtype.kind == "b":  # labels, each looked up once
            yes, no = (self.index(b) if (array == b).any() else MISSING for b in (True, False))
            return np.where(array, np.int32(yes), np.int32(no))
        codes: dict[object, int] = {}
        flat = array.ravel()
        out = np.empty(flat.shape, dtype=np.int32)
        for position, value in enumerate(flat.tolist()):
            try:
                code = codes.get(value)
            except TypeError:  # not hashable: `index` refuses it with a message
                code = self.index(value)
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

    def _single(self, name: Hashable) -> Variable:
        """The same states without a shape, made fast: arrays may have many elements."""
        single = Variable.__new__(Variable)
        single.name, single.shape, single.states = name, (), self.states
        single._index, single._numeric, single._boolean = self._index, self._numeric, self._boolean
        return single

    def _find(self, state: object) -> int | None:
        """Index of a label; ``True`` stands only for itself or for the number 1 as a label."""
        try:
            return self._index.get(state)
        except TypeError:  # not hashable
            return None

    def _check_indices(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "f":
            whole = np.nan_to_num(values, nan=MISSING)
            if (whole != np.floor(whole)).any():
                raise EvidenceError(
                    f"evidence for {self.name!r} must be state indices, got fractional numbers; "
                    f"a likelihood needs shape (B, {self.num_states})"
                )
            values = whole
        if values.size and (values.min() < MISSING or values.max() >= self.num_states):
            bad = values[(values < MISSING) | (values >= self.num_states)].ravel()[0]
            raise EvidenceError(
                f"state index {bad:g} of {self.name!r} is out of range 0..{self.num_states - 1} "
                "(-1 means missing)"
            )
        return values.astype(np.int32)

    def _encode_categories(self, values: Any) -> np.ndarray:
        """Encode a pandas categorical: look every category up once, then gather."""
        categories = getattr(values, "cat", values)
        codes = np.asarray(categories.codes)
        used = set(np.unique(codes).tolist()) - {MISSING}
        table = np.full(len(categories.categories) + 1, MISSING, dtype=np.int32)
        for k, label in enumerate(categories.categories):
            if k in used:
                table[k] = self.index(label)
        return np.asarray(table[codes])


def _labels(name: Hashable, states: int | Iterable[Hashable] | None) -> tuple[Any, ...] | None:
    if states is None:
        return None
    if isinstance(states, str | bool) or not isinstance(states, numbers.Integral | Iterable):
        raise ModelError(f"states of {name!r} must be a number or a list of labels, got {states!r}")
    if isinstance(states, set | frozenset):
        raise ModelError(f"states of {name!r} must have an order: give a list instead of {states}")
    if isinstance(states, numbers.Integral) and int(states) > MAX_STATES:
        raise Intractable(
            f"{name!r} is to have {states:,} states, at most {MAX_STATES:,} can be; group them"
        )
    labels = tuple(range(states)) if isinstance(states, numbers.Integral) else tuple(states)
    try:
        distinct = len(set(labels))
    except TypeError:
        raise ModelError(f"states of {name!r} must be hashable labels, got {labels}") from None
    if not labels:
        raise ModelError(f"variable {name!r} has no states; give at least one")
    if distinct != len(labels):
        seen: set[Hashable] = set()
        twice = next(label for label in labels if label in seen or seen.add(label))  # type: ignore[func-returns-value]
        raise ModelError(f"state {twice!r} of variable {name!r} occurs twice; labels must differ")
    return labels


def _axes(name: Hashable, shape: Any) -> tuple[int | str, ...]:
    if isinstance(shape, str) or not isinstance(shape, Iterable):
        raise ModelError(f"shape of {name!r} must list lengths, such as (28, 28), got {shape!r}")
    axes = tuple(shape)
    for n in axes:
        length = type(n) is not bool and isinstance(n, numbers.Integral) and int(n) >= 0
        if not length and not (isinstance(n, str) and n):
            raise ModelError(f"an axis of {name!r} must be a length or a name, got {n!r}")
    return tuple(n if isinstance(n, str) else int(n) for n in axes)


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


def _whole(value: Any) -> int | None:
    """The integer that a number stands for, if it does."""
    if not _is_number(value) or not math.isfinite(value) or value != int(value):
        return None
    return int(value)


def _is_missing(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, numbers.Real):
        return bool(value != value)
    return type(value).__name__ in ("NAType", "NaTType")
