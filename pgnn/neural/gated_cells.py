"""Gated recurrent cells that torch does not provide."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgnn.neural.recurrent import Cell


class PeepholeLSTMCell(Cell):
    r"""A long short-term memory with peephole connections from the memory to the gates.

    .. math:: i_t &= \sigma(W_i x_t + U_i h_{t-1} + V_i c_{t-1} + b_i), \quad
        f_t = \sigma(W_f x_t + U_f h_{t-1} + V_f c_{t-1} + b_f) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot \tanh(W_c x_t + U_c h_{t-1} + b_c) \\
        o_t &= \sigma(W_o x_t + U_o h_{t-1} + V_o c_t + b_o), \quad h_t = o_t \odot \tanh c_t

    Args:
        input_size: Number of features of a step.
        hidden_size: Size of the hidden state.
        diagonal: Whether the matrices :math:`V` are diagonal.
        late_output: Whether the output gate uses the new memory :math:`c_t` instead of
            :math:`c_{t-1}`.
        bias: Whether to add biases.

    References:
        Gers and Schmidhuber (2000), Recurrent nets that time and count.

    Example:
        >>> h, c = PeepholeLSTMCell(3, 8)(torch.zeros(5, 3))
        >>> h.shape, c.shape
        (torch.Size([5, 8]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        diagonal: bool = True,
        late_output: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, tensors=2)
        self.late_output = late_output
        self.inputs = nn.Linear(input_size, 4 * hidden_size, bias)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        bound = hidden_size**-0.5
        shape = (3, hidden_size) if diagonal else (3, hidden_size, hidden_size)
        self.peepholes = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the hidden state and the memory, ``(B, hidden_size)`` each."""
        h, c = self._begin(x, state)
        i, f, o, new = (self.inputs(x) + self.recurrent(h)).chunk(4, 1)
        i = (i + self._peephole(0, c)).sigmoid()
        f = (f + self._peephole(1, c)).sigmoid()
        following = f * c + i * new.tanh()
        o = (o + self._peephole(2, following if self.late_output else c)).sigmoid()
        return o * following.tanh(), following

    def _peephole(self, gate: int, c: Tensor) -> Tensor:
        v = self.peepholes[gate]
        return v * c if v.dim() == 1 else c @ v.T


class CoupledLSTMCell(Cell):
    r"""A long short-term memory with coupled input and forget gates, :math:`f_t = 1 - i_t`.

    .. math:: c_t = (1 - i_t) \odot c_{t-1} + i_t \odot \tanh(W_c x_t + U_c h_{t-1} + b_c), \qquad
        h_t = o_t \odot \tanh c_t

    Args:
        input_size: Number of features of a step.
        hidden_size: Size of the hidden state.

    References:
        Greff et al. (2017), LSTM: A search space odyssey, section III.

    Example:
        >>> h, c = CoupledLSTMCell(3, 8)(torch.zeros(5, 3))
        >>> h.shape, c.shape
        (torch.Size([5, 8]), torch.Size([5, 8]))
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, tensors=2)
        self.inputs = nn.Linear(input_size, 3 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 3 * hidden_size, bias=False)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the hidden state and the memory, ``(B, hidden_size)`` each."""
        h, c = self._begin(x, state)
        i, o, new = (self.inputs(x) + self.recurrent(h)).chunk(3, 1)
        c = c.lerp(new.tanh(), i.sigmoid())
        return o.sigmoid() * c.tanh(), c


class ResetGRUCell(Cell):
    r"""A gated recurrent unit that applies the reset gate before the matrix, as its authors do.

    .. math:: r_t &= \sigma(W_r x_t + U_r h_{t-1} + b_r), \quad
        z_t = \sigma(W_z x_t + U_z h_{t-1} + b_z) \\
        h_t &= z_t \odot h_{t-1} +
        (1 - z_t) \odot \tanh(W_h x_t + U_h (r_t \odot h_{t-1}) + b_h)

    Torch's ``GRUCell`` has :math:`r_t \odot (U_h h_{t-1})` instead.

    Args:
        input_size: Number of features of a step.
        hidden_size: Size of the hidden state.
        keeps_old: Whether the gate :math:`z` multiplies the old state; otherwise the new one.

    References:
        Cho et al. (2014), Learning phrase representations using RNN encoder-decoder, equations 5-8.

    Example:
        >>> ResetGRUCell(3, 8)(torch.zeros(5, 3)).shape
        torch.Size([5, 8])
    """

    def __init__(self, input_size: int, hidden_size: int, *, keeps_old: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.keeps_old = keeps_old
        self.inputs = nn.Linear(input_size, 3 * hidden_size)
        self.gates = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.recurrent = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """Return ``(B, hidden_size)``."""
        (h,) = self._begin(x, state)
        width = 2 * self.hidden_size
        gates, new = self.inputs(x).split([width, self.hidden_size], 1)
        r, z = (gates + self.gates(h)).sigmoid().chunk(2, 1)
        new = torch.tanh(new + self.recurrent(r * h))
        return new.lerp(h, z) if self.keeps_old else h.lerp(new, z)
