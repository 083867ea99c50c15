"""Interventions, which set variables to a state or by a policy."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import networkx as nx
import numpy as np

from pgnn.errors import EvidenceError, ModelError, short_repr
from pgnn.evidence.unknown_variable import unknown_variable
from pgnn.factors.cells import cells_of, is_container
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.constant import Constant
from pgnn.factors.conditionals.exogenous import Exogenous
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.variable import Variable

AT_RANDOM = object()
"""The default action on variables."""


def read_interventions(interventions: Any) -> dict[Hashable, Any]:
    """Return actions by name; :data:`AT_RANDOM` for variables without an action.

    Args:
        interventions: A mapping from names to actions, or names.

    Raises:
        EvidenceError: If it is neither.
    """
    if isinstance(interventions, Mapping):
        return dict(interventions)
    if isinstance(interventions, str):
        return {interventions: AT_RANDOM}
    if isinstance(interventions, Iterable):
        with contextlib.suppress(TypeError):  # not hashable
            return dict.fromkeys(interventions, AT_RANDOM)
    raise EvidenceError(
        f"do() takes a mapping such as {{'rain': 'yes'}}, got {short_repr(interventions)}"
    )


def intervened(
    graph: nx.DiGraph, conditionals: Mapping[Hashable, Conditional], interventions: Any
) -> tuple[nx.DiGraph, dict[Hashable, Conditional]]:
    """Return the graph and the conditionals after interventions; unchanged ones are shared.

    Args:
        graph: Graph of the network.
        conditionals: Conditionals of all its nodes.
        interventions: See :meth:`BayesianNetwork.do`.

    Raises:
        EvidenceError: If a variable or a state is unknown, or several values are given.
        ModelError: If an array of states is given no conditional, or a policy does not fit.
    """
    mutilated, after = nx.DiGraph(), dict(conditionals)
    for name, action in read_interventions(interventions).items():
        if name not in conditionals:
            raise unknown_variable(name, [c.child for c in conditionals.values()])
        after[name] = _policy(conditionals[name].child, action)
    for name in graph:  # without attributes, which may describe the replaced conditionals
        mutilated.add_node(name)
    for name, conditional in after.items():
        same = conditional is conditionals[name]
        names = graph.predecessors(name) if same else [v.name for v in conditional.parents]
        for parent in names:
            if parent not in conditionals:
                raise unknown_variable(parent, [c.child for c in conditionals.values()])
            mutilated.add_edge(parent, name)
    return mutilated, after


def _policy(variable: Variable, action: Any) -> Conditional:
    """Return the conditional of a variable after an action."""
    name = variable.name
    if isinstance(action, Conditional):
        if action.child != variable:
            raise ModelError(
                f"do() sets {variable} by a conditional of it, got one of {action.child}"
            )
        return action
    if not variable.is_discrete:
        return Exogenous(variable) if action is AT_RANDOM else Constant(variable, action)
    if variable.shape:
        raise ModelError(
            f"{name!r} is an array, so that do() needs a conditional for it, not a value",
            "give one, such as "
            f"model.do({{{name!r}: pgnn.Bernoulli(model.variables[{name!r}], probs=...)}})",
        )
    if action is AT_RANDOM:
        return Tabular(variable, (), np.full(variable.num_states, 1.0 / variable.num_states))
    if isinstance(action, Mapping):
        return Tabular(variable, (), {s: action.get(s, 0.0) for s in _known(variable, action)})
    if is_container(action, variable.labels.codes):
        cells = cells_of(action, variable.labels.codes)
        values, masked = cells.values, cells.missing is not None and bool(cells.missing.any())
        if masked and not values.ndim:
            raise EvidenceError(f"do() needs a state to set {name!r} to, got {short_repr(action)}")
        if not values.ndim:  # one value in an array
            known = cells.categories
            return _policy(variable, values.item() if known is None else known[values.item()])
        if values.dtype.kind == "f" and values.shape == (variable.num_states,) and not masked:
            return Tabular(variable, (), values)
        raise EvidenceError(
            f"do() sets {name!r} to one state, or by a distribution of its {variable.num_states} "
            f"states, got {short_repr(action)}",
            f"for a different state in each row use model.do([{name!r}]), which randomises it, "
            f"with {{{name!r}: ...}} as evidence",
        )
    index = variable.index(action)
    if index < 0:
        raise EvidenceError(f"do() needs a state to set {name!r} to, got {short_repr(action)}")
    return Tabular(variable, (), np.eye(variable.num_states)[index])


def _known(variable: Variable, weights: Mapping[Any, Any]) -> tuple[Hashable, ...]:
    """Check that the keys of weights are states of a variable; return the states."""
    for label in weights:
        if label not in variable.labels.codes:
            variable.index(label)  # raises for unknown labels
            raise EvidenceError(f"name the states of {variable.name!r} by their labels: {label!r}")
    return variable.states or ()
