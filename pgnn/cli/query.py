"""``pgnn query`` and ``pgnn mpe``: answers about one case."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pgnn.cli.arguments import (
    Commands,
    add_command,
    add_engine,
    add_evidence,
    add_json,
    add_model,
    add_targets,
)
from pgnn.cli.inputs import engine_of, evidence_of, read_model, targets_of

if TYPE_CHECKING:
    from pgnn.evidence.spelled_names import SpelledNames
    from pgnn.factors.variable import Variable

QUERY_EXAMPLES = """\
  pgnn query asia.bif -e smoke=yes -e xray=yes -t lung
  pgnn query asia.bif -e xray=yes:0.9,no:0.2 -t lung
  pgnn query grid.uai --evidence-file grid.uai.evid --json
  pgnn query large.net --engine "Gibbs(samples=5000)" -t lung"""
MPE_EXAMPLES = """\
  pgnn mpe asia.bif -e xray=yes
  pgnn mpe asia.bif -e xray=yes -t lung -t tub --json"""


def add(commands: Commands) -> None:
    """Add the commands."""
    query = add_command(
        commands, "query", _query, "posterior probabilities given evidence", QUERY_EXAMPLES
    )
    query.add_argument(
        "--mpe", action="store_true", help="also print the most probable explanation"
    )
    mpe = add_command(commands, "mpe", _mpe, "most probable explanation of evidence", MPE_EXAMPLES)
    for parser in (query, mpe):
        add_model(parser)
        add_evidence(parser)
        add_targets(parser)
        add_engine(parser)
        add_json(parser)


def _query(options: argparse.Namespace) -> None:
    model = read_model(options.file, options.normalise)
    evidence = evidence_of(model, options)
    engine = engine_of(options.engine)
    targets = targets_of(model, options)
    unobserved = [n for n in model.variables if n not in evidence or is_soft(evidence[n])]
    posterior = model.query(targets or unobserved or None, evidence, engine=engine)
    mode = model.most_probable(evidence) if options.mpe else None
    if options.json:
        print(json.dumps(_answer(model, evidence, posterior, mode), indent=2))
        return
    print(posterior.table())
    print(posterior.evidence_line())
    if mode is not None:
        print(f"\n{mode}")


def _mpe(options: argparse.Namespace) -> None:
    model = read_model(options.file, options.normalise)
    evidence = evidence_of(model, options)
    targets = targets_of(model, options) or None
    mode = model.most_probable(evidence, targets, engine=engine_of(options.engine))
    print(json.dumps(_explanation(model, mode), indent=2) if options.json else mode)


def _answer(model: Any, evidence: Mapping[Any, Any], posterior: Any, mode: Any) -> dict[str, Any]:
    """The answer of ``pgnn query``, in types of JSON."""
    from pgnn.evidence.spelled_names import SpelledNames

    names = SpelledNames(model.variables)
    log_evidence = _number(posterior.log_evidence)
    answer: dict[str, Any] = {
        "kind": posterior.kind,
        "engine": posterior.engine,
        "log_evidence": log_evidence if math.isfinite(log_evidence) else None,
        "diagnostics": _json_values(posterior.diagnostics),
        "evidence": {str(n): x if is_soft(x) else str(x) for n, x in evidence.items()},
        "posterior": {
            str(single.name): numbers
            for name in posterior
            for single, numbers in _marginals(names[name], posterior[name])
        },
    }
    if mode is not None:
        answer["most_probable"] = _explanation(model, mode)
    return answer


def is_soft(state: Any) -> bool:
    """Whether a finding has weights of states in place of a state."""
    return isinstance(state, dict)


def _marginals(variable: Variable, answer: Any) -> Iterator[tuple[Variable, dict[str, float]]]:
    """Each element of a variable with its probabilities, or with its mean and deviation."""
    if variable.is_discrete:
        numbers, keys = answer.probs.unbind(-1), [str(label) for label in variable.states or ()]
    else:
        numbers, keys = [answer.mean, answer.stddev], ["mean", "standard deviation"]
    columns = [x.detach().reshape(-1).tolist() for x in numbers]
    for single, row in zip(variable.elements(), zip(*columns, strict=True), strict=True):
        yield single, dict(zip(keys, row, strict=True))


def _explanation(model: Any, mode: Any) -> dict[str, Any]:
    """The most probable states, in types of JSON."""
    from pgnn.evidence.spelled_names import SpelledNames

    log_prob = _number(mode.log_prob)
    bound = None if mode.upper_bound is None else _number(mode.upper_bound)
    return {
        "engine": mode.engine,
        "log_prob": log_prob,
        "upper_bound": bound,
        "proved": bound is not None and bound - log_prob < 1e-9,
        "states": dict(_states(SpelledNames(model.variables), mode)),
    }


def _states(names: SpelledNames, mode: Any) -> Iterator[tuple[str, str | float]]:
    """Each element with its state, or with its number if it is real."""
    for name, values in mode.items():
        variable = names[name]
        cells = np.asarray(values).reshape(-1) if variable.shape else [values]
        for single, cell in zip(variable.elements(), cells, strict=True):
            yield str(single.name), str(cell) if variable.is_discrete else float(cell)


def _number(value: Any) -> float:
    """A tensor with one element, which may require gradients, as a float."""
    return float(value.detach()) if hasattr(value, "detach") else float(value)


def _json_values(diagnostics: Mapping[str, Any]) -> dict[str, Any]:
    """The diagnostics that JSON can represent: text, booleans and finite numbers."""
    kept = {}
    for name, value in diagnostics.items():
        one = value
        if not isinstance(value, str | bool | int | float):
            try:
                (one,) = np.asarray(value).reshape(-1).tolist()
            except (TypeError, ValueError, RuntimeError):  # several numbers, or none
                continue
        if isinstance(one, str | bool | int) or (isinstance(one, float) and math.isfinite(one)):
            kept[str(name)] = one
    return kept
