"""Neighbours on lattices, against their definition cell by cell."""

import itertools

import numpy as np
import pytest

from pgnn import Lattice, ModelError


def expected(shape, wraps, diagonals):
    """Pairs of cells that differ by one step, as a set."""
    found = set()
    for cell in itertools.product(*map(range, shape)):
        for step in itertools.product((-1, 0, 1), repeat=len(shape)):
            if not any(step) or (sum(map(abs, step)) > 1 and not diagonals):
                continue
            other = [c + s for c, s in zip(cell, step, strict=True)]
            for axis, n in enumerate(shape):
                if wraps[axis] and n > 2:
                    other[axis] %= n
            if all(0 <= c < n for c, n in zip(other, shape, strict=True)):
                pair = [int(np.ravel_multi_index(c, shape)) for c in (cell, other)]
                found.add(frozenset(pair))
    return found


@pytest.mark.parametrize(
    "shape", [(1,), (5,), (2, 2), (3, 4), (1, 4), (4, 1), (3, 3, 3), (2, 3, 4)]
)
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("diagonals", [False, True])
def test_neighbours(shape, periodic, diagonals):
    edges, direction = Lattice(periodic, diagonals).edges(shape)
    pairs = [frozenset(e) for e in edges.tolist()]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == expected(shape, [periodic] * len(shape), diagonals)
    assert len(direction) == len(edges)


def test_directions():
    edges, direction = Lattice(diagonals=True).edges((3, 3))
    steps = Lattice(diagonals=True).directions(2)
    assert steps == ((1, 0), (0, 1), (1, 1), (1, -1))
    for (a, b), d in zip(edges.tolist(), direction.tolist(), strict=True):
        assert (b // 3 - a // 3, b % 3 - a % 3) == steps[d]


def test_one_axis_wraps():
    edges, _ = Lattice(periodic=(False, True)).edges((2, 3))
    assert {frozenset(e) for e in edges.tolist()} == expected((2, 3), [False, True], False)
    with pytest.raises(ModelError, match="one entry for each axis"):
        Lattice(periodic=(True,)).edges((2, 3))
