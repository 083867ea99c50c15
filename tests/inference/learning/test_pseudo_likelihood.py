"""Pseudo-likelihood against its definition, closed forms and maximum likelihood."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pgnn
from pgnn import (
    DataError,
    Ising,
    LogLinear,
    MarkovRandomField,
    ModelError,
    Potts,
    TabularPotential,
    Variable,
)
from pgnn.factors.potentials.neural_potential import NeuralPotential
from pgnn.inference.learning import pseudo_likelihood
from pgnn.inference.learning.gradient import Gradient
from pgnn.inference.learning.pseudo_likelihood import PseudoLikelihood, PseudoObjective
from pgnn.inference.learning.training_data import read_rows
from tests.zoo import ZOO

A, B, C, D = Variable("a", 2), Variable("b", 3), Variable("c", 2), Variable("d", 1)
P = Variable("p", 3, shape=(2, 2))
COMPILED = pytest.mark.parametrize("compiled", [True, False], ids=["kernel", "torch"])


def random_numbers(model: MarkovRandomField, seed: int) -> MarkovRandomField:
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.copy_(torch.from_numpy(rng.normal(size=p.shape)))
    return model


def mixed() -> MarkovRandomField:
    """Tables over one to three elements, features, one state only, an array with couplings.

    One coupling serves several edges, and a table is shared by all cells.
    """
    rng = np.random.default_rng(1)
    return random_numbers(
        MarkovRandomField(
            [
                TabularPotential([A, B, C]),
                LogLinear([C, D], rng.normal(size=(2, 2, 1))),
                TabularPotential([D, B]),
                TabularPotential([A]),
                Potts(P, None, None),
                TabularPotential([P], scopes=[[("p", 0, 0)], [("p", 1, 0)], [("p", 1, 1)]]),
            ]
        ),
        0,
    )


def glass() -> MarkovRandomField:
    edges = np.array([[0, 1], [1, 2], [2, 3], [0, 3], [0, 2]])
    return random_numbers(
        MarkovRandomField([Ising(Variable("x", 2, shape=(5,)), None, None, edges)]), 2
    )


def zeros() -> MarkovRandomField:
    """States that rule others out."""
    table = np.array([[1.0, 0.0, 2.0], [0.5, 3.0, 0.0]])
    model = MarkovRandomField([TabularPotential([A, B], table), TabularPotential([B, C])])
    return random_numbers(model, 3)


def independent() -> MarkovRandomField:
    return random_numbers(MarkovRandomField([TabularPotential([A]), TabularPotential([B])]), 4)


MODELS = {"mixed": mixed, "glass": glass, "zeros": zeros, "independent": independent}


def possible_rows(model: MarkovRandomField, number: int, seed: int = 0) -> np.ndarray:
    cards = model.elements.card
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, cards, size=(4 * number, len(cards)))
    scores = [score(tables(model), row) for row in rows]
    return rows[np.isfinite(scores)][:number]


def tables(model: MarkovRandomField, inputs=None) -> list[tuple[list[int], np.ndarray]]:
    number = {v.name: k for k, v in enumerate(model.elements.singles)}
    return [
        ([number[n] for n in f.names], f.log_values.detach().numpy())
        for f in model.factors(None, inputs)
    ]


def score(factors: list[tuple[list[int], np.ndarray]], row: np.ndarray) -> float:
    return sum(float(table[tuple(row[scope])]) for scope, table in factors)


def definition(factors, cards, row: np.ndarray) -> float:
    """Sum over elements of log p(x_i | rest), each by scoring all states of the element."""
    total = 0.0
    for i, card in enumerate(cards):
        logs = []
        for k in range(card):
            other = row.copy()
            other[i] = k
            logs.append(score(factors, other))
        total += logs[row[i]] - np.logaddexp.reduce(logs)
    return total


def mean_of(model, rows, weights) -> float:
    factors, cards = tables(model), model.elements.card
    return float(np.dot(weights, [definition(factors, cards, r) for r in rows]) / weights.sum())


@COMPILED
@pytest.mark.parametrize("name", MODELS)
def test_value_and_gradient_are_those_of_the_definition(name, compiled):
    model = MODELS[name]()
    rows = possible_rows(model, 12)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=len(rows))
    value = PseudoObjective(model, compiled)(read_rows(model, rows, weights))()
    assert value.item() == pytest.approx(mean_of(model, rows, weights), abs=1e-11)
    value.backward()
    h = 1e-5
    for p in model.parameters():
        if not p.requires_grad:
            continue
        for k in np.ndindex(*p.shape):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    p[k] += sign * h
                ends.append(mean_of(model, rows, weights))
                with torch.no_grad():
                    p[k] -= sign * h
            # central differences are off by h^2 / 6 times third derivatives: of at most nine
            # conditionals with features below 8 (counts of edges)
            assert float(p.grad[k]) == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=2e-8)


@COMPILED
def test_tables_that_differ_from_row_to_row(compiled):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (2, 3))).double()
    model = MarkovRandomField(
        [
            NeuralPotential([A, B], network, "u"),
            NeuralPotential([C], nn.Linear(2, 2).double(), "u"),
            TabularPotential([B, C]),
            TabularPotential([A]),
        ]
    )
    random_numbers(model, 5)
    inputs = {"u": torch.randn(7, 2, dtype=torch.float64)}
    rows = possible_rows(MarkovRandomField([TabularPotential([A, B, C])]), 7)
    weights = np.arange(1.0, 8.0)
    read = read_rows(model, rows, weights, inputs)
    value = PseudoObjective(model, compiled)(read)()
    found = [p.grad for p in _backward(value, model)]
    one_by_one = torch.zeros((), dtype=torch.float64)
    for r in range(7):
        own = read_rows(model, rows[r : r + 1], inputs={"u": inputs["u"][r : r + 1]})
        part = PseudoObjective(model, compiled)(own)()
        factors = [(s, t[0] if t.ndim > len(s) else t) for s, t in tables(model, own.inputs)]
        want = definition(factors, (2, 3, 2), rows[r])
        assert part.item() == pytest.approx(want, abs=1e-12)
        one_by_one = one_by_one + weights[r] * part / weights.sum()
    assert value.item() == pytest.approx(one_by_one.item(), abs=1e-12)
    for got, p in zip(found, _backward(one_by_one, model), strict=True):
        torch.testing.assert_close(got, p.grad, rtol=0, atol=1e-12)


def _backward(value: torch.Tensor, model: nn.Module) -> list[nn.Parameter]:
    model.zero_grad()
    value.backward()
    return list(model.parameters())


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_add_up(monkeypatch, threads):
    """Blocks of rows in torch, pieces of rows in threads: the same value, the same derivatives."""
    model = mixed()
    rows = read_rows(model, possible_rows(model, 50))
    value = PseudoObjective(model, compiled=False)(rows)()
    want = [p.grad for p in _backward(value, model)]
    monkeypatch.setattr(pseudo_likelihood, "_ENTRIES", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for compiled in (True, False):
        again = PseudoObjective(model, compiled)(rows)()
        assert again.item() == pytest.approx(value.item(), abs=1e-12)
        for got, w in zip(_backward(again, model), want, strict=True):
            torch.testing.assert_close(got.grad, w, rtol=0, atol=1e-12)


@COMPILED
def test_impossible_rows_have_no_finite_value(compiled):
    model = zeros()
    rows = read_rows(model, np.array([[0, 0, 0], [0, 1, 0]]))
    assert PseudoObjective(model, compiled)(rows)().item() == -math.inf
    with pytest.raises(DataError, match="impossible"):
        model.fit(np.array([[0, 1, 0]]), learner=PseudoLikelihood(), progress=False)


def test_no_gradient_is_asked_for_under_no_grad():
    model = glass()
    mean = PseudoObjective(model)(read_rows(model, possible_rows(model, 5)))
    with torch.no_grad():
        assert not mean().requires_grad


# --- optima ---------------------------------------------------------------------------------------


def test_without_couplings_it_is_the_likelihood():
    rows = np.array([[0, 0], [1, 2], [1, 1], [0, 2], [1, 2]])
    model = independent()
    model.fit(rows, learner=PseudoLikelihood(tolerance=1e-9), progress=False)
    logs = model.log_prob({"a": rows[:, 0], "b": rows[:, 1]}).sum().item()
    want = (
        np.log([2 / 5, 3 / 5, 3 / 5, 2 / 5, 3 / 5]).sum() + np.log([0.2, 0.6, 0.2, 0.6, 0.6]).sum()
    )
    assert logs == pytest.approx(want, abs=1e-8)
    assert model.history["pseudo_log_likelihood"] == pytest.approx(want, abs=1e-8)


def test_one_coupling_has_a_closed_form():
    """Two spins agree in 7 of 10 rows: each given the other, p(agree) = 1 / (1 + exp(-2 J))."""
    model = MarkovRandomField([Ising([Variable("s", 2), Variable("t", 2)])])
    rows = {"s": [0] * 5 + [1] * 5, "t": [0] * 4 + [1] + [1] * 3 + [0] * 2}
    model.fit(rows, learner=PseudoLikelihood(tolerance=1e-9), progress=False)
    assert model.potentials[0].coupling.item() == pytest.approx(math.atanh(0.4), abs=1e-8)
    want = 2 * (7 * math.log(0.7) + 3 * math.log(0.3))
    assert model.history["pseudo_log_likelihood"] == pytest.approx(want, abs=1e-8)
    # l2: twice the derivative of the likelihood, 2 (m - tanh J) = l2 J
    model.fit(rows, learner=PseudoLikelihood(l2=0.3, tolerance=1e-10), progress=False)
    J = model.potentials[0].coupling.item()
    assert 2 * (0.4 - math.tanh(J)) == pytest.approx(0.3 * J, abs=1e-9)


def test_full_tables_of_all_states_take_relative_frequencies():
    """With every joint state observed, the table of counts has the conditionals of the counts."""
    states = np.array(list(itertools.product(range(2), range(3), range(2))))
    counts = np.random.default_rng(0).integers(1, 9, size=len(states))
    model = MarkovRandomField([TabularPotential([A, B, C])])
    model.fit(states, weights=counts, learner=PseudoLikelihood(tolerance=1e-9), progress=False)
    table = model.potentials[0].table.detach().numpy()
    want = np.zeros((2, 3, 2))
    want[tuple(states.T)] = counts / counts.sum()
    np.testing.assert_allclose(table / table.sum(), want, atol=1e-8)


def test_couplings_of_a_glass_are_recovered_nearly_as_by_likelihood():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 0.4, size=24)
    world = MarkovRandomField.grid((4, 4), coupling=truth)
    data = world.sample(4000, seed=1)["x"]
    errors = {}
    for learner in (Gradient(), PseudoLikelihood()):
        model = MarkovRandomField.grid((4, 4), coupling=np.zeros(24)).requires_grad_()
        model.fit({"x": data}, learner=learner, progress=False)
        off = model.potentials[0].coupling.detach().numpy() - truth
        errors[type(learner)] = np.sqrt(np.mean(off**2))
    # a coupling's information in a row is at least the variance of s_i s_j given all other pairs;
    # alone it is 1 - tanh^2 J, here 0.5 at least for nearly all, and neighbours cost up to a half
    assert errors[Gradient] < 2 / math.sqrt(4000) * math.sqrt(2)
    assert errors[PseudoLikelihood] < 1.5 * errors[Gradient]


def test_directed_models_learn_too():
    model = ZOO["sprinkler"].make().requires_grad_()
    data = model.sample(300, seed=0)
    columns = {n: data[n] for n in model.variables}
    before = read_rows(model, columns)
    start = PseudoObjective(model)(before)().item()
    model.fit(columns, learner=PseudoLikelihood(l2=1e-3), progress=False)
    assert model.history["pseudo_log_likelihood"] >= 300 * start
    for table in model.factors():
        sums = table.log_values.exp().sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums))


# --- data -----------------------------------------------------------------------------------------


def test_data_in_all_forms():
    rows = possible_rows(zeros(), 20)
    frame = pd.DataFrame(rows, columns=list("abc"))
    mapping = {n: rows[:, k] for k, n in enumerate("abc")}
    weighted = frame.drop_duplicates().merge(
        frame.groupby(list("abc")).size().rename("often").reset_index()
    )
    found = []
    for form, weights in [
        (rows, None),
        (torch.from_numpy(rows), None),
        (frame, None),
        (mapping, None),
        (weighted, "often"),
    ]:
        model = zeros()
        model.fit(form, weights=weights, learner=PseudoLikelihood(l2=0.1), progress=False)
        assert model.history["weight"] == 20
        found.append(model.history["trace"]["objective"][-1])
    np.testing.assert_allclose(found, found[0], atol=1e-12)


def test_arrays_may_come_bare():
    data = torch.randint(0, 2, (30, 2, 3), generator=torch.Generator().manual_seed(0))
    found = []
    for form in (data, {"x": data}, data.reshape(30, 6), data.numpy()):
        model = MarkovRandomField.grid((2, 3))
        model.fit(form, learner=PseudoLikelihood(), progress=False)
        found.append(model.potentials[0].coupling.item())
    assert max(found) == min(found)
    assert found[0] != 0


def test_inputs_reach_the_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 6), nn.Unflatten(1, (2, 3))).double()
    model = MarkovRandomField([NeuralPotential([A, B], network, "u")])
    u = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    data = {"a": (u[:, 0] > 0).long(), "b": (u[:, 0] > 0).long() * 2}
    model.fit(data, inputs={"u": u}, learner=PseudoLikelihood(l2=0.01), progress=False)
    assert model.history["converged"]
    found = model.query("b", {"a": data["a"]}, inputs={"u": u})["b"].probs.argmax(-1)
    assert torch.equal(found, data["b"])


def test_missing_cells_are_refused_with_their_place():
    model = zeros()
    before = [p.clone() for p in model.parameters()]
    data = {"a": [0, 1, 1], "b": [0, None, 1], "c": [0, 0, -1]}
    with pytest.raises(DataError, match=r"2 of 3 rows.*'b' in row 1.*Gradient\(\)"):
        model.fit(data, learner=PseudoLikelihood(), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert model.history == {}


def test_nothing_to_learn_is_said():
    model = MarkovRandomField([TabularPotential([A, B], np.ones((2, 3)))])
    with pytest.raises(ModelError, match="requires_grad_"):
        model.fit(np.zeros((2, 2), dtype=int), learner=PseudoLikelihood(), progress=False)


def test_large_fields_need_no_partition_function():
    """A grid that no exact engine could normalise."""
    model = MarkovRandomField.grid((60, 60), coupling=np.zeros(7080)).requires_grad_()
    data = torch.randint(0, 2, (20, 60, 60), generator=torch.Generator().manual_seed(0))
    with pytest.raises(pgnn.Intractable):
        model.fit({"x": data}, learner=Gradient(), progress=False)
    model.fit({"x": data}, learner=PseudoLikelihood(l2=0.5), progress=False)
    assert model.history["converged"]
