"""The plain loop of propagation: all messages at once, until every row is at rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pgnn.inference.loop import Info

State = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Propagated:
    """How propagation went.

    Attributes:
        messages: ``(B, M)`` log messages.
        converged: ``(B,)`` whether a row's messages have come to rest.
        iterations: ``(B,)`` steps taken until then.
        residual: ``(B,)`` last change of a message, before damping, in probability units.
        history: Largest residual after each step.
    """

    messages: Tensor
    converged: Tensor
    iterations: Tensor
    residual: Tensor
    history: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TorchFlooding:
    """A damped step of all messages, a row at rest left alone.

    Args:
        begin: ``(B, M)`` log messages.
        update: One undamped step.
        mix: ``(old, new)`` to what lies between them; none for the new ones.
        tolerance: Largest change, in probability units, of a row at rest.
    """

    begin: Tensor
    update: Callable[[Tensor], Tensor]
    mix: Callable[[Tensor, Tensor], Tensor] | None
    tolerance: float

    def init(self) -> State:
        """Messages, and per row: at rest, steps, last change."""
        rows = len(self.begin)
        steps = torch.zeros(rows, dtype=torch.int64, device=self.begin.device)
        return self.begin, steps.bool(), steps, self.begin.new_full((rows,), math.inf)

    def step(self, state: State) -> tuple[State, Info]:
        """One flooding."""
        old, done, steps, residual = state
        new = self.update(old)
        change = (new.exp() - old.exp()).abs()
        moved = change.amax(1) if change.shape[1] else change.sum(1)
        if self.mix is not None:
            new = self.mix(old, new)
        steps = steps + (~done).long()
        residual = torch.where(done, residual, moved)
        new = torch.where(done[:, None], old, new)
        done = done | (moved <= self.tolerance)
        worst = float(residual.max()) if len(residual) else 0.0
        return (new, done, steps, residual), Info(bool(done.all()), {"residual": worst})
