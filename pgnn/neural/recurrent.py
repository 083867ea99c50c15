"""Recurrent cells that torch does not provide, and layers that apply a cell along a sequence.

As in torch, a cell maps inputs ``(B, D)`` and a state (None for zeros) to the next state, which is
a tensor ``(B, H)`` or a tuple whose first entry is such a tensor: the output of the cell. Elman's
network is ``nn.RNNCell``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from pgnn.errors import ModelError
from pgnn.limits import whole_number

State = Tensor | tuple[Tensor, ...]
Function = Callable[[Tensor], Tensor]


class Recurrent(nn.Module):
    """Applies a cell along sequences; stack layers by ``nn.Sequential``.

    Args:
        cell: A cell of torch or of this module.
        out_features: Size of the output of the cell; ``cell.hidden_size`` by default.
        backwards: Whether to start from the end.

    Raises:
        ModelError: If the size of the output is unknown.

    Example:
        >>> Recurrent(nn.LSTMCell(3, 8))(torch.zeros(5, 12, 3)).shape
        torch.Size([5, 12, 8])
    """

    def __init__(
        self, cell: nn.Module, out_features: int | None = None, backwards: bool = False
    ) -> None:
        super().__init__()
        size = cell.__dict__.get("hidden_size") if out_features is None else out_features
        if not isinstance(size, int):
            raise ModelError(
                f"the output size of {type(cell).__name__} is unknown", "pass out_features="
            )
        self.cell, self.out_features, self.backwards = cell, size, backwards

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences ``(B, T, D)`` to ``(B, T, out_features)``.

        Raises:
            ModelError: If the sequences have no steps.
        """
        if x.dim() != 3 or not x.shape[1]:
            raise ModelError(f"sequences must be (B, T, D) with T > 0, got {tuple(x.shape)}")
        state: State | None = None
        shown: list[Tensor] = []
        for step in reversed(x.unbind(1)) if self.backwards else x.unbind(1):
            state = self.cell(step, state)
            shown.append(state if isinstance(state, Tensor) else state[0])
        return torch.stack(shown[::-1] if self.backwards else shown, 1)


