"""What is done to all rows of a tile at once, against NumPy."""

import math

import numpy as np
import pytest

from pgnn.inference.chains.kernels import back_pointers as links_of
from pgnn.inference.chains.kernels import tile_steps as steps
from pgnn.inference.chains.kernels import transposes as transposes
from pgnn.inference.chains.kernels.arrays import LOST, exp_below
from pgnn.inference.chains.kernels.tile_steps import BEFORE, INVERSE, LANES, LOSSES, TOP, TOTAL
from pgnn.inference.chains.kernels.vector_registers import WIDTH
from pgnn.inference.kernels.compiled import numeric

K = 7


@numeric
def bring(field, out, places, at):
    transposes.bring_4(field, out, places, at, 0)
    transposes.bring_2(field, out, places, at + 4, 4 * WIDTH)
    transposes.bring_1(field, out, places, at + 6, 6 * WIDTH)


@numeric
def write(values, out, places, factors, to, block):
    transposes.write_4(values, out, places, factors, 0, WIDTH, to, block)
    transposes.write_2(values, out, places, factors, 4 * WIDTH, WIDTH, to + 4, block)
    transposes.write_1(values, out, places, factors, 6 * WIDTH, WIDTH, to + 6, block)


@numeric
def lower(x, lanes):
    steps.find_top(x, x, lanes, WIDTH, WIDTH, 4)
    steps.lower(x, x, lanes, WIDTH, WIDTH, 4)


@numeric
def observe(x, y, lanes):
    steps.observe(x, y, lanes, WIDTH, 0, 4)


@numeric
def emit(x, y, lanes):
    steps.emit(x, y, lanes, WIDTH, 0, 4)


@numeric
def audit(x, y, lanes):
    steps.audit(x, y, lanes, WIDTH, 0, 4)


@numeric
def meet(x, y, lanes):
    steps.meet(x, y, lanes, WIDTH, 0, 4)


@numeric
def change(x, y, lanes):
    steps.multiply(x, y, lanes, WIDTH, 0, 2)
    steps.scale(x, x, lanes, 3 * WIDTH, 0, 1)


@numeric
def link(matrix, x, out, links, num):
    links_of.tile_max_origin_4(matrix, x, out, links, 1, 8, WIDTH, 0, WIDTH, num)
    links_of.tile_max_origin_1(matrix, x, out, links, 2, 8, WIDTH, 4 * WIDTH, 5 * WIDTH, num)


@numeric
def follow(links, path, num):
    links_of.follow(links, path, WIDTH, 2 * WIDTH, WIDTH, num)


@numeric
def exponentials(x, out):
    for k in range(len(x)):
        out[k] = exp_below(x[k])


@pytest.fixture(params=[np.float32, np.float64])
def random(request):
    rng = np.random.default_rng(0)
    return lambda *shape: rng.normal(size=shape).astype(request.param)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-6 if found.itemsize == 4 else 1e-14)


def test_bringing_a_step_of_many_rows(random):
    field, out = random(40, 5, K), random(K, WIDTH)
    rows = np.random.default_rng(1).permutation(40)[:WIDTH]
    bring(field.reshape(-1), out.reshape(-1), rows * 5 * K, 3 * K)
    assert (out == field[rows, 3].T).all()


def test_writing_blocks_of_rows(random):
    values, out, lanes = random(K, WIDTH), random(40, 5, K), random(LANES)
    rows, block = np.random.default_rng(1).permutation(40)[:WIDTH], 64 // values.itemsize
    expected = out.copy()
    expected[rows[block : 2 * block], 3] = (values * lanes[WIDTH : 2 * WIDTH]).T[block : 2 * block]
    write(values.reshape(-1), out.reshape(-1), rows * 5 * K, lanes, 3 * K, block)
    assert (out == expected).all()


def test_largest_numbers_are_subtracted(random):
    x, lanes = random(6, WIDTH), random(LANES)
    x[:, 3], before = -math.inf, lanes.copy()
    x[2, 5] = -math.inf
    expected = x.copy()
    top = x[1:5].max(0)
    top[3] = 0.0
    expected[1:5] -= top
    lower(x.reshape(-1), lanes)
    assert (lanes[TOP:BEFORE] == top).all()
    assert (lanes[:TOP] == before[:TOP]).all()
    assert (lanes[BEFORE:] == before[BEFORE:]).all()
    assert (x == expected).all()


