"""Attention against its sums written out, and as the latent choice that it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn import neural
from pgnn.errors import ModelError
from pgnn.neural.attention import log_weights

B, T, S, Q, K = 2, 3, 4, 5, 5


@pytest.fixture
def steps() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(B, T, Q), torch.randn(B, S, K), torch.randn(B, S, 2)


def scores() -> dict[str, neural.Score]:
    return {
        "additive": neural.AdditiveScore(Q, K, 7),
        "dot": neural.DotScore(),
        "scaled": neural.DotScore(scaled=True),
        "bilinear": neural.BilinearScore(Q, K),
    }


def written_out(name: str, score: neural.Score, q: Tensor, k: Tensor) -> Tensor:
    if isinstance(score, neural.AdditiveScore):
        hidden = torch.tanh(score.query.weight @ q + score.key.weight @ k)
        return score.out.weight[0] @ hidden
    if isinstance(score, neural.BilinearScore):
        return k @ score.weight.weight @ q
    return k @ q / (K**0.5 if name == "scaled" else 1.0)


@pytest.mark.parametrize("name", ["additive", "dot", "scaled", "bilinear"])
def test_scores_and_sums(name: str, steps: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, keys, values = steps
    score = scores()[name]
    context = neural.Attention(score)(queries, keys, values)
    for b in range(B):
        for t in range(T):
            each = torch.stack([written_out(name, score, queries[b, t], k) for k in keys[b]])
            expected = (each.softmax(0)[:, None] * values[b]).sum(0)
            torch.testing.assert_close(context[b, t], expected, atol=1e-6, rtol=1e-5)


def test_steps_that_are_not_there_have_no_weight(steps: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, keys, values = steps
    keys.requires_grad_()
    inside = torch.tensor([[True, True, False, False], [False] * 4])
    layer = neural.Attention(neural.DotScore())
    context = layer(queries, keys, values, inside)
    short = layer(queries[:1], keys[:1, :2], values[:1, :2])
    torch.testing.assert_close(context[:1], short)
    assert not context[1].any()
    context.sum().backward()
    assert keys.grad is not None
    assert keys.grad.isfinite().all()
    assert not keys.grad[0, 2:].any()
    lost = log_weights(torch.zeros(1, 1, 3), torch.zeros(1, 3))
    assert (lost == -torch.inf).all()


def test_several_heads_are_torchs(steps: tuple[Tensor, Tensor, Tensor]) -> None:
    """Heads are attentions of their own between projections; here each sees half of them."""
    queries, keys, _ = torch.randn(B, T, 4), torch.randn(B, S, 4), None
    torchs = nn.MultiheadAttention(4, 2, bias=False, batch_first=True)
    with torch.no_grad():
        torchs.in_proj_weight.copy_(torch.eye(4).repeat(3, 1))
        torchs.out_proj.weight.copy_(torch.eye(4))
    ours = neural.Attention(neural.DotScore(scaled=True))
    heads = [ours(queries[..., h], keys[..., h]) for h in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torchs(queries, keys, keys)[0], torch.cat(heads, -1))


def test_soft_attention_is_the_expectation_under_the_latent_choice(
    steps: tuple[Tensor, Tensor, Tensor],
) -> None:
    queries, keys, values = steps
    attention = neural.Attention(neural.BilinearScore(Q, K))
    model = pgnn.BayesianNetwork([], [attention.conditional(pgnn.Variable("z", S))])
    posterior = model.query("z", inputs={"query": queries[:, 0], "keys": keys})
    expected = (posterior["z"].probs.unsqueeze(-1) * values).sum(1)
    torch.testing.assert_close(attention(queries[:, :1], keys, values)[:, 0], expected)


def test_the_choice_is_told_by_what_it_makes(steps: tuple[Tensor, Tensor, Tensor]) -> None:
    """The posterior of the choice, given a value that was seen, by Bayes' rule."""
    queries, keys, values = steps
    z, y = pgnn.Variable("z", S), pgnn.Variable("y")
    attention = neural.Attention(neural.DotScore())
    picked = pgnn.Neural(
        y, [z], _Pick(), inputs=["values"], head=pgnn.NormalHead((), 0.5), features=pgnn.ByName()
    )
    model = pgnn.BayesianNetwork([("z", "y")], [attention.conditional(z), picked])
    given = {"query": queries[:, 0], "keys": keys, "values": values[..., 0]}
    observed = torch.tensor([0.3, -0.2])
    prior = attention.log_weights(queries[:, :1], keys)[:, 0]
    likelihood = torch.distributions.Normal(values[..., 0], 0.5).log_prob(observed[:, None])
    posterior = model.query("z", {"y": observed}, inputs=given)
    expected = (prior + likelihood).softmax(-1)
    torch.testing.assert_close(posterior["z"].probs, expected, check_dtype=False)
    evidence = (prior + likelihood).logsumexp(-1)
    torch.testing.assert_close(posterior.log_evidence, evidence, check_dtype=False)


class _Pick(nn.Module):
    def forward(self, given: dict[str, Tensor]) -> Tensor:
        return given["values"].gather(1, given["z"][:, None])


def test_hard_attention_has_the_gradient_of_the_expected_loss(
    steps: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Five standard errors of the mean of independent estimates; the loss is not linear."""
    queries, keys, values = steps
    layer = neural.HardAttention(neural.BilinearScore(Q, K), draws=50)
    target = torch.tensor([1.0, -1.0])

    probs = layer.log_weights(queries, keys).exp()
    loss = (values - target).square().sum(-1)
    expected = (probs * loss[:, None]).sum()
    exact = torch.autograd.grad(expected, layer.score.weight.weight)[0]

    estimates = []
    for _ in range(200):
        drawn, log_prob = layer.draw(queries, keys, values)
        losses = (drawn - target).square().sum((-1, -2))
        surrogate = layer.surrogate(losses, log_prob.sum(-1)).sum()
        estimates.append(torch.autograd.grad(surrogate, layer.score.weight.weight)[0])
    each = torch.stack(estimates)
    error = each.std(0) / len(each) ** 0.5
    assert ((each.mean(0) - exact).abs() < 5 * error).all()
    assert (exact.abs() > 10 * error).any()


def test_bad_input() -> None:
    layer = neural.HardAttention(neural.DotScore())
    with pytest.raises(ModelError, match=r"\(2, 3\) and \(2, 4, 3\)"):
        layer(torch.zeros(2, 3), torch.zeros(2, 4, 3))
    with pytest.raises(ModelError, match="each row needs a valid step"):
        layer.draw(torch.zeros(1, 1, 3), torch.zeros(1, 4, 3), inside=torch.zeros(1, 4).bool())
    with pytest.raises(ModelError, match="draws"):
        neural.HardAttention(neural.DotScore(), draws=1)
