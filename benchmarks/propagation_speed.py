"""Belief propagation on grids: time an iteration and memory, beside PGMax.

``python -m benchmarks.propagation_speed --pgmax PYTHON`` with the interpreter of an environment
that has PGMax and JAX. Every figure comes from a process of its own, all on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import clock, pin

HEAD = (
    *("side", "states", "tables", "ns an edge", "PGMax", "times", "MB", "PGMax", "share"),
    *("without imports", "PGMax", "share"),
)
PGMAX = Path(__file__).parent / "pgmax_grid.py"


def ours(side: int, states: int, shared: bool, iterations: int) -> dict[str, float]:
    """CPU seconds an iteration of flooding, damped by a half, and the largest memory, in all
    and since imports and compiling.

    Args:
        side: Of the square grid.
        states: Of each element.
        shared: Whether one Potts coupling serves all edges; else each has a table of its own.
        iterations: How many are timed.
    """
    import torch

    from pgnn.evidence.row_evidence import RowEvidence
    from pgnn.factors.elements import Elements
    from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
    from pgnn.factors.groups.potts_group import PottsGroup
    from pgnn.factors.variable import Variable
    from pgnn.inference.factor_graph import FactorGraph
    from pgnn.inference.propagation.belief_propagation import BeliefPropagation
    from pgnn.inference.propagation.schedules import Flooding
    from pgnn.inference.question import Question
    from pgnn.models.markov_random_field import MarkovRandomField

    pin()
    small = MarkovRandomField.grid((3, 3), 3, coupling=0.5)
    small.query(engine=BeliefPropagation(Flooding(), progress=False))
    base = _peak()
    rng = np.random.default_rng(0)
    at = np.arange(side * side).reshape(side, side)
    across = np.stack([at[:, :-1].ravel(), at[:, 1:].ravel()], axis=1)
    edges = np.concatenate([across, np.stack([at[:-1].ravel(), at[1:].ravel()], axis=1)])
    if shared:
        group: FactorGroup = PottsGroup(edges, torch.tensor([0.5]).double(), states)
    else:
        tables = torch.empty(len(edges), states, states, dtype=torch.float64)
        tables.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
        group = TableGroup(edges, tables)
    field = TableGroup(at.reshape(-1, 1), torch.from_numpy(rng.normal(size=(at.size, states))))
    graph = FactorGraph(Elements([Variable("x", states, shape=at.shape)]), (group, field))
    observed = RowEvidence(np.full((1, at.size), -1, dtype=np.int32), False, None, np.zeros(1))
    question = Question(_Model(), graph, observed)

    def run(count: int) -> float:
        engine = BeliefPropagation(
            Flooding(),
            damping=0.5,
            adaptive=False,
            tolerance=0.0,
            max_iterations=count,
            progress=False,
        )
        begun = clock()
        engine.infer(question)
        return clock() - begun

    run(1)
    rounds = [(run(1), run(1 + iterations)) for _ in range(3)]
    seconds = min((long - short) / iterations for short, long in rounds)
    return {"seconds": seconds, "bytes": _peak(), "own": _peak() - base}


def _peak() -> int:
    """Largest memory so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _Model:
    """What remembers a plan, as models do."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}

    def cached_numbers(self, key: Any, make: Any) -> Any:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    options = _parse(arguments)
    if options.one:
        print(json.dumps(ours(*options.one[:2], bool(options.one[2]), options.one[3])))
        return 0
    print("| " + " | ".join(HEAD) + " |\n|" + "--:|" * len(HEAD), flush=True)
    for side in options.sides:
        for states in options.states:
            edges = 2 * side * (side - 1)
            iterations = int(np.clip(5e8 / (edges * states**2), 5, 200))
            theirs = _pgmax(options.pgmax, side, states, iterations)
            for shared in (False, True):
                found = _measured(
                    [sys.executable, "-m", "benchmarks.propagation_speed", "--one"],
                    [side, states, int(shared), iterations],
                )
                cells = [side, states, "Potts" if shared else "own"]
                print(_line([*cells, *_cells(found, theirs, edges)]), flush=True)
    return 0


def _pgmax(python: str | None, side: int, states: int, iterations: int) -> dict[str, float] | None:
    return python and _measured([python, str(PGMAX)], [side, states, iterations])


def _measured(command: list[str], numbers: list[int]) -> dict[str, float] | None:
    """What a process of its own prints; None if it fails."""
    env = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")}
    core = max(os.sched_getaffinity(0))
    done = subprocess.run(
        [*command, *map(str, numbers)],
        env=env,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        check=False,
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def _cells(
    found: dict[str, float] | None, theirs: dict[str, float] | None, edges: int
) -> list[str]:
    cells = []
    for name, scale, digits in (("seconds", 1e9 / edges, 1), ("bytes", 1e-6, 0), ("own", 1e-6, 0)):
        pair = [who and who[name] * scale for who in (found, theirs)]
        cells += ["failed" if x is None else f"{x:.{digits}f}" for x in pair]
        ratio = pair[0] / pair[1] if pair[0] and pair[1] else None
        form = (lambda r: f"{1 / r:.1f}x") if name == "seconds" else (lambda r: f"{r:.0%}")
        cells.append("" if ratio is None else form(ratio))
    return cells


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.propagation_speed", description=__doc__
    )
    add = parser.add_argument
    add("--sides", nargs="+", type=int, default=[200, 500])
    add("--states", nargs="+", type=int, default=[2, 4, 16])
    add("--pgmax", metavar="PYTHON", help="interpreter that has PGMax; left out if not given")
    add("--one", nargs=4, type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
