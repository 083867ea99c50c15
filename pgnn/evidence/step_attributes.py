"""Named attributes of the steps of sequences, inputs of linear fields over labels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import EvidenceError
from pgnn.evidence.attribute_reader import AttributeReader, listed, steps_of
from pgnn.evidence.frames import is_frame
from pgnn.evidence.name_index import NONE, NameIndex
from pgnn.factors.sparse_rows import is_scipy_sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class StepAttributes:
    """Named values at each step of ``B`` sequences with ``N`` steps in total.

    Attributes:
        lengths: ``(B,)`` number of steps of each sequence.
        counts: ``(N,)`` number of attributes of each step.
        index: The distinct names, in order of first occurrence; or those that were known.
        which: ``(M,)`` index into :attr:`names` of each attribute, step after step; -1 where it is
            not among those that were known.
        values: ``(M,)`` value of each attribute; all ones if ``None``.
        batched: Whether the input was a batch of sequences rather than a single one.
    """

    lengths: Ints
    counts: Ints
    index: NameIndex
    which: Ints
    values: Floats | None
    batched: bool

    @property
    def names(self) -> list[Hashable]:
        """The names that :attr:`which` is about."""
        return self.index.names

    @classmethod
    def read(
        cls, name: Hashable, raw: Any, index: NameIndex | None = None, *, grows: bool = False
    ) -> StepAttributes:
        """Read attributes in any supported form.

        Args:
            name: Name of the input, for messages.
            raw: One or several sequences; each a list of steps, a data frame (rows are steps,
                columns are attributes), or a SciPy sparse matrix (columns are attributes). A step
                is a list, tuple or set of names, each with value one; or a mapping of names to
                numbers, truth values, text (``{"word": "dog"}`` is the attribute ``"word:dog"``),
                or lists and mappings of these (names are joined by colons). A result of this method
                is returned unchanged.
            index: The only names that count; all if not given.
            grows: Whether other names are added to the index.

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
        grows = grows or index is None
        reader = AttributeReader(name, NameIndex() if index is None else index, grows=grows)
        reader.read(sequences)
        return cls(*reader.arrays(), batched)

    def numbers(self, index: NameIndex) -> Ints:
        """Return ``(M,)`` numbers of the attributes in an index, -1 of those that have none.

        Args:
            index: Numbers of names.
        """
        return self.which if self.index is index else index.numbers_of(self.index)[self.which]

    def occurrences(self) -> NDArray[np.int64]:
        """Return the number of occurrences of each name."""
        return np.bincount(self.which[self.which != NONE], minlength=len(self.index))


def sequence_lengths(name: Hashable, raw: Any) -> Any:
    """Return the lengths of attribute sequences: ``(B,)``, or an integer for a single sequence."""
    if isinstance(raw, StepAttributes):
        return raw.lengths if raw.batched else int(raw.lengths[0])
    batched, sequences = _sequences(name, raw)
    if set(map(type, sequences)) <= {list, tuple}:
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    else:
        lengths = np.array([_length(name, s) for s in sequences], np.int64)
    return lengths if batched else int(lengths[0])


def _sequences(name: Hashable, raw: Any) -> tuple[bool, Sequence[Any]]:
    """Return whether the input is a batch of sequences, and the list of sequences."""
    if is_frame(raw) or is_scipy_sparse(raw):
        return False, [raw]
    raw = listed(raw)
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
    for sequence in map(listed, raw):  # empty ones tell nothing
        if isinstance(sequence, Mapping | set | frozenset):
            return False, [raw]
        if isinstance(sequence, Sequence) and not isinstance(sequence, str) and len(sequence):
            step = sequence[0]
            single = isinstance(step, str) or not isinstance(step, Sequence | Mapping | set)
            return (False, [raw]) if single else (True, raw)
        if isinstance(sequence, str):
            raise EvidenceError(
                f"a step of the input {name!r} must be a list of names or a mapping, got the text "
                f"{sequence!r}",
                f"give one attribute as [{sequence!r}]",
            )
    return True, raw


def _length(name: Hashable, sequence: Any) -> int:
    if is_scipy_sparse(sequence):
        return int(sequence.shape[0])
    return len(sequence) if is_frame(sequence) else len(steps_of(name, sequence))
