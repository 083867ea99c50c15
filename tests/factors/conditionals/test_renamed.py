"""The same conditional over variables of other names."""

import copy
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import pgnn
from pgnn.errors import EvidenceError, ModelError, Unsupported
from pgnn.factors import (
    ExponentialFamily,
    Gaussian,
    Neural,
    NormalHead,
    Renamed,
    Tabular,
    Variable,
)
from tests import oracle

S, X = Variable("s", 2), Variable("x")


def at(conditional: pgnn.Conditional, t: int) -> Renamed:
    return Renamed(conditional, {v.name: (v.name, t) for v in conditional.scope})


def test_tables_and_distributions_are_those_of_the_conditional() -> None:
    emission = Gaussian(X, [S], [0.0, 2.0], [1.0, 1.0])
    third = at(emission, 3)
    x = torch.tensor([0.5, torch.nan])
    found = third.factor({("x", 3): x, "x": torch.zeros(9)})
    assert [v.name for v in found.variables] == [("s", 3)]
    assert torch.equal(found.log_values, emission.factor({"x": x}).log_values)
    assert third.distribution({("s", 3): torch.tensor([1])}).mean.tolist() == [2.0]
    assert third.child == Variable(("x", 3))
    assert third.parents == (Variable(("s", 3), 2),)
    with pytest.raises(Unsupported):
        third.factor()
    with pytest.raises(EvidenceError):
        third.distribution({"s": torch.tensor([1])})


def test_numbers_are_shared() -> None:
    emission = Gaussian(X, [S])
    model = nn.ModuleList([at(emission, t) for t in range(4)])
    assert len(list(model.parameters())) == 2
    assert next(iter(model[2].parameters())) is emission.mean
    assert model[0].num_free_parameters == emission.num_free_parameters


def test_learning_adds_up_over_places() -> None:
    emission = Gaussian(X, [S])
    places = [at(emission, t) for t in range(2)]
    assert all(isinstance(p, ExponentialFamily) for p in places)
    x = torch.randn(2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w = torch.rand(2, 20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parts = [p.statistics({("x", t): x[t]}, w[t]) for t, p in enumerate(places)]
    places[0].maximize(tuple(a + b for a, b in zip(*parts, strict=True)))
    together = Gaussian(X, [S])
    together.maximize(together.statistics({"x": x.ravel()}, w.reshape(-1, 2)))
    torch.testing.assert_close(emission.mean, together.mean)
    torch.testing.assert_close(emission.scale, together.scale)
    assert places[0].log_prior(None) == 0
    places[1].initialize({("x", 1): x[1]}, 0)
    together.initialize({"x": x[1]}, 0)
    torch.testing.assert_close(emission.mean, together.mean)


def test_inputs_are_renamed_too() -> None:
    net = Neural(X, [S], nn.Linear(3, 1), inputs="u", head=NormalHead((), scale=1.0))
    p = Renamed(net, {"u": "v", "x": "y"})
    assert not isinstance(p, ExponentialFamily)
    assert p.inputs == ("v",)
    x, u = torch.zeros(2), torch.ones(2, 1)
    expected = net.factor({"x": x}, {"u": u}).log_values
    assert torch.equal(p.factor({"y": x}, {"v": u, "u": -u}).log_values, expected)


def test_copies_stay_what_they_are() -> None:
    p = copy.deepcopy(at(Gaussian(X, [S]), 3))
    assert isinstance(p, ExponentialFamily)
    assert p.child.name == ("x", 3)
    assert p.factor({("x", 3): torch.zeros(1)}).log_values.shape == (1, 2)


def test_wrong_names_are_refused() -> None:
    emission = Gaussian(X, [S])
    with pytest.raises(ModelError, match="has no 'sate' to rename"):
        Renamed(emission, {"sate": "t"})
    with pytest.raises(ModelError, match="twice"):
        Renamed(emission, {"s": "x"})


def test_a_chain_of_one_emission_and_one_transition() -> None:
    start, move = np.array([0.6, 0.4]), np.array([[0.9, 0.1], [0.3, 0.7]])
    emission = Gaussian(X, [S], [0.0, 2.0], [1.0, 0.5])
    transition = Tabular(Variable("next", 2), [S], move)
    names = [("s", t) for t in range(3)]
    graph = nx.DiGraph([*pairwise(names), *((n, ("x", n[1])) for n in names)])
    given = {n: Renamed(emission, {"x": ("x", n[1]), "s": n}) for n in names}
    conditionals = {("x", n[1]): c for n, c in given.items()}
    conditionals |= {b: Renamed(transition, {"s": a, "next": b}) for a, b in pairwise(names)}
    conditionals["s", 0] = Tabular(Variable(("s", 0), 2), (), start)
    model = pgnn.BayesianNetwork(graph, conditionals)
    x = [0.3, 1.5, 2.2]
    found = model.query(names, {("x", t): v for t, v in enumerate(x)})
    density = emission.factor({"x": torch.tensor(x, dtype=torch.float64)}).values.numpy()
    tables = [
        ([names[0]], start),
        *(([a, b], move) for a, b in pairwise(names)),
    ]
    tables += [([n], density[t]) for t, n in enumerate(names)]
    joint = oracle.joint(dict.fromkeys(names, 2), tables)
    for n in names:
        np.testing.assert_allclose(np.ravel(found[n].probs), oracle.marginal(joint, [n]), rtol=1e-9)
