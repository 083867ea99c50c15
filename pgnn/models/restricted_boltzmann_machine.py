"""Restricted Boltzmann machines."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.units.unit_layers import UnitLayers
from pgnn.factors.variable import Variable
from pgnn.models.energy_model import EnergyModel
from pgnn.models.unit_declaration import layer_of


class RestrictedBoltzmannMachine(EnergyModel):
    r"""Restricted Boltzmann machine: a bipartite field of visible and hidden units.

    .. math:: E(v, h) = -v^\top W h - b^\top v - c^\top h, \qquad
        F(v) = -b^\top v - \sum_j \log(1 + e^{c_j + W_{\cdot j}^\top v})

    The hidden units are conditionally independent given the visible ones, and vice versa. Visible
    units are binary, spins, categorical (one feature per state), or real with the energy
    :math:`(v_i - b_i)^2 / 2 s_i^2 - v_i (W h)_i / s_i^2`. Labels are additional visible units:
    ``model.query("label", {"visible": x})`` classifies exactly.

    :math:`\log Z` is exact up to 25 units in the smaller layer; beyond that
    :meth:`log_partition_bracket` gives stochastic bounds. Learned by
    :class:`~pgnn.ContrastiveDivergence`.

    Args:
        visible: Number of units, the shape of their array, or a variable.
        hidden: The same for the hidden units.
        labels: Number of labels, or the labels, if rows are labelled; or a variable such as
            ``Variable("label", 10)``.
        weight: ``(n d, m e)`` couplings; learnable if not given. Given values are constants.
        visible_bias: ``(n d,)`` biases, likewise.
        hidden_bias: ``(m e,)`` biases, likewise.
        temperature: ``T``.
        variance: :math:`s^2` of real visible units, 1 if not given.

    Raises:
        ModelError: If a shape or value is invalid, or the temperature is not positive.

    References:
        Smolensky (1986), Information processing in dynamical systems. Hinton (2012), A practical
        guide to training restricted Boltzmann machines. Larochelle and Bengio (2008),
        Classification using discriminative restricted Boltzmann machines.

    Example:
        >>> model = RestrictedBoltzmannMachine(3, 2, weight=[[1, 0], [0, 1], [1, 1]],
        ...                                    visible_bias=[0, 0, 0], hidden_bias=[0, 0])
        >>> [round(p, 4) for p in model.hidden_means({"visible": [[1, 0, 1]]})[0].tolist()]
        [0.8808, 0.7311]
        >>> round(float(model.log_prob({"visible": [1, 0, 1]})), 4)
        -1.7488
    """

    def __init__(
        self,
        visible: Any,
        hidden: Any,
        *,
        labels: Any = None,
        weight: Any = None,
        visible_bias: Any = None,
        hidden_bias: Any = None,
        temperature: float = 1.0,
        variance: Any = None,
    ) -> None:
        below, above = layer_of("visible", visible), layer_of("hidden", hidden)
        label = None if labels is None else _label_of(labels)
        if not above.is_discrete:
            raise ModelError(f"the hidden units {above.name!r} must be discrete")
        observed = [below] if label is None else [below, label]
        super().__init__(
            [*observed, above],
            [(v.name, above.name, weight if v is below else None) for v in observed],
            {below.name: visible_bias, above.name: hidden_bias},
            [v.name for v in observed],
            temperature=temperature,
            variance=variance,
        )
        self._shape = {"visible": below, "hidden": above, "labels": label}

    def declaration(self) -> dict[str, Any]:
        """Return the layers, the temperature and the variance."""
        variance = {} if self.real is None else {"variance": self.real.variance.cpu().numpy()}
        return {**self._shape, "temperature": self.temperature, **variance}

    def free_energy(self, data: Any) -> Tensor:
        r"""Return ``(N,)`` values of :math:`F(v) = -T \log \sum_h e^{-E(v, h) / T}`.

        Args:
            data: As evidence in :meth:`query`; missing units are summed out.
        """
        return self.energy(data)

    def hidden_means(self, data: Any) -> Tensor:
        """Return ``(N, m e)`` expected hidden units given rows, as features.

        Args:
            data: As evidence, with missing units summed out; or complete ``(N, n)`` floats, such as
                means of units, which are used directly.
        """
        name, layers = self.hidden[0], self.layers()
        visible = self._floats(data, layers)
        if visible is not None:
            self._check_numbers()
            rest = {n: visible.new_zeros(len(visible), layers.size(n)) for n in self.visible[1:]}
            return layers.mean(name, {self.visible[0]: visible, **rest})
        probs = self.query(name, data).probs(name)
        kind, axes = layers.kinds[name], len(self.variable(name).shape) + 1
        means = probs @ kind.table(probs)
        return means.flatten(start_dim=means.dim() - axes)

    def _floats(self, data: Any, layers: UnitLayers) -> Tensor | None:
        """Return features ``(N, n d)`` of the visible units if data are floats, otherwise None."""
        if not isinstance(data, Tensor | np.ndarray) or data.ndim < 2 or np.ma.is_masked(data):
            return None
        x = torch.as_tensor(data) if isinstance(data, Tensor) or data.dtype.kind == "f" else None
        if x is None or not x.is_floating_point() or not bool(x.isfinite().all()):
            return None
        width = layers.size(self.visible[0])
        return x.reshape(-1, width).to(layers.like) if x[0:1].numel() in (0, width) else None


def _label_of(labels: Any) -> Variable:
    """Return a unit with one state per label."""
    return labels if isinstance(labels, Variable) else Variable("label", labels)
