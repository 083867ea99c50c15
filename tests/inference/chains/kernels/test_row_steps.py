"""What is done to a row at a step, against NumPy, for any number of states."""

import math

import numpy as np
import pytest

from pgnn.inference.chains.kernels import row_steps as steps
from pgnn.inference.chains.kernels.arrays import LOST
from pgnn.inference.chains.kernels.back_pointers import max_origins_of_few
from pgnn.inference.kernels.compiled import numeric

SIZES = [1, 2, 3, 4, 7, 16, 23, 40]


@numeric
def begin(field, out, num, room):
    return steps.begin_step(field, out, 3, 2, num, room)


@numeric
def emit(x, y, num, factor):
    return steps.row_emit(x, y, 3, 2, num, factor)


@numeric
def audit(x, y, num, factor):
    return steps.row_audit(x, y, 3, 2, num, factor)


@numeric
def meet(x, y, num):
    return steps.row_meet(x, y, 3, 2, num)


@numeric
def combine(x, y, out, num, factor):
    steps.row_multiply(x, y, out, 3, 2, 1, num, factor)
    steps.row_scale(x, out, 3, 51, num, factor)
    steps.row_observe(x, y, 3, 2, num, factor)


@numeric
def few(matrix, field, reach, links, num, count):
    max_origins_of_few(matrix, field, reach, links, 0, num, 4, num, count)


@pytest.fixture(params=[np.float32, np.float64])
def random(request):
    rng = np.random.default_rng(0)
    return lambda *shape: rng.normal(size=shape).astype(request.param)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5 if found.itemsize == 4 else 1e-13)


@pytest.mark.parametrize("num", SIZES)
def test_a_field_less_its_largest_number(random, num):
    field, out, room = random(50), random(60), num + -num % 4
    expected = out.copy()
    expected[2 : 2 + room] = -math.inf
    expected[2 : 2 + num] = field[3 : 3 + num] - field[3 : 3 + num].max()
    assert begin(field, out, num, room) == field[3 : 3 + num].max()
    assert (out == expected).all()
    field[3 : 3 + num] = -math.inf
    assert begin(field, out, num, room) == 0.0
    assert (out[2 : 2 + room] == -math.inf).all()


@pytest.mark.parametrize("num", SIZES)
def test_sums_over_states(random, num):
    x, y, factor = abs(random(50)), abs(random(50)), abs(random(1))[0]
    a, b, expected = x[3 : 3 + num].copy(), y[2 : 2 + num], x.copy()
    total, size = meet(x, y, num)
    close(np.array([total, size], x.dtype), [(a * b).sum(), a.sum()])
    expected[3 : 3 + num] = a * (b * factor)
    total = emit(x, y, num, factor)
    close(np.array(total, x.dtype), expected[3 : 3 + num].sum())
    close(x, expected)


@pytest.mark.parametrize("num", [4, 16, 40])
def test_what_may_be_lost(random, num):
    x, y, factor = abs(random(50)), abs(random(50)), abs(random(1))[0]
    lost, expected = LOST[8 * x.itemsize], x.copy()
    x[3 : 3 + num] = 0.0
    expected[3 : 3 + num] = lost * (y[2 : 2 + num] * factor) + lost
    total = audit(x, y, num, factor)
    close(x, expected)
    close(np.array(total, x.dtype), expected[3 : 3 + num].sum())
    assert total > 0


@pytest.mark.parametrize("num", SIZES)
def test_what_is_written_state_by_state(random, num):
    x, y, out, factor = random(50), random(50), random(100), random(1)[0]
    expected, moved = out.copy(), x.copy()
    expected[1 : 1 + num] = x[3 : 3 + num] * y[2 : 2 + num] * factor
    expected[51 : 51 + num] = x[3 : 3 + num] * factor
    moved[3 : 3 + num] += y[2 : 2 + num] - factor
    combine(x, y, out, num, factor)
    close(out, expected)
    close(x, moved)


@pytest.mark.parametrize("num", [1, 2, 3, 4])
def test_best_ways_of_a_few_states(random, num):
    """Rounded numbers, so that there are ties."""
    matrix, field = np.full((num, 4), -math.inf, random(1).dtype), random(9, num).round()
    matrix[:, :num] = random(num, num).round()
    if num > 2:
        matrix[:, 1] = -math.inf
    reach, links = np.full(4, -math.inf, matrix.dtype), np.full(40, 99, np.uint8)
    reach[:num] = random(num).round()
    expected, came = reach.copy(), np.full((10, 4), 99)
    for t in range(1, 9):
        ways = expected[:num, None] + matrix
        came[t], expected = ways.argmax(0), ways.max(0)
        expected[:num] += field[t]
    few(matrix.reshape(-1), field.reshape(-1), reach, links, num, 8)
    assert (reach == expected).all()
    assert (links.reshape(10, 4)[:, :num] == came[:, :num]).all()
