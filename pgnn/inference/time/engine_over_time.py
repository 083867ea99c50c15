"""Which engine answers about a model over time."""

from __future__ import annotations

import math

from pgnn.abilities import ChainModel, SlicedModel, UnrollableModel
from pgnn.inference.engine import Engine
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.time.forward_backward import ForwardBackward
from pgnn.inference.time.interface_algorithm import InterfaceAlgorithm
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.unrolling import Unrolling

MAX_STATES = 1024
"""Most joint states of an interface that are made one chain."""


def engine_over_time(model: UnrollableModel, engine: Engine | None) -> SequenceEngine:
    """Return an engine that knows about time.

    Args:
        model: A model over time.
        engine: The one that was named; one that knows nothing of time gets the unrolled network.
            None is exact: by the chain of states, or of joint states of the interface, or, where
            these are too many, by a junction tree of the unrolled network.
    """
    if engine is not None:
        return engine if isinstance(engine, SequenceEngine) else Unrolling(engine)
    if isinstance(model, ChainModel):
        return ForwardBackward()
    if isinstance(model, SlicedModel) and has_small_interface(model):
        return InterfaceAlgorithm()
    return Unrolling(JunctionTree())


def has_small_interface(model: SlicedModel) -> bool:
    """Whether the joint states of the interface are few enough to be made one chain."""
    states = math.prod(model.conditionals[n].child.num_states for n in model.interface)
    return states <= MAX_STATES
