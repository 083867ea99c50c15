"""Mixtures of models: against their own factors, enumeration, and one EM step in NumPy."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import ModelError
from pgnn.inference.learning.e_steps import e_step_of

SIZES = {"a": 2, "b": 3, "c": 2}
EVERY = np.array(list(itertools.product(*map(range, SIZES.values()))))
CELLS = {n: EVERY[:, k] for k, n in enumerate(SIZES)}


def network(
    seed: int, edges: list[tuple[str, str]], learnable: bool = True
) -> pgnn.BayesianNetwork:
    rng = np.random.default_rng(seed)
    parents = {n: [u for u, v in edges if v == n] for n in SIZES}
    tables = {
        n: rng.dirichlet(np.ones(k), size=[SIZES[p] for p in parents[n]]) for n, k in SIZES.items()
    }
    model = pgnn.BayesianNetwork(edges, tables, SIZES)
    return model.requires_grad_() if learnable else model


def mixture() -> pgnn.ModelMixture:
    parts = [network(0, [("a", "b"), ("b", "c")]), network(1, [("c", "a"), ("a", "b")])]
    model = pgnn.ModelMixture(parts, labels=["u", "v"], name="k")
    model.weights.set_probs([0.3, 0.7])
    for p in model.parameters():
        p.requires_grad_(False)
    return model


def trees(count: int, pseudo: float = 0.1) -> pgnn.ModelMixture:
    return pgnn.ModelMixture([pgnn.ChowLiuTree(SIZES, pseudo_count=pseudo) for _ in range(count)])


def drawn(n: int = 400, missing: float = 0.0) -> dict[str, np.ndarray]:
    found = mixture().sample(n, seed=0)
    rows = {name: found[name].numpy().copy() for name in SIZES}
    for k, x in enumerate(rows.values()):
        x[np.random.default_rng(k).random(n) < missing] = -1
    return rows


def test_sums_to_one_and_equals_its_factors() -> None:
    model, exact = mixture(), pgnn.JunctionTree()
    parts = torch.stack([c.log_prob(CELLS) for c in model.components], dim=1).exp()
    expected = parts @ torch.tensor([0.3, 0.7]).double()
    torch.testing.assert_close(model.log_prob(CELLS).exp(), expected)
    assert float(expected.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(model.log_prob(CELLS, engine=exact).exp(), expected)
    share = model.query("k", CELLS)["k"].probs
    torch.testing.assert_close(share[:, 0], 0.3 * parts[:, 0] / expected)


@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"b": 1},
        {"k": "v", "c": 0},
        {"a": [0, 1, None], "b": [2, None, None], "k": ["u", None, "v"]},
        {"a": [0.2, 0.9], "c": 1},
    ],
)
def test_answers_equal_those_of_the_factors(evidence: dict) -> None:
    model, exact = mixture(), pgnn.JunctionTree()
    own, other = model.query(None, evidence), model.query(None, evidence, engine=exact)
    assert own.kind == "exact"
    torch.testing.assert_close(own.log_evidence, other.log_evidence)
    for name in model.variables:
        torch.testing.assert_close(own[name].probs, other[name].probs)
    best, expected = model.most_probable(evidence), model.most_probable(evidence, engine=exact)
    torch.testing.assert_close(best.log_prob, expected.log_prob)
    assert torch.equal(best.codes, expected.codes)
    best = model.most_probable(evidence, ["k", "a"])
    torch.testing.assert_close(
        best.log_prob, model.most_probable(evidence, ["k", "a"], engine=exact).log_prob
    )


def test_draws_have_the_probabilities_of_the_answers() -> None:
    model, n = mixture(), 4000
    found = model.sample(n, {"b": [1, 2]}, seed=0)
    answer = model.query(None, {"b": [1, 2]})
    assert found["b"].unique(dim=0).tolist() == [[1, 2]]
    for name in ("k", "a", "c"):
        p = answer[name].probs[:, 1]
        share = (found[name] == 1).double().mean(dim=0)
        assert bool(((share - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-9).all())
    assert model.sample(3, seed=1)["a"].equal(model.sample(3, seed=1)["a"])


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_one_step_is_that_of_weighted_counts() -> None:
    rows = drawn()
    model = mixture().requires_grad_()
    logs = torch.stack([c.log_prob(rows).detach() for c in model.components], dim=1)
    share = (logs + torch.tensor([0.3, 0.7]).log()).softmax(dim=1)
    model.fit(rows, learner=pgnn.EM(max_iterations=1, initialize=False), progress=False)
    torch.testing.assert_close(model.weights.probs, share.mean(0), check_dtype=False)
    for k, c in enumerate(model.components):
        alone = network(k, list(c.graph.edges)).fit(rows, weights=share[:, k], progress=False)
        for name in SIZES:
            torch.testing.assert_close(c.conditionals[name].probs, alone.conditionals[name].probs)


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")  # after few steps
@pytest.mark.parametrize("kind", ["trees", "networks", "holes"])
def test_learning_never_falls_and_leaves_symmetric_starts(kind: str) -> None:
    rows = drawn(missing=0.2 if kind == "holes" else 0.0)
    make = {
        "trees": lambda: trees(2),
        "networks": lambda: pgnn.ModelMixture(
            [pgnn.BayesianNetwork([("a", "b"), ("b", "c")], states=SIZES) for _ in range(2)]
        ),
    }
    model = make.get(kind, make["networks"])()
    assert e_step_of(model).symmetric(e_step_of(model).read(rows, None, None))
    model.fit(rows, learner=pgnn.EM(max_iterations=60), seed=0, progress=False)
    trace = model.history["trace"]["objective"]
    assert all(b >= a - 1e-9 * abs(a) for a, b in itertools.pairwise(trace))
    parts = [c.log_prob(CELLS) for c in model.components]
    assert float((parts[0] - parts[1]).abs().max()) > 0.1
    single = pgnn.ModelMixture([make.get(kind, make["networks"])().components[0]])
    single.fit(rows, seed=0, progress=False)
    assert float(model.log_prob(rows).sum()) > float(single.log_prob(rows).sum()) + 1.0
    assert float(model.log_prob(CELLS).exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_sequences_are_told_apart() -> None:
    def make(stay: float, learn: bool = False) -> pgnn.HiddenMarkovModel:
        moves = [[stay, 1 - stay], [1 - stay, stay]]
        return pgnn.HiddenMarkovModel(
            2,
            {"x": [[0.9, 0.1], [0.1, 0.9]]},
            [0.5, 0.5],
            None if learn else moves,
        )

    truth = pgnn.SequenceMixture([make(0.95), make(0.1)], [0.5, 0.5])
    own = [make(s).sample(1, {"T": [60] * 20}, seed=3)["x"][0] for s in (0.95, 0.1)]
    rows = {"x": torch.cat(own)}
    share = truth.query("component", rows)["component"].probs
    assert share[:20, 0].min() > 0.99
    assert share[20:, 1].min() > 0.99
    logs = torch.stack([c.log_prob(rows) for c in truth.components])
    torch.testing.assert_close(truth.log_prob(rows), logs.logsumexp(0) - np.log(2))
    learnt = pgnn.SequenceMixture([make(0.0, learn=True), make(0.0, learn=True)])
    learnt.fit(rows, learner=pgnn.EM(restarts=3), seed=0, progress=False)
    assert float(learnt.log_prob(rows).sum()) > float(truth.log_prob(rows).sum())
    found = learnt.query("component", rows)["component"].probs.argmax(-1)
    assert len(set(found[:20].tolist())) == len(set(found[20:].tolist())) == 1
    assert truth.sample(5, {"T": 7}, seed=0)["x"].shape == (5, 7)


def test_reals_are_mixed_too() -> None:
    parts = [pgnn.BayesianNetwork([], {"x": pgnn.Gaussian(pgnn.Variable("x"))}) for _ in range(2)]
    x = np.random.default_rng(0).normal(size=100)
    x[50:] += 20.0
    x[::10] = np.nan
    model = pgnn.ModelMixture(parts).fit({"x": x}, seed=0, progress=False)
    means = sorted(c.conditionals["x"].mean.item() for c in model.components)
    assert means == pytest.approx([np.nanmean(x[:50]), np.nanmean(x[50:])], abs=1e-6)
    assert model.sample(6, seed=0)["x"].shape == (6,)


def test_is_kept(tmp_path: Path) -> None:
    rows = drawn()
    model = trees(2).fit(rows, learner=pgnn.EM(tolerance=1e-3), seed=0, progress=False)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert type(again) is pgnn.ModelMixture
    assert again.log_prob(rows).equal(model.log_prob(rows))


def test_fields_are_asked() -> None:
    tables = [np.random.default_rng(k).gamma(1.0, size=(2, 3)) * (1 + 9 * k) for k in range(2)]
    a, b = pgnn.Variable("a", 2), pgnn.Variable("b", 3)
    fields = [pgnn.MarkovRandomField([pgnn.TabularPotential([a, b], t)]) for t in tables]
    model = pgnn.ModelMixture(fields, [0.25, 0.75])
    joint = 0.25 * tables[0] / tables[0].sum() + 0.75 * tables[1] / tables[1].sum()
    found = model.query("a", {"b": 1})
    np.testing.assert_allclose(found["a"].probs, joint[:, 1] / joint[:, 1].sum())
    assert float(found.log_evidence) == pytest.approx(np.log(joint[:, 1].sum()))
    each = [w * t / t.sum() for w, t in zip((0.25, 0.75), tables, strict=True)]
    best = model.most_probable()
    assert float(best.log_prob) == pytest.approx(np.log(np.max(each)))
    place = np.unravel_index(np.argmax(each), (2, 2, 3))
    assert (best["component"], best["a"], best["b"]) == tuple(map(int, place))


def test_wrong_declarations() -> None:
    one = network(0, [("a", "b")])
    with pytest.raises(ModelError, match="list of models"):
        pgnn.ModelMixture([])
    with pytest.raises(ModelError, match="same variables"):
        pgnn.ModelMixture([one, pgnn.BayesianNetwork([], states={"a": 2})])
    with pytest.raises(ModelError, match="given twice"):
        pgnn.ModelMixture([one, one])
    with pytest.raises(ModelError, match="name the mixture's otherwise"):
        pgnn.ModelMixture([one], name="a")


def test_the_most_probable_component_of_sequences_has_their_states_summed_out() -> None:
    def chain(stays: float) -> pgnn.HiddenMarkovModel:
        table = [[stays, 1 - stays], [1 - stays, stays]]
        moves = [[0.8, 0.2], [0.3, 0.7]]
        return pgnn.HiddenMarkovModel(2, {"x": table}, initial=[0.5, 0.5], transitions=moves)

    parts, weights = [chain(0.95), chain(0.6)], [0.4, 0.6]
    model = pgnn.SequenceMixture(parts, weights=weights, labels=["calm", "wild"])
    rows = {"x": [[0, 0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]]}
    joint = torch.stack([p.log_prob(rows) for p in parts], dim=1) + torch.tensor(weights).log()
    best = model.most_probable(rows, "component")
    assert best["component"].tolist() == joint.argmax(dim=1).tolist() == [0, 1]
    torch.testing.assert_close(best.log_prob, joint.amax(dim=1), rtol=1e-6, atol=0)
    assert "wild" in str(model.most_probable({"x": rows["x"][1]}, "component"))


@pytest.mark.parametrize("kind", ["density", "network"])
def test_components_of_different_families_are_declared_by_the_data(kind: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    x = np.where(labels, rng.exponential(1.0, 400), rng.normal(8.0, 1.0, 400))
    families = [pgnn.Gaussian, torch.distributions.Exponential]

    def component(family: Any, known: Any = None) -> pgnn.Model:
        if kind == "density" and known is None:
            return pgnn.Density(family)
        return pgnn.BayesianNetwork([], {"x": family}, known)

    model = pgnn.ModelMixture([component(f) for f in families])
    assert not model.is_declared
    if kind == "network":
        with pytest.raises(ModelError, match="no such column"):
            model.fit({"component": labels}, progress=False)
        assert not model.is_declared
    learner = pgnn.EM(max_iterations=8, tolerance=1.0)
    model.fit({"x": x}, learner=learner, seed=0, progress=False)
    given = pgnn.ModelMixture([component(f, {"x": None}) for f in families])
    given.fit({"x": x}, learner=learner, seed=0, progress=False)
    torch.testing.assert_close(model.log_prob({"x": x}), given.log_prob({"x": x}))
    batches = pgnn.ModelMixture([component(f) for f in families])
    for part in (slice(0, 400, 2), slice(1, 400, 2)):
        batches.partial_fit({"x": x[part]}, seed=0)
    assert batches.history["rows"] == 400


def test_components_declared_by_the_data_have_the_same_variables() -> None:
    parts = [pgnn.BayesianNetwork([], {n: pgnn.Gaussian}) for n in "xy"]
    with pytest.raises(ModelError, match="the same variables"):
        pgnn.ModelMixture(parts).fit({"x": [0.0, 1.0], "y": [0.0, 1.0]}, progress=False)


DRAWN = np.random.default_rng(0).random(600) < 0.5


def of_two(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": np.where(DRAWN, first, second)}


def samples_of(name: str, seed: int) -> tuple[dict[str, np.ndarray], list[Any], float]:
    """Rows of two families, their classes, and the log-likelihood of the truth."""
    rng, d, n = np.random.default_rng(seed), torch.distributions, 600
    if name == "exponential":
        rows = of_two(rng.normal(8, 1, n), rng.exponential(1.5, n))
        truth = [d.Normal(8.0, 1.0), d.Exponential(1 / 1.5)]
    elif name == "wide exponential":
        rows = of_two(rng.normal(80, 10, n), rng.exponential(1000, n))
        truth = [d.Normal(80.0, 10.0), d.Exponential(1 / 1000)]
    else:
        rows = of_two(rng.normal(0, 0.3, n), rng.standard_t(3, n) + 6)
        truth = [d.Normal(0.0, 0.3), d.StudentT(3.0, 6.0, 1.0)]
    x = torch.from_numpy(rows["x"])
    total = torch.stack([p.log_prob(x) - np.log(2) for p in truth]).logsumexp(0).sum()
    return rows, [pgnn.Gaussian, type(truth[1])], float(total)


@pytest.mark.parametrize("name", ["exponential", "wide exponential", "student"])
def test_different_families_start_from_the_best_order_of_clusters(name: str) -> None:
    rows, families, truth = samples_of(name, 0)
    for order in (families, families[::-1]):
        model = pgnn.ModelMixture([pgnn.Density(f) for f in order])
        model.fit(rows, seed=0, progress=False)
        assert float(model.log_prob(rows).sum()) > truth
        assert model.weights.probs.tolist() == pytest.approx([0.5, 0.5], abs=0.08)


def test_a_component_without_the_sign_of_some_rows_starts_from_the_others() -> None:
    rng = np.random.default_rng(1)
    rows = of_two(rng.normal(-8, 1, 600), rng.exponential(1.5, 600))
    model = pgnn.ModelMixture(
        [pgnn.Density(torch.distributions.Exponential), pgnn.Density(pgnn.Gaussian)]
    )
    model.fit(rows, seed=0, progress=False)
    rate = model.components[0].conditionals["x"].values["rate"].item()
    assert rate == pytest.approx(1 / rows["x"][~DRAWN].mean(), rel=1e-3)


def test_fitted_components_of_different_families_are_where_another_fit_begins() -> None:
    rows, families, _ = samples_of("exponential", 0)
    model = pgnn.ModelMixture([pgnn.Density(f) for f in families])
    model.fit(rows, seed=0, progress=False)
    before = float(model.log_prob(rows).sum())
    learner = pgnn.EM(max_iterations=1)
    with pytest.warns(pgnn.errors.NotConverged):
        model.fit(rows, learner=learner, seed=1, progress=False)
    assert float(model.log_prob(rows).sum()) >= before - 1e-6
    batches = pgnn.ModelMixture([pgnn.Density(f) for f in families])
    batches.partial_fit(rows, seed=0)
    assert model.weights.probs.tolist() == pytest.approx(batches.weights.probs.tolist(), abs=0.1)


def test_reals_are_imputed_by_the_component_of_their_row() -> None:
    def part(mean: float, rate: float) -> pgnn.BayesianNetwork:
        x, y = pgnn.Variable("x"), pgnn.Variable("y")
        exponential = pgnn.Distributional(y, [], torch.distributions.Exponential, rate=rate)
        normal = pgnn.Gaussian(x, mean=mean, covariance=1.0)
        return pgnn.BayesianNetwork([], {"x": normal, "y": exponential})

    model = pgnn.ModelMixture([part(0.0, 1.0), part(9.0, 0.1)], [0.5, 0.5])
    rows = pd.DataFrame({"x": [0.5, np.nan, 8.0, np.nan], "y": [np.nan, 40.0, np.nan, 0.1]})
    expected = pd.DataFrame({"x": [0.5, 9.0, 8.0, 0.0], "y": [1.0, 40.0, 10.0, 0.1]})
    pd.testing.assert_frame_equal(model.impute(rows), expected)
    tables = model.impute(rows, draws=200, seed=0)
    assert np.mean([t["x"][1] for t in tables]) == pytest.approx(9.0, abs=0.3)
