"""One core, one thread, CPU time; contenders take turns on the same items of work."""

from __future__ import annotations

import math
import os
import resource
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# CPU time of the whole process: on a shared machine it is what the wall would show on an idle
# core, and whatever a contender does in threads of its own is counted too.
clock = time.process_time


def pin(core: int | None = None) -> str:
    """Keep this process on one core and every thread pool at one thread; return what was done."""
    import numba
    import torch

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    done = [f"torch {torch.__version__}: {torch.get_num_threads()} thread"]
    try:
        import pyagrum

        pyagrum.setNumberOfThreads(1)
        done.append(f"pyAgrum {pyagrum.__version__}: {pyagrum.getNumberOfThreads()} thread")
    except ImportError:
        done.append("no pyAgrum")
    try:
        import threadpoolctl

        threadpoolctl.threadpool_limits(1)
    except ImportError:
        pass
    if hasattr(os, "sched_setaffinity"):
        core = max(os.sched_getaffinity(0)) if core is None else core
        os.sched_setaffinity(0, {core})
        done.insert(0, f"core {core}")
    return ", ".join(done)


def limit_memory(share: float = 0.8) -> None:
    """Let a contender fail that wants more than a share of the machine's memory."""
    if hasattr(resource, "RLIMIT_AS"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        resource.setrlimit(resource.RLIMIT_AS, (int(share * memory), resource.RLIM_INFINITY))


def clock_cost() -> float:
    """What reading the clock twice costs; nothing to a millisecond, much to a microsecond."""
    costs = []
    for _ in range(1000):
        start = clock()
        costs.append(clock() - start)
    return statistics.median(costs)


def medians(*calls: Callable[[], Any], rounds: int = 7) -> tuple[list[Any], list[float]]:
    """Let calls take turns; what each returned last, and the median of its CPU seconds."""
    answers: list[Any] = [call() for call in calls]  # who compiles or allocates first does it here
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for k, call in enumerate(calls):
            begin = clock()
            answers[k] = call()
            seconds[k].append(clock() - begin)
    return answers, [statistics.median(s) for s in seconds]


class Contender(ABC):
    """Somebody who can do the work.

    Attributes:
        name: Column in the tables.
        items: Arrays of row numbers; each array is answered by one call.
        warm: Items answered before the clock runs, for those who compile something first.
        setup: Seconds to get ready, once.
    """

    name: str
    items: Sequence[np.ndarray]
    warm: Sequence[np.ndarray] = ()
    setup = 0.0

    def prepare(self, rows: np.ndarray) -> Any:
        """Bring the evidence of some rows into the form the contender likes; not counted."""
        return rows

    @abstractmethod
    def run(self, prepared: Any) -> Any:
        """Answer; this is what is timed."""

    @abstractmethod
    def answers(self, result: Any, rows: np.ndarray) -> np.ndarray:
        """Bring the result into the common form ``(len(rows), ...)``; not counted."""


@dataclass
class Result:
    """What one contender took and answered.

    Attributes:
        seconds: Item number -> CPU seconds of each of its runs.
        rows: Item number -> rows that it holds.
        preparing: Item number -> seconds of its first preparation (a path search, mostly).
        answers: Row number -> answer, for the rows that are compared.
        setup: Seconds to get ready (to plan, to build a network), once; warm-up included.
        error: Why there is no answer, or no further one.
    """

    seconds: dict[int, list[float]] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    preparing: dict[int, float] = field(default_factory=dict)
    answers: dict[int, np.ndarray] = field(default_factory=dict)
    setup: float = 0.0
    error: str = ""

    @classmethod
    def of_error(cls, error: Exception) -> Result:
        """The result of somebody who could not even begin."""
        return cls(error=explain(error))

    @property
    def num_rows(self) -> int:
        """Rows answered at least once."""
        return sum(self.rows.values())

    def median(self, items: Iterable[int] | None = None) -> float:
        """Median over items of the median over runs, seconds."""
        chosen = self.seconds if items is None else items
        return statistics.median(statistics.median(self.seconds[i]) for i in chosen)

    def per_row(self) -> float:
        """Seconds of all items over rows of all items: the inverse of a rate."""
        return sum(statistics.median(s) for s in self.seconds.values()) / self.num_rows


def race(
    contenders: Sequence[Contender],
    *,
    budget: float,
    rounds: int = 3,
    compare: Iterable[int] = (),
    repeat: bool = False,
) -> dict[str, Result]:
    """Let contenders take turns until each has spent its budget or done all of its items.

    Args:
        contenders: Who takes part; the one to begin changes with every round.
        budget: CPU seconds a contender may use; a call that has begun is finished.
        rounds: Turns of each contender, in which it does an equal part of its items where the
            budget allows; what was left over in a turn is taken up in the next.
        compare: Rows whose answers are kept.
        repeat: Whether items may be done more than once. Where each row of evidence is to be new
            they may not: somebody may have remembered a plan for what the row observes.
    """
    wanted = np.fromiter(compare, dtype=np.int64)
    results = {c.name: Result() for c in contenders}
    turns = [
        _Turns(c, results[c.name], budget / rounds, rounds, wanted, repeat) for c in contenders
    ]
    for turn in turns:
        turn.warm_up()
    for r in range(rounds):
        for turn in turns[r % len(turns) :] + turns[: r % len(turns)]:
            turn.take()
    return results


class _Turns:
    def __init__(
        self,
        contender: Contender,
        result: Result,
        share: float,
        rounds: int,
        wanted: np.ndarray,
        repeat: bool,
    ) -> None:
        self.contender, self.result = contender, result
        self.share, self.wanted, self.repeat = share, wanted, repeat
        self.part = len(contender.items) if repeat else -(-len(contender.items) // rounds)
        self.cost = clock_cost()
        self.cursor = 0

    def warm_up(self) -> None:
        start = clock()
        try:
            for rows in self.contender.warm:
                self.contender.run(self.contender.prepare(rows))
        except Exception as error:
            self.result.error = explain(error)
        self.result.setup = self.contender.setup + clock() - start

    def take(self) -> None:
        begun, done = clock(), 0
        try:
            while not self.result.error and not self._enough(done, clock() - begun):
                self._measure()
                done += 1
        except Exception as error:
            self.result.error = explain(error)

    def _enough(self, done: int, spent: float) -> bool:
        if not self.repeat and (done == self.part or self.cursor == len(self.contender.items)):
            return True
        least = min(0.1, self.share) if self.repeat and done >= self.part else self.share
        return spent >= least

    def _measure(self) -> None:
        number = self.cursor % len(self.contender.items)
        rows = self.contender.items[number]
        before = clock()
        prepared = self.contender.prepare(rows)
        start = clock()
        result = self.contender.run(prepared)
        seconds = clock() - start - self.cost
        self.result.seconds.setdefault(number, []).append(max(seconds, 1e-9))
        self.result.preparing.setdefault(number, start - before)
        self.result.rows[number] = len(rows)
        self.cursor += 1
        chosen = np.flatnonzero(np.isin(rows, self.wanted))
        if len(chosen) and int(rows[chosen[0]]) not in self.result.answers:
            found = self.contender.answers(result, rows)
            self.result.answers.update({int(rows[k]): found[k].copy() for k in chosen})


def explain(error: Exception) -> str:
    """Kind and first line of an error."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean; NaN if there is nothing."""
    logs = [math.log(v) for v in values]
    return math.exp(statistics.fmean(logs)) if logs else math.nan
