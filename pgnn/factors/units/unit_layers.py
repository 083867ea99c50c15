"""Layers of units with biases and couplings: fields, draws and scores as dense arithmetic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pgnn.factors.units.unit_kind import UnitKind
from pgnn.factors.variable import Variable

State = dict[Hashable, Tensor]
"""Values ``(N, n d)`` of each layer's units."""


@dataclass(frozen=True, eq=False)
class UnitCoupling:
    """A matrix between two layers, or within one.

    Attributes:
        first: Name of a layer.
        second: Name of another layer, or of the same one.
        matrix: ``(m d, n e)``, in log units; symmetric within one layer, zero on its diagonal.
    """

    first: Hashable
    second: Hashable
    matrix: Tensor

    @property
    def is_within(self) -> bool:
        """Whether both sides are one layer."""
        return self.first == self.second


@dataclass(frozen=True, eq=False)
class UnitLayers:
    r"""Layers of units :math:`x_a`, and their couplings.

    .. math:: \log \tilde p(x) = \sum_a \bigl(b_a^\top \varphi(x_a) + \beta(x_a)\bigr)
        + \sum_{a < b} \varphi(x_a)^\top W_{ab} \varphi(x_b)
        + \tfrac12 \sum_a \varphi(x_a)^\top W_{aa} \varphi(x_a)

    where :math:`\beta` is the negative half of the (scaled) squares of real units, and zero for
    others. Values are stored as concatenated features ``(N, n d)`` of all units of a layer; the
    feature of a real unit is its value.

    Attributes:
        variables: The arrays by name.
        kinds: Kinds of the units of each layer.
        biases: ``(n d,)`` log biases; for a real layer, its mean without couplings.
        couplings: The coupling matrices.
        log_constant: Constant added to every score.
    """

    variables: Mapping[Hashable, Variable]
    kinds: Mapping[Hashable, UnitKind]
    biases: Mapping[Hashable, Tensor]
    couplings: Sequence[UnitCoupling]
    log_constant: Tensor

    @property
    def names(self) -> tuple[Hashable, ...]:
        """Names of the layers, in order."""
        return tuple(self.variables)

    @property
    def like(self) -> Tensor:
        """A tensor with the dtype and device of all others."""
        return next(iter(self.biases.values()))

    def size(self, name: Hashable) -> int:
        """Return the length of a layer's features."""
        return len(self.biases[name])

    @cached_property
    def inner(self) -> frozenset[Hashable]:
        """Layers with couplings between their units, which are sampled one at a time."""
        return frozenset(c.first for c in self.couplings if c.is_within)

    @cached_property
    def _pulls(self) -> dict[Hashable, list[tuple[Hashable, Tensor]]]:
        neighbours: dict[Hashable, list[tuple[Hashable, Tensor]]] = {n: [] for n in self.names}
        for c in self.couplings:
            neighbours[c.first].append((c.second, c.matrix.T))
            if not c.is_within:
                neighbours[c.second].append((c.first, c.matrix))
        return neighbours

    def joined(self, first: Hashable, second: Hashable) -> bool:
        """Whether two layers are coupled."""
        return self.between(first, second) is not None

    def between(self, first: Hashable, second: Hashable) -> Tensor | None:
        """Return the matrix ``(m d, n e)`` of two layers, or of one with itself; None if none."""
        return next((w for other, w in self._pulls.get(second, ()) if other == first), None)

    def joint_matrix(self) -> Tensor:
        """Return the couplings of the concatenated features of all layers; zero if not coupled."""
        blocks = []
        for a in self.names:
            row = [self.between(a, b) for b in self.names]
            empty = [self.like.new_zeros(self.size(a), self.size(b)) for b in self.names]
            blocks.append(torch.cat([z if w is None else w
                                     for w, z in zip(row, empty, strict=True)], dim=1))  # fmt: skip
        return torch.cat(blocks)

    def are_independent(self, names: Iterable[Hashable]) -> bool:
        """Whether all units of some layers are independent once all others are known."""
        chosen = list(names)
        return not any(self.joined(a, b) for a in chosen for b in chosen)

    def field(self, name: Hashable, state: Mapping[Hashable, Tensor]) -> Tensor:
        """Return the field ``(N, n d)`` of a layer, including that of its own units."""
        total = self.biases[name]
        for other, matrix in self._pulls[name]:
            features = self.kinds[other].features(state[other])
            total = torch.addmm(total, features, matrix)
        return total if total.dim() > 1 else total.expand(_rows(state), -1)

    def mean(self, name: Hashable, state: Mapping[Hashable, Tensor]) -> Tensor:
        """Return the expected values of a layer given the others."""
        return self.kinds[name].mean(self.field(name, state))

    def log_score(self, state: Mapping[Hashable, Tensor]) -> Tensor:
        """Return ``(N,)`` values of the log score above."""
        total: Tensor = self.log_constant.expand(_rows(state))
        features = {n: self.kinds[n].features(x) for n, x in state.items()}
        for name in self.names:
            total = total + features[name] @ self.biases[name] + self.kinds[name].base(state[name])
        for c in self.couplings:
            pulled = ((features[c.first] @ c.matrix) * features[c.second]).sum(-1)
            total = total + (0.5 * pulled if c.is_within else pulled)
        return total

    def log_sum(self, state: Mapping[Hashable, Tensor], summed: Collection[Hashable]) -> Tensor:
        """Return ``(N,)`` logs of the score summed over layers that are independent.

        Args:
            state: Values of all other layers.
            summed: Names of layers that are not coupled to each other.
        """
        known = {n: state[n] for n in self.names if n not in summed}
        total = self.without(summed).log_score(known)
        for name in summed:
            total = total + self.kinds[name].log_normaliser(self.field(name, known))
        return total

    def without(self, names: Collection[Hashable]) -> UnitLayers:
        """Return the same without some layers."""
        return UnitLayers(
            {n: v for n, v in self.variables.items() if n not in names},
            {n: k for n, k in self.kinds.items() if n not in names},
            {n: b for n, b in self.biases.items() if n not in names},
            [c for c in self.couplings if c.first not in names and c.second not in names],
            self.log_constant,
        )

    def scaled(self, beta: float, base: Mapping[Hashable, Tensor] | None = None) -> UnitLayers:
        """Return the same with all couplings weaker, and biases between others and its own.

        Args:
            beta: From 0, no couplings and the biases ``base``, to 1.
            base: Biases at 0; the model's own if not given.
        """
        biases = self.biases
        if base is not None:
            biases = {n: (1 - beta) * base[n] + beta * b for n, b in self.biases.items()}
        weaker = [UnitCoupling(c.first, c.second, beta * c.matrix) for c in self.couplings]
        return UnitLayers(self.variables, self.kinds, biases, weaker, self.log_constant)

    def start(self, rows: int, rng: torch.Generator | None) -> State:
        """Return values drawn from the biases alone."""
        return {
            n: self.kinds[n].draw(self.biases[n].expand(rows, -1).contiguous(), rng)
            for n in self.names
        }

    def draw(self, name: Hashable, state: Mapping[Hashable, Tensor],
             rng: torch.Generator | None) -> Tensor:  # fmt: skip
        """Return new values of a layer given all others; unit by unit if they are coupled."""
        if name not in self.inner:
            return self.kinds[name].draw(self.field(name, state), rng)
        return self._one_by_one(name, state, rng)

    def sweep(self, state: State, rng: torch.Generator | None,
              order: Iterable[Hashable] | None = None) -> None:  # fmt: skip
        """Draw new states of layers in turn, in place.

        Args:
            state: Values of all layers.
            rng: Random generator of the draws.
            order: Names of those that move; all if not given.
        """
        for name in self.names if order is None else order:
            state[name] = self.draw(name, state, rng)

    def mean_field(self, state: Mapping[Hashable, Tensor], free: Sequence[Hashable], *,
                   steps: int, tolerance: float) -> tuple[State, float]:  # fmt: skip
        """Return means of free layers at a fixed point, each given the means of the others.

        Args:
            state: Values of the other layers, and initial values of free ones where they are given.
            free: Names of the free layers.
            steps: Most rounds.
            tolerance: Largest change of the last round, if it is to end before.

        Returns:
            Values and means of all layers, and the largest change of the last round.
        """
        q = dict(state)
        rows = _rows(q)
        for name in free:
            if name not in q:
                q[name] = self.kinds[name].mean(self.biases[name]).expand(rows, -1)
        change = 0.0
        for _ in range(steps):
            change = 0.0
            for name in free:
                field = self.field(name, q)
                new = self.kinds[name].mean(field)
                if name in self.inner:  # damped: units of one layer move at once
                    new = 0.5 * (new + q[name])
                change = max(change, float((new - q[name]).abs().max()) if new.numel() else 0.0)
                q[name] = new
            if change <= tolerance:
                break
        return q, change

    def _one_by_one(
        self, name: Hashable, state: Mapping[Hashable, Tensor], rng: torch.Generator | None
    ) -> Tensor:
        kind, values = self.kinds[name], state[name].clone()
        within = next(c.matrix for c in self.couplings if c.is_within and c.first == name)
        field = self.field(name, state).clone()
        for k in range(0, values.shape[1], kind.size):
            unit = slice(k, k + kind.size)
            new = kind.draw(field[:, unit], rng)
            field.addmm_(new - values[:, unit], within[unit])
            values[:, unit] = new
        return values


