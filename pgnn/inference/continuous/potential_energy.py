"""The potential energy whose gradient drives Hamiltonian chains, and their initial points."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import DirectedModel, ExecutableModel, FactorModel, Inputs
from pgnn.errors import ImpossibleEvidence, ModelError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.finite import has_nan
from pgnn.factors.units.unit_layers import UnitModel
from pgnn.factors.validation import unvalidated
from pgnn.factors.variable import Variable
from pgnn.inference.continuous.coordinates import Coordinates, Reals
from pgnn.inference.continuous.densities import JointDensity, ProductDensity, SummedDensity
from pgnn.inference.continuous.executed_density import ExecutedDensity
from pgnn.inference.continuous.supports import parents_first, supports_of
from pgnn.inference.known_values import known_values
from pgnn.inference.question import reader_of
from pgnn.tape.replay import Replay, recorded

Floats = NDArray[np.float64]

_TRIES = 100
_SPREAD = 2.0
_STEP = 1e-5
_OFF = 1e-2


class PotentialEnergy:
    r"""Minus the log density of a model's latent reals in unconstrained coordinates.

    .. math:: U(q) = -\log p(r(q), e) - \log \left| \frac{\partial r}{\partial q} \right|

    Structure, evidence and everything that does not depend on latent variables are read once. The
    operations of potential and gradient are recorded and replayed without Python, where the replay
    agrees with an independent evaluation.

    Args:
        model: A directed model or a program.
        evidence: One row, read or as in a query.
        inputs: Covariates, ``(1, ...)``.

    Attributes:
        latent: The latent real variables, parents first.
        coordinates: Their unconstrained coordinates.
        density: Density of their values; a program gets them in the types that it was written in.
        single: Whether some values have single precision.
        observed: The evidence.

    Raises:
        Unsupported: If there is no latent real variable, one is a count, or the evidence has
            several rows.
    """

    def __init__(self, model: Any, evidence: Any, inputs: Inputs | None = None) -> None:
        self.model = model
        self.inputs = {n: torch.as_tensor(x) for n, x in (inputs or {}).items()}
        observed = (
            evidence if isinstance(evidence, RowEvidence) else reader_of(model).read(evidence)
        )
        observed.check_rows()
        if observed.num_rows != 1 or any(len(x) != 1 for x in self.inputs.values()):
            raise Unsupported(
                f"chains are run for one row of evidence, not {observed.num_rows}; ask for one row "
                "after the other in a loop"
            )
        self.observed = observed
        known = known_values(model, observed)
        ordered = parents_first(model)
        self.latent = [v for v in ordered if not v.is_discrete and v.name not in known]
        if not self.latent:
            _check_not_partial(observed)
            raise Unsupported(
                "every real variable is observed, so there is nothing to run chains over; leave "
                "the engine out, or use JunctionTree()"
            )
        with unvalidated():
            self.density = density_of(model, observed, self.latent, known, self.inputs)
            supports = supports_of(model, self.latent, known, self.inputs)
            keep_dtype = isinstance(model, ExecutableModel)
            self.coordinates = Coordinates(self.latent, supports, keep_dtype=keep_dtype)
        types = {p.dtype for p in model.parameters()}
        types |= {s.dtype for s in supports.values()} if keep_dtype else set()
        self.single = torch.float32 in types
        self._log_density = self.density.log_density
        self._replay: Replay | None = None

    @property
    def compiled(self) -> bool:
        """Whether points are evaluated by a recording, without Python."""
        return self._replay is not None

    @property
    def is_centred(self) -> bool:
        """Whether the distribution of a latent variable depends on another latent one."""
        if not self.model.graph.is_directed():
            return False
        names = {v.name for v in self.latent}
        return any(not names.isdisjoint(self.model.graph.predecessors(n)) for n in names)

    def __call__(self, points: Floats) -> tuple[Floats, Floats]:
        """Return ``(C,)`` potentials and their gradients at points ``(C, D)``."""
        with unvalidated():
            try:
                potential, gradient = self._evaluate(torch.from_numpy(points))
            except (RuntimeError, ModelError):
                potential, gradient = self._one_by_one(torch.from_numpy(points))
        return potential.numpy(), gradient.numpy()

    def _evaluate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        replayed = None if self._replay is None else self._replay(points)
        return self._value_and_gradient(points) if replayed is None else replayed

    def _one_by_one(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The same point by point; infinite where a matrix decomposition such as Cholesky fails."""
        potential, gradient = torch.full((len(points),), torch.inf).double(), points * 0.0
        for k in range(len(points)):
            try:
                value, point_gradient = self._value_and_gradient(points[k : k + 1])
            except (RuntimeError, ModelError) as error:
                if not _is_numerical(error):
                    raise
            else:
                potential[k], gradient[k] = value[0], point_gradient[0]
        return potential, gradient

    def potential(self, q: Tensor) -> Tensor:
        """Return ``(C,)`` potentials of points ``(C, D)``, differentiable."""
        reals, log_jacobian = self.coordinates.constrain(q)
        return -(self._log_density(reals).to(q) + log_jacobian)

    def values(self, points: Floats) -> dict[Hashable, Tensor]:
        """Return ``(*lead, *shape)`` values of points ``(*lead, D)``."""
        flat = torch.from_numpy(points.reshape(-1, self.coordinates.size))
        with unvalidated(), torch.no_grad():
            values, _ = self.coordinates.constrain(flat)
        return {n: x.reshape(*points.shape[:-1], *x.shape[1:]) for n, x in values.items()}

    def start(self, chains: int, seed: int | None) -> Floats:
        """Return ``(C, D)`` points of finite potential and gradient, drawn as by Stan.

        The potential is recorded for that number of chains.

        Raises:
            ImpossibleEvidence: If no point of positive density is found; a variable is named.
            ModelError: If the gradient is not finite or not that of the potential.
        """
        rng = np.random.default_rng(seed)
        points = np.zeros((chains, self.coordinates.size))
        bad = np.ones(chains, dtype=np.bool_)
        for _ in range(_TRIES):
            candidates = rng.uniform(-_SPREAD, _SPREAD, size=points.shape)
            points = np.where(bad[:, None], candidates, points)
            potential, gradient = self(points)
            bad = ~(np.isfinite(potential) & np.isfinite(gradient).all(axis=1))
            if not bad.any():
                break
        else:
            self._raise_no_start(points, potential, gradient)
        self._check_gradient(points, gradient)
        self._compile(points, rng)
        return points

    def _compile(self, points: Floats, rng: np.random.Generator) -> None:
        far = [points, *(rng.normal(size=points.shape) for _ in range(2))]
        near = [points, *(points + 0.01 * x for x in far[1:])]
        original, self._log_density = self._log_density, self.density.recordable
        self._replay = self._recorded(far) or self._recorded(near)
        if self._replay is None:
            self._log_density = original

    def _recorded(self, points: Sequence[Floats]) -> Replay | None:
        """A recording of the function that agrees with it at these points, if there is one."""
        tolerance = 1e-3 if self.single else 1e-9
        try:
            with unvalidated():
                tensors = [torch.from_numpy(x) for x in points]
                for x in tensors:  # a program records itself in its first executions
                    self._value_and_gradient(x)
                return recorded(self._value_and_gradient, tensors, tolerance)
        except (RuntimeError, ModelError) as error:
            if not _is_numerical(error):
                raise
            return None

    def _value_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Potentials and their gradients by torch."""
        with torch.enable_grad():
            q = points.detach().requires_grad_()
            potential = self.potential(q)
            if not potential.requires_grad:
                raise ModelError("the density does not depend on any latent variable")
            (gradient,) = torch.autograd.grad(potential.sum(), q)
        return potential.detach(), gradient

    def _check_gradient(self, points: Floats, gradient: Floats) -> None:
        """Compare with finite differences by each variable, to detect detached computations."""
        if self.single:
            return
        for c in self.coordinates.each:
            step = np.zeros_like(points)
            step[:, c.first : c.last] = _STEP * (1.0 + np.abs(points[:, c.first : c.last]))
            ahead, _ = self(points + step)
            behind, _ = self(points - step)
            predicted = (2.0 * step * gradient).sum(axis=1)
            scale = np.abs(2.0 * step * gradient).sum(axis=1) + 2.0 * step.max() * 1e-3
            noise = 1e-13 * (np.abs(ahead) + np.abs(behind))
            with np.errstate(invalid="ignore"):
                change = np.abs(ahead - behind - predicted)
                off = change > _OFF * (scale + np.abs(ahead - behind)) + noise
            if off.all():
                raise ModelError(
                    f"the density is not differentiable in {c.variable.name!r}: its "
                    "gradient there is not that of its values (is something detached or rounded?)"
                )

    def _raise_no_start(self, points: Floats, potential: Floats, gradient: Floats) -> None:
        """Raise an error that names the variable for which no initial point was found."""
        bad = np.flatnonzero(~np.isfinite(potential))
        if not len(bad):
            _, columns = np.nonzero(~np.isfinite(gradient))
            name = self.coordinates.name_of(int(columns[0]))
            raise ModelError(
                f"the gradient of the log density by {name!r} is not finite, though the density "
                "is; look for square roots or quotients at zero in the conditionals around it"
            )
        with unvalidated(), torch.no_grad():
            reals, _ = self.coordinates.constrain(torch.from_numpy(points[bad[:1]]))
            raise ImpossibleEvidence(
                f"no start with a finite density was found in {_TRIES} tries; "
                f"{self.density.blame(reals)}"
            )


def _check_not_partial(observed: RowEvidence) -> None:
    """Raise if a real variable was partially observed."""
    for name, x in observed.reals.items():
        if bool(x.isnan().any()):
            raise Unsupported(
                f"{name!r} is real and was partially observed, and others depend on it: there "
                "are no "
                "coordinates of its missing cells alone; give all of its cells, or use "
                "engine=pgnn.ExecutionSampling()"
            )


def density_of(
    model: Any,
    observed: RowEvidence,
    latent: Sequence[Variable],
    known: Reals,
    inputs: Inputs | None,
) -> JointDensity:
    """Return the density of a model that is cheapest to evaluate.

    Args:
        model: A directed model, one that can be executed, or one of units.
        observed: One row of evidence.
        latent: The latent real variables.
        known: ``(1, *shape)`` observed values.
        inputs: Covariates, ``(1, ...)``.

    Raises:
        Unsupported: If the model has no density.
    """
    if isinstance(model, DirectedModel):
        states = [v.name for v in model.variables.values() if v.is_discrete]
        complete = not any(has_nan(x) for x in known.values() if x.is_floating_point())
        if observed.soft is None and known.keys() >= set(states) and complete:
            return ProductDensity(model, {v.name for v in latent}, known, inputs)
    elif not isinstance(model, ExecutableModel | UnitModel):
        raise Unsupported(f"a {type(model).__name__} has no density of real variables")
    elif isinstance(model, ExecutableModel) and model.obstacle is not None:
        return ExecutedDensity(model, latent, known)
    assert isinstance(model, FactorModel)
    return SummedDensity(model, replace(observed, soft_tensors={}), inputs)


def _is_numerical(error: BaseException) -> bool:
    """Whether an error is that of a failed matrix decomposition."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            return True
        cause = cause.__cause__
    return False
