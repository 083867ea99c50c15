"""Scores, partition functions, gradients and networks without arrows, against enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import pgnn
from pgnn import (
    Factor,
    Ising,
    Lattice,
    LogLinear,
    MarkovRandomField,
    Neural,
    NeuralPotential,
    Potts,
    Sigmoid,
    Tabular,
    TabularPotential,
    Unsupported,
    Variable,
)
from pgnn.errors import EvidenceError, Intractable
from pgnn.inference.beliefs import Beliefs
from pgnn.inference.engine import Engine
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.log_score import looked_up
from tests import oracle


def every_kind() -> MarkovRandomField:
    """A field with potentials of all kinds that need no inputs; twelve elements."""
    rng = np.random.default_rng(3)
    x = Variable("x", 2, shape=(2, 3))
    d = Variable("d", 3, shape=(4,))
    a, b = Variable("a", ["no", "yes"]), Variable("b", 2)
    return MarkovRandomField(
        [
            Ising(x, rng.normal(size=2), rng.normal(size=(2, 3))),
            Potts(d, rng.normal(size=4), rng.normal(size=3), Lattice(periodic=True)),
            LogLinear([a, b], {"both": lambda a, b: a == "yes" and b == 1}, [0.7]),
            TabularPotential([a, x.element(0, 1), d.element(2)], rng.random((2, 2, 3))),
            Factor([b], torch.tensor([0.5, -math.inf]).double()),
        ]
    )


def enumerated(model, row=None, inputs=None):
    """The joint table of one row of evidence on elements."""
    cards = {v.name: v.num_states for v in model.elements.singles}
    tables = []
    for f in model.factors(None, inputs):
        values = f.values.detach().double()
        tables.append((f.names, (values[0] if f.batch_shape else values).numpy()))
    return oracle.joint(cards, tables, row)


def test_all_marginals_and_scores():
    model = every_kind()
    joint = enumerated(model)
    log_z = oracle.log_evidence(joint)
    assert float(model.log_partition()) == pytest.approx(log_z, abs=1e-9)
    posterior = model.query()
    for name, p in oracle.marginals(joint).items():
        probs = model.query(name)[name].probs
        np.testing.assert_allclose(probs, p, atol=1e-9)
    assert posterior["x"].probs.shape == (2, 3, 2)
    best, score = oracle.mode(joint)
    assert float(model.most_probable().log_prob) == pytest.approx(score, abs=1e-9)
    x = np.array([[best["x", i, j] for j in range(3)] for i in range(2)])
    np.testing.assert_array_equal(model.most_probable()["x"], x)


def test_groups_and_factors_are_the_same_product():
    model = every_kind()
    rng = np.random.default_rng(0)
    graph = FactorGraph(model.elements, model.factor_groups())
    codes = rng.integers(0, model.elements.card, size=(20, len(model.elements))).astype(np.int32)
    codes[:10, -1] = 0
    joint = enumerated(model)
    with np.errstate(divide="ignore"):
        want = np.log([joint.table[tuple(row)] for row in codes])
    np.testing.assert_allclose(graph.log_score(codes), want, atol=1e-9)


def test_complete_rows_need_no_engine():
    class Forbidden(Engine):
        def reason(self):
            return ""

    model = every_kind()
    rng = np.random.default_rng(1)
    rows = {
        "x": torch.from_numpy(rng.integers(0, 2, size=(5, 2, 3))),
        "d": torch.from_numpy(rng.integers(0, 3, size=(5, 4))),
        "a": torch.from_numpy(rng.integers(0, 2, size=5)),
        "b": torch.tensor([0, 0, 0, 0, 1]),
    }
    joint = enumerated(model)
    want = []
    for r in range(5):
        row = {n: int(rows[n][r]) for n in "ab"}
        row |= {("x", i, j): int(rows["x"][r, i, j]) for i in range(2) for j in range(3)}
        row |= {("d", i): int(rows["d"][r, i]) for i in range(4)}
        with np.errstate(divide="ignore"):
            want.append(np.log(oracle.weight(joint, row)))
    np.testing.assert_allclose(model.log_score(rows, engine=Forbidden()), want, atol=1e-9)
    np.testing.assert_allclose(
        model.log_prob(rows), np.array(want) - oracle.log_evidence(joint), atol=1e-9
    )
    rows["a"] = torch.full((5,), -1)
    with pytest.raises(Unsupported):
        model.log_score(rows, engine=Forbidden())
    assert model.log_score(rows)[4] == -math.inf
    one = {n: x[0] for n, x in rows.items()}
    assert model.log_score({n: v for n, v in one.items() if n in "xd"}).shape == ()


def test_rows_are_looked_up_piece_by_piece(monkeypatch):
    rng = np.random.default_rng(2)
    model = MarkovRandomField(
        [
            Potts(Variable("d", 3, shape=(4, 5)), -math.inf, rng.normal(size=3)),
            Potts(Variable("e", 300, shape=(3, 1)), rng.normal(size=2)),
            Ising(Variable("x", 2, shape=(4, 5)), 0.3, None),
        ]
    )
    data = {n: torch.from_numpy(rng.integers(0, v.num_states, size=(9, *v.shape)))
            for n, v in model.variables.items()}  # fmt: skip
    data["d"][0] = torch.tensor(np.indices((4, 5)).sum(0) % 2)
    data["e"][0] = torch.tensor([[0], [256], [0]])
    whole = model.log_score(data)
    assert whole[0].isfinite()
    assert whole[1] == -math.inf
    monkeypatch.setattr("pgnn.inference.log_score._ENTRIES", 200)
    assert torch.allclose(model.log_score(data), whole)
    model.log_score(data)[:1].sum().backward()
    assert model.potentials[2].field.grad.isfinite()


def test_a_bound_is_taken_only_when_it_is_named():
    class Bound(Engine):
        def infer(self, problem):
            rows = problem.num_rows
            states = int(problem.graph.elements.offset[-1])
            return Beliefs(torch.zeros(rows, states), torch.full((rows,), -7.0), kind="lower bound")

        def reason(self):
            return ""

    model = MarkovRandomField.grid((40, 40), coupling=0.3)
    data = {"x": torch.zeros(2, 40, 40, dtype=torch.long)}
    assert float(model.log_partition(engine=Bound())) == -7
    assert model.log_prob(data, engine=Bound()).tolist() == pytest.approx(
        [2 * 40 * 39 * 0.3 + 7] * 2
    )
    for ask in (model.log_partition, lambda: model.log_prob(data)):
        with pytest.raises(Intractable):
            ask()


# --- gradients ----------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences():
    model = every_kind()
    model.requires_grad_()
    data = {
        "x": torch.tensor([[[0, 1, 1], [1, -1, 0]], [[1, 1, 1], [0, 0, -1]]]),
        "d": torch.tensor([[0, 1, 2, -1], [2, 2, 1, 0]]),
        "a": torch.tensor([1, -1]),
        "b": torch.tensor([0, -1]),
    }
    model.log_prob(data).sum().backward()
    step = 1e-5
    for p in model.parameters():
        flat = p.detach().view(-1)
        for k in range(flat.numel()):
            if flat[k].isinf():
                assert p.grad.view(-1)[k] == 0
                continue
            change = []
            for sign in (1, -1):
                with torch.no_grad():
                    flat[k] += sign * step
                    change.append(float(model.log_prob(data).sum()))
                    flat[k] -= sign * step
            numeric = (change[0] - change[1]) / (2 * step)
            assert float(p.grad.view(-1)[k]) == pytest.approx(numeric, abs=1e-6)


def test_gradient_of_weights_is_counted_less_expected():
    a, b, c = (Variable(n, 3) for n in "abc")
    features = torch.from_numpy(np.random.default_rng(5).normal(size=(4, 3, 3)))
    tied = LogLinear([a, b, c], features, scopes=[("a", "b"), ("b", "c")])
    with torch.no_grad():
        tied.weights += torch.tensor([0.3, -0.2, 0.9, 0.1])
    model = MarkovRandomField([tied])
    rows = torch.tensor([[0, 1, 2], [2, 2, 0]])
    model.log_prob(rows).sum().backward()
    joint = enumerated(model)
    expected = sum(
        np.tensordot(features.numpy(), oracle.marginal(joint, pair), 2) for pair in ("ab", "bc")
    )
    counted = sum(features.numpy()[:, r[i], r[i + 1]] for r in rows.tolist() for i in range(2))
    np.testing.assert_allclose(tied.weights.grad, counted - 2 * expected, atol=1e-9)


def test_answers_keep_their_numbers():
    model = every_kind()
    held = model.factors()
    before = [f.log_values.clone() for f in held]
    answer = model.query("a")["a"].probs
    shown = answer.clone()
    with torch.no_grad():
        for p in model.parameters():
            p += torch.rand_like(p)
    assert torch.equal(answer, shown)
    assert all(torch.equal(f.log_values, old) for f, old in zip(held, before, strict=True))
    assert not torch.allclose(model.query("a")["a"].probs, shown)


# --- inputs -------------------------------------------------------------------------------------


def conditional_field() -> MarkovRandomField:
    torch.manual_seed(0)
    y, z = Variable("y", 3, shape=(2, 2)), Variable("z", 2)
    network = nn.Sequential(nn.Linear(5, 12), nn.Unflatten(1, (2, 2, 3))).double()
    couplings = nn.Linear(2, 4).double()
    joint = nn.Sequential(nn.Linear(5, 6), nn.Unflatten(1, (2, 3))).double()
    return MarkovRandomField(
        [
            NeuralPotential(y, network, "image"),
            NeuralPotential(y, couplings, "edge", edges=Lattice()),
            NeuralPotential([z, y.element(1, 1)], joint, "image"),
            Potts(y, 0.2),
        ]
    )


def test_potentials_of_inputs():
    model = conditional_field()
    assert model.input_names == ("image", "edge")
    u = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).double()
    v = torch.randn(4, 2, generator=torch.Generator().manual_seed(2)).double()
    y = torch.tensor([[[0, 1], [2, 0]], [[1, 1], [-1, 0]], [[0, 0], [0, 0]], [[-1] * 2] * 2])
    data = {"y": y, "z": torch.tensor([0, -1, 1, -1])}
    inputs = {"image": u, "edge": v}
    log_z = model.log_partition(inputs=inputs)
    score = model.log_score(data, inputs=inputs)
    log_prob = model.log_prob(data, inputs=inputs)
    assert log_z.shape == score.shape == (4,)
    complete = model.log_score({n: x[:1] for n, x in data.items()},
                               inputs={n: x[:1] for n, x in inputs.items()})  # fmt: skip
    for r in range(4):
        joint = enumerated(model, inputs={n: x[r : r + 1] for n, x in inputs.items()})
        row = {("y", i, j): int(y[r, i, j]) for i in range(2) for j in range(2)}
        row["z"] = int(data["z"][r])
        want = math.log(oracle.weight(joint, row))
        assert float(score[r].detach()) == pytest.approx(want, abs=1e-9)
        assert float(log_z[r].detach()) == pytest.approx(oracle.log_evidence(joint), abs=1e-9)
        if r == 0:
            assert float(complete[0].detach()) == pytest.approx(want, abs=1e-9)
    assert torch.allclose(log_prob, score - log_z)
    assert float(log_prob[3].detach()) == pytest.approx(0, abs=1e-9)
    log_prob.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_missing_inputs():
    model = conditional_field()
    with pytest.raises(EvidenceError, match="needs the input 'image'"):
        model.log_partition()
    with pytest.raises(EvidenceError, match="'edge' has 3 rows"):
        model.log_partition(inputs={"image": torch.zeros(4, 5), "edge": torch.zeros(3, 2)})


# --- networks without arrows --------------------------------------------------------------------


def test_from_bayesian():
    rng = np.random.default_rng(6)
    network = oracle.random_network(rng, "loop", 6)
    variables = {n: Variable(n, k) for n, k in network.cards.items()}
    directed = pgnn.BayesianNetwork(
        network.edges,
        {n: Tabular(variables[n], [variables[p] for p in network.parents[n]], table)
         for n, table in network.probabilities.items()},
    )  # fmt: skip
    field = MarkovRandomField.from_bayesian(directed)
    assert list(field.variables) == list(directed.variables)
    assert float(field.log_partition()) == pytest.approx(0, abs=1e-12)
    rows = [oracle.random_evidence(rng, network.joint(), share) for share in (0, 0.4, 0.7, 1)]
    batch = {n: torch.tensor([r.get(n, -1) for r in rows]) for n in network.cards}
    np.testing.assert_allclose(field.log_prob(batch), directed.log_prob(batch), atol=1e-9)
    for n in network.cards:
        torch.testing.assert_close(
            field.query(n, batch)[n].probs, directed.query(n, batch)[n].probs
        )
    drawn = field.sample(20_000, seed=0)
    for n in network.cards:
        share = np.bincount(drawn[n].numpy(), minlength=network.cards[n]) / 20_000
        # five standard deviations of a share are at most 5 / (2 sqrt(n))
        np.testing.assert_allclose(share, oracle.marginal(network.joint(), [n]), atol=0.018)
    for family in (set(network.parents[n]) | {n} for n in network.cards):
        for a, b in itertools.combinations(family, 2):
            assert field.graph.has_edge(a, b)


def test_the_conditionals_are_shared():
    directed = pgnn.BayesianNetwork(
        [("a", "b")], {"b": Sigmoid, "a": [0.5, 0.5]}, states={"a": 2, "b": 2}
    )
    field = MarkovRandomField.from_bayesian(directed)
    assert field.num_free_parameters == directed.num_free_parameters
    with torch.no_grad():
        directed.conditionals["b"].bias += 2.0
    torch.testing.assert_close(field.query("b")["b"].probs, directed.query("b")["b"].probs)


def test_draws_of_conditionals_and_more():
    directed = pgnn.BayesianNetwork([], {"a": [0.5, 0.5]})
    conditional = MarkovRandomField.from_bayesian(directed)
    assert conditional.factors()[0].child == "a"
    both = MarkovRandomField(
        [*conditional.potentials, TabularPotential(Variable("a", 2), [1.0, 0.0])]
    )
    assert not both.sample(50, seed=0)["a"].any()


def test_networks_with_inputs_and_reals():
    torch.manual_seed(0)
    a, b = Variable("a", 2), Variable("b", 3)
    directed = pgnn.BayesianNetwork(
        [("a", "b")], {"a": Tabular(a), "b": Neural(b, [a], nn.Linear(6, 3), ["u"])}
    )
    field = MarkovRandomField.from_bayesian(directed)
    inputs = {"u": torch.randn(3, 4)}
    observed = {"b": torch.tensor([0, 2, -1])}
    torch.testing.assert_close(
        field.query("a", observed, inputs=inputs)["a"].probs,
        directed.query("a", observed, inputs=inputs)["a"].probs,
    )
    real = pgnn.BayesianNetwork([], {"w": lambda v, p: Neural(v, p, nn.Linear(1, 1), "u")},
                                states={"w": 2})  # fmt: skip
    assert MarkovRandomField.from_bayesian(real).input_names == ("u",)
    image = Variable("image", shape=(2,))
    head = pgnn.factors.NormalHead((2,), 1.0)
    mixed = pgnn.BayesianNetwork(
        [("a", "image")], {"a": Tabular(a), "image": Neural(image, [a], nn.Linear(2, 2), head=head)}
    )
    with pytest.raises(Unsupported, match="'image' is real"):
        MarkovRandomField.from_bayesian(mixed)


def test_log_score_of_any_model():
    directed = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    rows = torch.tensor([[0, 1], [1, 1]])
    assert torch.allclose(looked_up(directed, rows), directed.log_prob(rows))
    assert looked_up(directed, {"a": 1}) is None
    assert looked_up(directed, {"a": 1, "b": 0}).shape == ()


def test_printing():
    assert repr(every_kind()) == "MarkovRandomField(4 variables of 12 elements, 5 potentials)"
    assert "Ising('x')" in str(every_kind().potentials[0])


def test_factors_at_observed_states():
    model = every_kind()
    x = torch.tensor([[[0, 1, 1], [1, 0, 0]], [[1, 1, 1], [0, 0, 1]]])
    left = model.factors({"x": x, "b": torch.tensor([1, 0])})
    assert {n for f in left for n in f.names} == {"a", *(("d", k) for k in range(4))}
    groups = model.factor_groups({"x": x, "b": torch.tensor([1, 0])})
    assert {g.batch_shape for g in groups} >= {(2,)}
    for r in range(2):
        row = {("x", i, j): int(x[r, i, j]) for i in range(2) for j in range(3)}
        joint = enumerated(model, {**row, "b": 1 - r})
        product = Factor([], torch.zeros(()).double()).product(*left)
        total = product.marginalize(product.names).log_values
        assert float(total[r]) == pytest.approx(oracle.log_evidence(joint), abs=1e-9)


def test_no_rows():
    nothing = {"image": torch.zeros(0, 5).double(), "edge": torch.zeros(0, 2).double()}
    model = conditional_field()
    assert model.log_partition(inputs=nothing).shape == (0,)
    data = {"y": torch.zeros(0, 2, 2, dtype=torch.long), "z": torch.zeros(0, dtype=torch.long)}
    assert model.log_score(data, inputs=nothing).shape == (0,)
    rows = {
        n: torch.zeros(0, *v.shape, dtype=torch.long) for n, v in every_kind().variables.items()
    }
    assert every_kind().log_prob(rows).shape == (0,)


def test_elements_without_factors():
    free = MarkovRandomField([Ising(Variable("x", 2, shape=(1, 1)), 0.5),
                              Potts(Variable("d", 3, shape=(2,)), 0.0)])  # fmt: skip
    assert float(free.log_partition()) == pytest.approx(math.log(2 * 9))
    assert free.query("x")["x"].probs.shape == (1, 1, 2)
    one = MarkovRandomField.grid((2, 2), 1, 0.3)
    assert float(one.log_partition()) == pytest.approx(4 * 0.3)
