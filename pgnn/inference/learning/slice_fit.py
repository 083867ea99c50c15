"""Learning from sequences in which everything was seen: each conditional from its own counts."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import DataError, ModelError
from pgnn.evidence.sequences import Sequences
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.inference.engine import Inputs
from pgnn.inference.history import History
from pgnn.inference.learning.family_weights import family_weights
from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood
from pgnn.inference.learning.numeric_step import numeric_step
from pgnn.inference.learning.statistics import check_weights


def fit_slices(
    model: Any,
    learner: MaximumLikelihood,
    data: Any,
    *,
    weights: Any = None,
    inputs: Inputs | None = None,
) -> None:
    """Fit a model over time to sequences in which every variable was seen.

    The likelihood falls into one part for each conditional, so each is fitted to the steps at which
    it speaks: in closed form where there is one, by L-BFGS otherwise.

    Args:
        model: A model over time.
        learner: Its prior and its limit of iterations.
        data: Sequences, see :class:`~pgnn.evidence.sequences.Sequences`.
        weights: ``(B,)`` what each sequence counts.
        inputs: Covariates ``(B, T, ...)``.

    Raises:
        DataError: If something was not seen, or there is nothing. Whatever is raised, the model
            stays as it was.
        ModelError: If nothing is learnable.
    """
    begin = time.perf_counter()
    seen = Sequences.of(model, data)
    if not int(seen.lengths.sum()):
        raise DataError("there are no steps to learn from")
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError(
            "every conditional was given and is a constant; model.requires_grad_() makes it where "
            "learning begins"
        )
    counts = torch.ones(seen.num_rows, dtype=torch.float64)
    if weights is not None:
        counts = torch.from_numpy(check_weights(weights, seen.num_rows))
    rows = _Rows(seen, model.covariates(inputs, seen), counts)
    before = {n: x.clone() for n, x in model.state_dict().items()}
    try:
        for name, conditional in model.conditionals.items():
            begun = model.first(name) is conditional
            rows.fit(conditional, 0 if begun else 1, seen.steps, learner)
            if not begun:
                rows.fit(model.first(name), 0, 1, learner)
        with torch.no_grad():
            log_likelihood = model.log_prob(seen, inputs=inputs)
    except BaseException:
        model.load_state_dict(before)
        raise
    model.history = History(
        learner=repr(learner),
        rows=seen.num_rows,
        weight=float(counts.sum()),
        log_likelihood=float(log_likelihood.double().reshape(-1) @ counts),
        seconds=time.perf_counter() - begin,
    )


def fully_seen(names: Iterable[Hashable], seen: Sequences) -> bool:
    """Whether all variables were seen at every step of every sequence."""
    known = {**seen.codes, **seen.reals}
    if any(n not in known for n in names):
        return False
    for x in known.values():
        missing = x.isnan() if x.is_floating_point() else x < 0
        if bool((missing.reshape(*x.shape[:2], -1).any(-1) & seen.inside).any()):
            return False
    return True


@dataclass(frozen=True, eq=False)
class _Rows:
    """Sequences, and what each counts."""

    seen: Sequences
    inputs: Mapping[Hashable, Tensor]
    counts: Tensor

    def fit(self, own: Conditional, first: int, last: int, learner: MaximumLikelihood) -> None:
        """Fit a conditional to the steps of a span."""
        if not any(p.requires_grad for p in own.parameters()):
            return
        there = self.seen.inside[:, first:last]
        if not bool(there.any()):
            return
        values = {v.name: self._values(v.name, own, first, last)[there] for v in own.scope}
        given = {n: self.inputs[n][:, first:last][there] for n in own.inputs if n in self.inputs}
        weights = self.counts[:, None].expand_as(there)[there]
        if not isinstance(own, ExponentialFamily):
            numeric_step(own, values, given, weights, learner.max_iter)
            return
        with torch.no_grad():
            weights = family_weights(own, values, weights)
            prior = learner.prior if own.child.is_discrete else None
            own.maximize(own.statistics(values, weights), prior)

    def _values(self, name: Hashable, own: Conditional, first: int, last: int) -> Tensor:
        """``(B, steps, ...)`` values of a variable, of the step before for ``(name, -1)``."""
        seen = self.seen
        known = {**seen.codes, **seen.reals}
        late = name not in known and isinstance(name, tuple) and name[-1] == -1
        source = name[0] if isinstance(name, tuple) and late else name
        if source not in known:
            raise DataError(
                f"{source!r} was not seen; counting needs every variable: learn with EM(), which "
                "sums out what is hidden"
            )
        x = known[source]
        missing = (x.isnan() if x.is_floating_point() else x < 0).reshape(*x.shape[:2], -1).any(-1)
        if bool((missing & seen.inside).any()):
            row, step = (missing & seen.inside).nonzero()[0].tolist()
            raise DataError(
                f"{source!r} was not seen in row {row} at step {step}; counting needs every "
                "variable at every step: learn with EM(), which sums out what is missing"
            )
        return x[:, first - late : last - late]
