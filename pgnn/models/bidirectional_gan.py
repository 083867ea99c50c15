"""GANs with an encoder."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from torch import Tensor, nn

from pgnn.abilities import Duel, Game, Inputs
from pgnn.errors import Unsupported
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.models.gan import GAN, Noise, named


class BidirectionalGAN(GAN):
    r"""A GAN whose discriminator compares pairs of data and codes with pairs of samples and noise.

    .. math:: D(x, E(x)) \text{ against } D(G(z), z)

    At the optimum, the encoder :math:`E` inverts the generator. ``sample(evidence={"data": x})``
    returns the codes of data under the name of the noise.

    Args:
        generator: See :class:`GAN`.
        encoder: Module that maps data and inputs to noise.
        discriminator: Module that maps data, noise and inputs to scores.
        noise: See :class:`GAN`.
        data: See :class:`GAN`.
        inputs: See :class:`GAN`.

    References:
        Donahue, Krähenbühl and Darrell (2017), Adversarial feature learning. Dumoulin et al.
        (2017), Adversarially learned inference.

    Example:
        >>> import pgnn, torch
        >>> class Joint(nn.Linear):
        ...     def forward(self, x, z):
        ...         return super().forward(torch.cat([x, z], 1))
        >>> model = BidirectionalGAN(nn.Linear(1, 2), nn.Linear(2, 1), Joint(3, 1), noise=1)
        >>> model.sample(evidence={"data": torch.zeros(7, 2)}, seed=0)["noise"].shape
        torch.Size([1, 7, 1])
    """

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        discriminator: nn.Module,
        noise: Noise = 100,
        data: Variable | None = None,
        inputs: Iterable[Hashable] = (),
    ) -> None:
        super().__init__(generator, discriminator, noise, data, inputs)
        self.encoder = named("encoder", encoder)

    def settings(self) -> Settings:
        """Return the parts of a GAN, and the encoder."""
        return super().settings() | {"encoder": self.encoder}

    @property
    def generators(self) -> Iterable[nn.Module]:
        """The generator and the encoder."""
        return self.generator, self.encoder

    def game(self, rows: Mapping[Hashable, Tensor]) -> Game:
        """Return a round of data with codes against samples with noise."""
        x, conditions = rows[self.data.name].to(self.generator.like), self._conditions(rows)
        z = self.draw_noise(len(x))
        real, generated = (x, self.encode(x, rows)), (self.generate(z, rows), z)
        return Game(
            (
                Duel(
                    self.discriminator,
                    (*real, *conditions),
                    (*generated, *conditions),
                    both_generated=True,
                ),
            )
        )

    def encode(self, data: Tensor, inputs: Inputs) -> Tensor:
        """Return ``(B, ...)`` codes of data, differentiable."""
        code = self.encoder(data, *self._conditions(inputs))
        return self._checked(self.encoder, code, len(data), self.noise)

    def simulate(
        self, rows: int, observed: Mapping[Hashable, Tensor], inputs: Inputs
    ) -> Mapping[Hashable, Tensor]:
        """See :meth:`ImplicitModel.simulate`; noise or data may be observed."""
        x = observed.get(self.data.name)
        if x is None:
            return super().simulate(rows, observed, inputs)
        if self.noise.name in observed:
            raise Unsupported("evidence must contain either the data or the noise, got both")
        with evaluated(self):
            return {self.noise.name: self.encode(x, inputs), self.data.name: x}
