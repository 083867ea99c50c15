"""Gaussian fields on graphs: dense normals, harmonic labels, learning, and large graphs."""

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.distributions import MultivariateNormal

import pgnn
from pgnn.errors import DataError, EvidenceError, ModelError, Unsupported
from pgnn.graphs import neighbour_graph

KARATE = nx.karate_club_graph()
N = len(KARATE)


def field(**rest: Any) -> pgnn.GaussianMarkovField:
    return pgnn.GaussianMarkovField(KARATE, 2.0, 0.5, 1.0, **rest)


def dense(model: pgnn.GaussianMarkovField) -> MultivariateNormal:
    precision = torch.from_numpy(model.precision().toarray())
    return MultivariateNormal(torch.full((N,), model.location).double(), precision_matrix=precision)


def holes(rows: int, share: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = dense(field()).sample((rows,)).numpy() if rows < 0 else rng.normal(size=(rows, N)) + 1.0
    x[rng.random(x.shape) < share] = np.nan
    return x


def test_labels_are_harmonic() -> None:
    model = pgnn.GaussianMarkovField(KARATE)
    answer = model.query(evidence={0: 0.0, 33: 1.0})
    observed, rest = [0, 33], [k for k in range(N) if k not in (0, 33)]
    laplacian = nx.laplacian_matrix(KARATE).toarray().astype(float)
    own = laplacian[np.ix_(rest, rest)]
    expected = -np.linalg.solve(own, laplacian[np.ix_(rest, observed)] @ [0.0, 1.0])
    np.testing.assert_allclose(answer["x"].mean[rest], expected, atol=1e-12)
    np.testing.assert_allclose(
        answer["x"].variance[rest], np.linalg.inv(own).diagonal(), atol=1e-12
    )
    assert float(answer[8].std) == pytest.approx(float(answer["x"].std[8]))
    clubs = [KARATE.nodes[k]["club"] == "Officer" for k in KARATE]
    assert np.mean((answer["x"].mean.numpy() > 0.5) == clubs) > 0.9


def test_posteriors_are_those_of_a_dense_normal() -> None:
    model, whole, x = field(), dense(field()), holes(4)
    covariance = whole.covariance_matrix.numpy()
    answer = model.query(evidence=x)
    for row, own in enumerate(x):
        o, u = np.flatnonzero(~np.isnan(own)), np.flatnonzero(np.isnan(own))
        gain = covariance[np.ix_(u, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
        np.testing.assert_allclose(answer["x"].mean[row, u], 1.0 + gain @ (own[o] - 1.0), atol=1e-9)
        left = covariance[np.ix_(u, u)] - gain @ covariance[np.ix_(o, u)]
        np.testing.assert_allclose(answer["x"].variance[row, u], left.diagonal(), atol=1e-9)
        part = MultivariateNormal(
            torch.ones(len(o)).double(), torch.from_numpy(covariance[np.ix_(o, o)])
        )
        logs = float(part.log_prob(torch.from_numpy(own[o])))
        assert float(answer.log_evidence[row]) == pytest.approx(logs)
        assert float(model.log_prob(x)[row]) == pytest.approx(logs)
    by_steps = model.query(evidence=x, engine=pgnn.SparseNormal(iterative=True))
    torch.testing.assert_close(by_steps["x"].mean, answer["x"].mean)


def test_draws_have_the_moments_of_the_posterior() -> None:
    model = field()
    n, observed = 4000, {1: 0.3, 5: 2.0}
    drawn = model.sample(n, observed, seed=0)["x"]
    answer = model.query(evidence=observed)["x"]
    bound = 5 * (answer.variance / n).sqrt()
    assert ((drawn.mean(0) - answer.mean).abs() <= bound + 1e-12).all()
    assert ((drawn.var(0) - answer.variance).abs() <= 5 * answer.variance * (2 / n) ** 0.5).all()
    assert drawn.equal(model.sample(n, observed, seed=0)["x"])


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_numbers_are_learnt(share: float, tmp_path: Path) -> None:
    """At the maximum the likelihood has no slope, by differences of log_prob."""
    x = field().sample(12, seed=3)["x"].numpy().copy()
    x[np.random.default_rng(1).random(x.shape) < share] = np.nan
    model = pgnn.GaussianMarkovField(KARATE, None, None, None).fit(x, progress=False)
    names = ("smoothness", "anchor", "mean")
    best = [float(getattr(model, n).detach()) for n in names]
    top = float(model.log_prob(x).sum())
    assert model.history["log_likelihood"] == pytest.approx(top)
    for k in range(3):
        for factor in (1.02, 0.98):
            moved = [b * (factor if i == k else 1.0) for i, b in enumerate(best)]
            assert float(pgnn.GaussianMarkovField(KARATE, *moved).log_prob(x).sum()) < top
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    torch.testing.assert_close(again.log_prob(x), model.log_prob(x))
    assert again.columns == model.columns
    one = pgnn.GaussianMarkovField(KARATE, None, 0.5, 1.0).fit(x, progress=False)
    assert float(one.log_prob(x).sum()) < top
    free = pgnn.GaussianMarkovField(KARATE, None).fit(x, progress=False)
    near = pgnn.GaussianMarkovField(KARATE, float(free.smoothness.detach()) * 1.02)
    assert float(near.log_prob(x).sum()) < float(free.log_prob(x).sum())


def test_points_are_joined_to_near_ones() -> None:
    points = np.random.default_rng(0).normal(size=(60, 2))
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    near = neighbour_graph(points, k=3)
    np.fill_diagonal(distance, np.inf)
    expected = {frozenset((i, int(j))) for i in range(60) for j in distance[i].argsort()[:3]}
    assert {frozenset(e) for e in near.edges} == expected
    ball = neighbour_graph(points, radius=0.5, width=0.3)
    assert {frozenset(e) for e in ball.edges} == {
        frozenset((i, j)) for i, j in zip(*np.nonzero(distance <= 0.5), strict=True)
    }
    i, j, weight = next(iter(ball.edges(data="weight")))
    assert weight == pytest.approx(np.exp(-0.5 * (distance[i, j] / 0.3) ** 2))
    same = neighbour_graph(np.zeros((9, 2)), k=2, matrix=True)
    assert not same.diagonal().any()


def test_few_labels_spread_over_clusters() -> None:
    rng = np.random.default_rng(0)
    angle = rng.random(400) * 2 * np.pi
    ring = np.where(np.arange(400) < 200, 1.0, 3.0)
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * ring[:, None] + 0.1 * rng.normal(
        size=(400, 2)
    )
    model = pgnn.GaussianMarkovField(
        neighbour_graph(points, k=6, width=0.5, matrix=True), anchor=1e-6
    )
    found = model.query(evidence={0: -1.0, 300: 1.0})["x"].mean.numpy()
    assert np.mean((found > 0) == (ring > 2)) > 0.99


def test_large_grids_are_answered() -> None:
    side = 150
    line = sp.diags_array(np.ones(side - 1), offsets=1, shape=(side, side))
    line = line + line.T
    grid = sp.kron(line, sp.eye_array(side)) + sp.kron(sp.eye_array(side), line)
    model = pgnn.GaussianMarkovField(grid)
    answer = model.query(evidence={0: 0.0, side**2 - 1: 1.0})
    mean = answer["x"].mean
    assert 0.0 <= float(mean.min()) <= float(mean.max()) <= 1.0
    assert float(mean[side // 2 * side + side // 2]) == pytest.approx(0.5, abs=0.01)
    assert float(answer[side + 1].std) > 0


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda: pgnn.GaussianMarkovField(nx.DiGraph([(0, 1)])), ModelError, "undirected"),
        (lambda: pgnn.GaussianMarkovField([(0, 1)]), ModelError, "nx.Graph or a SciPy"),
        (lambda: pgnn.GaussianMarkovField(nx.Graph()), ModelError, "no nodes"),
        (lambda: pgnn.GaussianMarkovField(KARATE, -1.0), ModelError, "smoothness must be positive"),
        (
            lambda: pgnn.GaussianMarkovField(sp.csr_array([[0.0, 1], [0, 0]])),
            ModelError,
            "symmetric",
        ),
        (
            lambda: pgnn.GaussianMarkovField(sp.csr_array([[0.0, -1], [-1, 0]])),
            ModelError,
            "positive",
        ),
        (lambda: pgnn.GaussianMarkovField(KARATE, name=3), ModelError, "is a node"),
        (lambda: pgnn.GaussianMarkovField(KARATE).query(), EvidenceError, "level"),
        (lambda: field().query("nobody"), EvidenceError, "no node 'nobody'"),
        (lambda: field().query(evidence={99: 1.0}), EvidenceError, "unknown variable 99"),
        (lambda: field().query(evidence={3: np.inf}), EvidenceError, "finite"),
        (lambda: field().fit(holes(3)), ModelError, "nothing to learn"),
        (
            lambda: pgnn.GaussianMarkovField(KARATE, None).fit(np.full((2, N), np.nan)),
            DataError,
            "missing in all|no node|observed",
        ),
        (lambda: field().most_probable({3: 1.0}), Unsupported, "means"),
        (lambda: neighbour_graph([[0.0], [1.0]]), ModelError, "either k=|k="),
    ],
)
def test_what_is_wrong_is_told(act: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        act()
