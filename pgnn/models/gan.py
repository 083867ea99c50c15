"""Generative adversarial networks."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.abilities import Duel, Game, Inputs
from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.named_network import NamedNetwork
from pgnn.factors.piece import Settings
from pgnn.factors.randomness import kept_randomness
from pgnn.factors.variable import Variable
from pgnn.models.adversarial_family import AdversarialFamily

Noise = int | Sequence[int] | Conditional


class GAN(AdversarialFamily):
    r"""A generator :math:`x = G(z, u)` of data, learned against a discriminator :math:`D(x, u)`.

    It is an implicit model, which can be sampled but has no density. The objective of the game
    belongs to the learner, see :class:`~pgnn.Adversarial`. With inputs, the model is conditional.

    Args:
        generator: Module that maps noise ``(B, ...)`` and inputs to data ``(B, *shape)``.
        discriminator: Module that maps data and inputs to scores ``(B,)`` or ``(B, 1)``, or maps of
            scores ``(B, 1, height, width)``. Scores are real numbers; for objectives based on
            probabilities, they are log odds of being real.
        noise: Length or shape of standard normal noise; or a conditional without parents, such as
            a :class:`~pgnn.GaussianMixture` of a real variable.
        data: The generated variable; by default, ``Variable("data", shape=...)`` with the shape of
            the output of the generator.
        inputs: Names of covariates, such as labels.

    Raises:
        ModelError: If a network is not a module, the noise has parents, or inputs are given
            without the variable of the data.

    References:
        Goodfellow et al. (2014), Generative adversarial nets. Mirza and Osindero (2014),
        Conditional generative adversarial nets.

    Example:
        >>> import pgnn
        >>> rows = 3.0 + torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
        >>> model = GAN(nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 16), nn.ReLU(),
        ...             nn.Linear(16, 1)), noise=1)
        >>> learner = pgnn.Adversarial(epochs=30, optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
        >>> drawn = model.fit(rows, learner=learner, seed=0).sample(1000, seed=0)["data"]
        >>> abs(float(drawn.mean()) - 3.0) < 1.0
        True
        >>> model.log_prob(rows)
        Traceback (most recent call last):
        pgnn.errors.Unsupported: a GAN has no density, so no probabilities and no posterior: ...
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        noise: Noise = 100,
        data: Variable | None = None,
        inputs: Iterable[Hashable] = (),
    ) -> None:
        maker, critic = named("generator", generator), named("discriminator", discriminator)
        source, z = read_noise(noise)
        names = [inputs] if isinstance(inputs, str) else [*inputs]
        if data is None:
            if names:
                raise ModelError(
                    "a generator with inputs needs its variable, such as "
                    "data=pgnn.Variable('data', shape=(28, 28))"
                )
            data = Variable("data", shape=_shape_of(maker, source, z))
        super().__init__([z, data], [data.name], [(z.name, data.name)], names)
        self.generator, self.discriminator = maker, critic
        self.source, self.noise, self.data = source, z, data

    def settings(self) -> Settings:
        """Return the networks, the noise, the variable and the names of the inputs."""
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "noise": self.noise.shape if self.source is None else self.source,
            "data": self.data,
            "inputs": self.inputs,
        }

    @property
    def generators(self) -> Iterable[nn.Module]:
        """The generator."""
        return (self.generator,)

    @property
    def discriminators(self) -> Iterable[nn.Module]:
        """The discriminator."""
        return (self.discriminator,)

    def game(self, rows: Mapping[Hashable, Tensor]) -> Game:
        """Return a round of data against samples of the generator, given the same inputs."""
        x, conditions = rows[self.data.name].to(self.generator.like), self._conditions(rows)
        generated = self.generate(self.draw_noise(len(x)), rows)
        return Game((Duel(self.discriminator, (x, *conditions), (generated, *conditions)),))

    def simulate(
        self, rows: int, observed: Mapping[Hashable, Tensor], inputs: Inputs
    ) -> Mapping[Hashable, Tensor]:
        """See :meth:`ImplicitModel.simulate`; noise may be observed."""
        if self.data.name in observed:
            raise Unsupported(
                f"{type(self).__name__} cannot infer the noise of {self.data.name!r}",
                "use a BidirectionalGAN, which has an encoder",
            )
        z = observed.get(self.noise.name)
        z = self.draw_noise(rows) if z is None else z.to(self.generator.like)
        with evaluated(self):
            return {self.noise.name: z, self.data.name: self.generate(z, inputs)}

    def draw_noise(self, rows: int) -> Tensor:
        """Return ``(rows, *shape)`` noise, drawn with torch's global random state."""
        return drawn_noise(self.source, self.noise, rows, self.generator.like)

    def generate(self, noise: Tensor, inputs: Inputs) -> Tensor:
        """Return ``(B, *shape)`` data generated from noise, differentiable.

        Args:
            noise: ``(B, ...)`` noise.
            inputs: Covariates by name, ``(B, ...)``.
        """
        generated = self.generator(noise, *self._conditions(inputs))
        return self._checked(self.generator, generated, len(noise), self.data)

    def _conditions(self, rows: Mapping[Hashable, Tensor]) -> list[Tensor]:
        missing = [n for n in self.inputs if n not in rows]
        if missing:
            raise ModelError(f"the generator needs the inputs {missing}", "pass inputs={...}")
        return [rows[n] for n in self.inputs]


def read_noise(noise: Noise) -> tuple[Conditional | None, Variable]:
    """Return the conditional of the noise (None for standard normal), and its variable.

    Raises:
        ModelError: If the noise has parents, or is not a size.
    """
    if isinstance(noise, Conditional):
        if noise.parents or noise.inputs:
            raise ModelError(f"noise must not have parents, got {[v.name for v in noise.parents]}")
        return noise, noise.child
    try:
        sizes: Any = noise if isinstance(noise, Iterable) else [noise]
        return None, Variable("noise", shape=tuple(operator.index(n) for n in sizes))
    except TypeError:
        raise ModelError(
            f"noise must be a length, a shape or a conditional without parents, got {noise!r}"
        ) from None


def drawn_noise(source: Conditional | None, z: Variable, rows: int, like: Tensor) -> Tensor:
    """Return ``(rows, *shape)`` noise like a tensor, drawn with torch's global random state."""
    if source is None:
        return torch.randn(rows, *z.shape, dtype=like.dtype, device=like.device)
    return source.draw({}, rows=rows).to(like)


def named(name: str, module: Any) -> NamedNetwork:
    """Return a named module, whose name identifies its code in checkpoints."""
    return module if isinstance(module, NamedNetwork) else NamedNetwork(name, module)


def _shape_of(generator: NamedNetwork, source: Conditional | None, z: Variable) -> tuple[int, ...]:
    with kept_randomness(), torch.no_grad(), evaluated(generator):
        generated = generator(drawn_noise(source, z, 2, generator.like))
    if not isinstance(generated, Tensor) or generated.dim() < 2 or len(generated) != 2:
        came = tuple(generated.shape) if isinstance(generated, Tensor) else repr(generated)
        raise ModelError(
            f"the generator must map rows of noise {(2, *z.shape)} to as many rows of data, got "
            f"{came}"
        )
    return tuple(generated.shape[1:])
