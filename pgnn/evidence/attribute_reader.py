"""Attributes of many steps as arrays, read without a Python object for each of them."""

from __future__ import annotations

import math
import numbers
from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import EvidenceError
from pgnn.evidence.frames import frame_columns, is_frame
from pgnn.evidence.name_index import NONE, NameIndex
from pgnn.evidence.pair_numbers import ABSENT, LARGEST, NUMBERS, SIMPLE, PairNumbers
from pgnn.factors.sparse_rows import is_scipy_sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_AT_ONCE = 256
"""Sequences that are looked at together: what is made of them is soon forgotten."""

_LISTS = {list, tuple}


class AttributeReader:
    """Numbers names in order of occurrence and collects arrays.

    Steps that are lists of names, or dictionaries of texts and numbers, are read by loops in C,
    many sequences at once; all others one by one.

    Args:
        name: Name of the input, for messages.
        index: Numbers of names.
        grows: Whether other names get a number, too, and not -1.
    """

    def __init__(self, name: Hashable, index: NameIndex, *, grows: bool) -> None:
        self.name, self.index, self._grows = name, index, grows
        self.lengths = array("i")
        self.counts, self.which = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        self.values: list[Floats | None] = [None]
        self._pairs = PairNumbers(self._numbered)

    def read(self, sequences: Iterable[Any]) -> None:
        """Read sequences."""
        rest = iter(sequences)
        while part := [*islice(rest, _AT_ONCE)]:
            if not set(map(type, part)) <= _LISTS:
                part = [steps_of(self.name, sequence) for sequence in part]
            self.lengths.extend(map(len, part))
            self._add([*chain.from_iterable(part)])

    def _add(self, steps: list[Any]) -> None:
        kinds = set(map(type, steps))
        if kinds <= _LISTS:
            self.counts.append(_sizes(steps))
            self._keep(self._numbered([*chain.from_iterable(steps)]))
        elif kinds != {dict} or not self._add_mappings(steps):
            self._add_one_by_one(steps)

    def _add_one_by_one(self, steps: list[Any]) -> None:
        """Read steps of any kind."""
        pairs = [_attributes(self.name, step) for step in steps]
        self.counts.append(_sizes(pairs))
        flat = [*chain.from_iterable(pairs)]
        names = [name for name, _ in flat]
        self._keep(self._numbered(names), names, np.array([value for _, value in flat], float))

    def _add_mappings(self, steps: list[dict[Any, Any]]) -> bool:
        """Read dictionaries, if their values are simple ones; return whether they are."""
        names, counts = [*chain.from_iterable(steps)], _sizes(steps)
        cells = [*chain.from_iterable(map(dict.values, steps))]
        kinds = set(map(type, cells))
        if kinds <= NUMBERS:
            self._keep(self._numbered(names), names, np.array(cells, dtype=float))
        elif kinds <= SIMPLE and (found := self._pairs.find(names, cells)) is not None:
            which, values = found
            if (which == ABSENT).any():
                here = which != ABSENT
                owners = np.repeat(np.arange(len(counts)), counts)[here]
                counts = np.bincount(owners, minlength=len(counts)).astype(np.int32)
                which, values = which[here], values[here]
            self._keep(which, None, values)
        else:
            return False
        self.counts.append(counts)
        return True

    def _numbered(self, names: list[Any]) -> Ints:
        """Numbers of names.

        Raises:
            EvidenceError: If one is no text.
        """
        try:
            which = self.index.add(names) if self._grows else self.index.find(names)
        except TypeError:
            _check_names(self.name, names)
            raise
        if not self._grows:
            _check_names(self.name, [names[i] for i in np.flatnonzero(which == NONE).tolist()])
        return which

    def _keep(self, which: Ints, names: list[Any] | None = None, values: Any = None) -> None:
        """Collect what was read; values without names were checked before."""
        if values is not None and names is not None:
            self._check_values(names, values)
        self.which.append(which)
        self.values.append(None if values is None or (values == 1.0).all() else values)

    def _check_values(self, names: list[Any], values: Floats) -> None:
        usable = np.abs(values) <= LARGEST
        if not usable.all():
            wrong = int((~usable).argmax())
            raise EvidenceError(
                f"attribute {names[wrong]!r} of {self.name!r} has the value {values[wrong]}; "
                f"values must be finite numbers of a size up to {LARGEST:g}, best about one",
                "divide large ones by a typical one",
            )

    def arrays(self) -> tuple[Ints, Ints, NameIndex, Ints, Floats | None]:
        """Return lengths, counts, the index of names, their numbers in it and their values.

        Raises:
            EvidenceError: If a name is NaN.
        """
        values = None
        if self._grows:
            _check_names(self.name, self.index.names)
        if any(part is not None for part in self.values):
            parts = zip(self.which, self.values, strict=True)
            values = np.concatenate([np.ones(len(w)) if v is None else v for w, v in parts])
        which, counts = np.concatenate(self.which), np.concatenate(self.counts)
        return np.asarray(self.lengths), counts, self.index, which, values


