"""Associative memory rules: Hebb's rule, the pseudo-inverse, unlearning."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError
from pgnn.factors.randomness import generator
from pgnn.factors.units.descent import descend
from pgnn.factors.units.unit_kind import SpinUnits
from pgnn.factors.units.unit_layers import UnitCoupling, UnitLayers, UnitModel
from pgnn.factors.variable import Variable
from pgnn.inference.history import History
from pgnn.inference.learner import Learner
from pgnn.inference.learning.restored_on_failure import restored_on_failure
from pgnn.inference.learning.unit_rows import read_unit_rows
from pgnn.limits import POSITIVE, Interval, check_settings


@dataclass(frozen=True)
class PatternStorage(Learner):
    """Base class of rules that set couplings of visible units to store patterns."""

    @abstractmethod
    def couplings(self, spins: Tensor, weights: Tensor) -> Tensor:
        """Return symmetric couplings ``(n, n)`` of spins that store patterns.

        Args:
            spins: ``(P, n)`` patterns of -1 and 1.
            weights: ``(P,)`` weights of the patterns.
        """

    def fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        """Store rows as patterns; see :meth:`Model.fit`.

        Given couplings are overwritten as well.

        Args:
            model: A model of fully connected visible units with two states.
            data: Patterns as rows.
            weights: ``(P,)`` weights of the patterns.
            inputs: None.
            seed: Random seed.
            progress: Not used.

        Raises:
            DataError: If patterns are incomplete.
            ModelError: If the model has hidden units, or units without two states.
        """
        if inputs is not None:
            raise DataError("patterns have no covariates", "leave inputs out")
        layers = units_of_patterns(model)
        rows = read_unit_rows(model, data, weights)
        if rows.missing:
            raise DataError("patterns to be stored must be complete")
        values = torch.cat([rows.values[n] for n in layers.names], dim=1)
        binary = torch.cat([
            torch.full((layers.size(n),), float(not isinstance(layers.kinds[n], SpinUnits)))
            for n in layers.names
        ]).to(values)  # fmt: skip
        spins = torch.where(binary.bool(), 2 * values - 1, values)
        counts = values.new_ones(len(values)) if rows.weights is None else rows.weights
        with restored_on_failure(model), torch.no_grad():
            couplings = self.couplings(spins, counts)
            couplings = 0.5 * (couplings + couplings.T)
            couplings.fill_diagonal_(0.0)
            scale = 1 + binary  # spin = 2 x - 1
            felt = -(couplings * binary).sum(1) * scale
            model.write_couplings(couplings * scale[:, None] * scale, felt)
            model.history = History({"learner": repr(self), "rows": len(values),
                                     "iterations": 1, "converged": True})  # fmt: skip


def units_of_patterns(model: Any) -> UnitLayers:
    """Return the layers of a model that stores patterns.

    Raises:
        ModelError: If it has hidden units, or units without two states.
    """
    if not isinstance(model, UnitModel):
        raise ModelError(
            f"patterns are stored in layers of units, and a {type(model).__name__} has none"
        )
    layers = model.layers()
    hidden = [n for n in layers.names if n not in model.visible]
    if hidden or any(k.size > 1 for k in layers.kinds.values()):
        other = f"the hidden layer {hidden[0]!r}" if hidden else "units of more states"
        raise ModelError(
            "patterns are stored in visible units of two states, such as those of a Hopfield "
            f"network; this model has {other}"
        )
    return layers


@dataclass(frozen=True)
class Hebbian(PatternStorage):
    r"""Hebb's rule: :math:`W = \frac1n \sum_p s_p s_p^\top`, without the diagonal.

    Stores about ``0.138 n`` random patterns with few errors.

    References:
        Hopfield (1982), Neural networks and physical systems with emergent collective
        computational abilities.

    Example:
        >>> import pgnn
        >>> net = pgnn.Hopfield(4).fit(torch.tensor([[1, -1, 1, -1]]), learner=Hebbian())
        >>> net.recall([1, 1, 1, -1]).states.tolist()
        [1, -1, 1, -1]
    """

    def couplings(self, spins: Tensor, weights: Tensor) -> Tensor:
        """See :class:`PatternStorage`."""
        return (spins.T * weights) @ spins / spins.shape[1]


@dataclass(frozen=True)
class PseudoInverse(PatternStorage):
    r"""The projection :math:`W = S^+ S` on the span of the patterns: stores up to ``n`` of them.

    References:
        Personnaz, Guyon and Dreyfus (1985), Information storage and retrieval in spin-glass like
        neural networks.
    """

    def couplings(self, spins: Tensor, weights: Tensor) -> Tensor:
        """See :class:`PatternStorage`."""
        inverse: Tensor = torch.linalg.pinv(spins)
        return inverse @ spins


@dataclass(frozen=True)
class Unlearning(PatternStorage):
    r"""Hebb's rule, then steps that lower the energy of patterns and raise that of recalled states.

    .. math:: W \leftarrow W + \eta\, \frac1{n P} \sum_p (s_p s_p^\top - \hat s_p \hat s_p^\top)

    where :math:`\hat s_p` is the fixed point reached from :math:`s_p`, or, with noise, from a
    perturbation of it. Learning ends when all patterns are recalled.

    Args:
        steps: Largest number of steps.
        rate: :math:`\eta`, relative to the contribution of a pattern in Hebb's rule.
        noise: Fraction of flipped units in the perturbation.

    References:
        Hopfield, Feinstein and Palmer (1983), Unlearning has a stabilizing effect in collective
        memories.
    """

    steps: int = 200
    rate: float = 1.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_settings(self, steps=1, rate=POSITIVE, noise=Interval(0.0, 1.0))

    def couplings(self, spins: Tensor, weights: Tensor) -> Tensor:
        """See :class:`PatternStorage`."""
        w = Hebbian().couplings(spins, weights)
        w.fill_diagonal_(0.0)
        rng = generator(0)
        for _ in range(self.steps):
            start = spins
            if self.noise:
                flips = torch.rand(spins.shape, generator=rng).to(spins) < self.noise
                start = torch.where(flips, -spins, spins)
            recalled = _settled(w, start)
            if bool((recalled == spins).all()):
                break
            gap = (spins.T * weights) @ spins - (recalled.T * weights) @ recalled
            w += self.rate * gap / spins.shape[1]
            w.fill_diagonal_(0.0)
        return w


def _settled(w: Tensor, start: Tensor) -> Tensor:
    name = "units"
    layers = UnitLayers(
        {name: Variable(name, (-1, 1), (len(w),))}, {name: SpinUnits()},
        {name: w.new_zeros(len(w))}, [UnitCoupling(name, name, w)], w.new_zeros(()),
    )  # fmt: skip
    return descend(layers, {name: start}, [name], max_sweeps=10, rng=generator(0)).state[name]
