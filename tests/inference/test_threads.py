"""Compiled work is stopped when the thread that waits for it is interrupted."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from pgnn.inference import threads
from pgnn.inference.exact.kernels import execution
from pgnn.inference.exact.plan import make_plan, make_task
from pgnn.inference.threads import (
    LITTLE,
    Stop,
    in_threads,
    interruptible,
    never_stop,
    parts,
    repeated,
)
from tests.inference.random_graphs import everything, graph_of


def test_all_pieces_are_run() -> None:
    found: list[int] = []
    interruptible([lambda stop, k=k: found.append(k) for k in range(5)], threads=2)
    assert sorted(found) == [0, 1, 2, 3, 4]


def test_errors_of_pieces_come_out() -> None:
    def fail(stop: Stop) -> None:
        raise ValueError("a piece failed")

    with pytest.raises(ValueError, match="a piece failed"):
        interruptible([fail])


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C is heard, also where whoever began the tests ignores it, as shells do behind ``&``."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_stops_the_work() -> None:
    ended: list[bool] = []

    def work(stop: Stop) -> None:
        while stop[0] == 0:
            time.sleep(0.001)
        ended.append(True)

    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        interruptible([work, work, work], threads=2)
    assert ended == [True, True]  # the third has not begun


def test_exact_kernels_stop_when_they_are_told_to() -> None:
    graph = graph_of([2, 2], [([0, 1], np.log([[2.0, 1.0], [1.0, 2.0]]))])
    plan = make_plan(graph, make_task(graph, ~everything(graph), wanted=everything(graph)))
    program, column = plan.program(1), graph.columns(everything(graph))
    scaled = graph.scaled_tables
    tables = execution.ProgramInputs(
        scaled.values, graph.start, scaled.row_values, np.full((3, 2), -1, np.int32),
        np.zeros((0, 0)), scaled.flushed,
    )  # fmt: skip
    for stop in (never_stop(), np.ones(1, np.int64)):
        log_z, marginals = np.full(3, 7.0), np.zeros((3, 4))
        execution.answer(
            program.code, tables, np.arange(3), np.empty(program.memory + 8), (0,), column, log_z,
            marginals, stop,
        )  # fmt: skip
        assert (marginals == (0.0 if stop[0] else 0.5)).all()
        assert (log_z == 7.0).all() == bool(stop[0])


def test_work_within_work_is_stopped_with_it() -> None:
    ended: list[str] = []

    def inner(stop: Stop) -> None:
        while stop[0] == 0:
            time.sleep(0.001)
        ended.append("inner")

    def outer(_: Stop) -> None:
        interruptible([inner])
        ended.append("outer")  # what it would have done with an unfinished answer

    def fail(_: Stop) -> None:
        time.sleep(0.05)
        raise ValueError("a piece failed")

    with pytest.raises(ValueError, match="a piece failed"):
        interruptible([outer, fail], threads=2)
    assert ended == ["inner"]


def test_little_work_is_done_by_this_thread() -> None:
    names: list[str] = []

    def work(part: np.ndarray, _: Stop) -> None:
        names.append(f"{threading.current_thread().name} {part.tolist()}")

    in_threads(work, np.arange(3), cost=LITTLE)
    assert names == [f"{threading.current_thread().name} [0, 1, 2]"]
    in_threads(work, np.arange(0))
    assert len(names) == 1


def test_threads_see_the_context_of_who_waits() -> None:
    """Numpy keeps there what it does about errors."""
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        interruptible([lambda _: np.ones(1) / np.zeros(1)])


@pytest.mark.usefixtures("interrupts")
def test_a_second_interrupt_does_not_wait() -> None:
    def work(_: Stop) -> None:
        time.sleep(1.0)  # deaf

    timers = [threading.Timer(t, os.kill, (os.getpid(), signal.SIGINT)) for t in (0.1, 0.2)]
    began = time.perf_counter()
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        interruptible([work])
    assert time.perf_counter() - began < 0.8


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_repeated_in_parts(monkeypatch: pytest.MonkeyPatch, axis: int) -> None:
    monkeypatch.setattr(threads, "_FILLED", 8)  # more than one part, the last one shorter
    array = np.arange(6).reshape(2, 3)
    for count in (0, 1, 7):
        right = np.repeat(np.expand_dims(array, axis), count, axis=axis)
        np.testing.assert_array_equal(repeated(array, count, axis), right)
    assert [s.stop - s.start for s in parts(7, 4)] == [2, 2, 2, 1]
    assert [s.stop - s.start for s in parts(2, 100)] == [1, 1]
