"""Scores of chunks as CoNLL counts them, and distances of sequences."""

import math
import random
from typing import Any

import numpy as np
import pytest

from pgnn.errors import DataError
from pgnn.metrics import chunk_scores, chunks, edit_distance, token_accuracy


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-X", "I-X", "I-X"], [(0, 3, "X")]),
        (["I-X", "I-X", "B-X"], [(0, 2, "X"), (2, 3, "X")]),
        (["B-X", "I-Y"], [(0, 1, "X"), (1, 2, "Y")]),
        (["O", "I-X", "O", "I-X"], [(1, 2, "X"), (3, 4, "X")]),
        (["S-X", "S-X", "B-Y", "I-Y", "E-Y", "I-Y"],
         [(0, 1, "X"), (1, 2, "X"), (2, 5, "Y"), (5, 6, "Y")]),
        (["B", "I", "O", "B"], [(0, 2, ""), (3, 4, "")]),
        ([], []),
    ],
)  # fmt: skip
def test_chunks(labels: list[str], expected: list[tuple[int, int, str]]) -> None:
    assert chunks(labels) == expected


def test_scores_of_the_shared_task() -> None:
    true = [["B-NP", "I-NP", "B-VP", "O"], ["B-NP", "O"]]
    predicted = [["B-NP", "I-NP", "B-NP", "O"], ["B-NP", "I-NP"]]
    scores = chunk_scores(true, predicted)
    assert (scores.precision, scores.recall, scores.f1) == (1 / 3, 1 / 3, 1 / 3)
    assert scores.by_type["VP"].f1 == 0.0
    assert scores.by_type["NP"].precision == 1 / 3
    assert scores.by_type["NP"].recall == 1 / 2
    assert chunk_scores([["O"]], [["O"]]).f1 == 0.0
    with pytest.raises(DataError, match="sequence 1 must have 2 predictions, one per label, got 1"):
        chunk_scores([[], ["O", "O"]], [[], ["O"]])
    with pytest.raises(DataError, match="must have 1 sequences, as the true labels, got 2"):
        token_accuracy([[]], [[], []])
    assert math.isnan(token_accuracy([[]], [[]]))


def test_edit_distances_are_a_metric() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("ab", k=rng.randrange(6))) for _ in range(12)]
    for a in words:
        for b in words:
            distance = edit_distance(a, b)
            assert distance == edit_distance(b, a) >= abs(len(a) - len(b))
            assert (distance == 0) == (a == b)
            assert all(distance <= edit_distance(a, c) + edit_distance(c, b) for c in words)
    assert edit_distance(["the", "dog"], ["a", "dog"]) == 1


@pytest.mark.parametrize("labels", [["B-X", "O"], ("O",), [0, 1], "B-X", [["O"], "O"]])
def test_labels_that_stand_in_no_sequences_are_refused(labels: Any) -> None:
    for score in (chunk_scores, token_accuracy):
        with pytest.raises(DataError, match="sequences of labels, got"):
            score(labels, [["O"]] * len(labels))
        with pytest.raises(DataError, match="predictions must be"):
            score([["O"]] * len(labels), labels)


def test_labels_of_chunks_are_a_list_of_texts() -> None:
    with pytest.raises(DataError, match="a list of the labels of one sequence, got 'B-X'"):
        chunks("B-X")
    for wrong in (3, None):
        with pytest.raises(DataError, match=f"must be text such as 'B-NP', got {wrong}"):
            chunks(["O", wrong])  # type: ignore[list-item]
    assert token_accuracy(np.array([[0, 1]]), np.array([[0, 0]])) == 0.5  # type: ignore[arg-type]
