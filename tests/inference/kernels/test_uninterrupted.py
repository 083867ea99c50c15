"""What no signal may interrupt runs beside the main thread."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from numba.core.compiler_lock import global_compiler_lock

from pgnn.inference.kernels.uninterrupted import uninterrupted

# LLVM asks Python for cached code through a callback: what is raised there reaches nobody, and
# LLVM goes on with a null pointer. A signal is sent whenever it asks; without protection the
# process dies of the first.
HIT = """
import signal
import pgnn
from numba.core.codegen import CPUCodeLibrary

def stop(*_):
    raise KeyboardInterrupt

asked, interrupted = 0, 0
answer_as_before = CPUCodeLibrary._object_getbuffer_hook

@classmethod
def hit(cls, module):
    global asked
    asked += 1
    signal.raise_signal(signal.SIGINT)
    return answer_as_before(module)

CPUCodeLibrary._object_getbuffer_hook = hit
signal.signal(signal.SIGINT, stop)
model = pgnn.read(pgnn.__path__[0] + "/networks/asia.bif")
while True:
    try:
        answer = model.query("lung", {"smoke": "yes"})["lung"].probs
        break
    except KeyboardInterrupt:
        interrupted += 1
assert asked, "no kernel was loaded"
print(interrupted, round(float(answer[0]), 12))
"""


def test_signals_while_kernels_are_loaded() -> None:
    command = [sys.executable, "-c", HIT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    interrupted, answer = done.stdout.split()
    assert int(interrupted) > 0
    assert float(answer) == 0.1


def test_results_and_errors_are_those_of_the_function() -> None:
    def divide(a: int, b: int) -> tuple[float, str]:
        return a / b, threading.current_thread().name

    quotient, name = uninterrupted(divide)(3, b=2)
    assert quotient == 1.5
    assert name == "pgnn-uninterrupted"
    with pytest.raises(ZeroDivisionError):
        uninterrupted(divide)(3, 0)


def test_a_call_within_runs_in_the_same_thread() -> None:
    @uninterrupted
    def inner() -> int:
        return threading.get_ident()

    outer: Callable[[], tuple[int, int]] = uninterrupted(lambda: (inner(), threading.get_ident()))
    first, second = outer()
    assert first == second != threading.get_ident()


def test_an_interrupt_ends_the_waiting_and_not_the_call() -> None:
    ended = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # workers may ignore it

    @uninterrupted
    def call() -> None:
        signal.raise_signal(signal.SIGINT)
        ended.set()

    try:
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.wait(10)


def test_without_further_threads_the_call_runs_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert uninterrupted(threading.get_ident)() == threading.get_ident()


def test_a_thread_that_compiles_waits_for_no_other() -> None:
    """A function that is compiled while the caller holds the lock of its thread would never end."""
    with global_compiler_lock:
        assert uninterrupted(threading.get_ident)() == threading.get_ident()
    assert uninterrupted(threading.get_ident)() != threading.get_ident()
