"""A question to a model over time, and the assembly of its answers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs, UnrollableModel
from pgnn.errors import Advice, EvidenceError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import BaseQuestion, Names
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import names_of
from pgnn.inference.samples import Samples
from pgnn.inference.time.step_targets import StepTargets


class SequenceQuestion(BaseQuestion):
    """A model over time, observed sequences, and targets.

    Answers have the axis of time at the position of ``"T"``; beyond a row's end probabilities are
    NaN and states -1.

    Args:
        model: A model over time.
        observed: ``B`` sequences.
        inputs: Covariates as passed by the caller.
        names: Names of the queried variables; None for all discrete ones.
        errors: Handling of impossible rows: ``"raise"`` or ``"nan"``.
        engine: Class name of the engine that answers.
        takes_reals: Whether real variables may be queried too.

    Attributes:
        queried: The queried discrete variables.
        reals: The queried real variables.
        at: The targets at single steps, to which the answer is restricted.

    Raises:
        EvidenceError: If ``errors`` is another value, a name is unknown, or a queried real variable
            was observed.
        Unsupported: If a queried variable is real and the engine needs discrete ones.
    """

    model: Any  # engines check the abilities that they need
    observed: SequenceEvidence
    at: StepTargets | None = None

    def __init__(
        self,
        model: UnrollableModel,
        observed: SequenceEvidence,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
        engine: str = "",
        takes_reals: bool = False,
    ) -> None:
        super().__init__(model, observed, inputs, names=names, errors=errors)
        self.engine, self.takes_reals = engine, takes_reals
        variables = model.variables
        checks_reals = takes_reals and not observed.is_empty
        known = {n for n in observed.reals if observed.fully_observes(n)} if checks_reals else set()
        if names is None:
            queried = [v for n, v in variables.items() if v.is_discrete or n not in known]
        else:
            what = "variable of the model"
            queried = [variables[n] for n in names_of(names, variables, what=what)]
        self.queried = [v for v in queried if v.is_discrete]
        self.reals = [v for v in queried if not v.is_discrete] if takes_reals else []
        if names is not None:
            for v in queried:
                if not v.is_discrete:
                    _check_real(v.name, takes_reals, v.name in known)

    def answered(self, answer: Any) -> Any:
        """Return a posterior restricted to the targets at single steps, and with lengths."""
        restricted = answer if self.at is None else self.at.restricted(answer)
        return super().answered(self.with_lengths(restricted))

    def with_lengths(self, answer: Any) -> Any:
        """Return an answer about a batch with the lengths of its sequences."""
        if self.observed.batched:
            answer.lengths = self.observed.lengths.tolist()
        return answer

    def check_whole(self) -> None:
        """Refuse targets at single steps, whose other steps would be maximised with them.

        Raises:
            Unsupported: If there are any.
        """
        if self.at is not None:
            step = self.at.steps[0]
            raise Unsupported(
                f"{step!r} is a single step, and the other ones are not summed out in a search for "
                "the most probable states",
                f"name {step[0]!r}, query the step, or use unroll({self.observed.steps})"
                f".most_probable(evidence, targets=[{step!r}])",
            )

    def about(self, queried: Sequence[Variable]) -> SequenceQuestion:
        """Return the same question about other variables."""
        settings: dict[str, Any] = {"errors": self.errors, "engine": self.engine}
        names = [v.name for v in queried]
        return SequenceQuestion(self.model, self.observed, self.inputs, names=names, **settings)

    @cached_property
    def covariates(self) -> Mapping[Any, Tensor]:
        """Covariates ``(B, T, ...)``."""
        covariates: Mapping[Any, Tensor] = self.model.covariates(self.inputs, self.observed)
        return covariates

    @property
    def num_cells(self) -> int:
        """Number of values of all variables of all rows at every step."""
        sizes = [math.prod(v.shape[1:]) for v in self.model.variables.values()]
        return int(self.num_rows * self.observed.steps * sum(sizes))

    @property
    def num_beliefs(self) -> int:
        """States of all discrete variables, and values of real ones, at every step of every row."""
        sizes = [
            v.num_states if v.is_discrete else math.prod(v.shape[1:])
            for v in self.model.variables.values()
        ]
        return int(self.num_rows * self.observed.steps * sum(sizes))

    @property
    def queried_names(self) -> list[Hashable]:
        """Names of the queried discrete variables."""
        return [v.name for v in self.queried]

    @property
    def every_name(self) -> list[Hashable]:
        """Names of all queried variables."""
        return [v.name for v in (*self.queried, *self.reals)]

    # --- answers ------------------------------------------------------------------------------

    def posterior(
        self,
        marginals: Sequence[Tensor],
        log_evidence: Tensor,
        *,
        engine: str | None = None,
        kind: str = "exact",
        diagnostics: Mapping[str, Any] | None = None,
    ) -> Posterior:
        """Assemble marginals ``(B, T, S)`` of the targets.

        Args:
            marginals: Marginals of each variable.
            log_evidence: ``(B,)``.
            engine: The engine that answered, if different from the requested one.
            kind: Kind of ``log_evidence``.
            diagnostics: Diagnostics of the engine.
        """
        observed = self.observed
        lost = log_evidence.detach().isneginf()
        gone = (~observed.inside).to(lost.device) | lost[:, None]
        if bool(gone.any()):
            marginals = [p.masked_fill(gone.unsqueeze(-1), torch.nan) for p in marginals]
        flat = [p.flatten(start_dim=1) for p in marginals]
        none = log_evidence.new_zeros((observed.num_rows, 0))
        return Posterior(
            self.over_time(self.queried),
            flat[0] if len(flat) == 1 else torch.cat([none, *flat], dim=1),
            log_evidence,
            batched=observed.batched,
            kind=kind,
            engine=self.engine if engine is None else engine,
            diagnostics=diagnostics,
            index=self.index,
        )

    def filtered(
        self,
        marginals: Sequence[Tensor],
        log_evidence: Tensor,
        increments: Tensor,
        kind: str = "exact",
    ) -> Posterior:
        """Assemble filtered marginals; diagnostics contain ``(B, T)`` log increments."""
        diagnostics = {"log_increments": self.alone(increments)}
        return self.posterior(marginals, log_evidence, kind=kind, diagnostics=diagnostics)

    def assignment(self, paths: Sequence[Tensor], scores: Tensor) -> Assignment | KBest:
        """Assemble the best states of the targets.

        Args:
            paths: For each rank ``(B, .)`` concatenated states of all variables.
            scores: ``(B, k)`` log probabilities of the paths.
        """
        variables, batched = self.over_time(self.queried), self.observed.batched
        if len(paths) > 1:
            states = torch.stack([*paths], dim=1)
            return KBest(variables, states, scores, batched=batched, index=self.index)
        return Assignment(
            variables,
            paths[0],
            scores[:, 0],
            batched=batched,
            index=self.index,
            upper_bound=scores[:, 0],
            engine=self.engine,
        )

    def samples(self, drawn: Mapping[Hashable, Tensor], n: int) -> Samples:
        """Assemble draws ``(n, B, T, ...)`` of all of the model's variables."""
        observed, variables = self.observed, self.over_time([*self.model.variables.values()])
        discrete = [drawn[v.name].flatten(start_dim=2) for v in variables if v.is_discrete]
        codes = torch.cat(discrete, dim=2) if discrete else torch.zeros(n, observed.num_rows, 0)
        reals = {v.name: drawn[v.name] for v in variables if not v.is_discrete}
        if not observed.batched:
            codes, reals = codes[:, 0], {name: x[:, 0] for name, x in reals.items()}
        return Samples(variables, codes, reals, batched=observed.batched, index=self.index)

    def over_time(self, variables: Sequence[Variable]) -> list[Variable]:
        """Return variables whose first axis has the length of the longest sequence."""
        return [Variable(v.name, v.states, (self.observed.steps, *v.shape[1:])) for v in variables]

    @property
    def index(self) -> Any:
        """Index labels of the rows of a batch."""
        return self.observed.index if self.observed.batched else None

    def alone(self, values: Tensor) -> Tensor:
        """Return the values of a single sequence without the axis of rows."""
        return values if self.observed.batched else values[0]

    def check_length(self) -> None:
        """Check that the number of steps is known.

        Raises:
            EvidenceError: If the number of steps is unknown.
        """
        if not self.observed.steps:
            raise EvidenceError(
                "how many steps?",
                Advice(
                    f"give the length in the evidence, as in sample(n, {{{AXIS!r}: 100}})", "steps"
                ),
            )


def _check_real(name: Hashable, taken: bool, known: bool) -> None:
    if not taken:
        raise Unsupported(
            f"{name!r} is real and has no table of probabilities",
            "query() and predict() of a hidden Markov model return its mean and standard "
            "deviation, sample() draws it",
        )
    if known:
        raise EvidenceError(f"{name!r} is real and observed, so it has no posterior")
