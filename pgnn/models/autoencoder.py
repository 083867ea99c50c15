"""Autoencoders: deterministic codes of data."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.heads import NeuralHead, PointMassHead
from pgnn.factors.conditionals.neural import Neural
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.limits import NOT_NEGATIVE, check_real
from pgnn.models.vae import VAE, latent_variable

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class Corrupted(nn.Sequential):
    """A network whose input is corrupted by a module in training mode."""


class Autoencoder(VAE):
    r"""An autoencoder: :math:`\max \sum_n \log p(x_n \mid z = f(x_n)) + \log p(f(x_n))`.

    It is a :class:`VAE` whose recognition distribution is a point mass. Without a prior, the code
    is not penalised, and a linear autoencoder with normal noise spans the space of the first
    principal components; a Laplace prior makes codes sparse. With a corruption, it is a denoising
    autoencoder.

    Args:
        encoder: Maps data ``(B, *shape)`` to codes ``(B, D)``.
        decoder: Maps codes to the input of the likelihood.
        likelihood: See :class:`VAE`.
        latent: Size ``D`` of a code.
        prior: Prior of the codes, whose log density is added to the objective.
        corruption: Module that corrupts the input of the encoder during a fit, such as
            ``nn.Dropout(0.3)``; it must be the identity in evaluation mode.
        contraction: Weight of the penalty :math:`\|\partial f / \partial x\|_F^2` on the
            derivatives of the code with respect to the data, which makes codes insensitive to
            directions without variation.
        name: Name of the data.
        latent_name: Name of the code.

    Raises:
        ModelError: If the parts are incompatible.

    References:
        Vincent et al. (2010), Stacked denoising autoencoders. Goodfellow, Bengio and Courville
        (2016), Deep Learning, chapter 14. Rifai et al. (2011), Contractive auto-encoders: explicit
        invariance during feature extraction.

    Example:
        >>> import torch
        >>> import pgnn
        >>> rows = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) @ torch.ones(3, 5)
        >>> model = pgnn.Autoencoder(
        ...     nn.Linear(5, 1), nn.Linear(1, 5), pgnn.NormalHead((5,), 1.0), latent=1
        ... )
        >>> model.fit(rows, seed=0, progress=False).encode(rows).mean.shape
        torch.Size([64, 1])
    """

    def __init__(
        self,
        encoder: nn.Module | Conditional,
        decoder: nn.Module | Conditional,
        likelihood: NeuralHead | None = None,
        latent: int | None = None,
        *,
        prior: Conditional | None = None,
        corruption: nn.Module | None = None,
        contraction: float = 0.0,
        name: Hashable = "x",
        latent_name: Hashable = "z",
    ) -> None:
        if not isinstance(encoder, Conditional):
            z = latent_variable(encoder, prior, latent, latent_name)
            shape = () if likelihood is None else likelihood.shape
            x = decoder.child if isinstance(decoder, Conditional) else Variable(name, None, shape)
            network = encoder if corruption is None else Corrupted(corruption, encoder)
            encoder = Neural(z, [x], network, head=PointMassHead(z.shape))
        super().__init__(
            encoder, decoder, likelihood, prior=prior, name=name, latent_name=latent_name
        )
        check_real("contraction", contraction, NOT_NEGATIVE)
        self.contraction = float(contraction)

    def settings(self) -> Settings:
        """Return the three conditionals, and the weight of the contraction."""
        return super().settings() | {"contraction": self.contraction}

    def penalty(self, observed: Mapping[Hashable, Tensor], inputs: Inputs) -> Tensor | None:
        """Return the contraction penalty; see :meth:`AmortisedModel.penalty`.

        The Frobenius norm is estimated without bias by the derivative of one random combination of
        the code (Hutchinson 1990).
        """
        if not self.contraction:
            return None
        z, x = self._names
        rows = observed[x].detach().nan_to_num().requires_grad_()
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            code = self.recognition[z].distribution({x: rows}, inputs or None).mean
            signs = torch.randint_like(code, 2).mul_(2.0).sub_(1.0)
            (gradient,) = torch.autograd.grad(
                (signs * code).sum(), rows, create_graph=differentiable
            )
        return self.contraction * gradient.flatten(start_dim=1).square().sum(1)

    def anomaly_score(
        self, data: Any, inputs: Inputs | None = None, *, draws: int = 50, seed: int | None = None
    ) -> Tensor:
        r"""Return ``(N,)`` :math:`-\log p(x \mid z)` at the code of each row, in nats."""
        z, x = self._names
        with torch.no_grad(), evaluated(self):
            rows = self._rows(data)
            values = {z: self.encode(rows, inputs).mean, x: rows}
            return -self.conditionals[x].factor(values, self._covariates(inputs)).log_values

    def default_learner(self, data: Any) -> Learner:
        """Return the learner that maximises the log density of data and code, or of data alone."""
        from pgnn.inference.continuous.lower_bound import LowerBound
        from pgnn.inference.continuous.objective import Elbo

        free = isinstance(self.conditionals[self._names[0]], Gaussian)
        return LowerBound(bound=Elbo(beta=0.0 if free else 1.0))
