"""The kinds of potentials that a checkpoint knows how to make again."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.errors import DataError
from pgnn.factors.factor import Factor
from pgnn.factors.potentials.conditional_potential import ConditionalPotential
from pgnn.factors.potentials.factor_tables import FactorTables
from pgnn.factors.potentials.ising import Ising
from pgnn.factors.potentials.lattice import Lattice
from pgnn.factors.potentials.log_linear import LogLinear
from pgnn.factors.potentials.neural_potential import NeuralPotential
from pgnn.factors.potentials.pairwise import PairwisePotential
from pgnn.factors.potentials.potential import Potential
from pgnn.factors.potentials.potts import Potts
from pgnn.factors.potentials.tabular_potential import TabularPotential
from pgnn.factors.variable import Variable
from pgnn.io.checkpoint_kinds import describe_conditional, fill, make_conditional
from pgnn.io.labels import decode, encode

_KINDS = (TabularPotential, Ising, Potts, LogLinear, NeuralPotential, FactorTables,
          ConditionalPotential)  # fmt: skip


def describe_potential(potential: Potential) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Describe a potential by what JSON can hold, and by tensors.

    Returns:
        The description, and the tensors by name: those of its ``state_dict()``, and integers of
        scopes whose names begin with ``@``.

    Raises:
        DataError: If a name or a label cannot be saved.
    """
    kind = type(potential)
    described: dict[str, Any] = {
        "kind": kind.__name__,
        "known": kind in _KINDS,
        "variables": [_variable(v) for v in potential.variables],
        "constant": [name for name, p in potential.named_parameters() if not p.requires_grad],
    }
    tensors = dict(potential.state_dict())
    if isinstance(potential, ConditionalPotential):
        names = {v.name: k for k, v in enumerate(potential.variables)}
        described["conditional"] = describe_conditional(potential.conditional, names)
    elif isinstance(potential, FactorTables):
        described["order"] = [list(pair) for pair in potential.order]
        described["rowwise"] = _rowwise(potential)
        for k, scopes in enumerate(potential.scope_groups):
            tensors[f"@scopes.{k}"] = torch.from_numpy(scopes)
    elif isinstance(potential, PairwisePotential) and potential.lattice is not None:
        described["lattice"] = [encode(potential.lattice.periodic), potential.lattice.diagonals]
    else:
        tensors["@scopes"] = torch.from_numpy(potential.scopes)
    if isinstance(potential, LogLinear):
        described["features"] = [encode(name) for name in potential.feature_names]
    if isinstance(potential, NeuralPotential):
        described["inputs"] = [encode(name) for name in potential.inputs]
        described["arrangement"] = potential.arrangement
    return described, tensors


def make_potential(
    described: Mapping[str, Any], tensors: Mapping[str, Tensor], modules: dict[Hashable, Any]
) -> Potential:
    """Make a potential of its description and its numbers.

    Args:
        described: What :func:`describe_potential` returned.
        tensors: The tensors it returned.
        modules: Networks and potentials from the caller, by the name of the variable or the tuple
            of names (a list of them for several potentials of one scope); what is used is taken
            out.

    Raises:
        DataError: If a module is needed and missing, or does not fit.
    """
    variables = [_read_variable(v) for v in described["variables"]]
    extra = {key: x for key, x in tensors.items() if key.startswith("@")}
    state = {key: x for key, x in tensors.items() if key not in extra}
    kind = described["kind"]
    if kind == "ConditionalPotential":
        own = {key.removeprefix("conditional."): x for key, x in state.items()}
        conditional = make_conditional(described["conditional"], variables, own, modules)
        return ConditionalPotential(conditional)
    if kind == "FactorTables":
        return _factor_tables(described, variables, state, extra)
    potential = (
        _from_caller(described, variables, extra, modules)
        if not described["known"] or kind == "NeuralPotential"
        else _fresh(described, variables, state, extra)
    )
    fill(potential, f"the {kind} over {[v.name for v in variables[:8]]}", state,
         described["constant"])  # fmt: skip
    return potential


