import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, ImpossibleEvidence, ModelError, NotConverged
from pgnn.inference.sampling import chain_starts
from pgnn.inference.sampling.annealed_importance_sampling import AnnealedImportanceSampling
from tests import oracle
from tests.zoo import NUM_ROWS, ZOO


def only(value: np.ndarray) -> float:
    """The one row's figure."""
    assert value.shape == (1,)
    return float(value[0])


QUICK = AnnealedImportanceSampling(chains=400, temperatures=100, seed=0, progress=False)


def ising(side: int, coupling: float, seed: int = 0) -> pgnn.MarkovRandomField:
    """A grid with random fields and couplings."""
    rng = np.random.default_rng(seed)
    at = {(i, j): pgnn.Variable((i, j), 2) for i in range(side) for j in range(side)}
    factors = [pgnn.Factor([v], torch.from_numpy(rng.normal(size=2))) for v in at.values()]
    for (i, j), v in at.items():
        for other in ((i + 1, j), (i, j + 1)):
            if other in at:
                weight = coupling * rng.normal() * np.array([[1.0, -1.0], [-1.0, 1.0]])
                factors.append(pgnn.Factor([v, at[other]], torch.from_numpy(weight)))
    return pgnn.MarkovRandomField(factors)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_models_of_the_zoo(name: str) -> None:
    """Within four of its standard errors, and the sandwich within four of theirs."""
    example = ZOO[name]
    model = example.make()
    found = model.query(None, example.batch(), engine=QUICK, **example.covariates())
    told = found.diagnostics
    assert told["exact_reverse"]
    slack = 10 * example.tolerance
    for r, row in enumerate(example.rows):
        joint = example.joint(r, row)
        exact = oracle.log_evidence(joint)
        # log(1 + x) is within 1.1 x of 0 for the small x that is meant here
        error = 1.1 * float(told["standard_error"][r])
        assert error < 0.1
        assert abs(float(found.log_evidence[r]) - exact) <= 4 * error + slack
        if np.isfinite(told["lower"][r]):
            assert told["lower"][r] <= exact + 4 * told["lower_error"][r] + slack
        assert told["upper"][r] >= exact - 4 * told["upper_error"][r] - slack
        for n in example.names:
            p, q = found[n].probs[r].detach().numpy(), oracle.marginal(joint, [n])
            # a self-normalised mean of numbers in [0, 1]: standard deviation at most
            # sqrt(q (1 - q) / effective size), twice that for the weights' own scatter
            size = float(told["effective_sample_size"][r])
            assert (np.abs(p - q) <= 4 * 2 * np.sqrt(q * (1 - q) / size) + slack).all()
    assert told["converged"].shape == (NUM_ROWS,)


def test_weights_are_unbiased() -> None:
    """The mean of many short runs' weights is Z, though each log weight is far off."""
    model = ising(3, 0.8)
    exact = float(model.query([], {}).log_evidence)
    engine = AnnealedImportanceSampling(
        chains=20000, temperatures=3, seed=5, reverse=False, progress=False
    )
    found = model.query([], {}, engine=engine)
    error = only(found.diagnostics["standard_error"])
    assert error < 0.05
    assert abs(np.expm1(float(found.log_evidence) - exact)) < 4 * error
    # so far below that the bound is not the estimate by another name
    assert found.diagnostics["lower"] < exact - 0.5


def test_the_way_back_is_unbiased_too() -> None:
    """exp(-log weight) of exact reverse chains has mean Z_0 / Z; the bound is well above."""
    model = ising(3, 0.8)
    exact = float(model.query([], {}).log_evidence)
    few = AnnealedImportanceSampling(chains=4000, temperatures=3, seed=1, progress=False)
    many = AnnealedImportanceSampling(chains=4000, temperatures=300, seed=1, progress=False)
    loose, close = (model.query([], {}, engine=e).diagnostics for e in (few, many))
    assert loose["upper"] > exact + 0.5
    for told in (loose, close):
        assert told["lower"] <= exact + 4 * told["lower_error"]
        assert told["upper"] >= exact - 4 * told["upper_error"]
    assert close["upper"] - close["lower"] < 0.1 * (loose["upper"] - loose["lower"])


def test_no_couplings_no_variance() -> None:
    rng = np.random.default_rng(0)
    a, b = pgnn.Variable("a", 3), pgnn.Variable("b", 2)
    fields = [torch.from_numpy(rng.normal(size=n)) for n in (3, 2)]
    flat = torch.zeros(3, 2, dtype=torch.float64)
    model = pgnn.MarkovRandomField(
        [pgnn.Factor([a], fields[0]), pgnn.Factor([b], fields[1]), pgnn.Factor([a, b], flat)]
    )
    found = model.query(None, {}, engine=QUICK)
    exact = float(fields[0].logsumexp(0) + fields[1].logsumexp(0))
    bounds = (only(found.diagnostics["lower"]), only(found.diagnostics["upper"]))
    for value in (float(found.log_evidence), *bounds):
        assert value == pytest.approx(exact, rel=1e-12)
    assert only(found.diagnostics["standard_error"]) == pytest.approx(0.0, abs=1e-12)
    assert only(found.diagnostics["effective_sample_size"]) == pytest.approx(400)
    np.testing.assert_allclose(found["a"].probs, fields[0].softmax(0))


