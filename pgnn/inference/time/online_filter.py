"""Online filtering, one step at a time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import EmittingModel, Inputs
from pgnn.errors import EvidenceError, ImpossibleEvidence, Unsupported
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.time_steps import lagged_name
from pgnn.factors.variable import Variable
from pgnn.inference.time.emission_chain import log_field


class OnlineFilter:
    r"""Stores :math:`p(z_t \mid x_{1:t})` and updates it with each new observation.

    .. math:: \alpha_t(j) \propto p(x_t \mid j) \sum_i \alpha_{t-1}(i)\, p(j \mid i)

    Args:
        model: A hidden Markov model; changes of its parameters count from the next update on.

    Attributes:
        num_steps: Updates so far.
        log_evidence: ``(B,)`` or ``()`` log probability of all that was observed.

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

    def __init__(self, model: EmittingModel) -> None:
        if not isinstance(model, EmittingModel):
            raise Unsupported(
                f"a {type(model).__name__} does not support online filtering",
                "use model.filter(evidence)",
            )
        if model.durations is not None:
            raise Unsupported(
                "segment chains have no filtering: the end of a segment is unknown at its steps"
            )
        self.model = model
        step = [Variable(v.name, v.states, v.shape[1:]) for v in model.variables.values()]
        self._reader = EvidenceReader(step, in_part={v.name: 0 for v in step if not v.is_discrete})
        self.reset()

    def reset(self) -> None:
        """Forget everything that was observed."""
        self._log_states: Tensor | None = None
        self._last: dict[Hashable, Tensor] = {}
        self._batched = False
        self._total = torch.zeros(1, dtype=torch.float64)
        self.num_steps = 0

    @property
    def log_evidence(self) -> Tensor:
        """Log probability of all that was observed."""
        return self._total if self._batched else self._total[0]

    @property
    def states(self) -> Tensor:
        """``(K,)`` or ``(B, K)`` probabilities of the state now; before any update, at first."""
        probs = (self._predicted({}) if self._log_states is None else self._log_states).exp()
        return probs if self._batched else probs[0]

    @torch.no_grad()
    def update(
        self, observed: Mapping[Hashable, Any] | None = None, inputs: Inputs | None = None
    ) -> Tensor:
        """Take in the observations of one step.

        Args:
            observed: A value for each emission that was observed: a label or number, or ``(B,
                ...)`` of them; likelihoods ``(K,)`` or ``(B, K)`` of a discrete one. Nothing at all
                moves the states on.
            inputs: Covariates of the step, ``(...)`` or ``(B, ...)``.

        Returns:
            ``(K,)`` or ``(B, K)`` probabilities of the state now.

        Raises:
            EvidenceError: If the number of rows has changed, or a value is invalid.
            ImpossibleEvidence: If a row has become impossible; the filter is then unchanged.
        """
        if observed is not None and not isinstance(observed, Mapping):
            raise EvidenceError(f"observations are given by name, got {observed!r}")
        evidence = self._read(observed or {})
        covariates = {n: torch.as_tensor(x) for n, x in (inputs or {}).items()}
        covariates = {
            n: (x if evidence.batched else x[None]).unsqueeze(1) for n, x in covariates.items()
        }
        field = log_field(self.model, *self._with_past(evidence, covariates))[:, -1]
        joint = self._predicted({n: x.squeeze(1) for n, x in covariates.items()}) + field
        gained = torch.logsumexp(joint, dim=1)
        lost = gained.isneginf()
        if bool(lost.any()):
            rows = tuple(lost.nonzero()[:, 0].tolist())
            raise ImpossibleEvidence(
                f"the evidence of step {self.num_steps} is impossible given the steps "
                "before" + (f" in rows {list(rows)}" if self._batched or evidence.batched else ""),
                rows,
                steps=(self.num_steps,) * len(rows),
            )
        self._log_states = joint - gained[:, None]
        self._total = self._total + gained
        self._batched = self._batched or evidence.batched
        self._last = {**evidence.codes, **evidence.reals}
        self.num_steps += 1
        return self.states

    def _read(self, observed: Mapping[Hashable, Any]) -> SequenceEvidence:
        """One step as evidence of length one."""
        for name in observed:
            self.model.variable(name)  # refuses a name that is none
        evidence = self._reader.read(dict(observed))
        if self._batched and evidence.num_rows != len(self._total) and observed:
            raise EvidenceError(
                f"there were {len(self._total)} rows before, now {evidence.num_rows}"
            )
        codes: dict[Hashable, Tensor] = {}
        soft: dict[Hashable, Tensor] = {}
        elements = self._reader.elements
        for k, v in enumerate(elements.variables):
            states = torch.from_numpy(evidence.codes[:, k : k + 1].astype(np.int64))
            if bool((states >= 0).any()):
                codes[v.name] = states
            elif v.name in evidence.names and evidence.soft is not None:
                weights = evidence.soft[:, None, elements.offset[k] : elements.offset[k + 1]]
                scale = np.exp(evidence.soft_scale)[:, None, None] if not soft else 1.0
                soft[v.name] = torch.from_numpy(weights * scale)
        reals = {n: x.unsqueeze(1) for n, x in evidence.reals.items()}
        lengths = torch.ones(evidence.num_rows, dtype=torch.int64)
        return SequenceEvidence(lengths, 1, codes, reals, soft, evidence.batched)

    def _with_past(
        self, observed: SequenceEvidence, inputs: dict[Hashable, Tensor]
    ) -> tuple[SequenceEvidence, Any]:
        """Return the step after the previous one, for autoregressive emissions."""
        emissions = self.model.emissions.items()
        if not self._last or not any(
            v.name == lagged_name(n) for n, c in emissions for v in c.parents
        ):
            return observed, inputs

        def joined(now: Mapping[Hashable, Tensor], missing: float) -> dict[Hashable, Tensor]:
            pairs = {}
            for name, x in now.items():
                before = self._last.get(name, torch.full_like(x, missing))
                pairs[name] = torch.cat([before.to(x).expand_as(x), x], dim=1)
            return pairs

        soft = {n: torch.cat([torch.ones_like(x), x], dim=1) for n, x in observed.soft.items()}
        longer = {n: torch.cat([x, x], dim=1) for n, x in inputs.items()}
        parts = {"codes": joined(observed.codes, -1), "reals": joined(observed.reals, torch.nan)}
        both = replace(observed, lengths=observed.lengths + 1, steps=2, soft=soft, **parts)  # type: ignore[arg-type]
        return both, longer

    def _predicted(self, inputs: Mapping[Hashable, Tensor]) -> Tensor:
        """``(B, K)`` log probabilities of the next state."""
        model = self.model
        if self._log_states is None:
            first = model.initial[model.state.name]
            covariates = {n: inputs[n] for n in first.inputs if n in inputs}
            return first.factor(None, covariates or None).log_values.reshape(
                -1, model.state.num_states
            )
        moves = model.transitions
        covariates = {n: inputs[n] for n in moves.inputs if n in inputs}
        table = moves.factor(None, covariates or None).log_values
        table = table if table.dim() == 3 else table[None]
        return torch.logsumexp(self._log_states.unsqueeze(2) + table, dim=1)
