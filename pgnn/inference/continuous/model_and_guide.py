"""A model, evidence and a guide: log weights of draws."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.abilities import AmortisedModel, DirectedModel, ExecutableModel
from pgnn.errors import EvidenceError, ModelError, Unsupported
from pgnn.inference.continuous.coordinates import Coordinates
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.guide_draws import (
    ApproximationDraws,
    Drawn,
    GuideDraws,
    PlateBatches,
    ProgramDraws,
)
from pgnn.inference.continuous.guides import Amortised, At, Guide, MeanFieldNormal
from pgnn.inference.continuous.objective import Elbo, Objective
from pgnn.inference.continuous.recognition_draws import RecognitionDraws
from pgnn.inference.continuous.supports import parents_first, supports_of
from pgnn.inference.continuous.unit_density import UnitDensity, UnitDraws
from pgnn.inference.continuous.weighted_draws import Weighted
from pgnn.inference.known_values import known_values
from pgnn.inference.learning.control_variates import ControlVariates
from pgnn.inference.learning.restored_on_failure import restored
from pgnn.limits import check_size


@dataclass(frozen=True, eq=False)
class ModelAndGuide:
    """A density and the guide that approximates it.

    Attributes:
        density: Density of the model and the evidence.
        weights: ``(N,)`` weight of each row.
        parts: Guides of the latents: ``"local"`` of those of each row, ``"shared"`` of those that
            rows share.
        features: ``(N, F)`` the evidence as features.
        batches: Batches of the rows of a program's plates; None if each step takes all rows.
        in_batch: Whether the density is that of a batch.
    """

    density: SummedDensity
    weights: Tensor
    parts: nn.ModuleDict
    features: Tensor
    batches: PlateBatches | None = None
    in_batch: bool = False

    @classmethod
    def of(
        cls,
        density: SummedDensity,
        guide: Guide | None,
        shared: tuple[Hashable, ...],
        weights: Tensor | None = None,
        keep: bool = False,
    ) -> ModelAndGuide:
        """Return a density with a guide at its initial parameters.

        Args:
            density: Density of the model and the evidence.
            guide: Family of the latents; if not given that of the program, the model's own
                recognition, or a mean field.
            shared: Variables that all rows have in common.
            weights: ``(N,)`` weight of each row; one if not given.
            keep: Whether the encoder itself is trained, not a copy of it.

        Raises:
            Unsupported: If there is no real latent variable.
            EvidenceError: If a shared variable is not latent, or there are no rows.
        """
        batches = PlateBatches.of(density)
        if batches is not None and not batches.changes:
            density, batches = batches.density(), None
        rows = density.observed.num_rows
        counts = torch.ones(rows, dtype=torch.float64) if weights is None else weights
        own = _own_draws(density, guide, shared)
        if own is not None:
            parts = nn.ModuleDict({"local": own})
            return cls(density, counts, parts, torch.zeros(rows, 0), batches)
        approximation = MeanFieldNormal() if guide is None else guide
        if isinstance(approximation, Amortised) and not keep:
            approximation = Amortised(copy.deepcopy(approximation.encoder))
        parts = nn.ModuleDict(_approximations(density, approximation, shared))
        return cls(density, counts, parts, features_of(density), batches)

    def on(self, density: SummedDensity) -> ModelAndGuide:
        """Return the model's own guide on other rows with the same latent variables."""
        rows = density.observed.num_rows
        counts = torch.ones(rows, dtype=torch.float64)
        return replace(self, density=density, weights=counts, features=torch.zeros(rows, 0))

    def redrawn(self, generator: torch.Generator) -> ModelAndGuide:
        """Return the same on a new batch of the rows of plates, or itself if there are none."""
        if self.batches is None:
            return self
        parts = self.parts
        if isinstance(self._part("local"), ProgramDraws):
            parts = nn.ModuleDict({"local": self.batches.guide})
        density = self.batches.redrawn(generator)
        return replace(self, density=density, parts=parts, in_batch=True)

    @property
    def num_rows(self) -> int:
        """Rows ``N``."""
        return self.density.observed.num_rows

    @property
    def names(self) -> tuple[Hashable, ...]:
        """The variables that are approximated."""
        return tuple(n for key in self.parts for n in self._part(key).names)

    @property
    def is_density(self) -> bool:
        """Whether the guide has a density."""
        return all(self._part(key).is_density for key in self.parts)

    @property
    def active(self) -> Tensor:
        """Indices of the rows of positive weight."""
        return self.weights.nonzero()[:, 0]

    def batch(self, rows: Tensor | None) -> tuple[SummedDensity, At, Tensor]:
        """Return some rows (None: all), and their weights ``(R,)`` in an unbiased total."""
        if rows is None:
            all_rows = torch.arange(self.num_rows)
            return self.density, At(all_rows, self.features, self.density), self.weights
        scale = len(self.active) / len(rows)
        density = self.density.take(rows)
        return density, At(rows, self.features[rows], density), scale * self.weights[rows]

    def weighted(
        self,
        objective: Objective,
        generator: torch.Generator,
        rows: Tensor | None = None,
        draws: int | None = None,
    ) -> Weighted:
        """Return draws from the guide with their log weights.

        Args:
            objective: Says how many draws, and how they are differentiated.
            generator: Random generator of the draws.
            rows: ``(R,)`` indices of the rows of a batch; all if not given.
            draws: Instead of the objective's number.
        """
        density, at, counts = self.batch(rows)
        n = objective.num_particles if draws is None else draws
        self.check_draws(n, len(at.rows))
        local = shared = None
        values: dict[Hashable, Tensor] = {}
        if "shared" in self.parts:
            first_row = At(torch.zeros(1, dtype=torch.long), torch.zeros(1, 0))
            shared = self._part("shared").draw(n, first_row, objective, generator)
            values = {k: x.expand(n, len(at.rows), *x.shape[2:]) for k, x in shared.values.items()}
        if "local" in self.parts:
            local = self._local(n, at, objective, generator)
            values = {**values, **local.values}
        settled = frozenset[Hashable]() if local is None else local.settled
        parts = density.log_parts(by_row(values), settled)
        terms = [x.double().reshape(n, -1) for x in parts]
        log_p = terms[0] if len(terms) == 1 else torch.stack(terms).sum(0)
        log_ratios = log_p if local is None else log_p - local.log_q
        if shared is None:
            assert local is not None
            factors = objective.path_factors(log_ratios)
            if factors is not None:
                local.scale_paths(factors)
            layers = local.signals(terms)
            return Weighted(log_ratios, local.log_q, counts, local, None, layers)
        prior = prior_log_density(density.model, {k: x[:, 0] for k, x in shared.values.items()})
        total = prior - shared.log_q[:, 0] + ((log_ratios - prior.unsqueeze(1)) * counts).sum(1)
        log_q = shared.log_q
        factors = objective.path_factors(total.unsqueeze(1))
        if factors is not None:
            shared.scale_paths(factors)
        if local is not None:
            if factors is not None:  # each row enters the total with its weight
                local.scale_paths(1 - counts * (1 - factors))
            log_q = log_q + (local.log_q * counts).sum(1, keepdim=True)
        return Weighted(
            total.unsqueeze(1), log_q, torch.ones(1, dtype=torch.float64), local, shared
        )

    def check_draws(self, n: int, rows: int) -> None:
        """Check the memory of ``n`` draws for each row.

        Raises:
            Intractable: If they take too much.
        """
        variables = self.density.model.variables
        numbers = sum(variables[name].num_elements for name in self.density.latents)
        what = f"{n:,} draws of {numbers:,} numbers for {rows:,} rows"
        check_size(what, n * numbers * rows, advice="Take fewer particles or samples")

    def total(
        self, draws: Weighted, objective: Objective, variates: ControlVariates | None = None
    ) -> Tensor:
        """Return the objective summed over rows, to be differentiated."""
        return (draws.values(objective, variates) * draws.counts).sum()

    def blame(self, draws: Weighted, rows: Tensor | None) -> str:
        """Return a message that names the variable whose log density is not finite."""
        density, at, _ = self.batch(rows)
        if not bool(draws.log_q.detach().isfinite().all()):
            names = ", ".join(map(repr, self.names))
            return f"the log density of {names} under the guide is not finite there"
        values: dict[Hashable, Tensor] = {}
        for drawn in (draws.shared, draws.local):
            for k, x in ({} if drawn is None else drawn.values).items():
                values[k] = x.detach().expand(len(x), len(at.rows), *x.shape[2:])
        return density.blame(by_row(values))

    def _local(self, n: int, at: At, objective: Objective, generator: torch.Generator) -> Drawn:
        """Draw the latents of each row; of plates, those of the rows of the batch."""
        local = self._part("local")
        draws = local.draw(n, at, objective, generator)
        if not self.in_batch or isinstance(local, ProgramDraws):
            return draws
        assert self.batches is not None
        return draws._replace(values=self.batches.values(draws.values))

    @contextlib.contextmanager
    def fitted_parameters(
        self, generator: torch.Generator, anew: bool = True
    ) -> Iterator[list[Tensor]]:
        """Yield the parameters that a query may fit: the guide's, which are restored afterwards.

        Those of a program's own guide are the parameters of the program on which its draws depend
        and its density does not.

        Args:
            generator: Random generator of draws and of initial values.
            anew: Whether those of a program's guide that were never fitted are drawn anew.
        """
        local = self._part("local") if "local" in self.parts else None
        if not isinstance(local, ProgramDraws):
            yield [*self.parts.parameters()]
            return
        model: Any = self.density.model
        parameters = self._parameters_of_draws(local, generator)
        with restored(model):
            if anew:
                model.start_guide(int(generator.initial_seed()))
            try:
                yield parameters
            finally:
                for p in parameters:
                    p.grad = None

    def _parameters_of_draws(self, draws: ProgramDraws, generator: torch.Generator) -> list[Tensor]:
        """The learnable parameters on which draws depend, but not their density by the model."""
        model: Any = self.density.model
        learnable = [p for p in model.parameters() if p.requires_grad]
        if not learnable:
            return []
        _, at, _ = self.batch(None)
        with torch.enable_grad():
            drawn = draws.draw(1, at, Elbo(), generator)
            total = drawn.log_q.sum()
            for x in drawn.values.values():
                total = total + (x.sum() if x.is_floating_point() else 0.0)
            values = {n: x.detach() for n, x in drawn.values.items()}
            density = self.density.log_density(by_row(values)).sum()
        return [p for p in learnable if _depends(total, p) and not _depends(density, p)]

    def _part(self, name: str) -> GuideDraws:
        part = self.parts[name]
        assert isinstance(part, GuideDraws)
        return part