def test_soft_evidence_counts() -> None:
    example = ZOO["sprinkler"]
    soft = np.array([0.3, 1.5])
    found = example.make().query(None, {"wet": torch.from_numpy(soft)}, engine=QUICK)
    joint = oracle.joint(example.cards, example.tables(0), None, {"wet": soft})
    exact = oracle.log_evidence(joint)
    told = found.diagnostics
    assert abs(float(found.log_evidence) - exact) < 4 * 1.1 * only(told["standard_error"])


def test_a_grid_that_the_junction_tree_solves() -> None:
    model = ising(8, 0.7, 3)
    exact = float(model.query([], {}).log_evidence)
    engine = AnnealedImportanceSampling(chains=100, temperatures=500, seed=2, progress=False)
    found = model.query([], {}, engine=engine)
    told = found.diagnostics
    assert abs(float(found.log_evidence) - exact) < 4 * 1.1 * only(told["standard_error"])
    assert told["lower"] - 4 * told["lower_error"] < exact < told["upper"] + 4 * told["upper_error"]
    assert 0 < told["upper"] - told["lower"] < 2.0


def test_without_exact_samples_it_says_so(monkeypatch) -> None:
    monkeypatch.setattr(chain_starts, "_LARGEST", 1)
    model = ising(3, 0.5)
    exact = float(model.query([], {}).log_evidence)
    told = model.query([], {}, engine=QUICK).diagnostics
    assert not told["exact_reverse"]
    # starts that are resampled from 400 chains of large weight: nearly samples of the model
    assert told["upper"] > exact - 4 * told["upper_error"] - 0.05


def test_draws_are_weighted() -> None:
    example = ZOO["sprinkler"]
    model = example.make()
    samples = model.sample(4000, {"wet": 1}, engine=QUICK, seed=1)
    weights = (samples.log_weights - samples.log_weights.logsumexp(0)).exp().numpy()
    joint = example.joint(0, {"wet": 1})
    mean = float(np.log(np.exp(samples.log_weights.numpy()).mean()))
    size = 1.0 / (weights**2).sum()
    for name in ("rain", "cloudy"):
        q = oracle.marginal(joint, [name])[1]
        p = float((weights * (samples[name].numpy() == 1)).sum())
        assert abs(p - q) < 4 * 2 * np.sqrt(q * (1 - q) / size)
    assert np.isfinite(mean)


def test_seeds() -> None:
    model = ising(3, 0.5)
    first, again = (model.query(None, {}, engine=QUICK) for _ in range(2))
    assert first.log_evidence == again.log_evidence
    assert first.diagnostics["upper"] == again.diagnostics["upper"]
    other = AnnealedImportanceSampling(chains=400, temperatures=100, seed=1, progress=False)
    assert model.query(None, {}, engine=other).log_evidence != first.log_evidence


def test_impossible_and_unlucky_rows(monkeypatch) -> None:
    tables = {"a": [0.0, 1.0], "b": [[1.0, 0.0], [0.0, 1.0]]}
    model = pgnn.BayesianNetwork([("a", "b")], tables)
    with pytest.raises(ImpossibleEvidence):
        model.query(None, {"a": 0}, engine=QUICK)
    a, b = pgnn.Variable("a", 2), pgnn.Variable("b", 2)
    nothing = pgnn.MarkovRandomField(
        [pgnn.Factor([a, b], torch.full((2, 2), -torch.inf, dtype=torch.float64))]
    )
    with pytest.raises(ImpossibleEvidence):
        nothing.query(None, {}, engine=QUICK)
    with pytest.raises(ImpossibleEvidence):
        nothing.sample(2, {}, engine=QUICK)
    # as if nothing could be proved
    unproven = "pgnn.inference.sampling.annealed_importance_sampling.proven_impossible"
    monkeypatch.setattr(unproven, lambda question, doubted: np.zeros_like(doubted))
    for ask in (nothing.query, lambda **told: nothing.sample(2, **told)):
        with pytest.raises(EvidenceError, match="found no state of positive") as caught:
            ask(engine=QUICK)
        assert not isinstance(caught.value, ImpossibleEvidence)
    with pytest.warns(NotConverged, match="more temperatures"):
        found = nothing.query(None, {}, engine=QUICK, errors="nan")
    assert torch.isnan(found.log_evidence)
    assert torch.isnan(found["a"].probs).all()
    assert np.isneginf(found.diagnostics["lower"])


def test_settings_are_checked() -> None:
    with pytest.raises(ModelError, match="temperatures must be at least 1"):
        AnnealedImportanceSampling(temperatures=0)
    for wrong in ((0.0, 0.5), (0.1, 1.0), (0.0, 0.6, 0.6, 1.0), (0.0, 0.7, 0.5, 1.0)):
        with pytest.raises(ModelError, match="increase from 0 to 1"):
            AnnealedImportanceSampling(temperatures=wrong)
    for name in ("chains", "sweeps"):
        with pytest.raises(ModelError, match=name):
            AnnealedImportanceSampling(**{name: 0})
    engine = AnnealedImportanceSampling(10, (0.0, 0.1, 0.4, 1.0), sweeps=2, seed=0, progress=False)
    assert torch.isfinite(ising(2, 0.3).query(None, {}, engine=engine).log_evidence)
