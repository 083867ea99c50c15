"""What Baum-Welch counts: the E-step of a chain of states, and the M-step of its conditionals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.factors.conditional import Conditional
from pgnn.factors.exponential_family import ExponentialFamily, Statistics
from pgnn.inference.engine import Inputs
from pgnn.inference.learning.numeric_step import numeric_step
from pgnn.inference.sequences.emission_fields import at_steps, observed
from pgnn.inference.sequences.sequences import Sequences

Values = dict[Hashable, Tensor]


@dataclass(frozen=True, eq=False)
class Weighted:
    """Rows for a conditional without a closed form.

    Attributes:
        values: What was seen, by name.
        inputs: Covariates, by name.
        weights: ``(N, K...)`` posterior weight of each unseen configuration.
    """

    values: Values
    inputs: Values
    weights: Tensor


@dataclass(frozen=True, eq=False)
class ChainStatistics:
    """Expected sufficient statistics of some sequences.

    Attributes:
        log_likelihood: Weighted sum over the sequences.
        weight: Weight of the sequences.
        sums: Of conditionals with a closed form, by place: ``"initial"``, or a variable's name.
        rows: Of the others.
        occupancy: ``(K,)`` expected steps in each state.
    """

    log_likelihood: float
    weight: float
    occupancy: Tensor
    sums: Mapping[Hashable, Statistics] = field(default_factory=dict)
    rows: Mapping[Hashable, Weighted] = field(default_factory=dict)

    def mixed(self, other: ChainStatistics, share: float, scale: float) -> ChainStatistics:
        """Return ``1 - share`` of this and ``share`` of another, scaled: streaming EM."""
        sums = {
            n: tuple(
                (1 - share) * a + share * scale * b for a, b in zip(s, other.sums[n], strict=True)
            )
            for n, s in self.sums.items()
        }
        occupancy = (1 - share) * self.occupancy + share * scale * other.occupancy
        return ChainStatistics(other.log_likelihood, other.weight, occupancy, sums, other.rows)


def expect(model: Any, seen: Sequences, inputs: Inputs | None, weights: Tensor) -> ChainStatistics:
    """Sum up what a model expects of sequences, given what was seen.

    Args:
        model: A hidden Markov model.
        seen: Sequences.
        inputs: Covariates ``(B, T, ...)``.
        weights: ``(B,)`` what each sequence counts.

    Raises:
        DataError: If a sequence is impossible.
    """
    given = model.covariates(inputs, seen)
    with torch.no_grad():
        chain = model.chain(seen, inputs)
        found = chain.expectations(weights)
    log_z = found.log_partition
    lost = (log_z.isneginf() & (weights > 0)).nonzero()[:, 0].tolist()
    if lost:
        raise DataError(
            f"{len(lost)} of {len(log_z)} sequences have probability zero under the present "
            f"parameters (first: {lost[0]}); start elsewhere, or use a prior"
        )
    posterior = _weighted(found.marginals, log_z, weights)
    sums: dict[Hashable, Statistics] = {}
    rows: dict[Hashable, Weighted] = {}
    state = model.state.name
    _place(
        "initial", model.initial[state], found.initial, _starts(model, given, posterior), sums, rows
    )
    moves = _moves(model, chain, given, weights) if model.transitions.inputs else None
    _place(state, model.transitions, found.transitions, moves, sums, rows)
    if hasattr(model, "durations"):
        _place("durations", model.durations, found.durations, None, sums, rows)
    for name, emission in model.emissions.items():
        if not any(p.requires_grad for p in emission.parameters()):
            continue
        if name not in seen.codes and name not in seen.reals:
            continue
        where, values = observed(emission, seen)
        own = posterior.flatten(0, 1) if bool(where.all()) else posterior[where]
        if isinstance(emission, ExponentialFamily) and not emission.inputs:
            sums[name] = emission.statistics(values, own)
        else:
            rows[name] = Weighted(values, at_steps(given, emission.inputs, where), own)
    weight = float(weights.sum())
    total = float((weights.to(log_z) * log_z.nan_to_num(neginf=0.0)).sum())
    return ChainStatistics(total, weight, posterior.sum((0, 1)), sums, rows)


def _weighted(marginals: Tensor, log_z: Tensor, weights: Tensor) -> Tensor:
    """Posteriors times what their rows count; impossible rows count nothing. Copied if need be."""
    if bool(log_z.isneginf().any()):
        marginals = torch.nan_to_num(marginals)
    if bool((weights == 1).all()):
        return marginals
    return marginals * weights.to(marginals)[:, None, None]


def improve(model: Any, found: ChainStatistics, priors: Mapping[Hashable, Any]) -> None:
    """Set the learnable conditionals to what fits expected statistics best, in place."""
    for place, conditional in learnable(model).items():
        if place in found.sums and isinstance(conditional, ExponentialFamily):
            conditional.maximize(found.sums[place], priors.get(place))
        elif place in found.rows:
            rows = found.rows[place]
            numeric_step(conditional, rows.values, rows.inputs, rows.weights)


def learnable(model: Any) -> dict[Hashable, Conditional]:
    """The conditionals that may change, by place."""
    places: dict[Hashable, Conditional] = {"initial": model.initial[model.state.name]}
    places |= model.conditionals
    if hasattr(model, "durations"):
        places["durations"] = model.durations
    return {n: c for n, c in places.items() if any(p.requires_grad for p in c.parameters())}


def log_prior(model: Any, priors: Mapping[Hashable, Any]) -> float:
    """What the priors add to the log-likelihood."""
    total = 0.0
    for place, conditional in learnable(model).items():
        prior = priors.get(place)
        if prior is not None and isinstance(conditional, ExponentialFamily):
            total += float(conditional.log_prior(prior).detach())
    return total


def _place(
    place: Hashable,
    conditional: Conditional,
    counts: Tensor,
    rows: Weighted | None,
    sums: dict[Hashable, Statistics],
    weighted: dict[Hashable, Weighted],
) -> None:
    """File counts of states or transitions, or rows where inputs drive them."""
    if not any(p.requires_grad for p in conditional.parameters()):
        return
    if conditional.inputs and rows is not None:
        weighted[place] = rows
    elif isinstance(conditional, ExponentialFamily):
        sums[place] = (counts.double(),)
    else:
        weighted[place] = Weighted({}, {}, counts.double()[None])


def _starts(model: Any, given: Values, posterior: Tensor) -> Weighted | None:
    first = model.initial[model.state.name]
    if not first.inputs:
        return None
    inputs = {n: given[n][:, 0] for n in first.inputs if n in given}
    return Weighted({}, inputs, posterior[:, 0])


def _moves(model: Any, chain: Any, given: Values, weights: Tensor) -> Weighted:
    """Transitions that inputs drive: the posterior of each pair of neighbours."""
    pairs = torch.nan_to_num(chain.pair_marginals()) * weights[:, None, None, None]
    inputs = {n: given[n][:, 1:].flatten(0, 1) for n in model.transitions.inputs if n in given}
    return Weighted({}, inputs, pairs.flatten(0, 1))
