"""Exact inference in linear Gaussian state-space models."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import GaussianChainModel
from pgnn.errors import AdvisedWarning
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.variable import Variable
from pgnn.inference.convergence import warn_caller
from pgnn.inference.time.compiled_chain import CompiledChain
from pgnn.inference.time.gaussian_chain import Filtered, GaussianChain, StepMoments, covariance_of
from pgnn.inference.time.joint_kalman_filter import JointKalmanFilter
from pgnn.inference.time.slice_chain import double, slice_values

_IMPRECISE = 1e13
"""Ratio of variances from which standard deviations have errors of about one per mille."""


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

    def filtered(self) -> Filtered:
        """Return the filtered states; warn if their covariances lose most digits.

        An update subtracts nearly equal covariances if the prediction is much less certain than the
        observation: the relative error of the variance is that ratio times the rounding error.
        """
        filtered = super().filtered()
        weight, noise = self.emit.weight.detach(), covariance_of(self.emit).detach().diagonal()
        spread = torch.einsum(
            "...ij,di,dj->...d", filtered.ahead.covariance.detach(), weight, weight
        )
        observed = self.patterns.bool() & (noise > 0)
        ratio = (
            float((spread / noise).masked_fill(~observed, 0.0).amax()) if spread.numel() else 0.0
        )
        if ratio > _IMPRECISE:
            warn_caller(
                AdvisedWarning(
                    f"predicted observations have variances up to {ratio:.0e} times that of the "
                    "noise, so that digits of the answer are lost",
                    "use a start with smaller variances, or more noise of the observations",
                )
            )
        return filtered


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
