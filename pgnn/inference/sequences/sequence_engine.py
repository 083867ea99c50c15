"""Engines that answer about models over time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.inference.engine import Engine, Inputs, Names
from pgnn.inference.posterior import Posterior
from pgnn.inference.sequences.sequence_answers import answer
from pgnn.inference.sequences.sequences import Sequences


class SequenceEngine(Engine):
    """An engine that knows about time: besides the usual verbs it filters and predicts."""

    @abstractmethod
    def filter(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        r"""Return :math:`p(z_t \mid x_1, \dots, x_t)` of every step."""

    def predict(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        steps: int,
        *,
        inputs: Inputs | None = None,
    ) -> Posterior:
        r"""Return :math:`p(x_{T+h} \mid x_{1:T})` at the steps h = 1, ..., ``steps``.

        Rows go on from their own ends: they are smoothed with so many unseen steps more.
        """
        if steps < 1:
            raise EvidenceError(f"steps must be at least 1, got {steps}")
        seen = Sequences.of(model, evidence)
        found = self.query(model, targets, extended(seen, steps), inputs=inputs)
        ahead = seen.lengths[:, None] + torch.arange(steps)
        asked = [model.variables[v.name] for v in found.variables]
        rows = [found.probs(v.name) if seen.batched else found.probs(v.name)[None] for v in asked]
        log_z = found.log_evidence if seen.batched else found.log_evidence[None]
        lengths = torch.full_like(seen.lengths, steps)
        after = Sequences(lengths, steps, batched=seen.batched, index=seen.index)
        parts = [_at(p, ahead) for p in rows]
        return answer(after, asked, parts, log_z, engine=found.engine, kind=found.kind)


def extended(seen: Sequences, steps: int) -> Sequences:
    """Return the same rows with so many steps more, at which nothing was seen."""

    def padded(values: Mapping[Hashable, Tensor], fill: float) -> dict[Hashable, Tensor]:
        longer = {}
        for name, x in values.items():
            shape = (x.shape[0], steps, *x.shape[2:])
            longer[name] = torch.cat([x, x.new_full(shape, fill)], dim=1)
        return longer

    return replace(
        seen,
        lengths=seen.lengths + steps,
        steps=seen.steps + steps,
        codes=padded(seen.codes, -1),
        reals=padded(seen.reals, torch.nan),
        soft=padded(seen.soft, 1.0),
    )


def _at(values: Tensor, steps: Tensor) -> Tensor:
    """``(B, h, S)`` of ``(B, T, S)`` at ``(B, h)`` steps."""
    index = steps.to(values.device).unsqueeze(-1)
    return values.gather(1, index.expand(*steps.shape, values.shape[2]))
