"""What a question is about: names as numbers of variables, data as evidence."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError, Unsupported
from pgnn.factors.elements import Elements
from pgnn.factors.variable import Variable
from pgnn.inference.engine import FactorModel, Names
from pgnn.inference.evidence import EvidenceReader, UnknownVariable
from pgnn.inference.factor_graph import FactorGraph

Ints = NDArray[np.int64]


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


class Targets(NamedTuple):
    """What is asked for.

    Attributes:
        variables: The named variables; an element of an array is one of its own.
        numbers: Their elements' numbers, in this order.
    """

    variables: tuple[Variable, ...]
    numbers: Ints

    def columns(self, elements: Elements) -> Ints:
        """Return where the targets' states stand where all elements' states stand side by side."""
        first, size = elements.offset[self.numbers], elements.card[self.numbers]
        ends = np.cumsum(size)
        step = np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
        return np.asarray(step + np.repeat(first - (ends - size), size))


def targets_of(model: FactorModel, names: Names | None) -> Targets:
    """Return the named discrete variables or elements of arrays, all variables for None.

    Raises:
        EvidenceError: If a name is unknown or there twice.
        Unsupported: If a variable is real.
    """
    elements = model.elements
    if names is None:
        return Targets(elements.variables, np.arange(len(elements), dtype=np.int64))
    try:
        whole = elements.find(names)
    except TypeError:
        whole = None
    found = [whole] if whole is not None else [_found(model, n) for n in listed(names)]
    numbers = np.concatenate([np.zeros(0, np.int64), *(n.ravel() for _, n in found)])
    if len(np.unique(numbers)) < len(numbers):
        values, counts = np.unique(numbers, return_counts=True)
        raise EvidenceError(f"{elements.name(int(values[counts > 1][0]))!r} is named twice")
    return Targets(tuple(v for v, _ in found), numbers)


def _found(model: FactorModel, name: object) -> tuple[Variable, Ints]:
    if not isinstance(name, Hashable):
        raise EvidenceError(f"expected the name of a variable, or a list of names, got {name}")
    found = model.elements.find(name)
    if found is None:
        if name in model.variables:
            raise Unsupported(f"{name!r} is real; engines answer about discrete variables")
        raise UnknownVariable(name, model.variables)
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