def test_observing(random):
    x, y, lanes = random(6, WIDTH), random(4, WIDTH), random(LANES)
    expected = x.copy()
    expected[1:5] += y - lanes[TOP:BEFORE]
    observe(x.reshape(-1), y.reshape(-1), lanes)
    close(x, expected)


def test_emitting(random):
    x, y, lanes = abs(random(6, WIDTH)), -abs(random(4, WIDTH)), abs(random(LANES))
    x[:, 4], y[:, 7], y[1, 9] = 0.0, -math.inf, -1e30
    expected, factor, shares = x.copy(), lanes[INVERSE:TOP].copy(), np.empty(4 * WIDTH, x.dtype)
    exponentials((y - lanes[TOP:BEFORE]).reshape(-1), shares)
    expected[1:5] *= shares.reshape(4, WIDTH) * factor
    emit(x.reshape(-1), y.reshape(-1), lanes)
    close(x, expected)
    close(y, shares.reshape(4, WIDTH))
    assert (lanes[BEFORE:LOSSES] == factor).all()
    total = x[1:5].sum(0)
    close(lanes[TOTAL:INVERSE], total)
    assert (lanes[INVERSE + np.array([4, 7])] == 0.0).all()
    others = np.setdiff1d(np.arange(WIDTH), [4, 7])
    close(lanes[INVERSE + others], 1 / total[others])


def test_what_may_be_lost(random):
    x, y, lanes = abs(random(6, WIDTH)), abs(random(4, WIDTH)), abs(random(LANES))
    lost, expected = LOST[8 * x.itemsize], x.astype(np.float64)
    x[:, 4] = expected[:, 4] = 0.0
    expected[1:5] = (expected[1:5] + lost) * (y * lanes[BEFORE:LOSSES]) + lost
    audit(x.reshape(-1), y.reshape(-1), lanes)
    np.testing.assert_allclose(x, expected, rtol=2e-6 if x.itemsize == 4 else 1e-14)
    close(lanes[LOSSES:], x[1:5].sum(0) * lanes[INVERSE:TOP])
    assert (x[1:5, 4] > 0).all()


def test_messages_that_meet(random):
    x, y, lanes = abs(random(6, WIDTH)), abs(random(9, WIDTH)), random(LANES)
    y[:4, 4], x[:, 7] = 0.0, 0.0
    before = y.copy()
    meet(x.reshape(-1), y.reshape(-1), lanes)
    close(y[4:8], x[1:5] * before[:4])
    assert (y[:4] == before[:4]).all()
    assert (y[8] == before[8]).all()
    with np.errstate(divide="ignore"):
        inverse, ahead = 1 / y[4:8].sum(0), 1 / y[:4].sum(0)
    inverse[[4, 7]], ahead[4] = 0.0, 0.0
    close(lanes[TOTAL:INVERSE], y[4:8].sum(0))
    close(lanes[INVERSE:TOP], inverse)
    close(lanes[TOP:BEFORE], ahead)


def test_factors(random):
    x, y, lanes = random(6, WIDTH), random(2, WIDTH), random(LANES)
    expected = x.copy()
    expected[1:3] *= y * lanes[TOP:BEFORE]
    expected[3] *= lanes[INVERSE:TOP]
    change(x.reshape(-1), y.reshape(-1), lanes)
    close(x, expected)


@pytest.mark.parametrize("num", [1, 3, 5])
def test_links_are_the_first_of_the_largest(random, num):
    matrix, x, out = random(5, 8).round(), random(6, WIDTH).round(), random(5, WIDTH)
    x[1:, 3], links = -math.inf, np.full(6 * WIDTH, 99, np.uint8)
    link(matrix, x.reshape(-1), out.reshape(-1), links, num)
    sums = x[1 : num + 1, None] + matrix[:num, [1, 2, 3, 4, 2], None]
    assert (out == sums.max(0)).all()
    assert (links.reshape(6, WIDTH)[1:] == sums.argmax(0)).all()
    assert (links[:WIDTH] == 99).all()


def test_following_links():
    rng = np.random.default_rng(0)
    links, path = rng.integers(0, 200, (6, WIDTH), np.uint8), np.zeros((3, WIDTH), np.uint8)
    path[2] = rng.integers(0, 5, WIDTH)
    follow(links.reshape(-1), path.reshape(-1), 5)
    assert (path[1] == links[1 + path[2], np.arange(WIDTH)]).all()
    assert (path[0] == 0).all()
