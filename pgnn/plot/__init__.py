"""Plots of query results and models; matplotlib is imported at the first plot."""

from pgnn.plot.clusters import clusters
from pgnn.plot.history import history
from pgnn.plot.junction_tree import junction_tree
from pgnn.plot.loadings import loadings
from pgnn.plot.manifold import manifold
from pgnn.plot.marginals import marginals
from pgnn.plot.network import network
from pgnn.plot.sensitivity import explanation, ranking, sensitivity
from pgnn.plot.states import states
from pgnn.plot.structure import structure
from pgnn.plot.table import table
from pgnn.plot.transitions import transitions
from pgnn.plot.units import energy, filters, recall, samples

__all__ = [
    "clusters",
    "energy",
    "explanation",
    "filters",
    "history",
    "junction_tree",
    "loadings",
    "marginals",
    "manifold",
    "network",
    "ranking",
    "recall",
    "samples",
    "sensitivity",
    "states",
    "structure",
    "table",
    "transitions",
]
