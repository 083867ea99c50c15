"""Posteriors of real units, which are normal given the discrete ones."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.units.unit_kind import GaussianUnits
from pgnn.factors.units.unit_layers import UnitLayers, UnitModel
from pgnn.factors.variable import Variable
from pgnn.inference.gaussian_marginals import MixtureMarginal, NormalMarginal, element_marginal
from pgnn.inference.local_search import score
from pgnn.inference.model_reader import no_posterior
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question, names_of
from pgnn.inference.with_reals import WithReals
from pgnn.limits import check_size

_MOST_STATES, _MOST_SCORED = 2**12, 2**20
"""Largest numbers of enumerated joint states of discrete units, per row and in total."""
DRAWS = 1000
"""Draws of them otherwise."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WeightedStates:
    """Joint states of the discrete units, with posterior probabilities.

    Attributes:
        codes: ``(K, B, E)`` states.
        weights: ``(B, K)`` probabilities.
        kind: ``"exact"`` if these are all states, ``"estimate"`` if they are samples.
    """

    codes: Tensor
    weights: Tensor
    kind: str

    @classmethod
    def all_of(cls, question: Question) -> WeightedStates:
        """Return all states that are possible in some row."""
        card, rows, hidden = question.graph.elements.card, question.num_rows, _hidden(question)
        places = np.unravel_index(np.arange(int(_num_states(question))), (1, *card[hidden]))
        grid = np.stack(places, axis=1)[:, 1:]
        codes = np.repeat(question.observed.codes[None].astype(np.int64), len(grid), axis=0)
        codes[:, :, hidden] = grid[:, None]
        flat = codes.reshape(-1, codes.shape[2])
        number = np.tile(np.arange(rows), len(grid))
        scores = score(question.graph, question.log_field(), flat, number)
        logs = torch.from_numpy(scores.reshape(len(grid), rows).T)
        return cls(torch.from_numpy(codes), logs.softmax(dim=1), "exact")

    @classmethod
    def drawn(cls, codes: Tensor) -> WeightedStates:
        """Return samples ``(K, B, E)`` with equal weights."""
        count, rows = codes.shape[:2]
        weights = torch.full((rows, count), 1.0 / max(count, 1), dtype=torch.float64)
        return cls(codes, weights, "estimate")


def is_enumerated(question: Question) -> bool:
    """Whether the states of the discrete units are few enough to enumerate."""
    count = _num_states(question)
    return count <= _MOST_STATES and count * question.num_rows <= _MOST_SCORED


def _hidden(question: Question) -> Ints:
    return np.flatnonzero((question.observed.codes < 0).any(axis=0))


def _num_states(question: Question) -> float:
    card = question.model.elements.card[_hidden(question)]
    return float(np.prod(card.astype(np.float64)))


@dataclass(frozen=True, eq=False)
class RealUnitTargets:
    """The targets of a query about real units.

    Attributes:
        discrete: Names of the discrete targets.
        reals: The real targets.
    """

    discrete: list[Hashable]
    reals: tuple[Variable, ...]

    @classmethod
    def of(cls, question: Question) -> RealUnitTargets | None:
        """Read a query; None if all its targets are discrete.

        Raises:
            EvidenceError: If a real target is observed.
            Intractable: If there are too many normal distributions to be mixed.
        """
        model, names = question.model, question.names
        if names is None or not isinstance(model, UnitModel):
            return None
        queried = names_of(names, model.variables, model.elements)
        reals = [n for n in queried if n in model.variables and not model.variables[n].is_discrete]
        if not reals:
            return None
        for name in reals:
            if question.observed.fully_observes(name):
                raise no_posterior(model, name)
        rest = [n for n in queried if n not in reals]
        targets = cls(rest, tuple(model.variables[n] for n in reals))
        count, rows = _num_states(question), question.num_rows
        count = int(count) if is_enumerated(question) else DRAWS
        units = sum(v.num_elements for v in targets.reals)
        check_size(f"mixtures of {count:,} normal distributions for {rows:,} rows",
                   4.0 * count * rows * units, advice="Query fewer rows at once")  # fmt: skip
        return targets

    def answer(self, question: Question, whole: Posterior, states: WeightedStates) -> Posterior:
        """Return the posterior that includes the real units.

        Args:
            question: The query.
            whole: The posterior of the discrete units.
            states: States of all discrete units.
        """
        model: Any = question.model
        layers: UnitLayers = model.layers()
        marginals: dict[Hashable, MixtureMarginal] = {}
        for v in self.reals:
            observed = question.observed.reals.get(v.name)
            marginals[v.name] = _mixture(layers, model.elements, v, states, observed)
        return RealUnitsPosterior(whole, self.reals, marginals, states.kind)


