"""Abilities of models that make data without having a density."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from pgnn.abilities.core import FactorModel, Inputs
from pgnn.errors import Unsupported


class ImplicitModel(FactorModel):
    """A model that can be drawn from, and whose density is not known."""

    @abstractmethod
    def simulate(
        self, rows: int, observed: Mapping[Hashable, Tensor], inputs: Inputs
    ) -> Mapping[Hashable, Tensor]:
        """Return draws of all variables, ``(rows, *shape)`` by name, by torch's random state.

        Args:
            rows: How many draws.
            observed: ``(rows, *shape)`` values of some variables.
            inputs: Covariates by name, ``(rows, ...)``.

        Raises:
            Unsupported: If the model does not know what goes with these observations.
        """

    def without_density(self) -> Unsupported:
        """Return the error of who asks for probabilities."""
        return Unsupported(
            f"a {type(self).__name__} has no density, so no probabilities and no posterior: it "
            "makes data by sample(); pgnn.metrics.earth_mover compares samples"
        )


class Duel(NamedTuple):
    """What a discriminator is to tell apart.

    Attributes:
        discriminator: Scores rows of arrays; the larger, the more like data.
        real: Its arguments made of data.
        generated: Its arguments made by the model; those that equal the real ones are conditions.
        both_generated: Whether one of the generators has made a part of ``real``, too.
    """

    discriminator: Callable[..., Tensor]
    real: tuple[Tensor, ...]
    generated: tuple[Tensor, ...]
    both_generated: bool = False


class Game(NamedTuple):
    """A round of an adversarial game.

    Attributes:
        duels: Whose losses are added.
        penalty: What the generators are to make small besides; None if nothing.
    """

    duels: tuple[Duel, ...]
    penalty: Callable[[], Tensor] | None = None


class AdversarialModel(ImplicitModel):
    """An implicit model that learns by a game against networks that tell it from data.

    Attributes:
        paired: Whether rows of several arrays of data belong together.
    """

    paired: bool = True

    @property
    @abstractmethod
    def generators(self) -> Iterable[nn.Module]:
        """The networks that make data, or what goes with data."""

    @property
    @abstractmethod
    def discriminators(self) -> Iterable[nn.Module]:
        """The networks that tell apart."""

    @abstractmethod
    def read_rows(self, data: Any, inputs: Inputs | None = None) -> dict[Hashable, Tensor]:
        """Read rows to learn from, ``(N, ...)`` by the name of a variable or of an input.

        Raises:
            DataError: If something is missing, has another shape or is not finite.
        """

    @abstractmethod
    def game(self, rows: Mapping[Hashable, Tensor]) -> Game:
        """Return a round played with some rows, by torch's random state."""

    def preview(self, rows: Mapping[Hashable, Tensor]) -> Tensor:
        """Return what the model makes of its own at these rows, to be looked at."""
        return self.game(rows).duels[0].generated[0]
