"""Belief propagation by torch: all messages at once, on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.groups.group_messages import GroupMessages, normalized
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.loop import Info, iterate
from pgnn.inference.state_columns import StateColumns

Ints = NDArray[np.int64]


class MessageLayout:
    """Layout of flat messages ``(B, M)``.

    Args:
        graph: Elements and groups of factors.
        device: Device of the indices.

    Attributes:
        card: ``(M,)`` number of states of the element of each message entry.
        column: ``(M,)`` column of its state among those of all elements.
        factor_of_entry: ``(M,)`` the factor that sends it.
        scopes: ``(F, n)`` elements of each group.
        factors: Slice of each group's factors among all factors.
        states: Columns of each element's states.
    """

    def __init__(self, graph: FactorGraph, device: torch.device) -> None:
        wiring, elements = graph.wiring, graph.elements
        self.states = StateColumns(elements, device)
        slot_card = elements.card[wiring.slot_var]
        self.card = _tensor(np.repeat(slot_card, slot_card), device)
        shift = np.repeat(elements.offset[wiring.slot_var] - wiring.message[:-1], slot_card)
        self.column = _tensor(shift + np.arange(len(shift)), device)
        self.factor_of_entry = _tensor(np.repeat(wiring.slot_factor, slot_card), device)
        self.scopes = [_tensor(g.scopes, device) for g in graph.interactions]
        self._cards = [elements.card[g.scopes[0]].tolist() for g in graph.interactions]
        self._counts = [g.num_factors for g in graph.interactions]
        ends = np.cumsum([0, *self._counts]).tolist()
        self.factors = [slice(a, b) for a, b in pairwise(ends)]

    def split(self, flat: Tensor) -> list[list[Tensor]]:
        """Return views ``(B, F, K)`` for each axis of each group's scopes."""
        views, first = [], 0
        for count, cards in zip(self._counts, self._cards, strict=True):
            last = first + count * sum(cards)
            view = flat[:, first:last].reshape(len(flat), count, sum(cards))
            views.append(list(torch.split(view, cards, dim=2)))
            first = last
        return views

    def join(self, parts: Sequence[Sequence[Tensor]], flat: Tensor) -> Tensor:
        """Return the inverse of :meth:`split`; of the type of ``flat`` if there are no groups."""
        return torch.cat([flat[:, :0], *(torch.cat(list(p), 2).flatten(1) for p in parts)], dim=1)


