"""A network of tables as plain data, between models and file formats."""

from __future__ import annotations

import graphlib
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pgnn.abilities import DirectedModel, UnrollableModel
from pgnn.errors import Advice, DataError, ModelError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.variable import Variable
from pgnn.models.bayesian_network import BayesianNetwork

MAX_AXES = 60
"""Most axes of a table that is read: arrays have at most 64."""


@dataclass(frozen=True)
class Table:
    """Numbers of one local conditional p(child | parents).

    Attributes:
        child: Name of the child.
        parents: Names of its parents, in the order of the axes.
        values: Probabilities ``(K_pa1, ..., K_child)``.
        origin: Its position in a file, ``"file:line"``; empty if it was not read from one.
    """

    child: Hashable
    parents: tuple[Hashable, ...]
    values: np.ndarray
    origin: str = ""


@dataclass(frozen=True)
class Network:
    """A directed network of tables.

    Attributes:
        name: Name of the network in the file.
        states: State labels of every variable, in declared order.
        tables: One table for each variable, in the same order.
        latents: Names of variables that are never observed.
    """

    name: str
    states: Mapping[Hashable, tuple[Any, ...]]
    tables: Mapping[Hashable, Table]
    latents: tuple[Hashable, ...] = ()

    @property
    def num_free_parameters(self) -> int:
        """Number of entries of the tables, less one for each row, which must sum to one."""
        return sum(
            math.prod(t.values.shape[:-1]) * (t.values.shape[-1] - 1) for t in self.tables.values()
        )


def path_text(nodes: Sequence[Any]) -> str:
    """Return ``a -> b -> c``, without the middle of a long path."""
    shown = [*nodes[:5], "...", *nodes[-5:]] if len(nodes) > 12 else nodes
    return " -> ".join(map(str, shown))


def find_cycle(parents: Mapping[Any, Sequence[Any]]) -> tuple[Any, ...]:
    """Return one directed cycle, first node repeated at the end, or ``()`` if there is none.

    Args:
        parents: Node -> its parents.
    """
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as error:
        return tuple(error.args[1])
    return ()


def to_bayesian_network(network: Network) -> BayesianNetwork:
    """Convert a description to a model of constant tables.

    Args:
        network: The description.

    Raises:
        DataError: If a table is wrong; the message has its position.
    """
    variables = {name: Variable(name, labels) for name, labels in network.states.items()}
    conditionals: dict[Hashable, Conditional] = {}
    for name, table in network.tables.items():
        parents = [variables[p] for p in table.parents]
        try:
            conditionals[name] = Tabular(variables[name], parents, table.values)
        except ModelError as error:
            where = f"{table.origin}: " if table.origin else ""
            raise DataError(f"{where}{error.reason}", error.advice) from error
    edges = [(parent, t.child) for t in network.tables.values() for parent in t.parents]
    return BayesianNetwork(edges, conditionals, latents=network.latents)


def describe(model: DirectedModel, name: str = "unknown") -> Network:
    """Return the conditionals of a discrete network as tables.

    Constant tables are exactly those given; all others are normalised.

    Raises:
        Unsupported: If the model is undirected, a variable is real, or a conditional cannot be
            tabulated without inputs.
    """
    if not isinstance(model, DirectedModel) or isinstance(model, UnrollableModel):
        raise Unsupported(
            f"this format holds Bayesian networks, not a {type(model).__name__}",
            Advice("write a .uai file or save a checkpoint", "checkpoint", ("a .uai file",)),
        )
    tables: dict[Hashable, Table] = {}
    for child, conditional in model.conditionals.items():
        for variable in conditional.scope:
            if not variable.is_discrete:
                raise Unsupported(
                    f"variable {variable.name!r} is real and cannot be written as a table",
                    Advice("save a checkpoint instead", "checkpoint"),
                )
        parents = tuple(v.name for v in conditional.parents)
        tables[child] = Table(child, parents, short_values(_log_table(conditional)))
    states = {n: tuple(v.states or ()) for n, v in model.variables.items()}
    return Network(name, states, tables, tuple(model.latents))


def parents_first(network: Network) -> list[Table]:
    """Return the tables in an order in which each comes after those of its parents."""
    tables = network.tables
    order = graphlib.TopologicalSorter({name: t.parents for name, t in tables.items()})
    return [tables[name] for name in order.static_order()]


def parents_backward(values: np.ndarray) -> np.ndarray:
    """Return a table with its parents, all axes but the last, in reverse order."""
    return values.transpose(*range(values.ndim - 2, -1, -1), values.ndim - 1)


def in_text(network: Network) -> Network:
    """Return a description in which all names and states are text, as in files.

    Raises:
        DataError: If two names, or two states of a variable, become the same text.
    """
    texts = _distinct(network.states, "two variables")
    states: dict[Hashable, tuple[str, ...]] = {
        texts[name]: tuple(_distinct(labels, f"two states of {name!r}").values())
        for name, labels in network.states.items()
    }
    tables: dict[Hashable, Table] = {
        texts[name]: Table(texts[name], tuple(texts[p] for p in t.parents), t.values, t.origin)
        for name, t in network.tables.items()
    }
    return Network(network.name, states, tables, tuple(texts[name] for name in network.latents))


def _distinct(names: Iterable[Hashable], what: str) -> dict[Hashable, str]:
    texts: dict[Hashable, str] = {}
    observed: dict[str, Hashable] = {}
    for name in names:
        text = str(name)
        if text in observed:
            raise DataError(
                f"{what}, {observed[text]!r} and {name!r}, would both be written {text!r}"
            )
        observed[text] = name
        texts[name] = text
    return texts


def short_values(log_values: Tensor) -> np.ndarray:
    """Return the doubles of fewest decimal digits whose logs are the given ones.

    Logs of 0.1 or 0.3333333 are converted to exactly these numbers, unlike by ``exp``.

    Args:
        log_values: Log numbers of any shape; ``-inf`` becomes zero.

    Raises:
        DataError: If a number is too large or too small for a double.
    """
    logs = log_values.detach().cpu().numpy()
    flat = logs.ravel()
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        exact = np.exp(flat.astype(np.float64))
        if (np.isinf(exact) | ((exact == 0) & ~np.isneginf(flat))).any():
            raise DataError(
                f"a table holds e**{flat[np.abs(np.where(np.isinf(flat), 0, flat)).argmax()]:g}, "
                "which is no double",
                Advice("divide the table by a constant, or save a checkpoint", "checkpoint"),
            )
        short = exact.copy()
        todo = np.arange(flat.size)
        for digits in (6, 9) if logs.dtype == np.float32 else (6, 12, 15):
            trial = np.array([float(f"{x:.{digits}g}") for x in exact[todo].tolist()])
            fits = np.log(trial.astype(logs.dtype)) == flat[todo]
            short[todo[fits]] = trial[fits]
            todo = todo[~fits]
    return short.reshape(logs.shape)


def _log_table(conditional: Conditional) -> Tensor:
    if isinstance(conditional, Tabular) and not conditional.logits.requires_grad:
        return conditional.logits
    if conditional.inputs:
        inputs = ", ".join(map(repr, conditional.inputs))
        raise Unsupported(
            f"the conditional of {conditional.child.name!r} depends on the inputs {inputs} and "
            "is no table",
            Advice("save a checkpoint instead", "checkpoint"),
        )
    return conditional.factor().log_values
