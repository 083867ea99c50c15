"""Named attributes of the steps of sequences, inputs of linear fields over labels."""

from __future__ import annotations

import math
import numbers
from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import EvidenceError
from pgnn.evidence.frames import frame_columns, is_frame
from pgnn.factors.sparse_rows import is_scipy_sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_LARGEST = 1e50
"""Largest value of an attribute: what learning makes of it, such as its square, can be held."""


@dataclass(frozen=True, eq=False)
class StepAttributes:
    """Named values at each step of ``B`` sequences with ``N`` steps in total.

    Attributes:
        lengths: ``(B,)`` number of steps of each sequence.
        counts: ``(N,)`` number of attributes of each step.
        names: The distinct names, in order of first occurrence.
        which: ``(M,)`` index into :attr:`names` of each attribute, step after step.
        values: ``(M,)`` value of each attribute; all ones if ``None``.
        batched: Whether the input was a batch of sequences rather than a single one.
    """

    lengths: Ints
    counts: Ints
    names: list[Hashable]
    which: Ints
    values: Floats | None
    batched: bool

    @classmethod
    def read(cls, name: Hashable, raw: Any) -> StepAttributes:
        """Read attributes in any supported form.

        Args:
            name: Name of the input, for messages.
            raw: One or several sequences; each a list of steps, a data frame (rows are steps,
                columns are attributes), or a SciPy sparse matrix (columns are attributes). A step
                is a list, tuple or set of names, each with value one; or a mapping of names to
                numbers, truth values, text (``{"word": "dog"}`` is the attribute ``"word:dog"``),
                or lists and mappings of these (names are joined by colons). A result of this method
                is returned unchanged.

        Raises:
            EvidenceError: If the input has another form, or a value is not finite or beyond 1e50.

        Cost: Four bytes of memory for each attribute of each step, besides the different names.

        Example:
            >>> steps = StepAttributes.read("x", [{"word": "dog", "length": 3.0}, ["END"]])
            >>> steps.names, steps.values, steps.counts.tolist(), steps.batched
            (['word:dog', 'length', 'END'], array([1., 3., 1.]), [2, 1], False)
            >>> StepAttributes.read("x", steps) is steps
            True
        """
        if isinstance(raw, cls):
            return raw
        batched, sequences = _sequences(name, raw)
        reader = _Reader(name)
        for sequence in sequences:
            reader.add(_steps(name, sequence))
        return cls(*reader.arrays(), batched)

    def numbers(self, index: Mapping[Hashable, int], otherwise: int) -> Ints:
        """Return ``(M,)`` indices of the attributes in a mapping.

        Args:
            index: Index of each name.
            otherwise: Index of names that are not in the mapping.
        """
        places = map(index.get, self.names, repeat(otherwise))
        return np.fromiter(places, np.int32, len(self.names))[self.which]

    def occurrences(self) -> NDArray[np.int64]:
        """Return the number of occurrences of each name."""
        return np.bincount(self.which, minlength=len(self.names))


