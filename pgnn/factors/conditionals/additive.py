"""What logistic and noisy-or conditionals share: every parent adds a term to a score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional, check_rows
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.factor import Factor
from pgnn.factors.piece import learnable_zeros
from pgnn.factors.variable import Variable


class Additive(Conditional):
    r"""A conditional of a discrete child that depends on its parents through a sum of terms.

    .. math:: p(y \mid x) = g\Big(h_0 + \sum_i h_i(x_i)\Big)_y

    The table over the unobserved parents is an outer sum of their terms, and observed parents
    only shift it: a conditional with very many parents is as cheap as its unobserved ones.
    """

    @abstractmethod
    def _offset(self) -> Tensor:
        """Score without any parent, ``(C,)``."""

    @abstractmethod
    def _terms(self) -> Sequence[Tensor]:
        """One array for each parent, then for each input.

        A discrete parent has the scores ``(K_i, C)`` of its states, a real one and an input the
        weights ``(D_i, C)`` of their flattened values.
        """

    @abstractmethod
    def _log_probs(self, score: Tensor) -> Tensor:
        """Log probabilities ``(..., K_child)`` from scores ``(..., C)``."""

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Categorical:
        """Return the child's distribution given its parents; see the base class."""
        values = {**self._values(parents), **self._covariates(inputs)}
        score = self._offset()
        for name, term in zip(self._term_names(), self._terms(), strict=True):
            score = score + self._shift(name, term, values[name])
        return Categorical(logits=self._log_probs(score))

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return the log table over the unobserved scope; see the base class.

        Cost:
            ``O(B C)`` for each observed and ``O(B C prod K)`` for all unobserved parents.
        """
        seen = self._seen(observed)
        free = self._unobserved(seen)
        covariates = self._covariates(inputs)
        check_rows(self.child, seen, covariates)
        grid = [v for v in free if v != self.child]
        log_probs = self._log_probs(self._grid_score(grid, {**seen, **covariates}))
        table = Factor([*grid, self.child], log_probs)
        name = self.child.name
        return table.condition({name: seen[name]}) if name in seen else table

    def _grid_score(self, grid: Sequence[Variable], values: Mapping[Hashable, Tensor]) -> Tensor:
        """Scores ``(*batch, K_grid..., C)`` by broadcasting, the observed part first."""
        names = [v.name for v in grid]
        terms = dict(zip(self._term_names(), self._terms(), strict=True))
        score = self._offset()
        for name, term in terms.items():
            if name in values:
                score = score + self._shift(name, term, values[name])
        score = score.reshape([*score.shape[:-1], *(1 for _ in grid), score.shape[-1]])
        for axis, name in enumerate(names):
            shape = [1] * len(grid)
            shape[axis] = grid[axis].num_states
            score = score + terms[name].reshape([*shape, score.shape[-1]])
        return score

    def _shift(self, name: Hashable, term: Tensor, value: Tensor) -> Tensor:
        """What an observed parent or input adds to the score, ``(*batch, C)``."""
        event = self._event_dims(name)
        if event is None:
            return term[value]
        batch = value.shape[: value.dim() - event]
        return value.reshape([*batch, term.shape[0]]).to(term.dtype) @ term

    def _event_dims(self, name: Hashable) -> int | None:
        """Number of event axes of a real parent or an input; ``None`` if it is discrete."""
        parent = next(v for v in self.parents if v.name == name)
        return None if parent.is_discrete else len(parent.shape)

    def _term_names(self) -> tuple[Hashable, ...]:
        return (*(v.name for v in self.parents), *self.inputs)


def require_binary(variables: Sequence[Variable], child: Variable, kind: str, other: str) -> None:
    """Check that variables have two states.

    Raises:
        ModelError: Naming the first that has not, and the conditionals that would do.
    """
    for v in variables:
        if v.num_states != 2:
            raise ModelError(
                f"{kind} conditional of {child.name!r} needs variables with 2 states, but "
                f"{v.name!r} has {v.num_states}; use {other}"
            )


def numbers_or_zeros(name: str, child: Variable, given: Any, shape: Sequence[int]) -> nn.Parameter:
    """Return a constant float64 copy of given numbers, or learnable zeros if ``None`` is given.

    Raises:
        ModelError: If the shape is wrong or a number is not finite.
    """
    if given is None:
        return learnable_zeros(f"{name} of {child.name!r}", shape)
    values = read_numbers(f"{name} of {child.name!r}", given)
    if values.shape != tuple(shape):
        raise ModelError(
            f"{name} of {child.name!r} must have shape {tuple(shape)}, got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ModelError(
            f"{name} of {child.name!r} must be finite, got {values[~np.isfinite(values)][0]}"
        )
    return nn.Parameter(torch.from_numpy(values), requires_grad=False)