def _own_draws(
    density: SummedDensity, guide: Guide | None, shared: tuple[Hashable, ...]
) -> GuideDraws | None:
    """Draws by the guide or recognition that the model has; None if a family is to be fitted."""
    model: Any = density.model
    if guide is None and isinstance(model, ExecutableModel) and model.guide is not None:
        return ProgramDraws(model, known_values(model, density.observed))
    if isinstance(density, UnitDensity):
        if guide is not None or shared:
            raise Unsupported(
                f"the hidden units of a {type(model).__name__} are recognised by its own network",
                "leave guide and shared out",
            )
        return UnitDraws(model)
    if guide is None and isinstance(model, AmortisedModel) and not shared:
        density.observed.check_rows()
        return RecognitionDraws(model, density.latents)
    return None


def _approximations(
    density: SummedDensity, guide: Guide, shared: tuple[Hashable, ...]
) -> dict[str, GuideDraws]:
    """A family's members for the latents of each row, and for those that all rows share."""
    model, latents = density.model, density.latents
    for name in shared:
        if name not in latents:
            raise EvidenceError(f"shared names {name!r}, which is not a latent real variable")
    if not latents:
        raise Unsupported(
            "there is no latent real variable, so that there is nothing to approximate",
            "use JunctionTree() to answer, MaximumLikelihood() or Gradient() to learn",
        )
    order = [v for v in parents_first(model) if v.name in latents]
    supports = supports_of(model, order, known_values(model, density.observed), density.inputs)
    shared_guide = MeanFieldNormal() if isinstance(guide, Amortised) else guide
    parts: dict[str, GuideDraws] = {}
    for key, variables, family, rows in (
        ("local", [v for v in order if v.name not in shared], guide, density.observed.num_rows),
        ("shared", [v for v in order if v.name in shared], shared_guide, 1),
    ):
        if variables:
            known = Coordinates(variables, supports, keep_dtype=True)
            parts[key] = ApproximationDraws(known, family.start(rows, known.size))
    return parts


