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
    r"""A generator :math:`x = G(z, u)` of data, with a discriminator :math:`D(x, u)` it learns by.

    An implicit model: it can be drawn from, and has no density. How the two networks play is the
    learner's affair, see :class:`~pgnn.Adversarial`. With inputs the model is conditional.

    Args:
        generator: Module that maps noise ``(B, ...)``, then the inputs, to data ``(B, *shape)``.
        discriminator: Module that maps data, then the inputs, to scores ``(B,)`` or ``(B, 1)``, or
            maps of scores ``(B, 1, height, width)``, any numbers: log odds of being real, where the
            objective speaks of probabilities.
        noise: Length or shape of standard normal numbers; or a conditional without parents,
            such as a :class:`~pgnn.GaussianMixture` of a real variable.
        data: The variable that is made; ``Variable("data", shape=...)`` of the shape that the
            generator makes if not given.
        inputs: Names of covariates, labels say.

    Raises:
        ModelError: If a network is none, the noise has parents, or inputs are named and the shape
            of the data is not.

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
                    "say which variable a generator with inputs makes, such as "
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
        """Return a round: data against what the generator makes, given the same inputs."""
        x, conditions = rows[self.data.name].to(self.generator.like), self._conditions(rows)
        generated = self.generate(self.draw_noise(len(x)), rows)
        return Game((Duel(self.discriminator, (x, *conditions), (generated, *conditions)),))

    def simulate(
        self, rows: int, observed: Mapping[Hashable, Tensor], inputs: Inputs
    ) -> Mapping[Hashable, Tensor]:
        """See :meth:`ImplicitModel.simulate`; noise may be observed."""
        if self.data.name in observed:
            raise Unsupported(
                f"a {type(self).__name__} does not know of what noise {self.data.name!r} was made; "
                "a BidirectionalGAN has an encoder that does"
            )
        z = observed.get(self.noise.name)
        z = self.draw_noise(rows) if z is None else z.to(self.generator.like)
        with evaluated(self):
            return {self.noise.name: z, self.data.name: self.generate(z, inputs)}

    def draw_noise(self, rows: int) -> Tensor:
        """Return ``(rows, *shape)`` noise, by torch's random state."""
        return drawn_noise(self.source, self.noise, rows, self.generator.like)

    def generate(self, noise: Tensor, inputs: Inputs) -> Tensor:
        """Return ``(B, *shape)`` data made of noise, differentiable.

        Args:
            noise: ``(B, ...)``.
            inputs: Covariates by name, ``(B, ...)``.
        """
        generated = self.generator(noise, *self._conditions(inputs))
        return self._checked(self.generator, generated, len(noise), self.data)

    def _conditions(self, rows: Mapping[Hashable, Tensor]) -> list[Tensor]:
        missing = [n for n in self.inputs if n not in rows]
        if missing:
            raise ModelError(f"the generator needs the inputs {missing}: give inputs={{...}}")
        return [rows[n] for n in self.inputs]


def read_noise(noise: Noise) -> tuple[Conditional | None, Variable]:
    """Return the conditional that noise is drawn from (None: standard normal), and its variable.

    Raises:
        ModelError: If it has parents, or is no size.
    """
    if isinstance(noise, Conditional):
        if noise.parents or noise.inputs:
            raise ModelError(f"noise has no parents, got {[v.name for v in noise.parents]}")
        return noise, noise.child
    try:
        sizes: Any = noise if isinstance(noise, Iterable) else [noise]
        return None, Variable("noise", shape=tuple(operator.index(n) for n in sizes))
    except TypeError:
        raise ModelError(
            f"noise must be a length, a shape or a conditional without parents, got {noise!r}"
        ) from None


def drawn_noise(source: Conditional | None, z: Variable, rows: int, like: Tensor) -> Tensor:
    """Return ``(rows, *shape)`` noise like some tensor, by torch's random state."""
    if source is None:
        return torch.randn(rows, *z.shape, dtype=like.dtype, device=like.device)
    return source.draw({}, rows=rows).to(like)


def named(name: str, module: Any) -> NamedNetwork:
    """Return a module under a name, by which a file asks for its code."""
    return module if isinstance(module, NamedNetwork) else NamedNetwork(name, module)


def _shape_of(generator: NamedNetwork, source: Conditional | None, z: Variable) -> tuple[int, ...]:
    with kept_randomness(), torch.no_grad(), evaluated(generator):
        generated = generator(drawn_noise(source, z, 2, generator.like))
    if not isinstance(generated, Tensor) or generated.dim() < 2 or len(generated) != 2:
        came = tuple(generated.shape) if isinstance(generated, Tensor) else repr(generated)
        raise ModelError(
            f"the generator must make a row of data of each row of noise {(2, *z.shape)}, got "
            f"{came}"
        )
    return tuple(generated.shape[1:])