def two_sides(layers: UnitLayers, first: Sequence[Hashable]) -> tuple[list[Hashable], ...]:
    """Return a bipartition of the layers; all layers on one side if there is none.

    Args:
        layers: The coupled layers.
        first: Names of layers that are put on the first side if possible.
    """
    if layers.inner:
        return (list(layers.names),)
    side: dict[Hashable, int] = {}
    for root in [*first, *layers.names]:
        if root in side:
            continue
        side[root] = 0
        queue = [root]
        while queue:
            name = queue.pop()
            for other in layers.names:
                if not layers.joined(name, other):
                    continue
                if other not in side:
                    side[other] = 1 - side[name]
                    queue.append(other)
                elif side[other] == side[name]:
                    return (list(layers.names),)
    return [n for n in layers.names if side[n] == 0], [n for n in layers.names if side[n] == 1]


class UnitModel(ABC):
    """A field that consists of layers of units with biases and couplings."""

    @abstractmethod
    def layers(self) -> UnitLayers:
        """Return the layers with the current parameters, in log units."""

    @property
    @abstractmethod
    def visible(self) -> tuple[Hashable, ...]:
        """Names of the observed layers."""

    @abstractmethod
    def set_gradients(
        self, biases: Mapping[Hashable, Tensor], couplings: Sequence[Tensor | None]
    ) -> None:
        """Store the gradient of the loss, given that by the arrays of :meth:`layers`, in ``.grad``.

        Args:
            biases: By name of the layer.
            couplings: In their order; None of one that has none.
        """

    @abstractmethod
    def begin_learning(self, means: Mapping[Hashable, Tensor], rng: torch.Generator) -> None:
        """Initialize the parameters that have not been set.

        Args:
            means: Average values ``(n d,)`` of each visible layer.
            rng: Random generator of small random couplings.
        """


def _rows(state: Mapping[Hashable, Tensor]) -> int:
    return next((len(x) for x in state.values()), 1)