class _Reader:
    """Numbers names in order of occurrence and collects arrays without Python objects.

    Args:
        name: Name of the input, for messages.
    """

    def __init__(self, name: Hashable) -> None:
        self.name = name
        self.index: defaultdict[Hashable, int] = defaultdict()
        self.index.default_factory = self.index.__len__  # a new name gets the next number
        self.lengths, self.counts, self.which = array("i"), array("i"), array("i")
        self.values: array[float] | None = None

    def add(self, steps: Sequence[Any]) -> None:
        """Read the steps of one sequence."""
        self.lengths.append(len(steps))
        if all(type(s) is list for s in steps):  # as they usually are, and where time counts
            self.counts.extend(map(len, steps))
            self._number([*chain.from_iterable(steps)])
            return
        for step in steps:
            pairs = _attributes(self.name, step)
            self.counts.append(len(pairs))
            values = [value for _, value in pairs]
            if self.values is None and any(value != 1.0 for value in values):
                self.values = array("d", [1.0]) * len(self.which)
            self._number([n for n, _ in pairs], values)

    def _number(self, names: list[Any], values: Iterable[float] = ()) -> None:
        try:
            self.which.extend(map(self.index.__getitem__, names))
        except TypeError:
            _check_names(self.name, names)
            raise
        if self.values is not None:
            self.values.extend(values or repeat(1.0, len(names)))

    def arrays(self) -> tuple[Ints, Ints, list[Hashable], Ints, Floats | None]:
        """Return lengths, counts, names, their indices and their values.

        Raises:
            EvidenceError: If a name is NaN, or a value is not finite or too large.
        """
        names, which = list(self.index), np.asarray(self.which)
        _check_names(self.name, names)
        values = None if self.values is None else np.asarray(self.values)
        if values is not None and not (np.abs(values) <= _LARGEST).all():
            wrong = int((~(np.abs(values) <= _LARGEST)).argmax())
            raise EvidenceError(
                f"attribute {names[which[wrong]]!r} of {self.name!r} has the value "
                f"{values[wrong]}; values must be finite numbers of a size up to {_LARGEST:g}, "
                "best about one: divide large ones by a typical one"
            )
        return np.asarray(self.lengths), np.asarray(self.counts), names, which, values


def sequence_lengths(name: Hashable, raw: Any) -> Any:
    """Return the lengths of attribute sequences: ``(B,)``, or an integer for a single sequence."""
    if isinstance(raw, StepAttributes):
        return raw.lengths if raw.batched else int(raw.lengths[0])
    batched, sequences = _sequences(name, raw)
    lengths = np.array([_length(name, s) for s in sequences], np.int64)
    return lengths if batched else int(lengths[0])


def _sequences(name: Hashable, raw: Any) -> tuple[bool, Sequence[Any]]:
    """Return whether the input is a batch of sequences, and the list of sequences."""
    if is_frame(raw) or is_scipy_sparse(raw):
        return False, [raw]
    if isinstance(raw, str | bytes | Mapping) or not isinstance(raw, Sequence):
        raise EvidenceError(
            f"the input {name!r} must be sequences of steps, each with its attributes: lists of "
            f"lists of names or of mappings, or a list of data frames, got {type(raw).__name__}"
        )
    if not len(raw):
        return True, []
    first = raw[0]
    if is_frame(first) or is_scipy_sparse(first):
        return True, raw
    for sequence in raw:  # empty ones tell nothing
        if isinstance(sequence, Mapping | set | frozenset):
            return False, [raw]
        if isinstance(sequence, Sequence) and not isinstance(sequence, str) and len(sequence):
            step = sequence[0]
            lone = isinstance(step, str) or not isinstance(step, Sequence | Mapping | set)
            return (False, [raw]) if lone else (True, raw)
        if isinstance(sequence, str):
            raise EvidenceError(
                f"a step of the input {name!r} must be a list of names or a mapping, got the text "
                f"{sequence!r}; one attribute is [{sequence!r}]"
            )
    return True, raw


def _length(name: Hashable, sequence: Any) -> int:
    if is_scipy_sparse(sequence):
        return int(sequence.shape[0])
    return len(sequence) if is_frame(sequence) else len(_steps(name, sequence))


def _steps(name: Hashable, sequence: Any) -> Sequence[Any]:
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
    if isinstance(sequence, Sequence) and not isinstance(sequence, str):
        return sequence
    raise EvidenceError(
        f"a sequence of the input {name!r} must be a list of steps, got {type(sequence).__name__}"
    )


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
    for attribute in names:
        wrong = isinstance(attribute, float) and math.isnan(attribute)
        if wrong or not isinstance(attribute, Hashable):
            raise EvidenceError(
                f"names of attributes of {name!r} must be text, got {attribute!r}; values go into "
                "a mapping such as {'length': 3.0}"
            )