def _depends(value: Tensor, parameter: Tensor) -> bool:
    """Whether a value is differentiable by a parameter."""
    if not value.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(value, parameter, retain_graph=True, allow_unused=True)
    return gradient is not None


def make_generator(seed: int | None) -> torch.Generator:
    """Return a generator whose state depends on the seed alone."""
    generator = torch.Generator()
    generator.manual_seed(int(np.random.default_rng(seed).integers(2**62)))
    return generator


def prior_log_density(model: Any, values: Mapping[Hashable, Tensor]) -> Tensor:
    """Return ``(S,)`` joint log densities of variables whose parents are among them.

    Args:
        model: A directed model.
        values: ``(S, *shape)`` draws of the variables.

    Raises:
        Unsupported: If the model has no conditionals.
        ModelError: If one of the variables depends on another variable, or on inputs.
    """
    if not isinstance(model, DirectedModel):
        raise Unsupported(
            "shared latents are those of directed graphs",
            "in a program declare what differs by row in a plate, and everything else outside "
            "of it",
        )
    total = torch.zeros((), dtype=torch.float64)
    for name, value in values.items():
        conditional = model.conditionals[name]
        unshared = [v.name for v in conditional.parents if v.name not in values] + list(
            conditional.inputs
        )
        if unshared:
            raise ModelError(
                f"{name!r} is to be shared by all rows but depends on {unshared[0]!r}, which is not"
            )
        parents = {v.name: values[v.name] for v in conditional.parents}
        total = total + conditional.distribution(parents).log_prob(value)
    return total.double()


def features_of(density: SummedDensity) -> Tensor:
    """Return ``(B, F)`` the evidence as features: reals, indicators of states, inputs."""
    observed, model, rows = density.observed, density.model, density.observed.num_rows
    parts = [torch.zeros(rows, 0, dtype=torch.float64)]
    latent = set(density.latents)
    for n in model.variables:
        if n in observed.reals and n not in latent:
            parts.append(observed.reals[n].reshape(rows, -1).nan_to_num().double())
    for e in np.flatnonzero((observed.codes >= 0).any(axis=0)):
        codes = torch.from_numpy(observed.codes[:, e].astype(np.int64))
        parts.append((codes.unsqueeze(1) == torch.arange(int(model.elements.card[e]))).double())
    parts += [torch.as_tensor(x).reshape(rows, -1).double() for x in density.inputs.values()]
    return torch.cat(parts, dim=1)


def by_row(values: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
    """Return values ``(S, B, *shape)`` as those of ``S B`` points."""
    return {n: x.flatten(end_dim=1) for n, x in values.items()}
