"""Boltzmann machines."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.variable import Variable
from pgnn.models.energy_model import EnergyModel
from pgnn.models.unit_declaration import layer_of


class BoltzmannMachine(EnergyModel):
    r"""Boltzmann machine: fully connected visible and hidden units.

    .. math:: p(x) = \frac{1}{Z} e^{-E(x) / T}, \qquad
        E(x) = -\tfrac12 x^\top W x - b^\top x, \qquad
        p(x_i = 1 \mid x_{-i}) = \sigma\bigl((W_{i\cdot} x + b_i) / T\bigr)

    with symmetric :math:`W` and zeros on its diagonal, over units 0 and 1; for units -1 and 1 the
    argument of :math:`\sigma` is twice that. The gradient is the difference of correlations
    :math:`\langle x x^\top \rangle` with the visible units clamped and free: exact for few units
    (``Gradient(engine=BlockElimination())``, then the default learner), otherwise estimated by
    Markov chains (:class:`~pgnn.ContrastiveDivergence`).

    Args:
        visible: Number of visible units, the shape of their array, or a variable of two states.
        hidden: The same for hidden units; none if not given.
        weight: ``(n, n)`` symmetric couplings of all units, visible ones first; learnable if not
            given. Given values are constants.
        bias: ``(n,)`` biases of all units, likewise.
        temperature: ``T``.
        states: Labels of the two states, if no variable is given; ``(-1, 1)`` for spins.

    Raises:
        ModelError: If the couplings are not symmetric or couple a unit to itself, a shape is wrong,
            or the temperature is not positive.

    References:
        Ackley, Hinton and Sejnowski (1985), A learning algorithm for Boltzmann machines.

    Example:
        >>> import math
        >>> pair = BoltzmannMachine(2, weight=[[0.0, 1.0], [1.0, 0.0]], bias=[0.0, 0.0])
        >>> round(float(pair.log_partition()), 6) == round(math.log(3 + math.e), 6)
        True
        >>> round(float(pair.log_prob({"visible": [1, 1]}).exp()), 4)
        0.4754
    """

    def __init__(
        self,
        visible: Any,
        hidden: Any = None,
        *,
        weight: Any = None,
        bias: Any = None,
        temperature: float = 1.0,
        states: Any = 2,
    ) -> None:
        observed = layer_of("visible", visible, states)
        layers = [observed] if hidden is None or hidden == 0 else [
            observed, layer_of("hidden", hidden, states)]  # fmt: skip
        super().__init__(
            layers, *blocks_of(layers, weight, bias), [observed.name], temperature=temperature
        )

    def declaration(self) -> dict[str, Any]:
        """Return the layers and the temperature."""
        observed, *rest = self.variables.values()
        return {
            "visible": observed,
            "hidden": rest[0] if rest else None,
            "temperature": self.temperature,
        }

    @property
    def biases(self) -> Tensor:
        """``(n,)`` biases of all units."""
        return torch.cat([self.bias(n) for n in self.variables])

    # --- other parametrisations of the energy
    # --------------------------------------------------------

    @classmethod
    def from_full_sum(cls, coupling: Any, bias: Any = None, **settings: Any) -> Self:
        r"""Create a machine from :math:`E(x) = -x^\top U x - b^\top x` (each pair twice).

        Its conditional is :math:`\sigma(2 a + b)` with :math:`a = U_{i\cdot} x` for symmetric U.
        The diagonal is a bias for units 0 and 1, and a constant for spins.

        Args:
            coupling: ``(n, n)`` matrix U, not necessarily symmetric.
            bias: ``(n,)``; zero if not given.
            settings: See the class: ``visible``, ``hidden``, ``temperature``, ``states``.
        """
        u = read_numbers("the couplings", coupling)
        if u.ndim != 2 or u.shape[0] != u.shape[1]:
            raise ModelError(f"the couplings must have the shape (n, n), got {u.shape}")
        b = np.zeros(len(u)) if bias is None else read_numbers("the bias", bias)
        diagonal = np.diag(u)
        settings.setdefault("visible", len(u))
        layer = layer_of("visible", settings["visible"], settings.get("states", 2))
        if layer.states != (-1, 1):
            b = b + diagonal
        return cls(weight=u + u.T - 2 * np.diag(diagonal), bias=b, **settings)

    @classmethod
    def from_pairs(cls, coupling: Any, bias: Any = None, **settings: Any) -> Self:
        r"""Create a machine from :math:`E(x) = -\sum_{i < j} w_{ij} x_i x_j - b^\top x`.

        Its conditional is :math:`\sigma(a + b)`, the one of this class.

        Args:
            coupling: ``(n, n)`` matrix, whose entries above the diagonal are used.
            bias: ``(n,)``; zero if not given.
            settings: See the class.
        """
        upper = np.triu(read_numbers("the couplings", coupling), 1)
        settings.setdefault("visible", len(upper))
        b = np.zeros(len(upper)) if bias is None else bias
        return cls(weight=upper + upper.T, bias=b, **settings)

    def as_spins(self) -> BoltzmannMachine:
        r"""Return the equivalent machine over units -1 and 1, :math:`x = (1 + s) / 2`."""
        return self._rewritten((-1, 1), lambda w, b: (w / 4, b / 2 + w.sum(1) / 4))

    def as_binary(self) -> BoltzmannMachine:
        r"""Return the equivalent machine over units 0 and 1, :math:`s = 2 x - 1`."""
        return self._rewritten(2, lambda w, b: (4 * w, 2 * b - 2 * w.sum(1)))

    def _rewritten(self, states: Any, change: Any) -> BoltzmannMachine:
        is_spin = [v.states == (-1, 1) for v in self.variables.values()]
        w, b = self.couplings.detach(), self.biases.detach()
        if any(is_spin) != (states == (-1, 1)):
            w, b = change(w, b)
        layers = [Variable(n, states, v.shape) for n, v in self.variables.items()]
        return BoltzmannMachine(
            layers[0], *layers[1:], weight=w, bias=b, temperature=self.temperature
        )


def blocks_of(
    layers: list[Variable], weight: Any, bias: Any
) -> tuple[list[tuple[Hashable, Hashable, Any]], dict[Hashable, Any]]:
    """Split couplings and biases of all units by layer.

    Args:
        layers: The layers, in order.
        weight: ``(n, n)``, or None.
        bias: ``(n,)``, or None.

    Raises:
        ModelError: If a shape is wrong, or the couplings are not symmetric.
    """
    for v in layers:
        if not v.is_discrete or v.num_states != 2:
            raise ModelError(
                f"{v.name!r} must have units with two states",
                "RestrictedBoltzmannMachine supports others",
            )
    ends = np.cumsum([0, *(v.num_elements for v in layers)])
    places = {v.name: slice(a, b) for v, a, b in zip(layers, ends[:-1], ends[1:], strict=True)}
    total = int(ends[-1])
    w = None if weight is None else read_numbers("the couplings", weight)
    if w is not None and w.shape != (total, total):
        raise ModelError(f"the couplings must have the shape ({total}, {total}), got {w.shape}")
    if w is not None:
        gap = np.abs(w - w.T)
        if not gap.max(initial=0.0) <= 1e-9 * max(1.0, float(np.abs(w).max())):
            i, j = (int(k) for k in np.unravel_index(int(np.nan_to_num(gap, nan=np.inf).argmax()),
                                                     gap.shape))  # fmt: skip
            raise ModelError(
                f"the couplings must be symmetric, but [{i}, {j}] is {w[i, j]:g} and [{j}, {i}] "
                f"is {w[j, i]:g}",
                "give (W + W.T) / 2, which has the same energy; for other conventions see "
                "from_full_sum() and from_pairs()",
            )
    b = None if bias is None else read_numbers("the bias", bias)
    if b is not None and b.shape not in ((), (total,)):
        raise ModelError(f"the bias must have the shape ({total},), got {b.shape}")
    b = None if b is None else np.broadcast_to(b, (total,))
    pairs = itertools.combinations_with_replacement(places, 2)
    couplings = [
        (p, q, None if w is None else w[places[p], places[q]])
        for p, q in pairs
        if p != q or places[p].stop - places[p].start > 1
    ]
    return couplings, {} if b is None else {n: b[s] for n, s in places.items()}
