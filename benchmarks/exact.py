"""Exact answers on the published networks: pgnn, pyAgrum and bare torch side by side."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import CASES, Outcome, Settings
from benchmarks.extras import alarm
from benchmarks.networks import NETWORKS, load
from benchmarks.report import record, table
from benchmarks.timing import limit_memory, pin


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases and print the tables; 1 if pgnn failed or disagreed with somebody."""
    options = _parse(arguments)
    limit_memory()
    print(f"{pin(options.core)}; CPU time; budget {options.budget:g} s\n", flush=True)
    settings = Settings(
        budget=options.budget,
        rounds=options.rounds,
        rows=options.rows,
        single_rows=options.single_rows,
        seed=options.seed,
        contenders=tuple(options.contenders),
    )
    outcomes = _run(options.networks, options.cases, settings)
    for case in options.cases:
        found = [o for o in outcomes if o.case == case]
        if found:
            print(table(case, found), flush=True)
    if options.json:
        text = json.dumps([record(o) for o in outcomes], indent=1)
        options.json.write_text(text, encoding="utf-8")
    return int(any(_wrong(o) for o in outcomes))


def _run(names: Sequence[str], cases: Sequence[str], settings: Settings) -> list[Outcome]:
    outcomes = []
    for name in names:
        network = load(name)
        for case in cases:
            begun = time.perf_counter()
            if case in CASES:
                outcomes.append(CASES[case](network, settings))
            elif name == "alarm":
                outcomes += alarm(network, settings)
            spent = time.perf_counter() - begun
            print(f"{name} {case}: {spent:.0f} s", file=sys.stderr, flush=True)
    return outcomes


def _wrong(outcome: Outcome) -> bool:
    ours = outcome.results.get("pgnn")
    apart = (d > outcome.tolerance for d in outcome.differences.values())
    return bool(ours and ours.error) or any(apart)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact", description=__doc__)
    add = parser.add_argument
    everything = [*CASES, "alarm"]
    add("--networks", nargs="+", default=NETWORKS, choices=NETWORKS, metavar="NAME")
    add("--cases", nargs="+", default=everything, choices=everything, metavar="CASE")
    defaults = Settings()
    add(
        "--contenders",
        nargs="+",
        default=defaults.contenders,
        choices=defaults.contenders,
        metavar="WHO",
        help=f"some of {', '.join(defaults.contenders)}",
    )
    add("--budget", type=float, default=defaults.budget, help="CPU seconds a contender and case")
    add("--rounds", type=int, default=defaults.rounds, help="turns of each contender")
    add("--rows", type=int, default=defaults.rows, help="rows of a batch, at most")
    add("--single-rows", type=int, default=defaults.single_rows, help="rows asked one by one")
    add("--seed", type=int, default=defaults.seed)
    add("--core", type=int, help="core to run on; by default the last one allowed")
    add("--json", type=Path, metavar="FILE", help="write everything there, too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
