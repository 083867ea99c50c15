"""Objectives of variational inference: bounds on the log evidence from weighted draws."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pgnn.errors import ChecksArguments, ModelError
from pgnn.inference.learning.control_variates import ControlVariates, Signal
from pgnn.limits import FINITE, NOT_NEGATIVE, check_settings


@dataclass(frozen=True)
class Objective(metaclass=ChecksArguments):
    r"""A function of the log weights :math:`\log w_s = \log p(z_s, e) - \log q(z_s)` of draws.

    Args:
        num_particles: Number :math:`S` of draws for each value.
    """

    num_particles: int = 1

    score_function = False
    """Whether to use score function gradients even for reparameterised draws."""
    baseline_units = 0
    """Hidden units of a network that predicts learning signals; 0 for none."""
    normalise = False
    """Whether to divide learning signals by their standard deviation."""

    def __post_init__(self) -> None:
        check_settings(self, num_particles=1, alpha=FINITE)

    @property
    def path_only(self) -> bool:
        """Whether the derivative of log q with respect to its parameters is omitted."""
        return False

    @property
    def is_mean(self) -> bool:
        """Whether the objective is the mean of the log weights."""
        return False

    def path_factors(self, log_weights: Tensor) -> Tensor | None:
        """Return ``(S, R)`` factors of the pathwise gradients; None for ones."""
        return None

    def variates(self, seed: int, by_column: bool = False) -> ControlVariates:
        """Return the control variates of a fit, see :class:`ControlVariates`."""
        return ControlVariates(self.baseline_units, self.normalise, by_column, seed)

    @abstractmethod
    def combine(self, log_weights: Tensor) -> Tensor:
        """Return ``(R,)`` values of the objective, given log weights ``(S, R)``."""


@dataclass(frozen=True)
class Elbo(Objective):
    r"""The evidence lower bound :math:`E_q[\log p(z, e) - \log q(z)] \le \log p(e)`.

    Its gap to the log evidence is the divergence :math:`KL(q \,\|\, p(z \mid e))`. Discrete latent
    variables are summed out of :math:`p(z, e)` exactly, so that all draws are reparameterised.

    Args:
        num_particles: Number of draws for each value.
        path_only: Omit the derivative of :math:`\log q` with respect to its parameters. It is zero
            in expectation; without it, the gradient has no variance if :math:`q` is the posterior.
        closed_form: Use the closed form of the divergence :math:`KL(q(z \mid x) \,\|\, p(z))`, for
            models with a recognition network, such as a ``VAE``.
        beta: Factor of that divergence; above 1, it encourages independent latent dimensions;
            below 1, the value is not a bound.
        free_bits: Nats of each latent dimension, averaged over the rows, that are not penalised.

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes. Roeder, Wu and Duvenaud (2017),
        Sticking the landing. Higgins et al. (2017), beta-VAE. Kingma et al. (2016), Improved
        variational inference with inverse autoregressive flow (free bits).

    Example:
        >>> Elbo(num_particles=2).combine(torch.tensor([[-1.0], [-3.0]]))
        tensor([-2.])
    """

    path_only: bool = False
    closed_form: bool = False
    beta: float = 1.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, beta=NOT_NEGATIVE, free_bits=NOT_NEGATIVE)
        if self.free_bits and not self.closed_form:
            raise ModelError(
                f"free_bits={self.free_bits:g} requires closed_form=True, got closed_form=False"
            )

    @property
    def is_plain(self) -> bool:
        """Whether the divergence is estimated by draws and unweighted."""
        return self.beta == 1.0 and not self.closed_form

    @property
    def is_mean(self) -> bool:
        """See :class:`Objective`."""
        return True

    def combine(self, log_weights: Tensor) -> Tensor:
        """See :class:`Objective`."""
        return log_weights.mean(0)


@dataclass(frozen=True)
class Renyi(Objective):
    r"""The bound :math:`\frac{1}{1-\alpha} E[\log \frac1S \sum_s w_s^{1-\alpha}]`.

    It is the evidence lower bound at :math:`\alpha = 1` and the importance weighted bound at 0. The
    doubly reparameterised gradient with respect to a parameter :math:`\phi` of the guide is

    .. math:: E\Big[\sum_s \big(\alpha \tilde w_s + (1 - \alpha) \tilde w_s^2\big)
        \frac{\partial \log w_s}{\partial z_s} \frac{\partial z_s}{\partial \phi}\Big], \qquad
        \tilde w_s = \frac{w_s^{1-\alpha}}{\sum_t w_t^{1-\alpha}}

    The plain gradient has the same expectation, but its signal-to-noise ratio falls with more
    draws.

    Args:
        num_particles: Number of draws for each value.
        alpha: Order of the divergence; below 1, the guide tends to cover the posterior; above 1,
            to concentrate inside it.
        doubly_reparameterised: Use that gradient. It is not available for guides that are not
            reparameterised, and for guides of programs.

    References:
        Li and Turner (2016), Renyi divergence variational inference. Tucker, Lawson, Gu and
        Maddison (2019), Doubly reparameterized gradient estimators for Monte Carlo objectives.

    Example:
        >>> Renyi(num_particles=2, alpha=1.0).combine(torch.tensor([[-1.0], [-3.0]]))
        tensor([-2.])
    """

    num_particles: int = 10
    alpha: float = 0.5
    doubly_reparameterised: bool = False

    @property
    def path_only(self) -> bool:
        """See :class:`Objective`."""
        return self.doubly_reparameterised

    @property
    def is_mean(self) -> bool:
        """See :class:`Objective`."""
        return self.alpha == 1.0

    def path_factors(self, log_weights: Tensor) -> Tensor | None:
        """See :class:`Objective`."""
        if not self.doubly_reparameterised:
            return None
        share = ((1.0 - self.alpha) * log_weights.detach()).softmax(0)
        return self.alpha + (1.0 - self.alpha) * share

    def combine(self, log_weights: Tensor) -> Tensor:
        """See :class:`Objective`."""
        if self.alpha == 1.0:
            return log_weights.mean(0)
        power = 1.0 - self.alpha
        return ((power * log_weights).logsumexp(0) - math.log(len(log_weights))) / power


@dataclass(frozen=True)
class ImportanceWeighted(Renyi):
    r"""The bound :math:`E[\log \frac1S \sum_s w_s]`, which is tighter for more draws.

    Args:
        num_particles: Number of draws for each value.
        doubly_reparameterised: See :class:`Renyi`.

    References:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders.

    Example:
        >>> ImportanceWeighted(num_particles=2).combine(torch.tensor([[0.0], [0.0]]))
        tensor([0.])
    """

    alpha: float = field(default=0.0, init=False)


@dataclass(frozen=True)
class ScoreFunction(Objective):
    r"""The evidence lower bound, maximised by score function gradients.

    .. math:: \nabla E_q[f] = E_q[(f - b) \nabla \log q + \nabla f]

    The baseline :math:`b` of each draw is the mean of the others; of a single draw, a running mean
    over previous steps. Guides that are not reparameterised use this gradient for any objective. If
    a recognition network draws several layers, :math:`f` of each layer contains only the terms that
    depend on it.

    Args:
        num_particles: Number of draws for each value.
        baseline_units: Hidden units of a network that predicts :math:`f` from the inputs of each
            layer of a recognition network; 0 for no network.
        normalise: Whether to divide :math:`f - b` by its running standard deviation if that is
            above 1.

    References:
        Williams (1992), Simple statistical gradient-following algorithms; Ranganath, Gerrish and
        Blei (2014), Black box variational inference; Mnih and Gregor (2014), Neural variational
        inference and learning in belief networks; Mnih and Rezende (2016), Variational inference
        for Monte Carlo objectives.

    Example:
        >>> ScoreFunction(num_particles=2).combine(torch.tensor([[-1.0], [-3.0]]))
        tensor([-2.])
    """

    num_particles: int = 10
    baseline_units: int = 0
    normalise: bool = False
    score_function = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, baseline_units=0)

    @property
    def is_mean(self) -> bool:
        """See :class:`Objective`."""
        return True

    def combine(self, log_weights: Tensor) -> Tensor:
        """See :class:`Objective`."""
        return log_weights.mean(0)


def surrogate(
    objective: Objective,
    log_weights: Tensor,
    signals: Sequence[Signal],
    variates: ControlVariates | None = None,
) -> Tensor:
    """Return ``(R,)`` values whose gradients are unbiased for draws without pathwise gradients.

    Args:
        objective: The objective to maximise.
        log_weights: ``(S, R)`` log weights of the draws.
        signals: Learning signals of all draws or of each layer; objectives other than means of the
            log weights require one signal.
        variates: Baselines of the fit; by default, the mean of the other draws.
    """
    value = objective.combine(log_weights)
    if not torch.is_grad_enabled():
        return value
    number = len(log_weights)
    learned = [number * _contributions(objective, s.log_weights.detach()) for s in signals]
    if variates is not None:
        learned = variates.centred(learned, [s.given for s in signals])
    for signal, s in zip(learned, signals, strict=True):
        value = value + (signal * (s.log_q - s.log_q.detach())).mean(0)
    return value


def _contributions(objective: Objective, log_weights: Tensor) -> Tensor:
    """Return ``(S, R)`` values minus those with a log weight replaced by the mean of the others."""
    number = len(log_weights)
    value = objective.combine(log_weights)
    if number == 1:
        return value.unsqueeze(0)
    others = (log_weights.sum(0) - log_weights) / (number - 1)
    eye = torch.eye(number, dtype=torch.bool).unsqueeze(-1)
    replaced = torch.where(eye, others.unsqueeze(1), log_weights.unsqueeze(0))  # (draw, S, R)
    return value - torch.stack([objective.combine(x) for x in replaced])
