"""The default engine of programs without tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from pgnn.errors import Intractable, Unsupported
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.engine import Engine
from pgnn.inference.explanation import Explanation
from pgnn.inference.particles.execution_enumeration import ExecutionEnumeration
from pgnn.inference.particles.execution_sampling import ExecutionSampling
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples

Answer = TypeVar("Answer", Posterior, "Assignment | KBest", Samples, Tensor)

_FEW = 2000
"""Most executions that are tried for an exact answer by default."""


@dataclass(frozen=True)
class AutomaticExecutions(Engine):
    """Enumeration of the executions of a program if they are few, otherwise weighted sampling.

    The answer names the engine and the reason for its choice.

    Args:
        why: The reason why the program has no tables.
        seed: Random seed of random executions.
    """

    why: str
    seed: int | None = None

    def answer_query(self, question: Question) -> Posterior:
        """See :class:`Engine`."""
        answer = self._first(lambda engine: engine.answer_query(question))
        answer.diagnostics = {"reason": self.why, **answer.diagnostics}
        return answer

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """See :class:`Engine`."""
        return self._first(lambda engine: engine.answer_most_probable(question, k))

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """See :class:`Engine`."""
        return self._first(lambda engine: engine.answer_sample(question, n, seed))

    def answer_log_prob(self, question: Question) -> Tensor:
        """See :class:`Engine`."""
        return self._first(lambda engine: engine.answer_log_prob(question))

    def describe(self, question: Question) -> Explanation:
        """See :class:`Engine`."""
        return self._sampling.describe(question)

    @property
    def _sampling(self) -> ExecutionSampling:
        return ExecutionSampling(seed=self.seed, why=self.why)

    def _first(self, ask: Callable[[Engine], Answer]) -> Answer:
        """The exact answer, if there is one."""
        try:
            return ask(ExecutionEnumeration(_FEW))
        except (Intractable, Unsupported):
            return ask(self._sampling)
