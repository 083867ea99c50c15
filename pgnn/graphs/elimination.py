"""Elimination orders, in which variables are summed out so that the tables stay small."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from pgnn.errors import ModelError
from pgnn.graphs.bitset import adjacency_masks, bits
from pgnn.graphs.checks import HasGraph, Node, check_permutation, check_undirected, node_set
from pgnn.graphs.heuristics import Heuristic, MinFill
from pgnn.graphs.moral import undirected_of

_SPREADS = (0, 1, 8, 32)  # restarts multiply costs by 32, .., 32 + spread, in turn


@dataclass(frozen=True)
class EliminationOrder:
    """An elimination order of a graph and its cost.

    Eliminating a node joins its remaining neighbours to each other; the node and these neighbours
    are its elimination clique.

    Attributes:
        order: The nodes, first eliminated first.
        cliques: The elimination clique of each node of ``order``.
        width: Size of the largest clique minus one: the treewidth that this order shows, at least
            the graph's own. Zero for a graph without nodes.
        largest: Base-2 logarithm of the number of entries of the largest clique table.
        total: Number of entries of all clique tables together; ``inf`` beyond about 1e308.
    """

    order: tuple[Node, ...]
    cliques: tuple[frozenset[Node], ...] = field(repr=False)
    width: int
    largest: float
    total: float


def elimination_order(
    graph: nx.Graph | HasGraph,
    num_states: Mapping[Node, int] | None = None,
    *,
    heuristic: Heuristic | Sequence[Heuristic] = MinFill(),  # noqa: B008 (frozen)
    last: Node | Iterable[Node] = (),
    tries: int = 1,
    seed: int | None = None,
    budget_seconds: float | None = None,
) -> EliminationOrder:
    r"""Find an elimination order greedily, always eliminating the cheapest node.

    The rule is exact: among the nodes not in ``last`` (once none of them remains: among all), the
    next is the one of smallest integer cost; of several, the one that comes first in the graph.
    (So, once the nodes left are all joined to each other, they follow by position.)

    Further tries shuffle the positions and multiply each node's cost by a random integer from 32
    to 32, 33, 40 and 64 in turn. The order whose tables have the fewest entries in all is
    returned, the earliest of several; so more tries are never worse.

    Args:
        graph: Undirected graph without self-loops, such as :func:`moral_graph` returns, or a
            model, whose graph is made moral if it is directed.
        num_states: Number of states of each node; without it every node counts as binary.
        heuristic: What a node costs; of several heuristics each is tried, in turn.
        last: Nodes to eliminate after all others, as for marginal MAP.
        tries: Number of greedy runs of each heuristic, the first of which has no randomness.
        seed: Seed of the further tries; the global random state is not used.
        budget_seconds: Start no further try after this many seconds. The result then depends on
            the speed of the machine.

    Returns:
        The cheapest order found, with its cliques and sizes.

    Raises:
        ModelError: If the graph is directed or has a self-loop, a node is unknown, a state count
            is missing or below one, ``tries`` is below one, or there is no heuristic.

    Cost:
        A try takes :math:`O(n d^2)` operations on ``n``-bit integers where ``d`` is the typical
        degree: 0.01 to 0.1 s for networks of 1,000 nodes. Expensive tries are stopped early.

    References:
        Kjærulff (1990); Koller and Friedman (2009), section 9.4.3 and algorithm 9.4.

    Example:
        >>> square = nx.cycle_graph(["a", "b", "c", "d"])
        >>> found = elimination_order(square, {"a": 2, "b": 3, "c": 2, "d": 3})
        >>> found.order, found.width, found.total
        (('a', 'b', 'c', 'd'), 2, 45.0)
    """
    graph = undirected_of(graph)
    check_undirected(graph)
    rules = (heuristic,) if isinstance(heuristic, Heuristic) else tuple(heuristic)
    if tries < 1 or not rules:
        raise ModelError(f"expected tries >= 1 and a heuristic, got {tries} and {heuristic!r}")
    nodes = list(graph)
    late = node_set(graph, last, "last node")
    problem = _Problem(
        adjacency_masks(graph), _state_counts(nodes, num_states), [node in late for node in nodes]
    )
    draw = random.Random(seed)
    stop = math.inf if budget_seconds is None else time.monotonic() + budget_seconds
    best: _Try | None = None
    for number, rule in itertools.product(range(tries), rules):
        if best is not None and time.monotonic() >= stop:
            break
        rank, noise = _randomness(len(nodes), number, draw)
        best = _greedy(problem, rule, rank, noise, best.total if best else None) or best
    assert best is not None  # the first try has no limit to give up at
    return _result(nodes, problem.num_states, best.order, best.cliques)


def evaluate_order(
    graph: nx.Graph | HasGraph, order: Iterable[Node], num_states: Mapping[Node, int] | None = None
) -> EliminationOrder:
    """Return the cliques and sizes of a given elimination order.

    Args:
        graph: Undirected graph without self-loops, or a model.
        order: All its nodes, first eliminated first.
        num_states: Number of states of each node; without it every node counts as binary.

    Returns:
        The order with its cliques and sizes.

    Raises:
        ModelError: If the graph is directed or has a self-loop, the order does not list every
            node once, or a state count is missing or below one.
    """
    graph = undirected_of(graph)
    check_undirected(graph)
    listed = check_permutation(graph, order)
    nodes = list(graph)
    counts = _state_counts(nodes, num_states)
    position = {node: i for i, node in enumerate(nodes)}
    adjacency = adjacency_masks(graph)
    positions = [position[node] for node in listed]
    cliques = []
    for node in positions:
        cliques.append(adjacency[node] | 1 << node)
        _eliminate(adjacency, node)
    return _result(nodes, counts, positions, cliques)


@dataclass(frozen=True)
class _Problem:
    adjacency: list[int]
    num_states: list[int]
    late: list[bool]


@dataclass(frozen=True)
class _Try:
    order: list[int]
    cliques: list[int]
    total: int


def _randomness(size: int, number: int, draw: random.Random) -> tuple[list[int], list[int]]:
    """Ranks that break ties, and factors of the costs; try 0 has neither."""
    if number == 0:
        return list(range(size)), [1] * size
    spread = _SPREADS[(number - 1) % len(_SPREADS)]
    return draw.sample(range(size), size), [32 + draw.randint(0, spread) for _ in range(size)]


def _greedy(
    problem: _Problem,
    rule: Heuristic,
    rank: Sequence[int],
    noise: Sequence[int],
    limit: int | None,
) -> _Try | None:
    """Run once; give up (``None``) as soon as the tables reach ``limit`` entries."""
    order: list[int] = []
    cliques: list[int] = []
    total = 0
    for node, clique in _choices(problem, rule, rank, noise):
        order.append(node)
        cliques.append(clique)
        total += math.prod(problem.num_states[other] for other in bits(clique))
        if limit is not None and total >= limit:
            return None
    return _Try(order, cliques, total)


def _choices(
    problem: _Problem, rule: Heuristic, rank: Sequence[int], noise: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Eliminate the cheapest node again and again; yield it and its clique."""
    adjacency, late = list(problem.adjacency), problem.late
    weights = rule.weights(problem.num_states)
    cost = [rule.cost(node, adjacency, weights) * noise[node] for node in range(len(adjacency))]
    heap = [(late[node], cost[node], rank[node], node) for node in range(len(adjacency))]
    heapq.heapify(heap)
    remaining = (1 << len(adjacency)) - 1
    while heap:
        _, known, _, node = heapq.heappop(heap)
        if not remaining >> node & 1 or known != cost[node]:
            continue  # out of date: eliminated, or pushed again when its cost changed
        clique = adjacency[node] | 1 << node
        yield node, clique
        remaining ^= 1 << node
        if clique == remaining | 1 << node:
            break
        for other in bits(_eliminate(adjacency, node, rule.counts_fill)):
            new = rule.cost(other, adjacency, weights) * noise[other]
            if new != cost[other]:
                cost[other] = new
                heapq.heappush(heap, (late[other], new, rank[other], other))
    # The remaining nodes are joined to each other, so that all cost the same.
    for node in sorted(bits(remaining), key=lambda i: (late[i], rank[i])):
        yield node, remaining
        remaining ^= 1 << node


