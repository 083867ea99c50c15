"""Densities made of rows: scikit-learn's numbers, integrals, draws, classifiers, mixtures."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import DataError, ModelError, Unsupported

KERNELS = {
    "gaussian": pgnn.GaussianKernel(),
    "tophat": pgnn.TophatKernel(),
    "epanechnikov": pgnn.EpanechnikovKernel(),
    "exponential": pgnn.ExponentialKernel(),
    "linear": pgnn.LinearKernel(),
    "cosine": pgnn.CosineKernel(),
}
RNG = np.random.default_rng(0)


def density(kind: Any, rows: np.ndarray, **settings: Any) -> Any:
    return pgnn.Density(functools.partial(kind, **settings)).fit(rows, progress=False)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_equal_scikit_learn(name: str, size: int) -> None:
    sklearn = pytest.importorskip("sklearn.neighbors")
    rows, asked = RNG.normal(size=(50, size)), RNG.normal(size=(20, size))
    weights = RNG.random(50)
    other = sklearn.KernelDensity(bandwidth=1.7, kernel=name).fit(rows, sample_weight=weights)
    kind = functools.partial(pgnn.KernelDensity, bandwidth=1.7, kernel=KERNELS[name])
    model = pgnn.Density(kind).fit(rows, weights=weights, progress=False)
    if (name, size) == ("cosine", 2):  # scikit-learn's factor lacks a term in even dimensions
        grid = np.linspace(-9.0, 9.0, 301)
        cells = np.stack([g.ravel() for g in np.meshgrid(grid, grid)], axis=1)
        whole = float(model.log_prob(cells).exp().sum()) * (grid[1] - grid[0]) ** 2
        assert whole == pytest.approx(1.0, abs=1e-3)
        return
    np.testing.assert_allclose(model.log_prob(asked), other.score_samples(asked), atol=1e-9)


@pytest.mark.parametrize("name", KERNELS)
def test_draws_come_from_the_density(name: str) -> None:
    rows = np.array([[0.0, 1.0], [3.0, -1.0]])
    model = density(pgnn.KernelDensity, rows, bandwidth=0.5, kernel=KERNELS[name])
    drawn = model.sample(4000, seed=0)["x"]
    assert torch.isfinite(model.log_prob(drawn)).all()
    # of a kernel the mean square radius, by an integral over radii
    noise = (drawn - torch.from_numpy(rows[(drawn[:, 0] > 1.5).long().numpy()])).square().sum(
        1
    ) / 0.25
    grid = torch.linspace(0.0, 30.0, 60_001, dtype=torch.float64)
    height = grid * KERNELS[name].log_value(grid.square()).exp()
    expected = (height * grid.square()).sum() / height.sum()
    assert float(noise.mean()) == pytest.approx(float(expected), rel=0.15)


def test_bandwidths_are_found() -> None:
    rows = np.concatenate([RNG.normal(size=150), RNG.normal(size=150) * 0.1 + 6.0])
    found = {
        type(b).__name__: density(pgnn.KernelDensity, rows, bandwidth=b)
        for b in (pgnn.Scott(), pgnn.Silverman(), pgnn.LeaveOneOut())
    }
    fresh = np.concatenate([RNG.normal(size=300), RNG.normal(size=300) * 0.1 + 6.0])
    score = {n: float(m.log_prob(fresh).mean()) for n, m in found.items()}
    assert score["LeaveOneOut"] > max(score["Scott"], score["Silverman"]) + 0.2
    deviation = rows.std()
    assert float(found["Scott"].conditional.width) == pytest.approx(deviation * 300**-0.2)
    silverman = deviation * (300 * 3 / 4) ** -0.2
    assert float(found["Silverman"].conditional.width) == pytest.approx(silverman)


@pytest.mark.parametrize("size", [1, 2])
def test_histograms_are_numpys_and_integrate(size: int) -> None:
    rows = RNG.normal(size=(400, size))
    model = density(pgnn.Histogram, rows, bins=7)
    expected, edges = np.histogramdd(rows, bins=7, density=True)
    middle = [0.5 * (e[1:] + e[:-1]) for e in edges]
    asked = np.stack([g.ravel() for g in np.meshgrid(*middle, indexing="ij")], axis=1)
    found = model.log_prob(asked).exp().numpy()
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-12)
    volume = np.prod([e[1] - e[0] for e in edges])
    assert found.sum() * volume == pytest.approx(1.0)
    assert model.log_prob(rows.max(axis=0, keepdims=True) + 1.0).isneginf().all()
    drawn = model.sample(2000, seed=0)["x"].numpy()
    again, _ = np.histogramdd(drawn, bins=edges)
    share = expected * volume
    assert (np.abs(again / 2000 - share) <= 5 * np.sqrt(share / 2000) + 1e-9).all()


def test_neighbours_of_one_class_are_a_density() -> None:
    rows, asked = RNG.normal(size=(60, 2)), RNG.normal(size=(9, 2))
    model = density(pgnn.NearestNeighbours, rows, k=4)
    radius = np.sort(np.linalg.norm(asked[:, None] - rows, axis=2), axis=1)[:, 3]
    np.testing.assert_allclose(model.log_prob(asked).exp(), 4 / (60 * np.pi * radius**2))
    with pytest.raises(Unsupported, match="does not integrate to one"):
        model.sample(3, seed=0)


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_of_classes_are_scikit_learns_classifier(k: int) -> None:
    sklearn = pytest.importorskip("sklearn.neighbors")
    y = RNG.integers(0, 3, 200)
    rows, asked = RNG.normal(size=(200, 2)) + y[:, None], RNG.normal(size=(50, 2)) + 1.0
    other = sklearn.KNeighborsClassifier(k).fit(rows, y)
    kind = functools.partial(pgnn.NearestNeighbours, k=k)
    model = pgnn.NaiveBayes(3, {"x": kind}).fit({"class": y, "x": rows}, progress=False)
    found = model.query("class", {"x": asked})["class"].probs
    np.testing.assert_allclose(found, other.predict_proba(asked), atol=1e-9)


def test_classes_have_windows_of_their_own() -> None:
    sklearn = pytest.importorskip("sklearn.neighbors")
    y = np.repeat([0, 1], [80, 40])
    rows = RNG.normal(size=(120, 2)) * (1 + y[:, None]) + 2 * y[:, None]
    kind = functools.partial(pgnn.KernelDensity, bandwidth=0.7)
    model = pgnn.NaiveBayes(2, {"x": kind}).fit({"class": y, "x": rows}, progress=False)
    logs = [
        sklearn.KernelDensity(bandwidth=0.7).fit(rows[y == c]).score_samples(rows) + np.log(p)
        for c, p in enumerate([2 / 3, 1 / 3])
    ]
    expected = 1 / (1 + np.exp(logs[0] - logs[1]))
    np.testing.assert_allclose(model.query("class", {"x": rows})["class"].probs[:, 1], expected)


@pytest.mark.parametrize("kind", [pgnn.KernelDensity, pgnn.Histogram, pgnn.NearestNeighbours])
def test_is_kept(kind: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame(RNG.normal(size=(40, 2)), columns=["a", "b"])
    model = pgnn.Density(kind).fit(frame, progress=False)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert type(again.conditional) is kind
    assert again.columns == ("a", "b")
    assert again.log_prob(frame).equal(model.log_prob(frame))
    before = model.log_prob(frame)
    with pytest.raises((DataError, ModelError)):
        model.fit(frame.assign(a=np.nan), progress=False)
    assert model.log_prob(frame).equal(before)
    assert not model.fit(frame.head(9), progress=False).log_prob(frame).equal(before)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: pgnn.Density(pgnn.KernelDensity).log_prob(RNG.normal(size=3)), "fit"),
        (
            lambda: pgnn.Density(pgnn.KernelDensity, 2).sample(3),
            "no rows yet",
        ),
        (lambda: density(pgnn.KernelDensity, RNG.normal(size=9), bandwidth=-1.0), "positive"),
        (
            lambda: density(pgnn.KernelDensity, RNG.normal(size=9), kernel="gaussian"),
            "kernel must be",
        ),
        (lambda: density(pgnn.Histogram, RNG.normal(size=9), bins=0), "at least 1"),
        (
            lambda: density(pgnn.Histogram, RNG.normal(size=9), bins=[1.0, 0.0]),
            "must be at least two increasing",
        ),
        (lambda: density(pgnn.NearestNeighbours, RNG.normal(size=9), k=0), "at least 1"),
    ],
)
def test_what_is_wrong_is_told(act: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        act()


def test_one_row_and_equal_rows() -> None:
    for rows in (np.ones(1), np.ones(5)):
        for kind in (pgnn.KernelDensity, pgnn.Histogram, pgnn.NearestNeighbours):
            assert not pgnn.Density(kind).fit(rows, progress=False).log_prob(rows).isnan().any()
