"""Ancestral draws: real variables given states, and states of directed models."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import DirectedModel, ExecutableModel
from pgnn.errors import Unsupported
from pgnn.factors.finite import has_nan, is_all_nan
from pgnn.factors.gaussians.hidden_reals import RememberedReals
from pgnn.factors.randomness import private_randomness
from pgnn.factors.units.unit_layers import UnitModel
from pgnn.factors.variable import Variable
from pgnn.inference.question import Question
from pgnn.inference.repeated_executions import executed
from pgnn.inference.samples import Samples


def with_reals(question: Question, samples: Samples, seed: int | None) -> Samples:
    """Return samples with real variables added to the discrete ones that an engine has drawn.

    Real variables without observed descendants are drawn from their conditionals, or by executions
    of the model in which all other values are fixed. The others are drawn jointly from their
    posterior, a normal distribution given the states.

    Args:
        question: The question, with its evidence.
        samples: Draws of the discrete variables.
        seed: Random seed; the same seed gives the same draws. Global random state is not changed.

    Raises:
        Unsupported: If a vector of dependent numbers was partially observed.
    """
    model: Any = question.model
    reals = [v for v in model.variables.values() if not v.is_discrete]
    if not reals or any(not v.is_discrete for v in samples.variables):
        return samples
    lead = tuple(samples.codes.shape[:-1])
    with private_randomness(seed), torch.no_grad():
        together = _joint_draws(question, samples) if isinstance(model, DirectedModel) else {}
        independent = [v for v in reals if v.name not in together]
        known = together | {v.name: _observed_reals(question, v, lead) for v in independent}
        if isinstance(model, DirectedModel):
            values = _by_conditionals(model, question, samples, known)
        elif isinstance(model, ExecutableModel):
            values = _by_executions(model, reals, samples, known)
        elif isinstance(model, UnitModel):
            values = _by_units(model, samples, known)
        else:
            return samples
    return Samples(
        tuple(model.variables.values()),
        samples.codes,
        {v.name: values[v.name].reshape(*lead, *v.shape) for v in reals},
        batched=samples.batched,
        index=question.observed.index,
        log_weights=samples.log_weights,
    )


def _by_units(
    model: Any, samples: Samples, known: Mapping[Hashable, Tensor | None]
) -> dict[Hashable, Tensor]:
    """Draw real units given the discrete ones, which makes them independent."""
    layers, flat = model.layers(), samples.codes.flatten(end_dim=-2)
    state = {}
    for name, v in layers.variables.items():
        if v.is_discrete:
            codes = flat[:, torch.from_numpy(model.elements.numbers(name).ravel())]
            state[name] = layers.kinds[name].encode(codes.to(layers.like.device), layers.like)
    values = {}
    for name, observed in known.items():
        drawn = layers.draw(name, state, None).reshape(-1, *layers.variables[name].shape)
        values[name] = (
            drawn if observed is None else torch.where(observed.isnan(), drawn, observed.to(drawn))
        )
    return values


def ancestral_states(question: Question, n: int, seed: int | None) -> Tensor:
    """Return ``(n, B, E)`` states of a directed model without evidence, by ancestral sampling.

    No table is needed: each conditional samples from its distribution, parents before children.

    Args:
        question: About a directed model.
        n: Draws for each row.
        seed: Random seed; the same seed gives the same draws. Global random state is not changed.
    """
    rows = question.num_rows
    with private_randomness(seed), torch.no_grad():
        drawn = [_weighted(question, row, n)[0] for row in range(rows)]
    empty = torch.zeros(n, 0, len(question.model.elements), dtype=torch.int64)
    return torch.stack(drawn, dim=1) if drawn else empty


def weighted_states(question: Question, row: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    r"""Return ``(n, E)`` states in topological order and ``(n,)`` log weights, for one row.

    Observed variables are fixed; the weight is their log probability given their parents.

    Args:
        question: About a directed model.
        row: Index of a row of the evidence.
        n: Number of draws.
        seed: See :func:`ancestral_states`.
    """
    with private_randomness(seed), torch.no_grad():
        return _weighted(question, row, n)


def _weighted(question: Question, row: int, n: int) -> tuple[Tensor, Tensor]:
    model: Any = question.model
    observed, elements = question.observed, model.elements
    states = torch.zeros(n, len(elements), dtype=torch.int64)
    log_weights = torch.zeros(n, dtype=torch.float64)
    covariates = {k: _repeated(torch.as_tensor(x), row, n) for k, x in
                  (question.inputs or {}).items()}  # fmt: skip
    values: dict[Hashable, Tensor] = {}
    for name in model.order:
        conditional, v = model.conditionals[name], model.variables[name]
        parents = {p.name: values[p.name] for p in conditional.parents}
        inputs = {k: x for k, x in covariates.items() if k in conditional.inputs} or None
        held = _held_values(question, v, row, n)
        if held is None:
            values[name] = conditional.draw(parents, inputs, n)
        else:
            values[name] = held
            log_probs = conditional.distribution(parents, inputs).log_prob(held)
            log_weights += log_probs.double().expand(n, *log_probs.shape[1:]).reshape(n, -1).sum(1)
        if v.is_discrete:
            numbers = torch.from_numpy(elements.numbers(name).reshape(-1))
            states[:, numbers] = values[name].reshape(n, -1).long()
    if observed.soft is not None:
        columns = states + torch.from_numpy(elements.offset[:-1])
        log_weights += torch.from_numpy(observed.soft[row]).log()[columns].sum(1)
    return states, log_weights


def _held_values(question: Question, variable: Variable, row: int, n: int) -> Tensor | None:
    """``(n, *shape)`` observed values of a variable in a row; None if it was not observed."""
    observed = question.observed
    if variable.is_discrete:
        codes = observed.codes[row, question.model.elements.numbers(variable.name)]
        values = torch.from_numpy(np.asarray(codes, dtype=np.int64)).reshape(variable.shape)
        missing = values < 0
    elif variable.name in observed.reals:
        values = observed.reals[variable.name]
        values = values[row if len(values) > 1 else 0]
        missing = values.isnan()
    else:
        return None
    if bool(missing.all()):
        return None
    if bool(missing.any()):
        raise Unsupported(
            f"{variable.name!r} was partially observed; its missing components cannot be drawn"
        )
    return values.expand(n, *values.shape)


def _repeated(x: Tensor, row: int, n: int) -> Tensor:
    value = x[row if len(x) > 1 else 0]
    return value.expand(n, *value.shape)


def _observed_reals(question: Question, variable: Variable, lead: tuple[int, ...]) -> Tensor | None:
    """``(R, *shape)`` observed values of a real variable at each draw, or None."""
    x = question.observed.reals.get(variable.name)
    if x is None or is_all_nan(x):
        return None
    if _is_cut(x) and not _draws_missing(question.model, variable.name):
        raise Unsupported(
            f"{variable.name!r} was partially observed in some rows; its missing components "
            "cannot be drawn"
        )
    return x.expand(lead[0], *x.shape).flatten(end_dim=1)


def _draws_missing(model: Any, name: Hashable) -> bool:
    """Whether missing numbers of a vector can be drawn given the parents, without the others."""
    if isinstance(model, ExecutableModel | UnitModel):
        return True
    return bool(model.conditionals[name].has_independent_elements)


def partly_observed(question: Question) -> list[Hashable]:
    """Return the arrays, observed in part in some row, whose missing numbers can be drawn."""
    reals, model = question.observed.reals, question.model
    cut = [n for n, x in reals.items() if has_nan(x) and _is_cut(x)]
    if isinstance(model, DirectedModel):
        return [n for n in cut if _draws_missing(model, n) or _is_normal(model, n)]
    return cut if isinstance(model, ExecutableModel) else []


def _is_normal(model: DirectedModel, name: Hashable) -> bool:
    """Whether missing numbers of a vector are normal given all other values."""
    return model.conditionals[name].is_linear_gaussian


def _joint_draws(question: Question, samples: Samples) -> dict[Hashable, Tensor | None]:
    """``(R, *shape)`` values of real variables that have observed descendants.

    Vectors that are partially observed are drawn jointly, too.
    """
    model: Any = question.model
    reals = question.observed.reals
    partly = {n for n, x in reals.items() if has_nan(x)}
    cut = [n for n in partly if _is_cut(reals[n]) and _is_normal(model, n)]
    draws = samples.codes.shape[0]
    repeated = {n: x.expand(draws, *x.shape).flatten(end_dim=1) for n, x in reals.items()}
    return {**_normal_draws(model, samples, repeated, partly, cut)}


def _normal_draws(
    model: Any,
    samples: Samples,
    reals: Mapping[Hashable, Tensor],
    partly: Collection[Hashable],
    wanted: Collection[Hashable],
) -> dict[Hashable, Tensor]:
    """Draw from the joint normal distribution of missing values, given states and reals.

    Args:
        model: A directed model.
        samples: ``R`` draws of the discrete variables.
        reals: ``(R, *shape)`` values by name, ``NaN`` where missing.
        partly: Names of those that have missing values.
        wanted: Names of those that are drawn although nothing depends on them.
    """
    known: RememberedReals = model.cached("hidden reals", RememberedReals)
    drawn: dict[Hashable, Tensor] = {}
    for component in known.of(model.conditionals, reals.keys(), partly, wanted).components:
        observed = component.relevant(reals)
        states = {v.name: samples[v.name].flatten() for v in component.discrete}
        rows = samples.codes.shape[:-1].numel()
        component.check(states, rows)
        pieces = [p.draw() for p in component.system(observed, states, rows).pieces()]
        for k, v in enumerate(component.hidden):
            drawn[v.name] = torch.cat([p[k] for p in pieces]).reshape(rows, *v.shape)
    return drawn


def _is_cut(x: Tensor) -> bool:
    """Whether a vector is partially observed in some row."""
    missing = x.isnan().unsqueeze(1).flatten(start_dim=1)
    return not torch.equal(missing.any(1), missing.all(1))


def _by_conditionals(
    model: DirectedModel,
    question: Question,
    samples: Samples,
    known: Mapping[Hashable, Tensor | None],
) -> dict[Hashable, Tensor]:
    """``(R, *shape)`` values, each real variable drawn given its parents."""
    lead = samples.codes.shape[:-1]
    rows = lead.numel()
    values = {n: x.flatten(end_dim=len(lead) - 1) for n, x in samples.items()}
    inputs = {n: torch.as_tensor(x) for n, x in (question.inputs or {}).items()}
    for name in model.order:
        observed = known.get(name)
        if name in values or (observed is not None and not bool(observed.isnan().any())):
            values[name] = values[name] if observed is None else observed
            continue
        conditional = model.conditionals[name]
        parents = {v.name: values[v.name] for v in conditional.parents}
        covariates = {
            n: x.expand(lead[0], *x.shape).flatten(end_dim=1)
            for n, x in inputs.items()
            if n in conditional.inputs
        }
        drawn = conditional.draw(parents, covariates or None, rows)
        values[name] = (
            drawn
            if observed is None
            else torch.where(observed.isnan(), drawn.to(observed), observed)
        )
    return values


def _by_executions(
    model: ExecutableModel,
    reals: Sequence[Variable],
    samples: Samples,
    known: Mapping[Hashable, Tensor | None],
) -> dict[Hashable, Tensor]:
    """``(R, *shape)`` values, by one execution for each draw unless all of them were observed."""
    observed = {n: x for n, x in known.items() if x is not None}
    if len(observed) == len(known) and not any(bool(x.isnan().any()) for x in observed.values()):
        return observed
    lead = samples.codes.shape[:-1]
    states = {n: x.flatten(end_dim=len(lead) - 1) for n, x in samples.items()}
    runs = executed(model, {**states, **observed}, lead.numel(), int(torch.randint(2**62, ())))
    blank = {v.name: torch.full(v.shape, torch.nan) for v in reals}
    drawn = {n: [r.values.get(n, x) for r in runs] for n, x in blank.items()}
    return {n: torch.stack(x) if x else torch.zeros(0) for n, x in drawn.items()}


def filled(question: Question, samples: Samples, seed: int | None) -> Samples:
    """Return samples in which missing entries of real variables are drawn.

    Args:
        question: The question, with its evidence.
        samples: Draws of all variables, ``NaN`` where a real value without descendants is missing.
        seed: Random seed; the same seed gives the same draws. Global random state is not changed.

    Raises:
        Unsupported: If a vector of dependent numbers was partially observed.
    """
    model: Any = question.model
    reals = [v for v in model.variables.values() if not v.is_discrete]
    if not any(bool(samples[v.name].isnan().any()) for v in reals):
        return samples
    states = Samples(model.elements.variables, samples.codes, batched=samples.batched)
    lead = len(samples.codes.shape) - 1
    known = {v.name: samples[v.name].flatten(end_dim=lead - 1) for v in reals}
    with private_randomness(seed), torch.no_grad():
        if isinstance(model, DirectedModel):
            dependent = [n for n, x in known.items() if has_nan(x) and not _draws_missing(model, n)]
            normal = [n for n in dependent if _is_cut(known[n]) and _is_normal(model, n)]
            if normal:
                known |= _normal_draws(model, states, known, normal, normal)
            for v in reals:  # raises for a vector that was partially observed
                if v.name not in normal:
                    _observed_reals(question, v, tuple(samples.codes.shape[:-1]))
            values = _by_conditionals(model, question, states, known)
        else:
            values = _by_executions(model, reals, states, known)
    real_values = {
        v.name: values[v.name].reshape(samples[v.name].shape).to(samples[v.name]) for v in reals
    }
    return Samples(
        samples.variables,
        samples.codes,
        real_values,
        batched=samples.batched,
        index=question.observed.index,
    )
