"""Sequences whose input has steps of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pgnn.errors import EvidenceError
from pgnn.evidence.paired_sequences import InputSequences, PairedSequences
from pgnn.factors.variable import Variable

LABEL = Variable("label", ["a", "b"], ("U",))


def read(evidence: object, **inputs: object) -> PairedSequences:
    return PairedSequences.of_pair([LABEL], evidence, inputs, "x")


@pytest.mark.parametrize(
    ("raw", "shape", "lengths", "batched"),
    [
        (np.zeros((3, 4, 2)), (3, 4, 2), [4, 4, 4], True),
        (torch.zeros(4, 2), (1, 4, 2), [4], False),
        ([np.zeros((1, 2)), np.zeros((3, 2))], (2, 3, 2), [1, 3], True),
        ([np.zeros((0, 2)), np.zeros((3, 2))], (2, 3, 2), [0, 3], True),
        ([[1, 2], [3]], (2, 2), [2, 1], True),
        ([1, 2, 3], (1, 3), [3], False),
        (np.zeros((0, 4, 2)), (0, 4, 2), [], True),
    ],
)
def test_forms(raw: object, shape: tuple[int, ...], lengths: list[int], batched: bool) -> None:
    own = InputSequences.read("x", raw)
    assert tuple(own.values.shape) == shape
    assert own.lengths.tolist() == lengths
    assert own.batched == batched


def test_what_lies_beyond_does_not_matter() -> None:
    raw = torch.full((2, 3, 1), torch.nan)
    raw[0], raw[1, 0] = 1.0, 2.0
    own = InputSequences.read("x", raw, [3, 1])
    assert own.values[:, :, 0].tolist() == [[1.0, 1.0, 1.0], [2.0, 0.0, 0.0]]
    with pytest.raises(EvidenceError, match="row 1, step 1"):
        InputSequences.read("x", raw, [3, 2])


def test_rows_are_taken_with_their_inputs() -> None:
    observed = read(
        [["a"], ["b", "b", "a"], []], x=[np.ones((2, 1)), np.ones((5, 1)), np.ones((1, 1))]
    )
    part = observed.take(np.array([0, 2]))
    assert isinstance(part, PairedSequences)
    assert part.lengths.tolist() == [1, 0]
    assert part.input_lengths.tolist() == [2, 1]
    assert part.inputs["x"].shape == (2, 2, 1)
    assert part.codes["label"].tolist() == [[0], [-1]]
    assert read(observed) is observed


def test_an_empty_sequence_was_observed() -> None:
    assert "label" in read([], x=np.ones((2, 1))).codes
    assert "label" not in read(None, x=np.ones((2, 1))).codes


@pytest.mark.parametrize(
    ("evidence", "inputs", "message"),
    [
        (["a"], {}, "needs the input 'x'"),
        (["a"], {"X": np.ones((2, 1))}, "not 'X'"),
        ([["a"], ["b"]], {"x": np.ones((2, 1))}, "a single one, the evidence is a batch of 2"),
        ([["a"]], {"x": np.ones((2, 2, 1))}, "a batch of 2, the evidence is a batch of 1"),
        (["a"], {"x": 1.0}, r"got \(\)"),
        (["a"], {"x": ["u"]}, "of numbers"),
        (["a"], {"x": np.ones((3, 1)), "T": 4}, r"at most 3, got \[4\]"),
    ],
)
def test_wrong_pairs(evidence: object, inputs: dict[str, object], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        PairedSequences.of_pair([LABEL], evidence, inputs, "x")
