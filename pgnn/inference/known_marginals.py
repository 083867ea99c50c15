"""Posteriors of real variables with normal marginals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.variable import Variable
from pgnn.inference.gaussian_marginals import ExactMarginal
from pgnn.inference.with_reals import WithReals


class KnownMarginals(WithReals):
    """A posterior of real variables with a normal marginal for each.

    Args:
        reals: The targets.
        marginals: Their distributions by name, computed on demand.
        log_evidence: ``(B,)``.
        batched: Whether the evidence came in rows.
        kind: Kind of the answer.
        engine: Name of the engine.
        index: The data frame's index, if the evidence was one.
    """

    def __init__(
        self,
        reals: Sequence[Variable],
        marginals: Mapping[Hashable, ExactMarginal],
        log_evidence: Tensor,
        *,
        batched: bool,
        kind: str = "exact",
        engine: str = "",
        index: Any = None,
        diagnostics: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            (),
            torch.zeros(len(log_evidence), 0, dtype=log_evidence.dtype),
            log_evidence,
            batched=batched,
            kind=kind,
            engine=engine,
            index=index,
            diagnostics=diagnostics,
        )
        self.reals = {v.name: v for v in reals}
        self._known = marginals

    def marginal(self, name: Hashable) -> ExactMarginal:
        """See :class:`WithReals`."""
        return self._known[name]
