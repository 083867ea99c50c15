"""Evidence read into arrays: values, frames, sequences, training rows."""

from pgnn.evidence.missingness import missing_indicators
from pgnn.evidence.states import states_of
from pgnn.evidence.wrappers import codes, likelihood, observed

__all__ = ["codes", "likelihood", "missing_indicators", "observed", "states_of"]
