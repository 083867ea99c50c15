"""The steps after sequences of different lengths."""

import numpy as np

import pgnn
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.time.steps_ahead import StepsAhead


def test_rows_continue_from_their_own_ends() -> None:
    initial, moves = np.array([0.3, 0.7]), np.array([[0.6, 0.4], [0.1, 0.9]])
    tells = np.array([[0.9, 0.1], [0.2, 0.8]])
    model = pgnn.HiddenMarkovModel(2, {"x": tells}, initial, moves)
    observed = SequenceEvidence.of(model, {"x": [[0, 1, 1], [1]]})
    ahead = StepsAhead(model, None, observed, 2)
    assert ahead.extended.lengths.tolist() == [5, 3]
    assert ahead.extended.codes["x"].tolist() == [[0, 1, 1, -1, -1], [1, -1, -1, -1, -1]]
    assert ahead.places.tolist() == [[3, 4], [1, 2]]
    assert ahead.after.lengths.tolist() == [2, 2]
    assert ahead.after.batched
    assert observed.lengths.tolist() == [3, 1]  # as it was
    found = model.predict({"x": [[0, 1, 1], [1]]}, 2)["state"].probs
    for row, states in enumerate(([0, 1, 1], [1])):
        now = initial
        for t, x in enumerate(states):
            now = (now @ moves if t else now) * tells[:, x]
        now = now / now.sum()
        for step in range(2):
            now = now @ moves
            np.testing.assert_allclose(found[row, step], now, rtol=1e-6)
