"""Batches one after the other: counts as of all at once, and steps of streaming EM."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EM, BayesianNetwork, Gaussian, Laplace, MaximumLikelihood, Mixture, NaiveBayes
from pgnn.errors import DataError, Unsupported


def labelled(n: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    y[:2] = 0, 1
    return {"class": y, "x": rng.normal(size=(n, 2)) + 3.0 * y[:, None] + 100.0,
            "w": rng.poisson(1.0 + y[:, None] * np.ones(3))}  # fmt: skip


def part(rows: dict[str, np.ndarray], which: slice) -> dict[str, np.ndarray]:
    return {n: x[which] for n, x in rows.items()}


def test_complete_batches_count_as_all_rows_at_once(tmp_path: Path) -> None:
    rows = labelled()
    features = {"x": Gaussian, "w": pgnn.Multinomial}
    whole = NaiveBayes(2, features).fit(rows, progress=False)
    own = NaiveBayes(2, features)
    own.partial_fit(part(rows, slice(0, 25))).partial_fit(part(rows, slice(25, 30)))
    own.save(tmp_path / "model")  # what was counted is kept
    own = pgnn.load(tmp_path / "model")
    own.partial_fit(part(rows, slice(30, 60)))
    assert (own.history["batches"], own.history["rows"], own.history["weight"]) == (3, 60, 60.0)
    torch.testing.assert_close(own.log_prob(rows), whole.log_prob(rows), rtol=1e-8, atol=1e-8)
    assert "running" not in repr(own.history)


def test_streaming_em_nears_the_maximum_and_goes_on_after_a_fit() -> None:
    rng = np.random.default_rng(1)
    h = rng.integers(0, 2, 4000)
    rows = {k: np.where(rng.random(4000) < 0.85, h, 1 - h) for k in "abcd"}
    edges = [("h", k) for k in rows]

    def network() -> BayesianNetwork:
        return BayesianNetwork(edges, states=dict.fromkeys(["h", *rows], 2))

    best = network().fit(pgnn.codes(rows), learner=EM(), seed=0, progress=False)
    own = network()
    for k in range(40):
        some = {n: x[100 * k : 100 * k + 100] for n, x in rows.items()}
        own.partial_fit(pgnn.codes(some), learner=EM(), seed=0)
    found, most = (float(m.log_prob(pgnn.codes(rows)).sum()) for m in (own, best))
    assert most - 20.0 < found <= most + 1e-6
    before = best.conditionals["h"].probs.detach().clone()
    best.partial_fit(pgnn.codes({n: x[:50] for n, x in rows.items()}), learner=EM(decay=1.0))
    moved = (best.conditionals["h"].probs.detach() - before).abs().max()
    assert 0.0 < moved < 0.2  # a share of a third


@pytest.mark.parametrize("kind", ["mixture", "trees", "chain"])
def test_every_kind_of_expectations_goes_on(kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "mixture":
        model: pgnn.Model = Mixture(2, {"x": Gaussian})
        batches = [{"x": rng.normal(size=(30, 2)) + 4.0 * rng.integers(0, 2, (30, 1))}] * 3
    elif kind == "trees":
        states = {"a": 2, "b": 2, "c": 2}
        model = pgnn.ModelMixture([pgnn.ChowLiuTree(states) for _ in range(2)])
        batches = [pgnn.codes({n: rng.integers(0, 2, 40) for n in states}) for _ in range(3)]
    else:
        model = pgnn.HiddenMarkovModel(2, {"x": 3})
        batches = [{"x": rng.integers(0, 3, (5, 20))} for _ in range(3)]
    for batch in batches:
        model.partial_fit(batch, learner=EM(), seed=0)
    assert model.history["batches"] == 3
    assert model.log_prob(batches[0]).isfinite().all()


def test_what_is_refused_changes_nothing() -> None:
    rows = labelled()
    first = {n: rows[n][:20] for n in ("class", "x")}
    model = NaiveBayes(2, {"x": Gaussian}).partial_fit(first)
    before = {n: x.clone() for n, x in model.state_dict().items()}
    holes = {"class": [0, -1], "x": rows["x"][:2]}
    with pytest.raises(DataError, match="complete"):
        model.partial_fit(holes, learner=MaximumLikelihood())
    with pytest.raises(Unsupported, match="all data at once"):
        model.partial_fit(holes, learner=pgnn.Gradient())
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    model.partial_fit(holes, learner=EM(Laplace()))
    assert model.history["batches"] == 2


def test_the_first_batch_tells_shapes_that_were_not_declared() -> None:
    random = np.random.default_rng(0)
    chain = pgnn.HiddenMarkovModel(2, {"x": Gaussian})
    factors = pgnn.FactorAnalysis(1)
    for _ in range(2):
        chain.partial_fit({"x": [random.normal(size=(20, 2)) for _ in range(4)]}, seed=0)
        factors.partial_fit(random.normal(size=(30, 3)), learner=EM(), seed=0)
    assert chain.emissions["x"].mean.shape == (2, 2)
    assert (chain.history["batches"], factors.history["batches"]) == (2, 2)


def test_batches_go_on_from_a_fit_of_tables() -> None:
    rng = np.random.default_rng(2)
    a = rng.integers(0, 2, 90)
    rows = {"a": a, "b": (a + (rng.random(90) < 0.2)) % 2}
    learner = MaximumLikelihood(Laplace())
    make = partial(BayesianNetwork, [("a", "b")], states={"a": 2, "b": 2})
    whole = make().fit(rows, learner=learner, progress=False)
    own = make().fit(part(rows, slice(0, 50)), learner=learner, progress=False)
    own.partial_fit(part(rows, slice(50, 60)), learner=learner)
    own.partial_fit(part(rows, slice(60, 90)), learner=learner)
    assert (own.history["batches"], own.history["rows"], own.history["weight"]) == (3, 90, 90.0)
    torch.testing.assert_close(own.log_prob(rows), whole.log_prob(rows))


def test_batches_do_not_go_on_from_what_was_not_kept() -> None:
    rows = labelled()
    model = NaiveBayes(2, {"x": Gaussian, "w": pgnn.Multinomial}).fit(rows, progress=False)
    before = {n: x.clone() for n, x in model.state_dict().items()}
    with pytest.raises(Unsupported, match=r"MaximumLikelihood did not keep: start with partial"):
        model.partial_fit(rows)
    for name, x in model.state_dict().items():
        torch.testing.assert_close(x, before[name])


@pytest.mark.parametrize("kind", [pgnn.KernelDensity, pgnn.NearestNeighbours, pgnn.Histogram])
def test_densities_made_of_rows_take_no_batches(kind: type) -> None:
    rows = np.array([0.0, 1.0, 2.0])
    model = pgnn.Density(kind)
    with pytest.raises(pgnn.Unsupported, match="all rows at once"):
        model.partial_fit(rows)
