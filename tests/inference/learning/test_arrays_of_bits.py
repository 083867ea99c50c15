"""EM of networks with arrays of bits, whose elements may be missing, against steps in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import pgnn
from pgnn import Variable

RNG = np.random.default_rng(0)
A, C, BITS = Variable("a", 2), Variable("c", 3), Variable("bits", 2, shape=(2, 2))
HIDDEN = RNG.integers(0, 2, 150)
X = (RNG.random((150, 2, 2)) < np.where(HIDDEN[:, None, None] == 1, 0.8, 0.3)).astype(int)
X[RNG.random(X.shape) < 0.15] = -1
STATE_OF_C = RNG.integers(0, 3, 150)
SHARE, PROBS = np.array([0.4, 0.6]), RNG.uniform(0.2, 0.8, (2, 3, 2, 2))


def steps(number: int) -> tuple[np.ndarray, np.ndarray]:
    """EM from the parameters above."""
    share, probs = SHARE, PROBS
    present = X >= 0
    for _ in range(number):
        p = probs[:, STATE_OF_C]  # (2, N, 2, 2)
        logs = np.where(present, np.where(X == 1, np.log(p), np.log1p(-p)), 0.0).sum((2, 3))
        joint = np.log(share)[:, None] + logs
        evidence = np.logaddexp.reduce(joint, axis=0)
        r = np.exp(joint - evidence)
        share, new = r.mean(axis=1), probs.copy()
        for c in range(3):
            w = r[:, c == STATE_OF_C][:, :, None, None]
            expected = np.where(present, X, probs[:, STATE_OF_C])[:, c == STATE_OF_C]
            new[:, c] = (w * expected).sum(1) / w.sum(1)
        probs = new
    return share, probs


@pytest.mark.parametrize("number", [1, 4])
def test_steps_are_those_of_numpy(number: int) -> None:
    pieces = {
        "a": pgnn.Tabular(A, [], SHARE).requires_grad_(),
        "c": [1 / 3, 1 / 3, 1 / 3],
        "bits": pgnn.Bernoulli(BITS, [A, C], PROBS).requires_grad_(),
    }
    model = pgnn.BayesianNetwork([("a", "bits"), ("c", "bits")], pieces)
    learner = pgnn.EM(max_iterations=number, tolerance=0.0, accelerate=False)
    with pytest.warns(pgnn.errors.NotConverged):
        model.fit({"bits": X, "c": STATE_OF_C}, learner=learner, seed=0, progress=False)
    share, probs = steps(number)
    np.testing.assert_allclose(model.conditionals["a"].probs.detach(), share, atol=1e-9)
    np.testing.assert_allclose(model.conditionals["bits"].probs.detach(), probs, atol=1e-9)


def test_complete_rows_are_learned_at_once() -> None:
    rows = {"a": HIDDEN, "c": STATE_OF_C, "bits": np.abs(X)}
    bits = pgnn.Bernoulli(BITS, [A, C])
    edges = [("a", "bits"), ("c", "bits")]
    fits = []
    for learner in (pgnn.EM(), pgnn.MaximumLikelihood()):
        model = pgnn.BayesianNetwork(edges, {"bits": bits}, {"a": 2, "c": 3})
        fits.append(float(model.fit(rows, learner=learner, progress=False).log_prob(rows).sum()))
    assert fits[0] == pytest.approx(fits[1], abs=1e-6)
