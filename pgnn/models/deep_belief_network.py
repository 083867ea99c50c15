"""Deep belief networks: logistic layers below a restricted Boltzmann machine."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import StackedModel
from pgnn.errors import ModelError
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.matrix_group import MatrixGroup, Sides
from pgnn.factors.units.unit_kind import BinaryUnits
from pgnn.factors.units.unit_layers import State, UnitCoupling, UnitLayers
from pgnn.models.layered_belief_network import LayeredBeliefNetwork
from pgnn.models.restricted_boltzmann_machine import RestrictedBoltzmannMachine


class DeepBeliefNetwork(LayeredBeliefNetwork, StackedModel):
    r"""Deep belief network: logistic layers below a restricted Boltzmann machine.

    .. math:: p(x) = \frac{1}{Z} e^{x_{L-1}^\top W_{L-1} x_L + b_{L-1}^\top x_{L-1} + b_L^\top x_L}
        \prod_{k < L - 1} \prod_i \sigma(\pm (b_k + W_k x_{k+1})_i)

    :class:`~pgnn.GreedyLayerwise`, the default learner, learns it layer by layer as restricted
    Boltzmann machines, each from the outputs of the one below; :class:`~pgnn.WakeSleep` refines the
    result (up-down algorithm). :meth:`to_classifier` returns a torch module for fine-tuning.

    Args:
        layers: Number of units, shape or variable of each layer, visible layer first.

    References:
        Hinton, Osindero and Teh (2006), A fast learning algorithm for deep belief nets.

    Example:
        >>> model = DeepBeliefNetwork([4, 3, 2])
        >>> model.top_machine().variables["hidden"].shape
        (2,)
    """

    sweeps = 200
    """Sweeps of the top before a draw of the network."""

    @property
    def directed(self) -> int:
        """See :class:`LayeredBeliefNetwork`: all but the top two."""
        return len(self.weights) - 1

    @property
    def num_stages(self) -> int:
        """See :class:`StackedModel`: a machine for each pair of layers."""
        return len(self.weights)

    def stage(self, k: int) -> RestrictedBoltzmannMachine:
        """See :class:`StackedModel`."""
        return self.machine(k)

    def take_stage(self, k: int, stage: RestrictedBoltzmannMachine) -> None:
        """See :class:`StackedModel`."""
        self.put_machine(k, stage)

    def read_stack(self, data: Any, learner: Any) -> tuple[Tensor, Any]:
        """See :class:`StackedModel`: hidden units are learned as probabilities."""
        from pgnn.inference.learning.contrastive_divergence import ContrastiveDivergence
        from pgnn.inference.learning.layered_rows import read_layered_rows

        chosen = ContrastiveDivergence() if learner is None else learner
        if not isinstance(chosen, ContrastiveDivergence):
            raise ModelError(
                f"the machines of a {type(self).__name__} need ContrastiveDivergence(...) as "
                "learner, got "
                f"{learner!r}"
            )
        rows = read_layered_rows(self, data, probabilities=chosen.probabilities)
        return rows, replace(chosen, probabilities=True)

    def stage_outputs(self, stage: RestrictedBoltzmannMachine, rows: Tensor) -> Tensor:
        """See :class:`StackedModel`; the expected hidden units."""
        return stage.hidden_means(rows)

    def machine(self, k: int) -> RestrictedBoltzmannMachine:
        """Return layers ``k`` and ``k + 1`` as a machine with its own learnable parameters."""
        w = self.weights[k]
        machine = RestrictedBoltzmannMachine(w.shape[0], w.shape[1]).to(w)
        with torch.no_grad():
            machine.weight("visible", "hidden").copy_(w)
            machine.bias("visible").copy_(self.biases[k])
            machine.bias("hidden").copy_(self.biases[k + 1])
        return machine

    def top_machine(self) -> RestrictedBoltzmannMachine:
        """Return the top two layers, whose log partition function is that of the network."""
        return self.machine(len(self.weights) - 1)

    def put_machine(self, k: int, machine: RestrictedBoltzmannMachine) -> None:
        """Copy the parameters of layers ``k`` and ``k + 1`` from a machine, for both directions."""
        with torch.no_grad():
            w = machine.weight("visible", "hidden")
            self.weights[k].copy_(w)
            self.up_weights[k].copy_(w)
            self.biases[k].copy_(machine.bias("visible"))
            self.biases[k + 1].copy_(machine.bias("hidden"))
            self.up_biases[k].copy_(machine.bias("hidden"))

    def top_groups(self) -> tuple[FactorGroup, ...]:
        """See :class:`LayeredBeliefNetwork`."""
        names = list(self.variables)[-2:]
        below, above = (self.elements.numbers(n).ravel() for n in names)
        weight, states = self.weights[-1], BinaryUnits().table(self.weights[-1])
        biases = [TableGroup(places[:, None], torch.stack([torch.zeros_like(b), b], dim=1))
                  for places, b in zip((below, above), self.biases[-2:], strict=True)]  # fmt: skip
        numbers = weight.reshape(-1, 1, 1)
        return (*biases, MatrixGroup(Sides(below, above), numbers, states, states))

    def log_partition(self) -> Tensor:
        """Return the log partition function, exact up to 25 units in the smaller layer of the top.

        Raises:
            Intractable: Beyond that; ``top_machine().log_partition_bracket()`` bounds it.
        """
        machine, names = self.top_machine(), ("visible", "hidden")
        if not self._wants_gradients():
            with torch.no_grad():
                return machine.requires_grad_(False).log_partition()
        value = machine.log_partition()
        copies = (machine.weight(*names), *(machine.bias(n) for n in names))
        gradients = torch.autograd.grad(value, copies)
        total = value.detach()
        for parameter, g in zip((self.weights[-1], *self.biases[-2:]), gradients, strict=True):
            total = (
                total + ((parameter - parameter.detach()) * g).sum()
            )  # zero, with the derivative
        return total

    def log_prob(self, data: Any, *, inputs: Any = None, engine: Any = None) -> Tensor:
        """See :meth:`Model.log_prob`; the log score minus the log partition function."""
        return super().log_prob(data, inputs=inputs, engine=engine) - self.log_partition()

    def _top(self) -> UnitLayers:
        names: list[Hashable] = list(self.variables)[-2:]
        variables = {n: self.variables[n] for n in names}
        biases = dict(zip(names, self.biases[-2:], strict=True))
        return UnitLayers(
            variables, dict.fromkeys(names, BinaryUnits()), biases,
            [UnitCoupling(names[0], names[1], self.weights[-1])], self.biases[-1].new_zeros(()),
        )  # fmt: skip

    def joint_terms(self, states: Sequence[Tensor]) -> list[Tensor]:
        """See :class:`RecognisedLayers`; the last one, of the top two layers, unnormalised."""
        top = dict(zip(list(self.variables)[-2:], states[-2:], strict=True))
        return [*self.directed_terms(states), self._top().log_score(top)]

    def log_normaliser(
        self, states: Sequence[Tensor], rng: torch.Generator | None, chains: State
    ) -> Tensor:
        """See :class:`RecognisedLayers`; by Markov chains of the top layers."""
        layers = self._top()
        with torch.no_grad():
            if not chains:
                chains |= zip(layers.names, (x.clone() for x in states[-2:]), strict=True)
            layers.sweep(chains, rng)
        return layers.log_score(chains).mean()

    def dream(
        self, rows: int, rng: torch.Generator | None, chains: State | None = None
    ) -> list[Tensor]:
        """See :class:`RecognisedLayers`."""
        layers = self._top()
        with torch.no_grad():
            state = {n: x[:rows] for n, x in (chains or {}).items()}
            if not state or len(state[layers.names[0]]) < rows:
                state = layers.start(rows, rng)
                for _ in range(self.sweeps):
                    layers.sweep(state, rng)
        return self.drawn_down([state[n] for n in layers.names], rng)

    def default_learner(self, data: Any) -> Any:
        """Return ``GreedyLayerwise()``."""
        from pgnn.inference.learning.greedy_layerwise import GreedyLayerwise

        return GreedyLayerwise()
