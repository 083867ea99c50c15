"""Decomposition of conditionals into small factors with hidden variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.factors.factor import Factor
from pgnn.factors.logspace import log_where
from pgnn.factors.variable import Variable


@dataclass(frozen=True)
class HiddenName:
    """Internal name of a hidden variable of a decomposition.

    Attributes:
        child: Name of the conditional's child.
        step: Index of the hidden variable.
    """

    child: Hashable
    step: int


class Decomposition(NamedTuple):
    r"""Factors whose product, summed over hidden variables, is a conditional's table.

    .. math:: p(x \mid \mathrm{pa}(x)) = \sum_h \prod_f \phi_f(x, \mathrm{pa}(x), h)

    The factors are non-negative, so that sums, samples and logs are well defined. The hidden
    variables must be summed out, never maximised over.

    Attributes:
        hidden: The hidden variables; each is the ``child`` of one factor.
        factors: The factors, without batch shapes.
        certain: States of the child that determine all hidden variables, with the state of these:
            if such a state is observed, the parents are independent.
    """

    hidden: tuple[Variable, ...]
    factors: tuple[Factor, ...]
    certain: Mapping[int, int]

    def renamed(self, variables: Mapping[Hashable, Variable]) -> Decomposition:
        """Return the decomposition over other variables.

        Args:
            variables: Mapping from old names to new variables, without the hidden ones.
        """
        names = {n: v.name for n, v in variables.items()}
        new_variables = dict(variables)
        for v in self.hidden:
            name = v.name
            if isinstance(name, HiddenName):
                name = HiddenName(names.get(name.child, name.child), name.step)
            new_variables[v.name] = Variable(name, v.states)
        factors = [
            Factor(
                [new_variables[v.name] for v in f.variables],
                f.log_values,
                None if f.child is None else new_variables[f.child].name,
            )
            for f in self.factors
        ]
        return Decomposition(
            tuple(new_variables[v.name] for v in self.hidden), tuple(factors), self.certain
        )


def chain_of_maxima(
    child: Variable,
    causes: Sequence[tuple[Variable, Tensor]],
    leak: Tensor,
    least: bool = False,
) -> Decomposition:
    r"""Decompose the maximum of independent effects by a chain of running maxima.

    .. math:: a_0 \sim q_0, \qquad a_i = \max(a_{i-1}, z_i), \qquad z_i \sim q_i(z \mid x_i),
        \qquad y = a_n

    with every effect summed out: :math:`p(a_i \mid a_{i-1}, x_i)` is :math:`q_i(a_i \mid x_i)`
    above the old maximum, and :math:`\sum_{z \le a_i} q_i(z \mid x_i)` at it.

    Args:
        child: The maximum :math:`y`, with ``K`` states.
        causes: The variables :math:`x_i`, each with ``(K_i, K)`` logs of :math:`q_i`.
        leak: ``(K,)`` logs of :math:`q_0`.
        least: Whether to decompose the minimum instead.

    Cost:
        One table of ``K K_i K`` entries per parent.

    References:
        Heckerman and Breese (1996), Causal independence for probability assessment and inference
        using Bayesian networks, section 3 (temporal transformation).
    """
    size = child.num_states
    chain = [Variable(HiddenName(child.name, k), size) for k in range(len(causes))] + [child]
    state = torch.arange(size, device=leak.device)
    grows = state[:, None] > state if least else state[:, None] < state
    factors = [Factor(chain[:1], leak, chain[0].name)]
    for k, (parent, table) in enumerate(causes):
        probs = table.exp()
        within = probs.flip(-1).cumsum(-1).flip(-1) if least else probs.cumsum(-1)
        stays = log_where(within, within > 0)
        # (K, K_i, K): the old extreme, the parent, the new one
        step = table.new_full((size, *table.shape), -torch.inf)
        step = torch.where(grows[:, None], table, step)
        step = torch.where((state[:, None] == state)[:, None], stays, step)
        factors.append(Factor([chain[k], parent, chain[k + 1]], step, chain[k + 1].name))
    edge = size - 1 if least else 0
    return Decomposition(tuple(chain[:-1]), tuple(factors), {edge: edge})
