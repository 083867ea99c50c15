"""Expectation maximisation of dynamic networks against enumeration, counting and chains."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

import pgnn
from pgnn import EM, DynamicBayesianNetwork, HiddenMarkovModel
from pgnn.errors import DataError, ModelError, NotConverged, Unsupported
from pgnn.inference.learning.slice_e_step import SliceEStep, UnrolledEStep
from pgnn.inference.learning.training_data import read_sequences

A, B, X, Y = 2, 3, 3, 2
EDGES = [
    (("a", -1), "a"),
    (("b", -1), "b"),
    (("a", -1), "b"),
    ("a", "x"),
    ("b", "x"),
    ("a", "m"),
    ("m", "y"),
]
PARENTS = {
    "a": [("a", -1)],
    "b": [("b", -1), ("a", -1)],
    "x": ["a", "b"],
    "m": ["a"],
    "y": ["m"],
}
FIRST = {"a": [], "b": [], "x": ["a", "b"], "m": ["a"], "y": ["m"]}
SIZES = {"a": A, "b": B, "x": X, "m": 2, "y": Y}
ROWS = {
    "x": [[0, 2, -1], [1], [2, 2, 0]],
    "y": [[1, -1, 0], [0], [-1, -1, -1]],
    "a": [[-1, 1, -1], [-1], [-1, -1, -1]],
}


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])


def numbers_of(seed: int) -> dict:
    """Tables by place: a variable's name, or ``("initial", name)``."""
    rng = np.random.default_rng(seed)
    size = {**SIZES, **{(n, -1): k for n, k in SIZES.items()}}
    made = {n: draw(rng, *[size[p] for p in ps], SIZES[n]) for n, ps in PARENTS.items()}
    made["initial", "a"] = draw(rng, A)
    made["initial", "b"] = draw(rng, B)
    return made


def model_of(numbers: dict) -> DynamicBayesianNetwork:
    first = {n[1]: x for n, x in numbers.items() if isinstance(n, tuple)}
    plain = {n: x for n, x in numbers.items() if not isinstance(n, tuple)}
    return DynamicBayesianNetwork(EDGES, plain, first).requires_grad_()


def found_in(model: DynamicBayesianNetwork) -> dict:
    made = {n: c.probs.detach().numpy() for n, c in model.conditionals.items()}
    return made | {("initial", n): c.probs.detach().numpy() for n, c in model.initial.items()}


def counted(numbers: dict, rows: list[dict], weights: list[float]) -> tuple[float, dict]:
    """Log-likelihood and expected counts; every path of every cell is written down.

    A cell that was not observed, and on which nothing depends, is left out.
    """
    total, counts = 0.0, {n: np.zeros_like(x) for n, x in numbers.items()}
    for row, weight in zip(rows, weights, strict=True):
        steps = len(next(iter(row.values())))
        cells = [(n, t) for t in range(steps) for n in SIZES]
        cells = [
            c for c in cells if c[0] not in ("x", "y") or row.get(c[0], [-1] * steps)[c[1]] >= 0
        ]
        options = [
            range(SIZES[n]) if row.get(n, [-1] * steps)[t] < 0 else [row[n][t]] for n, t in cells
        ]
        paths = []
        for states in itertools.product(*options):
            z = dict(zip(cells, states, strict=True))
            where = []
            for n, t in cells:
                family = FIRST[n] if t == 0 else PARENTS[n]
                given = [z[p[0], t - 1] if isinstance(p, tuple) else z[p, t] for p in family]
                place = ("initial", n) if t == 0 and n in ("a", "b") else n
                where.append((place, (*given, z[n, t])))
            paths.append((math.prod(numbers[p][i] for p, i in where), where))
        z_row = sum(p for p, _ in paths)
        total += weight * math.log(z_row)
        for p, where in paths:
            for place, index in where:
                counts[place][index] += weight * p / z_row
    return total, counts


