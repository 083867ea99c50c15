"""Leaky noisy-or and noisy-and gates."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.additive import require_binary
from pgnn.factors.conditionals.checks import require_table
from pgnn.factors.conditionals.noisy_max import NoisyMax, NoisyMin
from pgnn.factors.conditionals.table_reader import read_numbers, read_table
from pgnn.factors.variable import Variable

_TABLE_TOLERANCE = 1e-9


class NoisyOr(NoisyMax):
    r"""Leaky noisy-or: :math:`p(y = 0 \mid x) = (1 - \lambda_0) \prod_i (1 - \lambda_i)^{x_i}`.

    Each present parent causes the child on its own with probability :math:`\lambda_i`, and
    an unmodelled cause does with :math:`\lambda_0`. The table has full relative precision down to
    the smallest strengths, and gradients are finite at strengths of 0 and 1.

    Args:
        child: Variable with two states; the second is "present".
        parents: Variables with two states.
        strengths: ``(n,)`` probabilities :math:`\lambda_i` that the parent alone, without leak,
            causes the child; or a mapping by name. Learnable and initially one half by default.
        leak: Probability :math:`\lambda_0` with all parents absent; ``None`` for a learnable one.

    Raises:
        ModelError: If a variable is not binary (``NoisyMax`` takes more states), or a strength is
            no probability.

    Example:
        >>> flu, cold, fever = (Variable(name, 2) for name in ("flu", "cold", "fever"))
        >>> p_fever = NoisyOr(fever, [flu, cold], strengths=[0.8, 0.5], leak=0.1)
        >>> p_fever.factor().values[1, 1]
        tensor([0.0900, 0.9100], dtype=torch.float64)

    References:
        Pearl (1988), Probabilistic Reasoning in Intelligent Systems, section 4.3.2.
        Henrion (1987), Practical issues in constructing a Bayes' belief network (leak).
    """

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable],
        strengths: Sequence[float] | Mapping[Hashable, float] | Tensor | None = None,
        leak: float | None = 0.0,
    ) -> None:
        require_table(child, parents, "NoisyOr")
        require_binary([*parents, child], child, "NoisyOr", "NoisyMax or Tabular")
        rows = None if strengths is None else _strength_rows(child, parents, strengths)
        super().__init__(child, parents, rows, None if leak is None else _pair(child, "leak", leak))

    @classmethod
    def from_table(cls, child: Variable, parents: Sequence[Variable], table: Any) -> Self:
        """Return the noisy-or with a given table.

        Args:
            child: Variable with two states; the second is "present".
            parents: Variables with two states.
            table: Probabilities ``(2, ..., 2)``, the child's states on the last axis, or another
                form that :class:`Tabular` accepts.

        Raises:
            ModelError: If no noisy-or matches this table within ``1e-9``.

        Example:
            >>> flu, cold, fever = (Variable(name, 2) for name in ("flu", "cold", "fever"))
            >>> table = [[[0.9, 0.1], [0.45, 0.55]], [[0.18, 0.82], [0.09, 0.91]]]
            >>> NoisyOr.from_table(fever, [flu, cold], table).strengths
            tensor([0.8000, 0.5000], dtype=torch.float64)
        """
        require_table(child, parents, "NoisyOr")
        require_binary([*parents, child], child, "NoisyOr", "NoisyMax or Tabular")
        absent = read_table(child, parents, table)[..., 0]
        number = len(parents)
        nobody = float(absent[(0,) * number])
        alone = [float(absent[tuple(row)]) for row in np.eye(number, dtype=int).tolist()]
        strengths = [1.0 - p / nobody if 0.0 < p <= nobody else float(p < nobody) for p in alone]
        gate = cls(child, parents, strengths, leak=1.0 - nobody)
        error = float(np.abs(gate.factor().values.numpy()[..., 0] - absent).max())
        if error > _TABLE_TOLERANCE:
            raise ModelError(
                f"the table of {child.name!r} is no noisy-or: the one that matches it for at most "
                f"one present parent deviates by up to {error:.3g}",
                "use Tabular",
            )
        return gate

    @property
    def strengths(self) -> Tensor:
        """Probabilities ``(n,)`` that each parent alone causes the child, differentiable."""
        rows = [self.leak_logits[:0], *(logits.softmax(-1)[:, 1] for logits in self.effects)]
        return torch.cat(rows)

    @property
    def leak(self) -> Tensor:
        """Probability ``()`` of the child with all parents absent; differentiable."""
        return self.leak_logits.softmax(-1)[1]


class NoisyAnd(NoisyMin):
    r"""Leaky noisy-and: :math:`p(y=1 \mid x) = (1 - \lambda_0) \prod_i (1 - \lambda_i)^{1-x_i}`.

    Each absent parent prevents the child on its own with probability :math:`\lambda_i`, and
    an unmodelled cause does with :math:`\lambda_0`; strengths of one yield the logical "and".

    Args:
        child: Variable with two states; the second is "present".
        parents: Variables with two states.
        strengths: ``(n,)`` probabilities :math:`\lambda_i` that the absence of the parent alone
            prevents the child; or a mapping by name. Learnable and initially one half by default.
        leak: Probability :math:`\lambda_0` that the child is prevented though all parents are
            present; ``None`` for a learnable one.

    Raises:
        ModelError: If a variable is not binary (``NoisyMin`` takes more states), or a strength is
            no probability.

    Example:
        >>> key, fuel, start = (Variable(name, 2) for name in ("key", "fuel", "start"))
        >>> p_start = NoisyAnd(start, [key, fuel], strengths=[1.0, 0.9], leak=0.02)
        >>> p_start.factor().values[1]
        tensor([[0.9020, 0.0980],
                [0.0200, 0.9800]], dtype=torch.float64)

    References:
        Díez and Druzdzel (2006), Canonical probabilistic models for knowledge engineering,
        section 4.
    """

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable],
        strengths: Sequence[float] | Mapping[Hashable, float] | Tensor | None = None,
        leak: float | None = 0.0,
    ) -> None:
        require_table(child, parents, "NoisyAnd")
        require_binary([*parents, child], child, "NoisyAnd", "NoisyMin or Tabular")
        rows = None if strengths is None else _strength_rows(child, parents, strengths, 0)
        leak_row = None if leak is None else _pair(child, "leak", leak, 0)
        super().__init__(child, parents, rows, leak_row)

    @property
    def strengths(self) -> Tensor:
        """Probabilities ``(n,)`` that each absence alone prevents the child, differentiable."""
        rows = [logits.softmax(-1)[:, 0] for logits in self.effects]
        return torch.cat(rows) if rows else self.leak_logits[:0]

    @property
    def leak(self) -> Tensor:
        """Probability ``()`` that the child is prevented though all parents are present."""
        return self.leak_logits.softmax(-1)[0]


def _strength_rows(
    child: Variable,
    parents: Sequence[Variable],
    strengths: Sequence[float] | Mapping[Hashable, float] | Tensor,
    effect: int = 1,
) -> Any:
    """Return effects ``[[1 - p, p]]`` for each parent, by position or by name."""
    if isinstance(strengths, Mapping):
        return {k: [_pair(child, f"strength of {k!r}", p, effect)] for k, p in strengths.items()}
    names = [v.name for v in parents]
    flat = read_numbers(f"strengths of {child.name!r}", strengths)
    if flat.shape != (len(names),):
        raise ModelError(
            f"strengths of {child.name!r} must be one probability for each of its {len(names)} "
            f"parents {names}, got shape {flat.shape}"
        )
    pairs = zip(names, flat.tolist(), strict=True)
    return [[_pair(child, f"strength of {name!r}", p, effect)] for name, p in pairs]


def _pair(child: Variable, what: str, probability: float, effect: int = 1) -> list[float]:
    """Return the binary distribution with a given probability of one state."""
    is_number = isinstance(probability, Real | Tensor | np.generic) and np.ndim(probability) == 0
    if not is_number or not 0.0 <= probability <= 1.0:
        raise ModelError(
            f"{what} in the noisy gate of {child.name!r} must be a probability between 0 and 1, "
            f"got {probability!r}{'; None is for one that is learned' if what == 'leak' else ''}"
        )
    pair = [1.0 - probability, float(probability)]
    return pair if effect else pair[::-1]
