"""Likelihood weighting against enumeration, its own standard errors, and a twin in NumPy."""

import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import pgnn
from pgnn import Factor, Variable
from pgnn.errors import ImpossibleEvidence, ModelError, NotConverged, Unsupported
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.sampling import likelihood_weighting
from pgnn.inference.sampling.importance_sampling import ImportanceSampling
from pgnn.inference.sampling.likelihood_weighting import directed_tables
from tests import oracle
from tests.zoo import NUM_ROWS, ZOO

DIRECTED = [n for n, e in ZOO.items() if isinstance(e.make(), pgnn.BayesianNetwork)]


def sampler(samples: int = 20_000, seed: int = 0) -> ImportanceSampling:
    return ImportanceSampling(samples, seed=seed, progress=False)


def network(seed: int, **options: Any) -> tuple[pgnn.Model, oracle.Network]:
    drawn = oracle.random_network(np.random.default_rng(seed), "loop", 6, **options)
    graph = nx.DiGraph()
    graph.add_nodes_from((n, {"states": k}) for n, k in drawn.cards.items())
    graph.add_edges_from(drawn.edges)
    return pgnn.BayesianNetwork(graph, drawn.probabilities), drawn


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
@pytest.mark.parametrize("name", DIRECTED)
def test_the_zoo_within_its_standard_errors(name) -> None:
    """Rows of all kinds, with real variables and inputs, soft evidence on some.

    Each error is at most 5 standard errors, or 3 draws' weight where an estimate is 0 or 1.
    """
    example = ZOO[name]
    model = example.make()
    soft = {n: torch.from_numpy(np.stack([p] * NUM_ROWS)) for n, p in example.soft.items()}
    for likelihoods in ({}, soft):
        batch = {n: x for n, x in example.batch().items() if n not in likelihoods} | likelihoods
        found = model.query(evidence=batch, engine=sampler(), **example.covariates())
        assert (found.kind, found.engine) == ("estimate", "ImportanceSampling")
        size = found.diagnostics["effective_sample_size"].numpy()
        for r, row in enumerate(example.rows):
            observed = {n: s for n, s in row.items() if n not in likelihoods}
            joint = example.joint(r, observed, example.soft if likelihoods else None)
            slack = 5 * found.diagnostics["log_evidence_standard_error"][r].item() + 1e-6
            expected = oracle.log_evidence(joint)
            assert abs(found.log_evidence[r].item() - expected) <= slack
            for n in example.names:
                p, error = found[n].probs[r], found.diagnostics["standard_error"][n][r]
                off = np.abs(p.detach().numpy() - oracle.marginal(joint, [n]))
                assert (off <= 5 * error.numpy() + 3 / size[r] + 1e-6).all()


@pytest.mark.parametrize("seed", range(8))
def test_random_networks_with_zeros(seed) -> None:
    model, drawn = network(seed, zeros=0.3)
    row = oracle.random_evidence(np.random.default_rng(seed), drawn.joint(), 0.3)
    joint = drawn.joint(row)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        found = model.query(evidence=row, engine=sampler(50_000))
    size = float(found.diagnostics["effective_sample_size"])
    assert size > 10
    slack = 5 * float(found.diagnostics["log_evidence_standard_error"]) + 1e-9
    assert abs(float(found.log_evidence) - oracle.log_evidence(joint)) <= slack
    for n in drawn.cards:
        off = np.abs(found[n].probs.numpy() - oracle.marginal(joint, [n]))
        assert (off <= 5 * found.diagnostics["standard_error"][n].numpy() + 3 / size).all()
        impossible = oracle.marginal(joint, [n]) == 0
        assert (found[n].probs.numpy()[impossible] == 0).all()


def test_sums_are_those_of_the_draws() -> None:
    """The estimates written down from the draws that `sample` returns, weights and all."""
    model, drawn = network(3)
    rows = oracle.random_evidence(np.random.default_rng(0), drawn.joint(), 0.3, 3)
    evidence = {n: torch.tensor([row.get(n, -1) for row in rows]) for n in drawn.cards}
    n = 5000
    samples = model.sample(n, evidence, engine=sampler(n), seed=0)
    found = model.query(evidence=evidence, engine=sampler(n))
    states = {name: samples[name].numpy() for name in drawn.cards}
    w = np.exp(samples.log_weights.numpy())
    assert w.shape == (n, 3)
    for r, row in enumerate(rows):
        expected = np.ones(n)
        for name in row:
            assert (states[name][:, r] == row[name]).all()
            parents = tuple(states[p][:, r] for p in drawn.parents[name])
            expected *= drawn.probabilities[name][(*parents, states[name][:, r])]
        np.testing.assert_allclose(w[:, r], expected, rtol=1e-12)
        mine = w[:, r]
        assert float(found.log_evidence[r]) == pytest.approx(np.log(mine.mean()), abs=1e-10)
        size = mine.sum() ** 2 / (mine**2).sum()
        assert float(found.diagnostics["effective_sample_size"][r]) == pytest.approx(size)
        relative = mine.std(ddof=1) / np.sqrt(n) / mine.mean()
        got = float(found.diagnostics["log_evidence_standard_error"][r])
        assert got == pytest.approx(relative, rel=1e-9, abs=1e-12)
        for name, k in drawn.cards.items():
            hits = states[name][:, r, None] == np.arange(k)
            p = (mine[:, None] * hits).sum(axis=0) / mine.sum()
            np.testing.assert_allclose(found[name].probs[r], p, atol=1e-12)
            error = np.sqrt(((mine[:, None] * (hits - p)) ** 2).sum(axis=0)) / mine.sum()
            got = found.diagnostics["standard_error"][name][r]
            np.testing.assert_allclose(got, error, atol=1e-9)


