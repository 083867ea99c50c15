"""What is asked of a model over time, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.evidence.sequences import Sequences
from pgnn.factors.variable import Variable
from pgnn.inference.engine import Inputs, Names
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import check_errors
from pgnn.inference.time.sequence_answers import answer, asked_for, refuse_impossible


@dataclass(frozen=True, eq=False)
class SequenceQuestion:
    """One call of a verb.

    Attributes:
        engine: Class name of who answers.
        model: A model over time.
        seen: Evidence.
        asked: The discrete variables in question.
        everything: Whether no variables were named.
        inputs: Covariates as they were given.
        errors: ``"raise"`` or ``"nan"``.
    """

    engine: str
    model: Any
    seen: Sequences
    asked: Sequence[Variable]
    everything: bool
    inputs: Inputs | None
    errors: str

    @classmethod
    def read(
        cls,
        engine: object,
        model: Any,
        evidence: Any,
        targets: Names | None = None,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> SequenceQuestion:
        """Read evidence in any form that it has over time, and names; None are all discrete ones.

        Raises:
            EvidenceError: If ``errors`` is neither of the two, or evidence or a name is wrong.
            Unsupported: If a variable in question is real.
        """
        check_errors(errors)
        seen, asked = Sequences.of(model, evidence), asked_for(model.variables, targets)
        name = type(engine).__name__
        return cls(name, model, seen, asked, targets is None, inputs, errors)

    @cached_property
    def covariates(self) -> Mapping[Any, Tensor]:
        """Covariates ``(B, T, ...)``."""
        given: Mapping[Any, Tensor] = self.model.covariates(self.inputs, self.seen)
        return given

    @property
    def names(self) -> list[Any]:
        """Names of what is asked."""
        return [v.name for v in self.asked]

    @property
    def learns(self) -> bool:
        """Whether answers are to be differentiated by the model's parameters."""
        parameters = self.model.parameters()
        return torch.is_grad_enabled() and any(p.requires_grad for p in parameters)

    def refuse_impossible(self, log_z: Tensor) -> None:
        """Raise for rows of probability zero, unless they are to be answered by NaN.

        Raises:
            ImpossibleEvidence: If there are some.
        """
        refuse_impossible(log_z, self.errors)

    def answer(self, found: Sequence[Tensor], log_evidence: Tensor, **told: Any) -> Posterior:
        """Put marginals ``(B, T, S)`` of what was asked together.

        Args:
            found: The marginals.
            log_evidence: ``(B,)``.
            **told: What else :func:`answer` is told.
        """
        own: dict[str, Any] = {"engine": self.engine, **told}
        return answer(self.seen, self.asked, found, log_evidence, **own)

    def filtered(
        self, found: Sequence[Tensor], log_evidence: Tensor, increments: Tensor, **told: Any
    ) -> Posterior:
        """Put filtered marginals together; diagnostics have ``(B, T)`` increments of the log."""
        gained = {"log_increments": self.alone(increments)}
        return self.answer(found, log_evidence, diagnostics=gained, **told)

    def alone(self, values: Tensor) -> Tensor:
        """Return the values of a lone sequence without the axis of rows."""
        return values if self.seen.batched else values[0]
