"""The parameters of a program by name, in a module instead of Pyro's global store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints, transform_to

_EMPTY: Mapping[str, Any] = {"params": {}, "constraints": {}}


class ProgramParameters(nn.Module):
    """Values of ``pyro.param`` statements, initialised by the first statement of each name.

    Values are stored unconstrained, for optimizers. The initial value is taken from Pyro's global
    store if it contains the name; the store is never changed.

    Attributes:
        known_names: Names whose initial values are those of Pyro's global store.
    """

    def __init__(self) -> None:
        super().__init__()
        self._constraints: dict[str, Any] = {}
        self._start: Mapping[str, Any] = _EMPTY
        self.known_names: frozenset[str] = frozenset()

    def value(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
        """Return the value of a parameter; a new one is initialised by its statement.

        Args:
            name: Name of the parameter.
            args: Its name and, if given, its initial value or a function that returns it.
            kwargs: Its ``constraint``.
        """
        if name not in self._constraints and not self._make(name, args, kwargs):
            return None
        raw = self._parameters[_key(name)]
        constraint = self._constraints[name]
        if _is_real(constraint) or raw is None:
            return raw
        value: Tensor = transform_to(constraint)(raw)
        return value

    def by_name(self) -> dict[str, Tensor]:
        """Return the constrained values of all parameters."""
        values = {name: self.value(name, (), {}) for name in self._constraints}
        return {name: value for name, value in values.items() if value is not None}

    def by_statement(self) -> dict[str, Tensor]:
        """Return the unconstrained parameters by the names of their statements."""
        raw = {name: self._parameters[_key(name)] for name in self._constraints}
        return {name: x for name, x in raw.items() if x is not None}

    def without(self, names: Collection[str]) -> ProgramParameters:
        """Return the other parameters, which are shared."""
        others = ProgramParameters()
        for name in self._constraints:
            if name not in names:
                others._constraints[name] = self._constraints[name]
                others.register_parameter(_key(name), self._parameters[_key(name)])
        return others

    def start_from(self, store: Any) -> None:
        """Initialise new parameters from Pyro's global store."""
        self._start = store.get_state()

    def forget_start(self) -> None:
        """Release the reference to Pyro's global store."""
        self._start = _EMPTY

    def _make(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        constraint = kwargs.get("constraint", constraints.real)
        known = self._start["params"].get(name)
        if known is not None:
            constraint = self._start["constraints"].get(name, constraint)
            self._constraints[name] = constraint
            self.register_parameter(_key(name), nn.Parameter(known.detach().clone()))
            self.known_names |= {name}
            return True
        if len(args) < 2:
            return False
        start = args[1]
        if isinstance(start, nn.Parameter) and _is_real(constraint):
            self._constraints[name] = constraint
            self.register_parameter(_key(name), start)  # belongs to a module
            return True
        start = start() if callable(start) and not isinstance(start, Tensor) else start
        with torch.no_grad():
            raw = transform_to(constraint).inv(start.detach()).clone()
        self._constraints[name] = constraint
        self.register_parameter(_key(name), nn.Parameter(raw))
        return True


def _is_real(constraint: Any) -> bool:
    return type(constraint) is type(constraints.real)  # copies are different objects


def _key(name: str) -> str:
    """Return a name that torch allows for a parameter."""
    return "of_" + name.replace("_", "__").replace(".", "_dot_").replace("$", "_dollar_")


def module_params(modules: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Return the constrained values of the ``PyroParam`` attributes of Pyro's modules, by name.

    Names are those of Pyro's store, such as ``"AutoNormal.locs.x"``.
    """
    from pyro.nn import PyroModule

    values: dict[str, Tensor] = {}
    parts = [x for m in modules for x in m.modules() if isinstance(x, PyroModule)]
    for part in parts:
        for attribute in part._pyro_params:
            values[part._pyro_get_fullname(attribute)] = getattr(part, attribute)
    return values


def modules_of(parts: Iterable[Any]) -> tuple[list[nn.Module], list[nn.Parameter]]:
    """Return the modules and parameters referenced by callables and arguments.

    A function references those in its closure and its globals, a method those of its object.
    """
    modules: dict[int, nn.Module] = {}
    parameters: dict[int, nn.Parameter] = {}
    for part in _unfolded(parts):
        if isinstance(part, nn.Module):
            modules[id(part)] = part
        elif isinstance(part, nn.Parameter):
            parameters[id(part)] = part
    return [*modules.values()], [*parameters.values()]


def _unfolded(parts: Iterable[Any], depth: int = 4) -> Iterable[Any]:
    for part in parts:
        if isinstance(part, nn.Module | Tensor):
            yield part
        elif depth and isinstance(part, Mapping):
            yield from _unfolded(part.values(), depth - 1)
        elif depth and isinstance(part, list | tuple):
            yield from _unfolded(part, depth - 1)
        elif depth and isinstance(part, functools.partial):
            yield from _unfolded([part.func, *part.args, *part.keywords.values()], depth - 1)
        elif depth and callable(part):
            yield from _unfolded(_enclosed(part), depth - 1)


def _enclosed(function: Callable[..., Any]) -> list[Any]:
    """Return the objects in the closure and the globals of a function or method."""
    enclosed: list[Any] = [getattr(function, "__self__", None)]
    wrapped = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
    enclosed.append(wrapped)
    inner = getattr(function, "__func__", function)
    code = getattr(inner, "__code__", None)
    if code is None:
        return enclosed
    for cell in inner.__closure__ or ():
        try:
            enclosed.append(cell.cell_contents)
        except ValueError:  # not bound yet
            continue
    spaces = inner.__globals__
    outside = [spaces[n] for n in code.co_names if n in spaces]
    enclosed += [x for x in outside if isinstance(x, nn.Module | nn.Parameter)]
    return enclosed
