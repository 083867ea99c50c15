"""Ising and Potts potentials against their definitions and against transfer matrices."""

import itertools
import math

import numpy as np
import pytest
import torch

from pgnn import Ising, Lattice, MarkovRandomField, ModelError, Potts, Variable
from pgnn.factors.elements import Elements
from pgnn.factors.groups.potts_group import PottsGroup
from tests import oracle

NEGATIVE = -math.inf


def scores(potential):
    """Log potentials of all joint states, in the order of ``itertools.product``."""
    elements = Elements(potential.variables)
    names = [v.name for v in elements.singles]
    card = {n: int(k) for n, k in zip(names, elements.card, strict=True)}
    tables = [(f.names, f.values.detach().numpy()) for f in potential.factors(elements)]
    with np.errstate(divide="ignore"):
        return np.log(oracle.joint(card, tables).table.ravel())


def ising_score(spins, edges, coupling, field):
    pairs = sum(j * spins[a] * spins[b] for (a, b), j in zip(edges, coupling, strict=True))
    return pairs + sum(h * s for h, s in zip(field, spins, strict=True))


@pytest.mark.parametrize("shape", [(1,), (4,), (2, 3), (2, 2, 2)])
@pytest.mark.parametrize("lattice", [Lattice(), Lattice(True), Lattice(diagonals=True)])
@pytest.mark.parametrize("kind", ["shared", "direction", "edge"])
def test_ising_is_what_it_says(shape, lattice, kind):
    rng = np.random.default_rng(0)
    edges, direction = lattice.edges(shape)
    number = len(lattice.directions(len(shape)))
    coupling = rng.normal(size={"shared": (), "direction": (number,), "edge": (len(edges),)}[kind])
    by_edge = {"shared": lambda: np.full(len(edges), coupling), "direction": lambda:
               coupling[direction], "edge": lambda: coupling}[kind]()  # fmt: skip
    if kind == "edge" and len(edges) == number:
        by_edge = coupling[direction]
    field = rng.normal(size=shape)
    x = Variable("x", 2, shape=shape)
    got = scores(Ising(x, coupling, field, lattice))
    spins = itertools.product((-1, 1), repeat=math.prod(shape))
    want = [ising_score(s, edges.tolist(), by_edge, field.ravel()) for s in spins]
    np.testing.assert_allclose(got, want, atol=1e-12)
    free = scores(Ising(x, coupling, 0.0, lattice))
    spins = itertools.product((-1, 1), repeat=math.prod(shape))
    want = [ising_score(s, edges.tolist(), by_edge, 0 * field.ravel()) for s in spins]
    np.testing.assert_allclose(free, want, atol=1e-12)


@pytest.mark.parametrize("each", [False, True])
def test_potts_is_what_it_says(each):
    rng = np.random.default_rng(1)
    x = Variable("x", 3, shape=(2, 2))
    edges, direction = Lattice().edges((2, 2))
    coupling = rng.normal(size=2)
    field = rng.normal(size=(2, 2, 3) if each else 3)
    field[..., 1] = NEGATIVE
    got = scores(Potts(x, coupling, field))
    flat = np.broadcast_to(field, (2, 2, 3)).reshape(4, 3)
    want = [
        sum(coupling[d] * (s[a] == s[b]) for (a, b), d in zip(edges, direction, strict=True))
        + sum(flat[k, s[k]] for k in range(4))
        for s in itertools.product(range(3), repeat=4)
    ]
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_forbidden_agreement():
    x = Variable("x", 3, shape=(3,))
    colourings = np.exp(scores(Potts(x, NEGATIVE)))
    assert colourings.sum() == 3 * 2 * 2


def test_several_variables_are_joined_each_to_each():
    a, b, c = (Variable(n, 2) for n in "abc")
    assert Ising([a, b, c]).edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    x, y = Variable("x", 2, shape=(3,)), Variable("y", 2, shape=(3,))
    assert Ising([x, y]).edges.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert Ising(a).edges.shape == (0, 2)
    np.testing.assert_allclose(scores(Ising(a, field=0.7)), [-0.7, 0.7])


