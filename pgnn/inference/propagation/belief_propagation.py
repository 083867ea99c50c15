"""Belief propagation: marginals, log Z and most probable states of any discrete graph."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.inference.assignment import Assignment
from pgnn.inference.beliefs import Beliefs, Best
from pgnn.inference.engine import Engine
from pgnn.inference.exact.marginal_map import MarginalSearch
from pgnn.inference.expansion import DECOMPOSED, WRITTEN
from pgnn.inference.explanation import Explanation
from pgnn.inference.local_search import polish, unsettled
from pgnn.inference.posterior import Posterior
from pgnn.inference.propagation.cpu_propagation import Control
from pgnn.inference.propagation.propagation_plan import PropagationPlan
from pgnn.inference.propagation.propagator import ROOM, Messages, Outcome, Propagator, best_states
from pgnn.inference.propagation.schedules import Schedule, Sequential
from pgnn.inference.question import Question
from pgnn.limits import NOT_NEGATIVE, Interval, check_settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_ORDERS = 8  # orders in which loopy messages are decoded
_ADVICE = "raise max_iterations or damping, or use tree_reweighted=True, MeanField() or Gibbs()"
_OTHERS = "raise max_iterations or damping, or use DualDecomposition() or Annealing()"


@dataclass(frozen=True)
class BeliefPropagation(Engine):
    r"""Messages between factors and elements until they converge: sum- or max-product.

    .. math::
        m_{f \to i}(x_i) \propto \sum_{x_f \setminus x_i} \phi_f(x_f)^{1 / (\rho_f T)}
            \prod_{j \in f \setminus i} \frac{b_j(x_j)}{m_{f \to j}(x_j)}, \qquad
        b_i \propto \phi_i^{1/T} \prod_{f \ni i} m_{f \to i}^{\rho_f}

    On trees (also if observations cut all loops) the answer is exact after two iterations. With
    loops it is an approximation, often a good one; ``log_evidence`` is then the Bethe estimate.
    With ``tree_reweighted=True`` the powers :math:`\rho_f` are the shares of random spanning
    forests that contain the factor, and ``log_evidence`` is an upper bound, whether or not the
    messages have converged; the marginals are usually less extreme.

    Most probable states come from max-product: messages are decoded one element after another, in
    several orders where there are loops, and polished by exact local search. Reweighted messages
    bound the score of the best assignment. Where only some variables are maximised, candidates are
    improved by local search with the others summed out: exactly, or by propagation where that is
    too expensive.

    Answers are differentiable with respect to tables and soft evidence, with the memory of one
    iteration: the log evidence is stationary in the messages, and marginals are differentiated by
    the implicit function theorem.

    Tables with entries more than a factor :math:`e^{200}` apart, and models on a GPU, use a
    flooding schedule in log space by torch, whatever ``schedule`` is.

    ``diagnostics`` hold ``"converged"``, ``"iterations"``, ``"residual"`` and ``"damping"`` of
    each row; ``"history"``, the largest residual in each iteration; ``"messages"``.

    Args:
        schedule: :class:`Flooding`, :class:`Sequential` or :class:`Residual`.
        damping: Weight of the old message in an update, in ``[0, 1)``.
        adaptive: Whether a row's damping grows while its residual does not fall.
        temperature: ``T`` of :math:`p^{1/T}`; at zero sums become maxima, beliefs are
            max-marginals, and the log evidence the score of the best assignment. Always zero for
            most probable states.
        tree_reweighted: Whether to use powers that give an upper bound.
        num_forests: Least number of spanning forests from which the powers are computed.
        max_iterations: Largest number of iterations.
        tolerance: A row has converged when no message changes by more (L1 distance).
        start: An earlier answer of this engine for the model, whose messages are the initial ones
            (warm start).
        seed: Random seed of the forests.
        progress: Whether to show a progress bar if it takes longer than a second.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        ``O(n K^n)`` per iteration for a factor over ``n`` elements, ``O(K)`` for a Potts factor.

    References:
        Pearl (1988), Probabilistic Reasoning in Intelligent Systems, chapter 4. Yedidia, Freeman
        and Weiss (2005), IEEE Transactions on Information Theory 51(7). Wainwright, Jaakkola and
        Willsky (2005), IEEE Transactions on Information Theory 51(7).

    Example:
        >>> import pgnn
        >>> ring = pgnn.MarkovRandomField.grid((2, 2), coupling=0.5, name="spin")
        >>> found = {
        ...     "exact": ring.query(),
        ...     "estimate": ring.query(engine=BeliefPropagation()),
        ...     "upper bound": ring.query(engine=BeliefPropagation(tree_reweighted=True)),
        ... }
        >>> for kind, answer in found.items():
        ...     print(f"{kind:<12} {float(answer.log_evidence):.3f}")
        exact        3.298
        estimate     3.253
        upper bound  3.395
    """

    schedule: Schedule = field(default_factory=Sequential)
    damping: float = 0.0
    adaptive: bool = True
    temperature: float = 1.0
    tree_reweighted: bool = False
    num_forests: int = 16
    max_iterations: int = 1000
    tolerance: float = 1e-6
    start: Posterior | Assignment | None = None
    seed: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ModelError(f"schedule must be one such as Sequential(), got {self.schedule!r}")
        check_settings(
            self,
            damping=Interval(0.0, 1.0, open_high=True),
            temperature=NOT_NEGATIVE,
            max_iterations=1,
            num_forests=1,
            tolerance=NOT_NEGATIVE,
        )
        answered = isinstance(self.start, Posterior | Assignment)
        if self.start is not None and not (answered and isinstance(self._start, Messages)):
            raise ModelError(
                "start must be an answer of BeliefPropagation() with stored messages (those of "
                "very many rows are not stored)"
            )

    @property
    def kind_of_evidence(self) -> str:
        """See :meth:`Engine.kind_of_evidence`; exact on trees."""
        return "upper bound" if self.tree_reweighted else "estimate"

    def reason(self) -> str:
        """See :meth:`Engine.reason`."""
        name = type(self.schedule).__name__.lower()
        if self.tree_reweighted:
            return f"tree-reweighted propagation, {name}; its log evidence is an upper bound"
        return f"loopy belief propagation, {name}; exact on trees"

    def infer(self, question: Question) -> Beliefs:
        """See :meth:`Engine.infer`."""
        columns, question = question.graph.offset[-1], question.expanded(self._max_table_entries)
        plan = self._plan(question, self.temperature)
        propagator = self._propagator(question, plan)
        outcome, history = propagator.run()
        beliefs, value = torch.from_numpy(outcome.beliefs), torch.from_numpy(outcome.log_value)
        if self.temperature > 0 and torch.is_grad_enabled() and _wants_gradients(question):
            beliefs, value = propagator.derive(outcome)
        value = value * (self.temperature or 1.0)
        exact = plan.forests is None and plan.acyclic and outcome.converged.all()
        kind = "exact" if exact else self.kind_of_evidence
        place = question.graph.device, question.graph.dtype
        diagnostics = _diagnostics(outcome, history)
        return Beliefs(
            beliefs[:, :columns].to(*place), value.to(*place), kind, diagnostics, _ADVICE
        )

    def maximize(self, question: Question, maximized: Mask) -> Best:
        """See :meth:`Engine.maximize`."""
        elements, question = (
            len(question.graph.elements),
            question.expanded(self._max_table_entries),
        )
        best = self._maximized(question, question.graph.mask(maximized))
        return replace(best, states=best.states[:, :elements])

    def _maximized(self, question: Question, maximized: Mask) -> Best:
        """Return the most probable states of all elements, including auxiliary ones."""
        log_field = question.log_field()
        free = unsettled(question.graph, log_field)
        if not (maximized | ~free.any(axis=0)).all():
            return self._marginal(question, maximized)
        plan = self._plan(question, 0.0)
        propagator = self._propagator(question, plan)
        outcome, history = propagator.run()
        states, values = self._decoded(question, propagator, outcome, free)
        bound = None
        if plan.forests is not None or plan.acyclic:
            upper = np.where(np.isnan(outcome.log_value), np.inf, outcome.log_value)
            bound = torch.from_numpy(np.maximum(upper, values)).to(question.graph.dtype)
        diagnostics = _diagnostics(outcome, history)
        return _best(question, states, values, ~np.isneginf(outcome.log_value), diagnostics, bound)

    def describe(self, question: Question) -> Explanation:
        """See :meth:`Engine.describe`."""
        return super().describe(question.expanded(self._max_table_entries))

    # --- helpers ------------------------------------------------------------------------------

    @property
    def _max_table_entries(self) -> int:
        """Entries of the largest table that is not decomposed; larger ones give tighter bounds."""
        return WRITTEN if self.tree_reweighted else DECOMPOSED

    @property
    def _start(self) -> Messages | None:
        return None if self.start is None else self.start.diagnostics.get("messages")

    def _decoded(
        self, question: Question, propagator: Propagator, outcome: Outcome, free: Mask
    ) -> tuple[Ints, Floats]:
        """Return the best of decodings in several orders, each polished by local search."""
        graph, log_field, starts = (
            question.graph,
            question.log_field(),
            [propagator.decode(outcome)],
        )
        if not propagator.plan.acyclic:
            rng = np.random.default_rng(self.seed)
            orders = [rng.permutation(len(graph.elements)) for _ in range(_ORDERS - 1)]
            starts += [propagator.decode(outcome, order) for order in orders]
        rows = np.tile(np.arange(len(log_field)), len(starts))
        states, values = polish(graph, log_field, np.concatenate(starts), free[rows], rows)
        best = values.reshape(len(starts), -1).argmax(axis=0)
        chosen = best * len(log_field) + np.arange(len(log_field))
        return states[chosen], values[chosen]

    def _propagator(self, question: Question, plan: PropagationPlan) -> Propagator:
        settings = (self.damping, self.adaptive, self.max_iterations, self.tolerance, self.progress)
        control = Control(self.schedule, *settings)
        return Propagator(question, plan, control, self._start)

    def _plan(self, question: Question, temperature: float) -> PropagationPlan:
        """Return the plan of a graph, cached with the graph."""
        forests = self.num_forests if self.tree_reweighted else 0
        plan = PropagationPlan(question.graph, temperature, forests, self.seed)
        if question.graph.interactions_rowwise or _wants_gradients(question):
            return plan
        key = ("propagation", temperature, forests, self.seed)
        cached: PropagationPlan = question.model.cached_numbers(key, lambda: plan)
        return cached if cached.graph is question.graph else plan

    def _marginal(self, question: Question, maximized: Mask) -> Best:
        """Solve marginal MAP by local search from the states of sum-product and of max-product."""
        sum_plan, max_plan = (self._plan(question, t) for t in (1.0, 0.0))
        outcome, history = self._propagator(question, sum_plan).run()
        max_product = self._propagator(question, max_plan)
        starts = [
            best_states(question, outcome.beliefs),
            max_product.decode(max_product.run()[0]),
        ]
        search = MarginalSearch(question, maximized)
        states, values = starts[0].copy(), outcome.log_value.copy()
        diagnostics, possible = _diagnostics(outcome, history), ~np.isneginf(outcome.log_value)
        for row in np.flatnonzero(possible):
            start = np.stack([s[row] for s in starts])
            try:
                states[row], values[row], _ = search.improve(int(row), start, self.seed)
            except Unsupported:
                return self._estimated(question, maximized, starts, possible, diagnostics)
        return _best(question, states, values, possible, diagnostics)

    def _estimated(
        self,
        question: Question,
        maximized: Mask,
        starts: list[Ints],
        possible: Mask,
        diagnostics: dict[str, Any],
    ) -> Best:
        """The better candidate, judged by propagation with the maximised elements observed."""
        engine = replace(self, start=None, tree_reweighted=False, temperature=1.0)
        values = []
        for states in starts:
            clamped = question.with_states(np.where(maximized, states, -1))
            outcome, _ = engine._propagator(clamped, engine._plan(clamped, 1.0)).run()
            values.append(outcome.log_value)
        improved = values[1] > values[0]
        states = np.where(improved[:, None], starts[1], starts[0])
        diagnostics["log_prob"] = "estimate"
        return _best(question, states, np.maximum(values[0], values[1]), possible, diagnostics)


def _best(
    question: Question,
    states: Ints,
    values: Floats,
    possible: Mask,
    diagnostics: dict[str, Any],
    bound: Tensor | None = None,
) -> Best:
    """Return the answer; ``NaN`` for possible rows for which no possible state was found."""
    failed = possible & np.isneginf(values)
    diagnostics["converged"] = diagnostics["converged"] & torch.from_numpy(~failed)
    log_values = torch.from_numpy(np.where(failed, np.nan, values)).to(question.graph.dtype)
    return Best(
        torch.from_numpy(states),
        log_values,
        bound,
        diagnostics,
        "no assignment of positive probability was found; use DualDecomposition()"
        if failed.any()
        else _OTHERS,
    )


def _diagnostics(outcome: Outcome, history: list[float] | None) -> dict[str, Any]:
    """Return the diagnostics of an outcome."""
    diagnostics: dict[str, Any] = {
        "converged": torch.from_numpy(outcome.converged),
        "iterations": torch.from_numpy(outcome.iterations),
        "residual": torch.from_numpy(outcome.residual),
        "damping": torch.from_numpy(outcome.damping),
    }
    if history is not None:
        diagnostics["history"] = history
    if outcome.messages.values.nbytes <= ROOM:
        diagnostics["messages"] = outcome.messages
    return diagnostics


def _wants_gradients(question: Question) -> bool:
    soft = any(t.requires_grad for t in question.observed.soft_tensors.values())
    return question.graph.requires_grad or soft