def split(rows: dict) -> list[dict]:
    return [{n: x[r] for n, x in rows.items()} for r in range(len(next(iter(rows.values()))))]


def normalised(counts: np.ndarray, old: np.ndarray) -> np.ndarray:
    total = counts.sum(-1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1.0), old)


def one_step(model, data, weights=None, warning="1 iterations", **options) -> None:
    learner = EM(max_iterations=1, initialize=False, **options)
    with pytest.warns(NotConverged, match=warning):
        model.fit(data, learner=learner, weights=weights, progress=False)


# --- against enumeration --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_step_is_that_of_expected_counts(seed):
    start = numbers_of(seed)
    model = model_of(start)
    before, counts = counted(start, split(ROWS), [1.0] * 3)
    one_step(model, ROWS)
    after = {n: normalised(c, start[n]) for n, c in counts.items()}
    for name, table in found_in(model).items():
        np.testing.assert_allclose(table, after[name], atol=1e-10)
    assert model.history["trace"]["log_likelihood"] == pytest.approx([before], abs=1e-10)
    assert model.history["log_likelihood"] == pytest.approx(
        counted(after, split(ROWS), [1.0] * 3)[0], abs=1e-10
    )


def test_weights_repeat_sequences():
    start = numbers_of(3)
    _, counts = counted(start, split(ROWS), [0.5, 0.0, 2.0])
    model = model_of(start)
    one_step(model, ROWS, weights=[0.5, 0.0, 2.0])
    for name, table in found_in(model).items():
        np.testing.assert_allclose(table, normalised(counts[name], start[name]), atol=1e-10)
    repeated = {n: [x[0], x[2], x[2]] for n, x in ROWS.items()}
    one, two = model_of(start), model_of(start)
    one_step(one, repeated)
    one_step(two, ROWS, weights=[1.0, 0.0, 2.0])
    for name, table in found_in(one).items():
        np.testing.assert_allclose(table, found_in(two)[name], atol=1e-12)


def test_priors_add_their_counts_and_keep_zeros():
    start = numbers_of(4)
    start["a"] = np.array([[0.6, 0.4], [0.0, 1.0]])
    _, counts = counted(start, split(ROWS), [1.0] * 3)
    model = model_of(start)
    one_step(model, ROWS, prior=pgnn.Laplace(0.5))
    for name, table in found_in(model).items():
        more = counts[name] + 0.5 * (start[name] > 0)
        np.testing.assert_allclose(table, normalised(more, start[name]), atol=1e-10)
    assert found_in(model)["a"][1, 0] == 0
    model = model_of(start)
    one_step(model, ROWS, prior={("initial", "b"): pgnn.Laplace(1.0)})
    want = normalised(counts["initial", "b"] + 1.0, start["initial", "b"])
    np.testing.assert_allclose(found_in(model)["initial", "b"], want, atol=1e-10)
    np.testing.assert_allclose(found_in(model)["x"], normalised(counts["x"], start["x"]))
    with pytest.raises(ModelError, match=r"'z'.*\('initial', 'a'\)"):
        model.fit(ROWS, learner=EM(prior={"z": pgnn.Laplace()}))


def test_likelihoods_count_in_proportion():
    """Soft evidence of one state alone is that state; of all alike it is a missing value."""
    start = numbers_of(5)
    hard, soft = model_of(start), model_of(start)
    one_step(hard, {"a": [[0, -1, 1]], "x": [[1, 1, 2]]})
    likely = np.array([[[1.0, 0.0], [0.5, 0.5], [0.0, 0.3]]])
    one_step(soft, {"a": likely, "x": [[1, 1, 2]]})
    for name, table in found_in(hard).items():
        np.testing.assert_allclose(table, found_in(soft)[name], atol=1e-10)


