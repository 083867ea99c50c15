"""Variables that come from outside: a model takes their values as they are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from pgnn.errors import Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.factor import Factor


class Exogenous(Conditional):
    """A variable that is to be observed, and of whose distribution nothing is said.

    The first value of an autoregressive sequence is one: the model describes the rest given it.

    Example:
        >>> from pgnn.factors.variable import Variable
        >>> first = Exogenous(Variable("x"))
        >>> first.factor({"x": torch.tensor([0.3, 2.0])}).log_values
        tensor([0., 0.], dtype=torch.float64)
    """

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Refused: there is none.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(f"{self.child.name!r} has no distribution of its own: observe it")

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return nothing but zeros; every state of a discrete child counts one if not observed.

        Raises:
            Unsupported: If a real child is not observed.
        """
        known = self._observed_part(observed)
        free = self._unobserved(known)
        rows = [len(x) for x in known.values()]
        shape = [*rows, *(v.num_states for v in free)]
        return Factor(free, torch.zeros(shape, dtype=torch.float64))
