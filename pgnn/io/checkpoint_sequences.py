"""Models over time in a checkpoint: the conditionals of a slice and of the first step."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from pgnn.errors import DataError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.variable import Variable
from pgnn.io.checkpoint_kinds import describe_conditional, make_conditional
from pgnn.io.labels import encode
from pgnn.models.dynamic_bayesian_network import DynamicBayesianNetwork
from pgnn.models.hidden_markov_model import HiddenMarkovModel
from pgnn.models.hidden_semi_markov_model import HiddenSemiMarkovModel
from pgnn.models.sequence_model import SequenceModel


def describe_sequence_model(model: SequenceModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Describe a model over time, and its numbers.

    Raises:
        DataError: If a name or label cannot be saved.
    """
    parts = [*model.conditionals.values(), *model.initial.values()]
    lasting = [model.durations] if isinstance(model, HiddenSemiMarkovModel) else []
    parts += lasting
    variables = {v.name: v for c in parts for v in c.scope}
    numbers = {name: k for k, name in enumerate(variables)}
    described, tensors = [], {}
    for k, conditional in enumerate(parts):
        described.append(describe_conditional(conditional, numbers))
        tensors.update({f"{k}.{key}": x for key, x in conditional.state_dict().items()})
    structure: dict[str, Any] = {
        "class": type(model).__name__,
        "variables": [
            {"name": encode(v.name), "states": encode(v.states), "shape": encode(v.shape)}
            for v in variables.values()
        ],
        "conditionals": described[: len(model.conditionals)],
        "initial": described[len(model.conditionals) : len(parts) - len(lasting)],
        "durations": described[len(parts) - len(lasting) :],
    }
    if isinstance(model, HiddenMarkovModel):
        structure["state"] = numbers[model.state.name]
    return structure, tensors


def make_sequence_model(
    structure: Mapping[str, Any],
    variables: Sequence[Variable],
    states: Mapping[str, Mapping[str, Tensor]],
    modules: dict[Hashable, nn.Module],
) -> SequenceModel:
    """Make a model over time of its description and its numbers.

    Args:
        structure: What :func:`describe_sequence_model` returned.
        variables: Of one step and the one before.
        states: The tensors of each conditional by its number.
        modules: Networks of the caller's; of the first step under ``(name, "initial")``.

    Raises:
        DataError: If a module is needed and missing, or left over.
    """
    made: list[Conditional] = []
    slices = structure["conditionals"]
    lasting = structure.get("durations", [])
    for k, described in enumerate([*slices, *structure["initial"], *lasting]):
        own = modules if k < len(slices) else _of_first_step(modules)
        made.append(make_conditional(described, variables, states.get(str(k), {}), own))
        if own is not modules:
            kept = {(name, "initial"): m for name, m in own.items()}
            used = {n for n in modules if _is_first(n)} - set(kept)
            for name in used:
                del modules[name]
    if modules:
        unused = next(iter(modules))
        raise DataError(f"modules= has {unused!r}, which has no conditional that needs one")
    every = {c.child.name: c for c in made[: len(slices)]}
    first = {c.child.name: c for c in made[len(slices) : len(made) - len(lasting)]}
    if "state" in structure:
        state = variables[structure["state"]]
        emissions = {n: c for n, c in every.items() if n != state.name}
    if lasting:
        return HiddenSemiMarkovModel(
            state.states or (),
            emissions,
            made[-1],
            first[state.name],
            every[state.name],
            name=state.name,
        )
    if "state" in structure:
        return HiddenMarkovModel(
            state.states or (),
            emissions,
            first[state.name],
            every[state.name],
            name=state.name,
        )
    edges = [(v.name, c.child.name) for c in every.values() for v in c.parents]
    return DynamicBayesianNetwork(edges, every, first)


def _is_first(name: object) -> bool:
    return isinstance(name, tuple) and len(name) == 2 and name[1] == "initial"


def _of_first_step(modules: Mapping[Hashable, nn.Module]) -> dict[Hashable, nn.Module]:
    return {n[0]: m for n, m in modules.items() if isinstance(n, tuple) and _is_first(n)}
