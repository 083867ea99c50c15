"""Conversion of networks from and to pyAgrum."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from pgnn.abilities import DirectedModel
from pgnn.errors import Unsupported, require
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.io.description import (
    Network,
    Table,
    describe,
    in_text,
    parents_backward,
    parents_first,
    to_bayesian_network,
)
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField

_NUMBERS: dict[str, Callable[[float], Any]] = {
    "RANGE": int,
    "INTEGER": int,
    "NUMERICAL": float,
}
"""Types of variables whose states are numbers, by the name of pyAgrum; others have text."""


def from_pyagrum(model: Any) -> BayesianNetwork | MarkovRandomField:
    """Convert a network or a field of pyAgrum.

    Names, states and their order are kept: those of range, integer and numerical variables are
    numbers, those of others the text of their labels.

    Args:
        model: A ``BayesNet`` or a ``MarkovRandomField``; it is not changed.

    Raises:
        DataError: If the rows of a table do not sum to one.
        Unsupported: If the model is of another class.

    Example:
        >>> import pyagrum
        >>> coin = pyagrum.BayesNet()
        >>> _ = coin.add(pyagrum.LabelizedVariable("coin", "", ["heads", "tails"]))
        >>> _ = coin.cpt("coin").fillWith([0.7, 0.3])
        >>> from_pyagrum(coin).query("coin")["coin"].probs
        tensor([0.7000, 0.3000], dtype=torch.float64)
    """
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if not kinds & {"BayesNet", "MarkovRandomField"}:
        raise Unsupported(
            "from_pyagrum() takes a BayesNet or a MarkovRandomField of pyAgrum, got "
            f"{type(model).__name__}"
        )
    variables = {v.name(): v for v in (model.variable(node) for node in sorted(model.nodes()))}
    states = {name: _states(variable) for name, variable in variables.items()}
    if "BayesNet" in kinds:
        tables = {name: _table(model.cpt(name)) for name in variables}
        return to_bayesian_network(Network(model.propertyWithDefault("name", ""), states, tables))
    return _field([model.factor(scope) for scope in model.factors()], states)


def to_pyagrum(model: DirectedModel) -> Any:
    """Convert a network of discrete variables to a pyAgrum ``BayesNet``.

    Every conditional is written as its table. States that are consecutive whole numbers become a
    range, other numbers integer or numerical variables, if they increase; all else becomes labels.

    Args:
        model: The network; names that are not text are written as text.

    Raises:
        DataError: If two names are the same as text.
        Unsupported: If a variable is real, a conditional needs inputs, or the model is no network.
    """
    require("pyagrum", "pyagrum", "networks of pyAgrum")
    gum: Any = importlib.import_module("pyagrum")
    if not isinstance(model, DirectedModel):
        raise Unsupported(
            f"to_pyagrum() takes a Bayesian network, got a {type(model).__name__}",
            "write a field to a .uai file",
        )
    described = describe(model)
    network = in_text(described)
    result = gum.BayesNet(network.name)
    kept = described.states.values()
    for states, (name, labels) in zip(kept, network.states.items(), strict=True):
        result.add(_variable(gum, str(name), states, labels))
    for table in parents_first(network):
        for parent in table.parents:
            result.addArc(parent, table.child)
        result.cpt(table.child)[:] = np.ascontiguousarray(parents_backward(table.values))
    return result


def _states(variable: Any) -> tuple[Any, ...]:
    gum: Any = importlib.import_module("pyagrum")
    for name, number in _NUMBERS.items():
        if variable.varType() == getattr(gum, f"VarType_{name}"):
            # a label has six digits
            return tuple(number(variable.numerical(k)) for k in range(variable.domainSize()))
    return tuple(variable.labels())


def _table(tensor: Any) -> Table:
    child, *parents = tensor.names
    return Table(child, tuple(parents), parents_backward(_values(tensor)))


def _field(tensors: Sequence[Any], states: dict[Hashable, tuple[Any, ...]]) -> MarkovRandomField:
    variables = {name: Variable(name, labels) for name, labels in states.items()}
    factors = [Factor([variables[name]], torch.zeros(len(states[name]))) for name in states]
    for tensor in tensors:
        scope = [variables[name] for name in tensor.names[::-1]]
        with np.errstate(divide="ignore"):
            factors.append(Factor(scope, torch.from_numpy(np.log(_values(tensor)))))
    return MarkovRandomField(factors)


def _values(tensor: Any) -> np.ndarray:
    """Numbers of a tensor, whose axes are its variables in reverse order."""
    # Nodes such as noisy-or have no memory of numbers; reorganising computes a table of them.
    table = tensor.reorganize(list(tensor.names))
    return np.array(table.toarray(), dtype=np.float64, order="C")


def _variable(gum: Any, name: str, states: Sequence[Any], labels: Sequence[str]) -> Any:
    kinds = (int, float, np.integer, np.floating)
    numbers = [s for s in states if isinstance(s, kinds) and not isinstance(s, bool)]
    increase = len(numbers) == len(states) and all(a < b for a, b in pairwise(numbers))
    if not increase or not all(map(math.isfinite, numbers)):
        return gum.LabelizedVariable(name, name, list(labels))
    if not all(isinstance(s, int | np.integer) for s in numbers):
        return gum.NumericalDiscreteVariable(name, name, [float(s) for s in numbers])
    whole = [int(s) for s in numbers]
    if whole[-1] - whole[0] == len(whole) - 1:
        return gum.RangeVariable(name, name, whole[0], whole[-1])
    return gum.IntegerVariable(name, name, whole)
