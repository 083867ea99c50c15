"""Names of the classes of distributions of torch and Pyro, as files have them."""

from __future__ import annotations

import torch
from torch.distributions import Distribution

_PYRO = "pyro:"
_COMPILES = ("SpanningTree",)
"""Classes of Pyro that may run a C++ compiler, which a file must not do."""


def name_of_distribution(kind: object) -> str | None:
    """Return the name of a class of ``torch.distributions`` or ``pyro.distributions``.

    Args:
        kind: Anything.

    Returns:
        A name for :func:`named_distribution`; None for what is no such class.

    Example:
        >>> name_of_distribution(torch.distributions.Gamma), name_of_distribution(3)
        ('Gamma', None)
    """
    if not isinstance(kind, type):
        return None
    name = kind.__name__
    if vars(torch.distributions).get(name) is kind:
        return name
    is_pyro = kind.__module__.split(".")[0] == "pyro"
    return _PYRO + name if is_pyro and _of_pyro(name) is kind else None


def named_distribution(name: object) -> type[Distribution] | None:
    """Return the class of distributions with a name; None if there is none.

    Only public classes are found, which compute and do nothing else; no code runs but the import
    of Pyro.

    Example:
        >>> named_distribution("pyro:Logistic").__name__
        'Logistic'
        >>> named_distribution("pyro:sys"), named_distribution("kl_divergence")
        (None, None)
    """
    if not isinstance(name, str):
        return None
    if name.startswith(_PYRO):
        return _of_pyro(name.removeprefix(_PYRO))
    return _class_in(vars(torch.distributions), name)


def _of_pyro(name: str) -> type[Distribution] | None:
    import pyro.distributions

    kind = _class_in(vars(pyro.distributions), name)
    return None if name in _COMPILES else kind


def _class_in(names: dict[str, object], name: str) -> type[Distribution] | None:
    kind = names.get(name)
    return kind if isinstance(kind, type) and issubclass(kind, Distribution) else None
