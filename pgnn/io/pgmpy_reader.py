"""Conversion of models of pgmpy."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.factor import Factor
from pgnn.factors.time_steps import lagged
from pgnn.factors.variable import Variable
from pgnn.io.description import Network, Table, to_bayesian_network
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
            or ``ClusterGraph``; it is not changed. A ``DAG``, or a network without tables, becomes
            a network whose tables are to be fitted.

    Raises:
        ModelError: If some nodes have no table, or tables disagree about states.
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
            "from_pgmpy() takes a DAG, DiscreteBayesianNetwork, LinearGaussianBayesianNetwork, "
            "DynamicBayesianNetwork, DiscreteMarkovNetwork, FactorGraph, JunctionTree or "
            "ClusterGraph of pgmpy, got a "
            f"{type(model).__name__}"
        )
    if "DiscreteBayesianNetwork" not in kinds or not model.get_cpds():
        return BayesianNetwork(model, latents=tuple(model.latents))
    cpds = {}
    for name in model.nodes():
        cpd = model.get_cpds(name)
        if cpd is None:
            raise ModelError(f"pgmpy model has no table for {name!r}", "add a TabularCPD or fit it")
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
            values = in_order(values, axis, name, list(factor.state_names[name]), variables[name])
        scope = [variables[name] for name in factor.variables]
        with np.errstate(divide="ignore"):
            logs = torch.from_numpy(np.ascontiguousarray(np.log(values)))
        factors.append(Factor(scope, logs))
    if not factors:
        raise ModelError("the pgmpy model has no factors", "add_factors(...) first")
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
            raise ModelError(f"pgmpy model has no conditional for {name!r}", "add one or fit it")
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
        ModelError: If some nodes have no table, or tables disagree about states.
    """
    cpds = [
        {_name_and_slice(c.variables[0])[0]: c for c in model.get_cpds(time_slice=t)}
        for t in (0, 1)
    ]
    names = dict.fromkeys(_name_and_slice(n)[0] for n in model.nodes())
    for name in names:
        if name not in cpds[0]:
            raise ModelError(f"pgmpy model has no table for {(name, 0)!r}", "add a TabularCPD")
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
        values = in_order(values, axis, name, _states(cpd, axis), variables[name])
    return Tabular(variables[child], parents, np.moveaxis(values, 0, -1))


def _same(a: Conditional, b: Conditional) -> bool:
    if a is b:
        return True
    same_parents = [v.name for v in a.parents] == [v.name for v in b.parents]
    return same_parents and bool((a.factor().log_values == b.factor().log_values).all())


def in_order(
    values: NDArray[Any], axis: int, name: Hashable, states: list[Any], variable: Variable
) -> NDArray[Any]:
    """Return a table with the states along an axis in the order of the variable.

    Raises:
        ModelError: If they are not the variable's states.
    """
    want = list(variable.states or ())
    if states == want:
        return values
    if set(states) != set(want) or len(states) != len(want):
        raise ModelError(f"tables disagree about the states of {name!r}: {states} and {want}")
    return values.take([states.index(s) for s in want], axis=axis)
