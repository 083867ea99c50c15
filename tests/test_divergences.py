"""ELBO + KL and projections against enumeration."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import BayesianNetwork, MarkovRandomField
from pgnn.divergences import decompose, forward_projection, kl_divergence, reverse_projection
from pgnn.errors import ModelError, Unsupported

SIZES = {"a": 2, "b": 3, "c": 2, "d": 2}
EDGES = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]


def network() -> BayesianNetwork:
    random = np.random.default_rng(0)
    parents = {n: [a for a, b in EDGES if b == n] for n in SIZES}
    tables = {
        n: random.dirichlet(np.ones(k), [SIZES[p] for p in parents[n]]) for n, k in SIZES.items()
    }
    return BayesianNetwork(EDGES, tables, SIZES)


def field() -> MarkovRandomField:
    random = np.random.default_rng(1)
    pairs = [pgnn.Factor([pgnn.Variable(n, SIZES[n]) for n in e],
                         torch.from_numpy(random.normal(size=[SIZES[n] for n in e])))
             for e in EDGES]  # fmt: skip
    return MarkovRandomField(pairs)


def posterior_of(
    model: Any, observed: dict[str, int]
) -> tuple[list[str], dict[tuple, float], float]:
    """States of the hidden variables with their log joint probabilities, and the log evidence."""
    hidden = [n for n in SIZES if n not in observed]
    states = list(itertools.product(*(range(SIZES[n]) for n in hidden)))
    rows = {
        n: [observed.get(n, dict(zip(hidden, s, strict=True)).get(n)) for s in states]
        for n in SIZES
    }
    logs = model.log_prob(pgnn.codes(rows)).detach().numpy()
    return hidden, dict(zip(states, logs, strict=True)), float(np.logaddexp.reduce(logs))


@pytest.mark.parametrize("make", [network, field])
def test_the_pieces_are_those_of_enumeration(make: Any) -> None:
    model, observed, random = make(), {"d": 1}, np.random.default_rng(3)
    hidden, logs, evidence = posterior_of(model, observed)
    marginals = {n: random.dirichlet(np.ones(SIZES[n])) for n in hidden}
    q = {s: np.prod([marginals[n][k] for n, k in zip(hidden, s, strict=True)]) for s in logs}
    parts = decompose(model, marginals, pgnn.codes({"d": [1]}))
    energy = sum(q[s] * logs[s] for s in q)
    entropy = -sum(p * np.log(p) for p in q.values())
    kl = sum(p * (np.log(p) - (logs[s] - evidence)) for s, p in q.items())
    for got, right in ((parts.log_evidence, evidence), (parts.energy, energy),
                       (parts.entropy, entropy), (parts.kl, kl)):  # fmt: skip
        assert float(got) == pytest.approx(right, abs=1e-10)
    exact = model.query(None, observed)
    if make is network:  # the posterior itself: nothing is missing
        whole = forward_projection(model, observed, [("a", "b"), ("a", "c"), ("b", "c")])
        assert float(decompose(model, whole, observed).kl) == pytest.approx(0.0, abs=1e-10)
        assert float(decompose(model, exact, observed).kl) > 0.0


def test_projections_are_the_nearest_of_their_form() -> None:
    model, observed = network(), {"d": 0}
    hidden, logs, evidence = posterior_of(model, observed)
    p = np.exp(np.array([*logs.values()]) - evidence)
    rows = {n: [s[k] for s in logs] for k, n in enumerate(hidden)}

    def forward(q: BayesianNetwork) -> float:
        return float(p @ (np.log(p) - q.log_prob(pgnn.codes(rows)).detach().numpy()))

    product = forward_projection(model, observed)
    exact = model.query(None, observed)
    torch.testing.assert_close(product.query("b")["b"].probs, exact["b"].probs)
    best = forward_projection(model, observed, None)
    trees = [[("a", "b"), ("a", "c")], [("a", "b"), ("b", "c")], [("a", "c"), ("c", "b")]]
    least = min(forward(forward_projection(model, observed, t)) for t in trees)
    assert forward(best) == pytest.approx(least, abs=1e-10)
    assert forward(best) < forward(product)
    near = reverse_projection(model, observed, seed=0)
    field = model.query(None, observed, engine=pgnn.MeanField(seed=0))
    assert (
        float(decompose(model, near, observed).kl)
        <= float(decompose(model, field, observed).kl) + 1e-6
    )
    tree = reverse_projection(model, observed, trees[0], restarts=2, seed=0)
    assert float(decompose(model, tree, observed).kl) < float(decompose(model, near, observed).kl)


def test_what_is_refused() -> None:
    model = network()
    with pytest.raises(ModelError, match="q must include 'b'"):
        decompose(model, {"a": [0.5, 0.5]}, {"c": 0, "d": 0})
    with pytest.raises(ModelError, match="must join unobserved variables"):
        forward_projection(model, {"a": 0}, [("a", "b")])
    with pytest.raises(Unsupported, match="single discrete variables, got 'x'"):
        decompose(BayesianNetwork([], {"x": pgnn.Gaussian(pgnn.Variable("x"), mean=0.0,
                                                          covariance=1.0)}), {})  # fmt: skip


@pytest.mark.parametrize("models", [(network, field), (field, network), (network, network)])
def test_divergence_of_two_models(models: tuple[Any, Any]) -> None:
    p, q = models[0](), models[1]()
    rows = pgnn.codes(np.array([*itertools.product(*(range(SIZES[n]) for n in p.variables))]))
    order = [[*p.variables].index(n) for n in q.variables]
    log_p, log_q = p.log_prob(rows), q.log_prob(pgnn.codes(rows.values[:, order]))
    expected = (log_p.exp() * (log_p - log_q)).sum()
    assert float(kl_divergence(p, q)) == pytest.approx(float(expected), abs=1e-9)


def test_divergences_of_models_that_differ() -> None:
    coin = BayesianNetwork([], {"a": [0.5, 0.5]}, {"a": ["no", "yes"]})
    sure = BayesianNetwork([], {"a": [1.0, 0.0]}, {"a": ["no", "yes"]})
    assert float(kl_divergence(coin, sure)) == np.inf
    assert float(kl_divergence(sure, coin)) == pytest.approx(np.log(2))
    with pytest.raises(ModelError, match="same states"):
        kl_divergence(coin, BayesianNetwork([], {"a": [0.5, 0.5]}, {"a": ["yes", "no"]}))
    with pytest.raises(ModelError):
        kl_divergence(coin, BayesianNetwork([], {"b": [0.5, 0.5]}))


def test_divergence_of_models_of_other_variables() -> None:
    p = BayesianNetwork([], {"a": [0.5, 0.5]})
    q = BayesianNetwork([], {"a": [0.5, 0.5], "b": [0.5, 0.5]})
    with pytest.raises(ModelError, match=r"got \['a'\] and \['a', 'b'\]"):
        kl_divergence(p, q)
