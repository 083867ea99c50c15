"""Hopfield networks: associative memories."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.factors.randomness import generator
from pgnn.factors.units.descent import descend
from pgnn.factors.variable import Variable
from pgnn.limits import check_seed, whole_number
from pgnn.models.boltzmann_machine import blocks_of
from pgnn.models.energy_model import EnergyModel
from pgnn.models.unit_declaration import layer_of

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


@dataclass(frozen=True, eq=False)
class Recall:
    """The state to which a network has converged.

    Attributes:
        values: Values of the units of each layer, ``(*shape)`` or ``(N, *shape)``, as their labels.
        energies: Energies ``()`` or ``(N,)`` initially and after each sweep.
        sweeps: Number of sweeps.
        settled: Whether the last sweep changed nothing, ``()`` or ``(N,)``.
    """

    values: Mapping[Hashable, Tensor]
    energies: list[Tensor] = field(repr=False)
    sweeps: int
    settled: Tensor

    @property
    def states(self) -> Tensor:
        """The values of the first layer."""
        return next(iter(self.values.values()))

    def __getitem__(self, name: Hashable) -> Tensor:
        return self.values[name]


class Hopfield(EnergyModel):
    r"""Hopfield network: a Boltzmann machine without hidden units that stores and recalls patterns.

    .. math:: E(x) = -\tfrac12 x^\top W x - b^\top x, \qquad
        x_i \leftarrow \mathrm{sign}(W_{i\cdot} x + b_i)

    ``fit(patterns)`` stores patterns, by :class:`~pgnn.Hebbian` unless another rule such as
    :class:`~pgnn.PseudoInverse` or :class:`~pgnn.Unlearning` is given; :meth:`recall` iterates the
    update from a corrupted or incomplete pattern. Asynchronous updates never increase the energy.
    At a positive temperature the units are random and all methods of a model work; recall is the
    limit :math:`T \to 0`. With several layers one may be held fixed, and the others recall the
    associated pattern (hetero-association).

    Args:
        units: Number of units, the shape of their array, or a variable of two states; or a mapping
            of names of layers to these.
        weight: ``(n, n)`` symmetric couplings of all units; learnable if not given.
        bias: ``(n,)``, zeros if not given.
        temperature: ``T`` of the distribution.
        states: Labels of the two states; -1 and 1 if not given.

    Raises:
        ModelError: If the couplings are not symmetric, a shape is wrong, or the temperature is not
            positive.

    References:
        Hopfield (1982), Neural networks and physical systems with emergent collective
        computational abilities.

    Example:
        >>> patterns = torch.tensor([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]])
        >>> net = Hopfield(6).fit(patterns)
        >>> net.recall([1, 1, 1, -1, -1, 1]).states.tolist()
        [1, 1, 1, -1, -1, -1]
    """

    def __init__(
        self,
        units: Any,
        *,
        weight: Any = None,
        bias: Any = None,
        temperature: float = 1.0,
        states: Any = (-1, 1),
    ) -> None:
        named = units if isinstance(units, Mapping) else {"units": units}
        layers: list[Variable] = [layer_of(n, x, states) for n, x in named.items()]
        self._layers = {v.name: v for v in layers}
        couplings, biases = blocks_of(layers, weight, 0.0 if bias is None else bias)
        super().__init__(layers, couplings, biases, None, temperature=temperature)

    def declaration(self) -> dict[str, Any]:
        """Return the layers and the temperature."""
        return {"units": self._layers, "temperature": self.temperature}

    def default_learner(self, data: Any) -> Learner:
        """Return ``Hebbian()``."""
        from pgnn.inference.learning.pattern_storage import Hebbian

        return Hebbian()

    def recall(
        self,
        start: Any,
        *,
        hold: Iterable[Hashable] | Hashable = (),
        hold_observed: bool = False,
        synchronous: bool = False,
        max_sweeps: int = 100,
        seed: int | None = 0,
    ) -> Recall:
        """Iterate the update until the units are stable.

        Args:
            start: Initial patterns as evidence: for one layer an array of labels ``(*shape)`` or
                ``(N, *shape)``, for several a mapping. Missing units are initialised randomly.
            hold: Names of layers that are held fixed.
            hold_observed: Whether all given units are held fixed.
            synchronous: Whether all units are updated at once, which may end in a cycle of length
                two, instead of one by one in random order.
            max_sweeps: Largest number of sweeps over all units.
            seed: Random seed of the order.

        Raises:
            EvidenceError: If a layer is unknown.
        """
        from pgnn.inference.question import Question

        names = [hold] if isinstance(hold, str) or not isinstance(hold, Iterable) else list(hold)
        for name in names:
            self.variable(name)
        max_sweeps = whole_number("max_sweeps", max_sweeps, 1)
        seed = check_seed(seed)
        self._check_numbers()
        single = next(iter(self.variables))
        if not isinstance(start, Mapping):
            if len(self.variables) > 1 and isinstance(start, Sequence | np.ndarray | Tensor):
                raise EvidenceError(f"name which of {list(self.variables)} the patterns are of")
            start = {single: start}
        evidence = Question.read(self, start).observed
        with torch.no_grad():
            layers, rng = self.layers(), generator(seed)
            state, held = {}, {}
            for n in layers.names:
                codes = torch.from_numpy(evidence.codes[:, self.elements.numbers(n).ravel()]).long()
                known = codes >= 0
                noise = torch.randint(0, 2, codes.shape, generator=rng)
                chosen = torch.where(known, codes, noise).to(layers.like.device)
                state[n] = layers.kinds[n].encode(chosen, layers.like)
                held[n] = known.to(chosen.device)
            descent = descend(
                layers, state, [n for n in layers.names if n not in names],
                max_sweeps=max_sweeps, synchronous=synchronous,
                held=held if hold_observed else None, rng=rng,
            )  # fmt: skip
            values = {}
            for n, v in self.variables.items():
                labels = v.states or ()
                numeric = all(isinstance(s, int) for s in labels)
                codes = layers.kinds[n].decode(descent.state[n])
                shown = torch.tensor(labels)[codes.cpu()] if numeric else codes
                shown = shown.reshape(len(codes), *v.shape)
                values[n] = shown if evidence.batched else shown[0]
            energies = [-self.temperature * s for s in descent.log_scores]
            return Recall(
                values,
                energies if evidence.batched else [e[0] for e in energies],
                descent.sweeps,
                descent.settled if evidence.batched else descent.settled[0],
            )


def overlap(first: Tensor, second: Tensor) -> Tensor:
    r"""Return :math:`\frac1n \sum_i s_i t_i` of patterns of -1 and 1, over the last axis."""
    return (first.double() * second.double()).mean(-1)
