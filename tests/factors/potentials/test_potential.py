"""Scopes of potentials in all the ways in which they can be given; small tables and features."""

import numpy as np
import pytest
import torch

from pgnn import (
    Factor,
    Ising,
    Lattice,
    LogLinear,
    ModelError,
    NeuralPotential,
    Potts,
    TabularPotential,
    Variable,
)
from pgnn.errors import EvidenceError, Intractable
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.grouping import merged
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.potentials.factor_tables import FactorTables

A, B, C = Variable("a", 2), Variable("b", ["x", "y", "z"]), Variable("c", 2)
X = Variable("x", 2, shape=(2, 3))
TABLE = np.arange(1.0, 7.0).reshape(2, 3)


# --- scopes -------------------------------------------------------------------------------------


def test_single_variables_are_one_scope():
    p = TabularPotential([B, A], TABLE.T)
    assert p.scopes.tolist() == [[0, 1]]
    assert p.cliques == (("b", "a"),)
    assert p.placed(Elements([C, A, B])).tolist() == [[2, 1]]


def test_arrays_are_joined_element_by_element():
    y = Variable("y", 3, shape=(2, 3))
    p = TabularPotential([X, y], TABLE)
    assert p.scopes.tolist() == [[k, 6 + k] for k in range(6)]
    assert p.cliques == (("x", "y"),)
    with_single = TabularPotential([A, X])
    assert with_single.scopes.tolist() == [[0, 1 + k] for k in range(6)]
    with pytest.raises(ModelError, match="element by element and need one shape"):
        TabularPotential([X, Variable("y", 3, shape=(3, 2))])


@pytest.mark.parametrize(
    "edges",
    [
        np.array([[0, 1], [2, 5]]),
        torch.tensor([[0, 1], [2, 5]]),
        [(0, 1), (2, 5)],
        [((0, 0), (0, 1)), ((0, 2), (1, 2))],
        [(("x", 0, 0), ("x", 0, 1)), (("x", 0, 2), ("x", 1, 2))],
    ],
)
def test_ways_to_name_elements(edges):
    for p in (Ising(X, edges=edges), Potts(X, edges=edges), TabularPotential(X, scopes=edges)):
        assert p.scopes.tolist() == [[0, 1], [2, 5]]
        assert p.placed(Elements([A, X])).tolist() == [[1, 2], [3, 6]]


def test_edges_by_name():
    p = Potts([A, C, Variable(7, 2)], edges=[("a", 7), (7, "c")])
    assert p.scopes.tolist() == [[0, 2], [2, 1]]
    assert p.cliques == (("a", 7), (7, "c")) or set(map(frozenset, p.cliques)) == {
        frozenset(("a", 7)),
        frozenset(("c", 7)),
    }


def test_elements_of_arrays_are_variables_too():
    p = TabularPotential([X.element(1, 2), A], np.eye(2))
    assert p.placed(Elements([A, X])).tolist() == [[6, 0]]


@pytest.mark.parametrize(
    ("scopes", "match"),
    [
        ([(0, 6)], "unknown element 6"),
        (np.array([[0, 6]]), "out of range"),
        (np.array([0, 1]), r"shape \(F, n\)"),
        (np.array([[0.0, 1.0]]), "integers"),
        ([(0, 0)], "to itself"),
        ([((0, 0), (0, 3))], "unknown element"),
        ([(0, 1), (0, 1, 2)], "one length"),
        ("ab", "tuples of elements"),
        ([0, 1], "tuple of elements"),
        ([("x", ("x", 0, 0))], "array of shape"),
    ],
)
def test_wrong_scopes(scopes, match):
    with pytest.raises(ModelError, match=match):
        TabularPotential(X, scopes=scopes)


def test_scopes_of_different_states():
    with pytest.raises(ModelError, match="same numbers of states"):
        LogLinear([A, B, C], torch.ones(1, 2, 2), scopes=[("a", "c"), ("a", "b")])
    with pytest.raises(ModelError, match="lattice is over the cells of one array"):
        TabularPotential([A, C], scopes=Lattice())


def test_wrong_variables():
    with pytest.raises(ModelError, match="at least one variable"):
        TabularPotential([])
    with pytest.raises(ModelError, match="is real"):
        TabularPotential([A, Variable("w", shape=(2,))])
    with pytest.raises(ModelError, match="'a' twice"):
        TabularPotential([A, A])
    with pytest.raises(ModelError, match="must be variables, such as"):
        TabularPotential(["a"])