def _tensor(array: Ints, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(device)


State = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class TorchResult:
    """Messages after a run, with its diagnostics.

    Attributes:
        messages: ``(B, M)`` log messages.
        converged: ``(B,)`` whether a row's messages have converged.
        iterations: ``(B,)`` steps taken until then.
        residual: ``(B,)`` last change of a message, before damping, in probability units.
        history: Largest residual after each step.
    """

    messages: Tensor
    converged: Tensor
    iterations: Tensor
    residual: Tensor
    history: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TorchFlooding:
    """Damped updates of all messages at once; rows that have converged stay unchanged.

    Args:
        start: ``(B, M)`` initial log messages.
        update: One undamped step.
        damp: Function of old and new messages; None for no damping.
        tolerance: Largest change, in probability units, of a row that has converged.
    """

    start: Tensor
    update: Callable[[Tensor], Tensor]
    damp: Callable[[Tensor, Tensor], Tensor] | None
    tolerance: float

    def init(self) -> State:
        """Return the messages, and for each row: whether converged, steps, last change."""
        rows = len(self.start)
        steps = torch.zeros(rows, dtype=torch.int64, device=self.start.device)
        return self.start, steps.bool(), steps, self.start.new_full((rows,), math.inf)

    def step(self, state: State) -> tuple[State, Info]:
        """Update all messages once."""
        old, converged, steps, residual = state
        new = self.update(old)
        differences = (new.exp() - old.exp()).abs()
        change = differences.amax(1) if differences.shape[1] else differences.sum(1)
        if self.damp is not None:
            new = self.damp(old, new)
        steps = steps + (~converged).long()
        residual = torch.where(converged, residual, change)
        new = torch.where(converged[:, None], old, new)
        converged = converged | (change <= self.tolerance)
        largest = float(residual.max()) if len(residual) else 0.0
        info = Info(bool(converged.all()), {"residual": largest})
        return (new, converged, steps, residual), info


class TorchPropagation:
    r"""Sum- or max-product with a flooding schedule on grouped tables, in log space.

    With fields :math:`\theta_i`, tables :math:`\theta_f`, weights :math:`\rho_f` (ones if there
    are none) and temperature :math:`T`, messages from factors to elements are updated together by

    .. math::
        b_i &\propto e^{\theta_i / T} \prod_{f \ni i} m_{f \to i}^{\rho_f}, \qquad
        c_{f \to i} = b_i / m_{f \to i} \\
        m_{f \to i}(x_i) &\propto \sum_{x_f \setminus x_i} e^{\theta_f(x_f) / (\rho_f T)}
            \prod_{j \in f \setminus i} c_{f \to j}(x_j).

    That is propagation in :math:`p(x)^{1/T}`; at temperature zero sums become maxima and nothing
    is divided by :math:`T`. Messages are ``(B, M)``, laid out by
    :class:`~pgnn.inference.wiring.Wiring`, each normalised to a sum (at temperature zero a
    maximum) of one. ``-inf`` is legal everywhere, and 0/0 in a cavity counts as 0.

    Args:
        graph: Elements and groups of factors; tables may depend on the row.
        log_field: ``(B, S)`` log fields of the elements, the evidence included; their type and
            device are those of the messages.
        temperature: Temperature ``T``, not negative.
        weights: ``(F,)`` positive weights of the factors, in the order of the groups
            (tree-reweighted propagation).

    Raises:
        ModelError: If the temperature is negative, a weight is not positive, or a shape is wrong.

    Example:
        >>> from pgnn import Factor, Variable
        >>> from pgnn.factors.elements import Elements
        >>> from pgnn.factors.groups.grouping import grouped
        >>> a, b = Variable("a", 2), Variable("b", 2)
        >>> agree = Factor([a, b], torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
        >>> elements = Elements([a, b])
        >>> graph = FactorGraph(elements, grouped([agree], elements))
        >>> propagation = TorchPropagation(graph, torch.tensor([[0.0, 1.0, 0.0, 0.0]]).double())
        >>> found = propagation.run(10, 1e-9, progress=False)
        >>> propagation.beliefs(found.messages).exp()
        tensor([[0.2689, 0.7311, 0.3932, 0.6068]], dtype=torch.float64)

    References:
        Kschischang, Frey and Loeliger (2001), Factor graphs and the sum-product algorithm.
        Wainwright, Jaakkola and Willsky (2005), A new class of upper bounds on the log partition
        function, section V.

    Cost: one step takes a few passes over ``B`` times the entries of all tables (``K`` for a Potts
        factor); a shared table is stored once, but the sums of every factor are formed.
    """

    def __init__(
        self,
        graph: FactorGraph,
        log_field: Tensor,
        *,
        temperature: float = 1.0,
        weights: Tensor | None = None,
    ) -> None:
        if not 0.0 <= temperature < math.inf:
            raise ModelError(f"temperature must be finite and not negative, got {temperature}")
        states = int(graph.elements.offset[-1])
        if log_field.dim() != 2 or log_field.shape[1] != states:
            raise ModelError(f"log_field must be (B, {states}), got {tuple(log_field.shape)}")
        if weights is not None and weights.shape != (graph.num_interactions,):
            raise ModelError(
                f"weights must be ({graph.num_interactions},), got {tuple(weights.shape)}"
            )
        if weights is not None and not bool((weights > 0).all()):
            raise ModelError("weights of factors must be positive")
        self.graph = graph
        self.log_field = log_field
        self.temperature = temperature
        self.weights = None if weights is None else weights.detach().to(log_field)
        self.max_product = temperature == 0
        self.numbers: tuple[Tensor, ...] = tuple(g.numbers for g in graph.interactions)
        self._layout = MessageLayout(graph, log_field.device)

    def at(self, log_field: Tensor, numbers: Sequence[Tensor]) -> TorchPropagation:
        """Return the propagation with another field and other parameters of the groups."""
        other = object.__new__(TorchPropagation)
        other.__dict__.update({k: v for k, v in vars(self).items() if k != "_groups"})
        other.log_field, other.numbers = log_field, tuple(numbers)
        return other

    @property
    def num_rows(self) -> int:
        """Number of rows ``B``."""
        return int(self.log_field.shape[0])

    def init(self) -> Tensor:
        """Return ``(B, M)`` uniform messages."""
        card = self._layout.card.to(self.log_field)
        uniform = torch.zeros_like(card) if self.max_product else -card.log()
        return uniform[None].repeat(self.num_rows, 1)

    def step(self, log_messages: Tensor) -> Tensor:
        """Return all messages after one undamped update."""
        cavities = self._cavities(log_messages, self._totals(log_messages))
        messages = [
            [normalized(m, self.max_product) for m in group.messages(around)]
            for group, around in zip(self._groups, cavities, strict=True)
        ]
        return self._layout.join(messages, log_messages)

    def beliefs(self, log_messages: Tensor) -> Tensor:
        """Return ``(B, S)`` normalised log beliefs; ``-inf`` if no state is possible."""
        total = self._totals(log_messages)
        norm = self._log_sums(total)
        owner = self._layout.states.owner
        return total - norm.masked_fill(norm.isneginf(), 0.0).index_select(1, owner)

    def factor_beliefs(self, log_messages: Tensor) -> list[Tensor]:
        """Return ``(B, F, K1, ..., Kn)`` normalised log beliefs of each group."""
        beliefs = []
        cavities = self._cavities(log_messages, self._totals(log_messages))
        for group, around in zip(self._groups, cavities, strict=True):
            joint = group.beliefs(around)
            rows, factors, *states = joint.shape
            flat = joint.reshape(rows, factors, math.prod(states))
            beliefs.append(normalized(flat, self.max_product).reshape(joint.shape))
        return beliefs

    def bethe(self, log_messages: Tensor) -> Tensor:
        r"""Return ``(B,)`` the Bethe estimate of :math:`\log \sum_x \tilde p(x)^{1/T}`.

        With weights it is the tree-reweighted value, an upper bound at a fixed point if they are
        edge appearance probabilities. In terms of the sums :math:`Z_i, Z_f` of beliefs before
        they are normalised,

        .. math:: c + \sum_i \log Z_i + \sum_f \rho_f \Big(\log Z_f - \sum_{i \in f} \log Z_i\Big),

        which at a fixed point equals average energy plus entropies
        :math:`\sum_i \langle \theta_i \rangle + \sum_f \langle \theta_f \rangle + \sum_i H_i -
        \sum_f \rho_f I_f`; near one its error is quadratic in that of the messages. At temperature
        zero sums are replaced by maxima: the score of the best states where they are unique.

        Constant factors (``graph.log_constant``) are included; ``-inf`` where no state is possible.
        """
        constant = self.graph.log_constant.to(self.log_field)
        return self.bethe_without_constant(log_messages) + constant * self._power

    def bethe_without_constant(self, log_messages: Tensor) -> Tensor:
        """Return :meth:`bethe` without the constant factors."""
        totals = self._totals(log_messages)
        log_z = self._log_sums(totals)
        lost = log_z.isneginf().any(dim=1)
        log_z = log_z.masked_fill(log_z.isneginf(), 0.0)
        value = log_z.sum(1)
        cavities = self._cavities(log_messages, totals)
        for k, (group, around) in enumerate(zip(self._groups, cavities, strict=True)):
            joint = group.log_total(around)
            lost = lost | joint.isneginf().any(dim=1)
            single = log_z[:, self._layout.scopes[k]].sum(-1)
            excess = joint.masked_fill(joint.isneginf(), 0.0) - single
            value = value + (excess * self._weights_of(k)).sum(1)
        return value.masked_fill(lost, -math.inf)

    def expected(self, log_messages: Tensor, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return expected sufficient statistics, the gradient of the value in the parameters.

        Args:
            log_messages: ``(B, M)`` log messages.
            weights: ``(B,)`` weight of each row.

        Returns:
            ``(B, S)`` probabilities of states and, in the shape of the parameters of each group,
            probabilities of the tables' entries, summed over those that share a parameter.
        """
        cavities = self._cavities(log_messages, self._totals(log_messages))
        tables = [
            group.gradient(around, weights)
            for group, around in zip(self._groups, cavities, strict=True)
        ]
        return self.beliefs(log_messages).exp() * weights[:, None], tables

    def run(
        self,
        max_iterations: int,
        tolerance: float,
        damping: float = 0.0,
        *,
        messages: Tensor | None = None,
        progress: bool = True,
    ) -> TorchResult:
        """Update until the messages of all rows have converged.

        Rows that have converged stay unchanged, so that a row's answer does not depend on others.

        Args:
            max_iterations: Largest number of steps.
            tolerance: Largest change of a message, in probability units, in a converged row.
            damping: Weight of the old message in a geometric mean, in ``[0, 1)``.
            messages: ``(B, M)`` initial messages; uniform if not given.
            progress: Whether to show a progress bar.

        Raises:
            ModelError: If the damping is not in ``[0, 1)``.
        """
        if not 0.0 <= damping < 1.0:
            raise ModelError(f"damping must be in [0, 1), got {damping}")
        start = self.init() if messages is None else messages.detach()

        def damp(old: Tensor, new: Tensor) -> Tensor:
            parts = self._layout.split((1 - damping) * new + damping * old)
            return self._layout.join(
                [[normalized(m, self.max_product) for m in p] for p in parts], new
            )

        method = TorchFlooding(start, self.step, damp if damping else None, tolerance)
        with torch.no_grad():
            run = iterate(method, max_iterations, progress=progress, label="belief propagation")
        return TorchResult(*run.state, history=run.history)

    # --- helpers ------------------------------------------------------------------------------

    @property
    def _power(self) -> float:
        return 1.0 if self.max_product else 1.0 / self.temperature

    @cached_property
    def _groups(self) -> tuple[GroupMessages, ...]:
        messages = []
        for k, (group, numbers) in enumerate(
            zip(self.graph.interactions, self.numbers, strict=True)
        ):
            scale: Tensor | float = self._power
            if self.weights is not None:
                scale = scale / self._weights_of(k)
            messages.append(group.messages(numbers.to(self.log_field), scale, self.max_product))
        return tuple(messages)

    def _weights_of(self, k: int) -> Tensor:
        """``(F,)`` or ``()`` weights of one group's factors."""
        if self.weights is None:
            return self.log_field.new_ones(())
        return self.weights[self._layout.factors[k]]

    def _totals(self, log_messages: Tensor) -> Tensor:
        """``(B, S)`` products of fields and messages, as logs, not normalised."""
        if self.weights is not None:
            log_messages = log_messages * self.weights[self._layout.factor_of_entry]
        scaled = self.log_field * self._power
        return scaled.index_add(1, self._layout.column, log_messages)

    def _log_sums(self, totals: Tensor) -> Tensor:
        """``(B, E)`` logs of the sums (at temperature zero maxima) over each element's states."""
        return self._layout.states.log_sums(totals, self.max_product)

    def _cavities(self, log_messages: Tensor, totals: Tensor) -> list[list[Tensor]]:
        """Return the cavity messages to each axis of each group, ``(B, F, K)``."""
        # where a message is -inf, so is the total, and nothing is subtracted
        finite_messages = log_messages.masked_fill(log_messages.isneginf(), 0.0)
        return self._layout.split(totals.index_select(1, self._layout.column) - finite_messages)
