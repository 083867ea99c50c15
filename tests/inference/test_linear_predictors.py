"""Children of many parents without tables: mean field, chains and draws against enumeration."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import BayesianNetwork, Gibbs, ImportanceSampling, MeanField, Sigmoid, Softmax, Variable
from pgnn.errors import Intractable, Unsupported
from pgnn.factors.groups import conditional_group
from pgnn.inference import expansion
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.linear_predictors import split_predictors
from pgnn.inference.mean_field import predictor_ascent
from pgnn.inference.mean_field.predictor_ascent import PredictorAscent, with_bounds
from pgnn.inference.mean_field.softmax_bound import SoftmaxBound
from pgnn.inference.question import Question
from pgnn.inference.sampling import gibbs
from pgnn.inference.sampling.cpu_gibbs import TemperedTables
from pgnn.inference.sampling.predictor_chains import PredictorChains

ROWS = np.arange(3)
SEEN: list[dict[str, Any]] = [{"y": 1, "w": 0}, {"y": 0, "z": 2, "a": 1}, {"w": 1, "b": 0}]


def network(scale: float = 1.0, real: bool = False) -> BayesianNetwork:
    """Parents of two and three states; logistic children, and one of three states, of them."""
    rng = np.random.default_rng(3)
    a, b, c, d = (Variable(n, k) for n, k in (("a", 2), ("b", 3), ("c", 2), ("d", 2)))
    y, z, w = Variable("y", 2), Variable("z", 3), Variable("w", 2)
    r = [Variable("r")] if real else []
    given = {
        v.name: pgnn.Tabular(v, [], rng.dirichlet(np.full(v.num_states, 3.0))) for v in (a, b, c)
    }
    given["d"] = pgnn.Tabular(d, [a], rng.dirichlet([2.0, 2.0], 2))
    given["y"] = Sigmoid(y, [a, c, d], scale * rng.normal(size=3), float(rng.normal()))
    size = 4 + len(r)
    weight, bias = scale * rng.normal(size=(size, 3)), rng.normal(size=3)
    given["z"] = Softmax(z, [a, b, y, *r], weight, bias)
    given["w"] = Softmax(w, [b, z, d], scale * rng.normal(size=(5, 2)), rng.normal(size=2))
    if real:
        given["r"] = pgnn.Gaussian(r[0], mean=0.0, covariance=1.0)
    edges = [(p.name, n) for n, own in given.items() for p in own.parents]
    return BayesianNetwork(edges, given, states={n: v.num_states for n, v in
                           {v.name: v for v in (a, b, c, d, y, z, w)}.items()})  # fmt: skip


@pytest.fixture
def without_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No conditional is written down, however small."""
    monkeypatch.setattr(conditional_group, "_LEAST", 0)
    for module in (expansion, predictor_ascent, gibbs):
        monkeypatch.setattr(module, "WRITTEN", 0)
    monkeypatch.setattr(predictor_ascent, "_TABLE", 0)


def quiet(**settings: Any) -> MeanField:
    return MeanField(**{"seed": 0, "progress": False, "tolerance": 1e-9, **settings})


def bounds_of(model: BayesianNetwork, observed: Any) -> tuple[Question, list[SoftmaxBound]]:
    question, bounds = with_bounds(Question.read(model, observed))
    assert sum(len(b.predictors.child) for b in bounds) == 3
    return question, bounds


def some_q(question: Question, rng: np.random.Generator) -> np.ndarray:
    parts = [rng.dirichlet(np.full(k, 0.7), question.num_rows) for k in question.graph.card]
    return np.concatenate(parts, axis=1)


def expected_log(bound: SoftmaxBound, q: np.ndarray) -> np.ndarray:
    """``(B,)`` what is bounded, by enumeration of the parents of each child."""
    own, elements = bound.predictors, bound.predictors.elements
    total = np.zeros(len(q))
    offsets, terms = own.offset.numpy(), own.terms.numpy()
    for u, child in enumerate(own.child):
        which = np.flatnonzero(own.unit == u)
        sizes = [range(int(elements.card[own.parent[n]])) for n in which]
        for states in itertools.product(*sizes):
            eta = offsets[:, u] + sum(terms[n, s] for n, s in zip(which, states, strict=True))
            log_p = eta - np.logaddexp.reduce(eta, axis=1, keepdims=True)
            weight = np.ones(len(q))
            for n, s in zip(which, states, strict=True):
                weight = weight * q[:, elements.offset[own.parent[n]] + s]
            first = elements.offset[child]
            mine = q[:, first : first + own.num_classes]
            total += weight * (mine * log_p).sum(1)
    return total


