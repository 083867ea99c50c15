"""The exact engine: elimination along a junction tree."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import DirectedModel, FactorModel
from pgnn.errors import ImpossibleEvidence, Intractable, ModelError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.ancestral_draws import ancestral_states
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.assignment_with_reals import AssignmentWithReals, KBestWithReals
from pgnn.inference.base_question import Names
from pgnn.inference.engine import Engine
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.exact.conflict import impossible
from pgnn.inference.exact.differentiable import Differentiable
from pgnn.inference.exact.gaussian_posterior import RealTargets
from pgnn.inference.exact.k_best import k_best
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.solver import Solver, model_solver
from pgnn.inference.explanation import Explanation
from pgnn.inference.log_score import log_score
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question, scope_of, targets_of
from pgnn.limits import Interval, check_settings, check_size

_PROBED = 4
"""Rows of a batch for which the work of a maximum is estimated."""


@dataclass(frozen=True)
class JunctionTree(Engine):
    r"""Exact inference by elimination along a junction tree (Lauritzen & Spiegelhalter 1988).

    Variables are eliminated in a greedily chosen order; all marginals come from one upward and one
    downward pass, the reverse-mode derivative of :math:`\log Z` (Darwiche 2003). Plans depend only
    on the structure and are cached by the model.

    Args:
        max_bytes: Largest memory of messages, in bytes. A query that needs more raises
            ``Intractable`` before anything is allocated; large batches are split into chunks.
        max_work: Largest number of multiply-adds of a query, all rows together (about a billion
            take a second); a query that needs more raises ``Intractable`` as well.
        order: Elimination order: the names of all discrete variables (or elements of arrays), see
            :func:`pgnn.graphs.elimination_order`; chosen greedily if not given. Variables that are
            maximised over are always eliminated after the others.

    Cost:
        Time and memory exponential in the treewidth of the graph without the variables that every
        row observes.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> model.query("a", {"b": 1}, engine=JunctionTree(max_bytes=2**20))["a"].probs
        tensor([0.1111, 0.8889], dtype=torch.float64)
    """

    max_bytes: int = 2**32
    max_work: float = math.inf
    order: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        check_settings(self, max_work=Interval(0.0, open_low=True))
        if self.order is not None:
            if isinstance(self.order, str) or not isinstance(self.order, Iterable):
                raise ModelError(f"order must be a list of names, got {self.order!r}")
            object.__setattr__(self, "order", tuple(self.order))

    @property
    def max_answer_bytes(self) -> int:
        """Largest memory of an answer, in bytes."""
        return self.max_bytes

    def answer_query(self, question: Question) -> Posterior:
        """Answer ``query`` exactly; the posterior can also compute joint tables.

        Unobserved real variables may be targets if they are normal given the discrete variables;
        see :class:`GaussianPosterior`.
        """
        real_targets = RealTargets.of(question)
        if real_targets is None:
            return self._discrete(question)
        return real_targets.answer(question, self._discrete(question.about(real_targets.discrete)))

    def _discrete(self, question: Question) -> Posterior:
        """Return the posterior of the discrete variables."""
        (solver, observed), targets = self._lowered(question), question.targets
        one_row = not observed.batched and observed.soft is None
        answer = solver.row(observed.codes, targets) if one_row else None
        log_evidence, marginals = (
            self._rows(question, solver, observed) if answer is None else answer
        )
        if targets.order is not None:
            marginals = marginals[:, targets.order]
        return Posterior(
            targets.variables,
            marginals,
            log_evidence,
            batched=observed.batched,
            kind="exact",
            engine=type(self).__name__,
            joint=ExactJoint(solver, observed, targets.elements, question.model.variables),
            index=observed.index,
            columns=targets.answer_columns,
        )

    def _rows(
        self, question: Question, solver: Solver, observed: RowEvidence
    ) -> tuple[Tensor, Tensor]:
        """Return log evidence ``(B,)`` and marginals ``(B, S)``.

        Raises:
            ImpossibleEvidence: If a row is impossible, unless NaN is wanted for such rows.
        """
        marginals, log_z = Differentiable(solver, observed).marginals(question.targets.mask)
        lost = log_z.isneginf()
        self.check_possible(question, log_z)
        if lost.any():
            marginals = marginals.masked_fill(lost[:, None], float("nan"))
        return log_z, marginals

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """Answer ``most_probable`` exactly, real variables included, see :class:`RealModes`."""
        elements = question.model.elements
        check_size(f"{k:,} assignments for each of {question.num_rows:,} rows",
                   k * question.num_rows * max(len(elements), 1), self.max_bytes,
                   "Ask for a smaller k")  # fmt: skip
        real_targets = RealTargets.of(question)
        modes = [] if real_targets is None else real_targets.modes(question)
        question = question if real_targets is None else question.about(real_targets.discrete)
        (solver, observed), targets = self._lowered(question), question.targets
        if modes:
            solver = solver.of(solver.graph.with_factors(*(m.factor() for m in modes)))
        maximized = solver.graph.mask(targets.mask)
        states, logs = k_best(solver, observed.codes, observed.soft, maximized, k)
        log_prob = _tensor(logs + observed.soft_scale[:, None])
        lost = np.isneginf(logs)
        self.refuse(question, lost[:, 0])
        states[lost[:, 0]] = -1
        codes = torch.from_numpy(states.astype(np.int64))
        reals: dict[Hashable, Tensor] = {}
        for mode in modes:
            for name, values in mode.values_at(codes, elements).items():
                gone = torch.from_numpy(lost).reshape(*lost.shape, *[1] * (values.dim() - 2))
                reals[name] = values.masked_fill(gone, torch.nan)
        chosen = codes[:, :, targets.numbers]
        settings: dict[str, Any] = {"batched": observed.batched, "index": observed.index}
        if k > 1:
            if reals:
                return KBestWithReals(reals, targets.variables, chosen, log_prob, **settings)
            return KBest(targets.variables, chosen, log_prob, **settings)
        settings |= {"upper_bound": log_prob[:, 0], "engine": type(self).__name__}
        if reals:
            best = {n: x[:, 0] for n, x in reals.items()}
            return AssignmentWithReals(
                best, targets.variables, chosen[:, 0], log_prob[:, 0], **settings
            )
        return Assignment(targets.variables, chosen[:, 0], log_prob[:, 0], **settings)

    def work_of_best(self, question: Question) -> float:
        """Return the multiply-adds of ``most_probable`` for the cheapest of some rows."""
        solver, observed = self._lowered(question)
        ask = Ask(
            maximize=solver.graph.mask(question.targets.mask), soft=solver.softly(observed.soft)
        )
        rows = np.unique(np.linspace(0, len(observed.codes) - 1, _PROBED).round().astype(int))
        some = observed.codes[rows[(rows >= 0) & (rows < len(observed.codes))]]
        plans = solver.planner.split(solver.graph, some, ask)
        return min((plan.multiply_adds for plan, _ in plans), default=0.0)

    def draw(self, question: Question, n: int, seed: int | None) -> tuple[Tensor, None]:
        """Draw ``(n, B, E)`` states; without evidence by ancestral sampling."""
        solver = self._solver(question)
        graph, num_elements = solver.graph, len(question.model.elements)
        observed = graph.evidence(question.observed)
        if not graph.variables:
            return torch.zeros(n, question.num_rows, 0, dtype=torch.int64), None
        if not graph.written_down:
            if not observed.names and isinstance(question.model, DirectedModel):
                return ancestral_states(question, n, seed), None
            solver = solver.given(observed.codes)
            graph = solver.graph
        if (
            not observed.batched
            and not observed.names
            and (graph.child_factor >= 0).all()
            and graph.num_factors == len(graph.variables)
            and not graph.rowwise.any()
        ):
            probs = graph.flat_log_values.detach().exp().cpu().numpy()
            drawn = torch.from_numpy(graph.lookup.sample(n, probs, seed))
            return drawn.long()[:, None, :num_elements], None
        number = np.random.default_rng(seed).integers(2**31)
        states, log_z = solver.draw(observed.codes, observed.soft, n, int(number), seed is not None)
        self.refuse(question, np.isneginf(log_z))
        return torch.from_numpy(states[..., :num_elements].astype(np.int64)), None

    def impossible(self, question: Question, rows: list[int]) -> ImpossibleEvidence:
        """Return the error that names the impossible rows and the contradictory findings."""
        solver, observed = self._lowered(question)
        codes = np.where(
            np.arange(observed.codes.shape[1]) < question.observed.codes.shape[1],
            observed.codes,
            -1,
        )
        # these tables are valid for this evidence only
        if not question.graph.expanded().written_down:
            codes = np.full_like(codes, -1)
        return impossible(solver, codes, rows, observed.batched)

    def answer_log_prob(self, question: Question) -> Tensor:
        """Answer ``log_prob`` exactly; complete rows need no elimination."""
        if question.complete and (question.graph.written_down or not question.graph.requires_grad):
            return log_score(question)
        solver, observed = self._lowered(question)
        return Differentiable(solver, observed).log_evidence()

    def describe(self, question: Question) -> Explanation:
        """Answer ``explain``: the cost of the most expensive plan."""
        real_targets = RealTargets.of(question)
        if real_targets is not None:
            question = question.about(real_targets.discrete)
        solver, observed = self._lowered(question)
        wanted, num_elements = (
            solver.graph.mask(question.targets.mask),
            len(question.model.elements),
        )
        ask = Ask(wanted=wanted, soft=solver.softly(observed.soft))
        codes = (
            observed.codes if len(observed.codes) else np.full((1, len(wanted)), -1, dtype=np.int32)
        )
        plans = solver.planner.split(solver.graph, codes, ask)
        plan, rows = max(plans, key=lambda p: p[0].total)
        fits, reason = True, _reason(solver, num_elements)
        try:
            needed = solver.check(plan, len(rows))
        except Intractable as error:
            fits, reason = False, str(error)
            needed = int(min(plan.total * 8, 2.0**62))
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason=reason,
            treewidth=plan.width,
            largest_table=int(min(plan.largest, 2.0**62)),
            memory_bytes=needed,
            multiply_adds=int(min(plan.multiply_adds, 2.0**62)),
            num_variables=num_elements,
            num_eliminated=int((plan.order < num_elements).sum()),
            num_sliced=int(plan.task.observed[:num_elements].sum()),
            num_pruned=int(plan.task.dropped[:num_elements].sum()),
            fits=fits,
            budget_bytes=self.max_bytes,
            alternatives=() if fits else ("more evidence", "fewer targets", "a larger max_bytes"),
        )

    def prepare(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Answer ``compile``."""
        columns = None if observed is None else targets_of(model, observed)
        return CompiledQuery(model, targets_of(model, targets), columns, self.max_bytes)

    def clique_beliefs(
        self, model: FactorModel, evidence: Any = None
    ) -> dict[frozenset[Hashable], Factor]:
        """Return the calibrated beliefs of the cliques of a junction tree, given evidence.

        Beliefs of cliques that share variables agree on their marginals (calibration). The edges of
        the tree are those of :func:`pgnn.graphs.junction_tree`.

        Args:
            model: Any model with tables.
            evidence: As in a query.

        Returns:
            For each maximal clique, by the names of its variables, a factor that sums to one.

        Raises:
            Intractable: If a table exceeds the budget.

        Cost:
            One elimination per clique.
        """
        from pgnn.graphs import interaction_graph, junction_tree

        posterior = self.query(model, None, evidence)
        elements = model.elements
        names = [elements.name(k) for k in range(len(elements))]
        scopes = [f.names for f in model.factors()]
        card = dict(zip(names, elements.card.tolist(), strict=True))
        tree = junction_tree(interaction_graph(scopes, names), num_states=card)
        rank = {name: k for k, name in enumerate(names)}
        return {c: posterior.joint(*sorted(c, key=rank.__getitem__)) for c in tree}

    def _lowered(self, question: Question) -> tuple[Solver, RowEvidence]:
        """Return the solver of the expanded graph, and the evidence on its elements."""
        solver = self._solver(question)
        observed = solver.graph.evidence(question.observed)
        return solver.given(observed.codes), observed

    def _solver(self, question: Question) -> Solver:
        rank = None if self.order is None else _rank(question.model.elements, self.order)
        return model_solver(
            question.model, question.observed.reals, question.inputs, self.max_bytes, self.max_work,
            rank,
        )  # fmt: skip


