"""Real-time recurrent learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from pgnn.errors import ModelError


class RealTimeGradient:
    r"""Real-time recurrent learning, which propagates derivatives of the state forward in time.

    .. math:: \frac{d s_t}{d \theta} = \frac{\partial s_t}{\partial s_{t-1}}
        \frac{d s_{t-1}}{d \theta} + \frac{\partial s_t}{\partial \theta}

    The gradient of a loss at any step is therefore available without a backward pass, in memory
    that does not grow with the sequence. The sum over steps is the gradient of back-propagation
    through time.

    Args:
        cell: Any cell, see :class:`~pgnn.neural.Recurrent`.

    Cost:
        With a state of size :math:`H` and :math:`P` parameters, :math:`H P` numbers of memory and
        :math:`H^2 P` operations per step; back-propagation takes :math:`P` operations per step.

    References:
        Williams and Zipser (1989), A learning algorithm for continually running fully recurrent
        neural networks.

    Example:
        >>> cell = nn.RNNCell(2, 3)
        >>> online = RealTimeGradient(cell)
        >>> for x in torch.ones(10, 2):
        ...     shown = online.step(x)
        >>> {n: tuple(g.shape) for n, g in online.gradient(lambda h: h.sum()).items()}
        {'weight_ih': (3, 2), 'weight_hh': (3, 3), 'bias_ih': (3,), 'bias_hh': (3,)}
    """

    def __init__(self, cell: nn.Module) -> None:
        self.cell = cell
        self._state: tuple[Tensor, ...] | None = None
        self._jacobians: list[dict[str, Tensor]] = []
        self._single = True

    def step(self, x: Tensor) -> Tensor:
        """Advance by one step ``(D,)``; return the output of the cell, ``(H,)``, without gradients.

        Raises:
            ModelError: If the input has more than one row.
        """
        if x.dim() != 1:
            raise ModelError(f"a step of one sequence must be (D,), got {tuple(x.shape)}")
        numbers = {n: p.detach() for n, p in self.cell.named_parameters()}
        if self._state is None:
            output = self.cell(x[None])
            self._single = isinstance(output, Tensor)
            sizes = [output] if self._single else list(output)
            self._state = tuple(torch.zeros_like(s[0].detach()) for s in sizes)
            self._jacobians = [
                {n: s.new_zeros(*s.shape, *p.shape) for n, p in numbers.items()}
                for s in self._state
            ]

        def following(numbers: dict[str, Tensor], state: tuple[Tensor, ...]) -> Any:
            rows: Any = state[0][None] if self._single else tuple(s[None] for s in state)
            output = functional_call(self.cell, numbers, (x[None], rows))
            parts = tuple(s[0] for s in ((output,) if self._single else output))
            return parts, parts

        by_numbers, _ = jacrev(following, argnums=0, has_aux=True)(numbers, self._state)
        by_state, new = jacrev(following, argnums=1, has_aux=True)(numbers, self._state)
        self._jacobians = [
            {
                n: direct[n]
                + sum(
                    torch.tensordot(j, past[n], 1)
                    for j, past in zip(row, self._jacobians, strict=True)
                )
                for n in numbers
            }
            for direct, row in zip(by_numbers, by_state, strict=True)
        ]
        self._state = tuple(s.detach() for s in new)
        return self._state[0]

    def gradient(self, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Return the gradient of a loss of the current output, by name of the parameter.

        Args:
            loss: Function of the output ``(H,)``.

        Raises:
            ModelError: If no step was taken.
        """
        if self._state is None:
            raise ModelError("there is no gradient before the first step", "call step(x) first")
        shown = self._state[0].clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(shown), shown)
        return {n: torch.tensordot(gradient, j, 1) for n, j in self._jacobians[0].items()}
