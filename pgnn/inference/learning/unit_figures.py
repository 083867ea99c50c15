"""Figures that monitor the learning of models of units."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.units.unit_kind import GaussianUnits
from pgnn.factors.units.unit_layers import State, UnitLayers
from pgnn.inference.learning.unit_rows import UnitRows

_FEW = 500
"""Number of validation rows that are evaluated."""
_NUMBERS, _RANGE = 121, 8.0
"""Number of grid points for the density of a real unit, and half the width in deviations."""
_REAL_ROWS = 50
"""Number of rows whose densities are evaluated on the grid."""


class UnitFigures:
    """Reconstruction error, pseudo-likelihood and free energy of rows.

    Args:
        model: A model of layers of units.
        rng: Random generator that chooses units for the pseudo-likelihood.
    """

    def __init__(self, model: Any, rng: torch.Generator) -> None:
        self.layers: UnitLayers = model.layers()
        self.visible: tuple[Hashable, ...] = model.visible
        self.hidden = [n for n in self.layers.names if n not in self.visible]
        self.rng = rng

    def of(self, rows: UnitRows, held: UnitRows | None) -> dict[str, float]:
        """Return all figures of training rows, and of held-out rows if any."""
        few = None if held is None else held.take(torch.arange(min(len(held), _FEW)))
        parts = {"": rows} if few is None else {"": rows, "held_out_": few}
        independent = self.layers.are_independent(self.hidden)
        fields = {n: self._fields(x.values) if independent else None for n, x in parts.items()}
        figures = {f"{n}reconstruction_error": self.reconstruction_error(x, fields[n])
                   for n, x in parts.items()}  # fmt: skip
        if not independent or any(x.missing for x in parts.values()):
            return figures
        for name, x in parts.items():
            figures[f"{name}pseudo_likelihood"] = self.pseudo_likelihood(x, fields[name])
        if few is not None:
            gap = self.free_energy(few.values).mean() - self.free_energy(rows.values).mean()
            figures["free_energy_gap"] = float(gap)
        return figures

    def _fields(self, values: Mapping[Hashable, Tensor]) -> State:
        """Return the fields of hidden layers that are not coupled to each other."""
        return {n: self.layers.field(n, values) for n in self.hidden}

    def free_energy(self, values: Mapping[Hashable, Tensor]) -> Tensor:
        """Return ``(N,)`` free energies, at temperature one."""
        return -self.layers.log_sum(values, self.hidden)

    def reconstruction_error(self, rows: UnitRows, fields: State | None = None) -> float:
        """Return the mean squared error of units reconstructed from the hidden units.

        Args:
            rows: The rows.
            fields: Fields of the hidden layers, if they are not coupled to each other.
        """
        state: State = dict(rows.values)
        if fields is None:
            state, _ = self.layers.mean_field(state, self.hidden, steps=1, tolerance=0.0)
        else:
            state |= {n: self.layers.kinds[n].mean(f) for n, f in fields.items()}
        total, count = 0.0, 0
        for n in self.visible:
            gap = self.layers.mean(n, state) - rows.values[n]
            if n in rows.missing:
                gap = gap[~rows.missing[n]]
            total += float(gap.square().sum())
            count += gap.numel()
        return total / max(count, 1)

    def pseudo_likelihood(self, rows: UnitRows, fields: State | None = None) -> float:
        r"""Return the mean of :math:`\log p(v_i \mid v_{-i})` over rows, for one unit per row.

        For real units it is a mean log density.

        Args:
            rows: The rows.
            fields: Fields of the hidden layers, which are not coupled to each other.
        """
        name = self.visible[0]
        kind = self.layers.kinds[name]
        number, units = len(rows), self.layers.size(name) // kind.size
        unit = torch.randint(units, (number,), generator=self.rng, device=self.rng.device)
        if isinstance(kind, GaussianUnits):
            return self._log_density(rows, unit[:_REAL_ROWS], kind.variance)
        row = torch.arange(number, device=unit.device)[:, None]
        column = unit[:, None] * kind.size + torch.arange(kind.size, device=unit.device)
        table = kind.table(self.layers.like)
        known = self.layers.without(self.hidden)
        fields = self._fields(rows.values) if fields is None else fields
        current, pulls = rows.values[name][row, column], {}
        for n in self.hidden:
            matrix = self.layers.between(name, n)
            pulls[n] = None if matrix is None else matrix[column]
        scores = []
        for features in table:
            changed = rows.values[name].clone()
            changed[row, column] = features
            score = known.log_score({**rows.values, name: changed})
            for n, pull in pulls.items():  # a unit contributes its row of the matrix to a field
                field = fields[n]
                if pull is not None:
                    field = field + torch.einsum("rd,rdh->rh", features - current, pull)
                score = score + self.layers.kinds[n].log_normaliser(field)
            scores.append(score)
        logs = torch.stack(scores, dim=1).log_softmax(1)
        state = (current[:, None] - table).abs().sum(-1).argmin(1)
        return float(logs[row[:, 0], state].mean())

    def _log_density(self, rows: UnitRows, unit: Tensor, variance: Tensor) -> float:
        """Return the same for real units, by summation over a grid of values."""
        name = self.visible[0]
        some = {n: v[: len(unit)] for n, v in rows.values.items()}
        spread = rows.values[name].std(0, unbiased=False)[unit] + variance[unit].sqrt()
        step = 2 * _RANGE * spread / (_NUMBERS - 1)
        first = rows.values[name].mean(0)[unit] - _RANGE * spread
        scores = []
        for k in range(_NUMBERS):
            changed = some[name].clone()
            changed[torch.arange(len(unit)), unit] = first + k * step
            scores.append(-self.free_energy({**some, name: changed}))
        total = torch.stack(scores, 1).logsumexp(1) + step.log()
        return float((-self.free_energy(some) - total).mean())
