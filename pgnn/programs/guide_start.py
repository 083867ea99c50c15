"""Initial values of the parameters of a guide, drawn anew for another seed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pgnn.programs.guide import drawn_sites, set_up
from pgnn.programs.parameters import ProgramParameters

Bind = Callable[[Callable[..., Any]], Callable[[], Any]]
"""Binds the arguments of a program to a guide."""


class GuideStart:
    """The parameters that a guide creates when it is executed for the first time.

    Pyro's automatic guides create theirs then, at values from draws of the program, and
    ``pyro.param`` statements may draw initial values.

    Args:
        guide: The guide, before its first execution.
        parameters: Parameters of the program and of statements of the guide.
    """

    def __init__(self, guide: Callable[..., Any], parameters: ProgramParameters) -> None:
        self._guide, self._parameters = guide, parameters
        self._before = {*_parameters_of(guide, parameters)}
        self._blank = _copied(guide)
        self._created: dict[str, Tensor] = {}

    def record(self) -> None:
        """Record the parameters that were created by the first execution."""
        now = _parameters_of(self._guide, self._parameters)
        known = self._parameters.known_names
        new = {n: x for n, x in now.items() if n not in self._before and n not in known}
        self._created = {n: x.detach().clone() for n, x in new.items()}

    def redraw(self, bind: Bind, seed: int) -> None:
        """Draw the initial values for a seed, unless the parameters have been changed since.

        Args:
            bind: Binds the arguments of the program.
            seed: Random seed of the draws. Global random state is not changed.
        """
        now = _parameters_of(self._guide, self._parameters)
        if not self._created or any(not torch.equal(now[n], x) for n, x in self._created.items()):
            return
        guide = _copied(self._blank)
        statements = self._parameters.without({*self._created})
        if isinstance(guide, torch.nn.Module):
            set_up(bind(guide), seed)
        drawn_sites(bind(guide), statements, seed)
        drawn = _parameters_of(guide, statements)
        with torch.no_grad():
            for name in self._created:
                now[name].copy_(drawn[name])


def _copied(guide: Any) -> Any:
    """Return a module that can be executed for the first time without changing the other one.

    Parameters and other values are shared. A deep copy takes the program from Pyro's guides.
    """
    if not isinstance(guide, torch.nn.Module):
        return guide
    twin: Any = object.__new__(type(guide))
    containers = (dict, list, set)
    twin.__dict__ = {
        n: copy.copy(x) if isinstance(x, containers) else x for n, x in vars(guide).items()
    }
    twin.__dict__["_modules"] = {n: _copied(x) for n, x in guide.named_children()}
    return twin


def _parameters_of(guide: Any, statements: ProgramParameters) -> dict[str, Tensor]:
    """Return the unconstrained parameters of a guide by name, and those of statements."""
    own = guide.named_parameters(prefix=".") if isinstance(guide, torch.nn.Module) else ()
    return dict(own) | statements.by_statement()