@dataclass(eq=False, slots=True)
class ExactJoint:
    """Computes joint tables of an answered query, on demand.

    Args:
        solver: The solver that answered the query.
        observed: The evidence.
        elements: Elements of the model.
        variables: Variables of the model, by name.
    """

    solver: Solver
    observed: RowEvidence
    elements: Elements
    variables: Mapping[Hashable, Variable]

    def __call__(self, names: tuple[Hashable, ...]) -> Factor:
        """Return the table over some variables, ``(B, K1, ..., Kn)``."""
        scope = scope_of(self.elements, self.variables, names)
        return Differentiable(self.solver, self.observed).joint(scope)

    def __reduce__(self) -> tuple[Any, ...]:
        whole = self.solver
        bare = Solver(whole.graph, max_bytes=whole.max_bytes, max_work=whole.max_work)
        return ExactJoint, (bare, self.observed, self.elements, dict(self.variables))


def _rank(elements: Elements, order: Sequence[Hashable]) -> tuple[int, ...]:
    """Return the position of each element in an order.

    Raises:
        ModelError: If the order does not name every element once.
    """
    rank, place = [-1] * len(elements), 0
    for name in order:
        known = elements.find(name)
        if known is None:
            raise ModelError(f"order names {name!r}, which is not a discrete variable of the model")
        for e in known[1].ravel().tolist():
            if rank[e] >= 0:
                raise ModelError(f"order names {elements.name(e)!r} twice")
            rank[e], place = place, place + 1
    if -1 in rank:
        raise ModelError(f"order must name every variable; {elements.name(rank.index(-1))!r} is "
                         "missing")  # fmt: skip
    return tuple(rank)


def _reason(solver: Solver, num_elements: int) -> str:
    """Return the reason why the answer is exact, and the number of auxiliary variables."""
    why, hidden = "every unobserved variable is discrete", len(solver.graph.elements) - num_elements
    if not hidden:
        return why
    return f"{why}; gates with many causes are decomposed, with {hidden:,} auxiliary variables"


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
