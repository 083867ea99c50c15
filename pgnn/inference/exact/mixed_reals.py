"""Posteriors of mixtures of models that include real variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable
from pgnn.inference.gaussian_marginals import ExactMarginal, element_marginal, mixture_of
from pgnn.inference.posterior import Posterior
from pgnn.inference.with_reals import WithReals


class MixedPosterior(WithReals):
    r"""A posterior of a mixture of models, in which real variables are mixtures of normals.

    .. math:: p(x \mid e) = \sum_k p(k \mid e) \, p_k(x \mid e)

    Args:
        whole: The posterior of the discrete variables.
        kept: Those of them that are targets.
        reals: The real targets.
        marginals: Their marginals by name.
    """

    def __init__(
        self,
        whole: Posterior,
        kept: Sequence[Variable],
        reals: Sequence[Variable],
        marginals: Mapping[Hashable, ExactMarginal],
    ) -> None:
        self.take(whole, kept)
        self.reals = {v.name: v for v in reals}
        self._marginals_of_reals = dict(marginals)

    def marginal(self, name: Hashable) -> ExactMarginal:
        """See :class:`~pgnn.inference.with_reals.WithReals`."""
        return self._marginals_of_reals[name]

    def _take_element(self, name: Any, array: Variable) -> None:
        marginal = element_marginal(self.marginal(array.name), array, name[1:])
        self._marginals_of_reals = {**self._marginals_of_reals, name: marginal}


def mixed_marginals(
    share: Tensor, answers: Sequence[Posterior], names: Sequence[Hashable]
) -> dict[Hashable, ExactMarginal]:
    """Return the marginals of real variables, from those of each component.

    Args:
        share: ``(*batch, K)`` posterior probabilities of the components.
        answers: The answers of the components.
        names: The real variables.

    Raises:
        Unsupported: If a component has a marginal without a closed form.
    """
    return {n: mixture_of(share, [_closed_form(a, n) for a in answers]) for n in names}


def shared_reals(answers: Sequence[Posterior]) -> list[Hashable]:
    """Return the real variables that every component answers about in closed form."""
    first = answers[0]
    names = [*first.reals] if isinstance(first, WithReals) else []
    return [n for n in names if all(n in a and isinstance(a[n], ExactMarginal) for a in answers)]


def _closed_form(answer: Posterior, name: Hashable) -> ExactMarginal:
    marginal: Any = answer[name]
    if not isinstance(marginal, ExactMarginal):
        raise Unsupported(
            f"a component answers about {name!r} by samples, which have no weights in the mixture",
            "ask the components, model.components[0].query(...), or sample() from the mixture",
        )
    return marginal


def chosen_reals(
    reals: Sequence[Mapping[Hashable, Tensor]], which: Tensor, lost: Tensor
) -> dict[Hashable, Tensor]:
    """Return the most probable values ``(B, *shape)`` of the best component of each row.

    Args:
        reals: Values by name, of each component.
        which: ``(B,)`` the best component of each row.
        lost: ``(B,)`` rows without an answer.
    """
    rows = torch.arange(len(which))
    chosen = {}
    for name in reals[0]:
        values = torch.stack([x[name] for x in reals])[which, rows]
        chosen[name] = values.masked_fill(lost.reshape(-1, *[1] * (values.dim() - 1)), torch.nan)
    return chosen
