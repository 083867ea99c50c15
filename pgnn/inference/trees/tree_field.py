"""The base class of distributions over trees: all answers follow from the inside algorithm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.randomness import generator
from pgnn.inference.semiring import MAX, SUM, Draw, Reduction


class TreeField(ABC):
    r"""Distributions over trees whose weight is the product of the weights of their parts.

    .. math:: p(y) = \frac{1}{Z} \exp \sum_{r \in y} s_r

    A subclass sums over all trees (:meth:`inside`). Marginals are the gradient of the log sum, the
    best tree is the gradient of the maximum, and a sample the gradient of a sum with the sampling
    reduction (:class:`~pgnn.inference.semiring.Draw`).

    Args:
        scores: ``(B, ...)`` log weights of the parts; ``-inf`` excludes a part.
        lengths: ``(B,)`` number of words of each row; ``words`` if not given.
        words: Largest number of words.

    Raises:
        ModelError: If a length is not between 0 and the number of words, or a score is NaN or
            ``+inf``.

    References:
        Rush (2020), Torch-Struct: deep structured prediction library, section 3.
    """

    def __init__(self, scores: Tensor, lengths: Tensor | None, words: int) -> None:
        rows = len(scores)
        self.scores, self.words = scores, words
        self.lengths = torch.full((rows,), words) if lengths is None else lengths.cpu().long()
        if self.lengths.shape != (rows,):
            raise ModelError(f"lengths must be ({rows},), got {tuple(self.lengths.shape)}")
        wrong = (self.lengths < 0) | (self.lengths > words)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise ModelError(
                f"lengths must lie between 0 and {words}; row {row} has {int(self.lengths[row])}"
            )
        bad = ~(scores.detach() < torch.inf)  # NaN compares as false
        if bool(bad.any()):
            raise ModelError(
                f"scores must be below +inf and not NaN; see entry {bad.nonzero()[0].tolist()}"
            )

    @abstractmethod
    def inside(self, scores: Tensor, reduction: Reduction) -> Tensor:
        """Return ``(B,)`` log sums over all trees, or the result of another reduction.

        Args:
            scores: Scores that replace the field's own.
            reduction: Reduction over the ways to build a span.
        """

    def log_partition(self) -> Tensor:
        """Return ``(B,)`` log Z, differentiable to any order; ``-inf`` if no tree is possible."""
        return self.inside(self.scores, SUM)

    def marginals(self) -> Tensor:
        """Return marginals of the parts, shaped like the scores; NaN in impossible rows."""
        wanted = self.scores.requires_grad and torch.is_grad_enabled()
        log_z, shares = self._derivatives(self.scores, SUM, wanted)
        lost = log_z.isneginf().reshape(-1, *[1] * (shares.dim() - 1))
        return shares.masked_fill(lost, torch.nan)

    def best(self) -> tuple[Tensor, Tensor]:
        """Return the parts of the best trees as ones and zeros, and ``(B,)`` their scores."""
        scores, parts = self._derivatives(self.scores.detach(), MAX, False)
        lost = scores.isneginf().reshape(-1, *[1] * (parts.dim() - 1))
        return parts.masked_fill(lost, 0.0), self.inside(self.scores, MAX)

    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """Return the parts of sampled trees, ``(n, *scores.shape)`` ones and zeros.

        Args:
            n: Number of draws.
            seed: Random seed; the same seed gives the same samples.
        """
        reduction, scores = Draw(generator(seed)), self.scores.detach()
        draws = [self._derivatives(scores, reduction, False)[1] for _ in range(n)]
        return torch.stack(draws) if draws else scores.new_zeros((0, *scores.shape))

    def log_score(self, parts: Tensor) -> Tensor:
        """Return the scores of trees given by ones and zeros, ``(..., *scores.shape[1:])``."""
        chosen = self.scores.masked_fill(parts == 0, 0.0)
        return chosen.flatten(start_dim=parts.dim() - self.scores.dim() + 1).sum(-1)

    def _derivatives(
        self, scores: Tensor, reduction: Reduction, again: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the value, and its derivatives with respect to the scores."""
        with torch.enable_grad():
            probe = torch.zeros_like(scores, requires_grad=True)
            value = self.inside(scores + probe, reduction)
            if not value.requires_grad:  # there are no words
                return value, torch.zeros_like(scores)
            (parts,) = torch.autograd.grad(value.sum(), probe, create_graph=again)
        return (value, parts) if again else (value.detach(), parts.detach())

    def _of_lengths(self, charts: Sequence[Tensor]) -> Tensor:
        """``(B,)`` values of the spans that cover each row.

        Args:
            charts: ``(B, starts)`` values for each width, from zero on.
        """
        whole = torch.stack([c[:, 0] for c in charts], dim=1)
        return whole.gather(1, self.lengths.to(whole.device)[:, None])[:, 0]


def splits(
    left: Sequence[Tensor],
    right: Sequence[Tensor],
    widths: range,
    width: int,
    starts: int,
    gap: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return ``(B, starts, splits, ...)`` values of both parts of spans, for all split points.

    Args:
        left: Values by width, ``(B, starts of that width, ...)`` each.
        right: Values by width, likewise.
        widths: Widths of the left part.
        width: Width of the whole span.
        starts: Number of spans of this width.
        gap: Distance between the two parts.
    """
    first = torch.stack([left[w][:, :starts] for w in widths], dim=2)
    second = torch.stack(
        [right[width - w - gap][:, w + gap : w + gap + starts] for w in widths], dim=2
    )
    return first, second
