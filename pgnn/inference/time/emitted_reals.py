"""Posteriors of unobserved real emissions of a chain of states."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pgnn.abilities import EmittingModel, Inputs
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.variable import Variable
from pgnn.inference.base_question import Names
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import names_of
from pgnn.inference.time.reals_at_steps import RealsAtSteps
from pgnn.inference.time.step_targets import StepTargets


@dataclass(frozen=True, eq=False)
class RealMoments:
    """Mean and variance of a real variable at every step; observed values have variance zero.

    Attributes:
        mean: ``(T, *event)`` or ``(B, T, *event)``; ``NaN`` beyond a row's end.
        variance: Variances in the same shape; for a vector those of its elements.
    """

    mean: Tensor
    variance: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviations, in the shape of the mean."""
        return self.variance.sqrt()

    @property
    def stddev(self) -> Tensor:
        """The same, by the name that distributions of torch have for it."""
        return self.std

    def __repr__(self) -> str:
        return f"RealMoments(shape={tuple(self.mean.shape)})"


class EmittedPosterior(RealsAtSteps):
    """A posterior with moments of real variables and probabilities of discrete ones.

    ``posterior["x"]`` of a real variable is a :class:`RealMoments`; see :class:`Posterior`
    otherwise.

    Args:
        whole: The answer about the discrete variables, including the state.
        kept: Queried discrete variables.
        moments: Moments of each queried real variable.
    """

    statistic_names: ClassVar = ("mean", "std")

    def __init__(
        self, whole: Posterior, kept: Sequence[Hashable], moments: Mapping[Hashable, RealMoments]
    ) -> None:
        self.take(whole, [v for v in whole.variables if v.name in kept])
        lead = 1 if whole.batched else 0
        self.reals = {n: Variable(n, shape=tuple(m.mean.shape[lead:])) for n, m in moments.items()}
        self._moments = dict(moments)

    def marginal(self, name: Hashable) -> RealMoments:
        """See :class:`~pgnn.inference.with_reals.WithReals`."""
        return self._moments[name]

    def _take_element(self, name: Any, array: Variable) -> None:
        whole, place = self._moments[array.name], (..., *name[1:])
        part = RealMoments(whole.mean[place], whole.variance[place])
        self._moments = {**self._moments, name: part}

    def _at_steps(self, name: Hashable) -> Sequence[Tensor]:
        """See the base class."""
        return [self._moments[name].mean, self._moments[name].std]

    def _statistics(self, name: Hashable, row: int) -> Sequence[Tensor]:
        moments = self._moments[name]
        return [x[row] if self.batched else x for x in (moments.mean, moments.std)]


_WHAT = "variable of the model"
Ask = Callable[[list[Hashable]], Posterior]
"""Answers about discrete variables of some names."""


def real_names(model: EmittingModel, targets: Names | None) -> list[Hashable]:
    """Return the names of queried real variables."""
    if targets is None:
        return []
    named = names_of(StepTargets.names_of(model, targets), model.variables, what=_WHAT)
    return [n for n in named if not model.variables[n].is_discrete]


def with_emitted(
    model: EmittingModel,
    targets: Names,
    ask: Ask,
    observed: SequenceEvidence,
    inputs: Inputs | None,
    after: int | None = None,
) -> Posterior:
    r"""Return an answer that includes real emissions.

    An unobserved emission is a mixture weighted by the posterior of the states:

    .. math:: E[x_t \mid e] = \sum_k p(z_t = k \mid e) \, E[x_t \mid k]

    Args:
        model: A chain of states.
        targets: Names of the targets.
        ask: Function that answers queries of discrete targets.
        observed: Evidence.
        inputs: Covariates ``(B, T, ...)``, including the predicted steps.
        after: Number of queried steps beyond the ends of rows; None for the observed steps.

    Raises:
        Unsupported: If an emission is autoregressive.
    """
    if after is not None:
        StepTargets.check_ahead(model, targets)
    at = StepTargets.of(model, targets)
    if at is not None:
        at.check(observed.steps)
        return at.restricted(with_emitted(model, at.names, ask, observed, inputs))
    named = names_of(targets, model.variables, what=_WHAT)
    kept = [n for n in named if model.variables[n].is_discrete]
    state = model.state.name
    whole = ask([*kept, *([] if state in kept else [state])])
    weights = whole.probs(state)
    weights = weights if whole.batched else weights[None]
    reals, place = {}, slice(None) if whole.batched else 0
    differentiates = model.passes_gradients or observed.requires_grad or weights.requires_grad
    with torch.set_grad_enabled(torch.is_grad_enabled() and differentiates):
        for name in named:
            if name not in kept:
                mean, variance = _moments(model, name, weights, observed, inputs, after)
                reals[name] = RealMoments(mean[place], variance[place])
    return EmittedPosterior(whole, kept, reals)


def _moments(
    model: EmittingModel,
    name: Hashable,
    weights: Tensor,
    observed: SequenceEvidence,
    inputs: Inputs | None,
    after: int | None,
) -> tuple[Tensor, Tensor]:
    """Return ``(B, T, *event)`` means and variances given posteriors ``(B, T, K)``."""
    emission, state = model.emissions[name], model.state
    if any(v.name != state.name for v in emission.parents):
        raise Unsupported(
            f"{name!r} depends on its own past: its mean is not determined by the states alone",
            "average draws of model.sample(n, evidence)",
        )
    rows, steps, k = weights.shape
    available = model.covariates(inputs, _longer(observed, after))
    covariates = {
        n: _covariates_at(available[n], observed, after) for n in emission.inputs if n in available
    }
    lead = (rows, steps) if covariates else (1, 1)
    codes = torch.arange(k).repeat(lead[0] * lead[1])
    wide = {n: x.flatten(0, 1).repeat_interleave(k, dim=0) for n, x in covariates.items()}
    distribution = emission.distribution({state.name: codes}, wide or None)
    event = emission.child.shape
    flat = (*lead, k, *event)
    mean = distribution.mean.expand(len(codes), *event).reshape(flat)
    variance = distribution.variance.expand(len(codes), *event).reshape(flat)
    w = weights.reshape(*weights.shape, *[1] * len(event)).to(mean)
    total = (w * mean).sum(2)
    spread = (w * (variance + (mean - total.unsqueeze(2)).square())).sum(2)
    if after is None and name in observed.reals:
        x = observed.reals[name].to(total)
        present = ~x.isnan()
        total = torch.where(present, x, total)
        spread = spread.masked_fill(present, 0.0)
    return total, spread


def _longer(observed: SequenceEvidence, after: int | None) -> SequenceEvidence:
    """Return the rows extended by the predicted steps."""
    return observed if after is None else replace(observed, steps=observed.steps + after)


def _covariates_at(covariates: Tensor, observed: SequenceEvidence, after: int | None) -> Tensor:
    """Return ``(B, T, ...)`` covariates of the queried steps."""
    if after is None:
        return covariates
    steps = observed.lengths[:, None] + torch.arange(after)
    return covariates[torch.arange(observed.num_rows)[:, None], steps]
