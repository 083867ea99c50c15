"""Adjustment sets: covariates that turn a conditional distribution into a causal effect."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from pgnn.errors import ModelError
from pgnn.graphs.checks import HasGraph, Node, check_directed_acyclic, graph_of, node_set
from pgnn.graphs.relatives import ancestors
from pgnn.graphs.separation import is_d_separated


def adjustment_set(
    graph: nx.DiGraph | HasGraph,
    cause: Node | Iterable[Node],
    effect: Node | Iterable[Node],
    latent: Node | Iterable[Node] = (),
) -> set[Node] | None:
    r"""Return covariates that suffice to estimate a causal effect from observations.

    With these covariates ``z``

    .. math:: p(y \mid \mathrm{do}(x)) = \sum_z p(y \mid x, z) \, p(z)

    No proper subset of them suffices. Besides the sets of the back-door criterion this finds sets
    where only the more general adjustment criterion holds.

    Args:
        graph: Directed acyclic graph of causes and effects, or a model on one.
        cause: A node ``x``, or a collection of nodes that are set together.
        effect: A node ``y``, or a collection of nodes.
        latent: Nodes that were not observed and so cannot be adjusted for.

    Returns:
        A new set, empty if nothing confounds the effect; None if no set suffices, though another
        formula may identify the effect.

    Raises:
        ModelError: If the graph is undirected or cyclic, a node is unknown, or a node is both cause
            and effect or latent.

    Cost:
        Linear in the number of nodes and edges.

    References:
        Shpitser, VanderWeele and Robins (2010), On the validity of covariate adjustment for
        estimating causal effects. van der Zander, Liskiewicz and Textor (2019), Separators and
        adjustment sets in causal graphs.

    Example:
        >>> graph = nx.DiGraph([("age", "drug"), ("age", "cured"), ("drug", "cured")])
        >>> adjustment_set(graph, "drug", "cured")
        {'age'}
        >>> print(adjustment_set(graph, "drug", "cured", latent="age"))
        None
    """
    graph = graph_of(graph)
    causes, effects, hidden = _three_sets(graph, cause, effect, latent, "latent")
    back_door, forbidden = _back_door(graph, causes, effects)
    allowed = set(graph) - causes - effects - hidden - forbidden
    found: set[Node] | None = nx.find_minimal_d_separator(
        back_door, causes, effects, restricted=allowed
    )
    return found


def is_adjustment_set(
    graph: nx.DiGraph | HasGraph,
    cause: Node | Iterable[Node],
    effect: Node | Iterable[Node],
    covariates: Node | Iterable[Node] = (),
) -> bool:
    """Tell whether covariates suffice to estimate a causal effect, see :func:`adjustment_set`.

    Args:
        graph: Directed acyclic graph of causes and effects, or a model on one.
        cause: A node, or a collection of nodes that are set together.
        effect: A node, or a collection of nodes.
        covariates: The nodes to adjust for.

    Returns:
        Whether the formula holds in every distribution that factorises along the graph.

    Raises:
        ModelError: If the graph is undirected or cyclic, a node is unknown, or two of the three
            sets overlap.

    Cost:
        Linear in the number of nodes and edges.

    Example:
        >>> graph = nx.DiGraph([("drug", "pressure"), ("pressure", "cured"), ("drug", "cured")])
        >>> is_adjustment_set(graph, "drug", "cured")
        True
        >>> is_adjustment_set(graph, "drug", "cured", "pressure")
        False
    """
    graph = graph_of(graph)
    causes, effects, given = _three_sets(graph, cause, effect, covariates, "a covariate")
    back_door, forbidden = _back_door(graph, causes, effects)
    return given.isdisjoint(forbidden) and is_d_separated(back_door, causes, effects, given)


def _back_door(
    graph: nx.DiGraph, causes: set[Node], effects: set[Node]
) -> tuple[nx.DiGraph, set[Node]]:
    """Return the proper back-door graph, and the nodes that must not be adjusted for.

    Causal paths leave the causes and do not return to them. Their first edges are removed; the
    nodes on them, and what these nodes cause, must not be adjusted for.
    """
    into, out_of = graph.copy(), graph.copy()
    into.remove_edges_from(list(graph.in_edges(causes)))
    out_of.remove_edges_from(list(graph.out_edges(causes)))
    caused = _descendants(into, causes) - causes
    on_paths = caused & ancestors(out_of, effects)
    back_door = graph.copy()
    back_door.remove_edges_from(
        [(x, child) for x, child in graph.out_edges(causes) if child in on_paths]
    )
    return back_door, _descendants(graph, on_paths)


def _descendants(graph: nx.DiGraph, nodes: set[Node]) -> set[Node]:
    return ancestors(graph.reverse(copy=False), nodes)


def _three_sets(
    graph: nx.DiGraph,
    cause: Node | Iterable[Node],
    effect: Node | Iterable[Node],
    others: Node | Iterable[Node],
    role: str,
) -> tuple[set[Node], set[Node], set[Node]]:
    check_directed_acyclic(graph)
    causes = node_set(graph, cause, "cause")
    effects = node_set(graph, effect, "effect")
    rest = node_set(graph, others, f"{role.removeprefix('a ')} node")
    for first, second, roles in (
        (causes, effects, "both a cause and an effect"),
        (causes, rest, f"both a cause and {role}"),
        (effects, rest, f"both an effect and {role}"),
    ):
        for node in first & second:
            raise ModelError(f"node {node!r} is {roles}", "drop one")
    return causes, effects, rest
