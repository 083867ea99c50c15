"""Models from and to pgmpy."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.time_steps import lagged
from pgnn.factors.variable import Variable
from pgnn.io.description import Network, Table, describe, to_bayesian_network
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.dynamic_bayesian_network import DynamicBayesianNetwork


def from_pgmpy(model: Any) -> BayesianNetwork | DynamicBayesianNetwork:
    """Make a network of a pgmpy ``DiscreteBayesianNetwork`` or ``DynamicBayesianNetwork``.

    Names, states and their order are kept. pgmpy puts the child on the first axis of a table,
    pgnn on the last one.

    Args:
        model: The pgmpy network; it is not changed.

    Raises:
        ModelError: If a node has no table, or tables disagree about states.
        Unsupported: If a conditional is not a table.
    """
    if type(model).__name__ == "DynamicBayesianNetwork":
        return from_dynamic(model)
    cpds = {}
    for name in model.nodes():
        cpd = model.get_cpds(name)
        if cpd is None:
            raise ModelError(f"pgmpy model has no table for {name!r}; add a TabularCPD or fit it")
        if not hasattr(cpd, "state_names"):
            kind = type(cpd).__name__
            raise Unsupported(f"the conditional of {name!r} is a {kind}, not a table of states")
        cpds[name] = cpd
    states: dict[Hashable, tuple[Any, ...]] = {
        name: tuple(cpd.state_names[name]) for name, cpd in cpds.items()
    }
    tables: dict[Hashable, Table] = {name: _table(cpd, states) for name, cpd in cpds.items()}
    return to_bayesian_network(Network(str(model.name or "unknown"), states, tables))


def to_pgmpy(model: BayesianNetwork) -> Any:
    """Make a pgmpy ``DiscreteBayesianNetwork`` of a network of discrete variables.

    Args:
        model: The network; every conditional is written as its table.

    Raises:
        Unsupported: If a variable is real or a conditional needs inputs.
    """
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.models import DiscreteBayesianNetwork

    network = describe(model)
    result = DiscreteBayesianNetwork()
    result.add_nodes_from(network.states)
    for table in network.tables.values():
        result.add_edges_from((parent, table.child) for parent in table.parents)
    for table in network.tables.values():
        size = table.values.shape[-1]
        names = (*table.parents, table.child)
        result.add_cpds(
            TabularCPD(
                table.child,
                size,
                table.values.reshape(-1, size).T,
                evidence=list(table.parents) or None,
                evidence_card=list(table.values.shape[:-1]) or None,
                state_names={name: list(network.states[name]) for name in names},
            )
        )
    return result


def _table(cpd: Any, states: dict[Hashable, tuple[Any, ...]]) -> Table:
    child, *parents = cpd.variables
    values = np.asarray(cpd.values, dtype=np.float64)
    for axis, name in enumerate(cpd.variables):
        if name not in states:
            raise ModelError(f"the table of {child!r} has the parent {name!r}, which is no node")
        given = list(cpd.state_names[name])
        if set(given) != set(states[name]) or len(given) != len(states[name]):
            raise ModelError(
                f"the table of {child!r} has states {given} of {name!r}, "
                f"but that of {name!r} has {list(states[name])}"
            )
        values = values.take([given.index(label) for label in states[name]], axis=axis)
    return Table(child, tuple(parents), np.ascontiguousarray(np.moveaxis(values, 0, -1)))


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
