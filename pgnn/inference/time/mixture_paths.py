"""The best paths of all components of a mixture, merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.variable import MISSING
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.component_rows import joint_log_probs, label_logs
from pgnn.inference.time.mixture_question import MixtureQuestion


@dataclass(frozen=True, eq=False)
class MixturePaths:
    """The best components with their paths.

    Attributes:
        codes: ``(B, k, E)`` states of the queried variables, the component among them.
        scores: ``(B, k)`` log probabilities, best first.
        exact: Whether no others are better.
    """

    codes: Tensor
    scores: Tensor
    exact: bool

    def answer(self, question: MixtureQuestion) -> Assignment | KBest:
        """Return the answer to a question."""
        variables = question.over_time(question.queried)
        settings: dict[str, Any] = {"batched": question.observed.batched, "index": question.index}
        if self.scores.shape[1] > 1:
            return KBest(variables, self.codes, self.scores, **settings)
        scores = self.scores[:, 0]
        impossible = scores.isneginf()
        return Assignment(
            variables,
            self.codes[:, 0],
            scores.masked_fill(impossible, torch.nan),
            upper_bound=scores if self.exact else None,
            engine=question.engine,
            **settings,
        )


def merged_paths(
    question: MixtureQuestion, best: Sequence[Any], scores: Sequence[Tensor], k: int
) -> MixturePaths:
    r"""Return the ``k`` best of the components' best paths, :math:`\max_{c, z} \pi_c p_c(z, e)`.

    Args:
        question: The query.
        best: The best paths of each component, without the component; none if it alone is asked.
        scores: ``(B, k)`` their log probabilities under the components.
        k: Number of paths.
    """
    rows, known = question.num_rows, label_logs(question.observed.labels, len(scores))
    prior = joint_log_probs(question.model, [x.new_zeros(rows) for x in scores], known)
    joint = torch.cat([x + prior[:, c : c + 1] for c, x in enumerate(scores)], dim=1)
    which = torch.cat([torch.full_like(x, c, dtype=torch.int64) for c, x in enumerate(scores)], 1)
    ranked, place = joint.topk(min(k, joint.shape[1]), dim=1)
    chosen = which.gather(1, place).unsqueeze(-1)
    others = [v for v in question.queried if v.name != question.label.name]
    parts = {question.label.name: chosen}
    if best:
        codes = torch.cat(
            [b.codes.reshape(rows, x.shape[1], -1) for b, x in zip(best, scores, strict=True)], 1
        )
        codes = codes.gather(1, place.unsqueeze(-1).expand(-1, -1, codes.shape[2]))
        sizes = [v.num_elements for v in question.over_time(others)]
        parts |= dict(zip((v.name for v in others), codes.split(sizes, dim=2), strict=True))  # type: ignore[no-untyped-call]
    states = torch.cat([parts[v.name] for v in question.queried], dim=2)
    lost = ranked.isneginf().unsqueeze(-1)
    exact = all(
        b.upper_bound is not None and b.upper_bound.equal(b.log_prob)
        for b in best
        if isinstance(b, Assignment)
    )
    return MixturePaths(states.masked_fill(lost, MISSING), ranked, exact)
