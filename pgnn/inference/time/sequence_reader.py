"""Base class of engines that read questions about sequences."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pgnn.abilities import Inputs, UnrollableModel
from pgnn.errors import Unsupported
from pgnn.inference.base_question import BaseQuestion, Names
from pgnn.inference.engine import Engine
from pgnn.limits import check_size


class SequenceReader(Engine):
    """An engine for one kind of sequence models with its own class of questions.

    A subclass declares the models that it supports and creates the question.
    """

    answers_about: ClassVar[type] = UnrollableModel
    """Ability that a model must have."""
    subject: ClassVar[str] = "models over time"
    """What messages call such models."""

    @abstractmethod
    def ask(
        self, model: Any, evidence: Any, inputs: Inputs | None, names: Names | None, errors: str
    ) -> BaseQuestion:
        """Return the question, see :meth:`read`."""

    def read(
        self,
        model: Any,
        evidence: Any,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> Any:
        """Read evidence and names, in any form of evidence over time.

        Raises:
            Unsupported: If the model has another kind.
            Intractable: If answers would exceed the memory limit.
        """
        if not isinstance(model, self.answers_about):
            raise Unsupported(
                f"{type(self).__name__}() answers about {self.subject}, which a "
                f"{type(model).__name__} is not",
                "leave out engine= to choose one automatically",
            )
        question = self.ask(model, evidence, inputs, names, errors)
        self.check_cost(question, question.num_cells)
        return question

    def check_cost(self, question: BaseQuestion, numbers: int) -> None:
        """Check the memory for a given number of values.

        Raises:
            Intractable: If the memory exceeds the limit.
        """
        check_size(f"answers about {question.num_rows:,} sequences", numbers,
                   self.max_answer_bytes, "Give shorter ones, or fewer at a time")  # fmt: skip