def listed(values: Any) -> Any:
    """Return an array of objects, a Series or a similar column as a list; all else as it is.

    Example:
        >>> listed(np.array([["a"], ["b"]], dtype=object)), listed(("a",))
        ([['a'], ['b']], ('a',))
    """
    if isinstance(values, Sequence) or is_frame(values) or not getattr(values, "ndim", 1):
        return values
    for name in ("tolist", "to_list", "to_pylist"):
        if hasattr(values, name):
            return getattr(values, name)()
    return values


def steps_of(name: Hashable, sequence: Any) -> Sequence[Any]:
    """Return the steps of one sequence."""
    if is_frame(sequence):
        columns = [(str(n), list(x)) for n, x in frame_columns(sequence)]
        rows = len(columns[0][1]) if columns else 0
        return [{n: x[t] for n, x in columns} for t in range(rows)]
    if is_scipy_sparse(sequence):
        matrix = sequence.tocsr()
        return [
            dict(zip(matrix.indices[a:b].tolist(), matrix.data[a:b].tolist(), strict=True))
            for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
        ]
    sequence = listed(sequence)
    if isinstance(sequence, Sequence) and not isinstance(sequence, str):
        return sequence
    raise EvidenceError(
        f"a sequence of the input {name!r} must be a list of steps, got {type(sequence).__name__}"
    )


def _sizes(containers: Sequence[Any]) -> Ints:
    return np.fromiter(map(len, containers), np.int32, len(containers))


def _attributes(name: Hashable, step: Any) -> list[tuple[Hashable, float]]:
    """Return names and values of one step; a repeated name counts repeatedly."""
    if isinstance(step, Mapping):
        return [pair for key, value in step.items() for pair in _named(name, key, value)]
    if isinstance(step, set | frozenset):
        step = sorted(step, key=str)
    if isinstance(step, Sequence) and not isinstance(step, str):
        return [(attribute, 1.0) for attribute in step]
    raise EvidenceError(
        f"a step of the input {name!r} must be a list of names or a mapping of names to values, "
        f"got {step!r}"
    )


def _named(name: Hashable, key: Hashable, value: Any) -> Iterator[tuple[Hashable, float]]:
    if isinstance(value, str):
        yield f"{key}:{value}", 1.0
    elif isinstance(value, numbers.Real | np.bool_):
        yield key, float(value)
    elif value is None:
        return
    elif isinstance(value, Mapping):
        for inner, x in value.items():
            yield from _named(name, f"{key}:{inner}", x)
    elif isinstance(value, Sequence | set | frozenset):
        for x in sorted(value, key=str) if isinstance(value, set | frozenset) else value:
            yield f"{key}:{x}", 1.0
    else:
        raise EvidenceError(
            f"attribute {key!r} of {name!r} must be text, a number, a truth value, or lists and "
            f"mappings of these, got {type(value).__name__}"
        )


def _check_names(name: Hashable, names: Sequence[Any]) -> None:
    if set(map(type, names)) <= {str}:
        return
    for attribute in names:
        wrong = isinstance(attribute, float) and math.isnan(attribute)
        if wrong or not isinstance(attribute, Hashable):
            raise EvidenceError(
                f"names of attributes of {name!r} must be text, got {attribute!r}",
                "give values in a mapping such as {'length': 3.0}",
            )
