"""Conditionals of a chain of hidden states, from their declarations."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.cells import dense
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.time_steps import lagged
from pgnn.factors.variable import Variable
from pgnn.models.declared_conditional import declared_conditional
from pgnn.models.scores.label_pairs import read_mask


class ChainDeclaration(NamedTuple):
    """Creates the conditionals of a chain from declarations.

    Attributes:
        normalise: Whether rows of tables are weights.
    """

    normalise: bool = False

    def emission(
        self, name: Hashable, state: Variable, value: Any, shape: tuple[int, ...]
    ) -> Conditional:
        """Return the conditional of one observed variable."""
        if isinstance(value, Conditional):
            if value.child.name != name:
                raise ModelError(f"the emission of {name!r} is one for {value.child.name!r}")
            return value
        if callable(value):
            child = Variable(name, None, shape)
            return self.conditional(child, [state], value, f"emission of {name!r}")
        if isinstance(value, int) or _are_labels(value):
            return Tabular(Variable(name, value), [state])
        table = (
            dense(value.detach()).numpy(force=True)
            if isinstance(value, Tensor)
            else np.asarray(value)
        )
        if table.ndim != 2 or table.dtype.kind not in "fiu":
            raise ModelError(
                f"the emission of {name!r} must be a conditional, a callable that returns one, "
                f"a table ({state.num_states}, S), or the symbols; got {value!r}"
            )
        child = Variable(name, table.shape[1])
        return Tabular(child, [state], value, normalise=self.normalise)

    def conditional(
        self,
        child: Variable,
        parents: list[Variable],
        value: Conditional | Callable[..., Conditional] | Any,
        what: str,
    ) -> Conditional:
        """Return the conditional of a variable; tables are learnable unless given."""
        if isinstance(value, Conditional):
            if value.child != child:
                raise ModelError(
                    f"the {what} must be a conditional of {child}, got one of {value.child}"
                )
            return value
        if callable(value):
            conditional = declared_conditional(value, child, parents)
            if not isinstance(conditional, Conditional) or conditional.child != child:
                raise ModelError(
                    f"the {what}: the callable must return a Conditional of {child.name!r}"
                )
            return conditional
        return Tabular(child, parents, value, normalise=self.normalise)


def _are_labels(declared: Any) -> bool:
    if isinstance(declared, np.ndarray | Tensor):
        return False
    listed = isinstance(declared, Iterable) and not isinstance(declared, str)
    return listed and all(isinstance(s, str) for s in declared)


def masked(state: Variable, transitions: Any, mask: Any) -> Any:
    """Return transitions, or a learnable table with structural zeros.

    Args:
        state: The state of the chain.
        transitions: The declaration.
        mask: ``(K, K)`` allowed transitions, or None.

    Raises:
        ModelError: If both are given, or a state has no allowed transition.
    """
    if mask is None:
        return transitions
    if transitions is not None:
        raise ModelError("mask= is for a learnable table: a given table already has its zeros")
    k = state.num_states
    allowed = read_mask(mask, state)
    if not bool(allowed.any(dim=1).all()):
        raise ModelError(f"mask must be ({k}, {k}) with a transition out of every state")
    share = allowed.double()
    table = Tabular(state, [lagged(state)], share / share.sum(dim=1, keepdim=True))
    table.logits.requires_grad_()
    return table
