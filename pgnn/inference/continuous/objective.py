"""Objectives of variational inference: lower bounds of the log evidence, from weighted draws."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pgnn.errors import ModelError, SaysArguments
from pgnn.inference.learning.control_variates import ControlVariates, Signal
from pgnn.limits import FINITE, NOT_NEGATIVE, check_settings


@dataclass(frozen=True)
class Objective(metaclass=SaysArguments):
    r"""A function of the log weights :math:`\log w_s = \log p(z_s, e) - \log q(z_s)` of draws.

    Args:
        num_particles: Draws :math:`S` for each value.
    """

    num_particles: int = 1

    score_function = False
    """Whether score function gradients are taken even of draws that are reparameterised."""
    baseline_units = 0
    """Hidden units of a network that predicts learning signals; 0 for none."""
    normalise = False
    """Whether learning signals are divided by their standard deviation."""

    def __post_init__(self) -> None:
        check_settings(self, num_particles=1, alpha=FINITE)

    @property
    def path_only(self) -> bool:
        """Whether the derivative of log q by its own parameters is left out."""
        return False

    @property
    def is_mean(self) -> bool:
        """Whether it is the mean of the log weights."""
        return False

    def path_factors(self, log_weights: Tensor) -> Tensor | None:
        """Return ``(S, R)`` factors of the pathwise gradients; None for one."""
        return None

    def variates(self, seed: int, by_column: bool = False) -> ControlVariates:
        """Return the control variates of a fit, see :class:`ControlVariates`."""
        return ControlVariates(self.baseline_units, self.normalise, by_column, seed)

    @abstractmethod
    def combine(self, log_weights: Tensor) -> Tensor:
        """Return ``(R,)`` values of log weights ``(S, R)``."""


@dataclass(frozen=True)
class Elbo(Objective):
    r"""The evidence lower bound :math:`E_q[\log p(z, e) - \log q(z)] \le \log p(e)`.

    It falls short of the log evidence by the divergence :math:`KL(q \,\|\, p(z \mid e))`. Discrete
    latent variables are summed out of :math:`p(z, e)` exactly, so that gradients go through the
    draws alone.

    Args:
        num_particles: Draws for each value.
        path_only: Leave the derivative of :math:`\log q` by its parameters out. It is zero in
            expectation; without it the gradient has no variance where :math:`q` is the posterior.
        closed_form: Write the divergence :math:`KL(q(z \mid x) \,\|\, p(z))` out instead of drawing
            it, of models with a recognition, such as a ``VAE``, whose two distributions allow it.
        beta: What that divergence is multiplied by; above 1 latent numbers are pressed to be
            independent, below 1 the value is no bound.
        free_bits: Nats of each latent number, on average over the rows, that do not count.

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
            raise ModelError("free_bits are those of a divergence in closed form: set closed_form")

    @property
    def is_plain(self) -> bool:
        """Whether the divergence is drawn, and counts as it is."""
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

    It is the evidence lower bound at :math:`\alpha = 1` and the importance weighted one at 0. Its
    gradient by a parameter :math:`\phi` of the guide is, doubly reparameterised,

    .. math:: E\Big[\sum_s \big(\alpha \tilde w_s + (1 - \alpha) \tilde w_s^2\big)
        \frac{\partial \log w_s}{\partial z_s} \frac{\partial z_s}{\partial \phi}\Big], \qquad
        \tilde w_s = \frac{w_s^{1-\alpha}}{\sum_t w_t^{1-\alpha}}

    The plain gradient has the same expectation, but noise that outgrows it with more draws.

    Args:
        num_particles: Draws for each value.
        alpha: Alpha of the divergence; below 1 it prefers to cover the posterior, above 1 to stay
            inside.
        doubly_reparameterised: Take that gradient. Guides that are not reparameterised, and
            programs' own guides, have none.

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
    r"""The bound :math:`E[\log \frac1S \sum_s w_s]`, tighter the more draws there are.

    Args:
        num_particles: Draws for each value.
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
    r"""The evidence lower bound, raised without differentiating through the draws.

    .. math:: \nabla E_q[f] = E_q[(f - b) \nabla \log q + \nabla f]

    The baseline :math:`b` of each draw is the mean of the others; of a single one a running mean
    over the steps before. Guides that are not reparameterised take this gradient for any objective.
    Where a recognition network draws several layers, :math:`f` is for each layer the part that
    depends on it.

    Args:
        num_particles: Draws for each value.
        baseline_units: Hidden units of a network that predicts :math:`f` from what each layer of a
            recognition network reads; 0 for none.
        normalise: Whether :math:`f - b` is divided by its running standard deviation where that is
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
        objective: The objective that is maximised.
        log_weights: ``(S, R)``.
        signals: The draws, all at once or layer by layer; of an objective that is no mean of the
            log weights all at once.
        variates: Baselines of the fit; the mean of the other draws alone if not given.
    """
    value = objective.combine(log_weights)
    if not torch.is_grad_enabled():
        return value
    number = len(log_weights)
    learned = [number * _own_share(objective, s.log_weights.detach()) for s in signals]
    if variates is not None:
        learned = variates.centred(learned, [s.given for s in signals])
    for signal, s in zip(learned, signals, strict=True):
        value = value + (signal * (s.log_q - s.log_q.detach())).mean(0)
    return value


def _own_share(objective: Objective, log_weights: Tensor) -> Tensor:
    """``(S, R)`` values without those with each draw's log weight replaced by the others' mean."""
    number = len(log_weights)
    value = objective.combine(log_weights)
    if number == 1:
        return value.unsqueeze(0)
    others = (log_weights.sum(0) - log_weights) / (number - 1)
    eye = torch.eye(number, dtype=torch.bool).unsqueeze(-1)
    replaced = torch.where(eye, others.unsqueeze(1), log_weights.unsqueeze(0))  # (draw, S, R)
    return value - torch.stack([objective.combine(x) for x in replaced])
