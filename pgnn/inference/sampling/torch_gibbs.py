"""Gibbs chains by torch: all elements of one colour at once, in all chains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from pgnn.abilities import DirectedModel
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.graphs.colouring import greedy_colouring
from pgnn.graphs.interaction import interaction_graph
from pgnn.inference.ancestral_draws import weighted_states
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.numba_support import has_numba
from pgnn.inference.question import Question
from pgnn.inference.sampling.compilation import KERNELS
from pgnn.inference.sampling.cpu_gibbs import TemperedTables

Ints = NDArray[np.int64]

_PENALTIES = (2.0, 4.0, 8.0, 16.0, 32.0)
_ROUNDS = 20
_SETTLING = 10


@dataclass(frozen=True)
class GroupConditional:
    """Factors of one group, as functions of the element on one axis of their scopes.

    Attributes:
        group: The factors.
        axis: The axis.
        place: ``(F,)`` rows of the result to which they are added.
    """

    group: FactorGroup
    axis: int
    place: Tensor

    def log_values(self, states: Tensor, rows: Tensor) -> Tensor:
        """``(N, F, K)`` log values at the ``(N, E)`` states of the others."""
        scopes = torch.from_numpy(self.group.scopes).to(states.device)
        return self.group.conditionals(states[:, scopes], self.axis, rows)


@dataclass(frozen=True)
class Colour:
    """Elements without common factors.

    Attributes:
        elements: ``(n,)`` indices of the elements.
        columns: ``(n, K)`` columns of their states, padded with ``S`` for elements with fewer
            states.
        parts: Their factors.
    """

    elements: Tensor
    columns: Tensor
    parts: tuple[GroupConditional, ...]


class TorchChains:
    """``C`` chains for each of some rows of evidence, on the device of the tables.

    Args:
        tables: Rows, temperatures and tables.
        seeds: ``(rows * C,)`` integers; the first one seeds the generator that the chains share.

    Attributes:
        states: ``(rows * C, E)`` current states.
    """

    def __init__(self, tables: TemperedTables, seeds: NDArray[np.uint64]) -> None:
        graph, chains = tables.question.graph, len(tables.temperatures)
        self._tables, self._graph, self._seeds, self._num_chains = tables, graph, seeds, chains
        device = self._device = graph.device
        self._generator = torch.Generator(device)
        self._generator.manual_seed(int(seeds[0] >> np.uint64(1)) if len(seeds) else 0)
        codes = tables.question.observed.codes[slice(*tables.rows)]
        repeated = torch.from_numpy(np.repeat(codes, chains, axis=0).astype(np.int64))
        self.states = repeated.clamp(min=0).to(device)
        self._free = (repeated < 0).to(device)
        self._rows = torch.arange(*tables.rows, device=device).repeat_interleave(chains)
        heat = torch.tensor(tables.temperatures * tables.num_rows, dtype=graph.dtype)
        self._heat = heat.to(device)[:, None, None]
        field = tables.question.graph.log_field.detach()
        if tables.question.observed.soft is not None:
            field = field + torch.from_numpy(tables.question.observed.soft).to(field).log()
        wide = pad(field, (0, 1), value=-math.inf)
        self._field = wide[self._rows] if len(wide) > 1 else wide.expand(len(self._rows), -1)
        self._colours = self._coloured(np.asarray((codes < 0).any(axis=0)))

    def start(self) -> Ints:
        """Find states of positive probability.

        By the compiled search on the CPU; without numba, or if factors have no tables, by sweeps
        with increasing penalties.

        Returns:
            ``(rows,)`` 0 if all chains have one, 1 if the search was stopped, 2 if there is none.
        """
        question = self._tables.question
        if not question.graph.written_down:
            self._begin_at_draws(question)
        elif has_numba():
            from pgnn.inference.sampling.cpu_gibbs import CpuChains

            plain = CpuChains(self._tables, self._seeds, 0)
            outcome = plain.start()
            self.states = torch.from_numpy(plain.states.astype(np.int64)).to(self._device)
            return outcome
        for _ in range(_ROUNDS):
            for penalty in (0.0, *_PENALTIES):
                for _ in range(_SETTLING):
                    self._sweep(None, penalty)
                if bool(self._possible().all()):
                    return np.zeros(self._tables.num_rows, dtype=np.int64)
        lost = ~self._possible().reshape(-1, self._num_chains).all(dim=1)
        return lost.long().cpu().numpy()

    def run(self, sweeps: int) -> None:
        """Run sweeps without recording."""
        for _ in range(sweeps):
            self._sweep(None)

    def collect(self, kept: int, thin: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Run sweeps; return ``(rows * C, S)`` sums of full conditionals and of their squares."""
        shape = (2, *self._field.shape)
        sums = torch.zeros(shape, dtype=torch.float64, device=self._device)
        for _ in range(kept):
            self.run(thin - 1)
            self._sweep(sums)
        totals = sums[..., :-1].cpu().numpy()
        return totals[0], totals[1]

    def trace(self, kept: int, thin: int) -> Ints:
        """Run sweeps, and return ``(kept, rows * C, E)`` states."""
        out = torch.zeros((kept, *self.states.shape), dtype=torch.int64)
        for t in range(kept):
            self.run(thin)
            out[t] = self.states.cpu()
        return out.numpy()

    def conditionals(self) -> NDArray[np.float64]:
        """Return ``(rows * C, S)`` full conditionals of all free elements at the current states."""
        out = torch.zeros(self._field.shape, dtype=torch.float64, device=self._device)
        for colour in self._colours:
            out[:, colour.columns] = self._conditional(colour).double()
        return out[:, :-1].cpu().numpy()

    # --- helpers ------------------------------------------------------------------------------

    def _begin_at_draws(self, question: Question) -> None:
        """Start from ancestral samples of the unobserved elements of a directed model."""
        if not isinstance(question.model, DirectedModel):
            return
        first = self._tables.rows[0]
        for k, words in enumerate(self._seeds.reshape(-1, self._num_chains)):
            drawn, _ = weighted_states(question, first + k, self._num_chains, int(words[0]) % 2**31)
            rows = slice(k * self._num_chains, (k + 1) * self._num_chains)
            self.states[rows] = drawn.to(self._device)

    def _sweep(self, sums: Tensor | None, penalty: float = math.inf) -> None:
        """Update all elements, colour by colour."""
        for colour in self._colours:
            probs = self._conditional(colour, penalty)
            race = torch.empty_like(probs).exponential_(generator=self._generator)
            # argmax of p / Exp(1) is a sample from p, and never a state of probability zero
            drawn = (probs / race).argmax(dim=-1)
            now = self.states[:, colour.elements]
            moves = self._free[:, colour.elements] & (probs.sum(dim=-1) > 0)
            self.states[:, colour.elements] = torch.where(moves, drawn, now)
            if sums is not None:
                wide = probs.double()
                sums[:, :, colour.columns] += torch.stack([wide, wide.square()])

    def _conditional(self, colour: Colour, penalty: float = math.inf) -> Tensor:
        """``(N, n, K)`` full conditionals; zeros where no state is possible."""
        logits = self._field[:, colour.columns]
        for part in colour.parts:
            values = part.log_values(self.states, self._rows)
            values = values.masked_fill(values.isneginf(), -penalty)
            values = pad(values, (0, logits.shape[-1] - values.shape[-1]))
            logits = logits.index_add(1, part.place, values.to(logits.dtype))
        top = logits.amax(dim=-1, keepdim=True)
        weights = ((logits - top.masked_fill(top.isneginf(), 0.0)) / self._heat).exp()
        return weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-30)

    def _possible(self) -> Tensor:
        """``(N,)`` whether the state of a chain has positive probability."""
        first = torch.from_numpy(self._graph.elements.offset[:-1]).to(self._device)
        good = ~self._field.gather(1, first + self.states).isneginf().any(dim=1)
        for g in self._graph.interactions:
            scopes = torch.from_numpy(g.scopes).to(self._device)
            values = g.look_up(self.states[:, scopes], self._rows)
            good &= ~values.isneginf().any(dim=1)
        return good

    def _coloured(self, wanted: NDArray[np.bool_]) -> tuple[Colour, ...]:
        colours = np.where(wanted, colours_of(self._graph), -1)
        coloured = []
        for c in range(int(colours.max(initial=-1)) + 1):
            members = np.flatnonzero(colours == c)
            if len(members):
                coloured.append(self._colour(members))
        return tuple(coloured)

    def _colour(self, members: Ints) -> Colour:
        elements, device = self._graph.elements, self._device
        place = np.full(len(elements), -1, dtype=np.int64)
        place[members] = np.arange(len(members))
        states = np.arange(elements.card[members].max())
        columns = elements.offset[members, None] + states
        columns[states >= elements.card[members, None]] = elements.offset[-1]
        parts = []
        for g in self._graph.interactions:
            g = g.for_kernels() if g.written_down else g
            fixed = g.prepared()
            for axis in range(g.arity):
                at = place[g.scopes[:, axis]]
                which = np.flatnonzero(at >= 0)
                if len(which):
                    group = fixed.select(torch.from_numpy(which))
                    parts.append(
                        GroupConditional(group, axis, torch.from_numpy(at[which]).to(device))
                    )
        return Colour(
            torch.from_numpy(members).to(device), torch.from_numpy(columns).to(device), tuple(parts)
        )


def colours_of(graph: FactorGraph) -> Ints:
    """``(E,)`` colours of the elements; compiled if possible."""
    if has_numba() and graph.written_down:
        from pgnn.inference.sampling.kernels.gibbs import colour

        colours = np.empty(len(graph.elements), dtype=np.int64)
        run = KERNELS.choose(colour, 100.0 * len(graph.wiring.slot_var))
        run(graph.wiring, colours)
        return colours
    scopes = (scope for g in graph.interactions for scope in g.scopes.tolist())
    by_element = greedy_colouring(interaction_graph(scopes, range(len(graph.elements))))
    return np.array([by_element[e] for e in range(len(graph.elements))], dtype=np.int64)
