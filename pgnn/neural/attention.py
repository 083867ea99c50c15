"""Attention as a latent choice among steps, replaced by its expectation or sampled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from pgnn.errors import ModelError
from pgnn.factors.conditionals.neural import ByName, Neural
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number


class Score(nn.Module, ABC):
    """A score of each query and key."""

    @abstractmethod
    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return ``(B, T, S)`` scores of queries ``(B, T, Q)`` and keys ``(B, S, K)``."""


class AdditiveScore(Score):
    r"""The score of a network with one hidden layer, :math:`v^\top \tanh(W k + U q)`.

    Args:
        queries: Size of a query.
        keys: Size of a key.
        hidden: Number of hidden units.

    References:
        Bahdanau, Cho and Bengio (2015), Neural machine translation by jointly learning to align
        and translate, section 3.1.

    Example:
        >>> AdditiveScore(3, 4, hidden=8)(torch.zeros(2, 5, 3), torch.zeros(2, 6, 4)).shape
        torch.Size([2, 5, 6])
    """

    def __init__(self, queries: int, keys: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(queries, hidden, bias=False)
        self.key = nn.Linear(keys, hidden, bias=False)
        self.out = nn.Linear(hidden, 1, bias=False)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """See the base class."""
        units = self.query(queries)[:, :, None] + self.key(keys)[:, None]
        scores: Tensor = self.out(units.tanh())
        return scores.squeeze(-1)


class DotScore(Score):
    r"""The dot product :math:`k^\top q`, or :math:`k^\top q / \sqrt K`.

    Args:
        scaled: Whether to divide by the square root of the size of a key.

    References:
        Vaswani et al. (2017), Attention is all you need, section 3.2.1.

    Example:
        >>> keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> DotScore()(torch.tensor([[[3.0, 4.0]]]), keys).tolist()
        [[[3.0, 4.0]]]
    """

    def __init__(self, *, scaled: bool = False) -> None:
        super().__init__()
        self.scaled = scaled

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """See the base class."""
        scores = queries @ keys.mT
        return scores / keys.shape[-1] ** 0.5 if self.scaled else scores


class BilinearScore(Score):
    r"""The score :math:`k^\top W q`.

    Args:
        queries: Size of a query.
        keys: Size of a key.

    References:
        Luong, Pham and Manning (2015), Effective approaches to attention-based neural machine
        translation, section 3.1.

    Example:
        >>> BilinearScore(3, 4)(torch.zeros(2, 5, 3), torch.zeros(2, 6, 4)).shape
        torch.Size([2, 5, 6])
    """

    def __init__(self, queries: int, keys: int) -> None:
        super().__init__()
        self.weight = nn.Linear(queries, keys, bias=False)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """See the base class."""
        scores: Tensor = self.weight(queries) @ keys.mT
        return scores


class Attention(nn.Module):
    r"""A choice of one step for each query, :math:`p(z = s \mid q, k) \propto e^{f(q, k_s)}`.

    The choice is a latent categorical variable. As a layer, soft attention replaces the chosen
    value by its expectation; :meth:`conditional` makes the choice a variable of a model, whose
    posterior can be queried; :class:`HardAttention` samples it. Queries equal to the keys give
    self-attention, separate values give key-value attention. ``nn.MultiheadAttention`` is the
    version with several heads.

    .. math:: c = E[v_z] = \sum_s p(z = s \mid q, k) \, v_s

    Args:
        score: Score of queries and keys.

    References:
        Xu et al. (2015), Show, attend and tell, section 4; Deng et al. (2018), Latent alignment
        and variational attention, section 2.

    Example:
        >>> keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> Attention(DotScore())(torch.tensor([[[200.0, 0.0]]]), keys).tolist()
        [[[1.0, 0.0]]]
    """

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score

    def log_weights(self, queries: Tensor, keys: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return ``(B, T, S)`` log probabilities of the steps.

        Args:
            queries: ``(B, T, Q)`` queries.
            keys: ``(B, S, K)`` keys.
            inside: ``(B, S)`` mask of valid steps; all by default.

        Raises:
            ModelError: If the shapes of queries and keys do not fit.
        """
        if queries.dim() != 3 or keys.dim() != 3 or len(queries) != len(keys):
            raise ModelError(
                "attention takes queries (B, T, Q) and keys (B, S, K) with the same B, got "
                f"{tuple(queries.shape)} and {tuple(keys.shape)}"
            )
        scores = self.score(queries, keys)
        return log_weights(scores, scores.new_ones(len(keys), keys.shape[1]) if inside is None
                           else inside)  # fmt: skip

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return ``(B, T, V)`` expected values; zeros for rows without steps.

        Args:
            queries: ``(B, T, Q)`` queries.
            keys: ``(B, S, K)`` keys.
            values: ``(B, S, V)`` values; the keys by default.
            inside: ``(B, S)`` mask of valid steps; all by default.
        """
        return self.log_weights(queries, keys, inside).exp() @ (keys if values is None else values)

    def conditional(
        self, choice: Variable, query: Hashable = "query", keys: Hashable = "keys"
    ) -> Neural:
        """Return the choice as a conditional given inputs.

        Args:
            choice: A variable with a state for each step.
            query: Name of the input ``(B, Q)``.
            keys: Name of the input ``(B, S, K)``.

        Example:
            >>> import pgnn
            >>> z = pgnn.Variable("z", 3)
            >>> model = pgnn.BayesianNetwork([], [Attention(DotScore()).conditional(z)])
            >>> given = {"query": torch.zeros(5, 2), "keys": torch.zeros(5, 3, 2)}
            >>> model.query("z", inputs=given)["z"].probs.shape
            torch.Size([5, 3])
        """
        network = _Choice(self, query, keys)
        return Neural(choice, [], network, inputs=[query, keys], features=ByName())


class HardAttention(Attention):
    r"""Attention that samples the chosen step, for losses that are nonlinear in the chosen value.

    The gradient of the expected loss is
    :math:`\nabla E[\ell(v_z)] = E[(\ell(v_z) - b) \nabla \log p(z) + \nabla \ell(v_z)]`, with the
    mean of the other draws as baseline :math:`b`, see :meth:`surrogate`.

    Args:
        score: Score of queries and keys.
        draws: Number of draws for each query, at least two.

    References:
        Xu et al. (2015), Show, attend and tell, section 4.1; Williams (1992), Simple statistical
        gradient-following algorithms.

    Example:
        >>> layer = HardAttention(BilinearScore(2, 2), draws=4)
        >>> values, log_prob = layer.draw(torch.zeros(5, 1, 2), torch.zeros(5, 3, 2))
        >>> layer.surrogate(values.square().sum((2, 3)), log_prob.sum(2)).shape
        torch.Size([5])
    """

    def __init__(self, score: Score, draws: int = 10) -> None:
        super().__init__(score)
        self.draws = whole_number("draws", draws, 2, ModelError)

    def draw(
        self, queries: Tensor, keys: Tensor, values: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return drawn values ``(D, B, T, V)`` and their log probabilities ``(D, B, T)``.

        Uses torch's global random state; see :meth:`forward` for the arguments.

        Raises:
            ModelError: If a row has no valid step.
        """
        logits = self.log_weights(queries, keys, inside)
        if bool((logits == -torch.inf).all(-1).any()):
            raise ModelError("each row needs a valid step, got a row without any", "leave it out")
        choice = Categorical(logits=logits)
        drawn: Tensor = choice.sample((self.draws,))  # type: ignore[no-untyped-call]
        chosen = keys if values is None else values
        rows = torch.arange(len(chosen), device=chosen.device)[:, None]
        log_prob: Tensor = choice.log_prob(drawn)  # type: ignore[no-untyped-call]
        return chosen[rows, drawn], log_prob

    def surrogate(self, losses: Tensor, log_prob: Tensor) -> Tensor:
        """Return ``(B,)`` surrogate losses with unbiased gradients of the expected losses.

        Args:
            losses: ``(D, B)`` losses of the draws.
            log_prob: ``(D, B)`` total log probabilities of the choices of each draw.
        """
        from pgnn.inference.continuous.objective import ScoreFunction, surrogate
        from pgnn.inference.learning.control_variates import Signal

        return -surrogate(ScoreFunction(self.draws), -losses, [Signal(-losses, log_prob)])


class _Choice(nn.Module):
    """Attention with one query per row and named inputs."""

    def __init__(self, attention: Attention, query: Hashable, keys: Hashable) -> None:
        super().__init__()
        self.attention, self.query, self.keys = attention, query, keys

    def forward(self, inputs: Mapping[Hashable, Tensor]) -> Tensor:
        queries = inputs[self.query].unsqueeze(1)
        return self.attention.log_weights(queries, inputs[self.keys])[:, 0]


def log_weights(scores: Tensor, inside: Tensor) -> Tensor:
    """Return log probabilities of the valid steps, ``-inf`` for other steps.

    Args:
        scores: ``(B, T, S)`` scores.
        inside: ``(B, S)`` mask of valid steps.
    """
    outside = ~inside.bool()[:, None]
    lost = outside.all(-1, keepdim=True)
    # the softmax of a row without steps, and its gradient, would be NaN
    masked = scores.masked_fill(outside, -torch.inf).masked_fill(lost, 0.0)
    return masked.log_softmax(-1).masked_fill(outside, -torch.inf)
