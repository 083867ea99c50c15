"""Validated tensors of a chain, in one standard shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pgnn.errors import ModelError


@dataclass(frozen=True, eq=False)
class ChainTensors:
    """Log potentials of a chain with ``B`` rows, at most ``T`` steps and ``K`` states.

    Attributes:
        initial: ``(1, K)`` or ``(B, K)``.
        transition: ``(1, 1, K, K)``; the first axis is ``B`` if rows have different tables, the
            second ``T - 1`` if steps do.
        field: ``(B, T, K)``, zero at masked steps.
        lengths: ``(B,)`` int64 on the CPU.
    """

    initial: Tensor
    transition: Tensor
    field: Tensor
    lengths: Tensor

    @staticmethod
    def read(
        log_initial: Tensor,
        log_transition: Tensor,
        log_field: Tensor,
        lengths: Tensor | None,
        per_step: bool,
    ) -> ChainTensors:
        """Validate the arguments of :class:`~pgnn.inference.chains.chain.Chain`."""
        if log_field.dim() != 3 or log_field.shape[2] == 0:
            raise ModelError(
                f"log_field must be (B, T, K) with K > 0, got {tuple(log_field.shape)}"
            )
        if not log_field.is_floating_point():
            raise ModelError(f"log_field must hold floating-point logs, got {log_field.dtype}")
        B, T, K = log_field.shape
        initial = _shaped("log_initial", log_initial, (K,), (B,))
        step = (max(T - 1, 0),) if per_step else ()
        transition = _shaped("log_transition", log_transition, (*step, K, K), (B,))
        if not per_step:
            transition = transition.unsqueeze(1)
        lengths, field = extent(lengths, log_field)
        tensors = ChainTensors(initial.to(field), transition.to(field), field, lengths)
        tensors._check()
        return tensors

    @property
    def num_rows(self) -> int:
        """Number ``B`` of rows."""
        return self.field.shape[0]

    @property
    def num_steps(self) -> int:
        """Number ``T`` of steps."""
        return self.field.shape[1]

    @property
    def num_states(self) -> int:
        """Number ``K`` of states."""
        return self.field.shape[2]

    @property
    def requires_grad(self) -> bool:
        """Whether a tensor requires a gradient and gradients are enabled."""
        parts = (self.initial, self.transition, self.field)
        return torch.is_grad_enabled() and any(part.requires_grad for part in parts)

    @cached_property
    def ends(self) -> Tensor:
        """``(B,)`` lengths on the device of the field."""
        return self.lengths.to(self.field.device)

    @cached_property
    def within(self) -> Tensor:
        """``(B, T)`` mask of the steps within their row."""
        steps = torch.arange(self.num_steps, device=self.field.device)
        return steps < self.ends[:, None]

    def detach(self) -> ChainTensors:
        """Return the same tensors without gradients."""
        return replace(
            self,
            initial=self.initial.detach(),
            transition=self.transition.detach(),
            field=self.field.detach(),
        )

    def at(self, rows: Tensor) -> ChainTensors:
        """Return the given rows in double precision."""
        indices = rows.to(self.field.device)
        per_row = self.initial.shape[0] > 1, self.transition.shape[0] > 1
        return ChainTensors(
            (self.initial[indices] if per_row[0] else self.initial).double(),
            (self.transition[indices] if per_row[1] else self.transition).double(),
            self.field[indices].double(),
            self.lengths[rows],
        )

    def _check(self) -> None:
        for name, table in (("log_initial", self.initial), ("log_transition", self.transition)):
            check_table(name, table)
        check_field(self.field, self.within)


def check_table(name: str, table: Tensor) -> None:
    """Validate a table of log potentials that does not depend on the step.

    Raises:
        ModelError: If an entry is NaN or ``+inf``.
    """
    values = table.detach()
    if not bool((values < math.inf).all()):  # NaN compares as false
        where = (~(values < math.inf)).nonzero()[0].tolist()
        raise ModelError(f"{name} must be below +inf and not NaN; see entry {where}")


def below_infinity(field: Tensor) -> bool:
    """Return whether all entries are below ``+inf`` and not NaN."""
    return not field.numel() or bool(field.detach().amax() < math.inf)  # NaN compares as false


def check_field(field: Tensor, within: Tensor) -> None:
    """Validate the log potentials of the steps.

    Args:
        field: ``(B, T, K)``.
        within: ``(B, T)`` mask of the steps to check.

    Raises:
        ModelError: If an entry within the mask is NaN or ``+inf``; the message names row and
            step.
    """
    if below_infinity(field):
        return
    bad = ~(field.detach().amax(2) < math.inf) & within
    if bool(bad.any()):
        row, step = bad.nonzero()[0].tolist()
        raise wrong_step(row, step)


def wrong_step(row: int, step: int) -> ModelError:
    """Return the error for a step with entries that are NaN or ``+inf``."""
    return ModelError(
        "log_field must be below +inf and not NaN (a missing observation is a field of zeros, or a "
        f"gap in the mask); see row {row}, step {step}"
    )


def _shaped(name: str, table: Tensor, shape: tuple[int, ...], rows: tuple[int, ...]) -> Tensor:
    """Return a table with an axis of rows, of size one if all rows share it."""
    if table.shape == shape:
        return table.unsqueeze(0)
    if table.shape == rows + shape:
        return table
    raise ModelError(
        f"{name} must be {shape}, or {rows + shape} if rows differ; got {tuple(table.shape)}"
    )


def extent(lengths: Tensor | None, field: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(B,)`` lengths of the rows, and the field with zeros at masked steps.

    Args:
        lengths: Lengths or a mask, see :class:`~pgnn.inference.chains.chain.Chain`.
        field: ``(B, T, K)``.

    Raises:
        ModelError: If a length is not between 0 and T, or a shape disagrees.
    """
    B, T, _ = field.shape
    if lengths is None:
        return torch.full((B,), T), field
    if lengths.dtype == torch.bool:
        if lengths.shape != (B, T):
            raise ModelError(f"a mask must be {(B, T)}, got {tuple(lengths.shape)}")
        steps = torch.arange(1, T + 1, device=lengths.device)
        ends = (lengths * steps).amax(1) if T else torch.zeros(B, dtype=torch.int64)
        return ends.cpu(), field.masked_fill(~lengths.to(field.device)[:, :, None], 0.0)
    return whole_lengths(lengths, B, T), field


def whole_lengths(lengths: Tensor, B: int, T: int) -> Tensor:
    """Return lengths as int64 on the CPU.

    Raises:
        ModelError: If they are not ``(B,)`` whole numbers between 0 and T.
    """
    if lengths.shape != (B,) or lengths.is_floating_point():
        raise ModelError(
            f"lengths must be ({B},) integers or a ({B}, {T}) mask, got "
            f"{tuple(lengths.shape)} of {lengths.dtype}"
        )
    ends = lengths.detach().cpu().long()
    wrong = (ends < 0) | (ends > T)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ModelError(f"lengths must lie between 0 and {T}; row {row} has {int(ends[row])}")
    return ends
