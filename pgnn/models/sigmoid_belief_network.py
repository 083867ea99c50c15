"""Sigmoid belief networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.units.unit_kind import drawn_below
from pgnn.factors.units.unit_layers import State
from pgnn.models.layered_belief_network import LayeredBeliefNetwork, bernoulli


class SigmoidBeliefNetwork(LayeredBeliefNetwork):
    r"""Sigmoid belief network: layers of logistic units, each conditional on the layer above.

    .. math:: p(x) = \prod_i \sigma(\pm b_{L, i}) \prod_{k < L} \prod_i
        \sigma(\pm (b_k + W_k x_{k+1})_i)

    The units of the top layer are independent. Inference is exact where a unit has about a dozen
    parents; with hundreds use ``Gibbs()`` or ``MeanField()``, which need no tables. Learned by
    :class:`~pgnn.WakeSleep`, together with a recognition network, or by the gradient of the bound
    with :class:`~pgnn.LowerBound` and :class:`~pgnn.Variational` (neural variational inference and
    learning). For other acyclic graphs use a ``BayesianNetwork`` with :class:`~pgnn.Sigmoid`
    conditionals.

    Args:
        layers: Number of units, shape or variable of each layer, visible layer first.

    References:
        Neal (1992), Connectionist learning of belief networks. Hinton et al. (1995), The wake-sleep
        algorithm for unsupervised neural networks. Mnih and Gregor (2014), Neural variational
        inference and learning in belief networks.

    Example:
        >>> model = SigmoidBeliefNetwork([4, 3, 2])
        >>> model.sample(2, seed=0)["visible"].shape
        torch.Size([2, 4])
        >>> round(model.log_prob({"visible": [0, 1, 1, 0]}).exp().item(), 4)  # nothing was learned
        0.0625
    """

    is_normalized = True

    @property
    def directed(self) -> int:
        """See :class:`LayeredBeliefNetwork`: all but the top."""
        return len(self.weights)

    def top_groups(self) -> tuple[FactorGroup, ...]:
        """See :class:`LayeredBeliefNetwork`."""
        units = self.elements.numbers(list(self.variables)[-1]).ravel()
        logits = self.biases[-1]
        table = torch.nn.functional.logsigmoid(torch.stack([-logits, logits], dim=1))
        return (TableGroup(np.asarray(units)[:, None], table, 0),)

    def joint_terms(self, states: Sequence[Tensor]) -> list[Tensor]:
        """See :class:`RecognisedLayers`; the last one is of the top two layers."""
        top = bernoulli(states[-1], self.biases[-1].expand(len(states[-1]), -1))
        *terms, last = self.directed_terms(states)
        return [*terms, last + top]

    def log_normaliser(
        self, states: Sequence[Tensor], rng: torch.Generator | None, chains: State
    ) -> Tensor:
        """See :class:`RecognisedLayers`; zero, since the network is normalised."""
        return states[0].new_zeros(())

    def dream(
        self, rows: int, rng: torch.Generator | None, chains: State | None = None
    ) -> list[Tensor]:
        """See :class:`RecognisedLayers`."""
        share = self.biases[-1].detach().sigmoid().expand(rows, -1)
        return self.drawn_down([drawn_below(share.contiguous(), rng)], rng)
