"""The processor's flag for numbers that became too small."""

import threading

import numpy as np

from pgnn.inference.exact import underflow as module
from pgnn.inference.exact.underflow import underflow

TINY = np.array([1e-200, 1e-160])


def test_products_that_are_too_small_are_noticed() -> None:
    flags = underflow()
    for small in (1e-150, 1e-110):  # rounded to zero; to fewer digits
        flags.clear()
        assert not flags.happened()
        with np.errstate(all="ignore"):
            assert (TINY * small)[0] < 1e-300
        assert flags.happened()
        assert flags.happened()


def test_other_arithmetic_is_not() -> None:
    flags = underflow()
    flags.clear()
    with np.errstate(all="ignore"):
        _ = np.array([1.0, 1e300, 0.0, -np.inf]) * 3.0 / 7.0
        _ = np.exp(np.array([-700.0, 10.0])), np.log(np.array([0.0, 1e-300]))
        _ = np.array([1e300]) * 1e300
    assert not flags.happened()


def test_every_thread_has_its_own() -> None:
    flags = underflow()
    flags.clear()
    observed = []

    def work() -> None:
        flags.clear()
        with np.errstate(all="ignore"):
            _ = TINY * TINY
        observed.append(flags.happened())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert observed == [True]
    assert not flags.happened()


def test_nothing_is_said_where_nothing_is_known() -> None:
    flags = module._NoFlags()
    flags.clear()
    _ = TINY * TINY
    assert flags.happened() is False
