"""Belief propagation on the UAI instances: errors, bounds, iterations, times; beside pyAgrum.

``python -m benchmarks.propagation FOLDER`` with the folder that holds ``pr_mar`` and
``reference_values.json``. Values are natural logarithms. What is exact comes from the junction
tree, or from the reference solution (marked ``*``; six digits) where that does not fit.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pgnn
from benchmarks.report import duration
from benchmarks.timing import clock, limit_memory, pin
from pgnn.errors import NotConverged, PgnnError
from pgnn.inference.engine import Engine
from pgnn.inference.propagation.schedules import Residual

HEAD = (
    *("instance", "who", "marginals", "log Z", "less exact", "iterations", "converged", "time"),
)
PATIENCE = 60.0  # seconds for pyAgrum


@dataclass(frozen=True)
class Instance:
    """A field with evidence, and what is known about it."""

    name: str
    model: Any
    evidence: dict[int, int]
    marginals: list[np.ndarray] | None
    log_z: float | None
    exact: bool


@dataclass(frozen=True)
class Answer:
    """What somebody says about an instance."""

    marginals: list[np.ndarray] | None = None
    log_z: float | None = None
    iterations: int | None = None
    converged: bool | None = None
    seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound was on the wrong side."""
    options = _parse(arguments)
    limit_memory()
    print(f"{pin(options.core)}; CPU time\n")
    print(_line(HEAD))
    print(_line(["---", "---", *["--:"] * (len(HEAD) - 2)]), flush=True)
    contenders = _contenders(options)
    _warm_up(contenders)
    wrong = []
    for path in sorted((options.folder / "pr_mar").glob("*.uai*")):
        name = path.name.removesuffix(".gz").removesuffix(".uai")
        if path.suffix not in (".uai", ".gz") or not _wanted(name, options.only):
            continue
        instance = _read(options.folder, path, name)
        for label, answer_of in contenders.items():
            try:
                answer = answer_of(instance)
            except (PgnnError, MemoryError) as error:
                print(_line([name, label, type(error).__name__, *[""] * 5]), flush=True)
                continue
            print(_line([name, label, *_cells(instance, answer)]), flush=True)
            if _violated(instance, label, answer):
                wrong.append(f"{name}: {label}")
    print("\n" + ("bounds on the wrong side: " + ", ".join(wrong) if wrong else "all bounds hold"))
    return int(bool(wrong))


def _contenders(options: argparse.Namespace) -> dict[str, Callable[[Instance], Answer]]:
    """Who answers."""
    quiet: dict[str, Any] = {"progress": False, "max_iterations": options.iterations}
    engines = {
        "sequential": pgnn.BeliefPropagation(**quiet),
        "residual": pgnn.BeliefPropagation(schedule=Residual(), **quiet),
        "reweighted": pgnn.BeliefPropagation(tree_reweighted=True, **quiet),
        "mean field": pgnn.MeanField(seed=0, progress=False),
    }
    found = {label: _by_pgnn(engine) for label, engine in engines.items()}
    try:
        import pyagrum
    except ImportError:
        return found
    return {**found, f"pyAgrum {pyagrum.__version__}": _by_pyagrum(options.iterations)}


def _by_pgnn(engine: Engine) -> Callable[[Instance], Answer]:
    """An engine of pgnn."""

    def answer(instance: Instance) -> Answer:
        begun = clock()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            found = instance.model.query(
                evidence=instance.evidence or None, engine=engine, errors="nan"
            )
        seconds = clock() - begun
        told = found.diagnostics
        iterations = told.get("iterations")
        return Answer(
            [found[n].probs.detach().numpy().reshape(-1) for n in instance.model.variables],
            float(found.log_evidence),
            None if iterations is None else int(np.max(np.asarray(iterations))),
            bool(np.all(np.asarray(told["converged"]))),
            seconds,
        )

    return answer


def _by_pyagrum(limit: int) -> Callable[[Instance], Answer]:
    """PyAgrum's loopy engine; it takes Bayesian networks only.

    Every factor becomes an observed child of its variables, with the same messages. Building the
    network is not counted.
    """

    def answer(instance: Instance) -> Answer:
        import pyagrum

        net, observed = _as_network(instance)
        engine = pyagrum.LoopyBeliefPropagation(net)
        engine.setMaxIter(limit)
        engine.setEpsilon(1e-6)
        engine.setMaxTime(PATIENCE)
        engine.setEvidence(observed)
        begun = clock()
        engine.makeInference()
        seconds = clock() - begun
        names = [str(n) for n in instance.model.variables]
        return Answer(
            [engine.posterior(n).toarray().reshape(-1) for n in names],
            None,
            engine.nbrIterations(),
            engine.nbrIterations() < limit and seconds < PATIENCE,
            seconds,
        )

    return answer


