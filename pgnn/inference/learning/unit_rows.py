"""Rows of visible units as features, read from any container."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.factors.units.unit_kind import BinaryUnits
from pgnn.factors.units.unit_layers import State, UnitLayers
from pgnn.factors.variable import Variable
from pgnn.inference.learning.training_data import check_range, check_weights, is_single, read_rows

_PART = 500
"""Number of rows whose features are computed from small integers at once."""


@dataclass(frozen=True, eq=False)
class UnitRows:
    """Visible units of some rows.

    Attributes:
        values: ``(N, n d)`` features of each visible layer; zeros and ones may be small integers.
        missing: ``(N, n d)`` masks of the layers with missing values.
        weights: ``(N,)`` weight of each row; None for equal weights.
        dtype: Type of the features returned by :meth:`take`; that of the values if None.
    """

    values: State
    missing: dict[Hashable, Tensor]
    weights: Tensor | None = None
    dtype: torch.dtype | None = None

    def __len__(self) -> int:
        return next((len(x) for x in self.values.values()), 0)

    def take(self, rows: Tensor) -> UnitRows:
        """Return some of the rows, with features in the type of the model."""
        part = self.part(rows)
        if self.dtype is None:
            return part
        return replace(part, values={n: x.to(self.dtype) for n, x in part.values.items()})

    def part(self, rows: Tensor) -> UnitRows:
        """Return some of the rows in their stored form."""
        return replace(
            self,
            values={n: x[rows] for n, x in self.values.items()},
            missing={n: x[rows] for n, x in self.missing.items()},
            weights=None if self.weights is None else self.weights[rows],
        )

    def mean(self, name: Hashable, unknown: Tensor) -> Tensor:
        """Return the weighted mean of the observed features of a layer.

        Args:
            name: Name of the layer.
            unknown: ``(n d,)`` values for units that are never observed.
        """
        values = self.values[name]
        dtype = self.dtype or values.dtype
        share = torch.ones(len(values), dtype=dtype, device=values.device)
        share = share if self.weights is None else self.weights.to(share)
        if name not in self.missing:
            parts = zip(torch.split(share, _PART), torch.split(values, _PART), strict=True)
            return torch.stack([s @ x.to(dtype) for s, x in parts]).sum(0) / share.sum()
        known = (~self.missing[name]).to(share)
        count = share @ known
        return torch.where(count > 0, share @ (values * known) / count, unknown.to(count))


def read_unit_rows(
    model: Any, data: Any, weights: Any = None, *, probabilities: bool = False, small: bool = False
) -> UnitRows:
    """Read rows of the visible units of a model.

    Args:
        model: A :class:`~pgnn.factors.units.unit_layers.UnitModel`.
        data: Evidence: data frame, mapping, or an array ``(N, *shape)`` of the only visible
            layer; or a tuple of arrays of the visible layers in order.
        weights: ``(N,)`` weight of each row, or the name of a column.
        probabilities: Whether values of binary units may be between 0 and 1, as probabilities of
            state 1.
        small: Whether to store zeros and ones given as bytes in that form until rows are taken.

    Returns:
        Rows of positive weight.

    Raises:
        DataError: If the data is invalid; for binary units the message contains the range.
    """
    layers: UnitLayers = model.layers()
    data = by_layer(data, model.visible)
    values: State = {}
    missing: dict[Hashable, Tensor] = {}
    if isinstance(data, Mapping) and set(data) == set(model.visible):
        for name in model.visible:
            variable = layers.variables[name]
            array = numbers_of(variable, data[name])
            if array is not None and isinstance(layers.kinds[name], BinaryUnits):
                values[name], hole = read_binary(variable, array, layers.like, probabilities, small)
                missing |= {} if hole is None else {name: hole}
        data = {n: x for n, x in data.items() if n not in values}
    if len(values) < len(model.visible):
        rows = _from_evidence(model, layers, data, None if values else weights, set(values))
        if not values:
            _check_observed(rows.missing, model.visible)
            return rows
        values, missing = {**values, **rows.values}, {**missing, **rows.missing}
    lengths = {n: len(values[n]) for n in model.visible}
    if len({*lengths.values()}) > 1:
        raise DataError(f"the visible layers have different numbers of rows: {lengths}")
    _check_observed(missing, model.visible)
    values = {n: values[n] for n in model.visible}
    dtype = layers.like.dtype
    if weights is None:
        return UnitRows(values, missing, dtype=dtype)
    counts = torch.from_numpy(check_weights(weights, max(lengths.values())))
    if not bool(counts.any()):
        raise DataError("the weights are all zero")
    rows = UnitRows(values, missing, counts.to(layers.like), dtype)
    return rows if bool((counts > 0).all()) else rows.take(counts.nonzero()[:, 0])


def by_layer(data: Any, visible: Sequence[Hashable]) -> Any:
    """Return arrays, or a list of rows, by the names of their layers; other data unchanged.

    Raises:
        DataError: If there are fewer arrays than layers.
    """
    if is_nested(data):
        data = np.array(data)
    if _are_arrays(data):
        if len(data) < len(visible):
            raise DataError(f"expected arrays of {list(visible)}, got {len(data)} of them")
        return dict(zip(visible, data, strict=False))
    is_array = isinstance(data, Tensor | np.ndarray) and len(visible) == 1
    return {visible[0]: data} if is_array else data


def numbers_of(variable: Variable, values: Any) -> Tensor | None:
    """Return numerical data ``(N, *shape)`` or ``(N, n)`` of binary units, without a reader.

    None for other data, or if the units have other labels.

    Raises:
        DataError: If rows have another number of units.
    """
    if not isinstance(values, Tensor | np.ndarray) or isinstance(values, np.ma.MaskedArray):
        return None
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biuf":
        return None
    if variable.states not in ((0, 1), (False, True)):
        return None
    x = torch.as_tensor(values)
    if x.layout is not torch.strided:
        x = x.to_dense()
    if not x.dim() or x.is_complex() or tuple(x.shape) == variable.shape:
        return None
    flat = (variable.num_elements,)
    if tuple(x.shape[1:]) not in (variable.shape, flat):
        shown = " or ".join(f"(N, {', '.join(map(str, s))})" for s in {variable.shape, flat} if s)
        raise DataError(
            f"rows of {variable.name!r} must have the shape {shown}, got {tuple(x.shape)}"
        )
    return x


def read_binary(
    variable: Variable, x: Tensor, like: Tensor, probabilities: bool, small: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return ``(N, n)`` values of binary units, and a mask of missing values, if any.

    Args:
        variable: The units.
        x: See :func:`numbers_of`.
        like: A tensor of the requested type and device.
        probabilities: Whether values between 0 and 1 are allowed.
        small: Whether to keep bytes as bytes.

    Raises:
        DataError: If there are no rows, or a value is out of range.
    """
    if not len(x):
        raise DataError("data has no rows")
    flat = x.detach().reshape(len(x), variable.num_elements)
    if not x.is_floating_point() and int(x.min()) >= 0 and int(x.max()) <= 1:
        # two passes over small integers instead of five over floats
        bytes_ = small and x.dtype in (torch.uint8, torch.bool)
        return (flat.to(like.device) if bytes_ else flat.to(like)).contiguous(), None
    flat = flat.to(like)
    hole = flat.isnan() if x.is_floating_point() else flat == -1
    missing = bool(hole.any())
    if missing and not x.is_floating_point() and not bool((flat == 0).any()):
        raise DataError(
            f"the values of {variable.name!r} are -1 and 1, and -1 is a missing value of units "
            "that are 0 or 1",
            "for spins declare Variable(name, (-1, 1), shape=(n,)), for missing values give NaN",
        )
    known = flat.masked_fill(hole, 0.0) if missing else flat
    good = (known >= 0) & (known <= 1) if probabilities else (known == 0) | (known == 1)
    if not bool(good.all()):
        low, high = float(known.min()), float(known.max())
        inside = low >= 0 and high <= 1
        hint = (
            "; probabilities=True of the learner treats values between 0 and 1 as probabilities "
            "of 1, or draw them" if inside and not probabilities else
            "; scale them into [0, 1], or declare real units: Variable(name, shape=(n,))"
        )  # fmt: skip
        raise DataError(
            f"the units of {variable.name!r} are binary, but values range from {low:g} to "
            f"{high:g}{hint}"
        )
    return known.contiguous(), hole if missing else None


