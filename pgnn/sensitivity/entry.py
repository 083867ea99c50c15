"""Entries of conditional tables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.abilities import NetworkModel
from pgnn.errors import EvidenceError, closest
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.sensitivity.what_if import check_network, discrete_variable, state_index


class Entry(NamedTuple):
    r"""An entry :math:`p(x = k \mid \mathrm{pa} = j)` of a table.

    Attributes:
        variable: Name of the variable.
        state: Its state.
        parents: State of each parent, by name.

    Example:
        >>> Entry("wet", "yes", {"rain": "no"})
        Entry(variable='wet', state='yes', parents={'rain': 'no'})
    """

    variable: Hashable
    state: Any
    parents: Mapping[Hashable, Any] = {}


def table_of(conditional: Conditional) -> NDArray[np.float64]:
    """Return the probabilities of a discrete conditional, ``(K_pa1, ..., K_child)``."""
    with torch.no_grad():
        table: NDArray[np.float64] = conditional.factor(None).values.double().numpy(force=True)
    return table


def place_of(model: NetworkModel, entry: Entry) -> tuple[int, ...]:
    """Return the index of an entry in its table.

    Raises:
        EvidenceError: If a name or state is unknown, or a parent has no state.
    """
    discrete_variable(model, entry.variable)
    conditional = model.conditionals[entry.variable]
    names = [v.name for v in conditional.parents]
    for name in entry.parents:
        if name not in names:
            raise EvidenceError(
                f"{name!r} is not a parent of {entry.variable!r}{closest(name, names)}"
            )
    missing = [n for n in names if n not in entry.parents]
    if missing:
        raise EvidenceError(
            f"an entry of the table of {entry.variable!r} needs a state of its parent "
            f"{missing[0]!r}"
        )
    states = [*(entry.parents[n] for n in names), entry.state]
    scope = [*conditional.parents, conditional.child]
    return tuple(state_index(v, s, "the entry") for v, s in zip(scope, states, strict=True))


def with_table(model: NetworkModel, name: Hashable, table: NDArray[np.float64]) -> NetworkModel:
    """Return the network with another table of one variable."""
    conditional = model.conditionals[name]
    replaced = Tabular(conditional.child, conditional.parents, table)
    return model.with_conditionals({**model.conditionals, name: replaced})


def covaried(row: NDArray[np.float64], k: int, value: float) -> NDArray[np.float64]:
    """Return a distribution in which one probability is changed, and the others in proportion.

    If all others are zero they share what is left equally.
    """
    others = np.ones(len(row)) if row[k] >= 1.0 else np.array(row)
    others[k] = 0.0
    changed: NDArray[np.float64] = (1.0 - value) * others / max(others.sum(), 1e-300)
    changed[k] = value
    return changed


def with_entry(model: Any, entry: Entry, value: float) -> NetworkModel:
    """Return a network in which an entry of a table is changed, and its row in proportion.

    Args:
        model: A Bayesian network; it stays as it is.
        entry: Which one.
        value: Its new probability.

    Raises:
        EvidenceError: If the entry is unknown, or the value is no probability.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> with_entry(model, Entry("a", 1), 0.25).conditionals["a"].probs
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    network = check_network(model)
    if not 0.0 <= value <= 1.0:
        raise EvidenceError(
            f"an entry of a table must be a probability between 0 and 1, got {value}"
        )
    *parents, k = place_of(network, entry)
    table = table_of(network.conditionals[entry.variable]).copy()
    table[tuple(parents)] = covaried(table[tuple(parents)], k, float(value))
    return with_table(network, entry.variable, table)


def entries_of(conditional: Conditional) -> Sequence[Entry]:
    """Return all entries of a table in its own order."""
    scope = [*conditional.parents, conditional.child]
    labels = [v.states or () for v in scope]
    names = [v.name for v in conditional.parents]
    entries = []
    for place in np.ndindex(*(len(x) for x in labels)):
        states = [x[k] for x, k in zip(labels, place, strict=True)]
        entries.append(
            Entry(conditional.child.name, states[-1], dict(zip(names, states, strict=False)))
        )
    return entries
