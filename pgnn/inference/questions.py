"""What a question is about: names as numbers of variables, data as evidence."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import EvidenceError, Unsupported
from pgnn.inference.engine import FactorModel, Names
from pgnn.inference.evidence import EvidenceReader, UnknownVariable
from pgnn.inference.factor_graph import FactorGraph


def reader_of(model: FactorModel) -> EvidenceReader:
    """Return what reads evidence about a model's variables, made once."""
    reader: EvidenceReader = model.cached(
        "evidence reader", lambda: EvidenceReader(tuple(model.variables.values()))
    )
    return reader


def listed(names: Names) -> list[Hashable]:
    """Return a single name, or several, as a list."""
    if isinstance(names, (str, bytes, int)) or not isinstance(names, Iterable):
        return [names]
    return list(names)


def numbers_of(model: FactorModel, graph: FactorGraph, targets: Names | None) -> list[int]:
    """Return the numbers of the named discrete variables, of all of them for None.

    Raises:
        EvidenceError: If a name is unknown or there twice.
        Unsupported: If a variable is real.
    """
    if targets is None:
        return list(range(len(graph.variables)))
    try:
        if targets in graph.index:
            return [graph.index[targets]]
    except TypeError:
        pass
    found = []
    for name in listed(targets):
        if not isinstance(name, Hashable):
            raise EvidenceError(f"expected the name of a variable, or a list of names, got {name}")
        if name not in graph.index:
            if name in model.variables:
                raise Unsupported(
                    f"{name!r} is real; the exact engine answers about discrete variables"
                )
            raise UnknownVariable(name, model.variables)
        if graph.index[name] in found:
            raise EvidenceError(f"{name!r} is named twice")
        found.append(graph.index[name])
    return found


def columns_in_order(graph: FactorGraph, numbers: Sequence[int]) -> Tensor:
    """Return where the states of named variables stand among those of all of them, sorted."""
    ordered = sorted(numbers)
    sizes = np.cumsum([0, *(graph.card[v] for v in ordered)])
    first = dict(zip(ordered, sizes[:-1].tolist(), strict=True))
    return torch.tensor([first[v] + k for v in numbers for k in range(graph.card[v])])


def as_evidence(model: FactorModel, data: Any) -> Any:
    """Return a matrix of state indices as columns by name, anything else as it is.

    Raises:
        EvidenceError: If the matrix has not one column for each discrete variable.
    """
    if isinstance(data, (Tensor, np.ndarray)) and data.ndim == 2:
        names = [v.name for v in model.variables.values() if v.is_discrete]
        if data.shape[1] != len(names):
            raise EvidenceError(
                f"a matrix of state indices needs {len(names)} columns, one for each discrete "
                f"variable in order, got {data.shape[1]}"
            )
        return {name: data[:, k] for k, name in enumerate(names)}
    return data
