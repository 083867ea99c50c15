"""Dynamic Bayesian networks from pgmpy."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.variable import Variable
from pgnn.models.dynamic_bayesian_network import DynamicBayesianNetwork
from pgnn.models.repeated_slice import lagged


def from_dynamic(model: Any) -> DynamicBayesianNetwork:
    """Make a network over time of a pgmpy ``DynamicBayesianNetwork``.

    Args:
        model: The pgmpy network; a table of the second slice may be missing where it is that of
            the first one. It is not changed.

    Raises:
        ModelError: If a node has no table, or tables disagree about states.
    """
    found = [{_plain(c.variables[0])[0]: c for c in model.get_cpds(time_slice=t)} for t in (0, 1)]
    names = dict.fromkeys(_plain(n)[0] for n in model.nodes())
    for name in names:
        if name not in found[0]:
            raise ModelError(f"pgmpy model has no table for {(name, 0)!r}; add a TabularCPD")
    variables = {n: Variable(n, _states(found[0][n], 0)) for n in names}
    first = {n: _conditional(found[0][n], variables) for n in names}
    made = {n: _conditional(found[1][n], variables) if n in found[1] else first[n] for n in names}
    edges = [(v.name, n) for n, c in made.items() for v in c.parents]
    begun = {n: c for n, c in first.items() if not _same(c, made[n])}
    states = {n: v.states or () for n, v in variables.items()}
    return DynamicBayesianNetwork(edges, made, begun, states)


def _plain(node: Any) -> tuple[Hashable, int]:
    """Name and slice of a node."""
    return node[0], int(node[1])


def _states(cpd: Any, axis: int) -> list[Any]:
    names = {_plain(n): s for n, s in cpd.state_names.items()}
    return list(names[_plain(cpd.variables[axis])])


def _conditional(cpd: Any, variables: dict[Hashable, Variable]) -> Tabular:
    """A table with the child last, states in the order of the variables."""
    (child, t), *before = [_plain(n) for n in cpd.variables]
    parents = [lagged(variables[n]) if s < t else variables[n] for n, s in before]
    values = np.asarray(cpd.values, dtype=np.float64)
    for axis, (name, _) in enumerate([(child, t), *before]):
        given, want = _states(cpd, axis), list(variables[name].states or ())
        if set(given) != set(want) or len(given) != len(want):
            raise ModelError(f"tables disagree about the states of {name!r}: {given} and {want}")
        values = values.take([given.index(s) for s in want], axis=axis)
    return Tabular(variables[child], parents, np.moveaxis(values, 0, -1))


def _same(a: Conditional, b: Conditional) -> bool:
    if a is b:
        return True
    own = [v.name for v in a.parents] == [v.name for v in b.parents]
    return own and bool((a.factor().log_values == b.factor().log_values).all())