def test_constants_stay_and_what_nothing_was_observed_of_too():
    start = numbers_of(6)
    model = model_of(start)
    model.conditionals["b"].requires_grad_(False)
    one_step(model, {"x": ROWS["x"]})
    found = found_in(model)
    for name in ("b", "m", "y"):
        np.testing.assert_allclose(found[name], start[name], atol=1e-12)
    assert abs(found["x"] - start["x"]).max() > 1e-3


# --- against counting and chains ------------------------------------------------------------------


def test_with_everything_observed_it_is_counting():
    truth = model_of(numbers_of(0))
    data = truth.sample(30, {"T": 8}, seed=0)
    data = {n: data[n] for n in truth.variables} | {"T": np.arange(30) % 8 + 1}
    for n in truth.variables:
        data[n] = torch.where(torch.arange(8) < torch.tensor(data["T"])[:, None], data[n], -1)
    one, two = model_of(numbers_of(1)), model_of(numbers_of(1))
    one.fit(data, learner=pgnn.MaximumLikelihood(pgnn.Laplace(0.3)))
    two.fit(data, learner=EM(prior=pgnn.Laplace(0.3)), progress=False)
    for name, table in found_in(one).items():
        np.testing.assert_allclose(table, found_in(two)[name], atol=1e-12)
    assert one.history["log_likelihood"] == pytest.approx(two.history["log_likelihood"], abs=1e-9)
    assert two.history["iterations"] == 3  # at the start, at the best, and no gain
    assert two.history["converged"]


def pair(first, moves, emits, normal: bool) -> tuple[HiddenMarkovModel, DynamicBayesianNetwork]:
    """A hidden Markov model, and the same as a network over time."""
    z, x = pgnn.Variable("state", len(first)), pgnn.Variable("x")

    def emission():
        mean = np.arange(len(first)) * 2.0
        return pgnn.Gaussian(x, [z], mean, np.ones(len(first))) if normal else emits

    chain = HiddenMarkovModel(len(first), {"x": emission()}, first, moves)
    edges = [(("state", -1), "state"), ("state", "x")]
    net = DynamicBayesianNetwork(edges, {"state": moves, "x": emission()}, {"state": first})
    return chain.requires_grad_(), net.requires_grad_()


@pytest.mark.parametrize("normal", [False, True])
def test_one_hidden_variable_is_a_hidden_markov_model(normal):
    rng = np.random.default_rng(0)
    chain, net = pair(draw(rng, 3), draw(rng, 3, 3), draw(rng, 3, 4), normal)
    x = rng.normal(2.0, 2.0, (6, 9)) if normal else rng.integers(0, 4, (6, 9)).astype(float)
    x[rng.random(x.shape) < 0.2] = np.nan
    rows = [row[: 9 - k] for k, row in enumerate(x)]
    data = {"x": rows if normal else [[None if v != v else int(v) for v in r] for r in rows]}
    data["state"] = [[None] * len(r) for r in rows]
    data["state"][1][2] = 1
    learner = EM(max_iterations=30, tolerance=0.0, prior={"state": pgnn.Laplace(0.1)})
    for model in (chain, net):
        with pytest.warns(NotConverged, match="30 iterations"):
            model.fit(data, learner=learner, weights=np.arange(6.0), progress=False)
    for ours, theirs in zip(net.conditionals.values(), chain.conditionals.values(), strict=True):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p.exp(), q.exp(), atol=1e-9, rtol=1e-9)
    for what in ("log_likelihood", "occupancy"):
        assert net.history[what] == pytest.approx(chain.history[what], rel=1e-9)
    np.testing.assert_allclose(*(m.history["trace"]["objective"] for m in (net, chain)), rtol=1e-9)


def factorial(seed: int = 0) -> DynamicBayesianNetwork:
    """Two chains whose sum is observed in noise."""
    a, b, x = pgnn.Variable("a", 2), pgnn.Variable("b", 2), pgnn.Variable("x")
    normal = pgnn.Gaussian(x, [a, b], [[0.0, 2.0], [5.0, 7.0]], np.full((2, 2), 0.25))
    stay = [[0.9, 0.1], [0.2, 0.8]]
    edges = [(("a", -1), "a"), (("b", -1), "b"), ("a", "x"), ("b", "x")]
    first = {"a": [0.5, 0.5], "b": [0.5, 0.5]}
    return DynamicBayesianNetwork(edges, {"a": stay, "b": stay, "x": normal}, first)


