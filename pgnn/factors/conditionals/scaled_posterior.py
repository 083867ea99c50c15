"""Discriminative networks as likelihoods."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.checks import check_rows
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.table_reader import read_table
from pgnn.factors.factor import Factor
from pgnn.factors.network_precision import run
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable


class ScaledPosterior(Conditional):
    r"""A classifier's posterior divided by its prior: the likelihood, up to a constant factor.

    .. math:: \frac{p(x \mid z)}{p(x)} = \frac{p(z \mid x)}{p(z)}

    It lets a network that classifies observations serve as emission of a model, as in hybrids of
    networks and hidden Markov models. Log evidence is then :math:`\log p(x) - \sum_t \log p(x_t)`,
    comparable between models that share the network; observations cannot be sampled.

    Args:
        child: The observation, real.
        state: The discrete parent.
        network: Maps observations ``(N, *event)`` to logits ``(N, K)`` of the state.
        prior: ``(K,)`` frequencies of the states in the training data of the network; uniform by
            default.

    Raises:
        ModelError: If a variable has another kind, or the prior is not positive.

    References:
        Bourlard and Morgan (1994), Connectionist Speech Recognition, chapter 7.

    Example:
        >>> x, phone = Variable("x", shape=(3,)), Variable("phone", 2)
        >>> emission = ScaledPosterior(x, phone, nn.Linear(3, 2), [0.8, 0.2])
        >>> emission.factor({"x": torch.zeros(5, 3)})
        Factor('phone', batch=(5,))
    """

    prior: Tensor

    def __init__(
        self, child: Variable, state: Variable, network: nn.Module, prior: Any = None
    ) -> None:
        super().__init__(child, [state])
        if child.is_discrete or not state.is_discrete or state.shape:
            raise ModelError(
                f"ScaledPosterior is of a real observation given one discrete state, got {child} "
                f"and {state}"
            )
        k = state.num_states
        numbers = torch.full((k,), 1.0 / k).double()
        if prior is not None:
            numbers = torch.from_numpy(read_table(state, (), prior))
        if not bool((numbers > 0).all()):
            raise ModelError(f"the prior of {state.name!r} must be positive in every state")
        self.network = network
        self.register_buffer("prior", numbers)

    def settings(self) -> Settings:
        """Return the variables and the network."""
        return {"child": self.child, "state": self.parents[0], "network": self.network}

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Raise an error, since a classifier defines no distribution of observations.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            f"ScaledPosterior knows the states given {self.child.name!r} and not the reverse: "
            "there is nothing to draw",
            "use Neural with a head",
        )

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return ``(B, K)`` logs of posterior over prior; see the base class.

        Raises:
            ModelError: If the network returns another shape.

        Cost:
            One evaluation of the network for each row, for any number of states.
        """
        known = self._observed_part(observed)
        free = self._unobserved({n: x for n, x in known.items() if n == self.child.name})
        check_rows(self.child, known)
        x, (state,) = known[self.child.name], self.parents
        logits = run(self.network, x)
        if logits.shape != (len(x), state.num_states):
            raise ModelError(
                f"the network of {self.child.name!r} must return ({len(x)}, {state.num_states}), "
                f"logits of {state.name!r}, got {tuple(logits.shape)}"
            )
        table = torch.log_softmax(logits, dim=-1) - self.prior.log().to(logits)
        factor = Factor(free, table)
        return factor.condition({n: x for n, x in known.items() if n == state.name})
