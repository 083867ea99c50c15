"""Slices of real variables as a chain: each slice is linear in the previous one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor

from pgnn.abilities import SlicedModel
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.gaussians.least_squares import common_shape
from pgnn.factors.time_steps import has_lag, without_lag
from pgnn.inference.time.compiled_chain import CompiledChain

Places = Mapping[Hashable, slice]
"""Columns of each real variable in the vector of a slice."""


def places_of(model: SlicedModel) -> dict[Hashable, slice]:
    """Return the columns of each real variable in a slice, in the order of the model."""
    places, first = {}, 0
    for name, conditional in model.conditionals.items():
        if not conditional.child.is_discrete:
            size = conditional.child.num_elements
            places[name] = slice(first, first + size)
            first += size
    return places


def width_of(places: Places) -> int:
    """Return the dimension of a slice."""
    return max((p.stop for p in places.values()), default=0)


def slice_regression(
    model: SlicedModel,
    conditionals: Mapping[Hashable, Conditional],
    regressions: Mapping[Hashable, Regression],
) -> Regression:
    """Return the regression of a slice on the previous one, with parents substituted.

    Args:
        model: The slice.
        conditionals: Conditionals of its real variables, all of them linear Gaussian.
        regressions: Their coefficients; leading axes are states of discrete variables.
    """
    places = places_of(model)
    width = width_of(places)
    lead = common_shape(*(x.bias.shape[:-1] for x in regressions.values()))

    def spread(part: Tensor, place: slice) -> Tensor:
        """Embed the columns of some components in those of all components."""
        return torch.nn.functional.pad(part, (place.start, width - place.stop))

    solved: dict[Hashable, Regression] = {}
    for name in model.order:
        if name not in places:
            continue
        weight, bias, scale = regressions[name]
        before, noise = spread(scale, places[name]) * 0.0, spread(scale, places[name])
        column = 0
        for v in conditionals[name].parents:
            if v.is_discrete:
                continue
            part = weight[..., column : column + v.num_elements]
            column += v.num_elements
            if has_lag(v.name):
                before = before + spread(part, places[without_lag(v.name)])
            else:
                parent = solved[v.name]
                before = before + part @ parent.weight
                bias = bias + (part @ parent.bias.unsqueeze(-1)).squeeze(-1)
                noise = noise + part @ parent.scale
        solved[name] = Regression(before, bias, noise)
    rows = [solved[n] for n in places]

    def joined(parts: list[Tensor], tail: int) -> Tensor:
        return torch.cat([x.expand(*lead, *x.shape[len(x.shape) - tail :]) for x in parts], -tail)

    return Regression(
        joined([r.weight for r in rows], 2),
        joined([r.bias for r in rows], 1),
        joined([r.scale for r in rows], 2),
    )


def slice_values(places: Places, observed: SequenceEvidence) -> Tensor:
    """Return the observed values ``(B, T, D)`` of each slice, ``NaN`` elsewhere."""
    columns = []
    for name, place in places.items():
        shape = (observed.num_rows, observed.steps, place.stop - place.start)
        values = observed.reals.get(name)
        if values is None:
            values = torch.full(shape, torch.nan, dtype=torch.float64)
        columns.append(values.double().expand(shape[0], *values.shape[1:]).reshape(shape))
    return torch.cat(columns, dim=2)


def slice_chain(model: SlicedModel, observed: SequenceEvidence) -> CompiledChain:
    """Return the chain of slices of a model; observed components have no noise.

    Args:
        model: A slice of real variables, all of them linear Gaussian.
        observed: Evidence.
    """
    places = places_of(model)
    eye = torch.eye(width_of(places), dtype=torch.float64)
    first = {n: model.first(n) for n in places}
    begin, move = (
        slice_regression(
            model, conditionals, {n: double(conditionals[n].regression()) for n in places}
        )
        for conditionals in (first, model.conditionals)
    )
    start = Regression(begin.weight[:, :0], begin.bias, begin.scale)
    emit = Regression(eye, torch.zeros_like(eye[0]), torch.zeros_like(eye))
    return CompiledChain(start, move, emit, slice_values(places, observed))


def double(regression: Regression) -> Regression:
    """Return a regression in double precision."""
    return Regression(*(x.double() for x in regression))
