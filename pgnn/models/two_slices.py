"""Names in a slice that repeats: what belongs to the step before, and to which step."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import networkx as nx

from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.renamed import Renamed
from pgnn.factors.variable import Variable
from pgnn.graphs.checks import check_directed_acyclic


def lagged(variable: Variable) -> Variable:
    """Return the variable one step earlier, named ``(name, -1)``."""
    return Variable((variable.name, -1), variable.states, variable.shape)


def is_lagged(conditional: Conditional) -> bool:
    """Whether a conditional depends on the step before."""
    return any(has_lag(v.name) for v in conditional.parents)


def has_lag(name: Hashable) -> bool:
    """Whether a name is that of a variable one step earlier, ``(name, -1)``."""
    return isinstance(name, tuple) and len(name) == 2 and name[1] == -1


def at_step(conditional: Conditional, t: int) -> Conditional:
    """Return the conditional with its variables and inputs named as those of step ``t``."""
    names: dict[Hashable, Hashable] = {conditional.child.name: (conditional.child.name, t)}
    for v in conditional.parents:
        name = v.name
        names[name] = (name[0], t - 1) if isinstance(name, tuple) and has_lag(name) else (name, t)
    names.update({n: (n, t) for n in conditional.inputs})
    return Renamed(conditional, names)


def two_slices(conditionals: Mapping[Hashable, Conditional]) -> nx.DiGraph:
    """Return the graph of a slice, with ``(name, -1)`` for what it needs of the one before."""
    graph = nx.DiGraph()
    for name, conditional in conditionals.items():
        if has_lag(name):
            raise ModelError(f"{name!r} names the step before; give {name[0]!r} its conditional")  # type: ignore[index]
        if conditional.child.name != name:
            raise ModelError(f"the conditional of {name!r} is one for {conditional.child.name!r}")
        graph.add_node(name)
    for name, conditional in conditionals.items():
        for v in conditional.parents:
            source = v.name[0] if isinstance(v.name, tuple) and has_lag(v.name) else v.name
            known = conditionals.get(source)
            if known is None:
                raise ModelError(
                    f"{name!r} depends on {source!r}, which is no variable of the slice"
                )
            if (known.child.states, known.child.shape) != (v.states, v.shape):
                raise ModelError(f"{name!r} and {source!r} disagree about what {v.name!r} is")
            graph.add_edge(v.name, name)
    check_directed_acyclic(graph)
    return nx.freeze(graph)


def check_first_slice(
    initial: Mapping[Hashable, Conditional], conditionals: Mapping[Hashable, Conditional]
) -> None:
    """Check that conditionals of the first slice are of its variables and depend on it alone.

    Raises:
        ModelError: If one is not.
    """
    for name, first in initial.items():
        if name not in conditionals or first.child != conditionals[name].child:
            raise ModelError(f"the initial conditional of {name!r} must be one for {name!r}")
        late = [v.name for v in first.parents if v.name not in conditionals]
        if late:
            raise ModelError(
                f"in the first slice {name!r} cannot depend on {late[0]!r}, which is earlier"
            )


def unrolled(
    conditionals: Mapping[Hashable, Conditional], first: Mapping[Hashable, Conditional], steps: int
) -> tuple[nx.DiGraph, dict[Hashable, Conditional]]:
    """Return the graph of so many slices over ``(name, t)``, and the conditional of each cell."""
    graph = nx.DiGraph()
    made: dict[Hashable, Conditional] = {}
    for t in range(steps):
        for name, conditional in conditionals.items():
            renamed = at_step(conditional if t else first[name], t)
            graph.add_node((name, t))
            graph.add_edges_from((v.name, (name, t)) for v in renamed.parents)
            made[name, t] = renamed
    return graph, made