def test_free_draws_are_distributed_as_the_model() -> None:
    """Chi-square of all joint states without evidence: below its 1 - 1e-6 quantile."""
    from scipy.stats import chi2

    model, drawn = network(1)
    n = 40_000
    samples = model.sample(n, engine=sampler(), seed=5)
    table = drawn.joint().table
    cells = np.ravel_multi_index([samples[v].numpy() for v in drawn.cards], table.shape)
    counts = np.bincount(cells, minlength=table.size)
    expected = n * table.ravel()
    assert (counts[expected == 0] == 0).all()
    common = expected >= 5
    rest = expected[~common].sum()
    observed = np.append(counts[common], counts[~common].sum())
    mean = np.append(expected[common], max(rest, 1e-300))
    statistic = ((observed - mean) ** 2 / mean)[mean >= 5].sum()
    assert statistic < chi2.ppf(1 - 1e-6, (mean >= 5).sum())
    assert samples.log_weights.tolist() == [0.0] * n


@pytest.fixture(scope="module")
def repeats() -> tuple[pgnn.Model, oracle.Joint, list[Any]]:
    """The same question 200 times, with few draws each."""
    model, drawn = network(3, zeros=0.0, one_state=0.0)
    leaves = [n for n in drawn.cards if not any(n in pa for pa in drawn.parents.values())]
    row = dict.fromkeys(leaves[:2], 0)
    found = [model.query(evidence=row, engine=sampler(2000, seed)) for seed in range(200)]
    return model, drawn.joint(row), found


def test_the_evidence_is_estimated_without_bias(repeats) -> None:
    """Mean of the estimates of p(e), within 4 of its own standard errors."""
    _, joint, found = repeats
    estimates = np.exp([float(f.log_evidence) for f in found])
    error = estimates.std(ddof=1) / np.sqrt(len(found))
    assert abs(estimates.mean() - oracle.evidence_probability(joint)) < 4 * error


def test_standard_errors_cover(repeats) -> None:
    """Standardised errors have variance one: 200 repeats of a chi-square, 1e-6 to each side."""
    from scipy.stats import chi2

    _, joint, found = repeats
    low, high = chi2.ppf([1e-6, 1 - 1e-6], len(found))
    log_errors = np.array(
        [
            (float(f.log_evidence) - oracle.log_evidence(joint))
            / float(f.diagnostics["log_evidence_standard_error"])
            for f in found
        ]
    )
    assert low < (log_errors**2).sum() < high
    for name, truth in oracle.marginals(joint).items():
        if truth.max() > 0.99 or truth.min() < 0.01:
            continue  # few draws there: not normal
        z = np.array(
            [
                float((f[name].probs[0] - truth[0]) / f.diagnostics["standard_error"][name][0])
                for f in found
            ]
        )
        assert low < (z**2).sum() < high


def test_pieces_and_seeds(monkeypatch) -> None:
    """Draws do not depend on how they are cut; the same seed, the same answer."""
    model, drawn = network(1)
    leaf = max(drawn.parents, key=lambda n: len(drawn.parents[n]))
    evidence = {leaf: torch.tensor([0, -1])}
    whole = model.query(evidence=evidence, engine=sampler(7000))
    again = model.query(evidence=evidence, engine=sampler(7000))
    other = model.query(evidence=evidence, engine=sampler(7000, 1))
    monkeypatch.setattr(likelihood_weighting, "_CELLS", 1)
    monkeypatch.setattr(likelihood_weighting, "_LEAST_PIECE", 3)  # largest weights that differ
    cut = model.query(evidence=evidence, engine=sampler(7000))
    size = "effective_sample_size"
    np.testing.assert_allclose(cut.diagnostics[size], whole.diagnostics[size], rtol=1e-9)
    assert float(whole.diagnostics[size][0]) < 6900
    assert torch.equal(whole.log_evidence, again.log_evidence)
    np.testing.assert_allclose(cut.log_evidence, whole.log_evidence, atol=1e-12)
    for name in drawn.cards:
        assert torch.equal(whole[name].probs, again[name].probs)
        np.testing.assert_allclose(cut[name].probs, whole[name].probs, atol=1e-12)
    assert any(not torch.equal(whole[n].probs, other[n].probs) for n in drawn.cards)
    first = model.query(evidence={leaf: torch.tensor([0])}, engine=sampler(7000))
    np.testing.assert_allclose(first.log_evidence, whole.log_evidence[:1], atol=1e-12)


