"""Evidence read into arrays: values, frames, sequences, training rows."""

from pgnn.evidence.states import states_of
from pgnn.evidence.wrappers import codes, likelihood, observed

__all__ = ["codes", "likelihood", "observed", "states_of"]
