"""A question to a mixture of models over time, whose component has one value for each sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import MixtureOverTime
from pgnn.factors.variable import Variable
from pgnn.inference.posterior import Posterior
from pgnn.inference.time.emitted_reals import EmittedPosterior, RealMoments
from pgnn.inference.time.sequence_question import SequenceQuestion


class MixtureQuestion(SequenceQuestion):
    """See :class:`SequenceQuestion`.

    Attributes:
        of_each_step: Whether the answer about the component is one for each step, as in filtering.
    """

    model: MixtureOverTime
    of_each_step: bool = False

    @property
    def label(self) -> Variable:
        """The variable of the component."""
        return self.model.sequence_label

    @property
    def inner_names(self) -> list[Any]:
        """Names of the queried variables except the component."""
        return [n for n in self.every_name if n != self.label.name]

    @property
    def asks_label(self) -> bool:
        """Whether the component is queried."""
        return any(v.name == self.label.name for v in self.queried)

    def over_time(self, variables: Sequence[Variable]) -> list[Variable]:
        """Return variables whose first axis has the length of the longest sequence."""
        pairs = zip(variables, super().over_time(variables), strict=True)
        single = None if self.of_each_step else self.label.name
        return [v if v.name == single else long for v, long in pairs]

    def weighted(
        self,
        share: Tensor,
        answers: Sequence[Posterior],
        log_evidence: Tensor,
        diagnostics: Mapping[str, Any] | None = None,
    ) -> Posterior:
        """Return the answers of the components, weighted.

        Args:
            share: ``(B, K)`` responsibilities, or ``(B, T, K)`` of each step.
            answers: Those of the components; none if the component alone is queried.
            log_evidence: ``(B,)``.
            diagnostics: Diagnostics.
        """
        lost = log_evidence.detach().isneginf()
        gone = ~self.observed.inside | lost[:, None]
        flat = [share.new_zeros(self.num_rows, 0)]
        for v in self.queried:
            if v.name != self.label.name:
                marginal = self._mean(share, [self._rows(a.probs(v.name)) for a in answers])
                marginal = marginal.flatten(start_dim=2)
            else:
                marginal = share
            mask = lost[:, None] if marginal.dim() == 2 else gone.unsqueeze(-1)
            flat.append(marginal.masked_fill(mask, torch.nan).flatten(start_dim=1))
        kinds = {a.kind for a in answers} or {"exact"}
        whole = Posterior(
            self.over_time(self.queried),
            torch.cat(flat, dim=1),
            log_evidence,
            batched=self.observed.batched,
            kind=kinds.pop() if len(kinds) == 1 else "estimate",
            engine=self.engine,
            diagnostics=diagnostics,
            index=self.index,
        )
        if not self.reals:
            return whole
        moments = {v.name: self._moments(v, share, answers, gone) for v in self.reals}
        return EmittedPosterior(whole, [v.name for v in self.queried], moments)

    def _moments(
        self, v: Variable, share: Tensor, answers: Sequence[Posterior], gone: Tensor
    ) -> RealMoments:
        """Return observed values, and moments of the others by the law of total variance."""
        marginals: list[Any] = [a[v.name] for a in answers]
        means = [self._rows(m.mean) for m in marginals]
        mean = self._mean(share, means)
        spread = [
            self._rows(m.variance) + (x - mean).square()
            for m, x in zip(marginals, means, strict=True)
        ]
        mask = gone.reshape(*gone.shape, *[1] * (mean.dim() - 2))
        both = [mean, self._mean(share, spread)]
        values = self.observed.reals.get(v.name)
        if values is not None:
            present = ~values.isnan()
            both = [torch.where(present, values.to(mean), mean), both[1].masked_fill(present, 0.0)]
        return RealMoments(*(self.alone(x.masked_fill(mask, torch.nan)) for x in both))

    def _rows(self, values: Tensor) -> Tensor:
        """``(B, T, ...)``, also of a single sequence."""
        return values if self.observed.batched else values.unsqueeze(0)

    @staticmethod
    def _mean(share: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean of ``(B, T, ...)`` values; none of those without weight."""
        total = torch.zeros_like(values[0])
        for k, x in enumerate(values):
            weight = share[..., k]
            weight = weight.reshape(*weight.shape, *[1] * (x.dim() - weight.dim()))
            total = total + torch.where(weight > 0, weight * x, 0.0)
        return total