@pytest.mark.parametrize("scale", [0.2, 2.0, 20.0])
def test_the_bound_is_below_the_expectation_whatever_is_free(without_tables, scale) -> None:
    question, bounds = bounds_of(network(scale), SEEN)
    rng = np.random.default_rng(0)
    for _, bound in itertools.product(range(5), bounds):
        q = some_q(question, rng)
        exact = expected_log(bound, q)
        shape = (len(q), len(bound.predictors.child), bound.predictors.num_classes)
        for tilt in (rng.normal(size=shape), bound.moments(q, ROWS, None, 10).tilt):
            value = bound.value(torch.from_numpy(q), tilt, ROWS).numpy()
            assert (value <= exact + 1e-12).all()
        if scale < 1:  # the sums are nearly certain
            np.testing.assert_allclose(value, exact, atol=0.02)
        certain = np.zeros_like(q)
        for first, k in zip(question.graph.offset, question.graph.card, strict=False):
            certain[:, first + rng.integers(k)] = 1.0
        tilt = bound.moments(certain, ROWS, None, 20).tilt
        value = bound.value(torch.from_numpy(certain), tilt, ROWS).numpy()
        np.testing.assert_allclose(value, expected_log(bound, certain), atol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_no_sweep_lowers_the_bound(without_tables, scale) -> None:
    question, bounds = bounds_of(network(scale), SEEN)
    ascent = PredictorAscent(question, question.log_field(), 1e-9, bounds)
    state = ascent.begin(ascent.start(np.random.default_rng(1), 1.0), ascent.all_rows)
    before = ascent.bounds(state.q)
    for _ in range(30):
        state, _ = ascent.step(state)
        after = ascent.bounds(state.q)
        assert (after >= before - 1e-9).all()
        before = after


def test_moments_follow_the_moves(without_tables) -> None:
    question, bounds = bounds_of(network(1.5), SEEN)
    rng = np.random.default_rng(2)
    old, new = some_q(question, rng), some_q(question, rng)
    for bound in bounds:
        moments = bound.moments(old, ROWS, None, 3)
        q = old.copy()
        for e in range(len(question.graph.card)):
            columns = slice(*question.graph.offset[e : e + 2])
            before = q.copy()
            q[:, columns] = new[:, columns]
            bound.update(moments, e, before, q)
        again = bound.moments(q, ROWS, moments.tilt, 0)
        for name in ("mean", "variance", "log_tilted"):
            np.testing.assert_allclose(getattr(moments, name), getattr(again, name), atol=1e-12)


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_the_answer_is_below_the_exact_one_and_below_that_with_tables(
    without_tables, monkeypatch, scale
) -> None:
    model = network(scale)
    found = [model.query(None, e, engine=quiet(restarts=3)) for e in SEEN]
    together = model.query(None, SEEN[:1] * 2, engine=quiet(restarts=3))
    monkeypatch.undo()
    for answer, observed in zip(found, SEEN, strict=True):
        exact = network(scale).query(None, observed)
        tables = network(scale).query(None, observed, engine=quiet(restarts=3))
        assert answer.kind == "lower bound"
        assert answer.log_evidence <= tables.log_evidence + 1e-7 <= exact.log_evidence + 2e-7
        assert float(exact.log_evidence - answer.log_evidence) < 0.3
        for name in model.variables:
            near = 0.01 if scale < 1 else 0.1
            np.testing.assert_allclose(answer[name].probs, tables[name].probs, atol=near)
    np.testing.assert_allclose(together.log_evidence, [float(found[0].log_evidence)] * 2, atol=1e-6)


def test_gradients_of_the_bound_are_those_of_differences(without_tables) -> None:
    model = network()
    unit = model.conditionals["y"]
    unit.requires_grad_()
    engine = quiet(tolerance=1e-12)
    model.log_prob([SEEN[2]], engine=engine).sum().backward()
    gradient = unit.weight.grad.clone()
    step = 1e-5
    for k in range(3):
        values = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                unit.weight[k] += sign * step
                values.append(float(model.log_prob([SEEN[2]], engine=engine)))
                unit.weight[k] -= sign * step
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(gradient[k]), abs=1e-4)


