"""Vector-quantised autoencoders."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pgnn.factors.conditionals.codebook import Codebook, Quantised
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.heads import NeuralHead
from pgnn.factors.conditionals.neural import Neural
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.models.autoencoder import Autoencoder

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class VectorQuantisedAutoencoder(Autoencoder):
    r"""An autoencoder with discrete codes: arrays of vectors from a codebook.

    .. math:: \max \sum_n \log p(x_n \mid e_{k(z_n)}) + \log p(z_n), \qquad z_n = f(x_n)

    with the prior of a :class:`Codebook`, which contains the commitment loss. ``history["trace"]``
    contains the effective number of codes in use, ``code_perplexity``.

    Args:
        encoder: Maps data ``(B, *shape)`` to an array of the size of the latent variable.
        decoder: Maps an array of codes ``(B, *places, D)`` to the input of the likelihood.
        likelihood: See :class:`VAE`.
        codebook: Codebook of the latent variable.
        name: Name of the data.

    Raises:
        ModelError: If the parts do not fit.

    References:
        van den Oord, Vinyals and Kavukcuoglu (2017), Neural discrete representation learning.

    Example:
        >>> import pgnn
        >>> codebook = pgnn.Codebook(pgnn.Variable("z", shape=(2, 3)), 4)
        >>> decoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 5))
        >>> model = pgnn.VectorQuantisedAutoencoder(
        ...     nn.Linear(5, 6), decoder, pgnn.NormalHead((5,), 1.0), codebook
        ... )
        >>> rows = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
        >>> model.fit(rows, seed=0, progress=False).codes(rows).shape
        torch.Size([64, 2])
    """

    def __init__(
        self,
        encoder: nn.Module | Conditional,
        decoder: nn.Module | Conditional,
        likelihood: NeuralHead | None = None,
        codebook: Codebook | None = None,
        *,
        name: Hashable = "x",
    ) -> None:
        if codebook is not None and likelihood is not None and not isinstance(decoder, Conditional):
            x = Variable(name, None, likelihood.shape)
            decoder = Neural(
                x, [codebook.child], decoder, head=likelihood, features=Quantised(codebook)
            )
        super().__init__(encoder, decoder, likelihood, prior=codebook, name=name)

    def settings(self) -> Settings:
        """Return the networks and the codebook."""
        settings = super().settings()
        return {"encoder": settings["encoder"], "decoder": settings["decoder"],
                "codebook": settings["prior"]}  # fmt: skip

    @property
    def codebook(self) -> Codebook:
        """The codes."""
        prior = self.conditionals[self._names[0]]
        assert isinstance(prior, Codebook)
        return prior

    def codes(self, data: Any) -> Tensor:
        """Return ``(N, *places)`` indices of the codes of data ``(N, *shape)``."""
        with torch.no_grad():
            return self.codebook.nearest(self.encode(data).mean)

    def default_learner(self, data: Any) -> Learner:
        """Return the learner of data and code, which monitors the number of codes in use."""
        from pgnn.inference.continuous.lower_bound import LowerBound

        return LowerBound(watch={"code_perplexity": _perplexity})


def _perplexity(model: VectorQuantisedAutoencoder) -> float:
    return model.codebook.perplexity
