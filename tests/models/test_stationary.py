"""What chains of states do in the long run."""

import numpy as np
import pytest
import torch

import pgnn

TABLE = [[0.9, 0.1], [0.2, 0.8]]


def chain(initial, transitions) -> pgnn.HiddenMarkovModel:
    k = len(initial)
    return pgnn.HiddenMarkovModel(k, {"x": np.full((k, 2), 0.5)}, initial, transitions)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_left_eigenvector(seed):
    moves = np.random.default_rng(seed).dirichlet(np.full(4, 0.3), size=4)
    moves = 0.99 * moves + 0.01 / 4
    share = chain([0.25] * 4, moves).stationary().probs.numpy()
    np.testing.assert_allclose(share @ moves, share, atol=1e-12)
    assert share.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("initial", "moves", "share"),
    [
        ([0.3, 0.7], np.eye(2), [0.3, 0.7]),
        ([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]], [0.5, 0.5]),
        ([0.0, 0.0, 1.0], [[1, 0, 0], [0, 1, 0], [0.3, 0.6, 0.1]], [1 / 3, 2 / 3, 0.0]),
        ([1.0, 0.0], [[1 - 1e-9, 1e-9], [1e-9, 1 - 1e-9]], [0.5, 0.5]),
    ],
)
def test_classes_and_circles(initial, moves, share):
    np.testing.assert_allclose(chain(initial, moves).stationary().probs, share, atol=1e-7)


def test_long_sequences_agree():
    model = chain([1.0, 0.0], TABLE)
    drawn = model.sample(1, {"T": 200_000}, seed=0)["state"].double().mean()
    assert abs(float(drawn) - float(model.stationary().probs[1])) < 0.01


def test_segments_count_for_their_steps():
    lasts = [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    model = pgnn.HiddenSemiMarkovModel(2, {"x": TABLE}, lasts, [0.5, 0.5], [[0, 1], [1, 0]])
    np.testing.assert_allclose(model.stationary().probs, [0.75, 0.25])


def test_inputs_are_refused():
    state = pgnn.Variable("state", 2)
    moves = pgnn.Softmax(state, [pgnn.Variable(("state", -1), 2)], inputs={"u": 1})
    model = pgnn.HiddenMarkovModel(2, {"x": TABLE}, [0.5, 0.5], moves)
    with pytest.raises(pgnn.Unsupported, match="inputs affect"):
        model.stationary()
    assert torch.is_grad_enabled()
