"""Deep Boltzmann machines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import DataError, ModelError
from pgnn.models.energy_model import EnergyModel
from pgnn.models.unit_declaration import layer_of

_STEPS, _TOLERANCE = 200, 1e-8


class DeepBoltzmannMachine(EnergyModel):
    r"""Deep Boltzmann machine: visible units and several hidden layers, coupled layer by layer.

    .. math:: E(v, h) = -v^\top W_1 h_1 - \sum_k h_k^\top W_{k+1} h_{k+1} - b^\top v
        - \sum_k c_k^\top h_k

    Hidden layers are coupled, so that their posterior is approximated by mean field, which gives a
    lower bound on the log probability of rows (:meth:`score_bound`).
    :class:`~pgnn.ContrastiveDivergence` uses mean field for the data and persistent block Gibbs
    chains for the model.

    Args:
        visible: Number of units, the shape of their array, or a variable of discrete states.
        hidden: The same for each hidden layer, from below.
        temperature: ``T``.

    Raises:
        ModelError: If there is no hidden layer, or a layer is invalid.

    References:
        Salakhutdinov and Hinton (2009), Deep Boltzmann machines.

    Example:
        >>> import math
        >>> model = DeepBoltzmannMachine(4, [3, 2])
        >>> list(model.variables), round(model.log_partition().item() / math.log(2), 6)
        (['visible', 'hidden1', 'hidden2'], 9.0)
    """

    def __init__(self, visible: Any, hidden: Sequence[Any], *, temperature: float = 1.0) -> None:
        if isinstance(hidden, str) or not isinstance(hidden, Sequence) or not hidden:
            raise ModelError(
                f"hidden must be a list of layers, such as [500, 1000], got {hidden!r}"
            )
        layers = [layer_of("visible", visible)]
        layers += [layer_of(f"hidden{k + 1}", h) for k, h in enumerate(hidden)]
        names = [v.name for v in layers]
        super().__init__(
            layers,
            [(a, b, None) for a, b in pairwise(names)],
            visible=names[:1],
            temperature=temperature,
        )

    def declaration(self) -> dict[str, Any]:
        """Return the layers and the temperature."""
        below, *above = self.variables.values()
        return {"visible": below, "hidden": tuple(above), "temperature": self.temperature}

    def score_bound(self, data: Any) -> Tensor:
        r"""Return ``(N,)`` lower bounds on :meth:`log_score` by mean field.

        .. math:: \log \sum_h e^{-E(v, h) / T} \ge \mathrm{E}_q[-E(v, h) / T] + H(q)

        Args:
            data: Complete rows of the visible units.

        Raises:
            DataError: If units are missing.
        """
        from pgnn.inference.learning.unit_rows import read_unit_rows

        with torch.no_grad():
            layers = self.layers()
            rows = read_unit_rows(self, data)
            if rows.missing:
                raise DataError("bounds need complete rows", "log_score() sums out missing units")
            q, _ = layers.mean_field(
                rows.values, list(self.hidden), steps=_STEPS, tolerance=_TOLERANCE
            )
            total = layers.log_score(q)
            for name in self.hidden:
                field = layers.field(name, q)
                entropy = layers.kinds[name].log_normaliser(field) - (field * q[name]).sum(-1)
                total = total + entropy
            return total
