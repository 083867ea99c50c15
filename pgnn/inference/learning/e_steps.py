"""Which expectations expectation maximisation takes of a model."""

from __future__ import annotations

from typing import Any

from pgnn.abilities import (
    ClassModel,
    ClosedFormModel,
    EmittingModel,
    GaussianChainModel,
    MixtureModel,
    NetworkModel,
    SlicedModel,
)
from pgnn.errors import Unsupported
from pgnn.inference.learning.chain_e_step import ChainEStep
from pgnn.inference.learning.class_e_step import ClassEStep
from pgnn.inference.learning.closed_form import ClosedFormEStep
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.kalman_e_step import KalmanEStep
from pgnn.inference.learning.mixture_e_step import MixtureEStep
from pgnn.inference.learning.slice_e_step import SliceEStep, UnrolledEStep
from pgnn.inference.learning.table_e_step import NetworkEStep
from pgnn.inference.time.engine_over_time import has_small_interface


def e_step_of(model: Any) -> EStep[Any]:
    """Return the expectations of a model.

    Raises:
        Unsupported: If it has none.
    """
    if isinstance(model, EmittingModel):
        return ChainEStep(model)
    if isinstance(model, GaussianChainModel):
        return KalmanEStep(model)
    if isinstance(model, SlicedModel):
        return SliceEStep(model) if has_small_interface(model) else UnrolledEStep(model)
    if isinstance(model, ClosedFormModel):
        return ClosedFormEStep(model)
    if isinstance(model, MixtureModel):
        return MixtureEStep(model, [e_step_of(c) for c in model.components])
    if isinstance(model, ClassModel):
        return ClassEStep(model)
    if isinstance(model, NetworkModel):
        return NetworkEStep(model)
    raise Unsupported(
        f"EM learns directed models; {type(model).__name__} has no conditionals to count for: "
        "name another learner, such as Gradient()"
    )
