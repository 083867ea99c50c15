"""The potential whose slopes drive Hamiltonian chains, and where they may begin."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution

from pgnn.abilities import DirectedModel, ExecutableModel
from pgnn.errors import ImpossibleEvidence, ModelError, Unsupported
from pgnn.evidence.evidence import Evidence
from pgnn.factors.variable import Variable
from pgnn.inference.continuous.coordinates import Coordinates
from pgnn.inference.continuous.executed_density import ExecutedDensity
from pgnn.inference.continuous.real_densities import ProductDensity, SummedDensity
from pgnn.inference.continuous.supports import (
    conditional_supports,
    known_values,
    program_supports,
)
from pgnn.inference.engine import Inputs
from pgnn.inference.question import reader_of
from pgnn.tape.recording import Function, recorded

Floats = NDArray[np.float64]

_TRIES = 100
_SPREAD = 2.0
_STEP = 1e-5
_OFF = 1e-2


class PotentialEnergy:
    r"""Minus the log density of a model's latent reals in unconstrained coordinates.

    .. math:: U(q) = -\log p(r(q), e) - \log \left| \frac{\partial r}{\partial q} \right|

    Structure, evidence and whatever does not depend on the latent variables are read once. The
    operations of potential and gradient are written down and run again without Python, where that
    agrees with an independent evaluation.

    Args:
        model: A directed model or a program.
        evidence: One row.
        inputs: Covariates, ``(1, ...)``.

    Attributes:
        latent: The latent real variables, parents first.
        coordinates: Their unconstrained numbers.
        density: Of their values.
        seen: The evidence.

    Raises:
        Unsupported: If there is no latent real variable, one is a count, or the evidence has
            several rows.
    """

    def __init__(self, model: Any, evidence: Any, inputs: Inputs | None = None) -> None:
        self.model = model
        self.inputs = {n: torch.as_tensor(x) for n, x in (inputs or {}).items()}
        seen: Evidence = reader_of(model).read(evidence)
        if seen.num_rows != 1 or any(len(x) != 1 for x in self.inputs.values()):
            raise Unsupported(
                f"chains are run for one row of evidence, not {seen.num_rows}; ask for one row "
                "after the other in a loop"
            )
        self.seen = seen
        known = known_values(model, seen)
        order = model.order if isinstance(model, DirectedModel) else tuple(model.variables)
        every = [model.variables[n] for n in order]
        self.latent = [v for v in every if not v.is_discrete and v.name not in known]
        if not self.latent:
            raise Unsupported(
                "every real variable is observed, so there is nothing to run chains over; leave "
                "the engine out, or use JunctionTree()"
            )
        with _unvalidated():
            self.coordinates, self.density = self._read(known, every)
        self.compiled = False
        self._log_density = self.density.log_density
        self._recordable = getattr(self.density, "recordable", self._log_density)
        self._function: Function = self._slopes

    def _read(
        self, known: dict[Hashable, Tensor], every: list[Variable]
    ) -> tuple[Coordinates, ProductDensity | SummedDensity | ExecutedDensity]:
        model, names = self.model, {v.name for v in self.latent}
        open_names = [v.name for v in every if v.is_discrete and v.name not in known]
        if isinstance(model, DirectedModel):
            conditionals = {v.name: model.conditionals[v.name] for v in every}
            supports = conditional_supports(conditionals, self.latent, known, self.inputs)
            if not open_names and self.seen.soft is None:
                product = ProductDensity(conditionals, names, known, self.inputs)
                return Coordinates(self.latent, supports), product
        elif isinstance(model, ExecutableModel):
            if model.obstacle is not None:
                executed = ExecutedDensity(model, self.latent, known)
                return Coordinates(self.latent, executed.supports()), executed
            supports = program_supports(model, self.latent)
        else:
            raise Unsupported(f"MCMC() has no density of a {type(model).__name__}")
        summed = SummedDensity(model, self.seen, self.inputs)
        return Coordinates(self.latent, supports), summed

    def __call__(self, points: Floats) -> tuple[Floats, Floats]:
        """Return ``(C,)`` potentials and their gradients at points ``(C, D)``."""
        with _unvalidated():
            potential, gradient = self._function(torch.from_numpy(points))
        return potential.numpy(), gradient.numpy()

    def potential(self, q: Tensor) -> Tensor:
        """Return ``(C,)`` potentials of points ``(C, D)``, differentiable."""
        reals, log_jacobian = self.coordinates.constrain(q)
        return -(self._log_density(reals).to(q) + log_jacobian)

    def values(self, points: Floats) -> dict[Hashable, Tensor]:
        """Return ``(*lead, *shape)`` values of points ``(*lead, D)``."""
        flat = torch.from_numpy(points.reshape(-1, self.coordinates.size))
        with _unvalidated(), torch.no_grad():
            values, _ = self.coordinates.constrain(flat)
        return {n: x.reshape(*points.shape[:-1], *x.shape[1:]) for n, x in values.items()}

    def start(self, chains: int, seed: int | None) -> Floats:
        """Return ``(C, D)`` points of finite potential and gradient, as Stan looks for them.

        The potential is compiled for so many chains.

        Raises:
            ImpossibleEvidence: If no point has a density; the variable at fault is named.
            ModelError: If the gradient is not a number or not that of the potential.
        """
        rng = np.random.default_rng(seed)
        points = np.zeros((chains, self.coordinates.size))
        todo = np.ones(chains, dtype=np.bool_)
        for _ in range(_TRIES):
            drawn = rng.uniform(-_SPREAD, _SPREAD, size=points.shape)
            points = np.where(todo[:, None], drawn, points)
            potential, gradient = self(points)
            good = np.isfinite(potential)
            todo = ~(good & np.isfinite(gradient).all(axis=1))
            if not todo.any():
                break
        else:
            self._complain(points, potential, gradient)
        self._check_slopes(points, gradient)
        self._compile(points, rng)
        return points

    def _compile(self, points: Floats, rng: np.random.Generator) -> None:
        others = [points, *(rng.normal(size=points.shape) for _ in range(2))]
        with _unvalidated():
            kernel, self._log_density = self._log_density, self._recordable
            fast = recorded(self._slopes, [torch.from_numpy(x) for x in others])
            if fast is None:
                self._log_density = kernel
            else:
                self._function, self.compiled = fast, True

    def _slopes(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The potentials and their gradients by torch."""
        with torch.enable_grad():
            q = points.detach().requires_grad_()
            potential = self.potential(q)
            if not potential.requires_grad:
                raise ModelError("the density does not depend on any latent variable")
            (gradient,) = torch.autograd.grad(potential.sum(), q)
        return potential.detach(), gradient

    def _check_slopes(self, points: Floats, gradient: Floats) -> None:
        """Compare with differences along each variable: what is detached or rounded shows."""
        if any(p.dtype == torch.float32 for p in self.model.parameters()):
            return
        for c in self.coordinates.each:
            step = np.zeros_like(points)
            step[:, c.first : c.last] = _STEP * (1.0 + np.abs(points[:, c.first : c.last]))
            with _unvalidated(), torch.no_grad():
                ahead = self.potential(torch.from_numpy(points + step)).numpy()
                behind = self.potential(torch.from_numpy(points - step)).numpy()
            told = (2.0 * step * gradient).sum(axis=1)
            scale = np.abs(2.0 * step * gradient).sum(axis=1) + 2.0 * step.max() * 1e-3
            noise = 1e-13 * (np.abs(ahead) + np.abs(behind))
            off = np.abs(ahead - behind - told) > _OFF * (scale + np.abs(ahead - behind)) + noise
            if off.all():
                raise ModelError(
                    f"the density is not differentiable in {c.variable.name!r}: its gradient "
                    "there is not its slope (is something detached or rounded?)"
                )

    def _complain(self, points: Floats, potential: Floats, gradient: Floats) -> None:
        """Say which variable is at fault where no chain can begin."""
        bad = np.flatnonzero(~np.isfinite(potential))
        if not len(bad):
            _, columns = np.nonzero(~np.isfinite(gradient))
            name = self.coordinates.name_of(int(columns[0]))
            raise ModelError(
                f"the gradient of the log density by {name!r} is not finite, though the density "
                "is; look for square roots or quotients at zero in the conditionals around it"
            )
        with _unvalidated(), torch.no_grad():
            reals, _ = self.coordinates.constrain(torch.from_numpy(points[bad[:1]]))
            terms = self.density.terms(reals)
        guilty = [n for n, x in terms.items() if not bool(x.isfinite().all())]
        raise ImpossibleEvidence(
            f"no start with a finite density was found in {_TRIES} tries; the log density of "
            f"{', '.join(repr(n) for n in guilty) or 'the evidence'} is not finite there",
        )


@contextlib.contextmanager
def _unvalidated() -> Iterator[None]:
    """Let distributions take what they get: a wild step has a density of zero, it is no error."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
