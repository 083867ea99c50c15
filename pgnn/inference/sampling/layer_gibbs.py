"""The default engine of layered networks with many units."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.question import Question
from pgnn.inference.sampling.gibbs import Gibbs


@dataclass(frozen=True)
class LayerGibbs(Gibbs):
    """Gibbs sampling with error messages that name alternatives to exact answers.

    Marginals and draws are those of :class:`Gibbs`. Tables over hundreds of parents are too large,
    so engines for other queries do not apply.
    """

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """Not supported: the most probable states are not affordable.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            f"the most probable states of {self._units(question)} are not affordable",
            "draw them by sample(n, evidence) or impute(data, draws=n), or ask for marginals by "
            "query()",
        )

    def answer_log_prob(self, question: Question) -> Tensor:
        """Return log probabilities of complete rows, see :class:`Engine`.

        Raises:
            Unsupported: If a unit was not observed.
        """
        try:
            return super().answer_log_prob(question)
        except Unsupported:
            raise Unsupported(
                f"the log evidence of {self._units(question)} is not affordable",
                "take model.bound(rows), a lower bound by the recognition network, or "
                "engine=MeanField(), a lower bound by an approximation of each row",
            ) from None

    @staticmethod
    def _units(question: Question) -> str:
        return f"{len(question.model.elements):,} units"
