"""Noisy maxima and minima of independent effects of the parents."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import ModelError, closest
from pgnn.factors.conditionals.additive import Additive
from pgnn.factors.conditionals.causal_independence import CausalIndependence
from pgnn.factors.conditionals.checks import require_table
from pgnn.factors.conditionals.declared_zeros import DeclaredZeros
from pgnn.factors.conditionals.decomposition import Decomposition, chain_of_maxima
from pgnn.factors.conditionals.table_reader import read_table
from pgnn.factors.logspace import log_cdf, logdiffexp
from pgnn.factors.piece import learnable_zeros
from pgnn.factors.variable import Variable


class NoisyMax(DeclaredZeros, Additive, CausalIndependence):
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

    Attributes:
        leak_logits: ``(K,)`` logits of :attr:`leak`, a parameter.

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

    log_numbers = ("effects", "leak_logits")
    former_names: ClassVar[Mapping[str, str]] = {"leak": "leak_logits"}

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
        self.leak_logits = self._leak(leak)
        self.register_buffer("declared_zeros", self.logit_rows().detach().isneginf())

    @property
    def num_free_parameters(self) -> int:
        """``K - 1`` for each row, including that of the leak if present."""
        leaks = bool(self._free()[0])
        rows = sum(v.num_states - 1 for v in self.parents) + (1 if leaks else 0)
        return (self.child.num_states - 1) * rows

    def num_free(self, parameter: Tensor) -> int:
        """Number of entries that are no structural zeros, minus one for each row."""
        parts = [possible for logits, possible in self.logit_parts() if logits is parameter]
        return sum(int((part.sum(dim=-1) - 1).clamp(min=0).sum()) for part in parts)

    def logit_rows(self) -> Tensor:
        """The logits ``(R, K)`` of the leak, then of each present state of each parent."""
        return torch.cat([self.leak_logits[None], *self.effects])

    def logit_parts(self) -> list[tuple[Tensor, Tensor]]:
        """Return the leak and the effects of each parent; see the base class."""
        parts = [self.leak_logits, *self.effects]
        possible = torch.split(self.possible(), [1, *(len(logits) for logits in self.effects)])
        return [(x, p.reshape(x.shape)) for x, p in zip(parts, possible, strict=True)]

    def _entry(self, place: tuple[int, ...]) -> str:
        """Return an entry of the rows in words."""
        return f"the probability of {self.child.name!r} = {(self.child.states or ())[place[1]]!r}"

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

    @property
    def leak(self) -> Tensor:
        """The child's distribution ``(K,)`` without any cause; differentiable."""
        return self.leak_logits.softmax(-1)

    def log_effects(self) -> Tensor:
        """Return log probabilities ``(R, K)`` of the leak, then of each state of each parent."""
        size = self.child.num_states
        neutral = self.leak_logits.new_full((1, size), -torch.inf)
        neutral[0, self._neutral] = 0.0
        parts = [self.leak_logits.log_softmax(-1)[None]]
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
        pairs = [(self.leak_logits, leak[0])]
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
        return self._accumulated(self.leak_logits)

    def _scores(self) -> Tensor:
        size = self.child.num_states
        return self._accumulated(torch.cat([self.leak_logits.new_zeros(0, size), *self.effects]))

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


def _get(effects: Mapping[Hashable, Any], name: Hashable, child: Variable) -> Any:
    if name not in effects:
        raise ModelError(f"effects on {child.name!r} miss its parent {name!r}", "give one for each")
    return effects[name]


def _constant(probs: np.ndarray) -> nn.Parameter:
    with np.errstate(divide="ignore"):
        return nn.Parameter(torch.from_numpy(np.log(probs)), requires_grad=False)
