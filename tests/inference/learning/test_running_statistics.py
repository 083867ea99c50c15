"""Batches one after the other: counts as of all at once, and steps of streaming EM."""

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EM, BayesianNetwork, Gaussian, Laplace, MaximumLikelihood, Mixture, NaiveBayes
from pgnn.errors import DataError, EvidenceError, Unsupported


def labelled(n: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    y[:2] = 0, 1
    return {"class": y, "x": rng.normal(size=(n, 2)) + 3.0 * y[:, None] + 100.0,
            "w": rng.poisson(1.0 + y[:, None] * np.ones(3))}  # fmt: skip


def part(rows: dict[str, np.ndarray], which: slice) -> dict[str, np.ndarray]:
    return {n: x[which] for n, x in rows.items()}


def test_complete_batches_count_as_all_rows_at_once(tmp_path: Path) -> None:
    rows = labelled()
    features = {"x": Gaussian, "w": pgnn.Multinomial}
    whole = NaiveBayes(2, features).fit(rows, progress=False)
    own = NaiveBayes(2, features)
    own.partial_fit(part(rows, slice(0, 25))).partial_fit(part(rows, slice(25, 30)))
    own.save(tmp_path / "model")  # what was counted is kept
    own = pgnn.load(tmp_path / "model")
    own.partial_fit(part(rows, slice(30, 60)))
    assert (own.history["batches"], own.history["rows"], own.history["weight"]) == (3, 60, 60.0)
    torch.testing.assert_close(own.log_prob(rows), whole.log_prob(rows), rtol=1e-8, atol=1e-8)
    assert "running" not in repr(own.history)


def test_streaming_em_nears_the_maximum_and_goes_on_after_a_fit() -> None:
    rng = np.random.default_rng(1)
    h = rng.integers(0, 2, 4000)
    rows = {k: np.where(rng.random(4000) < 0.85, h, 1 - h) for k in "abcd"}
    edges = [("h", k) for k in rows]

    def network() -> BayesianNetwork:
        return BayesianNetwork(edges, states=dict.fromkeys(["h", *rows], 2))

    best = network().fit(pgnn.codes(rows), learner=EM(), seed=0, progress=False)
    own = network()
    for k in range(40):
        some = {n: x[100 * k : 100 * k + 100] for n, x in rows.items()}
        own.partial_fit(pgnn.codes(some), learner=EM(), seed=0)
    found, most = (float(m.log_prob(pgnn.codes(rows)).sum()) for m in (own, best))
    assert most - 20.0 < found <= most + 1e-6
    before = best.conditionals["h"].probs.detach().clone()
    best.partial_fit(pgnn.codes({n: x[:50] for n, x in rows.items()}), learner=EM(decay=1.0))
    moved = (best.conditionals["h"].probs.detach() - before).abs().max()
    assert 0.0 < moved < 0.2  # a share of a third


@pytest.mark.parametrize("kind", ["mixture", "trees", "chain"])
def test_every_kind_of_expectations_goes_on(kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "mixture":
        model: pgnn.Model = Mixture(2, {"x": Gaussian})
        batches = [{"x": rng.normal(size=(30, 2)) + 4.0 * rng.integers(0, 2, (30, 1))}] * 3
    elif kind == "trees":
        states = {"a": 2, "b": 2, "c": 2}
        model = pgnn.ModelMixture([pgnn.ChowLiuTree(states) for _ in range(2)])
        batches = [pgnn.codes({n: rng.integers(0, 2, 40) for n in states}) for _ in range(3)]
    else:
        model = pgnn.HiddenMarkovModel(2, {"x": 3})
        batches = [{"x": rng.integers(0, 3, (5, 20))} for _ in range(3)]
    for batch in batches:
        model.partial_fit(batch, learner=EM(), seed=0)
    assert model.history["batches"] == 3
    assert model.log_prob(batches[0]).isfinite().all()


def test_what_is_refused_changes_nothing() -> None:
    rows = labelled()
    first = {n: rows[n][:20] for n in ("class", "x")}
    model = NaiveBayes(2, {"x": Gaussian}).partial_fit(first)
    before = {n: x.clone() for n, x in model.state_dict().items()}
    holes = {"class": [0, -1], "x": rows["x"][:2]}
    with pytest.raises(DataError, match="complete"):
        model.partial_fit(holes, learner=MaximumLikelihood())
    with pytest.raises(Unsupported, match="all data at once"):
        model.partial_fit(holes, learner=pgnn.Gradient())
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    model.partial_fit(holes, learner=EM(Laplace()))
    assert model.history["batches"] == 2


def test_the_first_batch_tells_shapes_that_were_not_declared() -> None:
    random = np.random.default_rng(0)
    chain = pgnn.HiddenMarkovModel(2, {"x": Gaussian})
    factors = pgnn.FactorAnalysis(1)
    for _ in range(2):
        chain.partial_fit({"x": [random.normal(size=(20, 2)) for _ in range(4)]}, seed=0)
        factors.partial_fit(random.normal(size=(30, 3)), learner=EM(), seed=0)
    assert chain.emissions["x"].mean.shape == (2, 2)
    assert (chain.history["batches"], factors.history["batches"]) == (2, 2)


def test_batches_go_on_from_a_fit_of_tables() -> None:
    rng = np.random.default_rng(2)
    a = rng.integers(0, 2, 90)
    rows = {"a": a, "b": (a + (rng.random(90) < 0.2)) % 2}
    learner = MaximumLikelihood(Laplace())
    make = partial(BayesianNetwork, [("a", "b")], states={"a": 2, "b": 2})
    whole = make().fit(rows, learner=learner, progress=False)
    own = make().fit(part(rows, slice(0, 50)), learner=learner, progress=False)
    own.partial_fit(part(rows, slice(50, 60)), learner=learner)
    own.partial_fit(part(rows, slice(60, 90)), learner=learner)
    assert (own.history["batches"], own.history["rows"], own.history["weight"]) == (3, 90, 90.0)
    torch.testing.assert_close(own.log_prob(rows), whole.log_prob(rows))


def test_batches_do_not_go_on_from_what_was_not_kept() -> None:
    rows = labelled()
    model = NaiveBayes(2, {"x": Gaussian, "w": pgnn.Multinomial}).fit(rows, progress=False)
    before = {n: x.clone() for n, x in model.state_dict().items()}
    with pytest.raises(Unsupported, match=r"MaximumLikelihood did not keep; start with partial"):
        model.partial_fit(rows)
    for name, x in model.state_dict().items():
        torch.testing.assert_close(x, before[name])


@pytest.mark.parametrize("kind", [pgnn.KernelDensity, pgnn.NearestNeighbours, pgnn.Histogram])
def test_densities_made_of_rows_take_no_batches(kind: type) -> None:
    rows = np.array([0.0, 1.0, 2.0])
    model = pgnn.Density(kind)
    with pytest.raises(pgnn.Unsupported, match="all rows at once"):
        model.partial_fit(rows)


def in_batches(model: pgnn.Model, rows: dict[str, np.ndarray], number: int, **rest: object) -> None:
    for part in np.array_split(np.arange(len(next(iter(rows.values())))), number):
        model.partial_fit({n: x[part] for n, x in rows.items()}, **rest)


def numbers(model: pgnn.Model) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("kind", ["exponential", "gamma", "logistic", "softmax", "neural"])
def test_conditionals_without_sufficient_statistics_keep_earlier_batches(kind: str) -> None:
    rng = np.random.default_rng(4)
    x, n = rng.normal(size=1000), 3 if kind == "softmax" else 2
    if kind in ("exponential", "gamma"):
        make = partial(BayesianNetwork, [], {"x": getattr(torch.distributions, kind.title())})
        rows = {"x": rng.gamma(1.0 if kind == "exponential" else 2.0, 0.5, size=1000)}
    elif kind == "neural":
        given = {"x": None, "y": 2}
        make = partial(BayesianNetwork, [("x", "y")], {"y": _neural}, given)
        rows = {"x": x, "y": (rng.random(1000) < 1.0 / (1.0 + np.exp(-x))).astype(int)}
    else:
        make = partial(pgnn.LogisticRegression, "y", "x", pgnn.NormalPrior(2.0))
        scores = np.arange(n) * x[:, None] + rng.gumbel(size=(1000, n))
        rows = {"x": x, "y": scores.argmax(axis=1)}
    whole, own, last = make(), make(), make()
    whole.fit(rows, progress=False)
    in_batches(own, rows, 5)
    last.partial_fit({n: x[800:] for n, x in rows.items()})
    best, found, poor = (float(m.log_prob(rows).sum()) for m in (whole, own, last))
    assert own.history["rows"] == 1000
    assert best - found < 0.02 < best - poor  # nats; a standard error is half of one
    if kind == "exponential":  # 1 / sqrt(1000) is a standard error
        rate = float(own.conditionals["x"].values["rate"].detach())
        assert rate == pytest.approx(1.0 / rows["x"].mean(), rel=1e-3)


def _neural(child: pgnn.Variable, parents: list[pgnn.Variable]) -> pgnn.Neural:
    network = torch.nn.Linear(1, 2).double()
    for p in network.parameters():
        torch.nn.init.zeros_(p)
    return pgnn.Neural(child, parents, network)


def test_expansions_are_kept_in_files_and_share_the_discount_of_em(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = {"x": rng.exponential(size=600)}
    model = BayesianNetwork([], {"x": torch.distributions.Exponential})
    in_batches(model, {"x": rows["x"][:400]}, 2)
    model.save(tmp_path / "model")
    again = pgnn.load(tmp_path / "model")
    for own in (model, again):
        own.partial_fit({"x": rows["x"][400:]})
    torch.testing.assert_close(numbers(again), numbers(model))
    low, high = {"x": rows["x"][:300]}, {"x": 1.2 * rows["x"][300:]}
    rates = {}
    for learner in (MaximumLikelihood(), EM(decay=0.6)):
        own = BayesianNetwork([], {"x": torch.distributions.Exponential})
        own.partial_fit(low, learner=learner).partial_fit(high, learner=learner)
        rates[type(learner)] = float(own.conditionals["x"].values["rate"].detach())
    share = 3.0**-0.6  # of the second batch, instead of a half
    means = [x["x"].mean() for x in (low, high)]
    assert rates[MaximumLikelihood] == pytest.approx(2.0 / sum(means), rel=2e-3)
    wanted = 1.0 / ((1.0 - share) * means[0] + share * means[1])
    assert rates[EM] == pytest.approx(wanted, rel=2e-3)


def test_too_many_parameters_for_expansions_are_refused() -> None:
    rows = {"x": np.zeros((4, 40)), "y": [0, 1, 1, 0]}
    network = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 2))
    model = BayesianNetwork(
        [("x", "y")],
        {"y": lambda child, parents: pgnn.Neural(child, parents, network)},
        {"x": pgnn.Variable("x", shape=(40,)), "y": 2},
    )
    with pytest.raises(Unsupported, match=r"Neural of 'y'.*1,722 parameters.*Gradient"):
        model.partial_fit(rows)
    assert not model.history


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("kind", ["generator", "list", "iterator"])
def test_iterables_of_batches_of_reals_are_told_to_be_taken_one_by_one(
    kind: str, declared: bool
) -> None:
    parts = [{"x": np.array([0.0, 1.0, 2.0])}, {"x": np.array([3.0, 1.0])}]
    batches = {"generator": (p for p in parts), "list": parts, "iterator": iter(parts)}[kind]
    model = BayesianNetwork([], {"x": Gaussian}, {"x": None} if declared else None)
    with pytest.raises((DataError, EvidenceError), match=r"model\.partial_fit\(batch\)"):
        model.fit(batches, progress=False)
    for batch in parts:
        model.partial_fit(batch)
    assert float(model.conditionals["x"].mean.detach()) == pytest.approx(1.4)


def test_batches_go_on_from_a_fit_by_gradients() -> None:
    rng = np.random.default_rng(0)
    x = np.where(rng.random(600) < 0.5, rng.normal(8, 1, 600), rng.exponential(1.5, 600))
    families = [Gaussian, torch.distributions.Exponential]
    model = pgnn.ModelMixture([pgnn.Density(f) for f in families])
    model.fit({"x": x}, learner=EM(tolerance=1e-10), seed=0, progress=False)

    def numbers() -> list[float]:
        normal, other = (c.conditionals["x"] for c in model.components)
        parts = (model.weights.probs[0], normal.mean, other.values["rate"])
        return [p.detach().item() for p in parts]

    before = numbers()
    model.partial_fit({"x": x})  # the same rows do not move a maximum
    assert numbers() == pytest.approx(before, rel=1e-3)
    share = model.query("component", {"x": x[:20]})["component"].probs[:, 0].mean().item()
    before = numbers()
    model.partial_fit({"x": x[:20]})
    step = 4.0**-0.7
    assert numbers()[0] == pytest.approx((1 - step) * before[0] + step * share, rel=1e-6)
    assert model.history["rows"] == 1220


def clustered(kind: str) -> dict[str, np.ndarray]:
    """Rows of two clusters, or of two for each state of a parent, which overlap."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random(600) < 0.5, rng.normal(-4, 1, 600), rng.normal(3, 0.5, 600))
    if kind == "alone":
        return {"x": x}
    k = rng.integers(0, 2, 600)
    return {"k": k, "x": np.where(k == 1, -1.5 * x, x)}


@pytest.mark.parametrize("kind", ["alone", "parent"])
def test_mixtures_as_conditionals_start_from_the_first_batch(kind: str) -> None:
    rows, edges = clustered(kind), [("k", "x")] if kind == "parent" else []

    def make() -> BayesianNetwork:
        return BayesianNetwork(
            edges,
            {"x": partial(pgnn.GaussianMixture, num_components=2)},
            states=dict.fromkeys(rows.keys() - {"x"}, 2),
        )

    best = make().fit(rows, progress=False)
    most = float(best.log_prob(rows).sum())
    by_em = make().fit(rows, learner=EM(), seed=0, progress=False)
    assert float(by_em.log_prob(rows).sum()) == pytest.approx(most, rel=1e-4)
    for learner in (MaximumLikelihood(), EM()):
        own = make()
        for k in range(6):
            own.partial_fit(part(rows, slice(100 * k, 100 * k + 100)), learner=learner, seed=0)
        assert float(own.log_prob(rows).sum()) == pytest.approx(most, abs=0.02 * abs(most))


def test_how_well_batches_of_a_logistic_regression_are_remembered() -> None:
    rng = np.random.default_rng(0)
    x = 2.0 * rng.normal(size=400)
    y = (rng.random(400) < 1.0 / (1.0 + np.exp(0.5 - 1.5 * x))).astype(int)

    def network() -> pgnn.BayesianNetwork:
        kinds = {"x": pgnn.Gaussian, "y": pgnn.Softmax}
        return pgnn.BayesianNetwork(
            [("x", "y")], kinds, {"x": pgnn.Variable("x"), "y": pgnn.Variable("y", 2)}
        )

    def lost(order: np.ndarray) -> float:
        model = network()
        for rows in np.array_split(order, 10):
            model.partial_fit({"x": x[rows], "y": y[rows]})
        return float((best - model.log_prob({"x": x, "y": y})).mean())

    best = network().fit({"x": x, "y": y}, progress=False).log_prob({"x": x, "y": y})
    assert lost(rng.permutation(400)) < 2e-4
    assert lost(np.argsort(x)) < 1e-4
    assert lost(np.argsort(y, kind="stable")) < 1e-3


@pytest.mark.parametrize("states", [5, 15])
def test_the_rows_of_a_fit_count_beside_conditionals_of_many_parameters(states: int) -> None:
    rng = np.random.default_rng(0)
    rows = {"x": rng.normal(5.0, size=300), "y": np.arange(300) % states}
    kinds = {"x": pgnn.Gaussian, "y": pgnn.Softmax}
    declared = {"x": pgnn.Variable("x"), "y": pgnn.Variable("y", states)}
    model = pgnn.BayesianNetwork([("x", "y")], kinds, declared)
    model.fit(rows, learner=EM(), progress=False)
    batch = {"x": rows["x"][:30] - 5.0, "y": rows["y"][:30]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.partial_fit(batch, learner=EM(decay=0.7))
    share = 3.0**-0.7  # of the second batch
    expected = (1.0 - share) * rows["x"].mean() + share * batch["x"].mean()
    assert float(model.conditionals["x"].mean.detach()) == pytest.approx(expected, rel=1e-6)
    told = [str(w.message) for w in caught if "do not count for 'y'" in str(w.message)]
    assert len(told) == (states > 10)
