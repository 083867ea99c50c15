"""The potential energy of Hamiltonian chains, and their initial points."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import DirectedModel, ExecutableModel, FactorModel, Inputs
from pgnn.errors import Advice, ImpossibleEvidence, ModelError, Unsupported
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
from pgnn.inference.model_reader import reader_of
from pgnn.tape.replay import Replay, recorded

Floats = NDArray[np.float64]

_TRIES = 100
SPREAD = 2.0
_STEP = 1e-5
_OFF = 1e-2


class PotentialEnergy:
    r"""Negative log density of the latent reals of a model in unconstrained coordinates.

    .. math:: U(q) = -\log p(r(q), e) - \log \left| \frac{\partial r}{\partial q} \right|

    Structure, evidence and terms that do not depend on latent variables are evaluated once. The
    operations of potential and gradient are recorded and replayed without Python, provided that the
    replay agrees with an independent evaluation.

    Args:
        model: A directed model or a program.
        evidence: One row of evidence, as in a query.
        inputs: Covariates, ``(1, ...)``.

    Attributes:
        latent: The latent real variables, parents first.
        coordinates: Unconstrained coordinates of these.
        density: Density of their values; a program receives values in their declared dtypes.
        single: Whether some values have single precision.
        observed: The evidence.

    Raises:
        Unsupported: If there is no latent real variable, one of them is a count, or the evidence
            has several rows.
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
                f"MCMC requires one row of evidence, got {observed.num_rows}",
                Advice("query the rows in a loop", "rows"),
            )
        self.observed = observed
        known = known_values(model, observed)
        ordered = parents_first(model)
        self.latent = [v for v in ordered if not v.is_discrete and v.name not in known]
        if not self.latent:
            _check_not_partial(observed)
            raise Unsupported(
                "MCMC requires a real variable that is not observed, but there is none",
                "leave out the engine, or use JunctionTree()",
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
        """Whether points are evaluated by a recorded tape, without Python."""
        return self._replay is not None

    @property
    def is_centred(self) -> bool:
        """Whether the distribution of a latent variable depends on another latent variable."""
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
                potential, gradient = self._evaluate_separately(torch.from_numpy(points))
        return potential.numpy(), gradient.numpy()

    def _evaluate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        replayed = None if self._replay is None else self._replay(points)
        return self._value_and_gradient(points) if replayed is None else replayed

    def _evaluate_separately(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate points one by one; infinite if a matrix decomposition such as Cholesky fails."""
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
        """Return ``(C, D)`` points with finite potential and gradient, initialised as in Stan.

        The potential is recorded for this number of chains.

        Raises:
            ImpossibleEvidence: If no point of positive density is found; the message names a
                variable.
            ModelError: If the gradient is not finite, or disagrees with the potential.
        """
        rng = np.random.default_rng(seed)
        points = np.zeros((chains, self.coordinates.size))
        bad = np.ones(chains, dtype=np.bool_)
        for _ in range(_TRIES):
            candidates = rng.uniform(-SPREAD, SPREAD, size=points.shape)
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
        """Record the function; return None unless the tape agrees with it at the given points."""
        tolerance = 1e-3 if self.single else 1e-9
        try:
            with unvalidated():
                tensors = [torch.from_numpy(x) for x in points]
                for x in tensors:  # a program records its tables in its first executions
                    self._value_and_gradient(x)
                return recorded(self._value_and_gradient, tensors, tolerance)
        except (RuntimeError, ModelError) as error:
            if not _is_numerical(error):
                raise
            return None

    def _value_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Compute potentials and their gradients by torch."""
        with torch.enable_grad():
            q = points.detach().requires_grad_()
            potential = self.potential(q)
            if not potential.requires_grad:
                raise ModelError(
                    "the log density depends on no latent variable",
                    "check the model for detached tensors",
                )
            (gradient,) = torch.autograd.grad(potential.sum(), q)
        return potential.detach(), gradient

    def _check_gradient(self, points: Floats, gradient: Floats) -> None:
        """Compare the gradient with finite differences, to detect detached computations."""
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
                    f"the gradient of the log density with respect to {c.variable.name!r} "
                    "disagrees with finite differences",
                    "check for detached or rounded values",
                )

    def _raise_no_start(self, points: Floats, potential: Floats, gradient: Floats) -> None:
        """Raise an error that names the variable without a valid initial point."""
        bad = np.flatnonzero(~np.isfinite(potential))
        if not len(bad):
            _, columns = np.nonzero(~np.isfinite(gradient))
            name = self.coordinates.name_of(int(columns[0]))
            raise ModelError(
                f"the gradient of the log density with respect to {name!r} is not finite, though "
                "the density is",
                "check for square roots or quotients at zero in its conditionals",
            )
        with unvalidated(), torch.no_grad():
            reals, _ = self.coordinates.constrain(torch.from_numpy(points[bad[:1]]))
            raise ImpossibleEvidence(
                f"no initial point with finite density was found in {_TRIES} tries; "
                f"{self.density.blame(reals)}"
            )


def _check_not_partial(observed: RowEvidence) -> None:
    """Raise if a real variable is partially observed."""
    for name, x in observed.reals.items():
        if bool(x.isnan().any()):
            raise Unsupported(
                f"{name!r} is real and partially observed, and other variables depend on it, which "
                "MCMC does not support",
                "give all of its cells or none, or use engine=pgnn.ExecutionSampling()",
            )


def density_of(
    model: Any,
    observed: RowEvidence,
    latent: Sequence[Variable],
    known: Reals,
    inputs: Inputs | None,
) -> JointDensity:
    """Return the cheapest representation of the density of a model.

    Args:
        model: A directed model, an executable model, or a model of units.
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
        raise Unsupported(f"{type(model).__name__} has no density of real variables")
    elif isinstance(model, ExecutableModel) and model.obstacle is not None:
        return ExecutedDensity(model, latent, known)
    assert isinstance(model, FactorModel)
    return SummedDensity(model, replace(observed, soft_tensors={}), inputs)


def _is_numerical(error: BaseException) -> bool:
    """Whether an error comes from a failed matrix decomposition."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            return True
        cause = cause.__cause__
    return False
