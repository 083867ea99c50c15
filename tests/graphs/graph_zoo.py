"""Random and real graphs for the tests of this room."""

import gzip
import itertools
import re
from pathlib import Path

import networkx as nx
from hypothesis import strategies as st


@st.composite
def dags(draw, max_nodes=7):
    """Directed acyclic graphs with string names, not in topological order; empty ones too."""
    size = draw(st.integers(0, max_nodes))
    names = draw(st.permutations([f"n{i}" for i in range(size)]))
    pairs = list(itertools.combinations(range(size), 2))
    kept = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    graph = nx.DiGraph()
    graph.add_nodes_from(sorted(names))
    graph.add_edges_from(
        (names[i], names[j]) for (i, j), keep in zip(pairs, kept, strict=True) if keep
    )
    return graph


@st.composite
def graphs(draw, max_nodes=8, min_nodes=0):
    """Undirected graphs from sparse to complete, often disconnected, with isolated nodes."""
    size = draw(st.integers(min_nodes, max_nodes))
    density = draw(st.integers(0, 4))
    pairs = list(itertools.combinations(range(size), 2))
    levels = draw(st.lists(st.integers(0, 3), min_size=len(pairs), max_size=len(pairs)))
    graph = nx.Graph()
    graph.add_nodes_from(range(size))
    graph.add_edges_from(p for p, level in zip(pairs, levels, strict=True) if level < density)
    return graph


@st.composite
def three_sets(draw, graph, need_both=True):
    """Disjoint sets x, y, given of a graph's nodes; x and y not empty if there are two nodes."""
    roles = draw(st.lists(st.integers(0, 3), min_size=len(graph), max_size=len(graph)))
    if need_both and len(graph) > 1:
        first, second = draw(st.permutations(range(len(graph))))[:2]
        roles[first], roles[second] = 0, 1
    return tuple({n for n, r in zip(graph, roles, strict=True) if r == k} for k in range(3))


def state_counts(graph):
    """State counts 1 to 5, one variable in six with a single state."""
    return st.fixed_dictionaries({n: st.sampled_from([1, 2, 2, 3, 4, 5]) for n in graph})


def read_structure(path: Path):
    """Arrows and state counts of a BIF file, numbers left alone."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        text = file.read()
    graph, num_states = nx.DiGraph(), {}
    for name, count in re.findall(r"variable\s+(\S+)\s*\{\s*type\s+discrete\s*\[\s*(\d+)", text):
        graph.add_node(name)
        num_states[name] = int(count)
    for child, parents in re.findall(r"probability\s*\(\s*(\S+)\s*(?:\|([^)]*))?\)", text):
        graph.add_edges_from((p.strip(), child) for p in parents.split(",") if p.strip())
    return graph, num_states
