"""Fields over trees, beside all trees of up to five words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.inference.trees.constituency_trees import ConstituencyTrees
from pgnn.inference.trees.projective_trees import ProjectiveTrees, heads_of
from pgnn.inference.trees.spanning_trees import SpanningTrees
from pgnn.inference.trees.tree_field import TreeField

Spans = tuple[tuple[int, int], ...]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def dependencies(words: int, single: bool, projective: bool) -> list[Tensor]:
    """All dependency trees, as arcs ``(words + 1, words)``."""
    trees = []
    for heads in itertools.product(range(words + 1), repeat=words):
        arcs = [(h, m) for m, h in enumerate(heads, 1)]
        if single and heads.count(0) != 1:
            continue
        reached = {0}
        for _ in heads:
            reached |= {m for h, m in arcs if h in reached}
        ends = [(min(a), max(a)) for a in arcs]
        crossed = any(a < c < b < d for a, b in ends for c, d in ends)
        if len(reached) == words + 1 and not (projective and crossed):
            parts = torch.zeros(words + 1, words, dtype=torch.float64)
            parts[list(heads), range(words)] = 1.0
            trees.append(parts)
    return trees


def bracketings(first: int, last: int) -> Iterator[Spans]:
    if first == last:
        yield ((first, first),)
    for k in range(first, last):
        for left, right in itertools.product(bracketings(first, k), bracketings(k + 1, last)):
            yield ((first, last), *left, *right)


def constituents(words: int) -> list[Tensor]:
    """All binary trees, as spans ``(words, words)``."""
    trees = []
    for spans in bracketings(0, words - 1):
        parts = torch.zeros(words, words, dtype=torch.float64)
        parts[[i for i, _ in spans], [j for _, j in spans]] = 1.0
        trees.append(parts)
    return trees


def check(field: TreeField, trees: list[Tensor], draws: int = 300) -> None:
    """Compare every answer about the first row with those of a list of all trees."""
    every = torch.stack(trees)
    scores = (field.scores[:1] * every).flatten(1).sum(1)
    weights = scores.softmax(0)
    assert field.log_partition()[0] == pytest.approx(float(scores.logsumexp(0)))
    expected = (weights[:, None] * every.flatten(1)).sum(0).reshape(every.shape[1:])
    torch.testing.assert_close(field.marginals()[0], expected)
    if isinstance(field, SpanningTrees):
        return
    best, top = field.best()
    assert torch.equal(best[0], every[scores.argmax()])
    assert top[0] == pytest.approx(float(scores.max()))
    drawn = field.sample(draws, 0)[:, 0]
    assert all(any(torch.equal(d, t) for t in trees) for d in drawn)
    assert (drawn.mean(0) - expected).abs().max() < 5 * 0.5 / math.sqrt(draws)
    torch.testing.assert_close(field.log_score(best)[0], top[0])


@pytest.mark.parametrize("words", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize(("kind", "projective"), [(ProjectiveTrees, True), (SpanningTrees, False)])
def test_dependencies(words: int, single: bool, kind: type, projective: bool) -> None:
    field = kind(random(1, words + 1, words), single_root=single)
    check(field, dependencies(words, single, projective))


@pytest.mark.parametrize("words", [1, 2, 3, 4, 5])
def test_constituents(words: int) -> None:
    trees = constituents(words)
    check(ConstituencyTrees(random(1, words, words)), trees)
    labelled = random(1, words, words, 2)
    field = ConstituencyTrees(labelled)
    plain = ConstituencyTrees(labelled.logsumexp(-1))
    torch.testing.assert_close(field.log_partition(), plain.log_partition())
    torch.testing.assert_close(field.marginals().sum(-1), plain.marginals())


def test_a_grammar() -> None:
    """All derivations of four words by all rules over two labels."""
    words, labels = 4, 2
    scores, rules, root = random(1, words, words, labels), random(2, 2, 2), random(2)
    total: dict[int, list[float]] = {0: [], 1: []}

    def derive(first: int, last: int) -> Iterator[tuple[int, float]]:
        for a in range(labels):
            own = float(scores[0, first, last, a])
            if first == last:
                yield a, own
            for k in range(first, last):
                for (b, left), (c, right) in itertools.product(
                    list(derive(first, k)), list(derive(k + 1, last))
                ):
                    yield a, own + left + right + float(rules[a, b, c])

    for a, score in derive(0, words - 1):
        total[a].append(score + float(root[a]))
    every = torch.tensor(total[0] + total[1], dtype=torch.float64)
    field = ConstituencyTrees(scores, rules=rules, root=root)
    assert field.log_partition()[0] == pytest.approx(float(every.logsumexp(0)))
    best, top = field.best()
    assert top[0] == pytest.approx(float(every.max()))
    assert best[0].sum() == 2 * words - 1
    torch.testing.assert_close(field.marginals()[0].sum(), torch.tensor(7.0, dtype=torch.float64))


FIELDS = [
    (ProjectiveTrees, (4, 3)),
    (SpanningTrees, (4, 3)),
    (ConstituencyTrees, (3, 3)),
]


@pytest.mark.parametrize(("kind", "shape"), FIELDS)
def test_gradients(kind: type, shape: tuple[int, ...]) -> None:
    scores = random(2, *shape).requires_grad_()
    lengths = torch.tensor([3, 2])
    assert torch.autograd.gradcheck(lambda s: kind(s, lengths).log_partition(), scores)
    assert torch.autograd.gradcheck(lambda s: kind(s, lengths).marginals(), scores)


@pytest.mark.parametrize(("kind", "shape"), FIELDS)
def test_rows_of_other_lengths(kind: type, shape: tuple[int, ...]) -> None:
    scores = random(3, *shape)
    together = kind(scores, torch.tensor([3, 2, 0]))
    short = scores[1:2, : shape[0] - 1, : shape[1] - 1]
    alone = kind(short)
    torch.testing.assert_close(together.log_partition()[1:2], alone.log_partition())
    marginals = together.marginals()
    torch.testing.assert_close(marginals[1:2, : shape[0] - 1, : shape[1] - 1], alone.marginals())
    assert marginals[1].sum() == pytest.approx(float(alone.marginals().sum()))
    assert together.log_partition()[2] == 0
    assert marginals[2].eq(0).all()


@pytest.mark.parametrize(("kind", "shape"), FIELDS)
def test_no_tree(kind: type, shape: tuple[int, ...]) -> None:
    scores = random(2, *shape)
    scores[1] = -math.inf
    scores.requires_grad_()
    field = kind(scores)
    log_z = field.log_partition()
    assert log_z[1] == -math.inf
    assert log_z[0].isfinite()
    (gradient,) = torch.autograd.grad(
        log_z[:1].sum() + log_z[1:].nan_to_num(neginf=0.0).sum(), scores
    )
    assert gradient.isfinite().all()
    assert gradient[1].eq(0).all()
    assert field.marginals()[1].isnan().all()
    if kind is ProjectiveTrees:
        assert heads_of(field.best()[0])[1].tolist() == [-1, -1, -1]


def test_wrong_fields() -> None:
    with pytest.raises(ModelError, match=r"\(B, n \+ 1, n\).*\(2, 3, 3\)"):
        ProjectiveTrees(torch.zeros(2, 3, 3))
    with pytest.raises(ModelError, match=r"\(2, 3, 4\)"):
        ConstituencyTrees(torch.zeros(2, 3, 4))
    with pytest.raises(ModelError, match=r"rules \(2, 2, 2\)"):
        ConstituencyTrees(torch.zeros(2, 3, 3, 2), rules=torch.zeros(2, 2))
    with pytest.raises(ModelError, match="row 1 has 4"):
        ConstituencyTrees(torch.zeros(2, 3, 3), torch.tensor([3, 4]))
    scores = torch.zeros(2, 3, 3)
    scores[0, 1, 2] = math.nan
    with pytest.raises(ModelError, match=r"\[0, 1, 2\]"):
        ConstituencyTrees(scores)
    with pytest.raises(Unsupported, match="ProjectiveTrees"):
        SpanningTrees(torch.zeros(1, 3, 2)).best()


@pytest.mark.parametrize("single", [True, False])
def test_crossing_trees_of_scores_of_any_size(single: bool) -> None:
    """Where the best tree is far above all others, it has all the probability."""
    for size in (30.0, 1e3, 1e5):
        scores = (random(3, 5, 4) * size).requires_grad_()
        field = SpanningTrees(scores, single_root=single)
        trees = torch.stack(dependencies(4, single, False))
        values = torch.einsum("bhm,thm->bt", scores.detach(), trees)
        torch.testing.assert_close(field.log_partition(), values.logsumexp(1), rtol=1e-12, atol=0)
        expected = torch.einsum("bt,thm->bhm", values.softmax(1), trees)
        torch.testing.assert_close(field.marginals(), expected, rtol=0, atol=1e-9)
        (gradient,) = torch.autograd.grad(field.marginals().square().sum(), scores)
        assert bool(gradient.isfinite().all())


def test_crossing_trees_where_most_arcs_are_ruled_out() -> None:
    scores = torch.full((2, 4, 3), -torch.inf)
    scores[:, [0, 3, 2], [2, 1, 0]] = torch.tensor(
        [1.0, 2.0, 3.0]
    )  # the only tree: 0 -> 3 -> 2 -> 1
    scores[1, 3, 1] = -torch.inf
    for single in (True, False):
        field = SpanningTrees(scores, single_root=single)
        assert field.log_partition().tolist() == pytest.approx([6.0, -math.inf])
        assert torch.equal(field.marginals()[0], scores[0].isfinite().float())
