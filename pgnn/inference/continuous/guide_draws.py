"""Draws from a guide, as values of the variables of the model with their log densities."""

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
    """A layer of a guide that draws several layers in sequence.

    Attributes:
        log_q: ``(S, R)`` log probabilities of the layer.
        given: ``(S, R, F)`` values on which the layer is conditioned.
    """

    log_q: Tensor
    given: Tensor


class Drawn(NamedTuple):
    """Draws from a guide.

    Attributes:
        values: ``(S, R, *shape)`` values by variable.
        log_q: ``(S, R)`` log densities; zero for a point mass.
        pathwise: Whether the values are reparameterised, that is, differentiable with respect to
            the parameters of the guide.
        points: ``(S, R, D)`` unconstrained coordinates of the values, or None.
        settled: Variables whose KL divergence from the prior is part of ``log_q`` in closed form.
        layers: The layers of the values, in the order in which they were drawn.
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
        """Multiply pathwise gradients by ``(S, R)`` factors in the backward pass."""
        if self.points is not None and self.points.requires_grad:
            self.points.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: gradient * factors.unsqueeze(-1)
            )


class GuideDraws(nn.Module, ABC):
    """A guide for some of the variables of a model.

    Attributes:
        is_density: Whether the guide has a density; a point mass has none.
    """

    is_density = True

    @property
    @abstractmethod
    def names(self) -> tuple[Hashable, ...]:
        """Names of the variables."""

    @abstractmethod
    def draw(self, n: int, at: At, objective: Objective, generator: torch.Generator) -> Drawn:
        """Return ``n`` draws for each row."""


class ApproximationDraws(GuideDraws):
    """Draws of real latents from an approximation.

    Args:
        coordinates: Coordinates of the variables.
        approximation: Distribution over the unconstrained coordinates.
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
    """Draws by executions of the guide of a program, whose parameters belong to the program.

    Args:
        model: A program with a guide.
        observed: Observed variables.
    """

    def __init__(self, model: Any, observed: Collection[Hashable] = ()) -> None:
        super().__init__()
        # no submodule, because the parameters belong to the model
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
                "doubly reparameterised gradients require a guide whose density is separate "
                "from its draws",
                "use a guide such as FullRankNormal() in place of the program's guide",
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
    """Batches of rows of subsampled plates, whose densities estimate the density of all rows.

    Args:
        full: Density of all rows.
        model: The program with a batch of the rows.

    Attributes:
        model: The program with a batch of the rows.
    """

    def __init__(self, full: SummedDensity, model: Any) -> None:
        self.full, self.model = full, model
        if full.observed.soft is not None or full.observed.soft_tensors:
            raise Unsupported(
                "a program with soft evidence and partially observed plates cannot be subsampled",
                "leave out subsample_size",
            )

    @classmethod
    def of(cls, full: SummedDensity) -> PlateBatches | None:
        """Return the batches of a model; None if no plate is subsampled."""
        model = full.model.batch() if isinstance(full.model, ExecutableModel) else None
        return None if model is None else cls(full, model)

    @property
    def changes(self) -> bool:
        """Whether batches differ."""
        return bool(self.model.changes)

    @cached_property
    def guide(self) -> ProgramDraws:
        """The guide of the program, executed on the same batch."""
        return ProgramDraws(self.model, known_values(self.full.model, self.full.observed))

    def redrawn(self, generator: torch.Generator) -> SummedDensity:
        """Draw a new batch and return its density; densities of earlier batches become invalid."""
        self.model.redraw(generator)
        return self.density()

    def density(self) -> SummedDensity:
        """Return the density of the current batch."""
        observed = self.full.observed
        reals = {n: self.model.of_rows(n, x, 1) for n, x in observed.reals.items()}
        codes = np.ascontiguousarray(observed.codes[:, self._elements()])
        return SummedDensity(
            self.model, replace(observed, codes=codes, reals=reals), self.full.inputs
        )

    def values(self, values: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Restrict draws ``(S, R, *shape)`` of all rows to the current batch."""
        return {n: self.model.of_rows(n, x, 2) for n, x in values.items()}

    def _elements(self) -> Any:
        """Return the index in the full program of each element of the batch."""
        elements = self.full.model.elements
        rows = [np.zeros(0, np.int64)]
        for v in self.model.elements.variables:
            numbers = torch.from_numpy(np.asarray(elements.numbers(v.name), np.int64))
            shape = self.full.model.variables[v.name].shape
            rows.append(self.model.of_rows(v.name, numbers.reshape(shape)).reshape(-1).numpy())
        return np.concatenate(rows)
