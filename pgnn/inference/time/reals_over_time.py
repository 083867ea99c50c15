"""Answers about models over time with real variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.variable import Variable
from pgnn.inference.gaussian_marginals import (
    ExactMarginal,
    element_marginal,
    marginal_at,
    real_marginal,
    side_by_side,
)
from pgnn.inference.posterior import Posterior
from pgnn.inference.time.gaussian_chain import StepMoments
from pgnn.inference.time.reals_at_steps import RealsAtSteps
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.with_reals import QUANTILES


class RealsOverTime(RealsAtSteps):
    """A posterior of real and discrete variables at every step.

    ``posterior["state"]`` is a ``MultivariateNormal`` of batch shape ``(T,)`` or ``(B, T)``, a
    ``Normal`` for scalars, or a mixture of these, with additional attributes ``std`` and
    ``quantile``; ``NaN`` beyond the end of a row.

    Args:
        whole: The answer about the discrete variables.
        marginals: Marginals of each real variable.
    """

    def __init__(self, whole: Posterior, marginals: Mapping[Hashable, ExactMarginal]) -> None:
        self.take(whole)
        lead = 1 if self.batched else 0
        self._marginals_of_reals = dict(marginals)
        self.reals = {
            n: Variable(n, shape=tuple(m.mean.shape[lead:])) for n, m in marginals.items()
        }

    def marginal(self, name: Hashable) -> ExactMarginal:
        """See :class:`~pgnn.inference.with_reals.WithReals`."""
        return self._marginals_of_reals[name]

    def _take_element(self, name: Any, array: Variable) -> None:
        _, step, *index = name
        place = (slice(None), step) if self.batched else (step,)
        marginal = marginal_at(self.marginal(array.name), place)
        if index:
            event = Variable(array.name, shape=array.shape[1:])
            marginal = element_marginal(marginal, event, tuple(index))
        self._marginals_of_reals = {**self._marginals_of_reals, name: marginal}

    def _at_steps(self, name: Hashable) -> Sequence[Tensor]:
        """See the base class."""
        marginal = self.marginal(name)
        return [marginal.mean, marginal.std, *marginal.quantile(QUANTILES)]


def normal_at_each_step(
    question: SequenceQuestion, moments: Mapping[Hashable, StepMoments], dtype: torch.dtype
) -> dict[Hashable, ExactMarginal]:
    """Return the marginals of variables that are normal.

    Args:
        question: The query, of the steps of the answer.
        moments: By name, with a covariance for each row or one for all.
        dtype: Dtype of the answers.
    """
    observed, one = question.observed, slice(None) if question.observed.batched else 0
    marginals = {}
    for name, (mean, covariance) in moments.items():
        shape = question.model.conditionals[name].child.shape
        mean = mean.masked_fill(~observed.inside.unsqueeze(-1), torch.nan)
        whole = covariance.expand(observed.num_rows, *covariance.shape[1:])
        marginals[name] = real_marginal(mean[one].to(dtype), whole[one].to(dtype), shape)
    return marginals


def joined_steps(
    question: SequenceQuestion, whole: Posterior, steps: Mapping[Hashable, list[ExactMarginal]]
) -> RealsOverTime:
    """Return an answer from separate marginals of each step.

    Args:
        question: The query.
        whole: The answer about the discrete variables.
        steps: For each real variable its marginals, ``()`` or ``(B,)`` each.
    """
    observed, marginals = question.observed, {}
    for name, parts in steps.items():
        if parts:
            gone = ~observed.inside if observed.batched else ~observed.inside[0]
            marginals[name] = side_by_side(parts, int(observed.batched), gone)
        else:
            shape = (*question.model.conditionals[name].child.shape,)
            lead = (observed.num_rows, 0) if observed.batched else (0,)
            marginals[name] = certain(torch.zeros(*lead, *shape, dtype=torch.float64), shape)
    return RealsOverTime(whole, marginals)


def certain(values: Tensor, shape: tuple[int, ...]) -> ExactMarginal:
    """Return the distribution of observed values, ``(*batch, *shape)``."""
    flat = (
        values.reshape(*values.shape[: values.dim() - len(shape)], -1)
        if shape
        else values[..., None]
    )
    return real_marginal(
        flat, torch.zeros_like(flat).unsqueeze(-1).expand(*flat.shape, flat.shape[-1]), shape
    )


def cut_to(moments: StepMoments, kind: Any, steps: Any = None) -> StepMoments:
    """Return moments with a covariance for each row, at all steps or some.

    Args:
        moments: With a covariance for each pattern of the observations.
        kind: ``(B,)`` the pattern of each row.
        steps: ``(B, h)`` the steps that are kept; all if None.
    """
    covariance = moments.covariance[kind]
    if steps is None:
        return StepMoments(moments.mean, covariance)
    rows = torch.arange(len(steps))[:, None]
    return StepMoments(moments.mean[rows, steps], covariance[rows, steps])
