"""Exact inference in linear Gaussian state-space models."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pgnn.abilities import GaussianChainModel
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.variable import Variable
from pgnn.inference.time.compiled_chain import CompiledChain
from pgnn.inference.time.gaussian_chain import GaussianChain, StepMoments
from pgnn.inference.time.joint_kalman_filter import JointKalmanFilter
from pgnn.inference.time.slice_chain import double, slice_values


@dataclass(frozen=True)
class KalmanFilter(JointKalmanFilter):
    """Exact inference in linear Gaussian chains: Kalman filter, smoother and backward draws.

    Observations may be missing or partial anywhere; rows may have any lengths; states may be
    observed too. Posteriors are normal distributions of every step, exact up to rounding; the most
    probable path consists of the means. The log evidence is differentiable.

    Cost:
        Cubic in the dimensions of a state and of an observation, for each step and each pattern of
        observations; quadratic for each row.

    References:
        Kalman (1960); Rauch, Tung and Striebel (1965); Särkkä (2013), Bayesian filtering and
        smoothing, chapters 4 and 8.

    Example:
        >>> import torch
        >>> from pgnn import LinearDynamicalSystem
        >>> walk = LinearDynamicalSystem(
        ...     1, 1, [[1.0]], [[1.0]], [[1.0]], [[1.0]], [0.0], [[1.0]], observation_offset=[0.0]
        ... )
        >>> observed = {"observation": torch.tensor([[1.0], [2.0]])}
        >>> found = walk.filter(observed, engine=KalmanFilter())
        >>> found["state"].mean[:, 0]
        tensor([0.5000, 1.4000], dtype=torch.float64)
    """

    answers_about = GaussianChainModel
    subject = "linear dynamical systems"

    def chain(self, model: Any, observed: SequenceEvidence) -> GaussianChain:
        """Return the chain of states; of whole slices if states were observed."""
        state = observed.reals.get(model.hidden[0])
        if state is not None and not bool(state.isnan().all()):
            return super().chain(model, observed)
        return chain_of(model, observed)

    def part(
        self, model: Any, name: Hashable, chain: GaussianChain, states: StepMoments
    ) -> StepMoments:
        """Return moments of states or observations."""
        if not isinstance(chain, StateChain):
            return super().part(model, name, chain, states)
        return states if name == model.hidden[0] else chain.observations(states)[0]

    def draws(self, model: Any, chain: GaussianChain, n: int) -> Mapping[Hashable, Tensor]:
        """Return draws of states and observations."""
        if not isinstance(chain, StateChain):
            return super().draws(model, chain, n)
        drawn = chain.draw(chain.filtered(), n)
        return {v.name: x for v, x in zip(slice_of(model), drawn, strict=True)}

    def reason(self) -> str:
        """See :class:`~pgnn.inference.engine.Engine`."""
        return "states form a linear Gaussian chain: forward and backward over the steps"


class StateChain(CompiledChain):
    """A chain of unobserved states with their observations."""


def slice_of(model: GaussianChainModel) -> tuple[Variable, Variable]:
    """Return the state and the observation of one step."""
    state = model.hidden[0]
    observation = next(n for n in model.conditionals if n != state)
    return model.conditionals[state].child, model.conditionals[observation].child


def chain_of(model: GaussianChainModel, observed: SequenceEvidence) -> StateChain:
    """Return a model's chain of states given its observations."""
    state, observation = slice_of(model)
    conditionals = model.conditionals
    parts = model.first(state.name), conditionals[state.name], conditionals[observation.name]
    start, move, emit = (double(c.regression()) for c in parts)
    place = {observation.name: slice(0, observation.num_elements)}
    return StateChain(start, move, emit, slice_values(place, observed))
