"""Draws of what a chain of states emits."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.conditional import Conditional
from pgnn.factors.variable import MISSING
from pgnn.inference.engine import Inputs
from pgnn.inference.sequences import Sequences

if TYPE_CHECKING:
    from pgnn.inference.forward_backward import ChainModel


def draw_emissions(
    model: ChainModel, states: Tensor, seen: Sequences, inputs: Inputs | None, seed: int | None
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.seed() if seed is None else seed)
        for name in model.emissions:
            drawn[name] = _draw(model, name, states, seen, inputs)
    return drawn


def _draw(
    model: ChainModel, name: Hashable, states: Tensor, seen: Sequences, inputs: Inputs | None
) -> Tensor:
    emission = model.emissions[name]
    child, lag = emission.child, (name, -1)
    given = {n: x for n, x in model.covariates(inputs, seen).items() if n in emission.inputs}
    n, inside = len(states), states >= 0
    missing = MISSING if child.is_discrete else torch.nan
    kind = torch.int64 if child.is_discrete else torch.float64
    out = torch.full((*states.shape, *child.shape), missing, dtype=kind)
    autoregressive = any(v.name == lag for v in emission.parents)
    steps = states.shape[2]
    spans = [slice(t, t + 1) for t in range(steps)] if autoregressive else [slice(0, steps)]
    for span in spans:
        where = inside[:, :, span]
        parents = {model.state.name: states[:, :, span][where]}
        if autoregressive and not span.start:
            out[:, :, :1] = _first(seen, name, out[:, :, :1].shape)
            continue
        if autoregressive:
            parents[lag] = out[:, :, span.start - 1 : span.stop - 1][where]
        rest = {k: x.expand(n, *x.shape)[:, :, span][where] for k, x in given.items()}
        out[:, :, span][where] = _sampled(emission, parents, rest, where).to(kind)
        _keep(out, name, seen, span)
    return out


def _sampled(
    emission: Conditional,
    parents: dict[Hashable, Tensor],
    inputs: dict[Hashable, Tensor],
    where: Tensor,
) -> Tensor:
    with torch.no_grad():
        found = emission.distribution(parents, inputs or None).sample()
    return found.expand(int(where.sum()), *found.shape[found.dim() - len(emission.child.shape) :])


def _first(seen: Sequences, name: Hashable, shape: torch.Size) -> Tensor:
    """The first value, which an autoregressive emission takes as given."""
    if name not in seen.reals:
        raise Unsupported(
            f"{name!r} depends on its own past: give its first value, such as "
            f"evidence={{{name!r}: [0.0, nan, nan, ...]}}"
        )
    return seen.reals[name][:, :1].double().expand(shape)


def _keep(out: Tensor, name: Hashable, seen: Sequences, span: slice) -> None:
    """Put what was seen in its place."""
    if name in seen.codes:
        codes = seen.codes[name][:, span]
        part = out[:, :, span]
        part[:] = torch.where(codes >= 0, codes, part)
    elif name in seen.reals:
        values = seen.reals[name][:, span].to(out)
        part = out[:, :, span]
        part[:] = torch.where(values.isnan(), part, values)