def is_one_set(data: Any) -> bool:
    """Whether data is a single set of rows, not an iterable of batches."""
    arrays = isinstance(data, tuple) and _are_arrays(data)
    return is_single(data) or is_nested(data) or arrays


def is_nested(data: Any) -> bool:
    """Whether data is a list of rows of plain numbers without missing values."""
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(row, list | tuple) and row for row in data)
        and all(isinstance(x, int | float) for row in data for x in row)
        and len({len(row) for row in data}) == 1
    )


def _are_arrays(data: Any) -> bool:
    """Whether data is several arrays, one for each layer."""
    several = isinstance(data, tuple | list) and bool(data)
    return several and all(isinstance(x, Tensor | np.ndarray) for x in data)


def _check_observed(missing: Mapping[Hashable, Tensor], visible: Sequence[Hashable]) -> None:
    if len(missing) == len(visible) and all(bool(hole.all()) for hole in missing.values()):
        raise DataError(f"{', '.join(map(repr, visible))}: no value was observed in any row")


def _from_evidence(
    model: Any, layers: UnitLayers, data: Any, weights: Any, known: Collection[Hashable]
) -> UnitRows:
    """Return the remaining visible layers, read by the reader of evidence."""
    rows = read_rows(model, data, weights)
    hidden = [n for n in rows.names if n not in model.visible]
    if hidden:
        raise DataError(
            f"{hidden[0]!r} is hidden, but learning uses only {list(model.visible)}",
            "leave it out, or add it to the visible layers of the model",
        )
    values: State = {}
    missing: dict[Hashable, Tensor] = {}
    like = layers.like
    for name in model.visible:
        v, kind = layers.variables[name], layers.kinds[name]
        if name in known:
            continue
        if not v.is_discrete:
            if name not in rows.reals:
                raise DataError(f"the real units {name!r} have no values in the data")
            numbers = torch.as_tensor(rows.reals[name])
            check_range(name, numbers, [like.dtype])
            x = numbers.to(like).reshape(rows.num_rows, -1)
            hole = x.isnan()
            values[name] = x.masked_fill(hole, 0.0)
        else:
            places = model.elements.numbers(name).ravel()
            codes = torch.from_numpy(rows.codes[:, places].astype(np.int64)).to(like.device)
            hole = (codes < 0).repeat_interleave(kind.size, dim=1)
            values[name] = kind.encode(codes.clamp(min=0), like)
        if bool(hole.any()):
            missing[name] = hole
    counts = torch.from_numpy(np.asarray(rows.row_weights)).to(like)
    return UnitRows(values, missing, None if bool((counts == 1).all()) else counts)
