"""Expectations of latent factor models with missing values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs, LatentFactorModel
from pgnn.errors import DataError, ModelError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import LEAST_COUNT
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.gaussians.latent_factors import FactorPosterior, blocks, factor_posterior
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, learnable
from pgnn.inference.learning.extrapolation import Unit
from pgnn.inference.learning.training_data import read_rows

_OWN = "rows of loadings"
"""Name of the statistics."""
_NOISE = 0.3
"""Standard deviation of the noise that is added to the factors of a random start."""


class FactorEStep(EStep[RowEvidence]):
    r"""Expectations of a vector that depends linearly on hidden factors.

    Each component of the vector is a regression on the factors, estimated from the rows that
    observe it: missing values need no expectation.

    Args:
        model: The model.

    References:
        Rubin and Thayer (1982), EM algorithms for ML factor analysis. Ghahramani and Jordan (1994),
        Learning from incomplete data, section 4.
    """

    model: LatentFactorModel

    @cached_property
    def pieces(self) -> dict[Hashable, Conditional]:
        """The vector's conditional, if it is learnable."""
        return learnable({self.model.vector: self.model.conditionals[self.model.vector]})

    @property
    def _conditional(self) -> LinearGaussian:
        conditional: Any = self.model.conditionals[self.model.vector]
        regression: LinearGaussian = conditional
        return regression

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> RowEvidence:
        """Read rows.

        Raises:
            DataError: If a column is completely missing, or factors were observed.
        """
        observed = read_rows(self.model, data, weights, inputs)
        if self.model.latent in observed.reals:
            raise DataError(
                f"{self.model.latent!r} was observed: EM() learns from {self.model.vector!r} alone"
            )
        x = observed.reals.get(self.model.vector)
        if x is None:
            raise DataError(f"{self.model.vector!r} was not observed in any row")
        empty = x.isnan().all(dim=0).nonzero()[:, 0].tolist()
        if empty:
            names = [self.model.columns[k] if self.model.columns else k for k in empty[:5]]
            raise DataError(
                f"no row observes the components {names} of {self.model.vector!r}", "leave them out"
            )
        return observed

    def expect(self, observed: RowEvidence) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`."""
        x = observed.reals[self.model.vector].double()
        weights = torch.from_numpy(observed.row_weights)
        origin = self._origin(observed)
        sums: Any = 0
        total = 0.0
        for rows in blocks(x, self._conditional.num_features + 1):
            posterior = self._posterior(x[rows])
            total += float(weights[rows] @ posterior.log_density)
            parts = _sums(x[rows] - origin, weights[rows], posterior)
            sums = parts if sums == 0 else tuple(a + b for a, b in zip(sums, parts, strict=True))
        return ExpectedStatistics(total, float(weights.sum()), {_OWN: sums})

    def improve(
        self, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
    ) -> list[Hashable]:
        """Set loadings, means and noise to their estimates, each component separately."""
        if priors:
            raise ModelError("EM() of factors does not support priors", "leave out prior=")
        count, zz, yz, yy = expected.sums[_OWN]
        conditional = self._conditional
        k = conditional.num_features
        origin = self._known_origin
        known = count > LEAST_COUNT
        with torch.no_grad():
            old = torch.cat(
                [conditional.weight, (conditional.bias - origin).unsqueeze(1)], dim=1
            ).double()
            free = [conditional.weight.requires_grad] * k + [conditional.bias.requires_grad]
            mask = torch.tensor(free)
            new = old.clone()
            if bool(mask.any()):
                target = yz[:, mask] - torch.einsum(
                    "df,dfg->dg", old[:, ~mask], zz[:, ~mask][..., mask]
                )
                solved = torch.linalg.lstsq(zz[:, mask][..., mask], target.unsqueeze(-1)).solution
                new[:, mask] = solved.squeeze(-1)
                new = torch.where(known.unsqueeze(1), new, old)
                conditional.weight.copy_(new[:, :k])
                conditional.bias.copy_(new[:, k] + origin)
            if conditional.scale.requires_grad:
                self._set_noise(count, zz, yz, yy, new)
        return []

    def _set_noise(
        self, count: Tensor, zz: Tensor, yz: Tensor, yy: Tensor, coefficients: Tensor
    ) -> None:
        conditional = self._conditional
        fitted = torch.einsum("df,dfg,dg->d", coefficients, zz, coefficients)
        squares = yy - 2.0 * (coefficients * yz).sum(dim=1) + fitted
        each = count.clamp_min(LEAST_COUNT)
        floor = conditional.form.floor((yy / each - (yz[:, -1] / each).square()).clamp_min(0.0))
        if conditional.form.shared:
            natural = (squares.sum() / count.sum()).maximum(floor.mean())
        else:
            before = conditional.form.constrain(conditional.scale.double(), conditional.size)
            natural = torch.where(count > LEAST_COUNT, (squares / each).maximum(floor), before)
        conditional.scale.copy_(
            conditional.form.unconstrain(natural).reshape(conditional.scale.shape)
        )

    def log_partition(self, observed: RowEvidence) -> Tensor:
        """Return ``(B,)`` log densities of the observations."""
        x = observed.reals[self.model.vector].double()
        parts = [
            self._posterior(x[rows]).log_density
            for rows in blocks(x, self._conditional.num_features)
        ]
        return torch.cat(parts)

    def symmetric(self, observed: RowEvidence) -> bool:
        """Whether the vector does not depend on the factors yet."""
        conditional = self._conditional
        return conditional.weight.requires_grad and not bool(conditional.weight.detach().any())

    def initialize(self, observed: RowEvidence, seed: int, at_random: bool) -> None:
        """Initialise by principal components as factors, with missing values replaced by means."""
        x, conditional = observed.reals[self.model.vector].double(), self._conditional
        generator = torch.Generator().manual_seed(seed)
        weights = torch.from_numpy(observed.row_weights)
        error = (x - self._origin(observed)).nan_to_num(nan=0.0)
        deviation = error.square().mean(dim=0).sqrt()
        scaled = error / deviation.masked_fill(deviation == 0, 1.0)
        left, _, _ = torch.linalg.svd(scaled, full_matrices=False)
        z = torch.zeros(len(x), conditional.num_features, dtype=torch.float64)
        z[:, : left.shape[1]] = left[:, : conditional.num_features] * len(x) ** 0.5
        noise = torch.randn(z.shape, generator=generator, dtype=torch.float64)
        z += (3.0 * _NOISE if at_random else 0.0) * noise
        z[:, left.shape[1] :] = noise[:, left.shape[1] :]
        spread = _NOISE**2 * torch.eye(conditional.num_features, dtype=torch.float64).unsqueeze(0)
        posterior = FactorPosterior(z, spread, weights)
        sums = _sums(x - self._origin(observed), weights, posterior)
        self.improve(ExpectedStatistics(0.0, 0.0, {_OWN: sums}), {})

    def _posterior(self, x: Tensor) -> FactorPosterior:
        conditional = self._conditional
        with torch.no_grad():
            variance = conditional.covariance.double().diagonal()
            return factor_posterior(
                x, conditional.weight.double(), conditional.bias.double(), variance
            )

    def unit_of(self, parameter: Tensor) -> Unit:
        """Return means and deviations of the columns, in which parameters are measured."""
        conditional = self._conditional
        if parameter is conditional.weight:
            return Unit(0.0, self._deviations.unsqueeze(1))
        if parameter is conditional.bias:
            return Unit(self._known_origin, self._deviations)
        logs = self._deviations.log()
        return Unit(logs.mean() if conditional.form.shared else logs)

    def unit_free(self, value: float) -> float:
        """Return the log-likelihood of the standardised columns."""
        return value + self._log_units

    _known_origin: Tensor
    _deviations: Tensor
    _log_units: float

    def _origin(self, observed: RowEvidence) -> Tensor:
        """``(D,)`` a point near the rows, for accuracy; the same for all batches."""
        if "_known_origin" not in vars(self):
            x = observed.reals[self.model.vector].double()
            self._known_origin = x.nanmean(dim=0).nan_to_num()
            squares = (x - self._known_origin).square().nanmean(dim=0).nan_to_num()
            self._deviations = squares.sqrt().where(squares > 0, 1.0)
            seen = torch.from_numpy(observed.row_weights) @ (~x.isnan()).double()
            self._log_units = float(seen @ self._deviations.log())
        return self._known_origin


def _sums(x: Tensor, weights: Tensor, posterior: FactorPosterior) -> tuple[Tensor, ...]:
    """Counts ``(D,)``, and for each component sums of products with the factors and a constant."""
    hole = x.isnan()
    counted = (~hole).double() * weights.unsqueeze(1)
    error = x.nan_to_num(nan=0.0)
    z = torch.cat([posterior.mean, torch.ones_like(posterior.mean[:, :1])], dim=1)
    second = z.unsqueeze(2) * z.unsqueeze(1)
    second[:, :-1, :-1] += posterior.covariance
    size = z.shape[1]
    zz = (counted.T @ second.reshape(len(z), size * size)).reshape(-1, size, size)
    yz = (counted * error).T @ z
    return counted.sum(dim=0), zz, yz, (counted * error.square()).sum(dim=0)
