"""Binary constituency trees: the algorithm of Cocke, Kasami and Younger."""

from __future__ import annotations

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.inference.semiring import Reduction, contract
from pgnn.inference.trees.tree_field import TreeField, splits
from pgnn.limits import check_size


class ConstituencyTrees(TreeField):
    r"""Distributions over binary trees: each span of words is split in two, down to single words.

    Parts are spans: ``scores[b, i, j]`` is the score of the span from word ``i`` to word ``j``,
    inclusive; entries below the diagonal are ignored. With a last axis, spans have labels.

    Args:
        scores: ``(B, n, n)`` or ``(B, n, n, L)`` log scores.
        lengths: ``(B,)`` number of words of each row; ``n`` if not given.
        rules: ``(L, L, L)`` log weights of rules from a label to two others, as in a grammar in
            Chomsky normal form; zeros if not given.
        root: ``(L,)`` log weights of the label of the root, with rules.

    Raises:
        ModelError: If a shape is wrong.

    Cost: :math:`O(n^3)` per row; :math:`O(n^3 L^2 + n^2 L^3)` with rules.

    References:
        Goodman (1999), Semiring parsing, section 2; Stern, Andreas and Klein (2017), A minimal
        span-based neural constituency parser.

    Example:
        >>> trees = ConstituencyTrees(torch.zeros(1, 4, 4))
        >>> trees.log_partition().exp().round()  # a Catalan number
        tensor([5.])
    """

    def __init__(
        self,
        scores: Tensor,
        lengths: Tensor | None = None,
        *,
        rules: Tensor | None = None,
        root: Tensor | None = None,
    ) -> None:
        if scores.dim() not in (3, 4) or scores.shape[1] != scores.shape[2]:
            raise ModelError(f"scores must be (B, n, n) or (B, n, n, L), got {tuple(scores.shape)}")
        labels = scores.shape[3] if scores.dim() == 4 else 1
        for name, table, shape in (("rules", rules, (labels,) * 3), ("root", root, (labels,))):
            if table is not None and (table.shape != shape or scores.dim() == 3 or rules is None):
                raise ModelError(
                    f"{name} {shape} go with rules and scores (B, n, n, {labels}), got "
                    f"{tuple(table.shape)} with scores {tuple(scores.shape)}"
                )
        super().__init__(scores, lengths, scores.shape[1])
        pairs = 1 if rules is None else labels**2
        check_size(f"spans of {self.words:,} words", len(scores) * self.words**2 * pairs,
                   advice="Use shorter rows, or fewer at a time")  # fmt: skip
        self.rules, self.root = rules, root

    def inside(self, scores: Tensor, reduction: Reduction) -> Tensor:
        """See the base class; from short spans to long ones."""
        rules = self.rules
        if rules is None and scores.dim() == 4:
            scores = contract([scores], reduction, 3)
        charts = [scores.new_zeros((len(scores), self.words + 1, *scores.shape[3:]))]
        for width in range(1, self.words + 1):
            span_scores = torch.diagonal(scores, width - 1, 1, 2)
            span_scores = span_scores if rules is None else span_scores.transpose(1, 2)
            if width > 1:
                starts = self.words - width + 1
                left, right = splits(charts, charts, range(1, width), width, starts)
                if rules is None:
                    span_scores = span_scores + contract([left, right], reduction, 2)
                else:
                    pairs = contract([left[..., None], right[..., None, :]], reduction, 2)
                    firsts = contract([pairs[:, :, None], rules.to(scores)], reduction, 4)
                    span_scores = span_scores + contract([firsts], reduction, 3)
            charts.append(span_scores)
        if rules is not None:
            root = scores.new_zeros(scores.shape[3]) if self.root is None else self.root.to(scores)
            charts = [charts[0][..., 0], *(contract([c, root], reduction, 2) for c in charts[1:])]
        return self._of_lengths(charts)
