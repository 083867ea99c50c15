"""Dependency trees whose arcs may cross: the matrix-tree theorem."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.inference.semiring import Reduction, Sum
from pgnn.inference.trees.projective_trees import check_arcs
from pgnn.inference.trees.tree_field import TreeField

_MILD = 10.0
"""How far, in nats, arcs are below a word's best one where a determinant keeps all digits."""
_FAR = 50.0
"""How far below others, in nats, trees are of which an arc has weight zero."""


class SpanningTrees(TreeField):
    r"""Rows of dependency trees, projective or not; sums and marginals only.

    .. math:: Z = \det L, \qquad L_{hm} = -e^{s_{hm}}, \quad L_{mm} = \sum_{h \ne m} e^{s_{hm}}

    Where scores of arcs into a word differ by much, the determinant is taken in logarithms and
    without differences, so that scores of any size are exact.

    Parts are arcs, as in :class:`ProjectiveTrees`.

    Args:
        scores: ``(B, n + 1, n)``.
        lengths: ``(B,)`` words of each row; all if not given.
        single_root: Whether one word alone depends on the root.

    Raises:
        ModelError: If the shape is wrong.

    Cost: :math:`O(n^3)` a row; in :math:`n` steps where scores differ by more than 10 nats.

    References:
        Koo, Globerson, Carreras and Collins (2007), Structured prediction models via the
        matrix-tree theorem. Grassmann, Taksar and Heyman (1985), Regenerative analysis and steady
        state distributions for Markov chains.

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
        if not words:
            return scores.new_zeros(len(scores))
        top = logs.detach().amax(1)
        hopeless = (top.isneginf() & ~beyond).any(1)
        top = top.masked_fill(top.isneginf(), 0.0)
        logs = logs - top[:, None]
        none = logs.isneginf()
        # a tree of arcs that there are is not below ``least``, any other is far below
        least = words * logs.detach().masked_fill(none, 0.0).flatten(start_dim=1).amin(1)
        floor = least - words * math.log(words + 1) - _FAR
        logs = logs.where(~none, floor[:, None, None])
        # words beyond the end hang on the first word, which hangs on the root if it is none itself
        first = (place == 0).expand_as(beyond)
        hung = torch.zeros_like(none)
        hung[:, 0], hung[:, 1] = beyond & first, beyond & ~first
        mild = bool((logs.detach() >= -_MILD).logical_or(none).all())
        count = _log_determinant if mild else _log_trees
        total = count(logs.masked_fill(hung, 0.0), self.single_root)
        lost = hopeless | (total < least - 1.0)
        total = total.masked_fill(beyond.all(1), 0.0) + top.masked_fill(beyond, 0.0).sum(1)
        return total.masked_fill(lost, -torch.inf).to(scores)


def _log_determinant(logs: Tensor, single_root: bool) -> Tensor:
    """Return what :func:`_log_trees` does, by a determinant: weights are of like size, or zero."""
    weights = logs.exp()
    arcs = weights[:, 1:]
    laplacian = torch.diag_embed((arcs if single_root else weights).sum(1)) - arcs
    if single_root:  # the first row tells which word depends on the root
        laplacian = torch.cat([weights[:, :1], laplacian[:, 1:]], dim=1)
    with torch.no_grad():
        lost = torch.linalg.slogdet(laplacian).sign <= 0
    unit = torch.eye(logs.shape[2]).to(laplacian)
    log_det: Tensor = torch.linalg.slogdet(laplacian.where(~lost[:, None, None], unit)).logabsdet
    return log_det.masked_fill(lost, -torch.inf)


def _log_trees(logs: Tensor, single_root: bool) -> Tensor:
    """Return ``(B,)`` log sums over trees, of finite ``(B, n + 1, n)`` logs of weights of arcs.

    Nodes are eliminated one by one, the last first: its arcs to and from the others become arcs
    among them (Grassmann, Taksar and Heyman 1985). Nothing is ever subtracted, as it would be in a
    determinant, so that heads of any odds keep all digits.
    """
    if single_root:
        arcs = logs[:, 1:]
    else:  # the root is the first node, and no word its head
        arcs = torch.cat([logs.new_zeros(*logs.shape[:2], 1), logs], dim=2)
    norms, outward = [], []
    for k in range(arcs.shape[1] - 1, 0, -1):
        heads, words = arcs[:, :k, k], arcs[:, k, :k]
        norms.append(heads.logsumexp(1))
        outward.append(words)
        through = (heads - norms[-1][:, None])[:, :, None] + words[:, None]
        # second derivatives of logaddexp are NaN where one of the two is far above the other
        arcs = torch.stack([arcs[:, :k, :k], through]).logsumexp(0)
    first = sum(norms, logs.new_zeros(len(logs)))
    if not single_root:
        return first
    # trees from each word relative to those from the first, as a stationary distribution
    odds = logs.new_zeros(len(logs), 1)
    for norm, words in zip(reversed(norms), reversed(outward), strict=True):
        odds = torch.cat([odds, ((odds + words).logsumexp(1) - norm)[:, None]], dim=1)
    return first + (logs[:, 0] + odds).logsumexp(1)
