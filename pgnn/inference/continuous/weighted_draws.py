"""Draws from a guide with their log weights."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from pgnn.inference.continuous.guide_draws import Drawn
from pgnn.inference.continuous.objective import Objective, surrogate
from pgnn.inference.learning.control_variates import ControlVariates, Signal


class Weighted(NamedTuple):
    r"""Weighted draws.

    Attributes:
        log_weights: ``(S, G)``, one column per row; a single column if rows share latents.
        log_q: ``(S, G)`` log densities of the draws.
        counts: ``(G,)`` weight of each column in the total.
        local: Draws of the latents of each row.
        shared: Draws of the latents shared by all rows.
        layers: Learning signals of layers that are drawn in sequence.
    """

    log_weights: Tensor
    log_q: Tensor
    counts: Tensor
    local: Drawn | None
    shared: Drawn | None
    layers: tuple[Signal, ...] = ()

    @property
    def pathwise(self) -> bool:
        """Whether all draws are reparameterised."""
        return all(d.pathwise for d in (self.local, self.shared) if d is not None)

    def values(self, objective: Objective, variates: ControlVariates | None = None) -> Tensor:
        """Return the objective of each column, ``(G,)``, for differentiation."""
        if self.pathwise:
            return objective.combine(self.log_weights)
        signals = self.layers if objective.is_mean else ()
        if not signals:
            given = self.layers[0].given if self.layers else None
            signals = (Signal(self.log_weights, self.log_q, given),)
        return surrogate(objective, self.log_weights, signals, variates)
