"""The choice of an E-step for a model."""

from __future__ import annotations

from typing import Any

from pgnn.abilities import (
    ClassModel,
    ClosedFormModel,
    EmittingModel,
    FactorModel,
    GaussianChainModel,
    LatentFactorModel,
    MixtureModel,
    NetworkModel,
    SlicedModel,
    UnrollableModel,
)
from pgnn.errors import Unsupported
from pgnn.inference.engine import Engine
from pgnn.inference.learning.chain_e_step import ChainEStep
from pgnn.inference.learning.class_e_step import ClassEStep
from pgnn.inference.learning.closed_form import ClosedFormEStep
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.factor_e_step import FactorEStep
from pgnn.inference.learning.field_e_step import FieldEStep
from pgnn.inference.learning.kalman_e_step import KalmanEStep
from pgnn.inference.learning.likelihood_objective import only_draws
from pgnn.inference.learning.mixture_e_step import MixtureEStep
from pgnn.inference.learning.sampled_e_step import SampledEStep
from pgnn.inference.learning.slice_e_step import SliceEStep, UnrolledEStep
from pgnn.inference.learning.table_e_step import NetworkEStep
from pgnn.inference.time.engine_over_time import has_small_interface


def e_step_of(
    model: Any, engine: Engine | None = None, observed: Any = None, num_samples: int = 1000
) -> EStep[Any]:
    """Return the E-step of a model.

    Args:
        model: The model.
        engine: Engine that sums out or samples unobserved variables; exact if not given.
        observed: Rows, which decide whether the engine can only sample.
        num_samples: Number of samples per step of a sampling engine.

    Raises:
        Unsupported: If there is none.
    """
    if isinstance(model, GaussianChainModel | ClosedFormModel) and engine is not None:
        raise Unsupported(f"EM of {type(model).__name__} is exact", "leave out engine=")
    if isinstance(model, SlicedModel) and engine is not None:
        return UnrolledEStep(model, engine)
    if isinstance(model, EmittingModel):
        return ChainEStep(model)
    if isinstance(model, GaussianChainModel):
        return KalmanEStep(model)
    if isinstance(model, SlicedModel):
        return SliceEStep(model) if has_small_interface(model) else UnrolledEStep(model)
    if isinstance(model, ClosedFormModel):
        return ClosedFormEStep(model)
    if isinstance(model, MixtureModel):
        return MixtureEStep(model, [e_step_of(c, engine) for c in model.components])
    if isinstance(model, ClassModel) and engine is None:
        return ClassEStep(model)
    if isinstance(model, LatentFactorModel) and engine is None:
        return FactorEStep(model)
    if isinstance(model, NetworkModel):
        if engine is not None and observed is not None and only_draws(engine, model, observed):
            return SampledEStep(model, engine, num_samples)
        return NetworkEStep(model, engine)
    over_time = isinstance(model, UnrollableModel)
    if isinstance(model, FactorModel) and not over_time and not model.is_normalized:
        return FieldEStep(model, engine)
    raise Unsupported(
        f"EM learns networks, fields and models over time; {type(model).__name__} has no E-step",
        "use another learner, such as Gradient()",
    )
