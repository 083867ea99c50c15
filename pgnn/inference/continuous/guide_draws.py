"""Draws from a guide, as values of the model's variables with their log densities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pgnn.inference.continuous.coordinates import Coordinates
from pgnn.inference.continuous.elbo import Objective
from pgnn.inference.continuous.guides import Approximation, At


class Drawn(NamedTuple):
    """Draws.

    Attributes:
        values: ``(S, R, *shape)`` by variable.
        log_q: ``(S, R)`` their log density; zeros of a point mass.
        pathwise: Whether the values carry derivatives by the guide's parameters.
    """

    values: dict[Hashable, Tensor]
    log_q: Tensor
    pathwise: bool


class GuideDraws(nn.Module, ABC):
    """A guide of some of a model's variables.

    Attributes:
        is_density: Whether it has a density; a point mass has none.
    """

    is_density = True

    @property
    @abstractmethod
    def names(self) -> tuple[Hashable, ...]:
        """The variables."""

    @abstractmethod
    def draw(self, n: int, at: At, objective: Objective, generator: torch.Generator) -> Drawn:
        """Draw ``n`` times for each row."""


class ApproximationDraws(GuideDraws):
    """Draws of real latents from an approximation.

    Args:
        coordinates: Of the variables.
        approximation: Over their unconstrained numbers.
    """

    def __init__(self, coordinates: Coordinates, approximation: Approximation) -> None:
        super().__init__()
        self.coordinates, self.approximation = coordinates, approximation
        self.is_density = approximation.is_density

    @property
    def names(self) -> tuple[Hashable, ...]:
        """See :class:`GuideDraws`."""
        return self.coordinates.names

    def draw(self, n: int, at: At, objective: Objective, generator: torch.Generator) -> Drawn:
        """See :class:`GuideDraws`."""
        q = self.approximation
        noise = torch.randn(n, len(at.rows), q.noise_size, dtype=torch.float64, generator=generator)
        z = q.draw(noise, at)
        if objective.score_function:
            z = z.detach()
        if objective.path_only:
            fixed = {k: p.detach() for k, p in q.named_parameters()}
            log_q: Tensor = functional_call(q, fixed, (z, at))
        else:
            log_q = q(z, at)
        values, log_det = self.coordinates.constrain(z)
        log_q = log_q - log_det if self.is_density else log_q
        return Drawn(values, log_q, not objective.score_function)


class ProgramDraws(GuideDraws):
    """Draws by executions of a program's own guide, which keeps its parameters in the program.

    Args:
        model: A program with a guide.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        object.__setattr__(self, "program", model)  # not a part: its parameters are the model's

    @property
    def names(self) -> tuple[Hashable, ...]:
        """See :class:`GuideDraws`."""
        variables = self.__dict__["program"].variables.values()
        return tuple(v.name for v in variables if not v.is_discrete)

    def draw(self, n: int, at: At, objective: Objective, generator: torch.Generator) -> Drawn:
        """See :class:`GuideDraws`."""
        from pgnn.inference.continuous.pyro_trace import run_guide

        runs = []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(generator.get_state())
            for _ in range(n * len(at.rows)):
                runs.append(run_guide(self.__dict__["program"]))
            generator.set_state(torch.default_generator.get_state())
        pathwise = all(r.reparameterised for r in runs) and not objective.score_function
        lead = (n, len(at.rows))
        values = {}
        for name in runs[0].values:
            x = _stacked([r.values[name] for r in runs], lead)
            values[name] = x if pathwise else x.detach()
        log_q = _stacked([r.log_q for r in runs], lead)
        return Drawn(values, log_q, pathwise)


def _stacked(parts: Sequence[Tensor], lead: tuple[int, int]) -> Tensor:
    whole = torch.stack(list(parts))
    return whole.reshape([*lead, *whole.shape[1:]])
