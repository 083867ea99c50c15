"""Recurrent encoders of sequences, and decoders with attention to an encoded sequence."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pgnn.errors import ModelError
from pgnn.factors.piece import Listed, Restorable
from pgnn.limits import Interval, check_real, whole_number
from pgnn.neural.attention import log_weights
from pgnn.neural.output_heads import Memory

State = Any
"""Nested tuples of tensors, with rows as the first axis."""

_CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class SequenceEncoder(Listed, Restorable):
    """Encodes sequences of ``(B, S, D)`` vectors or ``(B, S)`` tokens as a memory.

    Subclasses implement :meth:`encode` for embedded steps.

    Args:
        inputs: Number of features of a step, or number of tokens.
        size: Size ``M`` of an encoded step.
        tokens: Whether the input consists of tokens.
    """

    def __init__(self, inputs: int, size: int, *, tokens: bool = False) -> None:
        super().__init__()
        inputs = whole_number("inputs", inputs, 1, ModelError)
        size = whole_number("size", size, 1, ModelError)
        self.inputs, self.size, self.tokens = inputs, size, tokens
        self.first = nn.Embedding(inputs, size) if tokens else nn.Linear(inputs, size)

    def settings(self) -> dict[str, object]:
        """Return the arguments of the constructor."""
        return {"inputs": self.inputs, "size": self.size, "tokens": self.tokens}

    @abstractmethod
    def encode(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Encode embedded steps ``(B, S, M)`` as ``(B, S, M)``; each row has at least one step.

        Args:
            embedded: Embedded steps.
            lengths: ``(B,)`` lengths of the rows, at least 1, on the CPU.
        """

    def forward(self, x: Tensor, lengths: Tensor) -> Memory:
        """Return the encoded steps, masked beyond the lengths.

        Args:
            x: Input sequences.
            lengths: ``(B,)`` lengths of the rows, on the CPU.

        Raises:
            ModelError: If the input has another number of features.
        """
        if not self.tokens and (x.dim() != 3 or x.shape[-1] != self.inputs):
            raise ModelError(
                f"the encoder takes {self.inputs} real features at each step, got {x.dtype} of "
                f"shape {tuple(x.shape)}"
            )
        inside = (torch.arange(x.shape[1]) < lengths[:, None]).to(x.device)
        embedded = self.first(x if self.tokens else x.to(self.first.weight))
        if not len(x) or not x.shape[1]:
            return Memory(embedded, inside)
        # an empty row is encoded as one step, which is masked
        return Memory(self.encode(embedded, lengths.clamp_min(1)), inside)


class Encoder(SequenceEncoder):
    """Encodes sequences by a bidirectional GRU.

    Args:
        inputs: Number of features of a step, or number of tokens.
        size: Size ``M`` of an encoded step, an even number.
        tokens: Whether the input consists of tokens.
    """

    def __init__(self, inputs: int, size: int, *, tokens: bool = False) -> None:
        if size % 2:
            raise ModelError(f"size must be even, half for each direction, got {size!r}")
        super().__init__(inputs, size, tokens=tokens)
        self.cells = nn.GRU(size, size // 2, batch_first=True, bidirectional=True)

    def encode(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """See the base class; each direction starts at one end of the row."""
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(
            self.cells(packed)[0], batch_first=True, total_length=embedded.shape[1]
        )
        encoded: Tensor = out
        return encoded


class Decoder(Listed, Restorable):
    r"""Computes a hidden state of each step from the previous values, with attention to a memory.

    .. math:: g_t = \mathrm{cell}(e(y_{t-1}), g_{t-1}), \qquad a_t = \mathrm{softmax}_j(m_j^\top W
        g_t), \qquad h_t = \tanh\Big( V \big[g_t, \sum_j a_{tj} m_j\big] \Big)

    Args:
        inputs: Number of features of a step.
        hidden: Size ``H`` of the hidden states.
        layers: Number of recurrent layers.
        cell: ``"lstm"``, ``"gru"`` or ``"rnn"``.
        memory: Size of a step of the memory; 0 for no memory.
        dropout: Dropout probability of hidden units in training mode.

    References:
        Luong, Pham and Manning (2015), Effective approaches to attention-based neural machine
        translation, section 3.1, with its general score.
    """

    def __init__(
        self, inputs: int, hidden: int, *, layers: int = 1, cell: str = "gru", memory: int = 0,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if cell not in _CELLS:
            raise ModelError(f"cell must be one of {', '.join(_CELLS)}, got {cell!r}")
        self.inputs = inputs = whole_number("inputs", inputs, 1, ModelError)
        self.hidden = hidden = whole_number("hidden", hidden, 1, ModelError)
        self.layers = layers = whole_number("layers", layers, 1, ModelError)
        self.memory = memory = whole_number("memory", memory, 0, ModelError)
        check_real("dropout", dropout, Interval(0.0, 1.0))
        self.cell = cell
        self.cells = _CELLS[cell](inputs, hidden, layers, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        if memory:
            self.look = nn.Linear(hidden, memory, bias=False)
            self.merge = nn.Linear(hidden + memory, hidden)

    def settings(self) -> dict[str, object]:
        """Return the arguments of the constructor."""
        return {
            "inputs": self.inputs,
            "hidden": self.hidden,
            "layers": self.layers,
            "cell": self.cell,
            "memory": self.memory,
            "dropout": self.dropout.p,
        }

    def forward(
        self, features: Tensor, state: State = None, memory: Memory | None = None
    ) -> tuple[Tensor, State]:
        """Return ``(B, T, H)`` hidden states, and the recurrent state after the last step.

        Args:
            features: ``(B, T, inputs)`` features of the previous values of each step.
            state: The state returned for the previous steps.
            memory: Memory for attention.
        """
        out, after = self.cells(features, _swapped(state))
        if self.memory and memory is not None:
            weights = self.attention(out, memory)
            out = self.merge(torch.cat([out, weights @ memory.values], dim=-1)).tanh()
        return self.dropout(out), _swapped(after)

    def attention(self, states: Tensor, memory: Memory) -> Tensor:
        """Return ``(B, T, S)`` attention weights of the memory, zeros if it is empty."""
        return log_weights(self.look(states) @ memory.values.mT, memory.inside).exp()


def _swapped(state: State) -> State:
    """Exchange the axes of rows and layers."""
    if isinstance(state, tuple):
        return tuple(map(_swapped, state))
    return None if state is None else state.transpose(0, 1).contiguous()