def test_complete_rows_are_exact() -> None:
    model, drawn = network(4)
    rows = oracle.random_evidence(np.random.default_rng(1), drawn.joint(), 1.1, 4)
    evidence = {n: torch.tensor([row[n] for row in rows]) for n in drawn.cards}
    found = model.query(evidence=evidence, engine=sampler(200))
    expected = [oracle.log_evidence(drawn.joint(row)) for row in rows]
    np.testing.assert_allclose(found.log_evidence, expected, atol=1e-9)
    assert found.diagnostics["log_evidence_standard_error"].abs().max() < 1e-7
    np.testing.assert_allclose(found.diagnostics["effective_sample_size"], 200.0)


def test_no_rows_and_no_targets() -> None:
    model, drawn = network(4)
    name = next(iter(drawn.cards))
    none = model.query([], {name: torch.zeros(0, dtype=torch.int64)}, engine=sampler(200))
    assert none.log_evidence.shape == (0,)
    assert list(model.query([], engine=sampler(200))) == []
    drawn_rows = model.sample(0, engine=sampler())
    assert drawn_rows[name].shape == (0,)


def test_axes_in_any_order() -> None:
    """A child's axis need not be the last one; nor its parents' in the order of variables."""
    rng = np.random.default_rng(0)
    a, b, c = Variable("a", 2), Variable("b", 3), Variable("c", 2)
    tables = [np.log(oracle.random_table(rng, shape, k)) for shape, k in (([], 2), ([2], 3))]
    last = torch.from_numpy(np.log(oracle.random_table(rng, [3, 2], 2)))
    roots = [Factor([a], torch.from_numpy(tables[0]), "a")]
    roots.append(Factor([a, b], torch.from_numpy(tables[1]), "b"))
    straight = FactorGraph((a, b, c), (*roots, Factor([b, a, c], last, "c")))
    turned = FactorGraph((a, b, c), (Factor([c, b, a], last.permute(2, 0, 1), "c"), *roots))
    for one, two in zip(directed_tables(straight, 1), directed_tables(turned, 1), strict=True):
        np.testing.assert_array_equal(one, two)


# --- what goes wrong ------------------------------------------------------------------------------


def chain(rare: float) -> pgnn.Model:
    """``a`` is rarely 1, and ``b`` is ``a``."""
    return pgnn.BayesianNetwork([("a", "b")], {"a": [1 - rare, rare], "b": np.eye(2)})


def test_no_draw_agreed_is_not_called_impossible() -> None:
    model = chain(1e-12)
    with pytest.warns(NotConverged, match="none of 1000 draws agreed with the evidence in 1 of 2"):
        found = model.query("a", {"b": torch.tensor([1, 0])}, engine=sampler(1000))
    assert found["a"].probs[0].isnan().all()
    assert found.log_evidence[0] == -np.inf
    assert found["a"].probs[1].tolist() == [1.0, 0.0]


def test_impossible_is_called_impossible() -> None:
    with pytest.raises(ImpossibleEvidence, match="1 of 1 rows"):
        chain(0.3).query(None, {"a": 1, "b": 0}, engine=sampler(1000))
    found = chain(0.3).query("a", {"a": 1, "b": 0}, engine=sampler(1000), errors="nan")
    assert found["a"].probs.isnan().all()


def test_few_effective_draws_are_told() -> None:
    with pytest.warns(
        NotConverged, match=r"1000 draws are equivalent to \S+ independent ones, too few for a"
    ):
        chain(0.01).query("a", {"b": 1}, engine=sampler(1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chain(0.5).query("a", {"b": 1}, engine=sampler(1000))


def test_refusals() -> None:
    model = ZOO["markov"].make()
    with pytest.raises(Unsupported, match=r"has no table given its parents; use Gibbs\(\)"):
        model.query(engine=sampler())
    with pytest.raises(Unsupported, match="does not maximise"):
        chain(0.5).most_probable({"b": 1}, engine=sampler())
    with pytest.raises(ModelError, match="samples must be at least 1"):
        ImportanceSampling(0)
