"""Results of an engine's hooks: beliefs about all elements, or the best states."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pgnn.inference.answer_columns import AnswerColumns

if TYPE_CHECKING:
    from pgnn.inference.question import Question


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Marginals of all elements, and the log evidence.

    Attributes:
        marginals: ``(B, S)`` probabilities, all elements' states concatenated; ``NaN`` in rows
            of probability zero.
        log_evidence: ``(B,)``, without the scale of soft evidence; ``-inf`` in impossible rows,
            ``NaN`` where the engine has no estimate.
        kind: Kind of ``log_evidence``: ``"exact"``, ``"lower bound"``, ``"upper bound"`` or
            ``"estimate"``.
        diagnostics: By name; ``"converged"``, ``(B,)``, if the engine iterates.
        advice: Recommendation for rows that did not converge.
    """

    marginals: Tensor
    log_evidence: Tensor
    kind: str = "estimate"
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True, eq=False)
class Best:
    """The best states that an engine has found.

    Attributes:
        states: ``(B, E)`` int64 states of all elements.
        log_prob: ``(B,)`` their log score, without the scale of soft evidence (for marginal MAP,
            with the other elements summed out).
        upper_bound: ``(B,)`` upper bound on the log probability of any assignment, if known.
        diagnostics: See :class:`Beliefs`.
        advice: See :class:`Beliefs`.
    """

    states: Tensor
    log_prob: Tensor
    upper_bound: Tensor | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""


def by_name(question: Question, columns: Tensor) -> dict[Hashable, Tensor]:
    """Return numbers of all states, such as standard errors, by the names of variables.

    Args:
        question: The query.
        columns: ``(B, S)``, as the marginals.

    Returns:
        ``(*shape, K)``, or ``(B, *shape, K)`` if the evidence came in rows.
    """
    columns = columns if question.observed.batched else columns[0]
    variables = question.graph.elements.variables
    return AnswerColumns(variables, "this answer", states=True).views(columns)
