"""``pgnn query`` and ``pgnn mpe``: answers about one case."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from typing import Any

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
from pgnn.cli.inputs import engine_of, evidence_of, lookup, read_model

QUERY_EXAMPLES = """\
  pgnn query asia.bif -e smoke=yes -e xray=yes -t lung
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
    query.add_argument("--mpe", action="store_true", help="most probable explanation too")
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
    targets = _targets(model, options)
    unobserved = [name for name in model.variables if name not in evidence]
    posterior = model.query(targets or unobserved or None, evidence, engine=engine)
    mode = model.most_probable(evidence) if options.mpe else None
    if options.json:
        print(json.dumps(_answer(model, evidence, posterior, mode), indent=2))
        return
    print(posterior.table())
    print(f"log evidence {float(posterior.log_evidence):z.6f} ({posterior.kind})")
    if mode is not None:
        print(f"\n{mode}")


def _mpe(options: argparse.Namespace) -> None:
    model = read_model(options.file, options.normalise)
    evidence = evidence_of(model, options)
    targets = _targets(model, options) or None
    mode = model.most_probable(evidence, targets, engine=engine_of(options.engine))
    print(json.dumps(_explanation(mode), indent=2) if options.json else mode)


def _targets(model: Any, options: argparse.Namespace) -> list[Any]:
    return [lookup(name, model.variables, "variable") for name in options.target]


def _answer(model: Any, evidence: Mapping[Any, Any], posterior: Any, mode: Any) -> dict[str, Any]:
    """Everything that ``pgnn query`` found out, in types that JSON has."""
    log_evidence = float(posterior.log_evidence)
    answer: dict[str, Any] = {
        "kind": posterior.kind,
        "engine": posterior.engine,
        "log_evidence": log_evidence if math.isfinite(log_evidence) else None,
        "diagnostics": _json_values(posterior.diagnostics),
        "evidence": {str(name): str(state) for name, state in evidence.items()},
        "posterior": {
            str(name): {
                str(label): float(probability)
                for label, probability in zip(
                    model.variables[name].states, posterior[name].probs, strict=True
                )
            }
            for name in posterior
        },
    }
    if mode is not None:
        answer["most_probable"] = _explanation(mode)
    return answer


def _explanation(mode: Any) -> dict[str, Any]:
    """The most probable states, in types that JSON has."""
    bound = None if mode.upper_bound is None else float(mode.upper_bound)
    return {
        "engine": mode.engine,
        "log_prob": float(mode.log_prob),
        "upper_bound": bound,
        "proved": bound is not None and bound - float(mode.log_prob) < 1e-9,
        "states": {str(name): str(state) for name, state in mode.items()},
    }


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
