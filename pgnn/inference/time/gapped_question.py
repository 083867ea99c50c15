"""A question about sequences with unobserved steps."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import Advice, EvidenceError
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.question import names_of
from pgnn.inference.time.beginning_question import BeginningQuestion
from pgnn.inference.time.sequence_samples import of_length


class GappedQuestion(BeginningQuestion):
    """A model of sequences generated step by step, with observations at any steps.

    The sequences are complete, with the length of the evidence or ``"T"``.

    Args:
        model: The model.
        evidence: Evidence, in which the name ``"T"`` denotes the total number of steps.
        inputs: Inputs of the sequences.
        names: Names of the queried variables, None for all.
        errors: Handling of impossible rows.

    Attributes:
        goals: ``(B,)`` number of steps of the sequences.
    """

    goals: Tensor

    @property
    def steps(self) -> int:
        """Largest number of steps ``T``."""
        return int(self.goals.max()) if self.num_rows else 0

    @property
    def inside(self) -> Tensor:
        """``(B, T)`` mask of the steps within each row."""
        return torch.arange(self.steps) < self.goals[:, None]

    @property
    def targets(self) -> list[Variable]:
        """The queried variables, each over ``T`` steps."""
        variables = self.model.variables
        names = [*variables] if self.names is None else names_of(self.names, variables)
        return [of_length(variables[name], self.steps) for name in names]

    @cached_property
    def observed_at(self) -> dict[Hashable, Tensor]:
        """``(B, T)`` masks of the observed steps of each variable."""
        return {n: self._extended(self.observed.observed_steps(n), False)
                for n in self.model.variables}  # fmt: skip

    @cached_property
    def values(self) -> dict[Hashable, Tensor]:
        """``(B, T, *event)`` codes or reals of each variable, -1 or NaN where not observed."""
        observed, values = self.observed, {}
        for name, v in self.model.variables.items():
            shape = (self.num_rows, observed.steps, *v.shape[1:])
            if v.is_discrete:
                codes = observed.codes.get(name, torch.full(shape, MISSING))
                values[name] = self._extended(codes, MISSING)
            else:
                reals = observed.reals.get(name, torch.full(shape, torch.nan))
                values[name] = self._extended(reals, torch.nan)
        return values

    @cached_property
    def log_completions(self) -> Tensor:
        """``(B,)`` logs of the number of completions of the unobserved values."""
        total = torch.zeros(self.num_rows, dtype=torch.float64)
        for name, v in self.model.variables.items():
            missing = (self.inside & ~self.observed_at[name]).sum(1)
            each = math.log(v.num_states) if v.is_discrete else math.inf
            total += torch.where(missing > 0, missing * each, 0.0)
        return total

    @property
    def has_gaps(self) -> bool:
        """Whether an incomplete step precedes an observed one."""
        _, some = self._every_and_some()
        last = (some * torch.arange(1, 1 + some.shape[1])).amax(1) if some.numel() else self.known
        return bool((last > self.known).any())

    def check_steps(self) -> None:
        """Raise an error for a question without steps.

        Raises:
            EvidenceError: If neither evidence nor inputs give the number of steps.
        """
        if self.num_rows and not self.steps and not self.observed.inputs:
            raise EvidenceError(
                "how many steps?",
                Advice(f"give the length in the evidence, as in query({{{AXIS!r}: 10}})", "steps"),
            )

    def _extended(self, values: Tensor, fill: float) -> Tensor:
        """Return ``(B, T, ...)`` values of all steps, padding or truncating the evidence."""
        longer = values.new_full((len(values), self.steps, *values.shape[2:]), fill)
        most = min(self.steps, values.shape[1])
        longer[:, :most] = values[:, :most]
        return longer

    def _known_steps(self) -> Tensor:
        """Return ``(B,)`` number of steps before the first incomplete one."""
        every, _ = self._every_and_some()
        return every.long().cumprod(1).sum(1)

    def _goals(self, total: Any) -> Tensor:
        """Return ``(B,)`` numbers of steps of the complete sequences."""
        return self._lengths(total)