# --- tables -------------------------------------------------------------------------------------


def test_given_tables_are_constant_and_missing_ones_neutral():
    given, missing = TabularPotential([A, B], TABLE), TabularPotential([A, B])
    assert not given.log_table.requires_grad
    assert missing.log_table.requires_grad
    assert torch.equal(missing.table, torch.ones(2, 3).double())
    np.testing.assert_allclose(given.table, TABLE, rtol=1e-15)
    assert given.num_free_parameters == 5


def test_the_callers_table_is_copied():
    table = torch.ones(2).double()
    p = TabularPotential(A, table)
    table[0] = 5
    assert p.table.tolist() == [1, 1]


def test_a_table_for_every_element():
    tables = np.random.default_rng(0).random((2, 3, 2)) + 0.1
    p = TabularPotential(X, tables)
    singles = p.factors(Elements([X]))
    assert [f.names for f in singles][:2] == [(("x", 0, 0),), (("x", 0, 1),)]
    np.testing.assert_allclose(torch.stack([f.values for f in singles]), tables.reshape(6, 2))
    shared = TabularPotential(X, [0.25, 4])
    assert shared.groups(Elements([X]))[0].shared


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (-TABLE, r"not below zero.*entry \(0, 0\) is -1"),
        (TABLE * np.nan, "is nan"),
        (TABLE * np.inf, "is inf"),
        (TABLE * 0, "no positive entry"),
        (TABLE.T, r"shape \(2, 3\), got \(3, 2\)"),
        ([[1, 2], [3]], "rectangular"),
        (torch.ones(2, 3, requires_grad=True), "requires grad"),
    ],
)
def test_wrong_tables(table, match):
    with pytest.raises(ModelError, match=match):
        TabularPotential([A, B], table)


def test_tables_too_large_to_make():
    with pytest.raises(Intractable, match="smaller cliques"):
        TabularPotential([Variable(k, 2) for k in range(27)])


# --- features -----------------------------------------------------------------------------------


def test_features_are_functions_of_labels():
    p = LogLinear([A, B], {"same": lambda a, b: a == 0 and b == "x", "two": lambda a, b: a + 1})
    assert p.feature_names == ("same", "two")
    assert p.features[0].tolist() == [[1, 0, 0], [0, 0, 0]]
    assert p.features[1].tolist() == [[1, 1, 1], [2, 2, 2]]
    assert p.weights.requires_grad
    one = LogLinear([A, B], lambda a, b: (a == 1, b == "z"), weights=[2.0, -1.0])
    assert one.features.shape == (2, 2, 3)
    (factor,) = one.factors(Elements([A, B]))
    np.testing.assert_allclose(factor.log_values, [[0, 0, -1], [2, 2, 1]])
    assert not one.weights.requires_grad


def test_features_tied_over_scopes():
    p = LogLinear(X, {"agree": lambda s, t: s == t}, [0.3], scopes=Lattice())
    (group,) = p.groups(Elements([X]))
    assert group.shared
    assert group.num_factors == 7


@pytest.mark.parametrize(
    ("features", "weights", "match"),
    [
        (torch.ones(2, 2), None, r"\(D, 2, 3\)"),
        (lambda a, b: np.nan, None, "finite"),
        ({"f": lambda a, b: (1, 2)}, None, "one number"),
        ({"f": 3}, None, "function"),
        ({}, None, "at least one feature"),
        (torch.ones(2, 2, 3), [1.0], "2 features need weights"),
        (torch.ones(1, 2, 3), [np.inf], "finite"),
    ],
)
def test_wrong_features(features, weights, match):
    with pytest.raises(ModelError, match=match):
        LogLinear([A, B], features, weights)


# --- networks -----------------------------------------------------------------------------------


