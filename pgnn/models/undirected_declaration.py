"""Reading the declaration of an undirected model: graph, tables and states."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch

from pgnn.errors import ModelError, closest
from pgnn.factors.elements import Elements
from pgnn.factors.potentials.potential import Potential
from pgnn.factors.potentials.tabular_potential import TabularPotential
from pgnn.factors.variable import Variable
from pgnn.graphs.checks import check_undirected
from pgnn.models.cliques import Clique, Part, node_of, read_cliques, read_parts
from pgnn.models.directed_declaration import check_spelling, pair_of, variable_of
from pgnn.models.model import Model

Edges = Iterable[tuple[Hashable, Hashable]]
States = Mapping[Hashable, int | Iterable[Hashable] | Variable]


class FieldDeclaration(NamedTuple):
    """The graph, variables and potentials of a Markov random field.

    Attributes:
        graph: The graph, whose nodes are the variables.
        variables: Variables by name, in the order of the nodes.
        potentials: All potentials.
    """

    graph: nx.Graph
    variables: dict[Hashable, Variable]
    potentials: list[Potential]


def declared(graph: Any, potentials: Any, states: States | None) -> FieldDeclaration:
    """Read a declaration, see :class:`~pgnn.models.markov_random_field.MarkovRandomField`.

    Raises:
        ModelError: If it is invalid.
    """
    if isinstance(graph, Model):
        raise ModelError(
            f"got a {type(graph).__name__} instead of a graph",
            "use MarkovRandomField.from_bayesian(network)",
        )
    if isinstance(graph, str) or not isinstance(graph, Part | Iterable):
        raise ModelError(f"a Markov random field needs an nx.Graph or edges, got {graph!r}")
    if not isinstance(graph, nx.Graph):
        graph = [graph] if isinstance(graph, Part) else list(graph)
        if all(isinstance(part, Part) for part in graph) and (graph or potentials is None):
            return _of_parts(graph, potentials, states)
    return _of_graph(graph, {} if potentials is None else potentials, states or {})


def _of_parts(parts: list[Part], potentials: Any, states: States | None) -> FieldDeclaration:
    if potentials is not None or (parts and states is not None):
        raise ModelError("potentials= and states= go with a graph, but these are potentials")
    if not parts and states:
        return _of_graph([], {}, states)
    potentials_read = read_parts(parts)
    variables = _collect(potentials_read)
    if not variables:
        raise ModelError("a Markov random field needs at least one factor over a variable")
    graph = nx.Graph()
    graph.add_nodes_from(variables)
    for p in potentials_read:
        for names in p.cliques:
            nodes = dict.fromkeys(node_of(graph, n) for n in names)
            graph.add_edges_from(combinations(nodes, 2))
    return FieldDeclaration(graph, variables, potentials_read)


def _of_graph(graph: Any, potentials: Any, states: States) -> FieldDeclaration:
    names = [*states, *_node_names(potentials)]
    copied = read_undirected(graph, names)
    if not isinstance(graph, nx.Graph):
        joined = [n for n in copied if copied[n]]
        isolated = [n for n in copied if not copied[n]]
        values = {**dict.fromkeys(_node_names(potentials)), **states}
        check_spelling(joined, values, isolated, "a table or states")
    if not len(copied):
        raise ModelError("a Markov random field needs at least one node")
    cliques = read_cliques(copied, potentials)
    variables = declare_variables(copied, cliques, states)
    return FieldDeclaration(copied, variables, potentials_of(copied, variables, cliques))


def _node_names(potentials: Any) -> list[Hashable]:
    """Return the keys of a mapping that are single nodes."""
    if not isinstance(potentials, Mapping):
        return []
    return [key for key in potentials if not isinstance(key, tuple | frozenset)]


def _collect(potentials: Sequence[Potential]) -> dict[Hashable, Variable]:
    """Return the variables of potentials; elements belong to their arrays."""
    variables: dict[Hashable, Variable] = {}
    for p in potentials:
        for v in p.variables:
            if variables.setdefault(v.name, v) != v:
                raise ModelError(f"potentials disagree: {variables[v.name]} and {v}")
    arrays = Elements(v for v in variables.values() if v.shape)
    variables = {n: v for n, v in variables.items() if v.shape or n not in arrays}
    # variables named by integers are sorted, others are in order of appearance
    return (
        dict(sorted(variables.items())) if all(isinstance(n, int) for n in variables) else variables
    )


def check_elements(potentials: Sequence[Potential], elements: Elements) -> None:
    """Check that every potential is over the model's variables or elements of its arrays.

    Raises:
        ModelError: If states or shapes disagree.
    """
    for p in potentials:
        for v in p.variables:
            element = elements.find(v.name)
            if element is None or element[0] != v:
                other = f"has {element[0]}" if element else "has no such element"
                raise ModelError(f"a potential is over {v}, but the model {other}")
        p.placed(elements)


def read_undirected(graph: nx.Graph | Edges, names: Iterable[Hashable]) -> nx.Graph:
    """Copy a graph, or create one from edges.

    Args:
        graph: The graph, or edges.
        names: Nodes, possibly without edges.

    Raises:
        ModelError: If it is directed, has multiple edges or self-loops, or is not a graph.
    """
    if isinstance(graph, nx.Graph):
        if graph.is_directed():
            raise ModelError(
                f"a Markov random field needs an undirected graph, got a {type(graph).__name__}",
                "use MarkovRandomField.from_bayesian(network), or moral_graph(graph)",
            )
        if graph.is_multigraph():
            raise ModelError(
                "got an nx.MultiGraph", "use nx.Graph, with one edge per pair of nodes"
            )
        copied = nx.Graph()
        copied.graph.update(graph.graph)
        copied.add_nodes_from(graph.nodes(data=True))
        copied.add_edges_from(graph.edges(data=True))
    else:
        copied = nx.Graph()
        copied.add_nodes_from(names)
        copied.add_edges_from(_pair(edge) for edge in graph)
    check_undirected(copied)
    return copied


def declare_variables(
    graph: nx.Graph, cliques: Sequence[Clique], states: States
) -> dict[Hashable, Variable]:
    """Return the variables of the nodes, by states, attributes, potentials and shapes of tables.

    Raises:
        ModelError: If states are unknown, two sources disagree, or a node is real.
    """
    for name in states:
        if name not in graph:
            raise ModelError(
                f"states are given for {name!r}, which is not a node of the graph"
                f"{closest(name, graph)}"
            )
    potentials = [c.potential for c in cliques if isinstance(c.potential, Potential)]
    known = {v.name: v for p in potentials for v in p.variables if v.name in graph}
    sizes = dict(_sizes(cliques))
    return {n: _declare(n, graph.nodes[n], known, sizes, states) for n in graph}


def potentials_of(
    graph: nx.Graph, variables: Mapping[Hashable, Variable], cliques: Sequence[Clique]
) -> list[Potential]:
    """Create the potentials: the declared ones, then learnable tables for the other cliques.

    A maximal clique of the graph gets a learnable table if one of its edges is in no declared
    potential, or if it is an isolated node in no declared potential.
    """
    elements = Elements(variables.values())
    potentials = [_potential(elements, c) for c in cliques]
    covered: set[frozenset[Hashable]] = set()
    for p in potentials:
        for names in p.cliques:
            nodes = dict.fromkeys(node_of(graph, n) for n in names)
            covered.update(map(frozenset, combinations(nodes, 2)))
            covered.update(frozenset([n]) for n in nodes)
    uncovered = [e for e in graph.edges if frozenset(e) not in covered]
    isolated = [n for n in graph if not graph[n] and frozenset([n]) not in covered]
    if not uncovered and not isolated:
        return potentials
    position = {name: k for k, name in enumerate(graph)}
    for clique in nx.find_cliques(graph.edge_subgraph(graph.edges)) if uncovered else ():
        if any(frozenset(pair) not in covered for pair in combinations(clique, 2)):
            scope = [variables[n] for n in sorted(clique, key=position.__getitem__)]
            potentials.append(TabularPotential(scope))
    return [*potentials, *(TabularPotential(variables[n]) for n in isolated)]


def _pair(edge: Any) -> tuple[Hashable, Hashable]:
    if isinstance(edge, Part):
        raise ModelError("give either edges or potentials and factors, not a mixture of both")
    return pair_of(edge)


def _sizes(cliques: Sequence[Clique]) -> Iterator[tuple[Hashable, int]]:
    """Yield numbers of states from the shapes of tables."""
    for names, table in cliques:
        if isinstance(table, Potential) or callable(table):
            continue
        try:
            shape = np.shape(table.detach() if isinstance(table, torch.Tensor) else table)
        except ValueError:  # ragged: reading it raises the error
            continue
        yield from zip(reversed(names), reversed(shape), strict=False)


def _declare(
    name: Hashable,
    attributes: Mapping[str, Any],
    known: Mapping[Hashable, Variable],
    sizes: Mapping[Hashable, int],
    states: States,
) -> Variable:
    shape = tuple(attributes.get("shape", ()))
    sources = [states.get(name), attributes.get("states")]
    declared = [variable_of(name, s, shape) for s in sources if s is not None]
    if name in known:
        variable = known[name]
        if "shape" not in attributes:  # states alone do not determine the shape
            declared = [Variable(name, v.states, v.shape or variable.shape) for v in declared]
        declared.append(variable)
    for v in declared[1:]:
        if v != declared[0]:
            raise ModelError(f"{name!r} has two different declarations: {declared[0]} and {v}")
    if declared:
        return declared[0]
    if name in sizes:
        return Variable(name, sizes[name], shape)
    real = " (undirected models have no real variables)" if "shape" in attributes else ""
    raise ModelError(
        f"the states of {name!r} are not known{real}",
        f"give states={{{name!r}: ...}}, a node attribute 'states', or a table over it",
    )


def _potential(elements: Elements, clique: Clique) -> Potential:
    names, declared = clique
    if isinstance(declared, Potential):
        return declared
    scope = [_element(elements, n) for n in names]
    if not callable(declared):
        return TabularPotential(scope, declared)
    potential = declared(scope)
    if not isinstance(potential, Potential) or {v.name for v in potential.variables} != set(names):
        raise ModelError(
            f"the potential of {names} must be a table, a Potential over these variables or a "
            f"callable that returns one; the callable returned {potential!r}"
        )
    return potential


def _element(elements: Elements, name: Hashable) -> Variable:
    element = elements.find(name)
    if element is None:
        raise ModelError(f"{name!r} is not an element of an array of the model")
    return element[0]