def _as_network(instance: Instance) -> tuple[Any, dict[str, int]]:
    """A Bayesian network and evidence with the field's distribution."""
    import pyagrum

    net = pyagrum.BayesNet()
    cards = {str(n): v.num_states for n, v in instance.model.variables.items()}
    for name, states in cards.items():
        net.add(pyagrum.RangeVariable(name, name, 0, states - 1))
        net.cpt(name).fillWith(1.0 / states)
    observed = {str(n): int(state) for n, state in instance.evidence.items()}
    for k, factor in enumerate(instance.model.factors()):
        child = f"factor {k}"
        net.add(pyagrum.RangeVariable(child, child, 0, 1))
        scope = [str(v.name) for v in factor.variables]
        for name in scope:
            net.addArc(name, child)
        log_table = factor.log_values.detach().double().numpy()
        table = np.exp(log_table - log_table.max())
        both = np.stack([1.0 - table, table], axis=-1)
        # the child's axis is the first variable of the table, which runs fastest
        order = [*reversed(range(len(scope)))]
        given = [net.cpt(child).names.index(name) for name in scope]
        if given != [1 + k for k in range(len(scope))]:
            raise ValueError("parents in another order than they were added in")
        net.cpt(child).fillWith(both.transpose([*order, len(scope)]).ravel().tolist())
        observed[child] = 1
    return net, observed


def _violated(instance: Instance, label: str, answer: Answer) -> bool:
    """Whether a bound is on the wrong side of the exact value."""
    if instance.log_z is None or answer.log_z is None or math.isnan(answer.log_z):
        return False
    slack = 1e-6 if instance.exact else 2e-3  # digits of the reference
    if label == "reweighted":
        return answer.log_z < instance.log_z - slack
    return label == "mean field" and answer.log_z > instance.log_z + slack


def _cells(instance: Instance, answer: Answer) -> list[str]:
    error, value, gap = "", "", ""
    if instance.marginals is not None and answer.marginals is not None:
        hidden = [k for k, n in enumerate(instance.model.variables) if n not in instance.evidence]
        pairs = [(answer.marginals[k], instance.marginals[k]) for k in hidden]
        far = np.concatenate([np.abs(a - b) for a, b in pairs])
        error = f"{far.mean():.1e}"
    if answer.log_z is not None:
        value = f"{answer.log_z:.3f}"
        if instance.log_z is not None:
            gap = f"{answer.log_z - instance.log_z:+.3f}{'' if instance.exact else ' *'}"
    iterations = "" if answer.iterations is None else str(answer.iterations)
    converged = "" if answer.converged is None else ("yes" if answer.converged else "no")
    return [error, value, gap, iterations, converged, duration(answer.seconds)]


def _read(folder: Path, path: Path, name: str) -> Instance:
    """A model, its evidence, and the exact answer as far as it can be had."""
    model = pgnn.read(path)
    evidence_file = folder / "pr_mar" / f"{name}.uai.evid"
    evidence = pgnn.read_evidence(evidence_file) if evidence_file.exists() else {}
    try:
        found = model.query(evidence=evidence or None, engine=pgnn.JunctionTree())
        marginals = [found[n].probs.detach().numpy().reshape(-1) for n in model.variables]
        return Instance(name, model, evidence, marginals, float(found.log_evidence), True)
    except (PgnnError, MemoryError):
        pass
    known = json.loads((folder / "reference_values.json").read_text())["instances"]
    log_z = known.get(f"pr_mar/{name}", {}).get("log10_Z_reference")
    file = folder / "pr_mar" / f"{name}.uai.MAR"
    marginals = _marginals(file) if file.exists() else None
    return Instance(
        name, model, evidence, marginals, None if log_z is None else log_z * math.log(10), False
    )


def _marginals(file: Path) -> list[np.ndarray]:
    """A reference solution's marginals."""
    numbers = file.read_text().split()[1:]
    found, at = [], 1
    for _ in range(int(numbers[0])):
        states = int(numbers[at])
        found.append(np.array(numbers[at + 1 : at + 1 + states], dtype=float))
        at += 1 + states
    return found


def _warm_up(contenders: dict[str, Callable[[Instance], Answer]]) -> None:
    """Compile kernels."""
    small = pgnn.MarkovRandomField.grid((3, 3), coupling=0.3)
    variables = [pgnn.Variable(k, 2) for k in range(9)]
    names = {v.name: variables[k] for k, v in enumerate(small.elements.singles)}
    factors = [
        pgnn.Factor([names[v.name] for v in f.variables], f.log_values.detach())
        for f in small.factors()
    ]
    instance = Instance("", pgnn.MarkovRandomField(factors), {}, None, None, True)
    for answer_of in contenders.values():
        answer_of(instance)


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(part in name for part in only)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.propagation", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="where pr_mar and reference_values.json are")
    add("--only", nargs="+", default=[], metavar="PART", help="instances whose names have it")
    add("--iterations", type=int, default=1000, help="at most")
    add("--core", type=int, help="core to run on; by default the last one allowed")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
