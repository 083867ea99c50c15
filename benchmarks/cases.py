"""The questions: who is asked what, on which rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.networks import Network, hide, observed_sets
from benchmarks.ours import Pgnn, PgnnExplanation
from benchmarks.peers import PyAgrum
from benchmarks.references import Einsum, MaxSum, chunk
from benchmarks.timing import Contender, Result, clock, race

COMPARED = 64  # rows whose answers are compared


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        budget: CPU seconds of a contender in a case.
        rounds: Turns of each contender.
        rows: Rows of a batch; fewer where pgnn itself would overrun its budget.
        single_rows: Rows asked one at a time.
        seed: Of evidence.
        contenders: Names of those that take part.
    """

    budget: float = 20.0
    rounds: int = 3
    rows: int = 10_000
    single_rows: int = 20
    seed: int = 0
    contenders: Sequence[str] = ("pgnn", "pyAgrum", "einsum", "max-sum")


@dataclass
class Outcome:
    """One case on one network.

    Attributes:
        case, network: Which.
        rows: Rows in the case.
        results: Contender -> what it took.
        seconds: Contender -> CPU seconds a row.
        ratios: Peer -> its seconds over those of pgnn, on the rows that both did.
        differences: Peer -> largest absolute difference of its answers from those of pgnn.
        compared: Peer -> number of rows that the difference is over.
        goal: Seconds that pgnn should stay below, where there is such a number.
        tolerance: Differences up to here are none.
    """

    case: str
    network: str
    rows: int
    results: dict[str, Result] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    compared: dict[str, int] = field(default_factory=dict)
    goal: float | None = None
    tolerance: float = 1e-8


Makers = dict[str, Callable[[], Contender]]


def single(network: Network, settings: Settings) -> Outcome:
    """All marginals, one row at a time, every row with an observed set of its own."""
    codes, items = _single_rows(network, settings)
    makers: Makers = {
        "pgnn": lambda: Pgnn(network, codes, items),
        "pyAgrum": lambda: PyAgrum(network, codes, items, shared=False),
        "einsum": lambda: Einsum(network, codes, items),
    }
    return _one_at_a_time("single", network, makers, settings)


def mpe(network: Network, settings: Settings) -> Outcome:
    """Most probable explanations of the same rows; the answers compared are log probabilities."""
    codes, items = _single_rows(network, settings)
    makers: Makers = {
        "pgnn": lambda: PgnnExplanation(network, codes, items),
        "max-sum": lambda: MaxSum(network, codes, items),
    }
    return _one_at_a_time("mpe", network, makers, settings)


def batch(network: Network, settings: Settings) -> Outcome:
    """All marginals of many rows that observe the same variables."""
    rows = network.sample(settings.rows, settings.seed)
    observed = observed_sets(network, 1, settings.seed + 1)[0]
    codes = hide(rows, observed)
    seen = np.flatnonzero(observed)
    makers: Makers = {
        "pgnn": lambda: Pgnn(network, codes, [np.arange(len(codes))], seen),
        "pyAgrum": lambda: PyAgrum(network, codes, _singly(_order(codes)), shared=True),
        "einsum": lambda: Einsum(network, codes, _chunks(_order(codes), chunk(network, observed))),
    }
    return _many_at_once("batch", network, codes, makers, settings)


def mixed(network: Network, settings: Settings) -> Outcome:
    """All marginals of many rows, every row with an observed set of its own."""
    rows = network.sample(settings.rows, settings.seed)
    codes = hide(rows, observed_sets(network, settings.rows, settings.seed + 1))
    makers: Makers = {
        "pgnn": lambda: Pgnn(network, codes, [np.arange(len(codes))]),
        "pyAgrum": lambda: PyAgrum(network, codes, _singly(_order(codes)), shared=False),
    }
    return _many_at_once("mixed", network, codes, makers, settings)


CASES: dict[str, Callable[[Network, Settings], Outcome]] = {
    "single": single,
    "batch": batch,
    "mixed": mixed,
    "mpe": mpe,
}


def _single_rows(network: Network, settings: Settings) -> tuple[np.ndarray, list[np.ndarray]]:
    rows = network.sample(settings.single_rows, settings.seed)
    codes = hide(rows, observed_sets(network, len(rows), settings.seed + 1))
    return codes, _singly(np.arange(len(rows)))