def _mixture(
    layers: UnitLayers, elements: Any, variable: Variable, states: WeightedStates,
    observed: Tensor | None,
) -> MixtureMarginal:  # fmt: skip
    """``(B, *shape)`` mixtures of normal distributions, one for each of the states."""
    count, rows = states.codes.shape[:2]
    flat, like, kind = states.codes.flatten(end_dim=1), layers.like, layers.kinds[variable.name]
    assert isinstance(kind, GaussianUnits)
    state = {}
    for name, v in layers.variables.items():
        if v.is_discrete:
            codes = flat[:, torch.from_numpy(elements.numbers(name).ravel())]
            state[name] = layers.kinds[name].encode(codes.to(like.device), like)
    mean = layers.mean(variable.name, state).reshape(count, rows, -1).movedim(0, 2)
    spread = (kind.variance * kind.temperature).sqrt().to(mean)[:, None].expand(mean.shape)
    if observed is not None:
        values = observed.reshape(rows, -1, 1).to(mean)
        mean = torch.where(values.isnan(), mean, values)
        spread = torch.where(values.isnan(), spread, torch.zeros_like(spread))
    weights = states.weights.to(mean)[:, None].expand(mean.shape)
    shape = (rows, *variable.shape, count)
    return MixtureMarginal(
        weights.reshape(shape), NormalMarginal(mean.reshape(shape), spread.reshape(shape))
    )


class RealUnitsPosterior(WithReals):
    r"""A posterior of real units, a mixture of normal distributions for each of them.

    .. math:: p(v_i \mid e) = \sum_h p(h \mid e) \, N(v_i; b_i + W_{i\cdot} h, s_i^2 T)

    over all states of the discrete units if they are few, otherwise over samples of them;
    ``posterior["v"]`` has ``mean``, ``std`` and ``quantile``.

    Args:
        whole: The posterior of the discrete units.
        reals: The real targets.
        marginals: ``(B, *shape)`` distributions by name.
        kind: ``"exact"`` or ``"estimate"``.
    """

    def __init__(
        self,
        whole: Posterior,
        reals: tuple[Variable, ...],
        marginals: dict[Hashable, MixtureMarginal],
        kind: str,
    ) -> None:
        super().__init__(
            whole.variables,
            *whole.numbers,
            batched=whole.batched,
            kind=whole.kind if kind == "exact" else kind,
            engine=whole.engine,
            diagnostics=whole.diagnostics,
            joint=whole.joint_of,
            index=whole.index,
        )
        self.reals = {v.name: v for v in reals}
        self._of_reals = marginals

    def _take_element(self, name: Any, array: Variable) -> None:
        part: Any = element_marginal(self._of_reals[array.name], array, name[1:])
        self._of_reals = {**self._of_reals, name: part}

    def marginal(self, name: Hashable) -> MixtureMarginal:
        """See :class:`~pgnn.inference.with_reals.WithReals`."""
        whole = self._of_reals[name]
        if self.batched:
            return whole
        parts: Any = whole.component_distribution
        weights = whole.mixture_distribution.probs[0]
        return MixtureMarginal(weights, NormalMarginal(parts.loc[0], parts.scale[0]))
