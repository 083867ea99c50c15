"""Most probable states by belief propagation: best on trees, honest elsewhere; marginal MAP."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, ImpossibleEvidence, NotConverged, Unsupported
from pgnn.inference.exact.marginal_map import MarginalSearch
from tests import oracle
from tests.inference.propagation.test_belief_propagation import (
    EXACT,
    coded,
    ising,
    markov,
    propagation,
    rows_of,
    tree,
)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("reweighted", [False, True])
def test_best_states_in_loops(seed, reweighted):
    cards, tables = oracle.random_factors(np.random.default_rng(seed), 7, 11, max_scope=4)
    model = markov(cards, tables)
    rows = rows_of(seed, cards, tables)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        found = model.most_probable(
            coded(rows, cards), engine=propagation(tree_reweighted=reweighted)
        )
    for r, row in enumerate(rows):
        joint = oracle.joint(cards, tables, row)
        best = oracle.mode(joint)[1]
        value = float(found.log_prob[r])
        assert value <= best + 1e-9
        states = {n: int(found[n][r]) for n in cards}
        assert value == pytest.approx(float(np.log(oracle.weight(joint, states))), abs=1e-9)
        if reweighted:
            assert float(found.upper_bound[r]) >= best - 1e-9
    assert reweighted == (found.upper_bound is not None)


def test_most_are_best():
    """Strong or weak, most random grids are decoded to their best states."""
    hits = 0
    for seed in range(20):
        model = ising((3, 4), seed=seed, strength=1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            found = model.most_probable(engine=propagation(max_iterations=200))
        best = model.most_probable(engine=EXACT)
        hits += bool(torch.isclose(found.log_prob, best.log_prob))
    assert hits >= 16


@pytest.mark.parametrize("iterations", [1, 2, 100])
def test_bounds_of_best_states_hold_at_any_time(iterations):
    for seed in range(6):
        model = ising((3, 3), seed=seed, strength=1.5)
        best = model.most_probable(engine=EXACT)
        engine = propagation(tree_reweighted=True, max_iterations=iterations, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            found = model.most_probable(engine=engine)
        assert float(found.upper_bound) >= float(best.log_prob) - 1e-9
        assert float(found.log_prob) <= float(best.log_prob) + 1e-9


def test_states_that_cannot_be_are_not_returned():
    """A parity of many: decoding goes wrong somewhere, polishing cannot mend it all."""
    rng = np.random.default_rng(0)
    cards = {f"x{k}": 2 for k in range(12)}
    parity = np.array([float(sum(x) % 2) for x in itertools.product((0, 1), repeat=3)])
    for _ in range(6):
        tables = [
            (tuple(rng.permutation(list(cards))[:3].tolist()), parity.reshape(2, 2, 2))
            for _ in range(12)
        ]
        joint = oracle.joint(cards, tables)
        if joint.table.max() == 0:
            continue
        model = markov(cards, tables)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            found = model.most_probable(engine=propagation(max_iterations=100), errors="nan")
        value = float(found.log_prob)
        if np.isnan(value):
            assert not found.diagnostics["converged"].any()
            with pytest.raises(EvidenceError, match="found no state of positive") as refused:
                model.most_probable(engine=propagation(max_iterations=100))
            assert not isinstance(refused.value, ImpossibleEvidence)
        else:
            assert oracle.weight(joint, {n: int(found[n]) for n in cards}) > 0


# --- some maximised, the rest summed out ----------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("shape", ["tree", "loops"])
def test_marginal_map_equals_enumeration(seed, shape):
    rng = np.random.default_rng(seed)
    if shape == "tree":
        cards, tables = tree(seed)
    else:
        cards, tables = oracle.random_factors(rng, 7, 9)
    model = markov(cards, tables)
    targets = rng.permutation(list(cards))[:3].tolist()
    rows = rows_of(seed, cards, tables, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        found = model.most_probable(coded(rows, cards), targets, engine=propagation())
    assert found.upper_bound is None
    for r, row in enumerate(rows):
        joint = oracle.joint(cards, tables, row)
        _, best = oracle.marginal_map(joint, targets)
        got = {n: int(found[n][r]) for n in targets}
        value = np.log(oracle.weight(joint, got))
        assert float(found.log_prob[r]) == pytest.approx(value, abs=1e-9)
        assert value == pytest.approx(best, abs=1e-9)


def test_marginal_map_with_soft_evidence_and_impossible_rows():
    cards, tables = tree(3, zeros=0.0)
    names = list(cards)
    model = markov(cards, tables)
    soft = np.random.default_rng(0).random(cards[names[0]]) + 0.1
    evidence = {names[0]: torch.from_numpy(soft)}
    joint = oracle.joint(cards, tables, soft={names[0]: soft})
    found = model.most_probable(evidence, names[1:4], engine=propagation())
    _, best = oracle.marginal_map(joint, names[1:4])
    assert float(found.log_prob) == pytest.approx(best, abs=1e-9)
    cards, tables = (
        {"a": 2, "b": 2, "c": 2},
        [(("a", "b"), np.eye(2)), (("b", "c"), np.ones((2, 2)))],
    )
    model = markov(cards, tables)
    evidence = {"a": torch.tensor([0, 0]), "b": torch.tensor([1, 0])}
    found = model.most_probable(evidence, ["c"], engine=propagation(), errors="nan")
    assert np.isneginf(float(found.log_prob[0]))
    assert found["c"][0] == -1
    assert float(found.log_prob[1]) == pytest.approx(0.0)


def test_where_summing_out_is_too_expensive_propagation_does_it(monkeypatch):
    def too_expensive(*_: object) -> None:
        raise Unsupported("too expensive")

    monkeypatch.setattr(MarginalSearch, "improve", too_expensive)
    for seed in range(5):
        cards, tables = tree(seed)
        model = markov(cards, tables)
        targets = list(cards)[:3]
        rows = rows_of(seed, cards, tables, 3)
        found = model.most_probable(coded(rows, cards), targets, engine=propagation())
        assert found.diagnostics["log_prob"] == "estimate"
        for r, row in enumerate(rows):  # on a tree the estimate is the value
            joint = oracle.joint(cards, tables, row)
            value = np.log(oracle.weight(joint, {n: int(found[n][r]) for n in targets}))
            assert float(found.log_prob[r]) == pytest.approx(value, abs=1e-9)


def test_observed_everything_else_is_no_marginal_map():
    model = ising((2, 3))
    observed = torch.tensor([[0, -1, 1], [1, 1, -1]])
    found = model.most_probable({"s": observed}, engine=propagation())
    best = model.most_probable({"s": observed}, engine=pgnn.JunctionTree())
    torch.testing.assert_close(found["s"], best["s"])
    assert "log_prob" not in found.diagnostics
