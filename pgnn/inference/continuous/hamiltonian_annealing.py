"""Annealed importance sampling of latent reals with Hamiltonian transitions."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import DirectedModel
from pgnn.errors import Unsupported
from pgnn.factors.randomness import drawing_from
from pgnn.inference.continuous.coordinates import Coordinates
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.model_and_guide import make_generator
from pgnn.inference.continuous.recognition_draws import repeated
from pgnn.inference.continuous.supports import parents_first, supports_of
from pgnn.inference.convergence import Convergence
from pgnn.inference.engine import Engine
from pgnn.inference.known_values import known_values
from pgnn.inference.loop import Info, iterate
from pgnn.inference.question import Question
from pgnn.limits import POSITIVE, check_settings, check_size

_PILOTS = 4
_WANTED = 0.65
"""Target acceptance rate of the step sizes."""
_ENOUGH = 5.0


@dataclass(frozen=True)
class HamiltonianAnnealing(Engine):
    r"""Log evidence of rows with latent reals by annealed importance sampling.

    Chains start from the prior of the latent variables and move along
    :math:`p_t(z) \propto p(z)\, p(x \mid z)^{\beta_t}`, with one Hamiltonian trajectory at each
    inverse temperature. The weights
    :math:`\log w = \sum_t (\beta_t - \beta_{t-1}) \log p(x \mid z_{t-1})` have
    :math:`E[w] = p(x)`, so that the answer, :math:`\log \bar w`, is a lower bound in expectation.
    It is far tighter than a bound from draws of a recognition network that differs from the
    posterior. Inverse temperatures follow a logistic curve, with smaller steps at both ends. Step
    sizes are adapted by a few extra chains, which are discarded.

    Args:
        chains: Number of chains for each row.
        temperatures: Number of steps from the prior to the posterior.
        leapfrog: Number of leapfrog steps of a trajectory.
        step: Initial step size, in units of the unconstrained coordinates.
        seed: The same seed gives the same answer.
        progress: Whether to show a progress bar after one second.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        ``(chains + 4) * temperatures * leapfrog`` gradients of the joint density for each row.

    References:
        Neal (2001), Annealed importance sampling. Sohl-Dickstein and Culpepper (2012), Hamiltonian
        annealed importance sampling. Wu, Burda, Salakhutdinov and Grosse (2017), On the
        quantitative analysis of decoder-based generative models.

    Example:
        >>> import pgnn
        >>> mean, value = pgnn.Variable("mean"), pgnn.Variable("value")
        >>> model = pgnn.BayesianNetwork([("mean", "value")], {
        ...     "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
        ...     "value": pgnn.LinearGaussian(value, [mean], [1.0], 0.0, covariance=1.0),
        ... })
        >>> log_evidence = model.log_prob({"value": 2.0}, engine=HamiltonianAnnealing(seed=0))
        >>> abs(float(log_evidence) + 2.2655) < 0.1
        True
    """

    chains: int = 16
    temperatures: int = 200
    leapfrog: int = 5
    step: float = 0.1
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, chains=1, temperatures=2, leapfrog=1, step=POSITIVE)

    def answer_log_prob(self, question: Question) -> Tensor:
        """Return estimates of the log evidence, ``(B,)``; see :class:`Engine`.

        Raises:
            Unsupported: If no real variable is latent, or the model has no conditionals.
        """
        generator = make_generator(self.seed)
        betas = _inverse_temperatures(self.temperatures)
        pilot = _Path(question, min(_PILOTS, self.chains), self.leapfrog, betas, generator)
        lengths = torch.full((len(betas), pilot.rows), self.step, dtype=torch.float64)
        self._walk(pilot, lengths, True)
        path = _Path(question, self.chains, self.leapfrog, betas, generator)
        self._walk(path, lengths, False)
        weights = path.log_weights.reshape(self.chains, -1)
        sizes = (2 * weights.logsumexp(0) - (2 * weights).logsumexp(0)).exp()
        Convergence(type(self).__name__).few_draws(
            sizes.nan_to_num(), self.chains, "take more temperatures", min(_ENOUGH, self.chains / 2)
        ).warn()
        return weights.logsumexp(0) - math.log(self.chains)

    def _walk(self, path: _Path, lengths: Tensor, adapts: bool) -> None:
        method = _Walk(path, lengths, adapts)
        iterate(method, len(path.betas) - 1, progress=self.progress, label="temperatures")


def _inverse_temperatures(count: int) -> Tensor:
    """Return ``(count + 1,)`` numbers from 0 to 1 on a logistic curve."""
    curve = torch.linspace(-4.0, 4.0, count + 1, dtype=torch.float64).sigmoid()
    return (curve - curve[0]) / (curve[-1] - curve[0])


class _Path:
    """Chains ``(C R, D)`` in unconstrained coordinates, annealed for ``R`` rows of evidence."""

    def __init__(
        self, question: Question, chains: int, leapfrog: int, betas: Tensor,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        self.leapfrog, self.betas, self.generator = leapfrog, betas, generator
        self.density = SummedDensity(question.model, question.observed, question.inputs)
        model: Any = question.model
        names = self.density.latents
        if not isinstance(model, DirectedModel) or not names:
            raise Unsupported(
                "HamiltonianAnnealing() requires a directed model with a latent real variable",
                "use AnnealedImportanceSampling() for discrete variables",
            )
        self.rows = question.observed.num_rows
        known = known_values(model, question.observed)
        order = [v for v in parents_first(model) if v.name in names]
        supports = supports_of(model, order, known, self.density.inputs)
        self.coordinates = Coordinates(order, supports, keep_dtype=True)
        check_size(f"{chains:,} chains for {self.rows:,} rows",
                   chains * self.rows * self.coordinates.size,
                   advice="Use fewer chains or rows")  # fmt: skip
        self.priors = [model.conditionals[v.name] for v in order]
        self.known = {n: repeated(x, chains) for n, x in known.items()}
        self.inputs = {
            n: repeated(torch.as_tensor(x), chains) for n, x in self.density.inputs.items()
        }
        with torch.no_grad(), drawing_from(generator):
            values: dict[Hashable, Tensor] = {}
            for conditional in self.priors:
                parents = {v.name: (values | self.known)[v.name] for v in conditional.parents}
                drawn = conditional.draw(parents, self.inputs or None, rows=chains * self.rows)
                values[conditional.child.name] = drawn
            self.place = self.coordinates.unconstrain(values).double()
        self.log_weights = torch.zeros(len(self.place), dtype=torch.float64)

    def parts(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(N,)`` log priors in unconstrained coordinates, and ``(N,)`` log-likelihoods."""
        values, log_det = self.coordinates.constrain(place)
        prior: Tensor = log_det
        for conditional in self.priors:
            parents = {v.name: (self.known | values)[v.name] for v in conditional.parents}
            distribution = conditional.distribution(parents, self.inputs or None)
            prior = prior + distribution.log_prob(values[conditional.child.name])
        joint = self.density.log_density(values).double()
        return prior, joint - (prior - log_det)

    def gradient(self, place: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return annealed log densities, log-likelihoods and the gradient."""
        with torch.enable_grad():
            point = place.detach().requires_grad_()
            prior, likelihood = self.parts(point)
            total = prior + beta * likelihood
            (gradient,) = torch.autograd.grad(total.sum(), point)
        return total.detach(), likelihood.detach(), gradient

    def move(self, beta: float, lengths: Tensor) -> Tensor:
        """Move each chain along a trajectory with ``(N,)`` step sizes; return the accepted ones."""
        noise = torch.randn(self.place.shape, generator=self.generator, dtype=torch.float64)
        step = lengths.unsqueeze(1)
        start, _, gradient = self.gradient(self.place, beta)
        place, speed, end = self.place, noise, start
        for _ in range(self.leapfrog):
            speed = speed + 0.5 * step * gradient
            place = place + step * speed
            end, _, gradient = self.gradient(place, beta)
            speed = speed + 0.5 * step * gradient
        gain = end - start + 0.5 * (noise.square() - speed.square()).sum(1)
        threshold = torch.rand(len(gain), generator=self.generator, dtype=torch.float64).log()
        accepted = threshold < gain.nan_to_num(nan=-math.inf)
        self.place = torch.where(accepted.unsqueeze(1), place, self.place)
        return accepted


@dataclass(frozen=True, eq=False)
class _Walk:
    """An iterative method with one inverse temperature per step."""

    path: _Path
    lengths: Tensor
    adapts: bool

    def init(self) -> int:
        """Return the number of completed inverse temperatures."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Update the weights for the next inverse temperature, and move the chains."""
        path, betas = self.path, self.path.betas
        with torch.no_grad():
            _, likelihood = path.parts(path.place)
        path.log_weights += (betas[state + 1] - betas[state]) * likelihood
        lengths = self.lengths[state + 1]
        chains = len(path.place) // path.rows
        accepted = path.move(float(betas[state + 1]), lengths.repeat(chains))
        if self.adapts:
            share = accepted.double().reshape(chains, -1).mean(0)
            self.lengths[state + 1 :] = lengths * (0.5 * (share - _WANTED)).exp()
        return state + 1, Info(values={"inverse temperature": float(betas[state + 1])})
