"""The loops over consecutive numbers against the same loops, one number after another."""

import itertools

import numpy as np
import pytest
from numba import njit

from pgnn.inference.exact.kernels.unit_stride import along_units

SUM, MAXIMUM, FRESH = range(3)


@njit
def _compiled(memory, moving, ternary, output, kept, m, n, o, to, x, tx, y, ty, z, tz):  # type: ignore[no-untyped-def]
    along_units(memory, moving, ternary, output, kept, m, n, o, to, x, tx, y, ty, z, tz)


@pytest.mark.parametrize(
    ("operands", "kept", "output"),
    [
        (2, 1, SUM),
        (2, 0, SUM),
        (2, 1, MAXIMUM),
        (2, 0, MAXIMUM),
        (2, 1, FRESH),
        (3, 1, SUM),
        (3, 0, SUM),
    ],
)
def test_loops(operands: int, kept: int, output: int) -> None:
    rng = np.random.default_rng(operands)
    start = np.arange(1, 5) * 1000
    for n, m, moving in itertools.product(range(1, 36), (0, 1, 4), range(1, operands + 1)):
        steps = [n if kept else 1, *rng.choice([0, 1, n, n + 3], 3)]
        places = [int(p) for pair in zip(start, steps, strict=True) for p in pair]
        memory = rng.random(6000)
        expected = memory.copy()
        along_units.by_python(expected, moving, operands - 2, output, kept, m, n, *places)
        _compiled(memory, moving, operands - 2, output, kept, m, n, *places)
        np.testing.assert_allclose(memory, expected, rtol=1e-13)
        changed = np.flatnonzero(memory != expected)
        assert ((changed >= 1000) & (changed < 1000 + m * n)).all()
