"""Exact answers about dynamic Bayesian networks, by the chain of their interfaces."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.evidence.sequences import Sequences
from pgnn.factors.logspace import logsumexp
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples
from pgnn.inference.time.interface_chain import InterfaceChain, draw_slices, traced
from pgnn.inference.time.sequence_engine import SequenceEngine, over_time
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.slice_elimination import best_state
from pgnn.inference.time.slice_tables import LeafSliceTables, SliceTables


@dataclass(frozen=True)
class InterfaceAlgorithm(SequenceEngine):
    r"""Exact inference in networks over time, :math:`O(T K^2)` for each row.

    :math:`K` is the product of the states of the interface, the variables on which the next slice
    depends; the rest of a slice is eliminated in it. Marginals are gradients of the log evidence.

    References:
        Murphy (2002), Dynamic Bayesian networks: representation, inference and learning,
        section 3.2.4.
    """

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Marginals given all evidence; see the base class."""
        probes = _probes(question.seen, question.asked)
        with torch.enable_grad():
            log_z = _chain(question, probes).chain.log_partition()
        marginals = _gradients(log_z, probes, question.wants_gradients)
        log_z = log_z if question.wants_gradients else log_z.detach()
        question.check_possible(log_z)
        return question.posterior(marginals, log_z)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Marginals of each step given the evidence so far; see the base class."""
        inner = [v for v in question.asked if v.name not in question.model.interface]
        probes = _probes(question.seen, inner)
        with torch.enable_grad():
            interface = _chain(question, probes)
        with torch.no_grad():
            log_z = interface.chain.log_partition()
            question.check_possible(log_z)
            states, increments = interface.chain.filtered()
        inside = probes
        if inner and question.seen.steps:
            with torch.enable_grad():
                gained = _increments(interface, states)
            inside = dict(zip(probes, _gradients(gained, probes, False), strict=True))
        marginals = [
            inside[n] if n in inside else interface.marginal(n, states)
            for n in question.asked_names
        ]
        return question.filtered(marginals, log_z, increments)

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """The most probable states; see the base class."""
        seen, names = question.seen, question.asked_names
        for name in question.model.interface:
            if name not in names and not _known(name, seen):
                raise Unsupported(
                    f"{name!r} would have to be summed out along the chain: name an engine for "
                    "such marginal MAP questions, or maximise over it too"
                )
        tables = SliceTables(question.model, seen, question.covariates, wanted=frozenset(names))
        joined = [n for n in names if not _known(n, seen)] if k > 1 else []
        interface = InterfaceChain.of(tables, best=names, joined=joined)
        paths, scores = interface.chain.best(k)
        if k == 1:
            paths, scores = paths[:, None], scores[:, None]
        question.check_possible(scores[:, 0])
        flat = []
        for r in range(k):
            states = interface.split(paths[:, r])
            states |= traced(interface, states, best_state)
            own = [states.get(n, paths[:, r]).masked_fill(paths[:, r] < 0, MISSING) for n in names]
            flat.append(torch.cat(own, dim=1))
        return question.assignment(flat, scores)

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Draws of all variables; see the base class."""
        with torch.no_grad():
            tables = SliceTables(question.model, question.seen, question.covariates)
            interface = InterfaceChain.of(tables)
            question.check_possible(interface.chain.log_partition())
            drawn = draw_slices(tables, interface, n, seed)
        return question.samples(drawn, n)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Log probabilities of the evidence; see the base class."""
        return _chain(question, {}).chain.log_partition()

    def describe(self, question: Question) -> Explanation:
        """See :meth:`Model.explain`."""
        own = over_time(question)
        seen, model = own.seen, own.model
        cells = seen.num_rows * seen.steps
        states = [model.conditionals[n].child.num_states for n in model.interface]
        k = math.prod(states)
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason=f"{len(states)} variables tie the slices, {k:,} joint states in a chain",
            num_variables=cells * len(model.variables),
            num_eliminated=cells * len(model.variables),
            memory_bytes=8.0 * (cells * k + k * k),
            num_factors=cells * len(model.variables),
            treewidth=2 * len(states) - 1 if states else 0,
            largest_table=k * k,
            multiply_adds=2 * cells * k * k,
        )


def _chain(question: SequenceQuestion, probes: Mapping[Hashable, Tensor]) -> InterfaceChain:
    """The chain with what was seen of leaves put in at once; ``probes`` find marginals."""
    model, seen = question.model, question.seen
    return InterfaceChain.of(LeafSliceTables(model, seen, question.covariates, probes))


def _known(name: Hashable, seen: Sequences) -> bool:
    """Whether a variable was seen at every step."""
    return name in seen.codes and bool(((seen.codes[name] >= 0) | ~seen.inside).all())


def _probes(seen: Sequences, asked: Sequence[Variable]) -> dict[Hashable, Tensor]:
    shape = (seen.num_rows, seen.steps)
    return {
        v.name: torch.zeros(*shape, v.num_states, dtype=torch.float64, requires_grad=True)
        for v in asked
    }


def _gradients(total: Tensor, probes: Mapping[Hashable, Tensor], again: bool) -> list[Tensor]:
    """Gradients of a sum by each probe: the marginals."""
    if not probes:
        return []
    with torch.enable_grad():
        possible = total.masked_fill(total.isneginf(), 0.0).sum()
    leaves = [*probes.values()]
    gradients = torch.autograd.grad(possible, leaves, create_graph=again, allow_unused=True)
    pairs = zip(gradients, probes.values(), strict=True)
    return [torch.zeros_like(p) if x is None else x for x, p in pairs]


def _increments(interface: InterfaceChain, states: Tensor) -> Tensor:
    """Logs of p(e_t | e_1..t-1) whose gradients by the probes of step t are what is known then."""
    tensors = interface.chain.tensors
    field, k = tensors.field, states.shape[2]
    zero = states.nan_to_num() <= 0
    before = states.nan_to_num().masked_fill(zero, 1.0).log().masked_fill(zero, -torch.inf)
    ahead = before[:, :-1, :, None] + tensors.transition + field[:, 1:, None, :]
    first = tensors.initial.expand(len(field), k) + field[:, 0]
    totals = [logsumexp(first, [1])[:, None], logsumexp(ahead, [2, 3])]
    return torch.cat(totals, dim=1).masked_fill(~tensors.within, 0.0)
