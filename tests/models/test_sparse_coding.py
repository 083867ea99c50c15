"""Sparse codes: scikit-learn's lasso, optima by differences, a planted dictionary."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, EvidenceError, ModelError, Unsupported

RNG = np.random.default_rng(0)
WORDS = RNG.normal(size=(6, 9))
WORDS /= np.linalg.norm(WORDS, axis=0)
PENALTIES = [pgnn.AbsolutePenalty(1.0), pgnn.LogPenalty(1.0, 0.3), pgnn.ExpPenalty(2.0, 0.5)]


def planted(rows: int = 800) -> np.ndarray:
    codes = RNG.normal(size=(rows, 9)) * (RNG.random((rows, 9)) < 0.2) * 3.0
    return codes @ WORDS.T + 0.02 * RNG.normal(size=(rows, 6))


def test_codes_equal_the_lasso() -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    x = planted(20)
    model = pgnn.SparseCoding(9, 6, pgnn.AbsolutePenalty(0.3), noise=0.5, dictionary=WORDS)
    found = model.encode(x)
    for row, own in zip(x, found, strict=True):
        other = sklearn.Lasso(alpha=0.3 * 0.5 / 6, fit_intercept=False, tol=1e-12, max_iter=10**5)
        np.testing.assert_allclose(own, other.fit(WORDS, row).coef_, atol=1e-6)
    assert (found == 0).float().mean() > 0.3


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
def test_codes_are_optima(penalty: Any) -> None:
    x = torch.from_numpy(planted(5))
    model = pgnn.SparseCoding(9, 6, penalty, noise=0.5, dictionary=WORDS)

    def cost(z: torch.Tensor) -> torch.Tensor:
        return (x - model.decode(z)).square().sum(1) + penalty.value(z).sum(1)  # 1 / (2 * 0.5)

    best = model.encode(x)
    base = cost(best)
    for _ in range(50):
        step = 1e-3 * torch.from_numpy(RNG.normal(size=best.shape))
        assert (cost(best + step) >= base - 1e-9).all()


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
def test_a_planted_dictionary_is_found(penalty: Any) -> None:
    rng = np.random.default_rng(0)
    words = rng.normal(size=(8, 8))
    words /= np.linalg.norm(words, axis=0)
    codes = rng.normal(size=(400, 8)) * (rng.random((400, 8)) < 0.15) * 3.0
    x = codes @ words.T + 0.02 * rng.normal(size=(400, 8))
    model = pgnn.SparseCoding(8, penalty=penalty, noise=0.3, iterations=60)
    model.fit(x, seed=1, progress=False)
    trace = model.history["trace"]["objective"]
    assert min(np.diff(trace)) >= -1e-9 * abs(trace[0])
    found = model.dictionary.numpy()
    found = found / np.linalg.norm(found, axis=0).clip(1e-9)
    assert (np.abs(found.T @ words).max(axis=0) > 0.95).sum() >= 6


def test_is_a_model(tmp_path: Path) -> None:
    x = planted(60)
    model = pgnn.SparseCoding(4, penalty=pgnn.AbsolutePenalty(0.5), iterations=5)
    model.fit(x, seed=0, progress=False)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert again.encode(x).equal(model.encode(x))
    drawn = model.sample(3000, seed=0)
    assert drawn["x"].shape == (3000, 6)
    assert float(drawn["codes"].abs().mean()) == pytest.approx(2.0, rel=0.1)
    with pytest.raises(Unsupported):
        model.log_prob(x)
    with pytest.raises(Unsupported):
        pgnn.SparseCoding(2, 3, pgnn.ExpPenalty()).sample(2, seed=0)


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda: pgnn.SparseCoding(0), ModelError, "codes must be at least 1"),
        (lambda: pgnn.SparseCoding(2, noise=0.0), ModelError, "noise must be positive"),
        (lambda: pgnn.SparseCoding(2, penalty=1.0), ModelError, "penalty must be"),
        (lambda: pgnn.AbsolutePenalty(-1.0), ModelError, "positive"),
        (lambda: pgnn.SparseCoding(2).fit(np.array([[1.0, np.nan]])), DataError, "missing"),
        (
            lambda: pgnn.SparseCoding(9, 6, dictionary=WORDS).encode(np.full((1, 6), np.nan)),
            EvidenceError,
            "observed completely",
        ),
    ],
)
def test_what_is_wrong_is_told(act: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        act()
