"""A question about sequences some of whose steps were not observed."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.question import names_of
from pgnn.inference.time.beginning_question import BeginningQuestion
from pgnn.inference.time.sequence_samples import of_length


class GappedQuestion(BeginningQuestion):
    """A model of sequences that are made step by step, and what was observed at any of their steps.

    The sequences are whole ones: as long as the evidence, or as ``"T"`` says.

    Args:
        model: The model.
        evidence: What was observed; the name ``"T"`` stands for the number of all steps.
        inputs: What the sequences are made of.
        names: Names of the variables asked for, None for all.
        errors: What to do about impossible rows.

    Attributes:
        goals: ``(B,)`` steps of the sequences.
    """

    goals: Tensor

    @property
    def steps(self) -> int:
        """Most steps ``T``."""
        return int(self.goals.max()) if self.num_rows else 0

    @property
    def inside(self) -> Tensor:
        """``(B, T)`` whether a step belongs to its row."""
        return torch.arange(self.steps) < self.goals[:, None]

    @property
    def targets(self) -> list[Variable]:
        """The variables asked for, each over ``T`` steps."""
        variables = self.model.variables
        names = [*variables] if self.names is None else names_of(self.names, variables)
        return [of_length(variables[name], self.steps) for name in names]

    @cached_property
    def observed_at(self) -> dict[Hashable, Tensor]:
        """``(B, T)`` at which steps each variable was observed."""
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
        """``(B,)`` logs of the numbers of ways to fill in what was not observed."""
        total = torch.zeros(self.num_rows, dtype=torch.float64)
        for name, v in self.model.variables.items():
            missing = (self.inside & ~self.observed_at[name]).sum(1)
            each = math.log(v.num_states) if v.is_discrete else math.inf
            total += torch.where(missing > 0, missing * each, 0.0)
        return total

    @property
    def has_gaps(self) -> bool:
        """Whether something was observed after a step at which not everything was."""
        _, some = self._every_and_some()
        last = (some * torch.arange(1, 1 + some.shape[1])).amax(1) if some.numel() else self.known
        return bool((last > self.known).any())

    def check_steps(self) -> None:
        """Refuse a question without steps.

        Raises:
            EvidenceError: If no evidence and no input says how many there are.
        """
        if self.num_rows and not self.steps and not self.observed.inputs:
            raise EvidenceError(
                f"how many steps? say so in the evidence, as in query({{{AXIS!r}: 10}})"
            )

    def _extended(self, values: Tensor, fill: float) -> Tensor:
        """``(B, T, ...)`` values of all steps, of which the evidence may have less, or more."""
        longer = values.new_full((len(values), self.steps, *values.shape[2:]), fill)
        most = min(self.steps, values.shape[1])
        longer[:, :most] = values[:, :most]
        return longer

    def _known_steps(self) -> Tensor:
        """``(B,)`` steps before the first at which something was not observed."""
        every, _ = self._every_and_some()
        return every.long().cumprod(1).sum(1)

    def _goals(self, total: Any) -> Tensor:
        """``(B,)`` steps of the whole sequences, also where the model ends them."""
        return self._lengths(total)