def _eliminate(adjacency: list[int], node: int, follow_fill: bool = False) -> int:
    """Join a node's neighbours and remove the node, in place; return the nodes whose costs change.

    Those are the neighbours and, with ``follow_fill``, all nodes that are neighbours of both ends
    of a new edge.
    """
    around = adjacency[node]
    noticed = around
    for other in bits(around):
        new = around & ~adjacency[other] & ~(1 << other)
        adjacency[other] = (adjacency[other] | new) & ~(1 << node)
        if follow_fill:
            for third in bits(new):
                noticed |= adjacency[other] & adjacency[third]
    adjacency[node] = 0
    return noticed & ~(1 << node)


def _result(
    nodes: list[Node], num_states: list[int], order: list[int], cliques: list[int]
) -> EliminationOrder:
    sizes = [math.prod(num_states[i] for i in bits(clique)) for clique in cliques]
    total = sum(sizes)
    return EliminationOrder(
        order=tuple(nodes[i] for i in order),
        cliques=tuple(frozenset(nodes[i] for i in bits(clique)) for clique in cliques),
        width=max((clique.bit_count() for clique in cliques), default=1) - 1,
        largest=math.log2(max(sizes, default=1)),
        total=float(total) if total < 1 << 1023 else math.inf,
    )


def _state_counts(nodes: list[Node], num_states: Mapping[Node, int] | None) -> list[int]:
    if num_states is None:
        return [2] * len(nodes)
    for node in nodes:
        if node not in num_states:
            raise ModelError(
                f"num_states lacks node {node!r}", "give every node its number of states"
            )
        if num_states[node] < 1:
            raise ModelError(f"node {node!r} has {num_states[node]} states", "give at least one")
    return [int(num_states[node]) for node in nodes]
