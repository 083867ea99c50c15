"""Which engine answers about a model over time."""

from __future__ import annotations

from typing import Any

from pgnn.inference.engine import Engine
from pgnn.inference.forward_backward import ForwardBackward
from pgnn.inference.sequence_engine import SequenceEngine
from pgnn.inference.unrolling import Unrolling


def sequence_engine(model: Any, engine: Engine | None) -> SequenceEngine:
    """Return an engine that knows about time.

    Args:
        model: A model over time.
        engine: The one that was named; one that knows nothing of time gets the unrolled network.
    """
    if engine is None:
        return ForwardBackward()
    return engine if isinstance(engine, SequenceEngine) else Unrolling(engine)
