"""Outcomes as tables for people and as JSON for programs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.cases import Outcome
from benchmarks.timing import geometric_mean

TITLES = {
    "single": "single: all marginals, one row at a time (median seconds a row)",
    "batch": "batch: all marginals, rows observing the same variables (seconds a row)",
    "mixed": "mixed: all marginals, every row observing different variables (seconds a row)",
    "mpe": "mpe: most probable explanation, one row at a time (median seconds a row)",
    "alarm": "alarm: scoring, sampling, counting (seconds for all rows)",
}


def table(case: str, outcomes: Sequence[Outcome]) -> str:
    """Return the markdown table of one case, geometric means last."""
    peers = _peers(outcomes)
    goals = any(o.goal for o in outcomes)
    head = ["network" if case != "alarm" else "task", "rows", "pgnn", *(["goal"] if goals else [])]
    for peer in peers:
        head += [peer, "times", "differs"]
    lines = [head, ["---", *["--:"] * (len(head) - 1)]]
    for o in outcomes:
        line = [o.network, f"{o.rows:,}", _cell(o, "pgnn"), *([duration(o.goal)] if goals else [])]
        for peer in peers:
            line += [_cell(o, peer), ratio(o.ratios.get(peer)), _difference(o, peer)]
        lines.append(line)
    if len(outcomes) > 1 and case != "alarm":
        line = ["geometric mean", "", ""]
        for peer in peers:
            line += ["", _mean(o.ratios[peer] for o in outcomes if peer in o.ratios), ""]
        lines.append(line)
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = [f"- {o.network}, {n}: {r.error}" for o in outcomes for n, r in _failed(o)]
    return "\n".join([f"### {TITLES[case]}", "", text, *(["", *notes] if notes else []), ""])


def record(outcome: Outcome) -> dict[str, Any]:
    """Return what JSON keeps of an outcome."""
    contenders = {}
    for name, result in outcome.results.items():
        runs = [s for item in result.seconds.values() for s in item]
        contenders[name] = {
            "seconds": outcome.seconds.get(name),
            "ratio": outcome.ratios.get(name),
            "max_abs_difference": outcome.differences.get(name),
            "rows_compared": outcome.compared.get(name),
            "rows": result.num_rows,
            "runs": len(runs),
            "mean_row": result.per_row() if runs else None,
            "slowest_call": max(runs, default=None),
            "preparing": _preparing(outcome, name),
            "setup": result.setup,
            "error": result.error or None,
        }
    return {
        "case": outcome.case,
        "network": outcome.network,
        "rows": outcome.rows,
        "goal": outcome.goal,
        "contenders": contenders,
    }


def duration(seconds: float | None) -> str:
    """Three digits and a unit."""
    if seconds is None:
        return ""
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
    unit, scale = next((u for u in units if seconds >= u[1] * 0.9995), units[-1])
    number = seconds / scale
    digits = max(0, 2 - math.floor(math.log10(max(number, 1e-3))))
    return f"{number:.{min(digits, 2)}f} {unit}"


def ratio(value: float | None) -> str:
    """How many times as long as pgnn."""
    if value is None:
        return ""
    return f"{value:.0f}x" if value >= 99.5 else f"{value:.3g}x"


def _mean(ratios: Iterable[float]) -> str:
    found = list(ratios)
    return f"**{ratio(geometric_mean(found))}** of {len(found)}" if found else ""


def _cell(outcome: Outcome, name: str) -> str:
    if name not in outcome.seconds:
        return "failed" if name in outcome.results else ""
    preparing = _preparing(outcome, name) if name == "einsum" else None
    extra = f" + {duration(preparing)}" if preparing and outcome.case == "single" else ""
    return duration(outcome.seconds[name]) + extra


def _preparing(outcome: Outcome, name: str) -> float | None:
    found = outcome.results[name].preparing.values()
    return statistics.median(found) if found else None


def _difference(outcome: Outcome, peer: str) -> str:
    far = outcome.differences.get(peer)
    return "" if far is None else f"{far:.0e} ({outcome.compared[peer]})"


def _failed(outcome: Outcome) -> list[tuple[str, Any]]:
    return [(n, r) for n, r in outcome.results.items() if r.error]


def _peers(outcomes: Sequence[Outcome]) -> list[str]:
    names = (name for o in outcomes for name in o.results if name != "pgnn")
    return list(dict.fromkeys(names))
