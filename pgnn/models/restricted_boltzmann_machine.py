"""Restricted Boltzmann machines: visible units joined to hidden ones alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pgnn.errors import ModelError
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
    :meth:`log_partition_bracket` tells between what it lies. Learnt by
    :class:`~pgnn.ContrastiveDivergence`.

    Args:
        visible: Number of units, the shape of their array, or a variable.
        hidden: The same of the hidden units.
        labels: A variable such as ``Variable("label", 10)``, if rows have labels.
        weight: ``(n d, m e)`` couplings; learnable if not given. What is given is a constant.
        visible_bias: ``(n d,)``, likewise.
        hidden_bias: ``(m e,)``, likewise.
        temperature: ``T``.
        variance: :math:`s^2` of real visible units.

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
        variance: Any = 1.0,
    ) -> None:
        seen, unseen = layer_of("visible", visible), layer_of("hidden", hidden)
        if not unseen.is_discrete:
            raise ModelError(f"the hidden units {unseen.name!r} must be discrete")
        layers, couplings = [seen, unseen], [(seen.name, unseen.name, weight)]
        if labels is not None:
            told = layer_of("label", labels)
            layers.insert(1, told)
            couplings.append((told.name, unseen.name, None))
        super().__init__(
            layers,
            couplings,
            {seen.name: visible_bias, unseen.name: hidden_bias},
            [v.name for v in layers if v is not unseen],
            temperature=temperature,
            variance=variance,
        )
        self._shape = {"visible": seen, "hidden": unseen, "labels": labels and layers[1]}

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
            data: As evidence; or ``(N, n)`` values of the visible units as a tensor of floats,
                which are taken as they are.
        """
        name = self.hidden[0]
        if isinstance(data, Tensor) and data.is_floating_point():
            state = {self.visible[0]: data.flatten(start_dim=1)}
            if len(self.visible) > 1:
                label = self.layers().size(self.visible[1])
                state[self.visible[1]] = data.new_zeros(len(data), label)
            return self.layers().mean(name, state)
        probs = self.query(name, data).probs(name)
        kind, axes = self.layers().kinds[name], len(self.variable(name).shape) + 1
        means = probs @ kind.table(probs)
        return means.flatten(start_dim=means.dim() - axes)
