"""Exact inference in chains of states: filtering, smoothing, decoding and sampling."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import ChainModel, EmittingModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.logspace import logsumexp
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.labelled_chain import LabelledChain
from pgnn.inference.chains.segment_chain import SegmentChain
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.emission_chain import draw_emissions, emission_tables
from pgnn.inference.time.sequence_engine import SequenceEngine, divided
from pgnn.inference.time.sequence_question import SequenceQuestion


@dataclass(frozen=True)
class ForwardBackward(SequenceEngine):
    """Exact inference in chains, :math:`O(T K^2)` for each row.

    Unobserved states are summed out, maximised or drawn by :class:`Chain`; unobserved emissions
    depend on the state alone.

    References:
        Rabiner (1989), A tutorial on hidden Markov models, section III.
    """

    answers_about = ChainModel
    subject = "chains of labels, such as hidden Markov models"

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals given all evidence; see the base class."""
        states, log_z = _chain(question).smoothed()
        self.check_possible(question, log_z)
        return question.posterior([_marginal(question, v, states) for v in question.queried], log_z)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals of each step given the evidence so far; see the base class."""
        state = question.model.state
        if question.names is not None and any(n != state.name for n in question.queried_names):
            raise Unsupported(
                f"filter() answers about {state.name!r}", "name an engine for other variables"
            )
        chain = _chain(question)
        log_z = chain.log_partition()
        self.check_possible(question, log_z)
        states, increments = chain.filtered()
        return question.about([state]).filtered([states], log_z, increments)

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Return the most probable states; see the base class."""
        _check_maximized(question, k)
        chain = _chain(question, best=len(question.queried) > 1)
        states, scores = chain.best(k)
        if k == 1:
            states, scores = states[:, None], scores[:, None]
        self.check_possible(question, scores[:, 0])
        flat = []
        for r in range(k):
            parts = [_best_states(question, v, states[:, r]) for v in question.queried]
            flat.append(torch.cat([x.flatten(start_dim=1) for x in parts], dim=1))
        return question.assignment(flat, scores)

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Return draws of all variables; see the base class."""
        chain = _chain(question)
        self.check_possible(question, chain.log_partition())
        states = chain.sample(n, seed)
        drawn = {question.model.state.name: states}
        if isinstance(question.model, EmittingModel):
            drawn = draw_emissions(question.model, states, question.observed, question.inputs, seed)
        return question.samples(drawn, n)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return log probabilities of the evidence; see the base class."""
        return _chain(question).log_partition()

    def answer_log_prob(self, question: SequenceQuestion) -> Tensor:
        """See the base class; known states of an undirected chain are looked up."""
        model, observed = question.model, question.observed
        if model.is_normalized or not observed.is_known(model.state.name):
            return super().answer_log_prob(question)
        unobserved = SequenceEvidence(observed.lengths, observed.steps, batched=observed.batched)
        chain: Chain | LabelledChain | SegmentChain = model.chain(unobserved, question.inputs)
        if isinstance(chain, SegmentChain):
            return super().answer_log_prob(question)
        return divided(chain.log_score(observed.codes[model.state.name]), chain.log_partition())

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        observed, model = question.observed, question.model
        cells, k = observed.num_rows * observed.steps, model.state.num_states
        chain = "a chain" if model.chain_order == 1 else f"a chain of order {model.chain_order}"
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason=f"states form {chain}: forward and backward over the steps",
            num_variables=cells * len(model.variables),
            num_eliminated=cells,
            num_sliced=sum(int((c >= 0).sum()) for c in observed.codes.values()),
            memory_bytes=8 * cells * k,
            num_factors=cells * len(model.variables),
            treewidth=model.chain_order,
            multiply_adds=2 * cells * model.num_transitions,
        )


def _chain(
    question: SequenceQuestion, *, best: bool = False
) -> Chain | LabelledChain | SegmentChain:
    chain: Chain | LabelledChain | SegmentChain = question.model.chain(
        question.observed, question.inputs, best=best
    )
    return chain


def _marginal(question: SequenceQuestion, variable: Variable, states: Tensor) -> Tensor:
    """Return ``(B, T, S)`` marginals of one variable, given those of the chain's states."""
    if variable.name == question.model.state.name:
        return states
    codes = question.observed.codes.get(variable.name)
    known = None if codes is None else one_hot(codes.clamp_min(0), variable.num_states).to(states)
    if known is not None and question.observed.is_known(variable.name):
        return known
    tables = _tables(question, variable.name)
    if variable.name in question.observed.soft:
        total = logsumexp(tables, [-1], keepdim=True)
        tables = tables - total.masked_fill(total.isneginf(), 0.0)
    marginal = (states.unsqueeze(-1) * tables.exp()).sum(dim=2)
    if codes is not None and known is not None:
        marginal = torch.where((codes >= 0).unsqueeze(-1), known.to(marginal), marginal)
    return marginal


def _best_states(question: SequenceQuestion, variable: Variable, states: Tensor) -> Tensor:
    """Return ``(B, T)`` best states of one variable, given those of the chain."""
    if variable.name == question.model.state.name:
        return states
    codes = question.observed.codes.get(variable.name)
    if codes is not None and question.observed.is_known(variable.name):
        return codes.masked_fill(states < 0, MISSING)
    best = _tables(question, variable.name).argmax(-1).expand(*states.shape, -1)
    emitted = best.gather(2, states.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    if codes is not None:
        emitted = torch.where(codes >= 0, codes, emitted)
    return emitted.masked_fill(states < 0, MISSING)


def _tables(question: SequenceQuestion, name: Hashable) -> Tensor:
    """Return log tables of an emission given the states, with its likelihoods."""
    tables = emission_tables(question.model, name, question.observed, question.inputs)
    if name in question.observed.soft:
        tables = tables + question.observed.soft[name].to(tables).log()[:, :, None]
    return tables


def _check_maximized(question: SequenceQuestion, k: int) -> None:
    """Raise an error if some variables are maximised and others summed out.

    The k best paths of states determine those of all variables if emissions are known.
    """
    state, names = question.model.state.name, set(question.queried_names)
    everything = {v.name for v in question.model.variables.values() if v.is_discrete}
    if names not in (everything, {state}):
        raise Unsupported(
            f"targets must be {state!r}, with the unobserved rest summed out, or all discrete "
            "variables",
            "name an engine for other marginal MAP questions",
        )
    for name in question.queried_names if k > 1 else ():
        if name != state and not question.observed.is_known(name):
            raise Unsupported(
                f"{name!r} was not observed everywhere: decode(k={k}) ranks paths of the states "
                "alone",
                "or name an engine, such as JunctionTree()",
            )
