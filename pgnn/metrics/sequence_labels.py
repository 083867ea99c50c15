"""Metrics of predicted label sequences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

from pgnn.errors import DataError

Labels = Sequence[Sequence[Any]]


class ChunkScores(NamedTuple):
    """Precision and recall of chunks, as defined by the evaluation of CoNLL-2000.

    Attributes:
        precision: Share of the predicted chunks whose ends and type are correct.
        recall: Share of the true chunks that are predicted.
        f1: Harmonic mean of precision and recall; zero if there are no chunks.
        by_type: The same scores for each type of chunk.
    """

    precision: float
    recall: float
    f1: float
    by_type: Mapping[str, ChunkScores]


def chunks(labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return start, end (exclusive) and type of the chunks encoded by labels.

    Labels are ``O``, or ``B-``, ``I-``, ``E-`` or ``S-`` followed by a type. An ``I-`` that does
    not continue a chunk of its type starts a new one, as in the evaluation of CoNLL-2000.

    Raises:
        DataError: If the labels are not a list, or a label is not a string.

    Example:
        >>> chunks(["B-NP", "I-NP", "O", "I-VP", "B-VP"])
        [(0, 2, 'NP'), (3, 4, 'VP'), (4, 5, 'VP')]
    """
    if not is_label_sequence(labels):
        raise DataError(f"labels must be a list of the labels of one sequence, got {labels!r}")
    wrong = [x for x in labels if not isinstance(x, str)]
    if wrong:
        raise DataError(f"labels of chunks must be text such as 'B-NP', got {wrong[0]!r}")
    segments: list[tuple[int, int, str]] = []
    begin, kind, closed = 0, "", True
    for t, label in enumerate([*labels, "O"]):
        prefix, _, chunk_kind = label.partition("-")
        goes_on = prefix in ("I", "E") and chunk_kind == kind and not closed
        if not closed and not goes_on:
            segments.append((begin, t, kind))
            closed = True
        if prefix != "O" and not goes_on:
            begin, kind, closed = t, chunk_kind, False
        if prefix in ("E", "S") and not closed:
            segments.append((begin, t + 1, kind))
            closed = True
    return segments


def chunk_scores(true: Labels, predicted: Labels) -> ChunkScores:
    """Compare predicted with true chunks, which must match exactly.

    Args:
        true: Labels of each sequence; ``[labels]`` for a single sequence.
        predicted: Predicted labels of each sequence.

    Raises:
        DataError: If lengths differ, or the labels are not sequences.

    References:
        Tjong Kim Sang and Buchholz (2000), Introduction to the CoNLL-2000 shared task: chunking.

    Example:
        >>> scores = chunk_scores([["B-NP", "I-NP", "B-VP"]], [["B-NP", "O", "B-VP"]])
        >>> scores.f1, scores.by_type["VP"].f1
        (0.5, 1.0)
    """
    right: Counter[str] = Counter()
    true_chunks: Counter[str] = Counter()
    predicted_chunks: Counter[str] = Counter()
    for a, b in _pairs(true, predicted):
        in_truth, in_answer = set(chunks(a)), set(chunks(b))
        right.update(kind for *_, kind in in_truth & in_answer)
        true_chunks.update(kind for *_, kind in in_truth)
        predicted_chunks.update(kind for *_, kind in in_answer)
    by_type = {
        k: _scores(right[k], true_chunks[k], predicted_chunks[k], {})
        for k in sorted({*true_chunks, *predicted_chunks})
    }
    return _scores(right.total(), true_chunks.total(), predicted_chunks.total(), by_type)


def token_accuracy(true: Labels, predicted: Labels) -> float:
    """Return the share of correct labels over all sequences; NaN without labels.

    Args:
        true: Labels of each sequence; ``[labels]`` for a single sequence.
        predicted: Predicted labels of each sequence.

    Raises:
        DataError: If lengths differ, or the labels are not sequences.

    Example:
        >>> token_accuracy([["A", "B"], ["A"]], [["A", "A"], ["A"]])
        0.6666666666666666
    """
    right = [x == y for a, b in _pairs(true, predicted) for x, y in zip(a, b, strict=True)]
    return sum(right) / len(right) if right else math.nan


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return the number of insertions, deletions and substitutions between two sequences.

    Cost: The product of the lengths.

    References:
        Wagner and Fischer (1974), The string-to-string correction problem.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def is_label_sequence(labels: Any) -> bool:
    """Return whether an object is a sequence of labels; a string is a single label.

    Example:
        >>> is_label_sequence(["B-NP", "O"]), is_label_sequence("B-NP")
        (True, False)
    """
    if isinstance(labels, str | bytes | Mapping | Set) or not getattr(labels, "ndim", 1):
        return False
    return hasattr(labels, "__len__") and hasattr(labels, "__iter__")


def check_label_sequences(what: str, labels: Any) -> None:
    """Check that labels are given as a list of sequences.

    Args:
        what: Name in messages.
        labels: Labels of each sequence.

    Raises:
        DataError: If they are not, such as a single sequence without a surrounding list.
    """
    if not is_label_sequence(labels):
        raise DataError(f"{what} must be a list of sequences of labels, got {labels!r}")
    wrong = next((x for x in labels if not is_label_sequence(x)), None)
    if wrong is not None:
        raise DataError(
            f"{what} must be a list of sequences of labels, got {wrong!r} as a sequence",
            "pass a single sequence as [labels]",
        )


def _scores(
    right: int, expected: int, predicted: int, by_type: Mapping[str, ChunkScores]
) -> ChunkScores:
    precision = right / predicted if predicted else 0.0
    recall = right / expected if expected else 0.0
    f1 = 2 * right / (expected + predicted) if expected + predicted else 0.0
    return ChunkScores(precision, recall, f1, by_type)


def _pairs(true: Labels, predicted: Labels) -> Iterator[tuple[Sequence[Any], Sequence[Any]]]:
    """Pair true with predicted sequences, which must have equal lengths."""
    check_label_sequences("true labels", true)
    check_label_sequences("predictions", predicted)
    if len(true) != len(predicted):
        raise DataError(
            f"predictions must have {len(true)} sequences, as the true labels, got {len(predicted)}"
        )
    for row, (a, b) in enumerate(zip(true, predicted, strict=True)):
        if len(a) != len(b):
            raise DataError(
                f"sequence {row} must have {len(a)} predictions, one per label, got {len(b)}"
            )
        yield a, b
