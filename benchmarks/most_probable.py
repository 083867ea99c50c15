"""Most probable states of the UAI instances: values, bounds and times, engine by engine.

``python -m benchmarks.most_probable FOLDER`` with the folder that holds ``map``, ``pr_mar`` and
``reference_values.json``. Values are base-10 logarithms, as in the UAI competitions.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pgnn
from benchmarks.report import duration
from pgnn.errors import NotConverged, PgnnError
from pgnn.inference.engine import Engine
from pgnn.inference.sampling.annealing import Annealing
from pgnn.inference.search.dual_decomposition import DualDecomposition

HEAD = ("instance", "engine", "value", "less reference", "less optimum", "bound", "proved", "time")


@dataclass(frozen=True)
class Instance:
    """A field with evidence, and what is known about its best states."""

    name: str
    model: Any
    evidence: dict[int, int]
    reference: float | None
    optimum: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound was below an optimum."""
    options = _parse(arguments)
    engines: dict[str, Engine] = {
        "DualDecomposition": DualDecomposition(seed=options.seed, progress=False),
        "Annealing": Annealing(seed=options.seed, progress=False),
    }
    print(_line(HEAD))
    print(_line(["---", "---", *["--:"] * (len(HEAD) - 2)]), flush=True)
    wrong = False
    for name in _names(options.folder, options.only):
        instance = _read(options.folder, name)
        for label in options.engines:
            cells, below = _answer(instance, engines[label])
            wrong |= below
            print(_line([name, label, *cells]), flush=True)
    return int(wrong)


def _answer(instance: Instance, engine: Engine) -> tuple[list[str], bool]:
    """The cells of one line; whether the bound is below the optimum."""
    begun = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            found = instance.model.most_probable(instance.evidence or None, engine=engine)
    except PgnnError as error:
        return [type(error).__name__, "", "", "", "", duration(time.perf_counter() - begun)], False
    spent = time.perf_counter() - begun
    value = float(found.log_prob) / math.log(10)
    bound = None if found.upper_bound is None else float(found.upper_bound) / math.log(10)
    proved = "optimal" in found.diagnostics and bool(found.diagnostics["optimal"].all())
    best = max((x for x in (instance.optimum, value) if x is not None and x == x), default=None)
    below = bound is not None and best is not None and bound < best - 1e-6
    cells = [
        f"{value:.4f}",
        _difference(value, instance.reference),
        _difference(value, instance.optimum),
        "" if bound is None else f"{bound:.4f}",
        "yes" if proved else "",
        duration(spent),
    ]
    return cells, below


def _difference(value: float, other: float | None) -> str:
    return "" if other is None else f"{value - other:+.4f}"


def _names(folder: Path, only: Sequence[str]) -> list[str]:
    known = json.loads((folder / "reference_values.json").read_text())["instances"]
    names = [n for n in known if n.startswith(("map/", "pr_mar/"))]
    return [n for n in names if not only or any(part in n for part in only)]


def _read(folder: Path, name: str) -> Instance:
    known = json.loads((folder / "reference_values.json").read_text())["instances"][name]
    plain = folder / f"{name}.uai"
    packed = folder / f"{name}.uai.gz"
    evidence = folder / f"{name}.uai.evid"
    return Instance(
        name,
        pgnn.read(plain if plain.exists() else packed),
        pgnn.read_evidence(evidence) if evidence.exists() else {},
        known.get("log10_MAP_of_reference"),
        known.get("log10_MAP_exact"),
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.most_probable", description=__doc__)
    add = parser.add_argument
    engines = ["DualDecomposition", "Annealing"]
    add("folder", type=Path, help="where map, pr_mar and reference_values.json are")
    add("--only", nargs="+", default=[], metavar="PART", help="instances whose names have it")
    add("--engines", nargs="+", default=engines, choices=engines)
    add("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
