"""Models from and to pgmpy."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from pgnn.errors import ModelError, Unsupported
from pgnn.io.description import Network, Table, describe, to_bayesian_network
from pgnn.io.pgmpy_dynamic import from_dynamic
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
