"""Draws of what a chain of states emits."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from pgnn.abilities import EmittingModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequences import Sequences
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.randomness import private_randomness
from pgnn.factors.variable import MISSING
from pgnn.inference.engine import Inputs
from pgnn.inference.time.emission_chain import emission_tables


def draw_emissions(
    model: EmittingModel, states: Tensor, seen: Sequences, inputs: Inputs | None, seed: int | None
) -> dict[Hashable, Tensor]:
    """Return ``(n, B, T, ...)`` draws of all variables, what was seen as it was.

    Args:
        model: A chain of states.
        states: ``(n, B, T)``; -1 beyond a row's end.
        seen: Evidence.
        inputs: Covariates ``(B, T, ...)``.
        seed: Global random state is untouched.
    """
    drawn: dict[Hashable, Tensor] = {model.state.name: states}
    with private_randomness(seed), torch.no_grad():
        for name, emission in model.emissions.items():
            if any(v.name == (name, -1) for v in emission.parents):
                drawn[name] = _one_by_one(model, name, states, seen, inputs)
            elif name in seen.soft:
                drawn[name] = _by_likelihood(model, name, states, seen, inputs)
            else:
                drawn[name] = _at_once(model, name, states, seen, inputs)
            _keep(drawn[name], name, seen)
    return drawn


def _at_once(
    model: EmittingModel, name: Hashable, states: Tensor, seen: Sequences, inputs: Inputs | None
) -> Tensor:
    """Draws given the states alone."""
    emission, out = model.emissions[name], _empty(model.emissions[name], states)
    inside = states >= 0
    covariates = _covariates(model, emission, seen, inputs)
    rest = {k: x.expand(len(states), *x.shape)[inside] for k, x in covariates.items()}
    if bool(inside.any()):
        out[inside] = _sampled(emission, {model.state.name: states[inside]}, rest).to(out.dtype)
    return out


def _one_by_one(
    model: EmittingModel, name: Hashable, states: Tensor, seen: Sequences, inputs: Inputs | None
) -> Tensor:
    """Draws of an emission that depends on the one before; the first is given."""
    emission, out = model.emissions[name], _empty(model.emissions[name], states)
    covariates = _covariates(model, emission, seen, inputs)
    out[:, :, :1] = _first(seen, name).to(out.dtype)
    for t in range(1, states.shape[2]):
        inside = states[:, :, t] >= 0
        if bool(inside.any()):
            parents = {model.state.name: states[:, :, t][inside]}
            parents[name, -1] = out[:, :, t - 1][inside]
            rest = {
                k: x[:, t].expand(len(states), *x[:, t].shape)[inside]
                for k, x in covariates.items()
            }
            out[:, :, t][inside] = _sampled(emission, parents, rest).to(out.dtype)
            _keep(out[:, :, : t + 1], name, seen)
    return out


def _by_likelihood(
    model: EmittingModel, name: Hashable, states: Tensor, seen: Sequences, inputs: Inputs | None
) -> Tensor:
    """Draws of a discrete emission about which likelihoods are known."""
    out, inside = _empty(model.emissions[name], states), states >= 0
    tables = emission_tables(model, name, seen, inputs)
    tables = (tables + seen.soft[name].to(tables).log().unsqueeze(2)).expand(
        *states.shape[1:], model.state.num_states, -1
    )
    index = states.clamp_min(0).permute(1, 2, 0).unsqueeze(-1).expand(-1, -1, -1, tables.shape[3])
    logits = tables.gather(2, index).permute(2, 0, 1, 3)[inside]
    if bool(inside.any()):
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        out[inside] = torch.multinomial(weights, 1)[:, 0]
    return out


def _covariates(
    model: EmittingModel, emission: Conditional, seen: Sequences, inputs: Inputs | None
) -> dict[Hashable, Tensor]:
    covariates = model.covariates(inputs, seen)
    return {n: x for n, x in covariates.items() if n in emission.inputs}


def _empty(emission: Conditional, states: Tensor) -> Tensor:
    child = emission.child
    missing = MISSING if child.is_discrete else torch.nan
    kind = torch.int64 if child.is_discrete else torch.float64
    return torch.full((*states.shape, *child.shape), missing, dtype=kind)


def _sampled(
    emission: Conditional, parents: dict[Hashable, Tensor], inputs: dict[Hashable, Tensor]
) -> Tensor:
    return emission.draw(parents, inputs or None, len(next(iter(parents.values()))))


def _first(seen: Sequences, name: Hashable) -> Tensor:
    """``(B, 1, ...)`` first values, which an autoregressive emission takes as given."""
    values = seen.codes.get(name, seen.reals.get(name))
    first = None if values is None else values[:, :1]
    missing = first is None or bool((first.isnan() if name in seen.reals else first < 0).any())
    if first is None or missing:
        raise Unsupported(
            f"{name!r} depends on its own past: give its first value, such as "
            f"evidence={{{name!r}: [0.0, nan, nan, ...]}}"
        )
    return first


def _keep(out: Tensor, name: Hashable, seen: Sequences) -> None:
    """Put what was seen in its place."""
    steps = out.shape[2]
    if name in seen.codes:
        codes = seen.codes[name][:, :steps]
        out[:] = torch.where(codes >= 0, codes, out)
    elif name in seen.reals:
        values = seen.reals[name][:, :steps].to(out)
        out[:] = torch.where(values.isnan(), out, values)
