"""Filtering step by step, as observations come in."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ImpossibleEvidence
from pgnn.inference.emission_fields import log_field
from pgnn.inference.engine import Inputs
from pgnn.inference.sequences import Sequences

if TYPE_CHECKING:
    from pgnn.models.hidden_markov_model import HiddenMarkovModel


class OnlineFilter:
    r"""Keeps :math:`p(z_t \mid x_{1:t})` and brings it up to date with each new observation.

    .. math:: \alpha_t(j) \propto p(x_t \mid j) \sum_i \alpha_{t-1}(i)\, p(j \mid i)

    Args:
        model: A hidden Markov model; changes of its parameters count from the next update on.

    Attributes:
        num_steps: Updates so far.
        log_evidence: ``(B,)`` or ``()`` log probability of all that was seen.

    Cost: :math:`O(K^2)` an update for each row.

    Example:
        >>> from pgnn import HiddenMarkovModel
        >>> model = HiddenMarkovModel(
        ...     2, {"x": [[0.9, 0.1], [0.2, 0.8]]}, [0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]]
        ... )
        >>> live = OnlineFilter(model)
        >>> for x in [0, 1, 1]:
        ...     states = live.update({"x": x})
        >>> bool(torch.allclose(states, model.filter({"x": [0, 1, 1]})["state"].probs[-1]))
        True
    """

    def __init__(self, model: HiddenMarkovModel) -> None:
        self.model = model
        self.reset()

    def reset(self) -> None:
        """Forget everything that was seen."""
        self._log_states: Tensor | None = None
        self._last: dict[Hashable, Tensor] = {}
        self._batched = False
        self._total = torch.zeros(1, dtype=torch.float64)
        self.num_steps = 0

    @property
    def log_evidence(self) -> Tensor:
        """Log probability of all that was seen."""
        return self._total if self._batched else self._total[0]

    @property
    def states(self) -> Tensor:
        """``(K,)`` or ``(B, K)`` probabilities of the state now; before any update, at first."""
        probs = (self._predicted({}) if self._log_states is None else self._log_states).exp()
        return probs if self._batched else probs[0]

    @torch.no_grad()
    def update(self, observed: Mapping[Hashable, Any], inputs: Inputs | None = None) -> Tensor:
        """Take in the observations of one step.

        Args:
            observed: A value for each emission that was seen: a label or number, or ``(B, ...)``
                of them; nothing at all moves the states on.
            inputs: Covariates of the step, ``(...)`` or ``(B, ...)``.

        Returns:
            ``(K,)`` or ``(B, K)`` probabilities of the state now.

        Raises:
            ImpossibleEvidence: If a row has become impossible; nothing is changed then.
        """
        seen = self._read(observed)
        given = {n: torch.as_tensor(x) for n, x in (inputs or {}).items()}
        given = {n: (x if seen.batched else x[None]).unsqueeze(1) for n, x in given.items()}
        own = {n: x.squeeze(1) for n, x in given.items()}
        field = log_field(self.model, *self._with_past(seen, given))[:, -1]
        joint = self._predicted(own) + field
        gained = torch.logsumexp(joint, dim=1)
        lost = gained.isneginf()
        if bool(lost.any()):
            rows = tuple(lost.nonzero()[:, 0].tolist())
            raise ImpossibleEvidence(f"rows {list(rows)} have become impossible", rows)
        self._log_states = joint - gained[:, None]
        self._total = self._total + gained
        self._batched = self._batched or seen.batched
        self._last = dict(seen.reals)
        self.num_steps += 1
        return self.states

    def _read(self, observed: Mapping[Hashable, Any]) -> Sequences:
        """One step as evidence of length one."""
        steps: dict[Hashable, Any] = {"T": 1}
        for name, value in observed.items():
            v = self.model.variable(name)
            axes = np.ndim(value) if not isinstance(value, str) else 0
            if v.is_discrete:
                batched = axes == 1
                steps[name] = (
                    [[s] for s in value]
                    if batched and not hasattr(value, "ndim")
                    else (torch.as_tensor(value)[:, None] if batched else [value])
                )
            else:
                array = torch.as_tensor(np.asarray(value))
                steps[name] = array.unsqueeze(1 if axes == len(v.shape) else 0)
        return Sequences.read([*self.model.variables.values()], steps)

    def _with_past(self, seen: Sequences, inputs: dict[Hashable, Tensor]) -> tuple[Sequences, Any]:
        """The step behind the one before, for emissions that depend on their own past."""
        emissions = self.model.emissions.items()
        if not self._last or not any(v.name == (n, -1) for n, c in emissions for v in c.parents):
            return seen, inputs
        reals = {}
        for name, x in seen.reals.items():
            before = self._last.get(name, torch.full_like(x, torch.nan))
            reals[name] = torch.cat([before, x], dim=1)
        codes = {n: torch.cat([torch.full_like(x, -1), x], dim=1) for n, x in seen.codes.items()}
        soft = {n: torch.cat([torch.ones_like(x), x], dim=1) for n, x in seen.soft.items()}
        longer = {n: torch.cat([x, x], dim=1) for n, x in inputs.items()}
        lengths = seen.lengths + 1
        return replace(seen, lengths=lengths, steps=2, reals=reals, codes=codes, soft=soft), longer

    def _predicted(self, inputs: Mapping[Hashable, Tensor]) -> Tensor:
        """``(B, K)`` log probabilities of the next state."""
        model = self.model
        if self._log_states is None:
            first = model.initial[model.state.name]
            own = {n: inputs[n] for n in first.inputs if n in inputs}
            return first.factor(None, own or None).log_values.reshape(-1, model.state.num_states)
        moves = model.transitions
        own = {n: inputs[n] for n in moves.inputs if n in inputs}
        table = moves.factor(None, own or None).log_values
        table = table if table.dim() == 3 else table[None]
        return torch.logsumexp(self._log_states.unsqueeze(2) + table, dim=1)
