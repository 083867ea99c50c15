"""Linear dynamical systems: linear Gaussian state-space models."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pgnn.abilities import GaussianChainModel
from pgnn.errors import ModelError
from pgnn.factors.conditionals.covariance import Covariance
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.piece import Settings
from pgnn.factors.time_steps import lagged
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number
from pgnn.models.repeated_slice import RepeatedSlice

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class LinearDynamicalSystem(RepeatedSlice, GaussianChainModel):
    r"""A linear Gaussian state-space model, with exact inference by the Kalman filter.

    .. math:: z_1 \sim N(\mu, P), \quad z_t \sim N(A z_{t-1} + b, Q), \quad
        y_t \sim N(C z_t + c, R)

    ``filter``, ``smooth``, ``predict``, ``log_prob`` and ``sample`` are exact and batched;
    observations may be partially or completely missing, and sequences may have any lengths.
    Parameters that are not given are learned by :meth:`fit` (:class:`EM`).

    Args:
        state_size: Dimension ``D`` of the state.
        observation_size: Dimension ``M`` of the observation.
        transition: ``(D, D)`` :math:`A`.
        transition_covariance: ``(D, D)`` :math:`Q`.
        observation: ``(M, D)`` :math:`C`.
        observation_covariance: ``(M, M)`` :math:`R`, or in the shape of the form.
        initial_mean: ``(D,)`` :math:`\mu`.
        initial_covariance: ``(D, D)`` :math:`P`.
        transition_offset: ``(D,)`` :math:`b`; zero if not given.
        observation_offset: ``(M,)`` :math:`c`.
        observation_form: Form of :math:`R`, such as ``Diagonal()``.
        names: Names of the state and of the observation.

    Raises:
        ModelError: If a size or a shape is wrong, or a covariance is singular.

    References:
        Shumway and Stoffer (1982), An approach to time series smoothing and forecasting using the
        EM algorithm; Ghahramani and Hinton (1996), Parameter estimation for linear dynamical
        systems; Barber (2012), Bayesian reasoning and machine learning, chapter 24.

    Example:
        >>> model = LinearDynamicalSystem(
        ...     1, 1, [[1.0]], [[1.0]], [[1.0]], [[1.0]], [0.0], [[1.0]], observation_offset=[0.0]
        ... )
        >>> observed = {"observation": torch.tensor([[1.0], [torch.nan], [2.0]])}
        >>> model.smooth(observed)["state"].mean[:, 0]
        tensor([0.7143, 1.1429, 1.5714], dtype=torch.float64)
    """

    def __init__(
        self,
        state_size: int,
        observation_size: int,
        transition: Any = None,
        transition_covariance: Any = None,
        observation: Any = None,
        observation_covariance: Any = None,
        initial_mean: Any = None,
        initial_covariance: Any = None,
        *,
        transition_offset: Any = None,
        observation_offset: Any = None,
        observation_form: Covariance | None = None,
        names: Sequence[Hashable] = ("state", "observation"),
    ) -> None:
        size = whole_number("state_size", state_size, 1, ModelError)
        width = whole_number("observation_size", observation_size, 1, ModelError)
        if len(names) != 2 or names[0] == names[1]:
            raise ModelError(f"names must be those of the state and the observation, got {names!r}")
        state, observed = Variable(names[0], shape=(size,)), Variable(names[1], shape=(width,))
        offset = np.zeros(size) if transition_offset is None else transition_offset
        move = LinearGaussian(state, [lagged(state)], transition, offset, transition_covariance)
        emit = LinearGaussian(
            observed,
            [state],
            observation,
            observation_offset,
            observation_covariance,
            observation_form,
        )
        start = Gaussian(state, [], initial_mean, initial_covariance)
        if transition is None:
            with torch.no_grad():
                move.weight.copy_(0.9 * torch.eye(size))
        super().__init__({state.name: move, observed.name: emit}, {state.name: start})
        self._names = state.name, observed.name

    def settings(self) -> Settings:
        """Return the sizes and the names."""
        state, observed = (self._conditionals[n].child for n in self._names)
        emit: Any = self._conditionals[observed.name]
        return {
            "state_size": state.num_elements,
            "observation_size": observed.num_elements,
            "observation_form": emit.form,
            "names": self._names,
        }

    @property
    def state(self) -> Variable:
        """The hidden states, an array over time."""
        return self._variables[self._names[0]]

    @property
    def observation(self) -> Hashable:
        """Name of the observation."""
        return self._names[1]

    @property
    def hidden(self) -> list[Hashable]:
        """The state."""
        return [self._names[0]]

    def default_learner(self, data: Any) -> Learner:
        """Return ``EM()``."""
        from pgnn.inference.learning.em import EM

        return EM()

    def __repr__(self) -> str:
        state, observed = (self._conditionals[n].child.num_elements for n in self._names)
        return f"LinearDynamicalSystem({state}, {observed})"
