"""Normal distributions of a real variable given discrete ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from pgnn.errors import AdvisedWarning, ModelError
from pgnn.factors.conditionals.conjugate import Beliefs, Conjugate
from pgnn.factors.conditionals.covariance import LOG_2PI, Covariance
from pgnn.factors.conditionals.emission import Emission, read_parameter
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.factors.conditionals.full_covariance import Full
from pgnn.factors.conditionals.normal_beliefs import NormalBeliefs
from pgnn.factors.conditionals.normal_wishart import (
    NormalMoments,
    NormalWishart,
    check_prior,
    floor_doubt,
    normal_log_prior,
    update_scale,
)
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.finite import all_finite
from pgnn.factors.piece import Settings, learnable_zeros
from pgnn.factors.variable import Variable


class Gaussian(Emission, Conjugate):
    r"""A normal distribution for each configuration of discrete parents.

    .. math:: p(x \mid j) = N(x; \mu_j, \Sigma_j)

    Numbers of a vector that are ``NaN`` were not observed: the density is that of the others, and
    statistics hold their expectations given the others, under the present parameters.

    Args:
        child: Real variable of shape ``()`` or ``(D,)``.
        parents: Discrete variables.
        mean: ``(K1, ..., Kn)`` or ``(K1, ..., Kn, D)``; learnable zeros if not given.
        covariance: ``(K1, ..., Kn)`` variances of a number; of a vector as the form says, with
            the parents' axes first unless it is tied: ``(D, D)`` matrices, ``(D,)`` or ``()``
            variances. Learnable, and one in every direction, if not given. What is given is a
            constant, kept in float64.
        form: ``Full()``, ``Tied()``, ``Diagonal()`` or ``Spherical()``, with the least variance
            that an estimate may have.

    Attributes:
        mean: The means, a parameter.
        scale: The covariances as unconstrained numbers, a parameter: logs of standard deviations,
            or Cholesky factors with the logs of their diagonals.
        centre: ``(D,)`` origin of the statistics. It keeps digits of data far from zero; set by
            ``initialize``, it must not change between statistics that are added.

    Raises:
        ModelError: If a variable is of another kind, a shape is wrong or a covariance is singular.

    References:
        Bilmes (1998), A gentle tutorial of the EM algorithm, section 3; Ghahramani and Jordan
        (1994), Supervised learning from incomplete data via an EM approach, section 2, for
        incomplete vectors.

    Example:
        >>> sex, height = Variable("sex", ["female", "male"]), Variable("height")
        >>> p_height = Gaussian(height, [sex], mean=[164.0, 178.0], covariance=[36.0, 49.0])
        >>> p_height.factor({"height": torch.tensor([178.0])}).log_values.exp()
        tensor([[0.0044, 0.0570]], dtype=torch.float64)
    """

    centre: Tensor
    is_linear_gaussian = True
    offset: Tensor | None = None
    """``(K,)`` logs of what densities are multiplied by, where they are geometric means."""

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        mean: Any = None,
        covariance: Any = None,
        form: Covariance | None = None,
    ) -> None:
        super().__init__(child, parents)
        self.form = Full() if form is None else form
        if len(child.shape) > 1:
            raise ModelError(
                f"Gaussian needs a child of shape () or (D,), {child.name!r} has {child.shape}"
            )
        K = self.configurations
        shape = (*K, *child.shape)
        if mean is None:
            self.mean = learnable_zeros(f"the mean of {child.name!r}", shape)
        else:
            self.mean = nn.Parameter(
                read_parameter("mean", child, mean, shape), requires_grad=False
            )
        self.scale = read_scale(child, covariance, self.form, self.form.lead(K))
        self.register_buffer("centre", self.mean.detach().reshape(-1, self.size).mean(dim=0))

    def settings(self) -> Settings:
        """Return the variables, and the form of the covariances."""
        return super().settings() | {"form": self.form}

    @property
    def covariance(self) -> Tensor:
        """Matrices ``(K1, ..., Kn, D, D)``, or variances ``(K1, ..., Kn)``; differentiable."""
        factor = self.form.cholesky(self._scale(self.scale), self.size)
        matrices = (factor @ factor.mT).expand(self.num_configurations, -1, -1)
        return matrices.reshape((*self.configurations, *2 * self.child.shape))

    @property
    def num_free_parameters(self) -> int:
        """Means, and free numbers of the covariances."""
        return self.mean.numel() + self.scale.numel()

    def set_parameters(self, mean: Any, covariance: Any) -> None:
        """Replace the numbers in place, learnable or not; arguments as of the constructor.

        Raises:
            ModelError: As the constructor; the old numbers stay.
        """
        new = read_parameter("mean", self.child, mean, self.mean.shape)
        lead = self.form.lead(self.configurations)
        scale = read_scale(self.child, covariance, self.form, lead)
        with torch.no_grad():
            self.mean.copy_(new)
            self.scale.copy_(scale)

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the normal distributions at the parents' states."""
        index = self._index(parents)
        mean = self.mean[index] if index else self.mean
        scale = self.scale if self.form.tied or not index else self.scale[index]
        if not self.child.shape:
            return Normal(mean, self.form.cholesky(scale, 1)[..., 0, 0])
        if self.form.tied:
            scale = scale.expand(*mean.shape[:-1], *scale.shape)
        return self.form.distribution(mean, scale)

    def regression(self) -> Regression:
        """Return means and factors of covariances; see the base class."""
        bias = self.mean.reshape(*self.configurations, self.size)
        return Regression(
            bias.new_zeros(*bias.shape, 0), bias, factors(self, self.form, self.scale)
        )

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return counts, sums and sums of products about :attr:`centre`; see the base class.

        Cost:
            ``O(N K D^2)`` for full covariances, ``O(N K D)`` for others; with holes in vectors of
            full covariances also ``O(K D^3)`` for each pattern of holes.
        """
        x = self._read(values)[self.child.name].reshape(-1, self.size)
        w = self._weights(weights, len(x), self.configurations)
        x, w = observed_rows(x, w)
        mean = self.mean.detach().double().reshape(-1, self.size) - self.centre
        raw = self._scale(self.scale.detach().double())
        count = w.sum(dim=0)
        if not all_finite(x):
            return count, *self.form.moments(x - self.centre, w, mean, raw)
        # rows without a hole by blocks that stay in the cache
        step = max(64, 2**17 // self.size)
        parts = zip(torch.split(x, step), torch.split(w, step), strict=True)
        sums = [self.form.moments(a - self.centre, b, mean, raw) for a, b in parts]
        if not sums:
            return count, *self.form.moments(x, w, mean, raw)
        first, second = (torch.stack(s).sum(dim=0) for s in zip(*sums, strict=True))
        return count, first, second

    def learn(
        self, values: Mapping[Hashable, Tensor], weights: Tensor, prior: Any = None
    ) -> Statistics:
        """See the base class; the form may look at the rows, too."""
        form, x = self.form, self._read(values)[self.child.name].reshape(-1, self.size)
        try:
            self.form = form.of_rows(x, self._weights(weights, len(x), self.configurations))
            return super().learn(values, weights, prior)
        finally:
            self.form = form

    @torch.no_grad()
    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set means and covariances to the best; see the base class.

        Args:
            statistics: The result of :meth:`statistics`.
            prior: A :class:`NormalWishart`; the joint mode is taken.

        Raises:
            ModelError: If the prior is of another kind.
        """
        check_prior(prior, NormalWishart, "Gaussian")
        moments = self._moments(statistics)
        confidence = 0.0 if prior is None else prior.confidence
        centre = self._prior_mean(prior)
        old = (self.mean.double().reshape(-1, self.size) - self.centre).unsqueeze(-1)
        if self.mean.requires_grad:
            free = torch.ones(1, dtype=torch.bool, device=self._device)
            new = moments.coefficients(confidence, centre, old, free)
            known = (moments.counted | (confidence > 0))[:, None, None]
            old = torch.where(known, new, old)
            self.mean.copy_((old.squeeze(-1) + self.centre).reshape(self.mean.shape))
        if self.scale.requires_grad:
            update_scale(self.scale, moments, old, prior, centre)

    def log_likelihood(
        self, statistics: Statistics, values: Mapping[Hashable, Tensor], weights: Tensor
    ) -> Tensor | None:
        """Return that of rows without holes; see the base class."""
        moments = self._moments(statistics)
        mean = (self.mean.detach().double().reshape(-1, self.size) - self.centre).unsqueeze(-1)
        raw = self._scale(self.scale.detach().double())
        natural = self.form.constrain(raw, self.size)
        misfit = self.form.misfit(natural, moments.scatter(mean))
        constant = self.form.log_determinant(raw, self.size) + self.size * LOG_2PI
        return -0.5 * (misfit + self.form.pool(moments.count) * constant).sum()

    def doubt(self, statistics: Statistics) -> AdvisedWarning | None:
        """Tell whether a learnable covariance stands on its floor; see the base class."""
        if not self.scale.requires_grad:
            return None
        return floor_doubt(self.child, self._moments(statistics), self.scale)

    def _moments(self, statistics: Statistics) -> NormalMoments:
        n, first, second = statistics
        return NormalMoments(self.form, n, n[:, None, None], first.unsqueeze(-1), second)

    def log_prior(self, prior: Any) -> Tensor:
        """Log density of a :class:`NormalWishart`, up to a constant; zero without one."""
        check_prior(prior, NormalWishart, "Gaussian")
        if prior is None:
            return self.mean.new_zeros(())
        mean = self.mean.reshape(-1, self.size, 1) - self.centre.unsqueeze(-1)
        factor = self.form.cholesky(self._scale(self.scale), self.size)
        error = mean - self._prior_mean(prior).to(mean)
        return normal_log_prior(prior, error, factor, self.num_configurations)

    def _prior_mean(self, prior: NormalWishart | None) -> Tensor:
        """``(D, 1)``, from the centre."""
        if prior is None:
            return torch.zeros_like(self.centre).double().unsqueeze(-1)
        return (prior.location(self.size).to(self._device) - self.centre).unsqueeze(-1)

    def prepare(self, values: Mapping[Hashable, Tensor]) -> None:
        """Choose an origin near the rows; see the base class."""
        self._centre_on(self._complete(values)[1])

    def _centre_on(self, rows: Tensor) -> None:
        self.centre.copy_(rows.mean(dim=0))

    def _scale(self, numbers: Tensor) -> Tensor:
        """Unconstrained numbers with one axis for the configurations."""
        return numbers.reshape(-1, *self.form.unconstrained_tail(self.size))

    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        mean = self.mean.reshape(-1, self.size)
        # a common origin near the means leaves them the most digits in products
        origin = mean.detach().mean(dim=0)
        table = self.form.log_density(x - origin, mean - origin, self._scale(self.scale))
        if self.offset is None:
            return table
        observed = ~x.isnan().all(dim=1, keepdim=True)
        return table + self.offset.to(table) * observed

    # --- variational Bayes --------------------------------------------------------------------

    def beliefs(self, prior: Any, values: Mapping[Hashable, Tensor] | None) -> Beliefs:
        """Return a normal-inverse-Wishart prior, means about :attr:`centre`; see the base class."""
        check_prior(prior, NormalWishart, "Gaussian")
        observed = self.centre.new_zeros(0) if values is None else values[self.child.name]
        rows = observed.double().reshape(-1, self.size)
        prior_beliefs = NormalBeliefs.of(prior, rows, self.num_configurations, self.form)
        return prior_beliefs._replace(mean=prior_beliefs.mean - self.centre)

    def updated(self, prior: Beliefs, statistics: Statistics) -> Beliefs:
        """See the base class."""
        beliefs, (count, first, second) = NormalBeliefs(*prior), statistics
        return beliefs.updated(count, first, second.reshape(beliefs.scale.shape))

    @torch.no_grad()
    def set_geometric_mean(self, posterior: Beliefs) -> None:
        """See the base class."""
        self.set_mean(posterior)
        self.offset = NormalBeliefs(*posterior).offset

    @torch.no_grad()
    def set_mean(self, posterior: Beliefs) -> None:
        """Take the posterior means, and the inverses of mean precisions; see the base class."""
        beliefs = NormalBeliefs(*posterior)
        self.mean.copy_((beliefs.mean + self.centre).reshape(self.mean.shape))
        natural = beliefs.covariance.reshape(-1, *self.form.tail(self.size))
        self.scale.copy_(self.form.unconstrain(natural).reshape(self.scale.shape))
        self.offset = None

    def divergence(self, posterior: Beliefs, prior: Beliefs) -> float:
        """See the base class."""
        return NormalBeliefs(*posterior).divergence(NormalBeliefs(*prior))

    def described(self, posterior: Beliefs) -> Any:
        """Numbers of the normal-inverse-Wishart distributions by name."""
        beliefs = NormalBeliefs(*posterior)
        beliefs = beliefs._replace(mean=beliefs.mean + self.centre)
        return {name: x.numpy(force=True) for name, x in beliefs._asdict().items()}


