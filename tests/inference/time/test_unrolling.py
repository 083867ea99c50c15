"""Any engine on models over time, by the unrolled network."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import ImpossibleEvidence, Unsupported
from tests.inference.time.sequence_cases import enumerate_row, model_of, tables
from tests.inference.time.test_forward_backward import autoregressive

GIVEN = tables(np.random.default_rng(1), 3, {"x": 4, "y": 2})
SEEN = {"x": [[0, 3, -1, 2], [1, -1]], "y": [[-1, 1, 1, 0], [0, -1]]}


def test_the_unrolled_network_has_the_same_probability():
    model = model_of(GIVEN)
    network = model.unroll(3)
    assert set(network.variables) == {(n, t) for n in ("state", "x", "y") for t in range(3)}
    assert network.num_free_parameters == model.unroll(3).num_free_parameters
    row = {("x", 0): 1, ("x", 2): 3, ("state", 1): 2}
    assert network.log_prob(row).item() == pytest.approx(
        enumerate_row(GIVEN, {"x": [1, -1, 3], "state": [-1, 2, -1]}, 3).log_z, abs=1e-12
    )
    assert {id(p) for p in network.parameters()} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize(
    "engine",
    [
        pgnn.JunctionTree(),
        pgnn.BeliefPropagation(damping=0.0),
        pgnn.BeliefPropagation(schedule=pgnn.Flooding()),
        pgnn.Automatic(),
    ],
    ids=repr,
)
def test_exact_on_a_chain(engine):
    model = model_of(GIVEN)
    ours, theirs = model.query(evidence=SEEN), model.query(evidence=SEEN, engine=engine)
    for name in ours:
        torch.testing.assert_close(
            theirs.probs(name), ours.probs(name), atol=1e-6, rtol=0, equal_nan=True
        )
    assert theirs.diagnostics or isinstance(engine, pgnn.JunctionTree | pgnn.Automatic)
    best = model.decode(SEEN)
    other = model.most_probable(SEEN, "state", engine=pgnn.JunctionTree())
    assert best["state"].tolist() == other["state"].tolist()


def test_estimates_come_close():
    model = model_of(GIVEN)
    one = {n: rows[0] for n, rows in SEEN.items()}
    exact = model.query(evidence=one)
    gibbs = model.query(evidence=one, engine=pgnn.Gibbs(samples=4000, seed=0))
    field = model.query(evidence=one, engine=pgnn.MeanField())
    weighted = model.query(evidence=one, engine=pgnn.ImportanceSampling(samples=4000, seed=0))
    for found, tolerance in ((gibbs, 0.06), (weighted, 0.1), (field, 0.35)):
        for name in ("state", "x", "y"):
            assert found.probs(name).shape == exact.probs(name).shape
            assert (found.probs(name) - exact.probs(name)).abs().max() < tolerance
    assert gibbs.kind == "estimate"
    assert field.kind == "lower bound"
    assert field.log_evidence <= exact.log_evidence


def test_draws():
    model, n = model_of(GIVEN), 4000
    drawn = model.sample(n, SEEN, engine=pgnn.JunctionTree(), seed=0)
    assert drawn["x"].shape == (n, 2, 4)
    assert (drawn["x"][:, 0, :2] == torch.tensor([0, 3])).all()
    assert (drawn["x"][:, 1, 2:] == -1).all()
    want = model.query(evidence=SEEN)
    share = torch.nn.functional.one_hot(drawn["state"][:, 0], 3).double().mean(0)
    # five standard errors of a share of n draws
    torch.testing.assert_close(share, want.probs("state")[0], atol=2.5 / n**0.5, rtol=0)
    one = model.sample(5, {"T": 3}, engine=pgnn.JunctionTree(), seed=0)
    assert one["y"].shape == (5, 3)


def test_draws_of_real_emissions():
    model = autoregressive()
    drawn = model.sample(6, {"v": [0.2, None, None]}, engine=pgnn.JunctionTree(), seed=0)
    assert drawn["v"].shape == (6, 3)
    torch.testing.assert_close(drawn["v"][:, 0], torch.full((6,), 0.2, dtype=torch.float64))
    assert len(drawn["v"][:, 1].unique()) == 6


def test_rows_without_evidence():
    model = model_of(GIVEN)
    found = model.query("state", {"T": [3, 2]}, engine=pgnn.JunctionTree())
    assert found.probs("state").shape == (2, 3, 3)
    torch.testing.assert_close(found.probs("state")[0, :2], found.probs("state")[1, :2])
    assert found.probs("state")[1, 2].isnan().all()


def test_impossible_rows():
    model = pgnn.HiddenMarkovModel(2, {"x": np.eye(2)}, [1.0, 0.0], np.eye(2))
    observed = {"x": [[0, 0], [0, 1]]}
    for verb in (model.query, model.filter):
        with pytest.raises(ImpossibleEvidence):
            verb(evidence=observed, engine=pgnn.JunctionTree())
    found = model.filter(observed, errors="nan", engine=pgnn.JunctionTree())
    assert found.probs("state")[1].isnan().all()


def test_marginal_maps_that_the_chain_refuses():
    model = model_of(GIVEN)
    with pytest.raises(Unsupported):
        model.most_probable({"y": [0, 1]}, targets="x")
    best = model.most_probable({"y": [0, 1]}, targets="x", engine=pgnn.JunctionTree())
    scores = {
        (a, b): enumerate_row(GIVEN, {"y": [0, 1], "x": [a, b]}, 2).log_z
        for a in range(4)
        for b in range(4)
    }
    assert best.log_prob.item() == pytest.approx(max(scores.values()), abs=1e-9)
    assert tuple(best["x"]) == max(scores, key=lambda s: scores[s])


def test_explanations_and_compiled_queries():
    model = model_of(GIVEN)
    told = model.explain("state", {"x": [0, 1, 2]}, engine=pgnn.JunctionTree())
    assert told.engine == "JunctionTree"
    with pytest.raises(Unsupported, match="unroll"):
        model.compile("state", engine=pgnn.JunctionTree())
    with pytest.raises(Unsupported, match="unroll"):
        model.factors()
