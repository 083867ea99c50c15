"""A question about continuations of observed prefixes of sequences."""

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
    """A model of sequences generated step by step, and the observed prefixes.

    Args:
        model: The model.
        evidence: The first steps, if any; the name ``"T"`` denotes the total number of steps.
        inputs: Inputs of the sequences.
        names: Names of the queried variables, None for all.
        errors: Handling of impossible rows.

    Attributes:
        known: ``(B,)`` number of observed steps.
        goals: ``(B,)`` number of steps of the sequences; None if the model ends them.

    Raises:
        EvidenceError: If a step was observed after an unobserved one, or a length does not match.
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
        """Number of values of all variables at all steps of all rows."""
        lengths = self.observed.lengths if self.goals is None else self.goals
        steps = max(1, int(lengths.max())) if len(lengths) else 0
        sizes = [math.prod(v.shape[1:]) for v in self.model.variables.values()]
        return int(self.num_rows * steps * sum(sizes))

    @property
    def index(self) -> Any:
        """Index labels of the rows of a batch."""
        return self.observed.index if self.observed.batched else None

    def _known_steps(self) -> Tensor:
        """Return ``(B,)`` numbers of fully observed steps, if none was observed after them."""
        every, some = self._every_and_some()
        begun = every.long().cumprod(1).bool()
        hole = some & ~begun
        if bool(hole.any()):
            row, step = hole.nonzero()[0].tolist()
            raise EvidenceError(
                f"row {row} is observed in step {step}, but not in all steps before; only "
                "prefixes can be continued",
                "use SequenceCompletion() to fill gaps",
            )
        return begun.sum(1)

    def _every_and_some(self) -> tuple[Tensor, Tensor]:
        """Return ``(B, T)`` masks of steps with all variables observed, and with any observed."""
        masks = torch.stack([self.observed.observed_steps(n) for n in self.model.variables])
        return masks.all(0), masks.any(0)

    def _lengths(self, total: Any) -> Tensor:
        """Return ``(B,)`` numbers of steps of the complete sequences."""
        expected = (
            f"{AXIS!r} must be a length, or a whole number for each of {self.num_rows} rows, got "
            f"{total!r}"
        )
        try:
            totals = self.observed.lengths if total is None else torch.as_tensor(total)
        except (TypeError, ValueError, RuntimeError):
            raise EvidenceError(expected) from None
        if (
            totals.dim() > 1
            or totals.is_floating_point()
            or totals.numel() not in (1, self.num_rows)
        ):
            raise EvidenceError(expected)
        lengths = totals.reshape(-1).expand(self.num_rows)
        if bool((lengths < self.known).any()):
            row = int((lengths < self.known).nonzero()[0])
            raise EvidenceError(
                f"row {row} has {int(self.known[row])} steps, but {AXIS!r} says {int(lengths[row])}"
            )
        known_length = total is not None or self.observed.steps
        return lengths if known_length or not self.observed.inputs else self.observed.input_lengths

    def _goals(self, total: Any) -> Tensor | None:
        """Return ``(B,)`` lengths of the complete sequences, None if the model ends them."""
        lengths = self._lengths(total)
        if not self.model.ends:
            return lengths
        if total is not None or not self.whole:
            raise EvidenceError(
                "the model includes the end of sequences",
                f"give only their prefixes, without {AXIS!r} and without missing steps",
            )
        return None
