r"""Losses of adversarial learning.

A discriminator returns scores :math:`s`. For objectives in terms of probabilities, scores are log
odds of being real: :math:`D = \sigma(s)`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pgnn.abilities import Duel
from pgnn.errors import ChecksArguments
from pgnn.limits import POSITIVE, check_settings


class AdversarialObjective(metaclass=ChecksArguments):
    """Losses of single scores, which a learner averages."""

    @abstractmethod
    def real_loss(self, scores: Tensor) -> Tensor:
        """Return the discriminator's losses for the scores of data."""

    @abstractmethod
    def generated_loss(self, scores: Tensor) -> Tensor:
        """Return the discriminator's losses for the scores of samples."""

    @abstractmethod
    def generator_loss(self, scores: Tensor) -> Tensor:
        """Return the generator's losses for the scores of its samples."""

    def mirrored(self, scores: Tensor) -> Tensor:
        """Return the scores with the roles of data and samples exchanged."""
        return -scores

    def penalty(self, duel: Duel) -> Tensor | None:
        """Return a penalty that is added to the discriminator's loss, if any."""
        return None

    def constrain(self, parameters: Iterable[Tensor]) -> None:
        """Project the discriminator's parameters onto the allowed set, after a step."""
        return


@dataclass(frozen=True)
class MinMax(AdversarialObjective):
    r"""The zero-sum game :math:`\min_G \max_D \mathbb{E} \log D(x) + \mathbb{E} \log(1 - D(G(z)))`.

    At the optimal discriminator :math:`p / (p + q)` its value is
    :math:`2\,\mathrm{JSD}(p, q) - \log 4`.

    References:
        Goodfellow et al. (2014), Generative adversarial nets.
    """

    def real_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`-\log D`."""
        return functional.softplus(-scores)

    def generated_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`-\log(1 - D)`."""
        return functional.softplus(scores)

    def generator_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`\log(1 - D)`, whose gradient vanishes where the discriminator is sure."""
        return -functional.softplus(scores)


@dataclass(frozen=True)
class NonSaturating(MinMax):
    r"""Like :class:`MinMax`, but the generator minimises :math:`-\log D(G(z))`.

    References:
        Goodfellow et al. (2014), Generative adversarial nets, section 3.
    """

    def generator_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`-\log D`."""
        return functional.softplus(-scores)


@dataclass(frozen=True)
class MeanProbability(MinMax):
    r"""Like :class:`MinMax`, but the generator maximises the mean of :math:`D(G(z))`.

    Its gradient vanishes where the discriminator is sure, in either direction.
    """

    def generator_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`-D`."""
        return -scores.sigmoid()


@dataclass(frozen=True)
class LeastSquares(AdversarialObjective):
    r"""Least squares: target score 1 for data and 0 for samples.

    References:
        Mao et al. (2017), Least squares generative adversarial networks.
    """

    def real_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`\tfrac12 (s - 1)^2`."""
        return 0.5 * (scores - 1).square()

    def generated_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`\tfrac12 s^2`."""
        return 0.5 * scores.square()

    def generator_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`\tfrac12 (s - 1)^2`."""
        return 0.5 * (scores - 1).square()

    def mirrored(self, scores: Tensor) -> Tensor:
        """Return one minus the scores."""
        return 1 - scores


class EarthMover(AdversarialObjective):
    """Critic scores, whose mean gap is a distance if the gradient of the critic is bounded."""

    def real_loss(self, scores: Tensor) -> Tensor:
        """Return the negative score."""
        return -scores

    def generated_loss(self, scores: Tensor) -> Tensor:
        """Return the score."""
        return scores

    def generator_loss(self, scores: Tensor) -> Tensor:
        """Return the negative score."""
        return -scores


@dataclass(frozen=True)
class Wasserstein(EarthMover):
    r"""The earth mover's distance up to a factor, by a critic with clipped parameters.

    .. math:: \max_{|w| \le c} \mathbb{E} s(x) - \mathbb{E} s(G(z))

    Args:
        clip: Largest absolute value :math:`c` of the critic's parameters.

    References:
        Arjovsky, Chintala and Bottou (2017), Wasserstein generative adversarial networks.
    """

    clip: float = 0.01

    def __post_init__(self) -> None:
        check_settings(self, clip=POSITIVE)

    def constrain(self, parameters: Iterable[Tensor]) -> None:
        """Clip them."""
        with torch.no_grad():
            for p in parameters:
                p.clamp_(-self.clip, self.clip)


@dataclass(frozen=True)
class WassersteinGradientPenalty(EarthMover):
    r"""The earth mover's distance, by a critic whose gradient norm is penalised towards one.

    .. math:: \lambda\, \mathbb{E} (\|\nabla_{\hat x} s(\hat x)\| - 1)^2, \qquad
        \hat x = u x + (1 - u) G(z), \ u \sim U(0, 1)

    The critic must not use batch normalisation, since the penalty is on the gradient of each row.
    The optimal norm is slightly above one, so that the critic overestimates a distance :math:`W` by
    up to :math:`W^2 / 2 \lambda` (the value for two distributions that differ by a shift).

    Args:
        weight: :math:`\lambda`; large values slow down changes of the critic.

    References:
        Gulrajani et al. (2017), Improved training of Wasserstein GANs.
    """

    weight: float = 10.0

    def __post_init__(self) -> None:
        check_settings(self, weight=POSITIVE)

    def penalty(self, duel: Duel) -> Tensor:
        """Return the penalty at random points between rows of data and samples."""
        share = torch.rand(len(duel.generated[0]), device=duel.generated[0].device)
        between: list[Tensor] = []
        for x, y in zip(duel.real, duel.generated, strict=True):
            if x is y or not y.is_floating_point():
                between.append(y)
                continue
            # the same weight for all components of a row
            u = share.to(y).reshape(-1, *[1] * (y.dim() - 1))
            between.append((y.detach() + u * (x.detach().to(y) - y.detach())).requires_grad_())
        moved = [x for x in between if x.requires_grad]
        scores = duel.discriminator(*between)
        gradients = torch.autograd.grad(scores.sum(), moved, create_graph=True)
        lengths = torch.cat([g.flatten(1) for g in gradients], 1).norm(dim=1)
        total: Tensor = self.weight * (lengths - 1).square().mean()
        return total


@dataclass(frozen=True)
class Hinge(AdversarialObjective):
    r"""Hinge loss: no loss for data with scores above 1, nor for samples with scores below -1.

    References:
        Lim and Ye (2017), Geometric GAN. Miyato et al. (2018), Spectral normalization for
        generative adversarial networks.
    """

    def real_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`\max(0, 1 - s)`."""
        return (1 - scores).relu()

    def generated_loss(self, scores: Tensor) -> Tensor:
        r"""Return :math:`\max(0, 1 + s)`."""
        return (1 + scores).relu()

    def generator_loss(self, scores: Tensor) -> Tensor:
        """Return the negative score."""
        return -scores
