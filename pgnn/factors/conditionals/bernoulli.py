"""Vectors of zeros and ones given discrete variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Categorical, Distribution, Independent
from torch.nn.functional import softplus

from pgnn.errors import ModelError
from pgnn.factors.conditionals.checks import checked
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.emission import read_parameter
from pgnn.factors.conditionals.factorized_emission import FactorizedEmission
from pgnn.factors.conditionals.normal_wishart import check_prior
from pgnn.factors.conditionals.parameter_table import ParameterTable
from pgnn.factors.conditionals.tabular import Prior
from pgnn.factors.factor import Factor
from pgnn.factors.piece import Restorable, Settings
from pgnn.factors.variable import Variable
from pgnn.limits import NOT_NEGATIVE, check_real


@dataclass(frozen=True)
class Beta(Restorable):
    r"""A beta prior: :math:`\hat p = (s + a) / (n + a + b)` for ``s`` ones in ``n`` rows.

    This is the mean of the posterior under the density :math:`\mathrm{Beta}(a, b)`, and the mode
    under :math:`\mathrm{Beta}(a + 1, b + 1)`.

    Args:
        ones: :math:`a`, ones in those rows.
        zeros: :math:`b`, zeros in those rows.

    Raises:
        ModelError: If one is negative or not finite.

    Example:
        >>> p = Bernoulli(Variable("x"))
        >>> p.maximize(p.statistics({"x": torch.zeros(8)}, torch.ones(8)), Beta(1.0, 1.0))
        >>> round(p.probs.item(), 6)
        0.1
    """

    ones: float = 1.0
    zeros: float = 1.0

    def __post_init__(self) -> None:
        check_real("ones of Beta", self.ones, NOT_NEGATIVE)
        check_real("zeros of Beta", self.zeros, NOT_NEGATIVE)


class Bernoulli(FactorizedEmission):
    r"""Independent zeros and ones :math:`p(x \mid j) = \prod_d p_{jd}^{x_d} (1 - p_{jd})^{1-x_d}`.

    Args:
        child: Variable of any known shape, real or with two states; ``NaN``, or -1 for integers, is
            missing.
        parents: Discrete variables.
        probs: ``(K1, ..., Kn, *event)`` probabilities of one, constants; zero and one are legal.
            Learnable halves if not given.
        min_prob: Smallest distance of an estimate from zero and one.

    Raises:
        ModelError: If a shape is wrong or a value is not a probability.

    Example:
        >>> kind, words = Variable("kind", ["news", "spam"]), Variable("words", shape=(2,))
        >>> p_words = Bernoulli(words, [kind], probs=[[0.5, 0.1], [0.2, 0.8]])
        >>> p_words.factor({"words": torch.tensor([[0.0, 1.0]])}).values
        tensor([[0.0500, 0.6400]], dtype=torch.float64)
    """

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        probs: Any = None,
        min_prob: float = 1e-6,
    ) -> None:
        super().__init__(child, parents)
        if not 0 < min_prob < 0.5:
            raise ModelError(f"min_prob must be between 0 and 0.5, got {min_prob}")
        self.min_prob = min_prob
        if probs is not None:
            numbers = read_parameter("probs", child, probs, self.natural.shape)
            if bool(((numbers < 0) | (numbers > 1)).any()):
                raise ModelError(f"probs of {child.name!r} must be between 0 and 1")
            self.natural = torch.nn.Parameter(numbers.logit(), requires_grad=False)

    def _accepts(self, v: Variable) -> bool:
        if v.name == self.child.name:
            return not v.is_discrete or v.num_states == 2
        return super()._accepts(v)

    def settings(self) -> Settings:
        """Return the variables, and the smallest probability of an estimate."""
        return super().settings() | {"min_prob": self.min_prob}

    def unsound(self, name: str, numbers: Tensor) -> Tensor:
        """Return where log odds are ``NaN``; infinite ones are certain."""
        return numbers.isnan()

    @property
    def probs(self) -> Tensor:
        """Probabilities of one, ``(K1, ..., Kn, *event)``; differentiable."""
        return self.natural.sigmoid()

    def parameter_table(self) -> ParameterTable:
        """Return the probabilities of one; see the base class."""
        return ParameterTable(self.parents, {"probs": self.probs})

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the distributions at the parents' states; over states if the child is discrete."""
        index = self._index(parents)
        logits = self.natural[index] if index else self.natural
        dist: Distribution
        if self.child.is_discrete:
            both = torch.stack([-softplus(logits), -softplus(-logits)], dim=-1)
            dist = Categorical(logits=both)
        else:
            dist = TorchBernoulli(logits=logits.nan_to_num())
        return Independent(dist, len(self.child.shape)) if self.child.shape else dist

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return the log table over the unobserved scope; see the base class."""
        if self.child.is_discrete and not (observed and self.child.name in observed):
            return Conditional.factor(self, observed, inputs)
        return super().factor(observed, inputs)

    def _observed_part(self, observed: Mapping[Hashable, Tensor] | None) -> dict[Hashable, Tensor]:
        """States as real numbers, ``NaN`` if missing (-1)."""
        name = self.child.name
        if not (self.child.is_discrete and observed and name in observed):
            return super()._observed_part(observed)
        known = super()._observed_part({n: x for n, x in observed.items() if n != name})
        codes = torch.as_tensor(observed[name])
        numbers = codes.to(self._dtype).masked_fill(codes == -1, torch.nan)
        real = Variable(name, shape=self.child.shape)
        return {**known, name: checked(real, numbers, self._dtype).to(self._device)}

    def _log_partition(self, natural: Tensor) -> Tensor:
        return softplus(natural)

    takes_sparse = True
    takes_states = True

    def _log_base(self, x: Tensor) -> Tensor | None:
        return None

    def _is_value(self, x: Tensor) -> Tensor:
        return (x == 0) | (x == 1)

    def _from_mean(self, mean: Tensor) -> Tensor:
        return mean.clamp_(self.min_prob, 1.0 - self.min_prob).logit_()

    def accepts(self, prior: Any) -> bool:
        """Whether it gives zero and one the same pseudo-count."""
        return isinstance(prior, Prior) and prior.of_each(self.child.name) is not None

    def _pseudo_counts(self, prior: Any) -> tuple[float, float]:
        count = prior.of_each(self.child.name) if isinstance(prior, Prior) else None
        if count is not None:
            return count, 2.0 * count
        check_prior(prior, Beta, "Bernoulli")
        return (0.0, 0.0) if prior is None else (prior.ones, prior.ones + prior.zeros)

    def _filled(self, flat: Tensor, mean: Tensor) -> Tensor:
        return torch.where(flat.isnan(), mean.round(), flat)
