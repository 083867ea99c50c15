"""A question about sequences that go on from their beginnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs, StepwiseModel
from pgnn.errors import EvidenceError
from pgnn.factors.time_steps import AXIS
from pgnn.inference.base_question import BaseQuestion, Names
from pgnn.inference.question import names_of


class BeginningQuestion(BaseQuestion):
    """A model of sequences generated step by step, and what was observed of each.

    Args:
        model: The model.
        evidence: The first steps, if any; the name ``"T"`` stands for the number of all steps.
        inputs: What the sequences are made of.
        names: Names of the variables asked for, None for all.
        errors: What to do about impossible rows.

    Attributes:
        known: ``(B,)`` steps that were observed.
        goals: ``(B,)`` steps of the sequences; None where the model ends them.

    Raises:
        EvidenceError: If a step was observed after one that was not, or a length does not fit.
    """

    model: Any
    observed: Any

    def __init__(
        self,
        model: StepwiseModel,
        evidence: Any,
        inputs: Inputs | None,
        names: Names | None = None,
        errors: str = "raise",
    ) -> None:
        total = None
        if isinstance(evidence, Mapping) and AXIS in evidence:
            total = evidence[AXIS]
            evidence = {n: x for n, x in evidence.items() if n != AXIS}
            if not evidence:
                evidence = {AXIS: [0] * len(total)} if hasattr(total, "__len__") else None
        super().__init__(model, model.read(evidence, inputs), inputs, names=names, errors=errors)
        if names is not None:
            names_of(names, model.variables, what="variable of the model")
        self.known = self._known_steps()
        self.goals = self._goals(total)

    @property
    def whole(self) -> bool:
        """Whether every step was observed."""
        return bool((self.known == self.observed.lengths).all())

    @property
    def num_cells(self) -> int:
        """Numbers of all variables at all steps of all rows."""
        lengths = self.observed.lengths if self.goals is None else self.goals
        steps = max(1, int(lengths.max())) if len(lengths) else 0
        sizes = [math.prod(v.shape[1:]) for v in self.model.variables.values()]
        return int(self.num_rows * steps * sum(sizes))

    @property
    def index(self) -> Any:
        """Labels of the rows, of a batch."""
        return self.observed.index if self.observed.batched else None

    def _known_steps(self) -> Tensor:
        """``(B,)`` steps at which everything was observed, if nothing was observed after them."""
        every, some = self._every_and_some()
        begun = every.long().cumprod(1).bool()
        hole = some & ~begun
        if bool(hole.any()):
            row, step = hole.nonzero()[0].tolist()
            raise EvidenceError(
                f"row {row} was observed in step {step}, but not in all steps before: sequences "
                "go on from their beginnings; SequenceCompletion() fills holes"
            )
        return begun.sum(1)

    def _every_and_some(self) -> tuple[Tensor, Tensor]:
        """``(B, T)`` where all variables were observed, and where any was."""
        masks = torch.stack([self.observed.observed_steps(n) for n in self.model.variables])
        return masks.all(0), masks.any(0)

    def _lengths(self, total: Any) -> Tensor:
        """``(B,)`` steps of the whole sequences."""
        totals = self.observed.lengths if total is None else torch.as_tensor(total)
        if (
            totals.dim() > 1
            or totals.is_floating_point()
            or totals.numel() not in (1, self.num_rows)
        ):
            raise EvidenceError(
                f"{AXIS!r} must be a length, or one for each of {self.num_rows} rows, got {total!r}"
            )
        lengths = totals.reshape(-1).expand(self.num_rows)
        if bool((lengths < self.known).any()):
            row = int((lengths < self.known).nonzero()[0])
            raise EvidenceError(
                f"row {row} has {int(self.known[row])} steps, but {AXIS!r} says {int(lengths[row])}"
            )
        told = total is not None or self.observed.steps
        return lengths if told or not self.observed.inputs else self.observed.input_lengths

    def _goals(self, total: Any) -> Tensor | None:
        """``(B,)`` steps of the whole sequences, None where the model ends them."""
        lengths = self._lengths(total)
        if not self.model.ends:
            return lengths
        if total is not None or not self.whole:
            raise EvidenceError(
                "the model says itself where sequences end: give their beginnings alone, without "
                f"{AXIS!r} and without steps that were not observed"
            )
        return None
