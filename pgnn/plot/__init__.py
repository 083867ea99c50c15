"""Pictures of answers and models; matplotlib is loaded when something is drawn."""

from pgnn.plot.history import history
from pgnn.plot.states import states
from pgnn.plot.transitions import transitions

__all__ = ["history", "states", "transitions"]
