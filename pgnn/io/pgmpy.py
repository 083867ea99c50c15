"""Conversion of models to pgmpy, and its answers about them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.abilities import DirectedModel, SlicedModel
from pgnn.errors import Unsupported, require
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.time_steps import at_step, has_lag
from pgnn.factors.variable import Variable
from pgnn.io.description import describe, short_values
from pgnn.io.pgmpy_reader import in_order
from pgnn.models.markov_random_field import MarkovRandomField


def to_pgmpy(model: Any, *, factor_graph: bool = False) -> Any:
    """Convert a model to one of pgmpy.

    Args:
        model: A network of discrete variables (``DiscreteBayesianNetwork``), one of real numbers
            with linear regressions (``LinearGaussianBayesianNetwork``), a field of discrete
            variables (``DiscreteMarkovNetwork``), or a model whose slice repeats, hidden Markov
            models too (``DynamicBayesianNetwork``). Every conditional and potential of discrete
            variables is written as its table.
        factor_graph: Whether a field becomes a ``FactorGraph``, a node for each factor.

    Raises:
        Unsupported: If a variable is real, a conditional needs inputs, the model is another, or
            a factor graph is asked for of a model that is no field.
    """
    require("pgmpy", "pgmpy", "its models")
    if factor_graph and not isinstance(model, MarkovRandomField):
        raise Unsupported(f"factor_graph=True is for fields, not for a {type(model).__name__}")
    if isinstance(model, SlicedModel):
        return to_dynamic(model)
    if isinstance(model, MarkovRandomField):
        return to_factor_graph(model) if factor_graph else to_markov(model)
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
    from pgmpy.models import DiscreteMarkovNetwork

    factors = _factors(model)
    result = DiscreteMarkovNetwork()
    result.add_nodes_from(_elements(model))
    for factor in factors:
        result.add_edges_from(combinations(factor.variables, 2))
    result.add_factors(*factors)
    return result


def to_factor_graph(model: MarkovRandomField) -> Any:
    """Convert a field to a pgmpy ``FactorGraph``; elements of arrays become nodes.

    Raises:
        Unsupported: If a potential depends on inputs.
    """
    from pgmpy.models import FactorGraph

    factors = _factors(model)
    result = FactorGraph()
    result.add_nodes_from([*_elements(model), *factors])
    for factor in factors:
        result.add_edges_from((name, factor) for name in factor.variables)
    result.add_factors(*factors)
    return result


def _elements(model: MarkovRandomField) -> list[Hashable]:
    return [single.name for v in model.variables.values() for single in v.elements()]


def _factors(model: MarkovRandomField) -> list[Any]:
    """The factors of a field as pgmpy's.

    Raises:
        Unsupported: If a potential depends on inputs.
    """
    from pgmpy.factors.discrete import DiscreteFactor

    if model.input_names:
        raise Unsupported(
            f"potentials depend on the inputs {list(model.input_names)}: they are no tables"
        )
    factors = []
    for factor in model.factors():
        values = short_values(factor.log_values)
        states = {v.name: list(v.states or ()) for v in factor.variables}
        factors.append(DiscreteFactor([*factor.names], [*values.shape], values, state_names=states))
    return factors


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
    """The probabilities of a variable in the order of its states; pgmpy leaves fields unscaled."""
    values = np.asarray(factor.values, dtype=np.float64)
    values = values / values.sum()
    states = list(factor.state_names[variable.name])
    return in_order(values, 0, variable.name, states, variable)
