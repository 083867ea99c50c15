"""Which values real variables can have: read from conditionals, or from a program's sites."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.conditional import Conditional
from pgnn.factors.variable import Variable
from pgnn.inference.continuous.transforms import Reals, Support


def conditional_supports(
    conditionals: Mapping[Hashable, Conditional],
    latent: Sequence[Variable],
    seen: Mapping[Hashable, Tensor],
    inputs: Mapping[Hashable, Tensor] | None = None,
) -> dict[Hashable, Support]:
    """Return the support of each latent variable, given the values of those before it.

    Args:
        conditionals: Of the model.
        latent: Real variables.
        seen: ``(1, ...)`` values of the observed variables, state indices of discrete ones.
        inputs: Covariates, ``(1, ...)``.

    Raises:
        Unsupported: If a support depends on the state of a latent discrete variable.
    """
    names = {v.name for v in latent}
    found: dict[Hashable, Support] = {}
    for v in latent:
        conditional = conditionals[v.name]
        reader = _Reader(conditional, seen, inputs)
        if names.isdisjoint(p.name for p in conditional.parents):
            reader.check_states()
            found[v.name] = _constant(reader({}))
        else:
            found[v.name] = reader
    return found


class _Reader:
    """Reads the support off the distribution at the parents' values."""

    def __init__(
        self,
        conditional: Conditional,
        seen: Mapping[Hashable, Tensor],
        inputs: Mapping[Hashable, Tensor] | None,
    ) -> None:
        self.conditional, self.seen, self.inputs = conditional, seen, inputs

    def __call__(self, reals: Reals) -> Any:
        """The support; discrete parents that were not seen are in their first state."""
        return self._distribution(reals, {}).support

    def check_states(self) -> None:
        """Raise if another state of a discrete parent allows other values."""
        c = self.conditional
        free = [p for p in c.parents if p.is_discrete and p.name not in self.seen]
        if not free:
            return
        support: Any = self({})
        for p in free:
            for state in range(1, p.num_states):
                if not _same(support, self._distribution({}, {p.name: state}).support):
                    raise Unsupported(
                        f"which values {c.child.name!r} can have depends on the state of "
                        f"{p.name!r}, which was not observed, so it has no coordinates"
                    )

    def _distribution(self, reals: Reals, states: Mapping[Hashable, int]) -> Any:
        values = {}
        rows = next((len(x) for x in reals.values()), 1)
        for p in self.conditional.parents:
            if p.name in reals:
                values[p.name] = reals[p.name]
            elif p.name in self.seen:
                values[p.name] = self.seen[p.name].expand(rows, *p.shape)
            else:
                values[p.name] = torch.full((rows, *p.shape), states.get(p.name, 0))
        inputs = {n: x.expand(rows, *x.shape[1:]) for n, x in (self.inputs or {}).items()}
        return self.conditional.distribution(values, inputs or None)


def program_supports(
    program: Callable[[], Any], latent: Sequence[Variable]
) -> dict[Hashable, Support]:
    """Return the support of each latent site of a Pyro program, from two of its executions.

    Raises:
        Unsupported: If a support differs between them.
    """
    from pgnn.inference.continuous.mcmc import sites_of

    first, second = sites_of(program, 0), sites_of(program, 1)
    found: dict[Hashable, Support] = {}
    for v in latent:
        supports = [sites[str(v.name)]["fn"].support for sites in (first, second)]
        if not _same(*supports):
            raise Unsupported(
                f"the support of site {v.name!r} depends on latent sites; declare it as a graph"
            )
        found[v.name] = _constant(supports[0])
    return found


def _same(a: Any, b: Any) -> bool:
    """Whether two constraints are the same, bounds included."""
    if type(a) is not type(b):
        return False
    if a is None:
        return True
    for name, x in vars(a).items():
        y = vars(b)[name]
        if isinstance(x, Tensor):
            if x.shape != y.shape or not bool((x == y).all()):
                return False
        elif hasattr(x, "check"):
            if not _same(x, y):
                return False
        elif x != y:
            return False
    return True


def _constant(support: Any) -> Support:
    return lambda reals: support
