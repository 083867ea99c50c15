"""Noisy gates: independent causes, each sufficient for the effect."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import ModelError, closest
from pgnn.factors.conditionals.additive import Additive, require_binary
from pgnn.factors.conditionals.causal_independence import CausalIndependence
from pgnn.factors.conditionals.checks import require_table
from pgnn.factors.conditionals.decomposition import Decomposition, chain_of_maxima
from pgnn.factors.conditionals.table_reader import read_numbers, read_table
from pgnn.factors.logspace import log_cdf, logdiffexp
from pgnn.factors.piece import learnable_zeros
from pgnn.factors.variable import Variable

_TABLE_TOLERANCE = 1e-9


class NoisyMax(Additive, CausalIndependence):
    r"""The largest of independent effects of the parents, and of a leak.

    Parent :math:`i` in state :math:`x_i` causes the ordered child to reach state :math:`Z_i` with
    probability :math:`q_i(z \mid x_i)`; its state 0 is neutral, :math:`q_i(0 \mid 0) = 1`. The
    child is the maximum of all :math:`Z_i` and of the leak's, so distribution functions multiply:

    .. math:: P(Y \le y \mid x) = Q_0(y) \prod_i Q_i(y \mid x_i).

    Args:
        child: Variable whose states 0, 1, ... are ordered, 0 being "absent".
        parents: Variables whose state 0 is "absent".
        effects: For each parent a table ``(K_i - 1, K)`` of probabilities, a row for each state
            but 0: the child's distribution if this parent alone is present and nothing leaks. A
            sequence in the order of the parents or a mapping by name. Learnable and uniform by
            default.
        leak: The child's distribution ``(K,)`` with all parents absent; ``0.0`` for no leak,
            ``None`` for a learnable one that starts at one half for state 0.

    Raises:
        ModelError: If a variable is not discrete, a shape is wrong or a row is no distribution.

    Example:
        >>> flu, cold = Variable("flu", 2), Variable("cold", ["no", "mild", "bad"])
        >>> fever = Variable("fever", ["none", "low", "high"])
        >>> effects = {"flu": [[0.1, 0.4, 0.5]], "cold": [[0.8, 0.2, 0.0], [0.5, 0.4, 0.1]]}
        >>> p_fever = NoisyMax(fever, [flu, cold], effects)
        >>> p_fever.factor().values[1, 2]
        tensor([0.0500, 0.4000, 0.5500], dtype=torch.float64)

    References:
        Henrion (1987), Practical issues in constructing a Bayes' belief network (leak).
        Díez (1993), Parameter adjustment in Bayes networks: the generalized noisy-or gate.
        Heckerman and Breese (1996), Causal independence for probability assessment.
    """

    log_numbers = ("effects", "leak")

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable],
        effects: Sequence[Any] | Mapping[Hashable, Any] | None = None,
        leak: Any = 0.0,
    ) -> None:
        super().__init__(child, parents)
        require_table(child, self.parents, type(self).__name__)
        tables: Sequence[Any] = [None] * len(self.parents)
        if effects is not None:
            tables = self._by_parent(effects)
        self.effects = nn.ParameterList(
            self._effect(v, table) for v, table in zip(self.parents, tables, strict=True)
        )
        self.leak = self._leak(leak)

    @property
    def num_free_parameters(self) -> int:
        """``K - 1`` for each row, including that of the leak if present."""
        others = torch.arange(self.child.num_states) != self._neutral
        absent = not self.leak.requires_grad and bool(self.leak[others].isneginf().all())
        rows = sum(v.num_states - 1 for v in self.parents) + (0 if absent else 1)
        return (self.child.num_states - 1) * rows

    def _by_parent(self, effects: Sequence[Any] | Mapping[Hashable, Any]) -> list[Any]:
        names = [v.name for v in self.parents]
        if isinstance(effects, Mapping):
            for name in effects:
                if name not in names:
                    raise ModelError(
                        f"effects on {self.child.name!r}: {name!r} is not a parent"
                        + closest(name, names)
                    )
            effects = [_get(effects, name, self.child) for name in names]
        if len(effects) != len(names):
            raise ModelError(
                f"effects on {self.child.name!r} must be one table for each of its {len(names)} "
                f"parents {names}, got {len(effects)}"
            )
        return list(effects)

    def _effect(self, parent: Variable, table: Any) -> nn.Parameter:
        """Return logits ``(K_i - 1, K)`` of one parent's rows; state 0 has none."""
        if table is None:
            shape = (parent.num_states - 1, self.child.num_states)
            return learnable_zeros(f"{self.child.name!r} given {parent.name!r}", shape)
        present = (parent.states or ())[:-1] if self.reference_last else (parent.states or ())[1:]
        if not present:  # a parent that is always absent
            return _constant(np.ones((0, self.child.num_states)))
        return _constant(read_table(self.child, [Variable(parent.name, present)], table))

    def _leak(self, leak: Any) -> nn.Parameter:
        size = self.child.num_states
        if leak is None:
            logits = torch.full((size,), -float(np.log(max(size - 1, 1))), dtype=torch.float64)
            logits[self._neutral] = 0.0
            return nn.Parameter(logits)
        if isinstance(leak, int | float) and leak == 0:
            leak = np.eye(size)[self._neutral]
        return _constant(read_table(self.child, [], leak))

    def log_effects(self) -> Tensor:
        """Return log probabilities ``(R, K)`` of the leak, then of each state of each parent."""
        size = self.child.num_states
        neutral = self.leak.new_full((1, size), -torch.inf)
        neutral[0, self._neutral] = 0.0
        parts = [self.leak.log_softmax(-1)[None]]
        for logits in self.effects:
            log_probs = logits.log_softmax(-1)
            parts += [log_probs, neutral] if self.reference_last else [neutral, log_probs]
        return torch.cat(parts)

    def chained(self, log_effects: Tensor, ranks: Sequence[int] | None = None) -> Decomposition:
        """Return the decomposition with given values instead of :meth:`log_effects`."""
        leak, *effects = torch.split(log_effects, [1, *(v.num_states for v in self.parents)])
        causes = [*zip(self.parents, effects, strict=True)]
        if ranks is not None:
            causes = [causes[k] for k in np.argsort(ranks, kind="stable").tolist()]
        return chain_of_maxima(self.child, causes, leak[0], self.reference_last)

    def maximize_effects(self, counts: Tensor) -> None:
        """Set the learnable distributions to relative counts; see the base class."""
        leak, *effects = torch.split(counts, [1, *(v.num_states for v in self.parents)])
        present = slice(None, -1) if self.reference_last else slice(1, None)
        pairs = [(self.leak, leak[0])]
        pairs += [
            (logits, effect_counts[present])
            for logits, effect_counts in zip(self.effects, effects, strict=True)
        ]
        with torch.no_grad():
            for logits, effect_counts in pairs:
                if logits.requires_grad:
                    total = effect_counts.sum(-1, keepdim=True)
                    shares = (effect_counts / total.clamp_min(1e-300)).log().to(logits)
                    logits.copy_(torch.where(total > 0, shares, logits))

    @property
    def _neutral(self) -> int:
        """The state of the child without any cause."""
        return self.child.num_states - 1 if self.reference_last else 0

    def _accumulated(self, logits: Tensor) -> Tensor:
        """Return the log distribution function, starting at the neutral state."""
        log_probs = logits.log_softmax(-1)
        return log_cdf(log_probs.flip(-1) if self.reference_last else log_probs)

    def _offset(self) -> Tensor:
        return self._accumulated(self.leak)

    def _scores(self) -> Tensor:
        size = self.child.num_states
        return self._accumulated(torch.cat([self.leak.new_zeros(0, size), *self.effects]))

    def _log_probs(self, score: Tensor) -> Tensor:
        edge = (*score.shape[:-1], 1)
        upper = torch.cat([score, score.new_zeros(edge)], dim=-1)
        lower = torch.cat([score.new_full(edge, -float("inf")), score], dim=-1)
        log_probs = logdiffexp(upper, lower)
        return log_probs.flip(-1) if self.reference_last else log_probs


