"""The oracle against numbers worked out by hand."""

import numpy as np
import pytest

from tests import oracle

RAIN = np.array([0.8, 0.2])
WET = np.array([[0.9, 0.1], [0.3, 0.7]])
CARDS = {"wet": 2, "rain": 2}
TABLES = [(("rain",), RAIN), (("rain", "wet"), WET)]


def test_bayes_rule() -> None:
    joint = oracle.joint(CARDS, TABLES, {"wet": 1})
    assert oracle.evidence_probability(joint) == pytest.approx(0.8 * 0.1 + 0.2 * 0.7)
    np.testing.assert_allclose(oracle.marginal(joint, ["rain"]), [0.08 / 0.22, 0.14 / 0.22])
    np.testing.assert_allclose(oracle.marginal(joint, ["wet"]), [0, 1])


def test_soft_evidence_and_missing() -> None:
    joint = oracle.joint(CARDS, TABLES, {"wet": -1}, {"wet": np.array([0.5, 1.0])})
    assert oracle.evidence_probability(joint) == pytest.approx(0.5 * 0.78 + 0.22)


def test_axes_follow_the_caller() -> None:
    joint = oracle.joint(CARDS, TABLES)
    np.testing.assert_allclose(oracle.marginal(joint, ["rain", "wet"]), RAIN[:, None] * WET)
    np.testing.assert_allclose(oracle.marginal(joint, ["wet", "rain"]), (RAIN[:, None] * WET).T)
    np.testing.assert_allclose(oracle.conditional(joint, "wet", ["rain"]), WET)


def test_best_states() -> None:
    joint = oracle.joint(CARDS, TABLES)
    best = oracle.k_best(joint, 3)
    assert [b[0] for b in best] == [
        {"wet": 0, "rain": 0},
        {"wet": 1, "rain": 1},
        {"wet": 1, "rain": 0},
    ]
    assert best[0][1] == pytest.approx(np.log(0.72))
    assert oracle.marginal_map(joint, ["wet"]) == ({"wet": 0}, pytest.approx(np.log(0.78)))


def test_entropy_and_rows() -> None:
    joint = oracle.joint(CARDS, TABLES)
    fair = oracle.joint({"a": 2, "b": 4}, [])
    assert oracle.entropy(fair) == pytest.approx(np.log(8))
    assert oracle.mutual_information(fair, ["a"], ["b"]) == pytest.approx(0.0)
    rows = [{"wet": 1, "rain": 1}, {"wet": 1, "rain": -1}, {}]
    np.testing.assert_allclose(oracle.log_prob_rows(joint, rows), np.log([0.14, 0.22, 1.0]))


@pytest.mark.parametrize("kind", oracle.KINDS)
def test_random_networks_are_models(kind: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        network = oracle.random_network(rng, kind)
        joint = network.joint()
        assert oracle.evidence_probability(joint) == pytest.approx(1.0)
        for name, table in network.probabilities.items():
            scope = [*network.parents[name], name]
            assert table.shape == tuple(network.cards[n] for n in scope)
        evidence = oracle.random_evidence(rng, joint)
        assert oracle.evidence_probability(network.joint(evidence)) > 0


def test_random_factors_are_possible() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        assert oracle.evidence_probability(oracle.joint(*oracle.random_factors(rng, zeros=0.5))) > 0


def test_independence() -> None:
    network = oracle.Network(
        {"a": 2, "b": 2, "c": 2},
        {"a": (), "b": (), "c": ("a", "b")},
        {
            "a": np.array([0.3, 0.7]),
            "b": np.array([0.6, 0.4]),
            "c": np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [0.5, 0.5]]]),
        },
    )
    assert oracle.independent(network.joint(), ["a"], ["b"])
    assert not oracle.independent(network.joint(), ["a"], ["b"], ["c"])
