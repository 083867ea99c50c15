"""What an engine's hooks return: beliefs about all elements, or the best states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Beliefs:
    """What an engine found out about all elements.

    Attributes:
        marginals: ``(B, S)`` probabilities, all elements' states side by side; ``NaN`` in rows
            of probability zero.
        log_evidence: ``(B,)``, without the scale of soft evidence; ``-inf`` in impossible rows,
            ``NaN`` where the engine has no estimate.
        kind: What ``log_evidence`` is: ``"exact"``, ``"lower bound"``, ``"upper bound"`` or
            ``"estimate"``.
        diagnostics: What the engine has to say; ``"converged"``, ``(B,)``, if it iterates.
        advice: What to do about rows that did not converge.
    """

    marginals: Tensor
    log_evidence: Tensor
    kind: str = "estimate"
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True, eq=False)
class Best:
    """The best states an engine found.

    Attributes:
        states: ``(B, E)`` int64 states of all elements.
        log_prob: ``(B,)`` their log score, without the scale of soft evidence (of marginal MAP:
            with the rest summed out).
        upper_bound: ``(B,)`` upper bound on the log probability of any assignment, if known.
        diagnostics: As of :class:`Beliefs`.
        advice: As of :class:`Beliefs`.
    """

    states: Tensor
    log_prob: Tensor
    upper_bound: Tensor | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""
