"""Figures by which the learning of a model of units is followed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.units.unit_kind import CategoricalUnits, GaussianUnits, SpinUnits
from pgnn.factors.units.unit_layers import State, UnitLayers
from pgnn.inference.learning.unit_rows import UnitRows


class UnitFigures:
    """Reconstruction error, pseudo-likelihood and free energy of rows.

    Args:
        model: A model of layers of units.
        rng: Chooses the units whose pseudo-likelihood is taken.
    """

    def __init__(self, model: Any, rng: torch.Generator) -> None:
        self.layers: UnitLayers = model.layers()
        self.visible: tuple[Hashable, ...] = model.visible
        self.hidden = [n for n in self.layers.names if n not in self.visible]
        self.rng = rng

    def of(self, rows: UnitRows, held: UnitRows | None) -> dict[str, float]:
        """Return all figures of learnt rows, and of rows set apart if there are any."""
        told = {"reconstruction_error": self.reconstruction_error(rows)}
        if not self.layers.are_independent(self.hidden) or rows.missing:
            return told
        told["pseudo_likelihood"] = self.pseudo_likelihood(rows)
        if held is not None and not held.missing:
            few = held.take(torch.arange(min(len(held), 500)))
            gap = self.free_energy(few.values).mean() - self.free_energy(rows.values).mean()
            told["free_energy_gap"] = float(gap)
            told["held_out_pseudo_likelihood"] = self.pseudo_likelihood(few)
        return told

    def free_energy(self, values: Mapping[Hashable, Tensor]) -> Tensor:
        """Return ``(N,)`` free energies, at temperature one."""
        return -self.layers.log_sum(values, self.hidden)

    def reconstruction_error(self, rows: UnitRows) -> float:
        """Return the mean square between units and what the hidden ones expect of them."""
        state: State = dict(rows.values)
        state, _ = self.layers.mean_field(state, self.hidden, steps=1, tolerance=0.0)
        total, count = 0.0, 0
        for n in self.visible:
            gap = self.layers.mean(n, state) - rows.values[n]
            if n in rows.missing:
                gap = gap[~rows.missing[n]]
            total += float(gap.square().sum())
            count += gap.numel()
        return total / max(count, 1)

    def pseudo_likelihood(self, rows: UnitRows) -> float:
        r"""Return a mean of :math:`\log p(v_i \mid v_{-i})` over rows, of one unit each.

        Of real units it is a mean log density.
        """
        name = self.visible[0]
        kind, size = self.layers.kinds[name], self.layers.size(name) // self.layers.kinds[name].size
        number = len(rows)
        place = torch.randint(size, (number,), generator=self.rng, device=self.rng.device)
        each = torch.arange(number, device=place.device)
        if isinstance(kind, GaussianUnits):
            return self._real(rows, place, each)
        scores = []
        at = place[:, None] * kind.size + torch.arange(kind.size, device=place.device)
        for features in kind.table(self.layers.like):
            changed = rows.values[name].clone()
            changed[each[:, None], at] = features
            scores.append(-self.free_energy({**rows.values, name: changed}))
        logs = torch.stack(scores, dim=1).log_softmax(1)
        own = rows.values[name][each[:, None], at]
        if isinstance(kind, CategoricalUnits):
            code = own.argmax(1)
        else:
            code = (own[:, 0] > (0.0 if isinstance(kind, SpinUnits) else 0.5)).long()
        return float(logs[each, code].mean())

    def _real(self, rows: UnitRows, place: Tensor, each: Tensor) -> float:
        """By a grid of values of the one unit, from its own scale."""
        name = self.visible[0]
        values = rows.values[name]
        spread = values.std().clamp(min=1e-6)
        grid = torch.linspace(-6, 6, 121, dtype=values.dtype, device=values.device) * spread
        grid = grid + values.mean()
        few = slice(0, 50)
        scores = []
        for x in grid:
            changed = values[few].clone()
            changed[each[few], place[few]] = x
            part = {n: v[few] for n, v in rows.values.items()}
            scores.append(-self.free_energy({**part, name: changed}))
        total = torch.stack(scores, 1).logsumexp(1) + (grid[1] - grid[0]).log()
        own = -self.free_energy({n: v[few] for n, v in rows.values.items()})
        return float((own - total).mean())
