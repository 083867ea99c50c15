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
        log_weights: ``(S, G)``, a column for each row; one for all rows if they share latents.
        log_q: ``(S, G)`` log densities of the draws.
        counts: ``(G,)`` weight of each column in the total.
        local: Draws of the latents of each row.
        shared: Draws of the latents that rows share.
        layers: Learning signals of layers that were drawn one after the other.
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
        """Return the objective of each column, ``(G,)``, to be differentiated."""
        if self.pathwise:
            return objective.combine(self.log_weights)
        signals = self.layers if objective.is_mean else ()
        if not signals:
            given = self.layers[0].given if self.layers else None
            signals = (Signal(self.log_weights, self.log_q, given),)
        return surrogate(objective, self.log_weights, signals, variates)
