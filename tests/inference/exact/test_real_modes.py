"""Most probable explanations with real variables: against a normal for each configuration."""

import math

import numpy as np
import pytest
import torch

import pgnn
from pgnn import Gaussian, LinearGaussian, Variable
from pgnn.errors import EvidenceError, ImpossibleEvidence, Intractable, Unsupported
from tests import gaussian_oracle as oracle
from tests.inference.exact.test_gaussian_posterior import switch


@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed: int) -> None:
    """Any pattern of holes, numbers of vectors among them; all variables, or some reals."""
    rng = np.random.default_rng(200 + seed)
    net = oracle.random_network(rng, int(rng.integers(0, 4)), int(rng.integers(1, 6)))
    rows = oracle.random_rows(rng, net, 4, float(rng.choice([0.2, 0.5, 0.8])))
    model, evidence = net.model(), oracle.batch(net, rows)
    hidden = [n for n in net.sizes if any(np.isnan(row[n]).any() for row in rows)]
    some = rng.permutation(hidden)[: max(1, len(hidden) // 2)].tolist()
    for targets in (None, [*net.cards, *some]):
        names = hidden if targets is None else some
        best = model.most_probable(evidence, targets)
        ranked = model.most_probable(evidence, targets, k=3)
        assert {*best} == {*net.cards, *names}
        for r, row in enumerate(rows):
            expected = net.answer(row).modes(names)
            for rank, (log, states, values) in enumerate(expected[:3]):
                own = ranked[rank]
                assert float(own.log_prob[r]) == pytest.approx(log, rel=1e-9, abs=1e-9)
                assert {n: int(own[n][r]) for n in net.cards} == states
                told = np.concatenate([own[n][r].reshape(-1).numpy() for n in names] or [[]])
                np.testing.assert_allclose(told, values, atol=1e-8)
            assert float(best.log_prob[r]) == float(ranked[0].log_prob[r])
            assert all(torch.equal(best[n], ranked[0][n]) for n in names)


def test_a_normal_network_is_most_likely_at_its_means() -> None:
    x, y = Variable("x"), Variable("y")
    model = pgnn.BayesianNetwork(
        [("x", "y")],
        {"x": Gaussian(x, [], 0.0, 1.0), "y": LinearGaussian(y, [x], [1.0], 0.0, 1.0)},
    )
    best = model.most_probable({"y": 2.0})
    assert float(best["x"]) == pytest.approx(1.0)
    assert float(best.log_prob) == pytest.approx(float(model.log_prob({"x": 1.0, "y": 2.0})))
    assert float(best.upper_bound) == float(best.log_prob)
    assert str(best).startswith("x  1.\nlog probability")
    assert "exact, JunctionTree" in str(best)
    table = model.most_probable({"y": [2.0, 4.0]}).frame()
    np.testing.assert_allclose(table["x"], [1.0, 2.0])
    whole = model.most_probable()
    assert [float(whole[n]) for n in "xy"] == [0.0, 0.0]


def test_determinants_decide_between_states() -> None:
    """What is likely in sum need not be most likely at one point: a narrow peak is high."""
    kind, x = Variable("kind", ["wide", "narrow"]), Variable("x")
    model = pgnn.BayesianNetwork(
        [("kind", "x")],
        {"kind": [0.9, 0.1], "x": Gaussian(x, [kind], [0.0, 5.0], [1.0, 1e-4])},
    )
    best = model.most_probable()
    assert (best["kind"], float(best["x"])) == ("narrow", 5.0)
    peak = math.log(0.1) - 0.5 * math.log(2 * math.pi * 1e-4)
    assert float(best.log_prob) == pytest.approx(peak)
    assert model.most_probable(targets="kind")["kind"] == "wide"  # x is summed out
    ranked = model.most_probable(k=5)
    assert [(a["kind"], float(a["x"])) for a in ranked] == [("narrow", 5.0), ("wide", 0.0)]
    assert list(ranked.frame()["x"]) == [5.0, 0.0]


def test_single_precision_and_rows() -> None:
    observed = {"y": [1.5, -2.0, None], "sign": [1, None, 0]}
    exact, single = switch().most_probable(observed), switch(torch.float32).most_probable(observed)
    assert single["x"].dtype == torch.float32
    assert torch.equal(single["kind"], exact["kind"])
    torch.testing.assert_close(single["x"].double(), exact["x"], rtol=1e-5, atol=1e-6)
    for r in range(3):
        row = {n: x[r] for n, x in observed.items() if x[r] is not None}
        alone = switch().most_probable(row)
        assert float(alone.log_prob) == pytest.approx(float(exact.log_prob[r]))
        assert float(alone["x"]) == pytest.approx(float(exact["x"][r]))
    empty = switch().most_probable({"y": torch.zeros(0)})
    assert empty["x"].shape == empty["kind"].shape == (0,)


def test_no_rows_and_numbers_out_of_bounds() -> None:
    x, y = Variable("x"), Variable("y")
    own = {"x": Gaussian(x, [], 0.0, 1.0), "y": LinearGaussian(y, [x], [1.0], 0.0, 1.0)}
    model = pgnn.BayesianNetwork([("x", "y")], own)
    none = {"y": torch.zeros(0)}
    assert model.query("x", none)["x"].mean.shape == model.most_probable(none)["x"].shape == (0,)
    assert model.sample(2, none)["x"].shape == (2, 0)
    assert model.max_marginals(None, {"y": 1.0}) == {}
    with pytest.raises(ImpossibleEvidence):
        model.most_probable({"y": 1e300})
    assert model.log_prob({"y": 1e300}) == -math.inf


def test_impossible_rows() -> None:
    observed = {"y": [0.0, 1.0], "kind": ["low", None], "sign": [1, 1]}
    best = switch().most_probable(observed, errors="nan")
    assert bool(best["x"][0].isnan())
    assert best["kind"].tolist() == [-1, 1]
    with pytest.raises(ImpossibleEvidence, match="kind=low"):
        switch().most_probable({n: x[0] for n, x in observed.items()})


def test_what_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"'x' depends on 'kind'.*mode of a mixture"):
        switch().most_probable({"y": 1.0}, "x")
    assert float(switch().most_probable({"y": 1.0, "kind": "low"}, "x")["x"]) == pytest.approx(-1.0)
    with pytest.raises(EvidenceError, match="'x' is real and observed"):
        switch().most_probable({"x": 1.0}, "x")
    kinds, x = [Variable(f"k{i}", 2) for i in range(30)], [Variable(f"x{i}") for i in range(30)]
    pieces = [LinearGaussian(x[0], [kinds[0]], np.zeros((2, 0)), [0.0, 1.0], [1.0, 1.0])]
    pieces += [
        LinearGaussian(x[i], [x[i - 1], kinds[i]], [[1.0], [1.0]], [0.0, 1.0], [1.0, 1.0])
        for i in range(1, 30)
    ]
    wide = pgnn.BayesianNetwork(
        [(p.name, c.child.name) for c in pieces for p in c.parents],
        [*pieces, *(pgnn.Tabular(k, [], [0.4, 0.6]) for k in kinds)],
    )
    with pytest.raises(Intractable, match="if targets= names discrete variables only"):
        wide.most_probable({"x29": 1.0})
    assert wide.most_probable(targets=["k3", "k5"])["k5"] == 1
