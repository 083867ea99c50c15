"""Questions to models over time whose variables may be real."""

from __future__ import annotations

from collections.abc import Hashable

from pgnn.abilities import Inputs, SlicedModel
from pgnn.errors import EvidenceError
from pgnn.evidence.sequences import Sequences
from pgnn.inference.base_question import Names
from pgnn.inference.question import names_of
from pgnn.inference.time.sequence_question import SequenceQuestion


class ParticleQuestion(SequenceQuestion):
    """A question to a model over time that may ask about real variables too.

    Attributes:
        reals: The real variables asked for.
    """

    def __init__(
        self,
        model: SlicedModel,
        seen: Sequences,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
        engine: str = "",
    ) -> None:
        variables = model.variables
        known = {n for n in seen.reals if seen.knows(n)}
        if names is None:
            asked = [n for n, v in variables.items() if v.is_discrete or n not in known]
        else:
            asked = names_of(names, variables, what="variable of the model")
        for n in asked:
            if n in known:
                raise EvidenceError(f"{n!r} is real and observed, so there is nothing to find out")
        self.reals = [variables[n] for n in asked if not variables[n].is_discrete]
        discrete = [n for n in asked if variables[n].is_discrete]
        super().__init__(model, seen, inputs, names=discrete, errors=errors, engine=engine)

    @property
    def every_name(self) -> list[Hashable]:
        """Names of all that is asked."""
        return [v.name for v in (*self.asked, *self.reals)]


def particle_question(question: SequenceQuestion) -> ParticleQuestion:
    """Return a question that particles have read themselves."""
    assert isinstance(question, ParticleQuestion)
    return question
