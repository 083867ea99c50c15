"""A directed slice that repeats along time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import networkx as nx
from torch import nn

from pgnn.abilities import Inputs, SlicedModel
from pgnn.errors import ModelError
from pgnn.factors.conditionals.checks import check_no_arrays
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exogenous import Exogenous
from pgnn.factors.conditionals.renamed import Renamed
from pgnn.factors.time_steps import AXIS, at_step, has_lag, lagged_name, without_lag
from pgnn.factors.variable import Variable
from pgnn.graphs.checks import check_directed_acyclic
from pgnn.limits import check_size, whole_number
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.sequence_model import SequenceModel

if TYPE_CHECKING:
    from pgnn.programs.sequence_program import SequenceProgram

_BYTES_OF_A_NODE = 10_000
"""Approximate size in bytes of a node and its conditional in Python."""


class RepeatedSlice(SequenceModel, SlicedModel):
    r"""A directed slice that repeats along time.

    .. math:: p(x_{1:T}) = \prod_i p_1(x_{1,i} \mid \mathrm{pa})
        \prod_{t=2}^T \prod_i p(x_{t,i} \mid \mathrm{pa}(x_{t,i}))

    where a parent belongs to the same slice or, if named ``(name, -1)``, to the previous slice. The
    variables of the model are arrays over the axis ``"T"``, whose length the data determines.

    Args:
        conditionals: Conditionals of each variable of a slice; the children are variables of one
            step.
        initial: Conditionals of the first slice, for variables with parents in the previous slice.

    Raises:
        ModelError: If the slice has a cycle, or a parent is not a variable of the slice.
    """

    graph: nx.DiGraph
    is_normalized = True

    def __init__(
        self,
        conditionals: Mapping[Hashable, Conditional],
        initial: Mapping[Hashable, Conditional],
    ) -> None:
        super().__init__()
        for c in (*conditionals.values(), *initial.values()):
            check_no_arrays(c.scope, "models over time have single variables; declare one for each")
        self.graph = slice_graph(conditionals)
        check_first_slice(initial, conditionals)
        self._conditionals = dict(conditionals)
        self._initial = dict(initial)
        self._place()

    def _place(self) -> None:
        """Create the variables and register the conditionals as submodules."""
        self._cache.clear()
        conditionals = self._conditionals
        self._modules_in_order = nn.ModuleList([*conditionals.values(), *self._initial.values()])
        self._variables = {
            n: Variable(n, c.child.states, (AXIS, *c.child.shape)) for n, c in conditionals.items()
        }

    def _replace(self, conditional: Conditional) -> None:
        """Replace the conditional of a variable."""
        self._conditionals[conditional.child.name] = conditional
        self._place()

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The variables by name, arrays over time."""
        return MappingProxyType(self._variables)

    @property
    def conditionals(self) -> Mapping[Hashable, Conditional]:
        """The conditional of each variable, given its own and the previous slice."""
        return MappingProxyType(self._conditionals)

    @property
    def initial(self) -> Mapping[Hashable, Conditional]:
        """Conditionals of the first slice, where they differ."""
        return MappingProxyType(self._initial)

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters; shared parameters count once."""
        owners = {}
        for part in (*self._conditionals.values(), *self._initial.values()):
            while isinstance(part, Renamed):
                part = part.conditional
            owners[id(part)] = part.num_free_parameters
        return sum(owners.values())

    @property
    def interface(self) -> list[Hashable]:
        """The discrete variables on which the next slice depends."""
        late = {v.name for c in self._conditionals.values() for v in c.parents}
        conditionals = self._conditionals.items()
        return [n for n, c in conditionals if lagged_name(n) in late and c.child.is_discrete]

    @cached_property
    def order(self) -> tuple[Hashable, ...]:
        """The variables of a slice, parents before children."""
        ordered = nx.topological_sort(self.graph)
        return tuple(n for n in ordered if n in self._conditionals)

    def unroll(self, steps: int) -> BayesianNetwork:
        """Return the ordinary network of a given number of steps, with nodes ``(name, t)``.

        It shares the parameters. Inputs are named ``(name, t)`` too. A variable that depends on the
        previous slice but has no initial conditional must be observed at the first step.

        Raises:
            EvidenceError: If ``steps`` is not an integer.
            Intractable: If the network would be too large.
        """
        steps = check_steps(self, steps)
        first = {n: self.first(n) for n in self._conditionals}
        return BayesianNetwork(*unrolled(self._conditionals, first, steps))

    def first(self, name: Hashable) -> Conditional:
        """Return the conditional of a variable at the first step."""
        conditional = self._conditionals[name]
        if name not in self._initial and is_lagged(conditional):
            return Exogenous(conditional.child)
        return self._initial.get(name, conditional)

    def program(
        self, inputs: Inputs | None = None, *, lengths: int | Iterable[int] | None = None
    ) -> SequenceProgram:
        """Return the Pyro program of given ``lengths``; see :class:`SequenceProgram`."""
        from pgnn.programs.sequence_program import sequence_program

        return sequence_program(self, lengths, inputs)


def check_steps(model: RepeatedSlice, steps: int) -> int:
    """Return a checked number of steps for an unrolled network.

    Raises:
        EvidenceError: If the number is not an integer.
        Intractable: If the network would be too large.
    """
    steps = whole_number("steps", steps)
    nodes, advice = steps * len(model.variables), "Query the model itself, or use fewer steps"
    check_size(f"a network of {steps:,} steps", nodes, advice=advice, each=_BYTES_OF_A_NODE)
    return steps


def is_lagged(conditional: Conditional) -> bool:
    """Return whether a conditional depends on the previous step."""
    return any(has_lag(v.name) for v in conditional.parents)


def conditional_at(conditional: Conditional, t: int) -> Conditional:
    """Return the conditional with its variables and inputs renamed to those of step ``t``."""
    names: dict[Hashable, Hashable] = {v.name: at_step(v.name, t) for v in conditional.scope}
    return Renamed(conditional, names | {n: (n, t) for n in conditional.inputs})


def slice_graph(conditionals: Mapping[Hashable, Conditional]) -> nx.DiGraph:
    """Return the graph of a slice, with nodes ``(name, -1)`` of the previous slice."""
    graph = nx.DiGraph()
    for name, conditional in conditionals.items():
        if has_lag(name):
            raise ModelError(
                f"{name!r} names the previous step", f"give {name[0]!r} its conditional"
            )
        if conditional.child.name != name:
            raise ModelError(f"the conditional of {name!r} is one for {conditional.child.name!r}")
        graph.add_node(name)
    for name, conditional in conditionals.items():
        for v in conditional.parents:
            source = without_lag(v.name)
            known = conditionals.get(source)
            if known is None:
                raise ModelError(
                    f"{name!r} depends on {source!r}, which is not a variable of the slice"
                )
            if (known.child.states, known.child.shape) != (v.states, v.shape):
                raise ModelError(
                    f"{name!r} and {source!r} disagree about what {v.name!r} is: for {name!r} it "
                    f"is {v!r}, and the model has {known.child!r}",
                    "declare both in the same way",
                )
            graph.add_edge(v.name, name)
    check_directed_acyclic(graph)
    return nx.freeze(graph)


def check_first_slice(
    initial: Mapping[Hashable, Conditional], conditionals: Mapping[Hashable, Conditional]
) -> None:
    """Check that conditionals of the first slice match its variables and depend on it alone.

    Raises:
        ModelError: If a conditional does not.
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
    """Return the graph of the given slices over ``(name, t)``, and the conditional of each cell."""
    graph = nx.DiGraph()
    cells: dict[Hashable, Conditional] = {}
    for t in range(steps):
        for name, conditional in conditionals.items():
            renamed = conditional_at(conditional if t else first[name], t)
            graph.add_node((name, t))
            graph.add_edges_from((v.name, (name, t)) for v in renamed.parents)
            cells[name, t] = renamed
    return graph, cells
