"""Dependency trees with crossing arcs: the matrix-tree theorem."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.inference.semiring import Reduction, Sum
from pgnn.inference.trees.projective_trees import check_arcs
from pgnn.inference.trees.tree_field import TreeField

_MILD = 10.0
"""Largest difference, in nats, of the scores of arcs into a word for an accurate determinant."""
_FAR = 50.0
"""Difference in nats between the scores of possible and of impossible trees."""


class SpanningTrees(TreeField):
    r"""Distributions over all dependency trees, projective or not; sums and marginals only.

    .. math:: Z = \det L, \qquad L_{hm} = -e^{s_{hm}}, \quad L_{mm} = \sum_{h \ne m} e^{s_{hm}}

    If the scores of arcs into a word differ by much, the determinant is computed in log space
    without subtractions, so that results are accurate for scores of any size.

    Parts are arcs, as in :class:`ProjectiveTrees`.

    Args:
        scores: ``(B, n + 1, n)`` log scores.
        lengths: ``(B,)`` number of words of each row; ``n`` if not given.
        single_root: Whether exactly one word depends on the root.

    Raises:
        ModelError: If the shape is wrong.

    Cost: :math:`O(n^3)` per row; in :math:`n` steps if scores differ by more than 10 nats.

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
        """See the base class; each word has one head, so that its column can be scaled.

        Raises:
            Unsupported: For maxima and samples, which are not given by determinants.
        """
        if not isinstance(reduction, Sum):
            raise Unsupported(
                "SpanningTrees supports sums and marginals only", "use ProjectiveTrees"
            )
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
        # a possible tree scores at least ``least``, any other far less
        least = words * logs.detach().masked_fill(none, 0.0).flatten(start_dim=1).amin(1)
        floor = least - words * math.log(words + 1) - _FAR
        logs = logs.where(~none, floor[:, None, None])
        # words beyond the end depend on the first word, which depends on the root in empty rows
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
    """:func:`_log_trees` by a determinant, for weights of similar size, or zero."""
    weights = logs.exp()
    arcs = weights[:, 1:]
    laplacian = torch.diag_embed((arcs if single_root else weights).sum(1)) - arcs
    if single_root:  # the first row selects the word that depends on the root
        laplacian = torch.cat([weights[:, :1], laplacian[:, 1:]], dim=1)
    with torch.no_grad():
        lost = torch.linalg.slogdet(laplacian).sign <= 0
    unit = torch.eye(logs.shape[2]).to(laplacian)
    log_det: Tensor = torch.linalg.slogdet(laplacian.where(~lost[:, None, None], unit)).logabsdet
    return log_det.masked_fill(lost, -torch.inf)


def _log_trees(logs: Tensor, single_root: bool) -> Tensor:
    """Return ``(B,)`` log sums over trees, given finite ``(B, n + 1, n)`` log weights of arcs.

    Nodes are eliminated one by one, the last first: arcs to and from a node become arcs among the
    others (Grassmann, Taksar and Heyman 1985). Other than in a determinant there are no
    subtractions, so that heads of any odds keep full precision.
    """
    if single_root:
        arcs = logs[:, 1:]
    else:  # the root is the first node, and has no head
        arcs = torch.cat([logs.new_zeros(*logs.shape[:2], 1), logs], dim=2)
    norms, outward = [], []
    for k in range(arcs.shape[1] - 1, 0, -1):
        heads, words = arcs[:, :k, k], arcs[:, k, :k]
        norms.append(heads.logsumexp(1))
        outward.append(words)
        through = (heads - norms[-1][:, None])[:, :, None] + words[:, None]
        # second derivatives of logaddexp are NaN if one argument is far above the other
        arcs = torch.stack([arcs[:, :k, :k], through]).logsumexp(0)
    first = sum(norms, logs.new_zeros(len(logs)))
    if not single_root:
        return first
    # sums of trees rooted at each word relative to the first word: a stationary distribution
    odds = logs.new_zeros(len(logs), 1)
    for norm, words in zip(reversed(norms), reversed(outward), strict=True):
        odds = torch.cat([odds, ((odds + words).logsumexp(1) - norm)[:, None]], dim=1)
    return first + (logs[:, 0] + odds).logsumexp(1)
