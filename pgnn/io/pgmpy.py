"""Conversion of models from and to pgmpy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.abilities import DirectedModel, SlicedModel
from pgnn.errors import ModelError, Unsupported, require
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.factor import Factor
from pgnn.factors.time_steps import at_step, has_lag, lagged
from pgnn.factors.variable import Variable
from pgnn.io.description import Network, Table, describe, short_values, to_bayesian_network
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.dynamic_bayesian_network import DynamicBayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField


def from_pgmpy(model: Any) -> BayesianNetwork | DynamicBayesianNetwork | MarkovRandomField:
    """Convert a model of pgmpy.

    Names, states, their order and latent variables are kept. The child is the first axis of a
    table of pgmpy, and the last one of pgnn.

    Args:
        model: A ``DiscreteBayesianNetwork`` or ``NaiveBayes``, ``LinearGaussianBayesianNetwork``,
            ``DynamicBayesianNetwork``, ``DiscreteMarkovNetwork``, ``FactorGraph``, ``JunctionTree``
            or ``ClusterGraph``; it is not changed.

    Raises:
        ModelError: If a node has no table, or tables disagree about states.
        Unsupported: If a conditional is not a table, or the model is of another class.
    """
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if "DynamicBayesianNetwork" in kinds:
        return from_dynamic(model)
    if "LinearGaussianBayesianNetwork" in kinds:
        return from_linear_gaussian(model)
    if kinds & {"DiscreteMarkovNetwork", "FactorGraph", "ClusterGraph"}:
        return from_factors(model)
    if "DAG" not in kinds:
        raise Unsupported(
            "from_pgmpy() takes a DiscreteBayesianNetwork, LinearGaussianBayesianNetwork, "
            "DynamicBayesianNetwork, DiscreteMarkovNetwork, FactorGraph, JunctionTree or "
            "ClusterGraph of pgmpy, got a "
            f"{type(model).__name__}"
        )
    cpds = {}
    for name in model.nodes():
        cpd = model.get_cpds(name)
        if cpd is None:
            raise ModelError(f"pgmpy model has no table for {name!r}; add a TabularCPD or fit it")
        if not hasattr(cpd, "state_names"):
            kind = type(cpd).__name__
            raise Unsupported(f"the conditional of {name!r} is a {kind}, not a table of states")
        cpds[name] = cpd
    states: dict[Hashable, tuple[Any, ...]] = {
        name: tuple(cpd.state_names[name]) for name, cpd in cpds.items()
    }
    tables: dict[Hashable, Table] = {name: _table(cpd, states) for name, cpd in cpds.items()}
    latents = tuple(model.latents)
    return to_bayesian_network(Network(str(model.name or "unknown"), states, tables, latents))


def from_factors(model: Any) -> MarkovRandomField:
    """Convert the factors of a pgmpy network, factor graph or tree of clusters to a field.

    Args:
        model: A model of pgmpy with factors; it is not changed.

    Raises:
        ModelError: If there are no factors, or they disagree about states.
    """
    variables: dict[Hashable, Variable] = {}
    factors = []
    for factor in model.get_factors():
        for name in factor.variables:
            variables.setdefault(name, Variable(name, list(factor.state_names[name])))
        values = np.asarray(factor.values, dtype=np.float64)
        for axis, name in enumerate(factor.variables):
            values = _in_order(values, axis, name, list(factor.state_names[name]), variables[name])
        scope = [variables[name] for name in factor.variables]
        with np.errstate(divide="ignore"):
            logs = torch.from_numpy(np.ascontiguousarray(np.log(values)))
        factors.append(Factor(scope, logs))
    if not factors:
        raise ModelError("the pgmpy model has no factors; add_factors(...) first")
    return MarkovRandomField(factors)


def from_linear_gaussian(model: Any) -> BayesianNetwork:
    """Convert a pgmpy ``LinearGaussianBayesianNetwork`` to a network of real variables.

    Args:
        model: The pgmpy network; it is not changed.

    Raises:
        ModelError: If a node has no conditional.
    """
    variables = {name: Variable(name) for name in model.nodes()}
    conditionals: dict[Hashable, Conditional] = {}
    for name in variables:
        cpd = model.get_cpds(name)
        if cpd is None:
            raise ModelError(f"pgmpy model has no conditional for {name!r}; add one or fit it")
        intercept, *weight = np.asarray(cpd.beta, dtype=np.float64).tolist()
        variance = float(cpd.std) ** 2
        parents = [variables[p] for p in cpd.evidence]
        conditionals[name] = (
            LinearGaussian(variables[name], parents, weight, intercept, variance)
            if parents
            else Gaussian(variables[name], (), intercept, variance)
        )
    edges = [(v.name, name) for name, c in conditionals.items() for v in c.parents]
    return BayesianNetwork(edges, conditionals, latents=tuple(model.latents))


def to_pgmpy(model: Any) -> Any:
    """Convert a model to one of pgmpy.

    Args:
        model: A network of discrete variables (``DiscreteBayesianNetwork``), one of real numbers
            with linear regressions (``LinearGaussianBayesianNetwork``), a field of discrete
            variables (``DiscreteMarkovNetwork``), or a model whose slice repeats, hidden Markov
            models too (``DynamicBayesianNetwork``). Every conditional and potential of discrete
            variables is written as its table.

    Raises:
        Unsupported: If a variable is real, a conditional needs inputs, or the model is another.
    """
    require("pgmpy", "pgmpy", "its models")
    if isinstance(model, SlicedModel):
        return to_dynamic(model)
    if isinstance(model, MarkovRandomField):
        return to_markov(model)
    if isinstance(model, DirectedModel) and all(
        _is_real_number(v) for v in model.variables.values()
    ):
        return to_linear_gaussian(model)
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.models import DiscreteBayesianNetwork

    network = describe(model)
    result = DiscreteBayesianNetwork()
    result.add_nodes_from(network.states)
    result.latents = set(network.latents)
    for table in network.tables.values():
        result.add_edges_from((parent, table.child) for parent in table.parents)
    for table in network.tables.values():
        size = table.values.shape[-1]
        names = (*table.parents, table.child)
        result.add_cpds(
            TabularCPD(
                table.child,
                size,
                table.values.reshape(-1, size).T,
                evidence=list(table.parents) or None,
                evidence_card=list(table.values.shape[:-1]) or None,
                state_names={name: list(network.states[name]) for name in names},
            )
        )
    return result


def to_linear_gaussian(model: DirectedModel) -> Any:
    """Convert a network of real numbers to a pgmpy ``LinearGaussianBayesianNetwork``.

    Raises:
        Unsupported: If a conditional is not normal with a linear mean, or needs inputs.
    """
    from pgmpy.factors.continuous import LinearGaussianCPD
    from pgmpy.models import LinearGaussianBayesianNetwork

    result = LinearGaussianBayesianNetwork()
    result.add_nodes_from(model.variables)
    result.latents = set(model.latents)
    cpds = []
    for name, conditional in model.conditionals.items():
        if conditional.inputs:
            raise Unsupported(f"the conditional of {name!r} needs inputs: it is no regression")
        weight, bias, scale = (x.detach().flatten().tolist() for x in conditional.regression())
        parents = [v.name for v in conditional.parents]
        result.add_edges_from((parent, name) for parent in parents)
        cpds.append(LinearGaussianCPD(name, [*bias, *weight], scale[0], parents))
    result.add_cpds(*cpds)
    return result


def _is_real_number(variable: Variable) -> bool:
    return not variable.is_discrete and variable.shape == ()


def to_markov(model: MarkovRandomField) -> Any:
    """Convert a field to a pgmpy ``DiscreteMarkovNetwork``; elements of arrays become nodes.

    Raises:
        Unsupported: If a potential depends on inputs.
    """
    from pgmpy.factors.discrete import DiscreteFactor
    from pgmpy.models import DiscreteMarkovNetwork

    if model.input_names:
        raise Unsupported(
            f"potentials depend on the inputs {list(model.input_names)}: they are no tables"
        )
    result = DiscreteMarkovNetwork()
    for variable in model.variables.values():
        result.add_nodes_from(single.name for single in variable.elements())
    for factor in model.factors():
        names = list(factor.names)
        result.add_edges_from(combinations(names, 2))
        values = short_values(factor.log_values)
        states = {v.name: list(v.states or ()) for v in factor.variables}
        result.add_factors(DiscreteFactor(names, list(values.shape), values, state_names=states))
    return result


def to_dynamic(model: SlicedModel) -> Any:
    """Convert to a pgmpy ``DynamicBayesianNetwork``; both slices get the parents of either.

    Raises:
        Unsupported: If a variable is real, or a conditional needs inputs.
    """
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.models import DynamicBayesianNetwork as Dynamic

    result, cpds = Dynamic(), []
    for name, late in model.conditionals.items():
        first = model.first(name)
        for conditional in (first, late):
            real = [v.name for v in conditional.scope if not v.is_discrete]
            if real or conditional.inputs:
                what = f"has the real variable {real[0]!r}" if real else "needs inputs"
                raise Unsupported(f"the conditional of {name!r} {what}: it is no table")
        beside = [v for v in (*late.parents, *first.parents) if not has_lag(v.name)]
        inside = list({v.name: v for v in beside}.values())
        before = [v for v in late.parents if has_lag(v.name)]
        result.add_node(name)
        result.add_edges_from(((v.name, 0), (name, 0)) for v in inside)
        result.add_edges_from((at_step(v.name, 1), (name, 1)) for v in before)
        for t, conditional, parents in ((0, first, inside), (1, late, [*before, *inside])):
            scope = [*parents, conditional.child]
            values = np.exp(_spread(conditional, scope))
            nodes = [at_step(v.name, t) for v in scope]
            states = {n: list(v.states or ()) for n, v in zip(nodes, scope, strict=True)}
            cpds.append(
                TabularCPD(
                    nodes[-1],
                    values.shape[-1],
                    values.reshape(-1, values.shape[-1]).T,
                    evidence=nodes[:-1] or None,
                    evidence_card=list(values.shape[:-1]) or None,
                    state_names=states,
                )
            )
    kept = set(result.nodes())  # a variable without edges is in the first slice alone
    result.add_cpds(*[cpd for cpd in cpds if cpd.variable in kept])
    return result


def _spread(conditional: Conditional, scope: Sequence[Variable]) -> NDArray[np.float64]:
    """The log table broadcast to the axes of a larger scope."""
    table = conditional.factor()
    known = [v for v in scope if v.name in table.names]
    order = [table.names.index(v.name) for v in known]
    shape = [v.num_states if v in known else 1 for v in scope]
    logs = table.log_values.detach().double().permute(order).reshape(shape)
    return np.ascontiguousarray(logs.expand([v.num_states for v in scope]).numpy(force=True))


def _in_order(
    values: NDArray[Any], axis: int, name: Hashable, states: list[Any], variable: Variable
) -> NDArray[Any]:
    """A table with the states along an axis in the order of the variable."""
    want = list(variable.states or ())
    if states == want:
        return values
    if set(states) != set(want) or len(states) != len(want):
        raise ModelError(f"tables disagree about the states of {name!r}: {states} and {want}")
    return values.take([states.index(s) for s in want], axis=axis)


def _table(cpd: Any, states: dict[Hashable, tuple[Any, ...]]) -> Table:
    child, *parents = cpd.variables
    values = np.asarray(cpd.values, dtype=np.float64)
    for axis, name in enumerate(cpd.variables):
        if name not in states:
            raise ModelError(f"the table of {child!r} has the parent {name!r}, which is no node")
        labels = list(cpd.state_names[name])
        if set(labels) != set(states[name]) or len(labels) != len(states[name]):
            raise ModelError(
                f"the table of {child!r} has states {labels} of {name!r}, "
                f"but that of {name!r} has {list(states[name])}"
            )
        values = values.take([labels.index(label) for label in states[name]], axis=axis)
    return Table(child, tuple(parents), np.ascontiguousarray(np.moveaxis(values, 0, -1)))


def from_dynamic(model: Any) -> DynamicBayesianNetwork:
    """Convert a pgmpy ``DynamicBayesianNetwork`` to a network over time.

    Args:
        model: The pgmpy network; a table of the second slice may be missing where it equals that
            of the first one. It is not changed.

    Raises:
        ModelError: If a node has no table, or tables disagree about states.
    """
    cpds = [
        {_name_and_slice(c.variables[0])[0]: c for c in model.get_cpds(time_slice=t)}
        for t in (0, 1)
    ]
    names = dict.fromkeys(_name_and_slice(n)[0] for n in model.nodes())
    for name in names:
        if name not in cpds[0]:
            raise ModelError(f"pgmpy model has no table for {(name, 0)!r}; add a TabularCPD")
    variables = {n: Variable(n, _states(cpds[0][n], 0)) for n in names}
    first = {n: _conditional(cpds[0][n], variables) for n in names}
    conditionals = {
        n: _conditional(cpds[1][n], variables) if n in cpds[1] else first[n] for n in names
    }
    edges = [(v.name, n) for n, c in conditionals.items() for v in c.parents]
    initial = {n: c for n, c in first.items() if not _same(c, conditionals[n])}
    states = {n: v.states or () for n, v in variables.items()}
    return DynamicBayesianNetwork(edges, conditionals, initial, states)


def _name_and_slice(node: Any) -> tuple[Hashable, int]:
    """Name and slice of a node."""
    return node[0], int(node[1])


def _states(cpd: Any, axis: int) -> list[Any]:
    names = {_name_and_slice(n): s for n, s in cpd.state_names.items()}
    return list(names[_name_and_slice(cpd.variables[axis])])


def _conditional(cpd: Any, variables: dict[Hashable, Variable]) -> Tabular:
    """A table with the child last, states in the order of the variables."""
    (child, t), *before = [_name_and_slice(n) for n in cpd.variables]
    parents = [lagged(variables[n]) if s < t else variables[n] for n, s in before]
    values = np.asarray(cpd.values, dtype=np.float64)
    for axis, (name, _) in enumerate([(child, t), *before]):
        values = _in_order(values, axis, name, _states(cpd, axis), variables[name])
    return Tabular(variables[child], parents, np.moveaxis(values, 0, -1))


def _same(a: Conditional, b: Conditional) -> bool:
    if a is b:
        return True
    same_parents = [v.name for v in a.parents] == [v.name for v in b.parents]
    return same_parents and bool((a.factor().log_values == b.factor().log_values).all())


def marginals_of_pgmpy(
    model: Any, findings: Sequence[Mapping[Hashable, Any]]
) -> list[dict[Hashable, NDArray[np.float64]]]:
    """Return the posteriors that pgmpy's variable elimination finds.

    Args:
        model: A network of tables, or a field.
        findings: For each answer the observed states.

    Raises:
        Unsupported: If pgmpy has no such model.
    """
    from pgmpy.inference import VariableElimination

    engine = VariableElimination(to_pgmpy(model))
    answers = []
    for evidence in findings:
        targets = [name for name in model.variables if name not in evidence]
        found = engine.query(targets, dict(evidence), joint=False, show_progress=False)
        answers.append({name: _values(found[name], model.variables[name]) for name in targets})
    return answers


def _values(factor: Any, variable: Variable) -> NDArray[np.float64]:
    """The numbers of a factor over one variable, in the order of its states."""
    values = np.asarray(factor.values, dtype=np.float64)
    states = list(factor.state_names[variable.name])
    return _in_order(values, 0, variable.name, states, variable)