def test_a_factorial_model_with_real_emissions():
    """Found again from a start nearby, with holes and a row of which nothing was observed."""
    truth = factorial()
    data = {"x": truth.sample(12, {"T": 40}, seed=1)["x"]}
    data["x"][3, 5:9] = torch.nan
    data["x"][4] = torch.nan
    model = factorial().requires_grad_()
    with torch.no_grad():
        model.conditionals["x"].mean.add_(torch.tensor([[0.3, -0.4], [0.2, 0.5]]))
    model.fit(data, progress=False)
    trace = np.array(model.history["trace"]["log_likelihood"])
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[:-1])).all()
    assert len(trace) > 3
    assert model.history["learner"].startswith("EM(")
    assert model.history["converged"]
    assert "occupancy" not in model.history
    assert model.history["log_likelihood"] > float(truth.log_prob(data).sum())
    gap = model.conditionals["x"].mean - truth.conditionals["x"].mean
    assert gap.abs().max().item() < 0.2


def test_a_step_of_real_emissions_is_that_of_posteriors():
    """Weighted means by the posterior of the exact engine on the unrolled network."""
    model = factorial().requires_grad_()
    x = torch.tensor([[0.1, 4.0, 6.9, float("nan"), 2.0]], dtype=torch.float64)
    both = []
    for s, t in itertools.product(range(2), range(5)):
        own = model.query(["b"], {"x": x, ("a", t): s}, engine=pgnn.JunctionTree())
        here = model.query(["a"], {"x": x}, engine=pgnn.JunctionTree())
        both.append((s, t, here.probs("a")[0, t, s] * own.probs("b")[0, t]))
    weights = torch.zeros(5, 2, 2, dtype=torch.float64)
    for s, t, w in both:
        weights[t, s] = w.detach()
    one_step(model, {"x": x}, warning="at its lower bound in 1 of 4")  # one row for it
    observed = [0, 1, 2, 4]
    want = torch.einsum("tab,t->ab", weights[observed], x[0, observed]) / weights[observed].sum(0)
    torch.testing.assert_close(model.conditionals["x"].mean.detach(), want, atol=1e-9, rtol=0)


def test_networks_and_inputs_take_numeric_steps():
    """A softmax of inputs for the second chain, and a noisy emission; the value never falls."""
    rng = np.random.default_rng(0)
    a = pgnn.Variable("a", 2)
    moves = pgnn.Softmax(a, [pgnn.Variable(("a", -1), 2)], inputs={"u": 1})
    edges = [(("a", -1), "a"), ("a", "x")]
    emits = [[0.8, 0.2], [0.2, 0.8]]
    model = DynamicBayesianNetwork(edges, {"a": moves, "x": emits}, {"a": [0.5, 0.5]})
    u = torch.from_numpy(rng.integers(0, 2, (10, 30, 1))).double()
    x = torch.where(torch.from_numpy(rng.random((10, 30)) < 0.2), 1 - u[..., 0].long(), u[..., 0])
    with pytest.warns(NotConverged):
        model.fit({"x": x.long()}, inputs={"u": u}, learner=EM(max_iterations=8), progress=False)
    trace = np.array(model.history["trace"]["log_likelihood"])
    assert (np.diff(trace) > -1e-9).all()
    assert trace[-1] > trace[0] + 50


# --- starts ---------------------------------------------------------------------------------------


