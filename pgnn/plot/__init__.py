"""Pictures of answers and models; matplotlib is loaded when something is drawn."""

from pgnn.plot.clusters import clusters
from pgnn.plot.history import history
from pgnn.plot.loadings import loadings
from pgnn.plot.states import states
from pgnn.plot.transitions import transitions
from pgnn.plot.units import energy, filters, recall, samples

__all__ = [
    "clusters",
    "energy",
    "filters",
    "history",
    "loadings",
    "recall",
    "samples",
    "states",
    "transitions",
]
