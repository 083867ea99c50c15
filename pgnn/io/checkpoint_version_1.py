"""Conversion of checkpoints of version 1 of the format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pgnn.errors import DataError

_CHAINS = {"HiddenMarkovModel", "HiddenSemiMarkovModel"}


def upgraded(
    old: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the structure and the tensors in version 2 of the format.

    Raises:
        DataError: If the model's class is unknown.
    """
    numbers = {key: x for key, x in tensors.items() if "@" not in key}
    # arrays in settings have separate keys
    numbers |= {_array(*key.split(".@")): x for key, x in tensors.items() if "@" in key}
    names = [v["name"] for v in old["variables"]]
    kind = old["class"]
    if kind == "BayesianNetwork":
        settings = {
            "graph": [[names[a], names[b]] for a, b in old["edges"]],
            "conditionals": _by_name(_conditionals(old["conditionals"], names, 0), names),
        }
    elif kind == "MarkovRandomField":
        return _field(old, numbers, names)
    elif kind in _CHAINS or kind == "DynamicBayesianNetwork":
        settings = _over_time(old, names)
    else:
        raise DataError(f"a model of the unknown class {kind!r}")
    return _whole(kind, settings, old["variables"]), numbers


def _whole(kind: str, settings: dict[str, Any], variables: Any) -> dict[str, Any]:
    model = {"class": kind, "settings": settings, "number": "model", "constant": []}
    return {"version": 2, "model": model, "variables": variables, "history": {"map": []}}


def _conditionals(
    described: list[Any], names: list[Any], first: int, *, initial: bool = False
) -> list[dict[str, Any]]:
    return [
        _conditional(one, names, str(first + k), initial=initial) for k, one in enumerate(described)
    ]


def _conditional(
    old: Mapping[str, Any], names: list[Any], number: str, *, initial: bool = False
) -> dict[str, Any]:
    child, parents = {"variable": old["child"]}, [{"variable": k} for k in old["parents"]]
    kind, known = old["kind"], old["known"]
    settings: dict[str, Any] = {"child": child, "parents": parents}
    extra = dict(old.get("settings") or {})
    if "form" in extra:
        form = {"class": extra.pop("form"), "settings": {"min_variance": extra.pop("min_variance")}}
        settings["form"] = {"object": form}
    settings |= extra
    if kind == "Softmax" and known:
        settings["inputs"] = {"map": old["inputs"]}
    if kind == "Neural" and known:
        head = dict(old["head"])
        held = {"object": {"class": head.pop("kind"), "settings": head}}
        settings |= {
            "module": {"module": "Module"},
            "inputs": old["inputs"],
            "head": None if held["object"]["class"] == "none" else held,
            "features": {"object": {"class": old["features"], "settings": {}}},
        }
    name = names[old["child"]]
    return {
        "class": kind,
        "settings": settings,
        "number": number,
        "constant": old["constant"],
        "piece": "conditional",
        "key": [name, "initial"] if initial else name,
        "scope": [*parents, child],
        "whole": not known,
    }


def _by_name(conditionals: list[dict[str, Any]], names: list[Any]) -> dict[str, Any]:
    children = [names[c["settings"]["child"]["variable"]] for c in conditionals]
    pairs = zip(children, conditionals, strict=True)
    return {"map": [[name, {"object": c}] for name, c in pairs]}


def _over_time(old: Mapping[str, Any], names: list[Any]) -> dict[str, Any]:
    size, begun = len(old["conditionals"]), len(old["initial"])
    slices = _conditionals(old["conditionals"], names, 0)
    first = _conditionals(old["initial"], names, size, initial=True)
    lasting = _conditionals(old.get("durations", []), names, size + begun, initial=True)
    if "state" not in old:
        edges = [
            [names[v["variable"]], names[c["settings"]["child"]["variable"]]]
            for c in slices
            for v in c["settings"]["parents"]
        ]
        by_name = {"conditionals": _by_name(slices, names), "initial": _by_name(first, names)}
        return {"graph": edges, **by_name}
    state = old["state"]
    is_state = [c["settings"]["child"]["variable"] == state for c in slices]
    emissions = [c for c, transition in zip(slices, is_state, strict=True) if not transition]
    settings = {
        "states": old["variables"][state]["states"],
        "emissions": _by_name(emissions, names),
        "initial": {"object": first[0]},
        "transitions": {"object": slices[is_state.index(True)]},
        "name": names[state],
    }
    return settings | ({"durations": {"object": lasting[0]}} if lasting else {})


def _field(
    old: Mapping[str, Any], numbers: dict[str, Tensor], names: list[Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A Markov random field, whose potentials list their variables."""
    variables, potentials = list(old["variables"]), []
    for k, one in enumerate(old["potentials"]):
        first = len(variables)
        variables += one["variables"]
        scope = [{"variable": first + j} for j in range(len(one["variables"]))]
        potentials.append({"object": _potential(one, scope, k, numbers)})
    settings = {
        "graph": [[names[a], names[b]] for a, b in old["edges"]],
        "potentials": potentials,
        "states": {"map": [[name, {"variable": k}] for k, name in enumerate(names)]},
    }
    return _whole("MarkovRandomField", settings, variables), numbers


def _potential(
    old: Mapping[str, Any], scope: list[Any], k: int, numbers: dict[str, Tensor]
) -> dict[str, Any]:
    kind, names = old["kind"], [v["name"] for v in old["variables"]]
    settings: dict[str, Any] = {"variables": scope}
    arrays = {key: {"array": key} for key in numbers if key.startswith(f"@{k}.")}
    if kind == "ConditionalPotential":
        number = f"{k}.conditional"
        prefix = number + "."
        for key in [key for key in numbers if key.startswith(prefix)]:
            numbers[f"{k}c.{key.removeprefix(prefix)}"] = numbers.pop(key)
        inner = dict(old["conditional"])
        shift = scope[0]["variable"]
        inner |= {"child": inner["child"] + shift}
        inner |= {"parents": [parent + shift for parent in inner["parents"]]}
        names_of_all = [None] * shift + names
        settings = {"conditional": {"object": _conditional(inner, names_of_all, f"{k}c")}}
    elif kind == "FactorTables":
        scopes = [arrays[_array(str(k), f"scopes.{j}")] for j in range(len(arrays))]
        settings |= {"scopes": scopes, "order": old["order"], "rowwise": old["rowwise"]}
    elif "lattice" in old:
        periodic, diagonals = old["lattice"]
        lattice = {"periodic": periodic, "diagonals": diagonals}
        settings["edges"] = {"object": {"class": "Lattice", "settings": lattice}}
    elif kind in ("Ising", "Potts"):
        settings["edges"] = arrays[_array(str(k), "scopes")]
    elif kind == "NeuralPotential":
        settings |= {"network": {"module": "Module"}, "inputs": old["inputs"]}
        if old["arrangement"]:
            settings[old["arrangement"]] = arrays[_array(str(k), "scopes")]
    else:
        settings["scopes"] = arrays.get(_array(str(k), "scopes"))
    if kind == "LogLinear":
        settings["feature_names"] = old["features"]
    return {
        "class": kind,
        "settings": settings,
        "number": str(k),
        "constant": [] if kind == "ConditionalPotential" else old["constant"],
        "piece": "potential",
        "key": names[0] if len(names) == 1 else names,
        "scope": scope,
        "whole": not old["known"],
    }


def _array(number: str, name: str) -> str:
    return f"@{number}.{name}"