def _one_at_a_time(case: str, network: Network, makers: Makers, settings: Settings) -> Outcome:
    """Race over single rows: medians, and ratios of medians over the rows that both did."""
    contenders, failed = _make(makers, settings)
    outcome = Outcome(case, network.name, settings.single_rows, failed)
    return finish(outcome, contenders, settings)


def _many_at_once(
    case: str, network: Network, codes: np.ndarray, makers: Makers, settings: Settings
) -> Outcome:
    """Race over a batch as large as pgnn's budget allows: rates, and ratios of rates."""
    contenders, failed = _make(makers, settings)
    order = _order(codes)
    rows = len(codes)
    for contender in contenders:
        if contender.name == "pgnn":
            rows = _affordable(contender, settings)
            contender.items = [np.sort(order[:rows])]
            contender.warm_up = False  # the pilot has done it
    outcome = Outcome(case, network.name, rows, failed)
    _race(outcome, contenders, settings, order[: min(COMPARED, rows)])
    for name, result in outcome.results.items():
        if result.seconds:
            outcome.seconds[name] = result.per_row()
    for name in outcome.seconds.keys() - {"pgnn"}:
        if "pgnn" in outcome.seconds:
            outcome.ratios[name] = outcome.seconds[name] / outcome.seconds["pgnn"]
    return outcome


def finish(outcome: Outcome, contenders: Sequence[Contender], settings: Settings) -> Outcome:
    """Race, then fill in medians over the items and ratios over the items that both did."""
    _race(outcome, contenders, settings, np.arange(outcome.rows))
    for name, result in outcome.results.items():
        if result.seconds:
            outcome.seconds[name] = result.median()
    ours = outcome.results.get("pgnn", Result())
    for name, result in outcome.results.items():
        both = ours.seconds.keys() & result.seconds.keys()
        if name != "pgnn" and both:
            outcome.ratios[name] = result.median(both) / ours.median(both)
    return outcome


def _race(
    outcome: Outcome, contenders: Sequence[Contender], settings: Settings, compare: np.ndarray
) -> None:
    """Fill in the results, in the contenders' order, and compare the answers with pgnn's."""
    outcome.results |= race(
        contenders, budget=settings.budget, rounds=settings.rounds, compare=compare
    )
    ours = outcome.results.get("pgnn", Result()).answers
    for name, result in outcome.results.items():
        both = sorted(ours.keys() & result.answers.keys())
        if name != "pgnn" and both:
            outcome.compared[name] = len(both)
            outcome.differences[name] = max(_distance(ours[r], result.answers[r]) for r in both)


def _make(makers: Makers, settings: Settings) -> tuple[list[Contender], dict[str, Result]]:
    """Get everybody ready; who cannot (a library is not installed) is reported, not run."""
    made, failed = [], {}
    for name, make in makers.items():
        if name not in settings.contenders:
            continue
        try:
            start = clock()
            contender = make()
            contender.setup = clock() - start
            made.append(contender)
        except Exception as error:
            failed[name] = Result.of_error(error)
    return made, failed


def _affordable(contender: Contender, settings: Settings) -> int:
    """How many rows pgnn answers in one turn, from a pilot that also compiles the kernels."""
    total = len(contender.items[0])
    rows, spent = min(8, total), 0.0
    try:
        contender.run(contender.prepare(np.arange(rows)))
        while True:
            start = clock()
            contender.run(contender.prepare(np.arange(rows)))
            spent = max(clock() - start, 1e-9)
            if spent > 0.1 * settings.budget / settings.rounds or rows == total:
                break
            rows = min(4 * rows, total)
    except Exception:
        return total  # the race reports what is wrong
    return int(np.clip(settings.budget / settings.rounds / spent * rows, min(8, total), total))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    far = np.abs(one - other)
    return float("inf") if np.isnan(far).any() else float(far.max())


def _order(codes: np.ndarray) -> np.ndarray:
    """The order in which rows are looped over, so that those compared lie all over the batch."""
    return np.random.default_rng(0).permutation(len(codes))


def _singly(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[k : k + 1] for k in range(len(rows))]


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows in pieces of one size; those left over are done by nobody."""
    size = min(size, len(rows))
    return [rows[k : k + size] for k in range(0, len(rows) - size + 1, size)]
