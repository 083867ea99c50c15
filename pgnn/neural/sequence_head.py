"""Token sequences as values of a single variable."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Size, Tensor, nn
from torch.distributions import Categorical, Distribution, constraints

from pgnn.errors import EvidenceError, ModelError
from pgnn.factors.conditionals.heads import NeuralHead
from pgnn.factors.piece import Listed
from pgnn.limits import whole_number
from pgnn.neural.encoder_decoder import Decoder


class SequenceHead(NeuralHead, Listed):
    r"""A recurrent likelihood of a token sequence given a context vector.

    .. math:: p(y \mid c) = \prod_{t=1}^T p(y_t \mid y_1, \dots, y_{t-1}, c)

    The child is a real variable whose ``T`` numbers are the tokens. Shorter sequences are padded
    with ``NaN``, which is marginalised. Use an end token to model the end of a sequence.

    Args:
        shape: Shape ``(T,)`` of the child.
        tokens: Number of tokens.
        context: Size of the context :math:`c`, the output of the module for a row.
        hidden: Size of the hidden states.
        embedding: Size of the embedding of a token.
        body: Maps features ``(B, T, embedding + context)`` and a state to hidden states
            ``(B, T, hidden)`` and a state; a :class:`Decoder` by default.

    Raises:
        ModelError: If the shape is not ``(T,)``.

    References:
        Sutskever, Vinyals and Le (2014), Sequence to sequence learning with neural networks,
        section 2.

    Example:
        >>> import pgnn
        >>> topic, text = pgnn.Variable("topic", 3), pgnn.Variable("text", shape=(4,))
        >>> head = SequenceHead((4,), tokens=26, context=8)
        >>> text_given_topic = pgnn.Neural(text, [topic], nn.Linear(3, 8), head=head)
        >>> text_given_topic.factor({"text": torch.tensor([[7.0, 8.0, torch.nan, torch.nan]])})
        Factor('topic', batch=(1,))
    """

    def __init__(
        self, shape: tuple[int, ...], tokens: int, context: int, hidden: int = 32,
        embedding: int = 16, body: nn.Module | None = None,
    ) -> None:  # fmt: skip
        nn.Module.__init__(self)
        NeuralHead.__init__(self, shape)
        if len(self.shape) != 1:
            raise ModelError(f"the shape of a token sequence must be (T,), got {self.shape!r}")
        self.tokens = whole_number("tokens", tokens, 1, ModelError)
        self.context, self.hidden = whole_number("context", context, 1, ModelError), hidden
        self.embedding = nn.Embedding(self.tokens + 1, embedding)  # the last is the start token
        self.body = Decoder(embedding + context, hidden) if body is None else body
        self.out = nn.Linear(hidden, self.tokens)

    def settings(self) -> dict[str, object]:
        """Return the arguments of the constructor."""
        return {
            "shape": self.shape,
            "tokens": self.tokens,
            "context": self.context,
            "hidden": self.hidden,
            "embedding": self.embedding.embedding_dim,
            "body": self.body,
        }

    def forward(self, output: Tensor) -> Distribution:
        """Return the distribution for outputs ``(rows, context)``.

        Raises:
            ModelError: If the outputs have another shape.
        """
        if output.dim() != 2 or output.shape[1] != self.context:
            raise ModelError(
                f"the network of a token sequence must return (rows, {self.context}), got "
                f"{tuple(output.shape)}"
            )
        return TokenSequence(self, output)

    __call__ = nn.Module.__call__

    def log_prob(self, dist: Distribution, x: Tensor) -> Tensor:
        """See the base class.

        Raises:
            EvidenceError: If a token is missing before an observed token.
        """
        missing = x.isnan()
        if bool((missing[..., :-1] & ~missing[..., 1:]).any()):
            raise EvidenceError(
                "a token is missing before an observed token; only tokens at the end of a "
                "sequence may be missing"
            )
        assert isinstance(dist, TokenSequence)
        tokens = x.nan_to_num()
        whole = (tokens == tokens.round()) & (tokens >= 0) & (tokens < self.tokens)
        logs = dist.log_probs(tokens.clamp(0, self.tokens - 1), missing)
        return logs.masked_fill(~whole.all(-1), -torch.inf)

    def step(self, tokens: Tensor, context: Tensor, state: object) -> tuple[Tensor, object]:
        """Return ``(B, T, K)`` log probabilities of the next tokens, and a state."""
        repeated = context[:, None].expand(-1, tokens.shape[1], -1)
        features = torch.cat([self.embedding(tokens), repeated], dim=-1)
        hidden, after = self.body(features, state)
        return self.out(hidden).log_softmax(-1), after


class TokenSequence(Distribution):
    """An autoregressive distribution of token sequences.

    Args:
        head: Head with the network.
        context: ``(B, C)`` contexts of the rows.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, head: SequenceHead, context: Tensor) -> None:
        super().__init__(context.shape[:1], Size(head.shape), validate_args=False)
        self.head, self.context = head, context

    @property
    def support(self) -> constraints.Constraint:
        """Token indices."""
        tokens: Any = constraints.integer_interval
        each: Any = constraints.independent
        return cast(constraints.Constraint, each(tokens(0, self.head.tokens - 1), 1))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log probabilities of values ``(..., T)``, broadcast with the rows."""
        return self.log_probs(value, torch.zeros_like(value, dtype=torch.bool))

    def log_probs(self, value: Tensor, missing: Tensor) -> Tensor:
        """Return log probabilities of values ``(..., T)`` whose last tokens may be missing."""
        lead = (value[..., :1] + self.context[:, :1]).shape[:-1]
        tokens = value.expand(*lead, -1).reshape(-1, value.shape[-1]).long()
        context = self.context.expand(*lead, -1).flatten(end_dim=-2)
        start = tokens.new_full((len(tokens), 1), self.head.tokens)
        before = torch.cat([start, tokens[:, :-1]], dim=1)
        logs, _ = self.head.step(before, context, None)
        each = logs.gather(-1, tokens.unsqueeze(-1)).reshape(*lead, -1)
        return each.masked_fill(missing, 0.0).sum(-1)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # type: ignore[override]  # noqa: B008
        """Draw sequences, using torch's global random state."""
        context = self.context.expand(*sample_shape, -1, -1).flatten(end_dim=-2)
        token = torch.full((len(context), 1), self.head.tokens, device=context.device)
        state, drawn = None, []
        with torch.no_grad():
            for _ in range(self.event_shape[0]):
                logs, state = self.head.step(token, context, state)
                choice: Tensor = Categorical(logits=logs).sample()  # type: ignore[no-untyped-call]
                token = choice
                drawn.append(token)
        values = torch.cat(drawn, dim=1).to(context)
        return values.reshape(*sample_shape, -1, *self.event_shape)
