"""Products that keep their sums in registers, against NumPy's."""

import numpy as np
import pytest

from pgnn.inference.chains.kernels import argmax as picks_of
from pgnn.inference.chains.kernels import vector_registers as vectors
from pgnn.inference.chains.kernels.arrays import exp_below
from pgnn.inference.chains.kernels.vector_registers import WIDTH
from pgnn.inference.kernels.compiled import numeric


@numeric
def tiles(matrix, x, out, step):
    vectors.tile_sum_4(matrix, x, out, 1, step, WIDTH, 0, 5)
    vectors.tile_max_4(matrix, x, out, 1, step, WIDTH, 4 * WIDTH, 5)
    vectors.tile_sum_1(matrix, x, out, 2, step, WIDTH, 8 * WIDTH, 5)
    vectors.tile_max_1(matrix, x, out, 2, step, WIDTH, 9 * WIDTH, 5)


@numeric
def rows(matrix, x, out, step, num):
    vectors.row_sum_4(matrix, x, out, 1, step, 3, 2, 0, num)
    vectors.row_sum_32(matrix, x, out, 1, step, 3, 2, 4, num)
    vectors.row_max_8(matrix, x, out, 1, step, 3, 2, 36, num)
    vectors.row_add_8(matrix, x, out, 1, step, 3, 2, 44, num)


@numeric
def outer(x, y, out, step, num):
    vectors.tile_outer_4(x, y, out, 0, WIDTH, 6 * WIDTH, 1, step, num)
    vectors.tile_outer_1(x, y, out, 4 * WIDTH, 0, 6 * WIDTH, 0, step, num)


@numeric
def picks(x, y, num, out):
    out[0] = picks_of.argmax_4(x, y, x, 2, 1, num)
    out[1] = picks_of.argmax_16(x, y, x, 2, 1, num)


@numeric
def tops(x, out):
    for num in range(1, 30):
        out[num] = picks_of.largest(x, 2, num)


@numeric
def exponentials(x, out):
    for k in range(len(x)):
        out[k] = exp_below(x[k])


@pytest.fixture(params=[np.float32, np.float64])
def random(request):
    rng = np.random.default_rng(0)
    return lambda *shape: rng.normal(size=shape).astype(request.param)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5 if found.itemsize == 4 else 1e-13)


def test_tiles(random):
    matrix, x, out = random(5, 7), random(6, WIDTH), random(10, WIDTH)
    tiles(matrix, x.reshape(-1), out.reshape(-1), 7)
    close(out[:4], matrix[:, 1:5].T @ x[1:])
    close(out[4:8], (matrix[:, 1:5, None] + x[1:, None]).max(0))
    close(out[8], matrix[:, 2] @ x[1:])
    close(out[9], (matrix[:, 2, None] + x[1:]).max(0))


@pytest.mark.parametrize("num", [1, 3, 4, 11])
def test_rows(random, num):
    matrix, x, out = random(12, 40), random(40), random(60)
    before, part = out.copy(), x[3::2][:num]
    rows(matrix, x, out, 40, num)
    close(out[:4], part @ matrix[:num, 1:5])
    close(out[4:36], part @ matrix[:num, 1:33])
    close(out[36:44], (part[:, None] + matrix[:num, 1:9]).max(0))
    close(out[44:52], before[44:52] + part @ matrix[:num, 1:9])
    assert (out[52:] == before[52:]).all()


def test_outer(random):
    x, y, out = random(3, 6, WIDTH), random(3, 6, WIDTH), random(6, 8)
    before = out.copy()
    outer(x.reshape(-1), y.reshape(-1), out.reshape(-1), 8, 3)
    np.testing.assert_allclose(
        out[:4, 1:5] - before[:4, 1:5], np.einsum("tiw,tjw->ij", x[:, :4], y[:, 1:5]), atol=1e-4
    )
    np.testing.assert_allclose(out[0, 0] - before[0, 0], (x[:, 4] * y[:, 0]).sum(), atol=1e-4)
    assert (out[4:] == before[4:]).all()


def test_picks_the_first_of_the_largest(random):
    found = np.zeros(2, np.int64)
    for tie in (3, 7, 30, 31):
        x, y = random(40), random(40)
        x[2 + tie], y[1 + tie], x[2 + 31], y[1 + 31] = 50.0, 50.0, 50.0, 50.0
        picks(x, y, 32, found)
        assert found.tolist() == [tie, tie]
    x[:] = -np.inf
    picks(x, y, 32, found)
    assert found.tolist() == [0, 0]


def test_largest(random):
    x, out = random(40), random(30)
    tops(x, out)
    assert out[1:].tolist() == [x[2 : 2 + num].max() for num in range(1, 30)]
    x[:] = -np.inf
    tops(x, out)
    assert (out[1:] == -np.inf).all()


def test_exponential(random):
    least = -87 if random(1).itemsize == 4 else -708
    x = np.append(np.linspace(least, 0, 100_001), [-np.inf, -1e30, 0.0]).astype(random(1).dtype)
    found = np.empty_like(x)
    exponentials(x, found)
    exact = np.exp(x.astype(np.float64))
    inside = x >= least
    worst = np.abs(found[inside] / exact[inside] - 1).max()
    assert worst < 2 * np.finfo(x.dtype).eps
    assert (found[~inside] == 0).all()
    assert found[-1] == 1
