"""Transformers with sinusoidal positional encodings."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.factors.piece import Listed, Restorable
from pgnn.limits import whole_number
from pgnn.neural.encoder_decoder import SequenceEncoder
from pgnn.neural.output_heads import Memory
from pgnn.neural.units import Body

_BASE = 10_000.0


def sinusoidal_positions(steps: int, size: int, *, first: int = 0) -> Tensor:
    r"""Return ``(steps, size)`` sinusoidal positional encodings in double precision.

    .. math:: p_{t, 2l} = \sin(\omega_l t), \quad p_{t, 2l+1} = \cos(\omega_l t), \qquad
        \omega_l = 10000^{-2l/D}

    The encoding of a later step is a rotation of an earlier one:
    :math:`(p_{t+k, 2l}, p_{t+k, 2l+1})` is :math:`(p_{t, 2l}, p_{t, 2l+1})` rotated by the angle
    :math:`\omega_l k`.

    Args:
        steps: Number of steps.
        size: Size ``D`` of an encoding, an even number.
        first: Index of the first step.

    Raises:
        ModelError: If the size is odd, or not positive.

    References:
        Vaswani et al. (2017), Attention is all you need, section 3.5.

    Example:
        >>> sinusoidal_positions(2, 2)[0].tolist()
        [0.0, 1.0]
    """
    if whole_number("size", size, 1, ModelError) % 2:
        raise ModelError(
            f"size must be positive and even, a sine and a cosine for each frequency, got {size!r}"
        )
    pairs = torch.arange(0, size, 2, dtype=torch.float64)
    times = torch.arange(first, first + steps, dtype=torch.float64)
    angle = times[:, None] * torch.exp(-math.log(_BASE) * pairs / size)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(start_dim=1)


class SinusoidalPositions(nn.Module):
    """Adds positional encodings to sequences ``(B, T, D)``.

    Example:
        >>> SinusoidalPositions()(torch.zeros(1, 3, 2))[0, 0].tolist()
        [0.0, 1.0]
    """

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """Return the same shape.

        Args:
            x: Steps.
            first: Index of the first step.
        """
        return x + sinusoidal_positions(x.shape[-2], x.shape[-1], first=first).to(x)


def transformer(features: int, size: int, *, heads: int = 4, layers: int = 2) -> Body:
    """Return a transformer body that maps ``(B, T, features)`` to ``(B, T, size)``.

    Args:
        features: Number of features of a step.
        size: Size of the model, an even multiple of ``heads``.
        heads: Number of attention heads.
        layers: Number of layers.

    Raises:
        ModelError: If the size is not a multiple of the heads.

    Example:
        >>> transformer(3, 8)(torch.zeros(5, 12, 3)).shape
        torch.Size([5, 12, 8])
    """
    inner = _torch_layers(size, heads, layers, 0.0)
    return Body(nn.Linear(features, size), SinusoidalPositions(), inner, out_features=size)


class TransformerEncoder(SequenceEncoder):
    """Encodes sequences by transformer layers of torch.

    Args:
        inputs: Number of features of a step, or number of tokens.
        size: Size ``M`` of an encoded step, an even multiple of ``heads``.
        tokens: Whether the input consists of tokens.
        heads: Of each layer.
        layers: How many.
        dropout: Dropout probability in training mode.

    References:
        Vaswani et al. (2017), Attention is all you need, section 3.1; Xiong et al. (2020), On layer
        normalization in the transformer architecture (the order of the layers' parts).

    Example:
        >>> encoder = TransformerEncoder(5, 8, tokens=True)
        >>> encoder(torch.tensor([[1, 2, 0]]), torch.tensor([2])).values.shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self, inputs: int, size: int, *, tokens: bool = False, heads: int = 4, layers: int = 2,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(inputs, size, tokens=tokens)
        self._made = {"heads": heads, "layers": layers, "dropout": dropout}
        self.positions = SinusoidalPositions()
        self.layers = _torch_layers(size, heads, layers, dropout)

    def settings(self) -> dict[str, object]:
        """Return the arguments of the constructor."""
        return super().settings() | self._made

    def encode(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """See the base class."""
        outside = torch.arange(embedded.shape[1]) >= lengths[:, None]
        placed = self.positions(embedded)
        encoded: Tensor = self.layers(placed, src_key_padding_mask=outside.to(embedded.device))
        return encoded


class TransformerDecoder(Listed, Restorable):
    r"""Computes a hidden state of each step by attention to previous steps and to a memory.

    The state contains the inputs of each layer at previous steps, so that one more step costs
    attention to these, but does not recompute them.

    Args:
        inputs: Number of features of a step.
        hidden: Size ``H`` of the hidden states, an even multiple of ``heads``.
        layers: How many.
        heads: Of each layer.
        memory: Size of a step of the memory; 0 for no memory.
        dropout: Dropout probability in training mode.

    References:
        Vaswani et al. (2017), Attention is all you need, section 3.1; Xiong et al. (2020), On layer
        normalization in the transformer architecture (the order of the layers' parts).

    Example:
        >>> states, after = TransformerDecoder(3, 8)(torch.zeros(5, 2, 3))
        >>> states.shape, TransformerDecoder(3, 8)(torch.zeros(5, 1, 3), after)[0].shape
        (torch.Size([5, 2, 8]), torch.Size([5, 1, 8]))
    """

    def __init__(
        self, inputs: int, hidden: int, *, layers: int = 2, heads: int = 4, memory: int = 0,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self._made = {"inputs": inputs, "hidden": hidden, "layers": layers, "heads": heads}
        self._made |= {"memory": memory}
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(inputs, hidden)
        self.positions = SinusoidalPositions()
        self.layers = nn.ModuleList(
            DecoderLayer(hidden, heads, memory, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)

    def settings(self) -> dict[str, object]:
        """Return the arguments of the constructor."""
        return self._made | {"dropout": self.dropout.p}

    def forward(
        self, features: Tensor, state: tuple[Tensor, ...] | None = None,
        memory: Memory | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:  # fmt: skip
        """Return ``(B, T, H)`` hidden states, and the state after the last step.

        Args:
            features: ``(B, T, inputs)`` features of the previous values of each step.
            state: The state returned for the previous steps.
            memory: Memory for attention.
        """
        before = state[0].shape[1] if state else 0
        x = self.dropout(self.positions(self.first(features), before))
        after = []
        for k, layer in enumerate(self.layers):
            steps = torch.cat([state[k], x], dim=1) if state else x
            after.append(steps)
            x = cast(DecoderLayer, layer)(x, steps, memory)
        return self.norm(x), tuple(after)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to a memory, and a perceptron.

    Unlike ``nn.TransformerDecoderLayer``, it can compute the last steps alone.

    Args:
        size: Size of a step.
        heads: Number of heads of each attention.
        memory: Size of a step of the memory; 0 for no memory.
        dropout: Dropout probability in training mode.
    """

    def __init__(self, size: int, heads: int, memory: int, dropout: float) -> None:
        super().__init__()
        _check_heads(size, heads)
        self.norm1, self.norm3 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.self_attn = nn.MultiheadAttention(size, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        self.dropout = nn.Dropout(dropout)
        self.multihead_attn: nn.MultiheadAttention | None = None
        if memory:
            self.norm2 = nn.LayerNorm(size)
            self.multihead_attn = nn.MultiheadAttention(
                size, heads, dropout, batch_first=True, kdim=memory, vdim=memory
            )

    def forward(self, x: Tensor, steps: Tensor, memory: Memory | None) -> Tensor:
        """Return ``(B, T, size)`` outputs for the last steps ``x``.

        Args:
            x: ``(B, T, size)`` last steps.
            steps: ``(B, S + T, size)`` previous steps followed by the last ones.
            memory: Memory for attention.
        """
        present = torch.arange(steps.shape[1] - x.shape[1], steps.shape[1], device=x.device)
        later = torch.arange(steps.shape[1], device=x.device) > present[:, None]
        keys = self.norm1(steps)
        looked, _ = self.self_attn(self.norm1(x), keys, keys, attn_mask=later, need_weights=False)
        x = x + self.dropout(looked)
        if self.multihead_attn is not None and memory is not None and memory.values.shape[1]:
            # the weights of a row without steps would be NaN
            none = ~memory.inside.any(1, keepdim=True)
            looked, _ = self.multihead_attn(
                self.norm2(x), memory.values, memory.values,
                key_padding_mask=~(memory.inside | none), need_weights=False,
            )  # fmt: skip
            x = x + self.dropout(looked.masked_fill(none[:, None], 0.0))
        hidden = self.dropout(self.linear1(self.norm3(x)).relu())
        after: Tensor = x + self.dropout(self.linear2(hidden))
        return after


def _torch_layers(size: int, heads: int, layers: int, dropout: float) -> nn.TransformerEncoder:
    _check_heads(size, heads)
    layer = nn.TransformerEncoderLayer(
        size, heads, 4 * size, dropout, batch_first=True, norm_first=True
    )
    norm = nn.LayerNorm(size)
    return nn.TransformerEncoder(layer, layers, norm, enable_nested_tensor=False)


def _check_heads(size: int, heads: int) -> None:
    whole_number("heads", heads, 1, ModelError)
    if whole_number("size", size, 1, ModelError) % heads or size % 2:
        raise ModelError(f"size must be even and a multiple of the {heads} heads, got {size!r}")
