"""Hundreds of diseases and findings: exact answers against the quickscore recursion."""

import itertools
from decimal import Decimal, localcontext
from math import prod

import numpy as np
import pytest

import pgnn

CAUSES, FINDINGS, PRESENT = 300, 600, 5


def network(seed: int) -> tuple[pgnn.BayesianNetwork, np.ndarray, np.ndarray, np.ndarray]:
    """Two layers of noisy-or; priors, ``(F, C)`` shares that do not get through, and leaks."""
    rng = np.random.default_rng(seed)
    priors, leaks = rng.uniform(0.001, 0.05, CAUSES), rng.uniform(0.001, 0.02, FINDINGS)
    blocked = np.ones((FINDINGS, CAUSES))
    diseases = [pgnn.Variable(f"d{i}", 2) for i in range(CAUSES)]
    conditionals: dict[str, object] = {
        v.name: [1 - p, p] for v, p in zip(diseases, priors.tolist(), strict=True)
    }
    edges = []
    for j in range(FINDINGS):
        parents = rng.choice(CAUSES, int(rng.integers(2, 7)), replace=False)
        strengths = rng.uniform(0.1, 0.9, len(parents))
        blocked[j, parents] = 1 - strengths
        finding, given = pgnn.Variable(f"f{j}", 2), [diseases[i] for i in parents]
        gate = pgnn.NoisyOr(finding, given, strengths.tolist(), leak=float(leaks[j]))
        conditionals[finding.name] = gate
        edges += [(v.name, finding.name) for v in given]
    return pgnn.BayesianNetwork(edges, conditionals), priors, blocked, leaks


def quickscore(
    priors: np.ndarray,
    blocked: np.ndarray,
    leaks: np.ndarray,
    present: list[int],
    absent: list[int],
) -> tuple[float, np.ndarray]:
    r"""Sums over subsets of what is present (Heckerman 1989), with digits enough to cancel.

    .. math:: p(F) = \sum_{S \subseteq F^+} (-1)^{|S|} \prod_{j \in S \cup F^-} (1 - l_j)
        \prod_i \Bigl(1 - p_i + p_i \prod_{j \in S \cup F^-} q_{ji}\Bigr)
    """
    with localcontext() as context:
        context.prec = 50
        p = [Decimal(float(x)) for x in priors]
        total, shares = Decimal(0), [Decimal(0)] * len(p)
        for size in range(len(present) + 1):
            for chosen in itertools.combinations(present, size):
                some = [*chosen, *absent]
                through = [
                    x * prod(Decimal(float(q)) for q in blocked[some, i] if q != 1.0)
                    for i, x in enumerate(p)
                ]
                factors = [1 - x + y for x, y in zip(p, through, strict=True)]
                value = (-1) ** size * prod(1 - Decimal(float(leaks[j])) for j in some)
                value *= prod(factors)
                total += value
                shares = [
                    s + value * y / f for s, y, f in zip(shares, through, factors, strict=True)
                ]
        return float(total.ln()), np.array([float(s / total) for s in shares])


def test_hundreds_of_diseases_and_findings() -> None:
    model, priors, blocked, leaks = network(0)
    observed = np.random.default_rng(1).choice(FINDINGS, 30, replace=False).tolist()
    present, absent = observed[:PRESENT], observed[PRESENT:]
    evidence = {f"f{j}": int(j in present) for j in observed}
    names = [f"d{i}" for i in range(CAUSES)]
    found = model.query(names, evidence)
    assert found.kind == "exact"
    log_evidence, marginals = quickscore(priors, blocked, leaks, present, absent)
    np.testing.assert_allclose(float(found.log_evidence), log_evidence, atol=1e-9)
    np.testing.assert_allclose([float(found[n].probs[1]) for n in names], marginals, atol=1e-9)
    # as many present as are observed: the recursion would take a billion sums
    everything = model.explain(names, {f"f{j}": 1 for j in observed})
    assert everything.engine == "JunctionTree"
    assert everything.fits


def crossing_gates(shuffled: bool) -> pgnn.BayesianNetwork:
    """Twelve findings of 48 of 60 diseases each, listed in orders of their own."""
    rng = np.random.default_rng(7)
    diseases = [pgnn.Variable(f"d{i}", 2) for i in range(60)]
    conditionals: dict[str, object] = {v.name: [0.99, 0.01] for v in diseases}
    edges = []
    for j in range(12):
        chosen = np.sort(rng.choice(60, 48, replace=False))
        strengths = rng.uniform(0.1, 0.9, 48)
        order = rng.permutation(48)
        order = order if shuffled else np.sort(order)
        given = [diseases[i] for i in chosen[order]]
        gate = pgnn.NoisyOr(pgnn.Variable(f"f{j}", 2), given, strengths[order].tolist(), leak=0.001)
        conditionals[f"f{j}"] = gate
        edges += [(v.name, f"f{j}") for v in given]
    return pgnn.BayesianNetwork(edges, conditionals)


def test_all_gates_combine_their_causes_in_one_order() -> None:
    """The width is then about that of the findings present, however causes are listed."""
    present = {f"f{j}": 1 for j in range(8)} | {f"f{j}": 0 for j in range(8, 12)}
    answers = []
    for shuffled in (False, True):
        model = crossing_gates(shuffled)
        told = model.explain(None, present)
        assert told.engine == "JunctionTree"
        assert told.treewidth <= 8 + 2
        answers.append(model.query(None, present))
        joint = answers[-1].joint("d0", "d1")
        assert np.allclose(joint.values.sum(-1), answers[-1]["d0"].probs)
    for name in ("d0", "d17", "d59"):
        np.testing.assert_allclose(answers[0][name].probs, answers[1][name].probs, atol=1e-12)
    np.testing.assert_allclose(answers[0].log_evidence, answers[1].log_evidence, rtol=1e-12)


@pytest.mark.parametrize("step", [1, -1])
def test_hidden_effects_go_with_the_causes_of_an_order_given_by_hand(step: int) -> None:
    causes = [pgnn.Variable(f"d{i}", 2) for i in range(40)]
    gate = pgnn.NoisyOr(pgnn.Variable("f", 2), causes, [0.3] * 40, leak=0.01)
    priors = {v.name: [0.95, 0.05] for v in causes}
    model = pgnn.BayesianNetwork([(v.name, "f") for v in causes], {**priors, "f": gate})
    names = [*priors][::step]
    engine = pgnn.JunctionTree(order=[*names, "f"])
    assert model.explain(None, {"f": 1}, engine=engine).treewidth <= 4
    by_hand, chosen = (model.query(None, {"f": 1}, engine=e) for e in (engine, None))
    np.testing.assert_allclose(by_hand.log_evidence, chosen.log_evidence, rtol=1e-12)
    np.testing.assert_allclose(by_hand["d7"].probs, chosen["d7"].probs, rtol=1e-12)
