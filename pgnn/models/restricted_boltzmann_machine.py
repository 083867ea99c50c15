"""Restricted Boltzmann machines: visible units joined to hidden ones alone."""

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
    r"""Visible and hidden units, each of one joined to each of the other: a product of experts.

    .. math:: E(v, h) = -v^\top W h - b^\top v - c^\top h, \qquad
        F(v) = -b^\top v - \sum_j \log(1 + e^{c_j + W_{\cdot j}^\top v})

    The hidden units are independent given the visible ones, and the other way round. Visible units
    are binary, spins, categories (a variable of more states, each with a feature of its own), or
    real ones, whose energy is :math:`(v_i - b_i)^2 / 2 s_i^2 - v_i (W h)_i / s_i^2`. Labels are
    visible units besides: ``model.query("label", {"visible": x})`` classifies, exactly.

    :math:`\log Z` is exact up to 25 units on the smaller side; beyond that
    :meth:`log_partition_bracket` tells between what it lies. Learned by
    :class:`~pgnn.ContrastiveDivergence`.

    Args:
        visible: Number of units, the shape of their array, or a variable.
        hidden: The same of the hidden units.
        labels: Number of labels, or the labels, if rows have some; or a variable such as
            ``Variable("label", 10)``.
        weight: ``(n d, m e)`` couplings; learnable if not given. What is given is a constant.
        visible_bias: ``(n d,)``, likewise.
        hidden_bias: ``(m e,)``, likewise.
        temperature: ``T``.
        variance: :math:`s^2` of real visible units, 1 if not given.

    Raises:
        ModelError: If a shape or number is wrong, or the temperature is not positive.

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
            data: As evidence in :meth:`query`; what is missing is summed out as well.
        """
        return self.energy(data)

    def hidden_means(self, data: Any) -> Tensor:
        """Return ``(N, m e)`` expected hidden units given complete rows: features of these.

        Args:
            data: As evidence, what is missing is summed out; or ``(N, n)`` floats without holes,
                which are taken as they are, such as means of the units.
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
        """Features ``(N, n d)`` of the visible units as numbers; None if data is something else."""
        if not isinstance(data, Tensor | np.ndarray) or data.ndim < 2:
            return None
        x = torch.as_tensor(data) if isinstance(data, Tensor) or data.dtype.kind == "f" else None
        if x is None or not x.is_floating_point() or not bool(x.isfinite().all()):
            return None
        width = layers.size(self.visible[0])
        return x.reshape(-1, width).to(layers.like) if x[0:1].numel() in (0, width) else None


def _label_of(labels: Any) -> Variable:
    """One unit with a state for each label."""
    return labels if isinstance(labels, Variable) else Variable("label", labels)
