"""Ctrl-C in a block is raised at its end, and an interrupted first call does not break the next."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pgnn.held_interrupts import held_interrupts

FIRST_CALL = """
import os, signal, sys, threading
import pgnn
def ask():
    model = pgnn.BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
    return float(model.query("b")["b"].probs[0])
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
timer = threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGINT))
try:
    timer.start()
    while True:
        ask()
except KeyboardInterrupt:
    print(ask())
"""


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """A debugger, or a library that other tests use, may have set another one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_comes_at_the_end_of_the_block() -> None:
    reached = []

    def work() -> None:
        with held_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_the_block_is_no_obstacle() -> None:
    with pytest.raises(ZeroDivisionError), held_interrupts():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_change_nothing() -> None:
    seen = []

    def work() -> None:
        with held_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.parametrize("delay", [0.1, 0.6])
def test_an_interrupted_first_call_leaves_libraries_whole(delay: float) -> None:
    found = subprocess.run(
        [sys.executable, "-c", FIRST_CALL, str(delay)], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr
    assert float(found.stdout) == pytest.approx(0.55)
