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

COMPARED = 64  # rows of a batch whose answers are compared
WARMING = 3  # rows on which compiled code is warmed up, before single rows
PILOT = 2000  # rows, at most, on which pgnn's rate is estimated, before a batch


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        budget: CPU seconds of a contender in a case.
        rounds: Turns of each contender.
        rows: Rows of a batch, a new one in each turn; fewer where pgnn itself would overrun its
            budget.
        single_rows: Rows asked one at a time.
        seed: Of evidence.
        contenders: Names of those that take part.
    """

    budget: float = 20.0
    rounds: int = 3
    rows: int = 10_000
    single_rows: int = 60
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
    codes, items, warm = _single_rows(network, settings, stream=0)
    makers: Makers = {
        "pgnn": lambda: Pgnn(network, codes, items),
        "pyAgrum": lambda: PyAgrum(network, codes, items, shared=False),
        "einsum": lambda: Einsum(network, codes, items),
    }
    return _one_at_a_time("single", network, makers, warm, settings)


def mpe(network: Network, settings: Settings) -> Outcome:
    """Most probable explanations, like ``single``; log probabilities are compared."""
    codes, items, warm = _single_rows(network, settings, stream=1)
    makers: Makers = {
        "pgnn": lambda: PgnnExplanation(network, codes, items),
        "max-sum": lambda: MaxSum(network, codes, items),
    }
    return _one_at_a_time("mpe", network, makers, warm, settings)


def batch(network: Network, settings: Settings) -> Outcome:
    """All marginals of many rows that observe the same variables."""
    observed = observed_sets(network, 1, settings.seed + 2)[0]

    def draw(n: int, stream: int) -> np.ndarray:
        return hide(network.sample(n, settings.seed + stream), observed)

    def peers(codes: np.ndarray, order: np.ndarray) -> Makers:
        return {
            "pyAgrum": lambda: PyAgrum(network, codes, _singly(order), shared=True),
            "einsum": lambda: Einsum(network, codes, _chunks(order, chunk(network, observed))),
        }

    return _many_at_once("batch", network, draw, peers, settings, np.flatnonzero(observed))


def mixed(network: Network, settings: Settings) -> Outcome:
    """All marginals of many rows, every row with an observed set of its own."""

    def draw(n: int, stream: int) -> np.ndarray:
        observed = observed_sets(network, n, settings.seed + stream)
        return hide(network.sample(n, settings.seed + stream), observed)

    def peers(codes: np.ndarray, order: np.ndarray) -> Makers:
        return {"pyAgrum": lambda: PyAgrum(network, codes, _singly(order), shared=False)}

    return _many_at_once("mixed", network, draw, peers, settings)


CASES: dict[str, Callable[[Network, Settings], Outcome]] = {
    "single": single,
    "batch": batch,
    "mixed": mixed,
    "mpe": mpe,
}


def _single_rows(
    network: Network, settings: Settings, stream: int
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Evidence, the rows that count, and further ones to warm up on."""
    rows = network.sample(settings.single_rows + WARMING, settings.seed + stream)
    codes = hide(rows, observed_sets(network, len(rows), settings.seed + stream))
    items = _singly(np.arange(len(rows)))
    return codes, items[:-WARMING], items[-WARMING:]


def _one_at_a_time(
    case: str, network: Network, makers: Makers, warm: list[np.ndarray], settings: Settings
) -> Outcome:
    contenders, failed = _make(makers, settings)
    for contender in contenders:
        contender.warm = () if contender.name == "pyAgrum" else warm
    outcome = Outcome(case, network.name, settings.single_rows, failed)
    return finish(outcome, contenders, settings)


def _many_at_once(
    case: str,
    network: Network,
    draw: Callable[[int, int], np.ndarray],
    peers: Callable[[np.ndarray, np.ndarray], Makers],
    settings: Settings,
    observed: np.ndarray | None = None,
) -> Outcome:
    """Race over batches as large as pgnn's budget allows: rates, and ratios of rates."""
    pilot = draw(PILOT, 3)
    made, failed = _make({"pgnn": lambda: Pgnn(network, pilot, [], observed)}, settings)
    rows = settings.rows
    for ours in made:
        rows = _affordable(ours, settings)
    codes = draw(rows * settings.rounds, 4)
    for ours in made:
        ours.codes, ours.items = codes, np.split(np.arange(len(codes)), settings.rounds)
    order = np.random.default_rng(0).permutation(len(codes))  # those compared lie all over
    others, failed_too = _make(peers(codes, order), settings)
    for contender in others:
        contender.warm = contender.items[:1] if contender.name == "einsum" else ()
    outcome = Outcome(case, network.name, rows, failed | failed_too)
    _race(outcome, [*made, *others], settings, order[:COMPARED])
    for name, result in outcome.results.items():
        if result.seconds:
            outcome.seconds[name] = result.per_row()
    for name in outcome.seconds.keys() - {"pgnn"}:
        if "pgnn" in outcome.seconds:
            outcome.ratios[name] = outcome.seconds[name] / outcome.seconds["pgnn"]
    return outcome


def finish(
    outcome: Outcome, contenders: Sequence[Contender], settings: Settings, repeat: bool = False
) -> Outcome:
    """Race, then fill in medians over the items and ratios over the items that both did."""
    _race(outcome, contenders, settings, np.arange(outcome.rows), repeat)
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
    outcome: Outcome,
    contenders: Sequence[Contender],
    settings: Settings,
    compare: np.ndarray,
    repeat: bool = False,
) -> None:
    """Fill in the results, and compare the answers with those of pgnn."""
    outcome.results |= race(
        contenders,
        budget=settings.budget,
        rounds=settings.rounds,
        compare=compare,
        repeat=repeat,
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


def _affordable(ours: Contender, settings: Settings) -> int:
    """How many rows pgnn answers in one turn, from a pilot that also compiles and plans."""
    share, start, rows, spent = settings.budget / settings.rounds, 0, 8, 0.0
    begun = clock()
    try:
        ours.run(ours.prepare(np.arange(rows)))
        ours.setup += clock() - begun
        while spent < 0.1 * share and (start := start + rows) < PILOT:
            rows = min(4 * rows, PILOT - start)
            prepared = ours.prepare(np.arange(start, start + rows))
            begun = clock()
            ours.run(prepared)
            spent = max(clock() - begun, 1e-9)
    except Exception:
        return settings.rows  # the race reports what is wrong
    return int(np.clip(share / spent * rows, min(8, settings.rows), settings.rows))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    far = np.abs(one - other)
    return float("inf") if np.isnan(far).any() else float(far.max())


def _singly(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[k : k + 1] for k in range(len(rows))]


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows in pieces of one size; those left over are done by nobody."""
    size = min(size, len(rows))
    return [rows[k : k + size] for k in range(0, len(rows) - size + 1, size)]