class Reshape(torch.nn.Module):
    """Numbers of a row in another shape."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, value):
        return value.reshape(len(value), *self.shape)


def test_networks_give_each_row_its_tables():
    u = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    joint = NeuralPotential([A, B], Reshape(2, 3), "u")
    (factor,) = joint.factors(Elements([A, B]), {"u": u, "other": u})
    assert torch.equal(factor.log_values, u.reshape(4, 2, 3))
    y = Variable("y", 2, shape=(3,))
    unary = NeuralPotential(y, Reshape(3, 2), ["u"])
    factors = unary.factors(Elements([y]), {"u": u})
    assert torch.equal(factors[1].log_values, u[:, 2:4])
    edges = NeuralPotential(X, Reshape(6), "u", edges=Lattice(periodic=(False, False)))
    with pytest.raises(ModelError, match=r"\(B, 7\)"):
        edges.groups(Elements([X]), {"u": u})
    pairs = NeuralPotential(X, Reshape(6), "u", edges=[(k, (k + 1) % 6) for k in range(6)])
    (group,) = pairs.groups(Elements([X]), {"u": u})
    assert isinstance(group, PottsGroup)
    assert torch.equal(group.coupling, u)
    tables = NeuralPotential(y, Reshape(2, 2, 2), "v", scopes=[(0, 1), (1, 2)])
    v = torch.arange(8.0)[None]
    assert tables.factors(Elements([y]), {"v": v})[1].log_values.tolist() == [[[4, 5], [6, 7]]]


def test_wrong_networks():
    u = torch.zeros(4, 6)
    with pytest.raises(ModelError, match="needs an input"):
        NeuralPotential(A, Reshape(2), ())
    with pytest.raises(ModelError, match="torch module"):
        NeuralPotential(A, lambda u: u, "u")
    with pytest.raises(ModelError, match="not both"):
        NeuralPotential(X, Reshape(2), "u", scopes=[(0, 1)], edges=[(0, 1)])
    with pytest.raises(ModelError, match=r"shape \(B, 2\), got \(4, 6\)"):
        NeuralPotential(A, Reshape(6), "u").groups(Elements([A]), {"u": u})
    with pytest.raises(EvidenceError, match=r"needs the input 'u'.*'v'"):
        NeuralPotential(A, Reshape(6), "u").groups(Elements([A]), {"v": u})
    halving = NeuralPotential(A, Pairs(), "u")
    with pytest.raises(EvidenceError, match="made 3 rows of 6"):
        halving.groups(Elements([A]), {"u": torch.zeros(6, 1)})
    with pytest.raises(EvidenceError, match="NaN"):
        NeuralPotential(A, Reshape(2), "u").groups(Elements([A]), {"u": torch.full((1, 2), np.nan)})


class Pairs(torch.nn.Module):
    """Two rows become one."""

    def forward(self, value):
        return value.reshape(-1, 2)


# --- factors ------------------------------------------------------------------------------------


def test_factors_keep_their_order():
    rng = np.random.default_rng(1)
    scopes = [[A, B], [C], [], [B, A], [C, A], [A, B]]
    factors = [
        Factor(s, torch.from_numpy(rng.normal(size=[v.num_states for v in s]))) for s in scopes
    ]
    factors.append(Factor([A], torch.zeros(3, 2)))  # differs from row to row
    p = FactorTables(factors)
    assert len(p.tables) == 6
    again = p.factors(Elements([C, B, A]))
    assert [f.names for f in again] == [f.names for f in factors]
    for old, new in zip(factors, again, strict=True):
        assert torch.equal(old.log_values, new.log_values)
        assert old.log_values.dtype == new.log_values.dtype
    with pytest.raises(ModelError, match="NaN"):
        FactorTables([Factor([A], torch.tensor([0.0, np.nan]))])


def test_merging_keeps_the_product():
    rng = np.random.default_rng(2)
    elements = Elements([Variable(k, 2) for k in range(5)])
    tables = [torch.from_numpy(rng.normal(size=(n, 2, 2))) for n in (1, 2, 1)]
    groups = [
        TableGroup([[0, 1]], tables[0]),
        PottsGroup([[1, 2]], torch.tensor([0.5]).double(), 2),
        TableGroup([[0, 1], [1, 2]], tables[1]),
        TableGroup([[3, 4], [0, 4]], tables[2]),  # shared: stays alone
        PottsGroup([[3, 2], [0, 3]], torch.tensor([0.1, -0.2]).double(), 2),
        TableGroup([[2]], torch.zeros(3, 1, 2).double()),  # row-wise
        TableGroup([[1]], torch.zeros(1, 2).double()),
    ]
    found = merged(groups)
    assert [g.num_factors for g in found] == [3, 3, 2, 1, 1]

    def listed(held):
        return sorted((f.names, f.log_values.tolist()) for g in held for f in g.factors(elements))

    assert listed(found) == listed(groups)
