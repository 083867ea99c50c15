"""Recurrent networks that read sequences, and that make them while looking at what was read."""

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
"""Nested tuples of tensors, rows first."""

_CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class SequenceEncoder(Listed, Restorable):
    """Reads sequences into a memory: ``(B, S, D)`` numbers, or ``(B, S)`` tokens.

    A subclass says how the steps are read, once each is a vector.

    Args:
        inputs: Numbers of a step, or how many tokens there are.
        size: Numbers ``M`` of a step of the result.
        tokens: Whether the input consists of tokens.
    """

    def __init__(self, inputs: int, size: int, *, tokens: bool = False) -> None:
        super().__init__()
        inputs = whole_number("inputs", inputs, 1, ModelError)
        size = whole_number("size", size, 1, ModelError)
        self.inputs, self.size, self.tokens = inputs, size, tokens
        self.first = nn.Embedding(inputs, size) if tokens else nn.Linear(inputs, size)

    def settings(self) -> dict[str, object]:
        """Return what the constructor takes."""
        return {"inputs": self.inputs, "size": self.size, "tokens": self.tokens}

    @abstractmethod
    def encode(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Return ``(B, S, M)`` of embedded steps ``(B, S, M)``, one in each row at least.

        Args:
            embedded: The steps.
            lengths: ``(B,)`` of the rows, from 1 on; on the CPU.
        """

    def forward(self, x: Tensor, lengths: Tensor) -> Memory:
        """Return the encoded steps; rows end at their lengths.

        Args:
            x: The input.
            lengths: ``(B,)``, on the CPU.

        Raises:
            ModelError: If the input has another number of numbers.
        """
        if not self.tokens and (x.dim() != 3 or x.shape[-1] != self.inputs):
            raise ModelError(
                f"the encoder takes {self.inputs} real numbers at each step, the input is "
                f"{x.dtype} {tuple(x.shape)}"
            )
        inside = (torch.arange(x.shape[1]) < lengths[:, None]).to(x.device)
        embedded = self.first(x if self.tokens else x.to(self.first.weight))
        if not len(x) or not x.shape[1]:
            return Memory(embedded, inside)
        # a row without steps is read as one of one step, which is not inside it
        return Memory(self.encode(embedded, lengths.clamp_min(1)), inside)


class Encoder(SequenceEncoder):
    """Reads sequences by recurrent cells, in both directions.

    Args:
        inputs: Numbers of a step, or how many tokens there are.
        size: Numbers ``M`` of a step of the result, an even one.
        tokens: Whether the input consists of tokens.
    """

    def __init__(self, inputs: int, size: int, *, tokens: bool = False) -> None:
        if size % 2:
            raise ModelError(f"size must be even, half for each direction, got {size}")
        super().__init__(inputs, size, tokens=tokens)
        self.cells = nn.GRU(size, size // 2, batch_first=True, bidirectional=True)

    def encode(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """See the base class; each direction begins at an end of the row."""
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(
            self.cells(packed)[0], batch_first=True, total_length=embedded.shape[1]
        )
        encoded: Tensor = out
        return encoded


class Decoder(Listed, Restorable):
    r"""Makes a hidden state of each step from the values before it, looking at a memory if any.

    .. math:: g_t = \mathrm{cell}(e(y_{t-1}), g_{t-1}), \qquad a_t = \mathrm{softmax}_j(m_j^\top W
        g_t), \qquad h_t = \tanh\Big( V \big[g_t, \sum_j a_{tj} m_j\big] \Big)

    Args:
        inputs: Numbers of the features of a step.
        hidden: Size ``H`` of the hidden states.
        layers: Of recurrent cells.
        cell: ``"lstm"``, ``"gru"`` or ``"rnn"``.
        memory: Numbers of a step of the memory; none is looked at if 0.
        dropout: Share of hidden numbers that are left out while learning.

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
        """Return what the constructor takes."""
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
        """Return ``(B, T, H)`` hidden states, and what to go on from.

        Args:
            features: ``(B, T, inputs)`` of the values before each step.
            state: What this returned for the steps before.
            memory: What is looked at.
        """
        out, after = self.cells(features, _swapped(state))
        if self.memory and memory is not None:
            weights = self.attention(out, memory)
            out = self.merge(torch.cat([out, weights @ memory.values], dim=-1)).tanh()
        return self.dropout(out), _swapped(after)

    def attention(self, states: Tensor, memory: Memory) -> Tensor:
        """Return ``(B, T, S)`` weights of the steps of the memory, zeros where it is empty."""
        return log_weights(self.look(states) @ memory.values.mT, memory.inside).exp()


def _swapped(state: State) -> State:
    """Rows first in the place of layers first, or the other way round."""
    if isinstance(state, tuple):
        return tuple(map(_swapped, state))
    return None if state is None else state.transpose(0, 1).contiguous()
