"""Declared potentials of cliques of a graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import networkx as nx

from pgnn.errors import ModelError, closest
from pgnn.factors.factor import Factor
from pgnn.factors.potentials.factor_tables import FactorTables
from pgnn.factors.potentials.potential import Potential

Part = Potential | Factor


class Clique(NamedTuple):
    """A clique with its declared potential.

    Attributes:
        names: Nodes, or elements of arrays, in the order of a table's axes.
        potential: A table, a potential, or a callable that creates one from the variables.
    """

    names: tuple[Hashable, ...]
    potential: Any


def read_parts(parts: Iterable[Part]) -> list[Potential]:
    """Return potentials; all factors become one potential, at the position of the first."""
    potentials: list[Potential] = []
    factors: list[Factor] = []
    position = None
    for part in parts:
        if isinstance(part, Factor):
            position = len(potentials) if position is None else position
            factors.append(part)
        else:
            potentials.append(part)
    if position is not None:
        potentials.insert(position, FactorTables(factors))
    return potentials


def read_cliques(graph: nx.Graph, potentials: Any) -> list[Clique]:
    """Return the declared potentials with their cliques, including those of graph attributes.

    Raises:
        ModelError: If a clique is empty, unknown, given twice or not a clique of the graph.
    """
    cliques: list[Clique] = []
    if isinstance(potentials, Mapping):
        cliques += [_keyed(key, potential, graph) for key, potential in potentials.items()]
        _check_once(cliques)
    else:
        for potential in read_parts(_parts(potentials)):
            cliques.append(Clique(tuple(v.name for v in potential.variables), potential))
    declared = {frozenset(c.names) for c in cliques}
    attributes: list[tuple[tuple[Hashable, ...], Any]]
    attributes = [((n,), data) for n, data in graph.nodes(data=True)]
    attributes += [((u, v), data) for u, v, data in graph.edges(data=True)]
    cliques += [
        Clique(names, data["potential"])
        for names, data in attributes
        if data.get("potential") is not None and frozenset(names) not in declared
    ]
    for clique in cliques:
        for names in _cliques_of(clique):
            _check_clique(graph, [node_of(graph, n) for n in names])
    return cliques


def node_of(graph: nx.Graph, name: Hashable) -> Hashable:
    """Return the node of a name of a node or of an element of an array.

    Raises:
        ModelError: If there is none; the message suggests the closest names.
    """
    if name in graph:
        return name
    if isinstance(name, tuple) and len(name) > 1 and name[0] in graph:
        node: Hashable = name[0]
        return node
    raise ModelError(
        f"a potential is over {name!r}, which is not a node of the graph{closest(name, graph)}"
    )


def _parts(potentials: Any) -> list[Part]:
    if isinstance(potentials, Part):
        return [potentials]
    if isinstance(potentials, str) or not isinstance(potentials, Iterable):
        raise ModelError(
            f"potentials are a mapping of cliques to tables, or a list of potentials, got "
            f"{potentials!r}"
        )
    parts = list(potentials)
    for part in parts:
        if not isinstance(part, Part):
            raise ModelError(
                f"a list of potentials holds Potential or Factor objects, got {part!r}",
                "name the clique of a table in a mapping",
            )
    return parts


def _keyed(key: Any, potential: Any, graph: nx.Graph) -> Clique:
    names = _members(key, graph)
    if isinstance(potential, Factor):
        potential = FactorTables([potential])
    if isinstance(potential, Potential) and {v.name for v in potential.variables} != set(names):
        raise ModelError(
            f"the potential of {names} is one over {tuple(v.name for v in potential.variables)}"
        )
    return Clique(names, potential)


def _members(key: Any, graph: nx.Graph) -> tuple[Hashable, ...]:
    """Return the nodes or elements of a key of the mapping: one or several."""
    if key in graph:
        return (key,)
    if not isinstance(key, tuple | frozenset):
        return (node_of(graph, key),)
    if not key:
        raise ModelError("a potential is given for the empty clique", "name at least one node")
    names = tuple(key)
    indices = all(isinstance(k, int) and k not in graph for k in names[1:])
    if len(names) > 1 and names[0] in graph and indices:
        return (names,)
    if isinstance(key, frozenset):
        position = {name: k for k, name in enumerate(graph)}
        names = tuple(sorted(names, key=lambda n: position[node_of(graph, n)]))
    for name in names:
        node_of(graph, name)
    if len(set(names)) < len(names):
        raise ModelError(f"the clique {names} names a node twice")
    return names


def _check_once(cliques: Sequence[Clique]) -> None:
    observed: dict[frozenset[Hashable], tuple[Hashable, ...]] = {}
    for clique in cliques:
        first = observed.setdefault(frozenset(clique.names), clique.names)
        if first is not clique.names:
            raise ModelError(f"the clique {clique.names} is given twice, also as {first}")


def _cliques_of(clique: Clique) -> Sequence[tuple[Hashable, ...]]:
    potential = clique.potential
    return potential.cliques if isinstance(potential, Potential) else [clique.names]


def _check_clique(graph: nx.Graph, nodes: Sequence[Hashable]) -> None:
    for a, b in combinations(dict.fromkeys(nodes), 2):
        if not graph.has_edge(a, b):
            raise ModelError(
                f"a potential over {tuple(nodes)} needs these nodes to be adjacent, but the graph "
                f"has no edge between {a!r} and {b!r}",
                "add it, or declare smaller cliques",
            )
