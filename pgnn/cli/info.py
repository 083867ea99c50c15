"""``pgnn info``: size of a model and cost of exact answers."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from pgnn.cli.arguments import Commands, add_command, add_json, add_model
from pgnn.cli.inputs import read_model


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "info",
        _info,
        "size of a model, cost of exact inference",
        "  pgnn info alarm.bif\n  pgnn info munin.net --json",
    )
    add_model(parser)
    add_json(parser)


def _info(options: argparse.Namespace) -> None:
    model = read_model(options.file, options.normalise)
    facts = facts_of(model)
    explanation = model.explain()
    if options.json:
        print(json.dumps({**facts, "plan": dataclasses.asdict(explanation)}, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<{width}}  {value:,}")
    print(f"\nall posteriors without evidence\n{explanation}")


def facts_of(model: Any) -> dict[str, int]:
    """Return the sizes of a model."""
    states = [v.num_states for v in model.variables.values() if v.is_discrete]
    return {
        "nodes": len(model.variables),
        "edges": _num_edges(model),
        "states": sum(states),
        "most_states": max(states, default=0),
        "free_parameters": model.num_free_parameters,
    }


def _num_edges(model: Any) -> int:
    """Edges from parents to children; of other models, pairs of variables that share a factor."""
    from pgnn.abilities import DirectedModel
    from pgnn.graphs.interaction import interaction_graph

    if isinstance(model, DirectedModel):
        return sum(len(c.parents) for c in model.conditionals.values())
    scopes = (scope for g in model.factor_groups() for scope in g.scopes.tolist())
    return int(interaction_graph(scopes).number_of_edges())