def test_what_is_missing_is_learnable():
    x = Variable("x", 2, shape=(2, 3))
    shared = Ising(x, field=None)
    assert shared.coupling.shape == shared.field.shape == ()
    assert shared.coupling.requires_grad
    assert shared.field.requires_grad
    assert not Ising(x, 0.5, 0.1).coupling.requires_grad
    assert Ising(x, 0.5).field is None
    single = Ising([x], field=None, edges=[(0, 1), (0, 2)])
    assert single.coupling.shape == (2,)
    assert single.field.shape == (6,)
    assert Potts(Variable("d", 3, shape=(4,)), field=None).field.shape == (3,)
    assert not scores(shared).any()


def test_couplings_stay_dense():
    p = Potts(Variable("depth", 16, shape=(300, 300)), 0.5, np.zeros(16))
    (pairs, field) = p.groups(Elements(p.variables))
    assert isinstance(pairs, PottsGroup)
    assert pairs.coupling.numel() == 1
    assert field.log_values.shape == (1, 16)
    assert pairs.num_factors == 2 * 300 * 299


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda x: Ising(Variable("d", 3, shape=(4,))), "two states"),
        (lambda x: Ising(x, np.ones(5)), r"\(7,\).*\(2,\).*got \(5,\)"),
        (lambda x: Ising(x, math.inf), "finite"),
        (lambda x: Ising(x, 1.0, np.ones((3, 2))), r"\(2, 3\)"),
        (lambda x: Ising(x, 1.0, math.nan), "finite"),
        (lambda x: Potts(x, math.nan), "-inf"),
        (lambda x: Potts(x, math.inf), "-inf"),
        (lambda x: Potts(x, 1.0, 3.0), r"shape \(2,\)"),
        (lambda x: Potts(x, 1.0, [NEGATIVE, NEGATIVE]), "all states"),
        (lambda x: Potts([x, Variable("d", 3, shape=(2, 3))]), "one number of states"),
        (lambda x: Ising(x, 1.0, edges=[(0, 1, 2)]), "joins two"),
        (lambda x: Ising(x, torch.tensor(1.0, requires_grad=True)), "requires grad"),
    ],
)
def test_wrong_numbers(make, match):
    with pytest.raises(ModelError, match=match):
        make(Variable("x", 2, shape=(2, 3)))


# --- transfer matrices --------------------------------------------------------------------------


def log_ring(length, coupling, field):
    """Log Z of a ring of spins: the trace of a power of a 2 x 2 matrix (Kramers, Wannier 1941)."""
    s = np.array([-1.0, 1.0])
    matrix = np.exp(coupling * np.outer(s, s) + field * (s[:, None] + s[None]) / 2)
    return math.log((np.linalg.eigvalsh(matrix) ** length).sum())


def log_strip(length, width, coupling, field):
    """Log Z of an open strip: products of a matrix between the states of neighbouring columns."""
    columns = np.array(list(itertools.product((-1.0, 1.0), repeat=width)))
    inside = coupling[1] * (columns[:, 1:] * columns[:, :-1]).sum(1) + field * columns.sum(1)
    between = np.exp(coupling[0] * columns @ columns.T)
    vector = np.exp(inside)
    for _ in range(length - 1):
        vector = np.exp(inside) * (between @ vector)
    return math.log(vector.sum())


@pytest.mark.parametrize("length", [3, 4, 11, 40])
@pytest.mark.parametrize(("coupling", "field"), [(0.3, 0.0), (-0.8, 0.2), (1.1, -0.5)])
def test_rings(length, coupling, field):
    ring = MarkovRandomField.grid((length,), 2, coupling, field, lattice=Lattice(True))
    want = log_ring(length, coupling, field)
    assert float(ring.log_partition()) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize(("length", "width"), [(5, 1), (2, 2), (6, 3), (20, 4)])
@pytest.mark.parametrize("field", [0.0, 0.3])
def test_strips(length, width, field):
    coupling = [0.4, -0.7]
    strip = MarkovRandomField.grid((length, width), 2, coupling, field)
    want = log_strip(length, width, coupling, field)
    assert float(strip.log_partition()) == pytest.approx(want, abs=1e-9)
    potts = MarkovRandomField([Potts(Variable("x", 2, shape=(length, width)),
                                     2 * np.array(coupling), [-field, field])])  # fmt: skip
    edges = coupling[0] * (length - 1) * width + coupling[1] * length * (width - 1)
    assert float(potts.log_partition()) == pytest.approx(want + edges, abs=1e-9)
