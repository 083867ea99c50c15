"""The base class of logistic and noisy-or conditionals, whose scores are sums over parents."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical

from pgnn.errors import ModelError
from pgnn.factors.conditionals.checks import check_rows
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.linear_predictor import LinearPredictor
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable

_AT_ONCE = 2**22
"""Most scores that are looked up together."""


class RowScores(NamedTuple):
    """Scores of discrete parents, in a layout for lookups by state.

    Attributes:
        offset: ``(C,)`` score without any parent.
        rows: ``(1 + R, C)`` scores of all states but the reference, preceded by a row of zeros.
        first: ``(n,)`` row of each parent's first state, minus one.
        card: ``(n,)`` state counts.
        reference_last: Whether the last state is the reference, not the first.
    """

    offset: Tensor
    rows: Tensor
    first: Tensor
    card: Tensor
    reference_last: bool

    def places(self, states: Tensor, place: int | None = None) -> Tensor:
        """Return the rows of ``(*batch, n)`` states, for all parents or for one."""
        which = slice(None) if place is None else slice(place, place + 1)
        first, states = self.first[which], states.to(self.first.device)
        if self.reference_last:
            return torch.where(states == self.card[which] - 1, 0, first + states + 1)
        return torch.where(states == 0, 0, first + states)

    def total(self, states: Tensor) -> Tensor:
        """Return ``(*batch, C)`` summed scores of the parents' states."""
        index = self.places(states)
        total = self.rows.new_zeros(*states.shape[:-1], self.rows.shape[1])
        step = max(1, _AT_ONCE // max(total.numel(), 1))
        for k in range(0, index.shape[-1], step):
            total = total + self.rows[index[..., k : k + step]].sum(dim=-2)
        return total


class Additive(Conditional):
    r"""A conditional of a discrete child that depends on its parents through a sum of terms.

    .. math:: p(y \mid x) = g\Big(h_0 + \sum_i h_i(x_i)\Big)_y

    The table over the unobserved parents is an outer sum of their terms, shifted by the scores of
    observed parents, so that the cost of a conditional with very many parents depends only on the
    unobserved ones.
    """

    reference_last: ClassVar[bool] = False
    """Whether the state of a parent that adds nothing is its last one, not its first."""

    @abstractmethod
    def _offset(self) -> Tensor:
        """Score without any parent, ``(C,)``."""

    @abstractmethod
    def _scores(self) -> Tensor:
        """Scores ``(R, C)``, the rows of one parent or input after those of the other.

        A discrete parent has a row for each of its states but the reference, a real one and an
        input one for each of their flattened values.
        """

    @abstractmethod
    def _log_probs(self, score: Tensor) -> Tensor:
        """Log probabilities ``(..., K_child)`` from scores ``(..., C)``."""

    def _log_weights(self, score: Tensor) -> Tensor | None:
        """Logits of the child's distribution, linear in scores ``(..., C)``."""
        return None

    def _num_rows(self) -> Sequence[int]:
        """Number of rows of :meth:`_scores` for each parent and input."""
        return [v.num_states - 1 for v in self.parents]

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Categorical:
        """Return the child's distribution given its parents; see the base class."""
        values = {**self._values(parents), **self._covariates(inputs)}
        discrete = [v for v in self.parents if v.is_discrete]
        score = self._offset()
        if len(discrete) < len(values):
            for name, term in zip(self._term_names(), self._terms(), strict=True):
                if self._event_dims(name) is not None:
                    score = score + self._shift(name, term, values[name])
        if discrete:
            columns = [values[v.name] for v in discrete]
            shape = np.broadcast_shapes(*(x.shape for x in columns))
            states = torch.stack([x.expand(shape) for x in columns], dim=-1)
            score = score + self._row_scores(discrete).total(states)
        return Categorical(logits=self._log_probs(score))

    def log_prob_rows(
        self,
        states: Tensor,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Tensor:
        """Return log probabilities of complete rows; see the base class."""
        if observed or inputs:
            return super().log_prob_rows(states, observed, inputs)
        scores = self._row_scores(self.parents)
        log_probs = self._log_probs(scores.offset + scores.total(states[:, :-1]))
        return log_probs.expand(len(states), -1).gather(1, states[:, -1:])[:, 0]

    def prepared(self) -> RowScores | None:
        """Return the lookup data of :meth:`log_conditionals`; see the base class."""
        if self.inputs or not all(v.is_discrete for v in self.parents):
            return None
        return self._row_scores(self.parents)

    def log_conditionals(
        self,
        states: Tensor,
        place: int,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
        prepared: RowScores | None = None,
    ) -> Tensor:
        """Return log probabilities by the state at a place; see the base class.

        Cost:
            One lookup of all parents, whatever the number of states.
        """
        if prepared is None or observed or inputs:
            return super().log_conditionals(states, place, observed, inputs)
        index = prepared.places(states[:, :-1])
        if place == len(self.parents):
            return self._log_probs(prepared.offset + prepared.rows[index].sum(1))
        each_state = torch.arange(self.parents[place].num_states, device=index.device)
        index[:, place] = 0
        others = prepared.offset + prepared.rows[index].sum(1)
        score = others[:, None] + prepared.rows[prepared.places(each_state[:, None], place)[:, 0]]
        log_probs = self._log_probs(score)
        child = states[:, -1].to(log_probs.device)[:, None, None]
        return log_probs.gather(2, child.expand(-1, len(each_state), 1))[:, :, 0]

    def linear_predictor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> LinearPredictor | None:
        """Return the linear predictor of the child's softmax; see the base class."""
        known = {**self._observed_part(observed), **self._covariates(inputs)}
        offset = self._log_weights(self._grid_score([], known))
        scores = self._row_scores([v for v in self.parents if v.name not in known])
        rows = self._log_weights(scores.rows)
        if offset is None or rows is None:
            return None
        most = int(scores.card.max()) if len(scores.card) else 0
        state = torch.arange(most, device=rows.device)[:, None]
        place = scores.places(state).masked_fill(state >= scores.card, 0)
        return LinearPredictor(offset.reshape(-1, offset.shape[-1]), rows[place.T])

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return the log table over the unobserved scope; see the base class.

        Cost:
            ``O(B C)`` for each observed and ``O(B C prod K)`` for all unobserved parents.
        """
        known = self._observed_part(observed)
        free = self._unobserved(known)
        covariates = self._covariates(inputs)
        check_rows(self.child, known, covariates)
        grid = [v for v in free if v != self.child]
        log_probs = self._log_probs(self._grid_score(grid, {**known, **covariates}))
        table = Factor([*grid, self.child], log_probs)
        name = self.child.name
        return table.condition({name: known[name]}) if name in known else table

    def _terms(self) -> list[Tensor]:
        """One array for each parent, then for each input.

        A discrete parent has the scores ``(K_i, C)`` of its states, a real one and an input the
        weights ``(D_i, C)`` of their flattened values.
        """
        scores, sizes = self._scores(), [*self._num_rows()]
        zero = scores.new_zeros(1, scores.shape[1])
        terms = list(torch.split(scores, sizes)) if sizes else []
        for k, v in enumerate(self.parents):
            if v.is_discrete:
                pair = [terms[k], zero] if self.reference_last else [zero, terms[k]]
                terms[k] = torch.cat(pair)
        return terms

    def _row_scores(self, parents: Sequence[Variable]) -> RowScores:
        """The scores of some discrete parents, in the layout for lookups."""
        scores = self._scores()
        device = scores.device
        ends = np.cumsum([0, *self._num_rows()]).tolist()
        starts = dict(zip(self._term_names(), ends, strict=False))
        return RowScores(
            self._offset(),
            torch.cat([scores.new_zeros(1, scores.shape[1]), scores]),
            torch.tensor([starts[v.name] for v in parents], dtype=torch.int64, device=device),
            torch.tensor([v.num_states for v in parents], dtype=torch.int64, device=device),
            self.reference_last,
        )

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
        """The score of an observed parent or input, ``(*batch, C)``."""
        event = self._event_dims(name)
        if event is None:
            return term[value]
        batch = value.shape[: value.dim() - event]
        return value.reshape([*batch, term.shape[0]]).to(term.dtype) @ term

    def _event_dims(self, name: Hashable) -> int | None:
        """Number of event axes of a real parent or an input; ``None`` if it is discrete."""
        parent = self._parent_of[name]
        return None if parent.is_discrete else len(parent.shape)

    @cached_property
    def _parent_of(self) -> dict[Hashable, Variable]:
        return {v.name: v for v in self.parents}

    def _term_names(self) -> tuple[Hashable, ...]:
        return (*(v.name for v in self.parents), *self.inputs)


def require_binary(variables: Sequence[Variable], child: Variable, kind: str, other: str) -> None:
    """Check that variables have two states.

    Raises:
        ModelError: If one has not; the message names it, and suitable conditionals.
    """
    for v in variables:
        if v.num_states != 2:
            raise ModelError(
                f"{kind} conditional of {child.name!r} needs variables with 2 states, but "
                f"{v.name!r} has {v.num_states}",
                f"use {other}",
            )
