"""Rows of visible units as features, from whatever they came in."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.factors.units.unit_kind import BinaryUnits
from pgnn.factors.units.unit_layers import State, UnitLayers
from pgnn.inference.learning.training_data import check_weights, is_single, read_rows


@dataclass(frozen=True, eq=False)
class UnitRows:
    """Visible units of some rows.

    Attributes:
        values: ``(N, n d)`` features of each visible layer.
        missing: ``(N, n d)`` of a layer in which something was not seen.
        weights: ``(N,)`` what each row counts; None where all count the same.
    """

    values: State
    missing: dict[Hashable, Tensor]
    weights: Tensor | None = None

    def __len__(self) -> int:
        return next((len(x) for x in self.values.values()), 0)

    def take(self, rows: Tensor) -> UnitRows:
        """Return some of the rows."""
        return UnitRows(
            {n: x[rows] for n, x in self.values.items()},
            {n: x[rows] for n, x in self.missing.items()},
            None if self.weights is None else self.weights[rows],
        )

    def mean(self, name: Hashable) -> Tensor:
        """Return the average features of a layer where they were seen, weighted."""
        values = self.values[name]
        share = values.new_ones(len(values)) if self.weights is None else self.weights.to(values)
        if name not in self.missing:
            return share @ values / share.sum()
        seen = (~self.missing[name]).to(values)
        return share @ (values * seen) / (share @ seen).clamp(min=1e-12)


def read_unit_rows(
    model: Any, data: Any, weights: Any = None, *, probabilities: bool = False
) -> UnitRows:
    """Read rows of the visible units of a model.

    Args:
        model: A :class:`~pgnn.factors.units.unit_layers.UnitModel`.
        data: As evidence: data frame, mapping, or an array ``(N, *shape)`` of the only visible
            layer; or a tuple of arrays of the visible layers in order.
        weights: ``(N,)`` what each row counts, or the name of a column.
        probabilities: Whether values of binary units may lie between 0 and 1: each is then taken
            for the probability of 1.

    Raises:
        DataError: If something is wrong with the data; of binary units the range that came is told.
    """
    layers: UnitLayers = model.layers()
    if _is_nested(data):
        data = np.array(data)
    if isinstance(data, tuple | list) and data and all(
        isinstance(x, Tensor | np.ndarray) for x in data
    ):  # fmt: skip
        if len(data) < len(model.visible):
            raise DataError(f"expected arrays of {list(model.visible)}, got {len(data)} of them")
        data = dict(zip(model.visible, data, strict=False))
    if isinstance(data, Tensor | np.ndarray) and len(model.visible) == 1:
        data = {model.visible[0]: data}
    arrays = _arrays(layers, model.visible, data)
    if arrays is not None:
        values, missing = {}, {}
        for name, x in arrays.items():
            values[name], hole = _binary(layers, name, x, probabilities)
            if hole is not None:
                missing[name] = hole
        rows = UnitRows(values, missing)
        if weights is None:
            return rows
        counts = torch.from_numpy(check_weights(weights, len(rows)))
        if not bool(counts.any()):
            raise DataError("the weights are all zero")
        return UnitRows(values, missing, counts.to(layers.like))
    return _from_evidence(model, layers, data, weights)


def unit_batches(model: Any, data: Any, **settings: Any) -> Iterator[UnitRows]:
    """Yield the batches of an iterable, such as a ``DataLoader``.

    Args:
        model: As of :func:`read_unit_rows`.
        data: The iterable; batches are data of any form, or tuples of arrays.
        settings: As of :func:`read_unit_rows`.

    Raises:
        DataError: If it is no iterable, or has no batches.
    """
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise DataError(
            "expected an array, a data frame, a mapping of columns or an iterable of such "
            f"batches, got {type(data).__name__}"
        )
    number = -1
    for number, batch in enumerate(data):
        try:
            yield read_unit_rows(model, batch, **settings)
        except DataError as error:
            raise DataError(f"batch {number}: {error}") from None
    if number < 0:
        raise DataError("the iterable of batches is empty")


def is_one_set(data: Any) -> bool:
    """Whether data is one set of rows, and no iterable of batches."""
    return (
        is_single(data)
        or _is_nested(data)
        or (isinstance(data, tuple) and all(isinstance(x, Tensor | np.ndarray) for x in data))
    )


def _is_nested(data: Any) -> bool:
    """Whether data is a list of rows of plain numbers."""
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(row, list | tuple) and row for row in data)
        and all(isinstance(x, int | float) for row in data for x in row)
        and len({len(row) for row in data}) == 1
    )


def _arrays(
    layers: UnitLayers, visible: tuple[Hashable, ...], data: Any
) -> dict[Hashable, Tensor] | None:
    """Arrays of numbers of binary layers, which need no reader; None if there is something else."""
    if not isinstance(data, Mapping) or set(data) != set(visible):
        return None
    found = {}
    for name in visible:
        x, v = data[name], layers.variables[name]
        if not isinstance(x, Tensor | np.ndarray) or isinstance(x, np.ma.MaskedArray):
            return None
        if isinstance(x, np.ndarray) and x.dtype.kind not in "biuf":
            return None
        plain = isinstance(layers.kinds[name], BinaryUnits) and v.states in ((0, 1), (False, True))
        x = torch.as_tensor(x)
        if not plain or x.dim() == 0 or x.shape[1:].numel() != v.num_elements or x.is_complex():
            return None
        if x.dim() > 2 and tuple(x.shape[1:]) != v.shape:
            return None
        found[name] = x
    return found if len({len(x) for x in found.values()}) == 1 else None


def _binary(
    layers: UnitLayers, name: Hashable, x: Tensor, probabilities: bool
) -> tuple[Tensor, Tensor | None]:
    flat = x.detach().reshape(len(x), layers.size(name)).to(layers.like)
    if len(x) and not x.is_floating_point() and int(x.min()) >= 0 and int(x.max()) <= 1:
        return flat.contiguous(), None  # two looks at small integers instead of five at floats
    hole = flat.isnan() if x.is_floating_point() else flat == -1
    missing = bool(hole.any())
    if not len(flat):
        raise DataError("data has no rows")
    seen = flat.masked_fill(hole, 0.0) if missing else flat
    good = (seen >= 0) & (seen <= 1) if probabilities else (seen == 0) | (seen == 1)
    if not bool(good.all()):
        low, high = float(seen.min()), float(seen.max())
        inside = low >= 0 and high <= 1
        hint = (
            "; probabilities=True takes values between 0 and 1 for probabilities of 1, or draw "
            "them" if inside and not probabilities else
            "; scale them into [0, 1], or declare real units: Variable(name, shape=(n,))"
        )  # fmt: skip
        raise DataError(
            f"the units of {name!r} are binary, but values range from {low:g} to {high:g}{hint}"
        )
    if missing and not bool((~hole).any()):
        raise DataError(f"nothing of {name!r} was seen in any row")
    return (seen.contiguous(), hole) if missing else (flat.contiguous(), None)


def _from_evidence(model: Any, layers: UnitLayers, data: Any, weights: Any) -> UnitRows:
    rows = read_rows(model, data, weights)
    values: State = {}
    missing: dict[Hashable, Tensor] = {}
    like = layers.like
    for name in model.visible:
        v, kind = layers.variables[name], layers.kinds[name]
        if not v.is_discrete:
            if name not in rows.reals:
                raise DataError(f"the real units {name!r} have no values in the data")
            x = torch.as_tensor(rows.reals[name]).to(like).reshape(rows.num_rows, -1)
            hole = x.isnan()
            values[name] = x.masked_fill(hole, 0.0)
        else:
            numbers = model.elements.numbers(name).ravel()
            codes = torch.from_numpy(rows.codes[:, numbers].astype(np.int64)).to(like.device)
            hole = (codes < 0).repeat_interleave(kind.size, dim=1)
            values[name] = kind.encode(codes.clamp(min=0), like)
        if bool(hole.any()):
            missing[name] = hole
    if all(bool(missing[n].all()) if n in missing else False for n in model.visible):
        raise DataError(f"nothing was seen of {list(model.visible)} in any row")
    counts = torch.from_numpy(np.asarray(rows.row_weights)).to(like)
    return UnitRows(values, missing, None if bool((counts == 1).all()) else counts)
