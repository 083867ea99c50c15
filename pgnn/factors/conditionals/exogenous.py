"""Exogenous variables, whose distribution is not modelled."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from pgnn.errors import Advice, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.factor import Factor


class Exogenous(Conditional):
    """A variable that must be observed, and whose distribution is not modelled.

    For example the first value of an autoregressive sequence, on which the model conditions.

    Example:
        >>> from pgnn.factors.variable import Variable
        >>> first = Exogenous(Variable("x"))
        >>> first.factor({"x": torch.tensor([0.3, 2.0])}).log_values
        tensor([0., 0.], dtype=torch.float64)
    """

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Not supported: there is none.

        Raises:
            Unsupported: Always.
        """
        name = self.child.name
        advice = Advice(f"observe it, as in {{{name!r}: ...}}", "evidence", (name,))
        raise Unsupported(f"{name!r} has no distribution", advice)

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return a table of zeros.

        Raises:
            Unsupported: If a real child is not observed.
        """
        known = self._observed_part(observed)
        free = self._unobserved(known)
        rows = [len(x) for x in known.values()]
        shape = [*rows, *(v.num_states for v in free)]
        return Factor(free, torch.zeros(shape, dtype=torch.float64))
