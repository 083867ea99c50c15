"""Attributes of the steps of sequences, by name: what linear fields over labels look at."""

from __future__ import annotations

import math
import numbers
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import EvidenceError
from pgnn.evidence.frames import frame_columns, is_frame
from pgnn.factors.sparse_rows import is_scipy_sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StepAttributes:
    """Named numbers at each step of ``B`` sequences, ``N`` steps in all.

    Attributes:
        lengths: ``(B,)`` steps of each sequence.
        counts: ``(N,)`` attributes of each step.
        flat: ``(M,)`` name of each attribute, step after step.
        values: ``(M,)`` their numbers; all are one if ``None``.
        batched: Whether several sequences came, or a lone one.
    """

    lengths: Ints
    counts: Ints
    flat: list[Hashable]
    values: Floats | None
    batched: bool

    @classmethod
    def read(cls, name: Hashable, raw: Any) -> StepAttributes:
        """Read attributes in the forms that people have them.

        Args:
            name: Of the input, for messages.
            raw: Sequences, or one of them; each a list of steps, a data frame (a row a step, each
                column an attribute), or a SciPy sparse matrix (columns are attributes). A step is
                a list, tuple or set of names, each of which counts one; or a mapping of names to
                numbers, truth values, text (``{"word": "dog"}`` is the attribute ``"word:dog"``),
                or lists and mappings of these (names are joined by colons). What this returned
                before is taken as it is.

        Raises:
            EvidenceError: If it is something else, or a number is not finite.

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
        steps = [_steps(name, s) for s in sequences]
        lengths = np.fromiter(map(len, steps), np.int64, len(steps))
        flat: list[Any] = list(chain.from_iterable(steps))
        if all(type(s) is list for s in flat):
            return cls._of_names(name, lengths, flat, batched)
        parts = [_attributes(name, s) for s in flat]
        counts = np.fromiter(map(len, parts), np.int64, len(parts))
        pairs = list(chain.from_iterable(parts))
        values = np.fromiter((value for _, value in pairs), np.float64, len(pairs))
        if not np.isfinite(values).all():
            wrong = pairs[int((~np.isfinite(values)).argmax())]
            raise EvidenceError(f"attribute {wrong[0]!r} of {name!r} has the value {wrong[1]}")
        ones = bool((values == 1.0).all())
        return cls(lengths, counts, [n for n, _ in pairs], None if ones else values, batched)

    @classmethod
    def _of_names(
        cls, name: Hashable, lengths: Ints, steps: list[list[Any]], batched: bool
    ) -> StepAttributes:
        """Steps that are lists of names, as they usually are and where time counts."""
        counts = np.fromiter(map(len, steps), np.int64, len(steps))
        names = list(chain.from_iterable(steps))
        if not set(map(type, names)) <= {str}:
            _check_names(name, names)
        return cls(lengths, counts, names, None, batched)

    @property
    def names(self) -> list[Hashable]:
        """The different names, in the order in which they first occur."""
        return self._numbered[0]

    @property
    def which(self) -> Ints:
        """``(M,)`` place in :attr:`names` of each attribute."""
        return self._numbered[1]

    @cached_property
    def _numbered(self) -> tuple[list[Hashable], Ints]:
        """Names and places, from one look at each attribute."""
        index: defaultdict[Hashable, int] = defaultdict()
        index.default_factory = index.__len__  # a new name gets the next number
        which = np.fromiter(map(index.__getitem__, self.flat), np.int64, len(self.flat))
        return list(index), which

    def numbers(self, index: Mapping[Hashable, int], otherwise: int) -> NDArray[np.int32]:
        """Return ``(M,)`` numbers that a mapping has for the attributes.

        Args:
            index: Number of each name.
            otherwise: Number of names that are not in it.
        """
        if "_numbered" in vars(self):  # then there are fewer names to look up
            places = map(index.get, self.names, repeat(otherwise))
            return np.fromiter(places, np.int32, len(self.names))[self.which]
        return np.fromiter(map(index.get, self.flat, repeat(otherwise)), np.int32, len(self.flat))

    def occurrences(self) -> Ints:
        """Return how often each name occurs."""
        return np.bincount(self.which, minlength=len(self.names))


def sequence_lengths(name: Hashable, raw: Any) -> Any:
    """Return the lengths that attributes have: ``(B,)``, or a number of a lone sequence."""
    if isinstance(raw, StepAttributes):
        return raw.lengths if raw.batched else int(raw.lengths[0])
    batched, sequences = _sequences(name, raw)
    lengths = np.array([_length(name, s) for s in sequences], np.int64)
    return lengths if batched else int(lengths[0])


def _sequences(name: Hashable, raw: Any) -> tuple[bool, Sequence[Any]]:
    """Whether several sequences came, and a list of them."""
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
    """The steps of one sequence."""
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
    """Names and numbers of one step; a name that comes twice counts twice."""
    if isinstance(step, Mapping):
        return [pair for key, value in step.items() for pair in _named(name, key, value)]
    if isinstance(step, set | frozenset):
        step = sorted(step, key=str)
    if isinstance(step, Sequence) and not isinstance(step, str):
        _check_names(name, step)
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