def test_states_that_are_alike_are_told_apart():
    """Learnable tables begin uniform: a start that breaks the tie is found, and the same again."""
    truth = DynamicBayesianNetwork(
        [(("a", -1), "a"), ("a", "x"), ("a", "y")],
        {
            "a": [[0.9, 0.1], [0.1, 0.9]],
            "x": [[0.9, 0.1], [0.1, 0.9]],
            "y": [[0.8, 0.2], [0.3, 0.7]],
        },
        {"a": [0.5, 0.5]},
    )
    data = truth.sample(40, {"T": 20}, seed=0)
    observed = {n: data[n] for n in ("x", "y")}
    values = []
    for _ in range(2):
        model = DynamicBayesianNetwork(
            [(("a", -1), "a"), ("a", "x"), ("a", "y")], states={"a": 2, "x": 2, "y": 2}
        )
        model.fit(observed, seed=0, progress=False, learner=EM(restarts=3))
        values.append(model.conditionals["x"].probs.detach())
    assert torch.equal(*values)
    assert model.history["log_likelihood"] > float(truth.log_prob(observed).sum())
    assert sum(model.history["occupancy"]) == pytest.approx(800.0)


def test_starts_on_threads_are_those_one_by_one(monkeypatch):
    rng = np.random.default_rng(0)
    data = {"x": rng.integers(0, 3, (4, 12)), "y": rng.integers(0, 2, (4, 12))}
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        model = model_of(numbers_of(0))
        with pytest.warns(NotConverged):
            model.fit(data, learner=EM(restarts=5, max_iterations=8), seed=0, progress=False)
        found.append(found_in(model))
    for name, table in found[0].items():
        np.testing.assert_allclose(table, found[1][name], atol=1e-12)


def test_streaming_comes_near():
    truth = factorial()
    data = {"x": truth.sample(60, {"T": 20}, seed=2)["x"]}
    whole, live = factorial().requires_grad_(), factorial().requires_grad_()
    whole.fit(data, progress=False)
    learner = EM(batch_size=6, max_iterations=15, tolerance=1e-5)
    live.fit(data, learner=learner, seed=0, progress=False)
    best, near = whole.history["log_likelihood"], live.history["log_likelihood"]
    assert best - 0.001 * abs(best) < near <= best + 1e-6 * abs(best)


def test_a_hidden_parent_of_a_hidden_variable_is_started_too():
    rng = np.random.default_rng(0)
    edges = [(("a", -1), "a"), ("a", "h"), ("h", "x"), ("h", "y")]
    model = DynamicBayesianNetwork(edges, states={"a": 2, "h": 2, "x": 3, "y": 2})
    data = {"x": rng.integers(0, 3, (5, 12)), "y": rng.integers(0, 2, (5, 12))}
    model.fit(data, seed=0, progress=False, learner=EM(max_iterations=2000))
    table = model.conditionals["h"].probs.detach()
    assert float((table[0] - table[1]).abs().max()) > 1e-3


# --- what goes wrong ------------------------------------------------------------------------------


def test_impossible_sequences_leave_the_model_alone():
    start = numbers_of(0)
    start["y"] = np.array([[1.0, 0.0], [1.0, 0.0]])
    model = model_of(start)
    with pytest.raises(DataError, match=r"1 of 2 sequences .* \(first: 1\)"):
        model.fit({"y": [[0, 0], [0, 1]], "x": [[0, 1], [1, 1]]}, progress=False)
    for name, table in found_in(model).items():
        np.testing.assert_allclose(table, start[name], atol=1e-15)
    model.fit({"y": [[0, 0], [0, 1]]}, weights=[1.0, 0.0], learner=EM(), progress=False)
    assert all(np.isfinite(t).all() for t in found_in(model).values())


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(DataError, match="all zero"):
        model_of(numbers_of(0)).fit(ROWS, weights=[0.0, 0.0, 0.0], progress=False)


