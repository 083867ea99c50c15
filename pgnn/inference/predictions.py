"""What comes next in a chain of states."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.inference.engine import Inputs
from pgnn.inference.forward_backward import answer
from pgnn.inference.posterior import Posterior
from pgnn.inference.sequences import Sequences

if TYPE_CHECKING:
    from pgnn.models.hidden_markov_model import HiddenMarkovModel


def predict(
    model: HiddenMarkovModel, evidence: Any, steps: int, inputs: Inputs | None
) -> Posterior:
    r"""Return :math:`p(z_{T+h} \mid x_{1:T})` and what is emitted then, h = 1, ..., ``steps``.

    Rows go on from their own ends: they are smoothed with so many unseen steps more.
    """
    if steps < 1:
        raise EvidenceError(f"steps must be at least 1, got {steps}")
    seen = Sequences.read([*model.variables.values()], evidence)
    longer = extended(seen, steps)
    chain = model.chain(longer, inputs)
    log_z, states = chain.log_partition(), chain.marginals()
    ahead = longer.lengths[:, None] - steps + torch.arange(steps)
    asked = [v for v in model.variables.values() if v.is_discrete]
    found = []
    for v in asked:
        if v.name == model.state.name:
            every = states
        else:
            tables = model.emission_tables(v.name, longer, inputs)
            every = (states.unsqueeze(-1) * tables.exp()).sum(dim=2)
        found.append(_at(every, ahead))
    next_steps = replace(longer, lengths=torch.full_like(longer.lengths, steps), steps=steps)
    return answer(next_steps, asked, found, log_z, engine="ForwardBackward")


def extended(seen: Sequences, steps: int) -> Sequences:
    """The same rows with so many steps more, at which nothing was seen."""
    total = seen.steps + steps

    def padded(values: Mapping[Hashable, Tensor], fill: float) -> dict[Hashable, Tensor]:
        longer = {}
        for name, x in values.items():
            shape = (x.shape[0], steps, *x.shape[2:])
            longer[name] = torch.cat([x, x.new_full(shape, fill)], dim=1)
        return longer

    return replace(
        seen,
        lengths=seen.lengths + steps,
        steps=total,
        codes=padded(seen.codes, -1),
        reals=padded(seen.reals, torch.nan),
        soft=padded(seen.soft, 1.0),
        index=seen.index if seen.batched else None,
    )


def _at(values: Tensor, steps: Tensor) -> Tensor:
    """``(B, h, S)`` of ``(B, T, S)`` at ``(B, h)`` steps."""
    return values.gather(
        1, steps.to(values.device).unsqueeze(-1).expand(*steps.shape, values.shape[2])
    )