def _fresh(
    described: Mapping[str, Any],
    variables: Sequence[Variable],
    state: Mapping[str, Tensor],
    extra: Mapping[str, Tensor],
) -> Potential:
    """A potential of the saved structure; its numbers are filled in later."""
    kind = described["kind"]
    scopes = None if "@scopes" not in extra else extra["@scopes"].numpy()
    if kind == "TabularPotential":
        return TabularPotential(variables, torch.ones_like(state["log_table"]), scopes)
    if kind == "LogLinear":
        made = LogLinear(variables, state["features"], state["weights"], scopes)
        made.feature_names = tuple(decode(name) for name in described["features"])
        return made
    if kind not in ("Ising", "Potts"):
        raise DataError(f"{variables[0].name!r} has a potential of the unknown kind {kind!r}")
    edges: Any = scopes
    if "lattice" in described:
        periodic, diagonals = described["lattice"]
        edges = Lattice(decode(periodic), diagonals)
    coupling = torch.zeros_like(state["coupling"])
    # a field of ones is there, one of zero is left out
    field = torch.ones_like(state["field"]) if "field" in state else 0.0
    made_of = Ising if kind == "Ising" else Potts
    return made_of(variables, coupling, field, edges)


def _factor_tables(
    described: Mapping[str, Any],
    variables: Sequence[Variable],
    state: Mapping[str, Tensor],
    extra: Mapping[str, Tensor],
) -> FactorTables:
    """The factors in their order; their variables need another order than that of appearance."""
    scopes = [extra[f"@scopes.{k}"].tolist() for k in range(len(extra))]
    tables = [state[f"tables.{k}"] for k in range(len(scopes))]
    unbound = [
        table.unbind(int(rowwise))
        for table, rowwise in zip(tables, described["rowwise"], strict=True)
    ]
    made = FactorTables(
        [
            Factor([variables[v] for v in scopes[k][place]], unbound[k][place])
            for k, place in described["order"]
        ]
    )
    for key, parameter in made.named_parameters():
        parameter.requires_grad_(key not in described["constant"])
    return made


def _rowwise(potential: FactorTables) -> list[bool]:
    pairs = zip(potential.tables, potential.scope_groups, strict=True)
    return [table.dim() > 1 + scopes.shape[1] for table, scopes in pairs]


def _from_caller(
    described: Mapping[str, Any],
    variables: Sequence[Variable],
    extra: Mapping[str, Tensor],
    modules: dict[Hashable, Any],
) -> Potential:
    """Use a network of the caller's, or a whole potential where only that will do."""
    kind, known = described["kind"], described["known"]
    names = tuple(v.name for v in variables)
    key: Hashable = names[0] if len(names) == 1 else names
    wanted = "its torch module" if known else f"a {kind} potential"
    if key not in modules:
        raise DataError(
            f"{key!r} has a {kind} potential, whose code is not in the file; pass "
            f"modules={{{key!r}: ...}} with {wanted}"
        )
    module = copy.deepcopy(_taken(modules, key))
    if isinstance(module, Potential):
        if type(module).__name__ != kind or module.variables != tuple(variables):
            raise DataError(
                f"modules[{key!r}]: expected a {kind} over {names} with the saved states, got "
                f"{type(module).__name__}({module!r})"
            )
        return module
    if not known or not isinstance(module, nn.Module):
        raise DataError(f"modules[{key!r}]: expected {wanted}, got {type(module).__name__}")
    inputs = [decode(name) for name in described["inputs"]]
    scopes: Any = extra["@scopes"].numpy()
    how = described["arrangement"]
    return NeuralPotential(
        variables,
        module,
        inputs,
        scopes=scopes if how == "scopes" else None,
        edges=scopes if how == "edges" else None,
    )


def _taken(modules: dict[Hashable, Any], key: Hashable) -> Any:
    """The next module of a scope."""
    held = modules[key]
    if not isinstance(held, list | tuple):
        return modules.pop(key)
    first, *rest = held
    modules.pop(key)
    if rest:
        modules[key] = rest
    return first


def _variable(v: Variable) -> dict[str, Any]:
    return {"name": encode(v.name), "states": encode(v.states), "shape": encode(v.shape)}


def _read_variable(saved: Mapping[str, Any]) -> Variable:
    return Variable(decode(saved["name"]), decode(saved["states"]), decode(saved["shape"]))
