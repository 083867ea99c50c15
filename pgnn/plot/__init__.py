"""Pictures of answers and models; matplotlib is loaded when something is drawn."""

from pgnn.plot.clusters import clusters
from pgnn.plot.history import history
from pgnn.plot.loadings import loadings
from pgnn.plot.states import states
from pgnn.plot.transitions import transitions

__all__ = ["clusters", "loadings", "history", "states", "transitions"]
