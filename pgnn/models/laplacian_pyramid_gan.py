"""GANs that generate images from coarse to fine."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from pgnn.abilities import Duel, Game, Inputs
from pgnn.errors import ModelError, Unsupported
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.models.adversarial_family import AdversarialFamily
from pgnn.models.gan import Noise, drawn_noise, named, read_noise


class LaplacianPyramidGAN(AdversarialFamily):
    r"""One GAN for each level of a Laplacian pyramid of images.

    The first GAN generates a coarse image; each later one generates the details of an image given
    the image :math:`u_k` of the previous level at twice its size,
    :math:`x_k = u_k + G_k(z_k, u_k)`. The levels are learned simultaneously, each from true coarse
    images.

    Args:
        generators: Generators, coarsest first. The first maps noise to images
            ``(B, C, H / 2^n, W / 2^n)``; the others map noise and an enlarged image to details.
        discriminators: The first scores images; the others score details given an enlarged image.
        noise: Noise of each level, see :class:`~pgnn.GAN`.
        data: The generated variable, of shape ``(C, H, W)``.

    Raises:
        ModelError: If the numbers of networks differ, or the size cannot be halved at each level.

    References:
        Denton, Chintala, Szlam and Fergus (2015), Deep generative image models using a Laplacian
        pyramid of adversarial networks.
    """

    def __init__(
        self,
        generators: Sequence[nn.Module],
        discriminators: Sequence[nn.Module],
        noise: Noise,
        data: Variable,
    ) -> None:
        super().__init__([data], [data.name])
        levels = len(generators)
        if not levels or len(discriminators) != levels:
            raise ModelError(
                f"each level needs a generator and a discriminator, got {levels} and "
                f"{len(discriminators)}"
            )
        if len(data.shape) != 3 or any(n % 2 ** (levels - 1) for n in data.shape[1:]):
            raise ModelError(
                f"a pyramid with {levels} levels needs images (C, H, W) whose sides can be halved "
                f"{levels - 1} times, got {data.shape}"
            )
        self._generators = [named(f"generator {k}", g) for k, g in enumerate(generators)]
        self._discriminators = [
            named(f"discriminator {k}", d) for k, d in enumerate(discriminators)
        ]
        self._networks = nn.ModuleList([*self._generators, *self._discriminators])
        self.source, self.noise = read_noise(noise)
        self.data = data

    def settings(self) -> Settings:
        """Return the networks, the noise and the variable."""
        return {
            "generators": tuple(self._generators),
            "discriminators": tuple(self._discriminators),
            "noise": self.noise.shape if self.source is None else self.source,
            "data": self.data,
        }

    @property
    def generators(self) -> Iterable[nn.Module]:
        """The generators."""
        return self._generators

    @property
    def discriminators(self) -> Iterable[nn.Module]:
        """The discriminators."""
        return self._discriminators

    def game(self, rows: Mapping[Hashable, Tensor]) -> Game:
        """Return a round of true against generated details at each level."""
        images = [rows[self.data.name].to(self._generators[0].like)]
        for _ in self._generators[1:]:
            images.insert(0, functional.avg_pool2d(images[0], 2))
        duels = []
        for k, x in enumerate(images):
            conditions = [_larger(images[k - 1])] if k else []
            real = x - conditions[0] if k else x
            generated = self._generated(k, len(x), conditions)
            duels.append(
                Duel(self._discriminators[k], (real, *conditions), (generated, *conditions))
            )
        return Game(tuple(duels))

    def simulate(
        self, rows: int, observed: Mapping[Hashable, Tensor], inputs: Inputs
    ) -> Mapping[Hashable, Tensor]:
        """See :meth:`ImplicitModel.simulate`; nothing may be observed."""
        if observed:
            raise Unsupported(f"{type(self).__name__} supports no evidence", "leave it out")
        with evaluated(self):
            x = self._generated(0, rows, [])
            for k in range(1, len(self._generators)):
                larger = _larger(x)
                x = larger + self._generated(k, rows, [larger])
        return {self.data.name: x}

    def preview(self, rows: Mapping[Hashable, Tensor]) -> Tensor:
        """Return complete images."""
        return self.simulate(len(rows[self.data.name]), {}, {})[self.data.name]

    def _generated(self, level: int, rows: int, conditions: list[Tensor]) -> Tensor:
        """Return images of the first level, or details of another level."""
        generator = self._generators[level]
        z = drawn_noise(self.source, self.noise, rows, generator.like)
        channels, *sides = self.data.shape
        part = 2 ** (len(self._generators) - 1 - level)
        v = Variable(self.data.name, shape=(channels, *(n // part for n in sides)))
        return self._checked(generator, generator(z, *conditions), rows, v)


def _larger(x: Tensor) -> Tensor:
    """Double the height and width."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