class Bidirectional(nn.Module):
    """Two cells applied forwards and backwards along sequences, with concatenated outputs.

    Args:
        forth: Cell that is applied forwards.
        back: Cell that is applied backwards.

    Example:
        >>> Bidirectional(nn.GRUCell(3, 8), nn.GRUCell(3, 8))(torch.zeros(5, 12, 3)).shape
        torch.Size([5, 12, 16])
    """

    def __init__(self, forth: nn.Module, back: nn.Module) -> None:
        super().__init__()
        self.forth, self.back = Recurrent(forth), Recurrent(back, backwards=True)
        self.out_features = self.forth.out_features + self.back.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, T, out_features)``."""
        return torch.cat([self.forth(x), self.back(x)], -1)


class LastStep(nn.Module):
    """Selects the last step of sequences, as the last layer of a recurrent body.

    Example:
        >>> LastStep()(torch.tensor([[[1.0], [2.0]]])).tolist()
        [[2.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, T, D)`` to ``(B, D)``."""
        return x[:, -1]


class TimeDelay(nn.Module):
    r"""A layer with a finite history, :math:`h_t = f(x_t, x_{t-1}, \dots, x_{t-p+1})`.

    The function is linear, and the sequence is padded with zeros; add an activation after it.

    Args:
        in_features: Number of features of a step.
        out_features: Number of units.
        delays: Number :math:`p` of steps, including the current one.

    References:
        Waibel et al. (1989), Phoneme recognition using time-delay neural networks.

    Example:
        >>> TimeDelay(3, 8, delays=4)(torch.zeros(5, 12, 3)).shape
        torch.Size([5, 12, 8])
    """

    def __init__(self, in_features: int, out_features: int, delays: int) -> None:
        super().__init__()
        self.delays = whole_number("delays", delays, 1, ModelError)
        self.out_features = out_features
        self.convolution = nn.Conv1d(in_features, out_features, self.delays)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, T, out_features)``."""
        padded = functional.pad(x.transpose(1, 2), [self.delays - 1, 0])
        shown: Tensor = self.convolution(padded)
        return shown.transpose(1, 2)


class Cell(nn.Module):
    """Base class of cells whose initial state is zero.

    Args:
        input_size: Number of features of a step.
        hidden_size: Size of the output.
        tensors: Number of tensors of a state.
    """

    def __init__(self, input_size: int, hidden_size: int, tensors: int = 1) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self._tensors = input_size, hidden_size, tensors

    def _begin(self, x: Tensor, state: State | None) -> tuple[Tensor, ...]:
        if isinstance(state, Tensor):
            return (state,)
        return (x.new_zeros(len(x), self.hidden_size),) * self._tensors if state is None else state


class JordanCell(Cell):
    r"""Jordan's network, whose state is its previous output.

    .. math:: h_t = f(W x_t + U y_{t-1} + b), \qquad y_t = g(V h_t + c)

    Args:
        input_size: Number of features of a step.
        inner_size: Number of hidden units :math:`h`.
        hidden_size: Size of the output :math:`y`.
        activation: Activation :math:`f`.
        output: Activation :math:`g`.

    References:
        Jordan (1986), Serial order: a parallel distributed processing approach.

    Example:
        >>> JordanCell(3, 8, 2)(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        input_size: int,
        inner_size: int,
        hidden_size: int,
        activation: Function = torch.tanh,
        output: Function = torch.sigmoid,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.inner = nn.Linear(input_size + hidden_size, inner_size)
        self.outer = nn.Linear(inner_size, hidden_size)
        self.activation, self.output = activation, output

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the output, ``(B, hidden_size)``."""
        (y,) = self._begin(x, state)
        return self.output(self.outer(self.activation(self.inner(torch.cat([x, y], 1)))))


class NARXCell(Cell):
    r"""A nonlinear autoregression with inputs.

    .. math:: y_t = f(x_t, x_{t-1}, \dots, x_{t-p}, y_{t-1}, \dots, y_{t-q})

    Args:
        input_size: Number of features of a step.
        hidden_size: Numbers :math:`y` that it shows.
        input_delays: Number :math:`p` of input delays.
        output_delays: Number :math:`q` of output delays.
        network: Module applied to the concatenated inputs and outputs, newest first; by default, a
            perceptron with 32 units.

    References:
        Leontaritis and Billings (1985), Input-output parametric models for non-linear systems.

    Example:
        >>> NARXCell(3, 2, input_delays=4, output_delays=1)(torch.zeros(5, 3))[0].shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        input_delays: int,
        output_delays: int,
        network: nn.Module | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.input_delays = whole_number("input_delays", input_delays, 0, ModelError)
        self.output_delays = whole_number("output_delays", output_delays, 1, ModelError)
        width = input_size * (input_delays + 1) + hidden_size * output_delays
        self.network = network or nn.Sequential(
            nn.Linear(width, 32), nn.Tanh(), nn.Linear(32, hidden_size)
        )

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output, ``(B, hidden_size)``, and the last inputs and outputs."""
        if state is None:
            old_x = x.new_zeros(len(x), self.input_size * self.input_delays)
            old_y = x.new_zeros(len(x), self.hidden_size * self.output_delays)
        else:
            _, old_x, old_y = state
        inputs = torch.cat([x, old_x], 1)
        y = self.network(torch.cat([inputs, old_y], 1))
        kept = inputs[:, : self.input_size * self.input_delays]
        return y, kept, torch.cat([y, old_y], 1)[:, : self.hidden_size * self.output_delays]


class AccumulatingCell(Cell):
    r"""A sum over time, which preserves gradients, :math:`h_t = h_{t-1} + g(x_t)`.

    Args:
        input_size: Number of features of a step.
        hidden_size: Size of the output; :math:`g` is ``tanh`` of a linear function.

    Example:
        >>> AccumulatingCell(3, 8)(torch.zeros(5, 3)).shape
        torch.Size([5, 8])
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.linear = nn.Linear(input_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """Return ``(B, hidden_size)``."""
        (h,) = self._begin(x, state)
        return h + torch.tanh(self.linear(x))


class ResidualCell(Cell):
    r"""A residual recurrence, :math:`h_t = h_{t-1} + g(x_t, h_{t-1})`.

    Args:
        input_size: Number of features of a step.
        hidden_size: Size of the output; :math:`g` is ``tanh`` of a linear function.

    Example:
        >>> ResidualCell(3, 8)(torch.zeros(5, 3)).shape
        torch.Size([5, 8])
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.linear = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """Return ``(B, hidden_size)``."""
        (h,) = self._begin(x, state)
        return h + torch.tanh(self.linear(torch.cat([x, h], 1)))


class MemoryCell(Cell):
    r"""A linear memory with a squashed output.

    .. math:: c_t = c_{t-1} + W g(x_t), \qquad h_t = \tanh c_t

    Args:
        input_size: Number of features of a step.
        hidden_size: Size of the output; :math:`g` is ``tanh`` of a linear function.

    Example:
        >>> h, c = MemoryCell(3, 8)(torch.zeros(5, 3))
        >>> torch.equal(h, c.tanh())
        True
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, tensors=2)
        self.inner = nn.Linear(input_size, hidden_size)
        self.weight = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the output and the memory."""
        _, c = self._begin(x, state)
        c = c + self.weight(torch.tanh(self.inner(x)))
        return c.tanh(), c
