"""Variational autoencoders."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pgnn.abilities import Inputs, ReconstructingModel
from pgnn.errors import EvidenceError, ModelError
from pgnn.evidence.covariates import read_covariates
from pgnn.evidence.nameless_rows import nameless_rows
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.covariance import Diagonal
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.heads import NeuralHead, NormalHead
from pgnn.factors.conditionals.neural import Neural
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number
from pgnn.models.amortised_network import AmortisedNetwork
from pgnn.models.column_names import ColumnNames

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner

_POINTS = 2**16
"""Largest number of draws that are decoded at once."""


class VAE(ColumnNames, AmortisedNetwork, ReconstructingModel):
    r"""A variational autoencoder: a real latent vector and a network that decodes it.

    .. math:: p(z) = N(0, I), \quad p(x \mid z) = \mathrm{likelihood}(\mathrm{decoder}(z)), \quad
        q(z \mid x) = N(\mu(x), \sigma^2(x))

    It is a network of two variables with a recognition model. ``fit(images)`` maximises the
    evidence lower bound, ``sample`` draws images, and ``query("z", {"x": images})`` returns draws
    of the posterior and an importance weighted bound on the log evidence, with ``NaN`` pixels
    marginalised.

    Args:
        encoder: Maps data ``(B, *shape)`` to ``(B, 2 D)`` means and standard deviations (before a
            softplus); or a conditional of the latent vector given the data.
        decoder: Maps ``(B, D)`` to the input of the likelihood; or a conditional of the data.
        likelihood: Head that maps the output of the decoder to a distribution, such as
            ``BernoulliHead(shape)`` for zeros and ones, or ``NormalHead(shape, scale)``.
        latent: Size ``D`` of the latent vector.
        prior: Prior of the latent vector; standard normal by default.
        inputs: Names of covariates that are inputs of both networks (a conditional VAE).
        name: Name of the data.
        latent_name: Name of the latent vector.

    Raises:
        ModelError: If the parts do not fit.

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes.

    Example:
        >>> import pgnn
        >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        >>> vae = pgnn.VAE(encoder, nn.Linear(2, 16), pgnn.BernoulliHead((4, 4)), latent=2)
        >>> images = (torch.rand(32, 4, 4) < 0.5).float()
        >>> learner = pgnn.LowerBound(max_iterations=3)
        >>> vae.fit(images, learner=learner, seed=0).encode(images).mean.shape
        torch.Size([32, 2])
        >>> vae.sample(3, seed=0)["x"].shape
        torch.Size([3, 4, 4])
    """

    def __init__(
        self,
        encoder: nn.Module | Conditional,
        decoder: nn.Module | Conditional,
        likelihood: NeuralHead | None = None,
        latent: int | None = None,
        *,
        prior: Conditional | None = None,
        inputs: str | Iterable[Hashable] = (),
        name: Hashable = "x",
        latent_name: Hashable = "z",
    ) -> None:
        z = latent_variable(encoder, prior, latent, latent_name)
        if isinstance(decoder, Conditional):
            x = decoder.child
        elif likelihood is None:
            raise ModelError("a decoder that is a network needs a likelihood, such as "
                             "pgnn.BernoulliHead((28, 28))")  # fmt: skip
        else:
            x = Variable(name, None, likelihood.shape)
            decoder = Neural(x, [z], decoder, inputs, head=likelihood)
        if not isinstance(encoder, Conditional):
            encoder = Neural(z, [x], encoder, inputs, head=NormalHead(z.shape))
        if prior is None:
            size = z.num_elements
            prior = Gaussian(z, [], np.zeros(size), np.ones(size), Diagonal())
        self._names = z.name, x.name
        graph = nx.DiGraph([(z.name, x.name)])
        super().__init__(graph, [prior, decoder], [encoder])

    def settings(self) -> Settings:
        """Return the three conditionals."""
        z, x = self._names
        return {
            "encoder": self.recognition[z],
            "decoder": self.conditionals[x],
            "prior": self.conditionals[z],
        }

    @property
    def vector(self) -> Hashable:
        """Name of the data."""
        return self._names[1]

    @property
    def latent(self) -> Hashable:
        """Name of the latent vector."""
        return self._names[0]

    def encode(self, data: Any, inputs: Inputs | None = None) -> Distribution:
        r"""Return :math:`q(z \mid x)` of batch shape ``(N,)``, networks in evaluation mode.

        Args:
            data: ``(N, *shape)``; missing numbers (``NaN``) are replaced by zeros for the encoder.
            inputs: Covariates by name.
        """
        z, x = self._names
        rows = self._rows(data).nan_to_num()
        with evaluated(self), self._gradients(rows):
            return self.recognition[z].distribution({x: rows}, self._covariates(inputs))

    def decode(self, z: Any, inputs: Inputs | None = None) -> Distribution:
        r"""Return :math:`p(x \mid z)` of batch shape ``(N,)``, networks in evaluation mode.

        Args:
            z: ``(N, D)`` latent vectors.
            inputs: Covariates by name.
        """
        latent, x = self._names
        rows = self._rows(z, latent)
        with evaluated(self), self._gradients(rows):
            return self.conditionals[x].distribution({latent: rows}, self._covariates(inputs))

    def _gradients(self, rows: Tensor) -> torch.set_grad_enabled:
        """Whether answers are detached: those of a fitted model are, except during learning."""
        wanted = self.passes_gradients or rows.requires_grad
        return torch.set_grad_enabled(torch.is_grad_enabled() and wanted)

    def reconstruct(self, data: Any, inputs: Inputs | None = None) -> Tensor:
        r"""Return means ``(N, *shape)`` of :math:`p(x \mid z)` at the mean of :math:`q(z \mid x)`.

        Args:
            data: ``(N, *shape)``; missing numbers (``NaN``) are reconstructed.
            inputs: Covariates by name.
        """
        with torch.no_grad():
            latents = self.encode(data, inputs)
            mean: Tensor = self.decode(latents.mean, inputs).mean
        return mean

    def interpolate(self, start: Any, end: Any, steps: int = 10) -> Tensor:
        """Return ``(N, steps, *shape)`` means of data along lines between codes.

        Args:
            start: ``(N, *shape)`` data at the starts of the lines.
            end: ``(N, *shape)`` data at the ends of the lines.
            steps: Number of codes of each line, including both ends.

        Raises:
            EvidenceError: If the numbers of starts and ends differ.
        """
        share = torch.linspace(0.0, 1.0, whole_number("steps", steps, 2))
        with torch.no_grad():
            first, last = self.encode(start).mean, self.encode(end).mean
            if first.shape != last.shape:
                raise EvidenceError(
                    "start and end must have equal numbers of rows, got "
                    f"{len(first)} and {len(last)}"
                )
            shares = share.to(first).reshape(1, -1, *[1] * (first.dim() - 1))
            codes = torch.lerp(first.unsqueeze(1), last.unsqueeze(1), shares)
            means: Tensor = self.decode(codes.flatten(end_dim=1)).mean
        return means.reshape(*codes.shape[:2], *means.shape[1:])

    def anomaly_score(
        self, data: Any, inputs: Inputs | None = None, *, draws: int = 50, seed: int | None = None
    ) -> Tensor:
        r"""Return ``(N,)`` :math:`-\log p(x)` in nats, an upper bound by importance weighting.

        Args:
            data: ``(N, *shape)``; missing numbers (``NaN``) are marginalised.
            inputs: Covariates by name.
            draws: Number of draws of the latent vector for each row.
            seed: Seed of the draws. Rows of a call have independent random numbers, so that
                averages over rows are precise; a score therefore depends on its position among the
                rows, within the Monte Carlo error.
        """
        from pgnn.inference.continuous.objective import ImportanceWeighted
        from pgnn.inference.continuous.variational import Variational

        engine = Variational(
            objective=ImportanceWeighted(draws), max_iterations=0, num_samples=max(draws, 2),
            seed=seed, progress=False,
        )  # fmt: skip
        rows, size = self._rows(data), max(1, _POINTS // draws)
        covariates = self._covariates(inputs)
        scores = [torch.zeros(0, dtype=torch.float64)]
        with evaluated(self):
            for k in range(0, len(rows), size):
                part = {n: x[k : k + size] for n, x in covariates.items()}
                evidence = {self.vector: rows[k : k + size]}
                scores.append(-self.log_prob(evidence, inputs=part or None, engine=engine))
        return torch.cat(scores)

    def _covariates(self, inputs: Inputs | None) -> dict[Hashable, Any]:
        """Return covariates as tensors; missing values are not allowed."""
        return read_covariates(self.read_inputs(inputs or {}))

    def _rows(self, data: Any, name: Hashable | None = None) -> Tensor:
        """Read rows ``(N, *shape)`` of data or codes in any form; a single row becomes a batch.

        Raises:
            EvidenceError: If the shape is wrong, or a number is infinite.
        """
        from pgnn.inference.model_reader import reader_of

        v = self.variables[self.vector if name is None else name]
        if not isinstance(data, Tensor) or not data.is_floating_point():
            values = data if name is None else {name: data}
            read = reader_of(self).read(values)
            nothing = torch.full((read.num_rows, *v.shape), torch.nan, dtype=torch.float64)
            return read.reals.get(v.name, nothing)
        rows: Tensor | None = nameless_rows(v, data[None] if tuple(data.shape) == v.shape else data)
        if rows is None and not v.shape:
            raise EvidenceError(
                f"{v.name!r} must be ({len(data)},), one number per row, because its likelihood "
                f"has no shape (use BernoulliHead((28, 28)) for images); got {tuple(data.shape)}"
            )
        if rows is None:
            raise EvidenceError(
                f"{v.name!r} must have the shape {v.shape} or (N, {', '.join(map(str, v.shape))}), "
                f"got {tuple(data.shape)}"
            )
        if bool(rows.isinf().any()):
            raise EvidenceError(f"{v.name!r} has infinite numbers", "mark missing ones by NaN")
        return rows

    def default_learner(self, data: Any) -> Learner:
        """Return the lower bound, with the divergence from a normal prior in closed form."""
        from pgnn.inference.continuous.lower_bound import LowerBound
        from pgnn.inference.continuous.objective import Elbo

        plain = isinstance(self.conditionals[self._names[0]], Gaussian)
        return LowerBound(bound=Elbo(closed_form=plain))


def latent_variable(
    encoder: Any, prior: Conditional | None, latent: int | None, name: Hashable
) -> Variable:
    """Return the size of the latent vector, from any part that defines it.

    Raises:
        ModelError: If no part defines it.
    """
    for part in (prior, encoder):
        if isinstance(part, Conditional):
            return part.child
    if latent is None:
        raise ModelError("the size of the latent vector is unknown", "pass it, such as latent=50")
    return Variable(name, None, (whole_number("latent", latent, 1, ModelError),))