def read_scale(
    child: Variable, covariance: Any, form: Covariance, lead: tuple[int, ...]
) -> nn.Parameter:
    """Unconstrained numbers of given covariances; of the unit covariance, learnable, without."""
    size = child.num_elements
    if covariance is None:
        shape = (*lead, *form.unconstrained_tail(size))
        return learnable_zeros(f"the covariance of {child.name!r}", shape)
    tail = form.tail(size)
    numbers = read_parameter(
        "covariance", child, covariance, (*lead, *(tail if child.shape else ()))
    )
    try:
        raw = form.unconstrain(numbers.reshape((*lead, *tail)))
    except ModelError as error:
        raise ModelError(f"covariance of {child.name!r}: {error.reason}", error.advice) from None
    return nn.Parameter(raw, requires_grad=False)


def factors(conditional: Emission, form: Covariance, scale: Tensor) -> Tensor:
    """Lower factors ``(K1, ..., Kn, D, D)`` of unconstrained numbers; axes of 1 if tied."""
    lead = [1] * len(conditional.configurations) if form.tied else conditional.configurations
    raw = scale.reshape((*lead, *form.unconstrained_tail(conditional.size)))
    return form.cholesky(raw, conditional.size)


def observed_rows(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out the rows in which nothing was observed."""
    if all_finite(x):
        return x, w
    unobserved = x.isnan().all(dim=1)
    return (x[~unobserved], w[~unobserved]) if bool(unobserved.any()) else (x, w)
