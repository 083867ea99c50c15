"""Unpaired translation between two domains."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from torch import Tensor, nn

from pgnn.abilities import Duel, Game, Inputs
from pgnn.errors import Unsupported
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.limits import NOT_NEGATIVE, check_real
from pgnn.models.adversarial_family import AdversarialFamily
from pgnn.models.gan import named


class CycleGAN(AdversarialFamily):
    r"""Two generators between two domains, each with a discriminator, learned from unpaired data.

    Each generator plays against the discriminator of its output, and the cycles shall be close to
    the identity, with the loss

    .. math:: \lambda \left(\mathbb{E} \|G_a(G_b(a)) - a\|_1 + \mathbb{E} \|G_b(G_a(b)) - b\|_1
        \right), \text{ averaged over the entries of a row}

    ``sample(evidence={"a": rows})`` translates. Data is a mapping from both names to arrays, whose
    rows are unpaired and may differ in number.

    Args:
        to_b: Module that maps rows of the first variable to rows of the second.
        to_a: Module that maps rows of the second variable to rows of the first.
        discriminator_a: Scores rows of the first variable.
        discriminator_b: Scores rows of the second variable.
        a: The first variable.
        b: The second variable.
        weight: Weight :math:`\lambda` of the cycle loss.

    References:
        Zhu, Park, Isola and Efros (2017), Unpaired image-to-image translation using
        cycle-consistent adversarial networks.

    Example:
        >>> import pgnn, torch
        >>> a, b = pgnn.Variable("photo", shape=(2,)), pgnn.Variable("drawing", shape=(3,))
        >>> model = CycleGAN(nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 1), nn.Linear(3, 1),
        ...                  a, b)
        >>> model.sample(evidence={"photo": torch.zeros(5, 2)}, seed=0)["drawing"].shape
        torch.Size([1, 5, 3])
    """

    paired = False

    def __init__(
        self,
        to_b: nn.Module,
        to_a: nn.Module,
        discriminator_a: nn.Module,
        discriminator_b: nn.Module,
        a: Variable,
        b: Variable,
        weight: float = 10.0,
    ) -> None:
        super().__init__([a, b], [a.name, b.name])
        check_real("weight", weight, NOT_NEGATIVE)
        self.to_b, self.to_a = named("to_b", to_b), named("to_a", to_a)
        self.discriminator_a = named("discriminator_a", discriminator_a)
        self.discriminator_b = named("discriminator_b", discriminator_b)
        self.a, self.b, self.weight = a, b, float(weight)

    def settings(self) -> Settings:
        """Return the networks, the variables and the weight."""
        names = ("to_b", "to_a", "discriminator_a", "discriminator_b", "a", "b", "weight")
        return {name: getattr(self, name) for name in names}

    @property
    def generators(self) -> Iterable[nn.Module]:
        """Both generators."""
        return self.to_b, self.to_a

    @property
    def discriminators(self) -> Iterable[nn.Module]:
        """Both discriminators."""
        return self.discriminator_a, self.discriminator_b

    def game(self, rows: Mapping[Hashable, Tensor]) -> Game:
        """Return a round of translations against data in both domains, and the cycle loss."""
        a, b = (rows[v.name].to(self.to_b.like) for v in (self.a, self.b))
        generated_b, generated_a = self._to_b(a), self._to_a(b)

        def cycles() -> Tensor:
            lost = (self._to_a(generated_b) - a).abs().mean() + (
                self._to_b(generated_a) - b
            ).abs().mean()
            return self.weight * lost

        duels = (
            Duel(self.discriminator_b, (b,), (generated_b,)),
            Duel(self.discriminator_a, (a,), (generated_a,)),
        )
        return Game(duels, cycles)

    def simulate(
        self, rows: int, observed: Mapping[Hashable, Tensor], inputs: Inputs
    ) -> Mapping[Hashable, Tensor]:
        """See :meth:`ImplicitModel.simulate`; exactly one variable must be observed."""
        if len(observed) != 1:
            raise Unsupported(
                f"{type(self).__name__} translates",
                f"give rows of either {self.a.name!r} or {self.b.name!r} as evidence",
            )
        ((name, x),) = observed.items()
        with evaluated(self):
            if name == self.a.name:
                return {name: x, self.b.name: self._to_b(x)}
            return {self.a.name: self._to_a(x), name: x}

    def _to_b(self, a: Tensor) -> Tensor:
        return self._checked(self.to_b, self.to_b(a), len(a), self.b)

    def _to_a(self, b: Tensor) -> Tensor:
        return self._checked(self.to_a, self.to_a(b), len(b), self.a)
