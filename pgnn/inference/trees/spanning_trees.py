"""Dependency trees whose arcs may cross: the matrix-tree theorem."""

from __future__ import annotations

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.inference.semiring import Reduction, Sum
from pgnn.inference.trees.projective_trees import check_arcs
from pgnn.inference.trees.tree_field import TreeField


class SpanningTrees(TreeField):
    r"""Rows of dependency trees, projective or not; sums and marginals only.

    .. math:: Z = \det L, \qquad L_{hm} = -e^{s_{hm}}, \quad L_{mm} = \sum_{h \ne m} e^{s_{hm}}

    Parts are arcs, as of :class:`ProjectiveTrees`.

    Args:
        scores: ``(B, n + 1, n)``.
        lengths: ``(B,)`` words of each row; all if not given.
        single_root: Whether one word alone depends on the root.

    Raises:
        ModelError: If the shape is wrong.

    Cost: :math:`O(n^3)` a row.

    References:
        Koo, Globerson, Carreras and Collins (2007), Structured prediction models via the
        matrix-tree theorem.

    Example:
        >>> trees = SpanningTrees(torch.zeros(1, 4, 3))
        >>> trees.log_partition().exp().round()  # 3 ** 2
        tensor([9.])
    """

    def __init__(
        self, scores: Tensor, lengths: Tensor | None = None, *, single_root: bool = True
    ) -> None:
        check_arcs(scores)
        super().__init__(scores, lengths, scores.shape[2])
        self.single_root = single_root

    def inside(self, scores: Tensor, reduction: Reduction) -> Tensor:
        """See the base class; each word has one head, so that its column may be scaled.

        Raises:
            Unsupported: Of maxima and draws, which no determinant tells.
        """
        if not isinstance(reduction, Sum):
            raise Unsupported("SpanningTrees has sums and marginals; ProjectiveTrees has the rest")
        words, place = self.words, torch.arange(self.words, device=scores.device)
        beyond = place >= self.lengths.to(scores.device)[:, None]
        diagonal = torch.eye(words, dtype=torch.bool, device=scores.device)
        logs = scores.double().masked_fill(beyond[:, None], -torch.inf)
        logs = torch.cat(
            [logs[:, :1], logs[:, 1:].masked_fill(diagonal | beyond[:, :, None], -torch.inf)], dim=1
        )
        top = logs.detach().amax(1) if words else logs.new_zeros(len(logs), 0)
        hopeless = (top.isneginf() & ~beyond).any(1)
        top = top.masked_fill(top.isneginf(), 0.0)
        weights = (logs - top[:, None]).exp()
        root, arcs = weights[:, 0], weights[:, 1:]
        degree = arcs.sum(1) if self.single_root else weights.sum(1)
        laplacian = torch.diag_embed(degree + (beyond | hopeless[:, None]).to(degree)) - arcs
        if self.single_root and words:
            # the first row tells which word depends on the root; it is a word of every row
            first = root + (beyond & (place == 0))
            laplacian = torch.cat([first[:, None], laplacian[:, 1:]], dim=1)
        with torch.no_grad():
            lost = hopeless | (torch.linalg.slogdet(laplacian).sign <= 0)
        safe = torch.where(
            lost[:, None, None], diagonal.to(laplacian), laplacian
        )  # derivatives of zero
        log_det: Tensor = torch.linalg.slogdet(safe).logabsdet
        total = log_det + top.masked_fill(beyond, 0.0).sum(1)
        return total.masked_fill(lost, -torch.inf).to(scores)
