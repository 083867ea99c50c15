"""Reading the declaration of a directed model: graph, tables and states."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import networkx as nx
import numpy as np
import torch

from pgnn.errors import DataError, ModelError, closest, short_repr
from pgnn.evidence.framed_values import only_column
from pgnn.factors.cells import dense
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.variable import Variable
from pgnn.models.declared_conditional import class_of, declared_conditional

Edges = Iterable[tuple[Hashable, Hashable]]


def read_graph(graph: nx.DiGraph | Edges, names: Iterable[Hashable]) -> nx.DiGraph:
    """Copy a graph, or create one from edges, preserving the order of each node's parents.

    Args:
        graph: The graph, or edges ``(parent, child)``.
        names: Nodes, possibly without edges.
    """
    if isinstance(graph, nx.Graph) and not graph.is_directed():
        return graph.copy()  # a later check raises the error
    copied = nx.DiGraph()
    if isinstance(graph, nx.DiGraph):
        # networkx's own copy would reorder the parents, which are the axes of the tables
        copied.graph.update(graph.graph)
        copied.add_nodes_from(graph.nodes(data=True))
        copied.add_edges_from((u, v, data) for v in graph for u, data in graph.pred[v].items())
        return copied
    copied.add_nodes_from(names)
    copied.add_edges_from(graph)
    return copied


def listed_edges(graph: Any) -> Any:
    """Return a networkx graph unchanged, anything else as a list of pairs.

    Raises:
        ModelError: If it is neither a graph nor edges.
    """
    if isinstance(graph, nx.Graph):
        return graph
    if isinstance(graph, str | bytes | Mapping) or not isinstance(graph, Iterable):
        raise ModelError(
            f"expected an nx.DiGraph or a list of edges such as [('rain', 'wet')], got {graph!r}"
        )
    if hasattr(graph, "nodes"):  # its items are not its edges
        kind = f"{type(graph).__module__.split('.')[0]}.{type(graph).__name__}"
        raise ModelError(
            "expected an nx.DiGraph or a list of edges such as [('rain', 'wet')], got a graph "
            f"of another library, {kind}",
            "pass its edges by name, or convert the model, as pgnn.from_pyagrum() does",
        )
    return [pair_of(edge) for edge in graph]


def pair_of(edge: Any) -> tuple[Hashable, Hashable]:
    """Return the two nodes of an edge.

    Raises:
        ModelError: If it is not a pair of names.
    """
    pair = tuple(edge) if isinstance(edge, Iterable) and not isinstance(edge, str) else ()
    if len(pair) != 2 or not all(isinstance(n, Hashable) and n is not None for n in pair):
        raise ModelError(f"an edge is a pair of nodes, got {edge!r}")
    return pair


def by_name(values: Any, what: str) -> dict[Hashable, Any]:
    """Return an argument as a dictionary; conditionals in a list are named by their children.

    Args:
        values: A mapping, a list of conditionals, or None.
        what: Name of the argument in messages: ``"conditionals"``.

    Raises:
        ModelError: If it is anything else.
    """
    if values is None:
        return {}
    if isinstance(values, Mapping):
        return dict(values)
    if isinstance(values, list | tuple) and all(isinstance(c, Conditional) for c in values):
        named = {c.child.name: c for c in values}
        if len(named) == len(values):
            return named
    raise ModelError(
        f"{what} must be given by name, as in {{'rain': ...}}, got {type(values).__name__}"
    )


def check_known(names: Iterable[Hashable], graph: nx.DiGraph, what: str) -> None:
    """Check that names are those of nodes.

    Raises:
        ModelError: If one is not; the message suggests the closest names.
    """
    for name in names:
        if name not in graph:
            hint = closest(name, graph)
            raise ModelError(
                f"{what} is given for {name!r}, which is not a node of the graph{hint}"
            )


def declare(
    name: Hashable,
    graph: nx.DiGraph,
    conditionals: Mapping[Hashable, Any],
    states: Mapping[Hashable, int | Iterable[Hashable]],
) -> Variable:
    """Return the variable of a node.

    Args:
        name: The node.
        graph: The graph; node attributes ``states`` and ``shape`` are read.
        conditionals: Conditionals by name; the states of a node may follow from its conditional or
            table.
        states: Numbers or labels of states by name.

    Raises:
        ModelError: If states are unknown, or two sources disagree.
    """
    attributes = graph.nodes[name]
    conditional = conditionals.get(name)
    if isinstance(conditional, Conditional):
        return _agreeing(name, conditional.child, attributes.get("states", states.get(name)))
    declared = [
        variable_of(name, s[key], attributes.get("shape", ()))
        for s, key in ((states, name), (attributes, "states"))
        if key in s
    ]
    if declared and declared[0] != declared[-1]:
        raise ModelError(
            f"{name!r} is declared with states {declared[0].states}, but the graph's node has "
            f"{declared[1].states}",
            "give them once",
        )
    if declared:
        return declared[0]
    if "shape" in attributes:
        return Variable(name, None, attributes["shape"])
    if conditional is not None and not isinstance(conditional, Mapping | Callable):
        shape = np.shape(_numbers(conditional))
        if shape:
            return Variable(name, shape[-1])
    raise ModelError(
        f"the states of {name!r} are not known",
        f"give states={{{name!r}: ...}}, a node attribute 'states' (or 'shape' of a real "
        "variable), or a table",
    )


def is_declared(
    name: Hashable,
    graph: nx.DiGraph,
    conditionals: Mapping[Hashable, Any],
    states: Mapping[Hashable, Any],
) -> bool:
    """Whether the variable of a node is known to :func:`declare`."""
    conditional = conditionals.get(name)
    if name in states or {"states", "shape"} & set(graph.nodes[name]):
        return True
    if conditional is None or isinstance(conditional, Mapping):
        return False
    return isinstance(conditional, Conditional) or not callable(conditional)


def is_class(conditional: Any) -> bool:
    """Whether a callable is a conditional class, or a partial of one, which fits any shape."""
    return isinstance(class_of(conditional), type)


def event_shape(name: Hashable, column: Any) -> tuple[int, ...]:
    """Return the shape of one row of a column.

    Raises:
        DataError: If it is a single value.
    """
    column = only_column(column)
    shape = getattr(column, "shape", None)
    if not (isinstance(column, Iterable) or shape) or getattr(column, "ndim", 1) == 0:
        got = short_repr(column)
        raise DataError(f"column {name!r} must have one value for each row, got {got}")
    if shape is not None and len(shape) > 1:
        return tuple(int(n) for n in shape[1:])
    for cell in column:
        if cell is not None:
            return tuple(np.shape(cell))
    return ()


def declared_by_children(
    graph: nx.DiGraph, conditionals: Mapping[Hashable, Any]
) -> dict[Hashable, Variable]:
    """Return the variables of parents in conditionals of their children, by name.

    Nodes that have a conditional or attributes themselves are omitted.

    Args:
        graph: The graph.
        conditionals: Conditionals, tables and callables by name; only conditionals have parents.
    """
    declared: dict[Hashable, Variable] = {}
    for conditional in conditionals.values():
        for v in conditional.parents if isinstance(conditional, Conditional) else ():
            if v.name not in graph or isinstance(conditionals.get(v.name), Conditional):
                continue
            if not {"states", "shape"} & set(graph.nodes[v.name]):
                declared.setdefault(v.name, v)
    return declared


def variable_of(name: Hashable, states: Any, shape: Iterable[int | str] = ()) -> Variable:
    """Return the variable of a name, given its states or the variable itself.

    Raises:
        ModelError: If a variable of another name is given.
    """
    if not isinstance(states, Variable):
        return Variable(name, states, tuple(shape))
    if states.name != name:
        raise ModelError(f"{name!r} is declared to be {states}, a variable with another name")
    return states


def check_spelling(
    joined: Iterable[Hashable],
    values: Mapping[Hashable, Any],
    isolated: Iterable[Hashable],
    what: str,
) -> None:
    """Check that the name of an isolated node is not a misspelling of another node.

    Args:
        joined: Nodes with edges.
        values: Values by name of a node.
        isolated: Nodes without edges.
        what: Kind of the values, for messages.

    Raises:
        ModelError: If an isolated node with a value resembles another node without one.
    """
    without_value = [n for n in joined if n not in values]
    for name in isolated:
        if name not in values:
            continue
        near = next((n for n in without_value if _differ_by_a_slip(name, n)), None)
        if near is not None:
            raise ModelError(
                f"{name!r} is given {what} but has no edges, and {near!r} is given none",
                f"is it a misspelling? Declare a node without edges by graph.add_node({name!r})",
            )


def _differ_by_a_slip(a: Hashable, b: Hashable) -> bool:
    """Whether two names differ by case, spaces, or one letter of a word."""
    if not isinstance(a, str) or not isinstance(b, str):
        return False
    a, b = (n.casefold().strip().replace(" ", "_").replace("-", "_") for n in (a, b))
    if a == b:
        return True
    words = a.isalpha() and b.isalpha() and min(len(a), len(b)) > 3
    return words and difflib.SequenceMatcher(None, a, b).ratio() >= 0.75


def _agreeing(name: Hashable, child: Variable, states: Any) -> Variable:
    if child.name != name:
        raise ModelError(f"the conditional of {name!r} is one for {child.name!r}")
    declared = None if states is None else variable_of(name, states).states
    if declared is not None and declared != child.states:
        raise ModelError(
            f"{name!r} is declared with states {declared} but its conditional has {child.states}"
        )
    return child


def _numbers(table: Any) -> Any:
    return dense(table.detach()).cpu().numpy() if isinstance(table, torch.Tensor) else table


def conditional_of(
    name: Hashable,
    graph: nx.DiGraph,
    variables: Mapping[Hashable, Variable],
    declared: Any,
    normalise: bool = False,
) -> Conditional:
    """Return the conditional of a node from its declaration, if any.

    Args:
        name: The node.
        graph: Its edges.
        variables: By name.
        declared: The conditional, a table, a callable that returns one, or None for a learnable
            table (for a real variable a ``LinearGaussian``).
        normalise: Whether rows of tables are weights to be divided by their sums.

    Raises:
        ModelError: If it is not a conditional of the node given its parents in the graph.
    """
    parents = [variables[p] for p in graph.predecessors(name)]
    if isinstance(declared, Conditional):
        _check_parents(name, declared, parents)
        return declared
    if callable(declared):
        conditional = declared_conditional(declared, variables[name], parents)
        if not isinstance(conditional, Conditional):
            raise ModelError(
                f"the conditional of {name!r} must be a Conditional, a table or a callable "
                f"that returns one; the callable returned {type(conditional).__name__}"
            )
        if conditional.child != variables[name]:
            raise ModelError(
                f"the conditional of {name!r} must be one for {variables[name]}; the callable "
                f"returned one for {conditional.child}"
            )
        _check_parents(name, conditional, parents)
        return conditional
    if declared is None and not variables[name].is_discrete:
        return LinearGaussian(variables[name], parents)
    return Tabular(variables[name], parents, declared, normalise=normalise)


def _check_parents(name: Hashable, conditional: Conditional, parents: list[Variable]) -> None:
    expected, actual = {v.name for v in parents}, {v.name for v in conditional.parents}
    if expected != actual:
        raise ModelError(
            f"the graph gives {name!r} the parents {sorted(map(str, expected))}, its conditional "
            f"has {sorted(map(str, actual))}"
        )
    by_name = {v.name: v for v in parents}
    for v in conditional.parents:
        if v != by_name[v.name]:
            raise ModelError(
                f"the conditional of {name!r} is declared with {v}, but the model has "
                f"{by_name[v.name]}",
                "declare the same states in both",
            )