def test_chains_have_the_full_conditionals_of_the_joint(without_tables) -> None:
    model, seeds = network(2.0), np.ones(6, dtype=np.uint64)
    question = Question.read(model, SEEN)
    rest, predictors = split_predictors(question.graph.elements, question.graph.groups)
    written = question.over(FactorGraph(question.graph.elements, rest))
    heat = (1.0, 2.5)
    for visits in (0, 1000):  # without and with tabulated full conditionals of the rest
        chains = PredictorChains(
            TemperedTables(written, heat, (0, 3)), seeds, visits, predictors
        )  # fmt: skip
        chains.start()
        chains.run(3)
        found = chains.conditionals()
        for q, states in enumerate(chains.states):
            for e, k in enumerate(question.graph.card):
                rows = np.repeat(states[None].astype(np.int64), k, axis=0)
                rows[:, e] = np.arange(k)
                logs = question.graph.log_score(rows).numpy() / heat[q % 2]
                exact = np.exp(logs - np.logaddexp.reduce(logs))
                first = question.graph.offset[e]
                np.testing.assert_allclose(found[q, first : first + k], exact, atol=1e-12)


@pytest.mark.parametrize("real", [False, True])
def test_chains_and_draws_agree_with_exact_answers(without_tables, monkeypatch, real) -> None:
    model = network(real=real)
    observed = [e | ({"r": 0.5 * k - 1.0} if real else {}) for k, e in enumerate(SEEN)]
    chains = model.query(None, observed, engine=Gibbs(seed=0, samples=4000, progress=False))
    draws = model.query(None, observed, engine=ImportanceSampling(20_000, seed=0, progress=False))
    bound = model.query(None, observed, engine=quiet())
    drawn = model.sample(4000, observed, engine=Gibbs(seed=1, progress=False))
    monkeypatch.undo()
    exact = network(real=real).query(None, observed)
    for v in exact.variables:
        own = exact[v.name].probs
        np.testing.assert_allclose(chains[v.name].probs, own, atol=0.02)
        np.testing.assert_allclose(draws[v.name].probs, own, atol=0.03)
        counts = torch.nn.functional.one_hot(drawn[v.name], v.num_states).double().mean(0)
        np.testing.assert_allclose(counts, own, atol=0.05)
    np.testing.assert_allclose(draws.log_evidence, exact.log_evidence, atol=0.05)
    assert (bound.log_evidence <= exact.log_evidence).all()


def test_hundreds_of_parents_engines_agree_with_each_other() -> None:
    rng = np.random.default_rng(0)
    causes = [Variable(f"c{i}", 2) for i in range(200)]
    effects = [Variable(f"e{j}", 2) for j in range(5)]
    given = {v.name: pgnn.Tabular(v, [], [0.8, 0.2]) for v in causes}
    for v in effects:
        given[v.name] = Sigmoid(v, causes, 0.2 * rng.normal(size=200), 0.0)
    edges = [(c.name, e.name) for c in causes for e in effects]
    model = BayesianNetwork(edges, given, states={v.name: 2 for v in [*causes, *effects]})
    observed = {f"e{j}": j % 2 for j in range(4)}
    bound = model.query(None, observed, engine=MeanField(seed=0, progress=False))
    chains = model.query(None, observed, engine=Gibbs(seed=0, samples=500, progress=False))
    draws = model.query(None, observed, engine=ImportanceSampling(2000, seed=0, progress=False))
    names = [v.name for v in causes]
    ours = np.array([[float(a[n].probs[1]) for n in names] for a in (bound, chains)])
    assert np.abs(ours[0] - ours[1]).max() < 0.02
    error = float(draws.diagnostics["log_evidence_standard_error"])
    assert float(bound.log_evidence) < float(draws.log_evidence) + 5 * error
    assert float(bound.log_evidence) > float(draws.log_evidence) - 0.3
    whole = model.query("e4", observed, engine=pgnn.Variational(seed=0, progress=False))
    assert whole.kind == "lower bound"
    assert float(whole.log_evidence) == pytest.approx(float(bound.log_evidence), abs=1e-4)
    with pytest.raises(Unsupported, match="blocks"):
        model.query("e4", observed, engine=MeanField(blocks=[["c0", "c1"]], progress=False))
    with pytest.raises(Intractable, match="MeanField"):
        model.most_probable(observed, engine=pgnn.Annealing(progress=False))
