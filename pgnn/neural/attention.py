"""Attention: a choice among steps, replaced by its expectation or drawn."""

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
    """How well keys answer queries."""

    @abstractmethod
    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return ``(B, T, S)`` scores of queries ``(B, T, Q)`` and keys ``(B, S, K)``."""


class AdditiveScore(Score):
    r"""The score of a layer of hidden units, :math:`v^\top \tanh(W k + U q)`.

    Args:
        queries: Numbers of a query.
        keys: Numbers of a key.
        hidden: Hidden units.

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
        scaled: Whether to divide by the root of the numbers of a key.

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
        queries: Numbers of a query.
        keys: Numbers of a key.

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
    r"""Chooses one of the steps for each query: :math:`p(z = s \mid q, k) \propto e^{f(q, k_s)}`.

    The choice is a latent categorical variable. A layer replaces the chosen value by its
    expectation, which is soft attention; :meth:`conditional` makes of it a variable of a model,
    whose posterior a query gives; :class:`HardAttention` draws it. With queries that are the keys
    it is self-attention; with values that are not, it is key-value attention. With several heads
    it is ``nn.MultiheadAttention``.

    .. math:: c = E[v_z] = \sum_s p(z = s \mid q, k) \, v_s

    Args:
        score: What compares queries and keys.

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
            queries: ``(B, T, Q)``.
            keys: ``(B, S, K)``.
            inside: ``(B, S)`` which of the steps there are; all if not given.

        Raises:
            ModelError: If queries or keys are no batches of steps.
        """
        if queries.dim() != 3 or keys.dim() != 3 or len(queries) != len(keys):
            raise ModelError(
                "attention takes queries (B, T, Q) and keys (B, S, K) of the same rows, got "
                f"{tuple(queries.shape)} and {tuple(keys.shape)}"
            )
        scores = self.score(queries, keys)
        return log_weights(scores, scores.new_ones(len(keys), keys.shape[1]) if inside is None
                           else inside)  # fmt: skip

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return ``(B, T, V)`` expected values; zeros where there are no steps.

        Args:
            queries: ``(B, T, Q)``.
            keys: ``(B, S, K)``.
            values: ``(B, S, V)``; the keys if not given.
            inside: ``(B, S)`` which of the steps there are; all if not given.
        """
        return self.log_weights(queries, keys, inside).exp() @ (keys if values is None else values)

    def conditional(
        self, choice: Variable, query: Hashable = "query", keys: Hashable = "keys"
    ) -> Neural:
        """Return the choice as a conditional, given inputs.

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
    r"""Draws the chosen step, for losses of which soft attention has another value.

    The gradient of an expected loss is that of its scores,
    :math:`\nabla E[\ell(v_z)] = E[(\ell(v_z) - b) \nabla \log p(z) + \nabla \ell(v_z)]`, with the
    mean of the other draws as baseline :math:`b`; :meth:`surrogate` has it.

    Args:
        score: What compares queries and keys.
        draws: For each query, two at least.

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

        Draws are made by torch's random state; for the arguments see :meth:`forward`.

        Raises:
            ModelError: If a row has no steps to choose among.
        """
        logits = self.log_weights(queries, keys, inside)
        if bool((logits == -torch.inf).all(-1).any()):
            raise ModelError("a row has no steps to choose among: leave it out")
        choice = Categorical(logits=logits)
        drawn: Tensor = choice.sample((self.draws,))  # type: ignore[no-untyped-call]
        chosen = keys if values is None else values
        rows = torch.arange(len(chosen), device=chosen.device)[:, None]
        log_prob: Tensor = choice.log_prob(drawn)  # type: ignore[no-untyped-call]
        return chosen[rows, drawn], log_prob

    def surrogate(self, losses: Tensor, log_prob: Tensor) -> Tensor:
        """Return ``(B,)`` mean losses whose gradients are unbiased for the expected ones.

        Args:
            losses: ``(D, B)`` of each draw.
            log_prob: ``(D, B)`` log probabilities of all that was drawn for it.
        """
        from pgnn.inference.continuous.objective import ScoreFunction, surrogate
        from pgnn.inference.learning.control_variates import Signal

        return -surrogate(ScoreFunction(self.draws), -losses, [Signal(-losses, log_prob)])


class _Choice(nn.Module):
    """Attention of one query a row, called with inputs by name."""

    def __init__(self, attention: Attention, query: Hashable, keys: Hashable) -> None:
        super().__init__()
        self.attention, self.query, self.keys = attention, query, keys

    def forward(self, inputs: Mapping[Hashable, Tensor]) -> Tensor:
        queries = inputs[self.query].unsqueeze(1)
        return self.attention.log_weights(queries, inputs[self.keys])[:, 0]


def log_weights(scores: Tensor, inside: Tensor) -> Tensor:
    """Return log probabilities of the steps that there are, ``-inf`` for others and for none.

    Args:
        scores: ``(B, T, S)``.
        inside: ``(B, S)`` which of the steps there are.
    """
    outside = ~inside.bool()[:, None]
    lost = outside.all(-1, keepdim=True)
    # of a row without steps the softmax would be NaN, and so would its gradient be
    masked = scores.masked_fill(outside, -torch.inf).masked_fill(lost, 0.0)
    return masked.log_softmax(-1).masked_fill(outside, -torch.inf)
