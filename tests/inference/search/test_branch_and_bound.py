"""Search with bounds against enumeration, and on gates whose tables nobody could write down."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pgnn
from pgnn.errors import ImpossibleEvidence, Intractable
from pgnn.inference.search import branch_and_bound
from tests import oracle

ENGINE = pgnn.BranchAndBound(seed=0, progress=False)


@pytest.fixture
def no_exact_solutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of assignments are taken apart to the last one."""
    solve = branch_and_bound._Bounds.solve

    def reluctant(self, possible):
        return None if len(self.undecided(possible)) else solve(self, possible)

    monkeypatch.setattr(branch_and_bound._Bounds, "solve", reluctant)


def check(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    network = oracle.random_network(rng, kind, 6, zeros=0.2)
    model = pgnn.BayesianNetwork(network.edges, network.probabilities, states=network.cards)
    names = [*network.cards]
    targets = [str(n) for n in rng.permutation(names)[: int(rng.integers(1, 6))]]
    observed = oracle.random_evidence(rng, network.joint(), 0.2)
    unobserved = [n for n in names if n not in observed and network.cards[n] > 1]
    soft = {n: rng.random(network.cards[n]) for n in unobserved[:2]}
    for likelihood in soft.values():
        likelihood[:-1] *= rng.random(len(likelihood) - 1) < 0.7
    joint = network.joint(observed, soft)
    evidence = observed | {n: pgnn.likelihood(x) for n, x in soft.items()}
    if oracle.evidence_probability(joint) == 0.0:
        with pytest.raises(ImpossibleEvidence):
            model.most_probable(evidence, targets, engine=ENGINE)
        return
    _, top = oracle.marginal_map(joint, targets)
    best = model.most_probable(evidence, targets, engine=ENGINE)
    assert float(best.log_prob) == pytest.approx(top, rel=1e-9, abs=1e-9)
    assert float(best.upper_bound) == pytest.approx(top, rel=1e-9, abs=1e-9)
    assert best.diagnostics["optimal"].all()
    value = oracle.weight(
        oracle.Joint(tuple(targets), oracle.marginal(joint, targets) * joint.table.sum()),
        {n: model.variables[n].states.index(best[n]) for n in targets},
    )
    assert np.log(value) == pytest.approx(top, rel=1e-9, abs=1e-9)


@pytest.mark.usefixtures("no_exact_solutions")
@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from(oracle.KINDS))
def test_bounds_alone_find_the_oracles_marginal_map(seed: int, kind: str) -> None:
    check(seed, kind)


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.sampled_from(oracle.KINDS))
def test_marginal_map_is_the_oracles(seed: int, kind: str) -> None:
    check(seed, kind)


def diagnosis(findings: int, causes: int) -> pgnn.BayesianNetwork:
    """Findings of many rare diseases each, as noisy-or."""
    rng = np.random.default_rng(5)
    diseases = [pgnn.Variable(f"d{i}", 2) for i in range(causes)]
    conditionals: dict[str, object] = {
        v.name: [1 - p, p] for v, p in zip(diseases, rng.uniform(0.001, 0.1, causes), strict=True)
    }
    edges = []
    for j in range(findings):
        given = [diseases[i] for i in rng.permutation(causes)[: causes - 3 * j]]
        finding = pgnn.Variable(f"f{j}", 2)
        strengths = rng.uniform(0.05, 0.95, len(given)).tolist()
        conditionals[f"f{j}"] = pgnn.NoisyOr(finding, given, strengths, leak=1e-4)
        edges += [(v.name, finding.name) for v in given]
    return pgnn.BayesianNetwork(edges, conditionals)


def test_gates_of_many_causes_have_proved_explanations() -> None:
    """No table of two to the number of causes is made: 12 causes are enumerated, 60 are not."""
    small = diagnosis(3, 12)
    observed = {"f0": 1, "f1": 1, "f2": 0}
    rows = np.array([[k >> i & 1 for i in range(12)] for k in range(2**12)])
    causes = {f"d{i}": rows[:, i] for i in range(12)}
    findings = {n: np.full(len(rows), s) for n, s in observed.items()}
    scores = small.log_prob({**causes, **findings})
    best = small.most_probable(observed, engine=ENGINE)
    assert float(best.log_prob) == pytest.approx(float(scores.max()), rel=1e-12)
    large = diagnosis(6, 60)
    observed = {f"f{j}": int(j != 2) for j in range(6)}
    with pytest.raises(Intractable):
        large.most_probable(observed, engine=pgnn.JunctionTree())
    best = large.most_probable(observed)
    assert best.engine == "BranchAndBound"
    assert float(best.upper_bound) == pytest.approx(float(best.log_prob), rel=1e-9)
    states = dict(best)
    assert float(large.log_prob(states)) == pytest.approx(float(best.log_prob), rel=1e-9)
    for name in [n for n in states if n[0] == "d"]:  # no single change is better
        other = states | {name: 1 - states[name]}
        assert float(large.log_prob(other)) <= float(best.log_prob) + 1e-9


@pytest.mark.usefixtures("no_exact_solutions")
def test_an_unfinished_search_says_so() -> None:
    """Hidden causes that are copied: a maximum before a sum is worth all their states."""
    rng = np.random.default_rng(0)
    targets = [f"x{k}" for k in range(5)]
    model = pgnn.MarkovRandomField([
        pgnn.Factor(
            [pgnn.Variable(f"x{k}", 2), pgnn.Variable(f"h{k}", 2)],
            3.0 * torch.eye(2, dtype=torch.float64) + torch.from_numpy(rng.random((2, 2))),
        )
        for k in range(5)
    ])  # fmt: skip
    exact = model.most_probable(None, targets, engine=pgnn.JunctionTree())
    with pytest.warns(pgnn.NotConverged, match="max_iterations"):
        first = model.most_probable(None, targets, engine=pgnn.BranchAndBound(1, seed=0))
    assert not first.diagnostics["optimal"].any()
    slack = 1e-9 * abs(float(exact.log_prob))
    assert float(first.log_prob) <= float(exact.log_prob) + slack
    assert float(first.upper_bound) >= float(exact.log_prob) - slack
    whole = model.most_probable(None, targets, engine=ENGINE)
    assert float(whole.log_prob) == pytest.approx(float(exact.log_prob), rel=1e-12)


def test_a_bound_that_is_out_of_reach_is_refused() -> None:
    rng = np.random.default_rng(0)
    variables = [pgnn.Variable(k, 2) for k in range(50)]
    tables = [
        pgnn.Factor([variables[i], variables[j]], torch.from_numpy(rng.normal(size=(2, 2))))
        for i in range(50) for j in range(i)
    ]  # fmt: skip
    with pytest.raises(Intractable, match="treewidth 49"):
        pgnn.MarkovRandomField(tables).most_probable(None, [0, 1], engine=ENGINE)