def test_hidden_real_variables_are_refused():
    v, w = pgnn.Variable("v"), pgnn.Variable("w")
    linear = pgnn.LinearGaussian(w, [v])
    model = DynamicBayesianNetwork(
        [("v", "w"), (("a", -1), "a"), ("a", "v")],
        {"v": pgnn.Gaussian(v, [pgnn.Variable("a", 2)]), "w": linear},
        states={"a": 2},
    )
    with pytest.raises(Unsupported, match="'v' is real and not observed everywhere"):
        model.fit({"w": torch.zeros(1, 3)}, learner=EM(), progress=False)


def test_shared_parameters_are_learnt_together():
    model = model_of(numbers_of(0))
    model.conditionals["m"].logits = model.conditionals["a"].logits
    model.fit(ROWS, learner=EM(tolerance=1e-12, max_iterations=5000), progress=False)
    assert model.conditionals["m"].logits is model.conditionals["a"].logits
    other = model_of(numbers_of(0))
    other.conditionals["m"].logits = other.conditionals["a"].logits
    other.fit(ROWS, learner=pgnn.Gradient(), progress=False)
    assert model.history["log_likelihood"] >= other.history["log_likelihood"] - 1e-5


# --- too many states for a chain ------------------------------------------------------------------


def mixed(seed: int) -> DynamicBayesianNetwork:
    """Two hidden chains, a table, normals, and a softmax of an input and of what was before."""
    rng = np.random.default_rng(seed)
    a, b, x = pgnn.Variable("a", 2), pgnn.Variable("b", 3), pgnn.Variable("x")
    v, w, late = pgnn.Variable("v"), pgnn.Variable("w", 2), pgnn.Variable(("v", -1))
    normal = pgnn.Gaussian(x, [a, b], rng.normal(size=(2, 3)), np.full((2, 3), 0.5))
    edges = [(("a", -1), "a"), (("b", -1), "b"), ("a", "x"), ("b", "x"), ("a", "y"), ("a", "w")]
    edges += [("a", "v"), (("v", -1), "w")]
    given = {"a": draw(rng, 2, 2), "b": draw(rng, 3, 3), "x": normal, "y": draw(rng, 2, 2)}
    given["v"] = pgnn.Gaussian(v, [a], [0.0, 1.0], [1.0, 1.0])
    given["w"] = pgnn.Softmax(w, [a, late], inputs={"u": 2})
    first = {"a": draw(rng, 2), "b": draw(rng, 3), "w": pgnn.Softmax(w, [a], inputs={"u": 2})}
    model = DynamicBayesianNetwork(edges, given, first).requires_grad_()
    with torch.no_grad():
        for k, p in enumerate([*given["w"].parameters(), *first["w"].parameters()]):
            noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(k))
            p.copy_(noise.to(p))
    return model


def test_the_unrolled_network_counts_the_same():
    """Tables, normals with holes, numeric rows and inputs; ragged and weighted."""
    rng = np.random.default_rng(0)
    lengths, shape = [4, 2, 4, 3], (4, 4)
    x = rng.normal(size=shape)
    x[0, 1] = np.nan
    data = {"x": x, "y": rng.integers(0, 2, shape), "w": rng.integers(0, 2, shape), "T": lengths}
    data["v"] = rng.normal(size=shape)
    u = torch.from_numpy(rng.normal(size=(*shape, 2)))
    model = mixed(0)
    task = read_sequences(model, data, [1.0, 2.0, 0.5, 1.0], {"u": u})
    ours, theirs = UnrolledEStep(model).expect(task), SliceEStep(model).expect(task)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-9)
    assert ours.sums.keys() == theirs.sums.keys()
    for place, found in ours.sums.items():
        for p, q in zip(found, theirs.sums[place], strict=True):
            torch.testing.assert_close(p, q, atol=1e-9, rtol=0)
    assert ours.rows.keys() == theirs.rows.keys() == {"w", ("initial", "w")}
    for place in ours.rows:
        totals = []
        for rows in (ours.rows[place], theirs.rows[place]):
            states, lags = rows.values.get("w"), rows.values.get(("v", -1))
            hot = 1.0 if states is None else one_hot(states, 2).unsqueeze(1)
            weights = (rows.weights if states is None else rows.weights.unsqueeze(-1)) * hot
            by = rows.inputs["u"] if lags is None else rows.inputs["u"] * lags[:, None]
            totals.append(torch.einsum("nu,nab->uab", by, weights))
        torch.testing.assert_close(*totals, atol=1e-9, rtol=0)
    torch.testing.assert_close(
        UnrolledEStep(model).log_partition(task), SliceEStep(model).log_partition(task)
    )


