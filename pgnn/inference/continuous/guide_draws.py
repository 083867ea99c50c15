"""Draws from a guide, as values of the model's variables with their log densities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pgnn.abilities import ExecutableModel
from pgnn.errors import Unsupported
from pgnn.factors.randomness import drawing_from
from pgnn.inference.continuous.coordinates import Coordinates
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.guides import Approximation, At
from pgnn.inference.continuous.objective import Objective, Renyi
from pgnn.inference.known_values import known_values
from pgnn.inference.learning.control_variates import Signal, layer_signals


class DrawnLayer(NamedTuple):
    """One of several layers that a guide draws one after the other.

    Attributes:
        log_q: ``(S, R)`` its log probability.
        given: ``(S, R, F)`` what it was conditional on.
    """

    log_q: Tensor
    given: Tensor


class Drawn(NamedTuple):
    """Draws from a guide.

    Attributes:
        values: ``(S, R, *shape)`` by variable.
        log_q: ``(S, R)`` their log density; zeros of a point mass.
        pathwise: Whether the values are reparameterised: differentiable by the guide's parameters.
        points: ``(S, R, D)`` unconstrained numbers of the values, if they have such.
        settled: Variables whose prior is in ``log_q`` already: its divergence was written out.
        layers: The layers of which the values consist, in the order in which they were drawn.
    """

    values: dict[Hashable, Tensor]
    log_q: Tensor
    pathwise: bool
    points: Tensor | None = None
    settled: frozenset[Hashable] = frozenset()
    layers: tuple[DrawnLayer, ...] = ()

    def signals(self, log_p: Sequence[Tensor]) -> tuple[Signal, ...]:
        """Return the learning signals of the layers.

        Args:
            log_p: ``(S, R)`` log densities, one for each layer if there are layers.
        """
        log_q, given = [x.log_q for x in self.layers], [x.given for x in self.layers]
        return layer_signals(log_p, log_q, given) if self.layers else ()

    def scale_paths(self, factors: Tensor) -> None:
        """Multiply pathwise gradients, once they are computed, by ``(S, R)`` factors."""
        if self.points is not None and self.points.requires_grad:
            self.points.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: gradient * factors.unsqueeze(-1)
            )


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
        coordinates: Coordinates of the variables.
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
        return Drawn(values, log_q, not objective.score_function, z)


class ProgramDraws(GuideDraws):
    """Draws by executions of a program's own guide, which keeps its parameters in the program.

    Args:
        model: A program with a guide.
        observed: Variables that were observed.
    """

    def __init__(self, model: Any, observed: Collection[Hashable] = ()) -> None:
        super().__init__()
        # no submodule: its parameters are the model's
        object.__setattr__(self, "executions", model.guide_executions(observed))
        self.is_density = self.__dict__["executions"].is_density()

    @property
    def names(self) -> tuple[Hashable, ...]:
        """See :class:`GuideDraws`."""
        names: tuple[Hashable, ...] = self.__dict__["executions"].names
        return names

    def draw(self, n: int, at: At, objective: Objective, generator: torch.Generator) -> Drawn:
        """See :class:`GuideDraws`."""
        if objective.path_only and isinstance(objective, Renyi):
            raise Unsupported(
                "doubly reparameterised gradients need a guide whose density can be held apart "
                "from its draws, such as FullRankNormal(); a program's own guide cannot"
            )
        rows, executions = len(at.rows), self.__dict__["executions"]
        with drawing_from(generator):
            runs = executions.run(n * rows)
        pathwise = runs.reparameterised and not objective.score_function
        values = {}
        for name, x in runs.values.items():
            x = x.reshape(n, rows, *x.shape[1:])
            values[name] = x if pathwise else x.detach()
        return Drawn(values, runs.log_q.reshape(n, rows), pathwise)


class PlateBatches:
    """Batches of the rows of a program's plates, whose densities estimate that of all rows.

    Args:
        whole: Density of all rows.
        model: The program, executed on a batch of them.

    Attributes:
        model: That program.
    """

    def __init__(self, full: SummedDensity, model: Any) -> None:
        self.full, self.model = full, model
        if full.observed.soft is not None or full.observed.soft_tensors:
            raise Unsupported(
                "soft evidence on a program whose plates are partially observed cannot be taken in "
                "batches; leave subsample_size out"
            )

    @classmethod
    def of(cls, full: SummedDensity) -> PlateBatches | None:
        """Return the batches of a model's plates; None if it always executes all rows."""
        model = full.model.batch() if isinstance(full.model, ExecutableModel) else None
        return None if model is None else cls(full, model)

    @property
    def changes(self) -> bool:
        """Whether batches differ from each other."""
        return bool(self.model.changes)

    @cached_property
    def guide(self) -> ProgramDraws:
        """The program's own guide, executed on the same batch."""
        return ProgramDraws(self.model, known_values(self.full.model, self.full.observed))

    def redrawn(self, generator: torch.Generator) -> SummedDensity:
        """Draw another batch and return its density; densities of batches before become invalid."""
        self.model.redraw(generator)
        return self.density()

    def density(self) -> SummedDensity:
        """Return the density of the present batch."""
        observed = self.full.observed
        reals = {n: self.model.of_rows(n, x, 1) for n, x in observed.reals.items()}
        codes = np.ascontiguousarray(observed.codes[:, self._elements()])
        return SummedDensity(
            self.model, replace(observed, codes=codes, reals=reals), self.full.inputs
        )

    def values(self, values: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Return draws ``(S, R, *shape)`` of all rows restricted to the present batch."""
        return {n: self.model.of_rows(n, x, 2) for n, x in values.items()}

    def _elements(self) -> Any:
        """For each element of the batch its number among the elements of the whole program."""
        elements = self.full.model.elements
        rows = [np.zeros(0, np.int64)]
        for v in self.model.elements.variables:
            numbers = torch.from_numpy(np.asarray(elements.numbers(v.name), np.int64))
            shape = self.full.model.variables[v.name].shape
            rows.append(self.model.of_rows(v.name, numbers.reshape(shape)).reshape(-1).numpy())
        return np.concatenate(rows)
