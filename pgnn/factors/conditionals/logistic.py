"""Logistic regression of a binary child on parents of any kind and on inputs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.factors.conditionals.log_odds import LogOdds
from pgnn.factors.conditionals.softmax import Softmax
from pgnn.factors.conditionals.table_reader import numbers_or_zeros
from pgnn.factors.variable import Variable


class Logistic(LogOdds, Softmax):
    r"""Logistic regression :math:`p(y = 1 \mid x, u) = \sigma(b + w^\top f)` of a binary child.

    The features :math:`f` are those of :class:`Softmax`, which has a column of weights for each
    state; this class has one, the log odds of the second state against the first.

    Args:
        child: Variable with two states.
        parents: Discrete variables, and real ones of known shape (they must be observed).
        weight: ``(F,)`` log odds for each feature; learnable zeros by default.
        bias: Log odds where all features are 0; a learnable zero by default.
        inputs: Covariates, mapping names to number of values or shape.

    Raises:
        ModelError: If the child does not have two states, or a shape or number is wrong.

    References:
        Berkson (1944), Application of the logistic function to bio-assay.

    Example:
        >>> import torch
        >>> dose, dead = Variable("dose"), Variable("dead", ["no", "yes"])
        >>> p_dead = Logistic(dead, [dose], weight=[2.0], bias=-1.0)
        >>> p_dead.distribution({"dose": torch.tensor([0.5, 1.0])}).probs[:, 1]
        tensor([0.5000, 0.7311], dtype=torch.float64)
    """

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        weight: Any = None,
        bias: Any = None,
        inputs: Mapping[Hashable, int | Sequence[int]] | None = None,
    ) -> None:
        super().__init__(child, parents, None, None, inputs)
        if child.num_states != 2:
            raise ModelError(
                f"Logistic conditional of {child.name!r} needs a child with 2 states, got "
                f"{child.num_states}",
                "use Softmax",
            )
        self.weight: nn.Parameter = numbers_or_zeros(
            f"weight of {child.name!r}", weight, (sum(self._sizes),)
        )
        self.bias: nn.Parameter = numbers_or_zeros(f"bias of {child.name!r}", bias, ())

    @property
    def num_free_parameters(self) -> int:
        """Number of features plus one for the bias."""
        return sum(self._sizes) + 1

    def _score_covariance(self, p: Tensor, k: int, j: int) -> Tensor:
        return p[:, 0] * p[:, 1]