def test_eleven_chains_are_learnt_unrolled():
    """An interface of 2,048 states; chains that are each observed do not need them."""
    rng = np.random.default_rng(0)
    names = [f"s{k}" for k in range(11)]
    edges = [((n, -1), n) for n in names] + [(n, n.replace("s", "x")) for n in names]
    given = {n: draw(rng, 2, 2) for n in names}
    given |= {n.replace("s", "x"): draw(rng, 2, 3) for n in names}
    first = {n: draw(rng, 2) for n in names}
    model = DynamicBayesianNetwork(edges, given, first).requires_grad_()
    data = {n.replace("s", "x"): rng.integers(0, 3, (5, 6)) for n in names}
    with pytest.warns(NotConverged):
        model.fit(data, learner=EM(max_iterations=3, accelerate=False), progress=False)
    small = HiddenMarkovModel(2, {"x": given["x4"]}, first["s4"], given["s4"]).requires_grad_()
    with pytest.warns(NotConverged):
        small.fit({"x": data["x4"]}, learner=EM(max_iterations=3, accelerate=False), progress=False)
    for ours, theirs in (("s4", "state"), ("x4", "x")):
        torch.testing.assert_close(
            model.conditionals[ours].probs, small.conditionals[theirs].probs, atol=1e-9, rtol=0
        )


def test_what_is_kept_between_steps_is_of_the_evidence_alone():
    """New numbers, then other sequences, and the first ones again."""
    model = model_of(numbers_of(0))
    tasks = [
        read_sequences(model, rows, None, None) for rows in (ROWS, {"x": [[1, 0]], "m": [[0, -1]]})
    ]
    kept = SliceEStep(model)
    for numbers, task in ((0, 0), (1, 0), (1, 1), (2, 0), (2, 0)):
        model.load_state_dict(model_of(numbers_of(numbers)).state_dict())
        found, fresh = kept.expect(tasks[task]), SliceEStep(model).expect(tasks[task])
        assert found.log_likelihood == fresh.log_likelihood
        torch.testing.assert_close(
            kept.log_partition(tasks[task]), SliceEStep(model).log_partition(tasks[task])
        )
        assert found.sums.keys() == fresh.sums.keys()
        for place, sums in found.sums.items():
            assert torch.equal(sums[0], fresh.sums[place][0])


def test_states_and_likelihoods_of_one_leaf():
    """A leaf that was observed at one step, and of which likelihoods are known at another."""
    model = model_of(numbers_of(4))
    likely = torch.tensor([[1.0, 1.0, 1.0], [0.2, 0.5, 0.1], [1.0, 1.0, 1.0]]).double()
    observed = {"x": likely, ("x", 0): 2, "y": [1, -1, 0]}
    cells = {("x", 0): 2, ("x", 1): likely[1], ("y", 0): 1, ("y", 2): 0}
    task = read_sequences(model, observed, None, None)
    want = model.unroll(3).query([("a", 0), ("b", 2)], cells)
    found = model.smooth(observed)
    torch.testing.assert_close(found.log_evidence, want.log_evidence)
    torch.testing.assert_close(SliceEStep(model).log_partition(task)[0], want.log_evidence)
    torch.testing.assert_close(found["a"].probs[0], want["a", 0].probs)
    torch.testing.assert_close(found["b"].probs[2], want["b", 2].probs)
