"""Expectations of a slice whose interface has too many states to be a chain."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import Intractable
from pgnn.evidence.sequences import Sequences
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Weighted
from pgnn.inference.learning.recorded_tables import Record, Recorded, Recorder
from pgnn.inference.learning.slice_e_step import SliceEStep
from pgnn.inference.learning.training_data import check_possible
from pgnn.inference.time.unrolling import Unrolling


class UnrolledEStep(SliceEStep):
    """Expectations under a dynamic Bayesian network, by a junction tree of the unrolled one.

    Sequences of one length are asked together. Other than in :class:`SliceEStep` a leaf that was
    not seen at a step counts there what is expected of it.

    Args:
        model: A dynamic Bayesian network.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._networks: dict[int, _Recorded] = {}

    def expect(self, seen: Sequences) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`."""
        sums: dict[Hashable, Statistics] = {}
        rows: dict[Hashable, list[Weighted]] = {}
        asked, log_z = [], torch.zeros(seen.num_rows, dtype=torch.float64)
        with torch.enable_grad():
            for which, part in _by_length(seen):
                network = self._network(part.steps)
                network.recorder.records.clear()
                found = network.log_prob(part).double()
                log_z[which] = found.detach()
                asked.append((network, part.weighted_sum(found)))
        check_possible(seen, log_z)
        for network, total in asked:
            by_place, _ = network.recorder.slopes(total)
            for cell, own in by_place.items():
                for record, slope in own:
                    _file(network.places[cell], cell, record, slope, sums, rows)
        joined = {place: Weighted.joined(parts) for place, parts in rows.items()}
        value = float(seen.weighted_sum(log_z))
        return ExpectedStatistics(value, float(seen.row_weights.sum()), sums, joined)

    def log_partition(self, seen: Sequences) -> Tensor:
        """Return ``(B,)`` log probabilities of what was seen."""
        found = torch.zeros(seen.num_rows, dtype=torch.float64)
        with torch.no_grad():
            for which, part in _by_length(seen):
                found[which] = self._network(part.steps).log_prob(part).to(found)
        return found

    def _network(self, steps: int) -> _Recorded:
        """The network of so many steps, made once: its plans are kept."""
        if steps not in self._networks:
            self._networks[steps] = _Recorded(self, steps)
        return self._networks[steps]


class _Recorded:
    """A model over time whose unrolled network is recorded."""

    def __init__(self, owner: UnrolledEStep, steps: int) -> None:
        self._model = owner.model
        plain, places = self._model.unroll(steps), owner.places
        own = {id(c): place for place, c in places.items()}
        every = plain.conditionals.items()
        self.places = {n: own[id(c.conditional)] for n, c in every if id(c.conditional) in own}
        self.recorder = Recorder({n: c for n, c in every if n in self.places})
        made = {n: Recorded(c, self.recorder) for n, c in every}
        self._network = type(plain)(plain.graph, made)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def unroll(self, steps: int) -> Any:
        """Return the network."""
        return self._network

    def log_prob(self, seen: Sequences) -> Tensor:
        """Return ``(B,)`` log probabilities, whose slopes are the expected counts."""
        try:
            found = Unrolling(JunctionTree()).log_prob(self, seen, inputs=seen.inputs)
        except Intractable as error:
            raise Intractable(
                f"EM needs exact answers about the unrolled network, and {error}; or learn with "
                "Gradient(engine=...)"
            ) from None
        return found.reshape(-1)


def _by_length(seen: Sequences) -> list[tuple[Tensor, Sequences]]:
    """Which sequences have the same length, and these; empty ones are left out."""
    lengths = seen.lengths
    every = [(lengths == n).nonzero()[:, 0] for n in sorted(set(lengths.tolist()) - {0})]
    return [(which, seen.take(which)) for which in every]


def _file(
    place: Hashable,
    cell: Any,
    record: Record,
    slope: Tensor,
    sums: dict[Hashable, Statistics],
    rows: dict[Hashable, list[Weighted]],
) -> None:
    """Add what a table of one step counts to its place."""
    found = record.summed(slope)
    if found is not None:
        before = sums.get(place)
        pairs = zip(before, found, strict=True) if before is not None else None
        sums[place] = tuple(a + b for a, b in pairs) if pairs is not None else found
        return
    weighted, step = record.weighted(slope), cell[1]
    values = {n if t == step else (n, -1): x for (n, t), x in _cells(weighted.values)}
    inputs = {n: x for (n, _), x in _cells(weighted.inputs)}
    rows.setdefault(place, []).append(Weighted(values, inputs, weighted.weights))


def _cells(values: Any) -> Any:
    return values.items()