class NoisyMin(NoisyMax):
    r"""The smallest of independent effects of the parents, and of a leak.

    A mirrored :class:`NoisyMax`: the last states are neutral, those of "in order". Parent
    :math:`i` in state :math:`x_i` keeps the child down at state :math:`Z_i` with probability
    :math:`q_i(z \mid x_i)`, and in its last state has no effect; survival functions multiply:

    .. math:: P(Y \ge y \mid x) = Q_0(y) \prod_i Q_i(y \mid x_i).

    Args:
        child: Variable whose states 0, 1, ... are ordered, the last being "in order".
        parents: Variables whose last state is "in order".
        effects: For each parent a table ``(K_i - 1, K)`` of probabilities, a row for each state
            but the last: the child's distribution if this parent alone is out of order. A sequence
            or a mapping as in :class:`NoisyMax`.
        leak: The child's distribution ``(K,)`` with all parents in order; ``0.0`` for no leak,
            ``None`` for a learnable one.

    Raises:
        ModelError: If a variable is not discrete, a shape is wrong or a row is no distribution.

    Example:
        >>> pump, valve = Variable("pump", 2), Variable("valve", 2)  # 0: broken, 1: in order
        >>> flow = Variable("flow", ["none", "low", "full"])
        >>> p_flow = NoisyMin(flow, [pump, valve], [[[0.5, 0.5, 0.0]], [[0.2, 0.6, 0.2]]])
        >>> p_flow.factor().values[0, 0]
        tensor([0.6000, 0.4000, 0.0000], dtype=torch.float64)

    References:
        Díez (1993), Parameter adjustment in Bayes networks: the generalized noisy-or gate.
    """

    reference_last = True


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

    Attributes:
        leak: Logits ``(2,)``, a parameter; :attr:`leak_probability` is :math:`\lambda_0`.

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
                f"the table of {child.name!r} is no noisy-or: the one that matches it for at "
                f"most one present parent deviates by up to {error:.3g}; use Tabular"
            )
        return gate

    @property
    def strengths(self) -> Tensor:
        """Probabilities ``(n,)`` that each parent alone causes the child, differentiable."""
        rows = [self.leak[:0], *(logits.softmax(-1)[:, 1] for logits in self.effects)]
        return torch.cat(rows)

    @property
    def leak_probability(self) -> Tensor:
        """Probability ``()`` of the child with all parents absent; differentiable."""
        return self.leak.softmax(-1)[1]


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
        return torch.cat(rows) if rows else self.leak[:0]


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


def _get(effects: Mapping[Hashable, Any], name: Hashable, child: Variable) -> Any:
    if name not in effects:
        raise ModelError(f"effects on {child.name!r} miss its parent {name!r}; give one for each")
    return effects[name]


def _pair(child: Variable, what: str, probability: float, effect: int = 1) -> list[float]:
    """Return the binary distribution with a given probability of one state."""
    if not 0.0 <= probability <= 1.0:
        raise ModelError(
            f"{what} in the noisy gate of {child.name!r} must be a probability between 0 and 1, "
            f"got {probability}"
        )
    pair = [1.0 - probability, float(probability)]
    return pair if effect else pair[::-1]


def _constant(probs: np.ndarray) -> nn.Parameter:
    with np.errstate(divide="ignore"):
        return nn.Parameter(torch.from_numpy(np.log(probs)), requires_grad=False)
