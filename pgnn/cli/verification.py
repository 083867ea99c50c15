"""Posteriors of a model by several ways, compared."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import PgnnError, Unsupported

Findings: TypeAlias = Mapping[Hashable, Any]
Answer: TypeAlias = dict[Hashable, NDArray[np.float64]]
_MOST_JOINT_STATES = 2**20
_MOST_NODES_OF_PGMPY = 100  # it takes minutes beyond
_SHARE_OBSERVED = 0.2


def verify(model: Any, cases: int, seed: int) -> dict[str, Any]:
    """Compare posteriors given sampled evidence with those of the junction tree, one by one.

    Args:
        model: A model of discrete variables.
        cases: Number of sets of evidence; each observes a fifth of the variables of a sampled row.
        seed: Random seed of the samples.

    Returns:
        For each method its largest difference and at which variable, or why it did not answer.

    Raises:
        Unsupported: If a variable is real, or an array.
    """
    from pgnn.inference.exact.junction_tree import JunctionTree

    for name, variable in model.variables.items():
        if not variable.is_discrete or variable.shape:
            kind = "an array" if variable.shape else "real"
            raise Unsupported(f"answers about discrete variables are compared; {name!r} is {kind}")
    findings = _drawn_evidence(model, cases, seed)
    engine = JunctionTree()
    expected = [_posteriors(model.query(evidence=e, engine=engine)) for e in findings]
    methods: dict[str, Callable[[], list[Answer]]] = {
        "JunctionTree, all rows at once": lambda: _as_batch(model, findings, engine),
        "enumeration": lambda: _by_enumeration(model, findings),
        "pgmpy": lambda: _by_pgmpy(model, findings),
        "pyAgrum": lambda: _by_agrum(model, findings),
    }
    rows = [_compared(name, answer, expected) for name, answer in methods.items()]
    return {"cases": cases, "reference": "JunctionTree, row by row", "methods": rows}


def _compared(
    name: str, method: Callable[[], list[Answer]], expected: list[Answer]
) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the other libraries
            warnings.simplefilter("ignore", DeprecationWarning)
            answers = method()
    except (PgnnError, ImportError) as error:
        return {"name": name, "worst": None, "variable": None, "why": f"not asked: {error}"}
    gaps = {
        variable: float(np.abs(found[variable] - probabilities).max())
        for found, known in zip(answers, expected, strict=True)
        for variable, probabilities in known.items()
        if variable in found
    }
    variable = max(gaps, key=lambda v: gaps[v], default=None)
    worst = gaps[variable] if variable is not None else 0.0
    return {"name": name, "worst": worst, "variable": str(variable), "why": None}


def _drawn_evidence(model: Any, cases: int, seed: int) -> list[Findings]:
    frame = model.sample(cases, seed=seed).frame()
    rng = np.random.default_rng(seed)
    names = [*model.variables]
    count = max(1, round(_SHARE_OBSERVED * len(names))) if len(names) > 1 else 0
    chosen = [rng.choice(len(names), count, replace=False) for _ in range(cases)]
    return [
        {names[k]: frame[names[k]].iloc[row] for k in which} for row, which in enumerate(chosen)
    ]


def _posteriors(posterior: Any) -> Answer:
    return {name: posterior[name].probs.numpy(force=True) for name in posterior}


def _as_batch(model: Any, findings: list[Findings], engine: Any) -> list[Answer]:
    columns = {name: [e.get(name) for e in findings] for e in findings for name in e}
    if not columns:
        return [_posteriors(model.query(engine=engine))] * len(findings)
    together = _posteriors(model.query([*model.variables], columns, engine=engine))
    return [{name: values[k] for name, values in together.items()} for k in range(len(findings))]


def _by_enumeration(model: Any, findings: list[Findings]) -> list[Answer]:
    """The joint table of all variables, summed."""
    variables = list(model.variables.values())
    total = math.prod(v.num_states for v in variables)
    if total > _MOST_JOINT_STATES or len(variables) > 32:
        raise PgnnError(f"{total:.3g} joint states are too many")
    axis = {v.name: k for k, v in enumerate(variables)}
    joint = np.zeros([v.num_states for v in variables])
    for factor in model.factors():
        order = sorted(range(len(factor.names)), key=lambda k: axis[factor.names[k]])
        logs = factor.log_values.detach().double().numpy(force=True).transpose(order)
        shape = [v.num_states if v.name in factor.names else 1 for v in variables]
        joint = joint + logs.reshape(shape)
    joint = np.exp(joint - joint.max())
    return [_marginals(joint, variables, evidence) for evidence in findings]


def _marginals(joint: NDArray[Any], variables: list[Any], evidence: Findings) -> Answer:
    for k, v in enumerate(variables):
        if v.name in evidence:
            mask = np.arange(v.num_states) == v.index(evidence[v.name])
            joint = joint * mask.reshape([-1 if j == k else 1 for j in range(len(variables))])
    answer: Answer = {}
    for k, v in enumerate(variables):
        if v.name not in evidence:
            sums = joint.sum(axis=tuple(j for j in range(len(variables)) if j != k))
            answer[v.name] = sums / sums.sum()
    return answer


def _by_pgmpy(model: Any, findings: list[Findings]) -> list[Answer]:
    from pgnn.io.pgmpy import marginals_of_pgmpy

    if len(model.variables) > _MOST_NODES_OF_PGMPY:
        raise PgnnError(f"more than {_MOST_NODES_OF_PGMPY} nodes take it minutes")
    return marginals_of_pgmpy(model, findings)


def _by_agrum(model: Any, findings: list[Findings]) -> list[Answer]:
    import importlib

    from pgnn.io.pyagrum import to_pyagrum

    network = to_pyagrum(model)
    gum: Any = importlib.import_module("pyagrum")
    answers = []
    for evidence in findings:
        engine = gum.LazyPropagation(network)
        engine.setEvidence({str(n): model.variables[n].index(s) for n, s in evidence.items()})
        names = [name for name in model.variables if name not in evidence]
        answers.append({name: engine.posterior(str(name)).toarray() for name in names})
    return answers
