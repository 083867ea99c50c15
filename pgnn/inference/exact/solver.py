"""Exact answers as arrays: plans for the rows, their execution, and a check of the cost."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import FactorModel, Inputs
from pgnn.errors import Intractable
from pgnn.inference.exact.compilation import KERNELS
from pgnn.inference.exact.expected_counts import ExpectedCounts
from pgnn.inference.exact.plan import Mask, Plan
from pgnn.inference.exact.planner import REMEMBERED, Ask, MakePlan, Planner
from pgnn.inference.exact.torch_rows import TorchRows
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.model_graph import model_graph
from pgnn.inference.numba_support import has_numba
from pgnn.inference.question import Targets
from pgnn.inference.threads import Stop, interruptible, parts, repeated
from pgnn.limits import check_size, human_bytes, human_count

if TYPE_CHECKING:
    from pgnn.inference.exact.cpu_executor import CpuExecutor
    from pgnn.inference.exact.row_answer import RowAnswer

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# number of rows that are searched for duplicates; share of distinct rows above which none pay
_MANY_ROWS, _REPEATED = 32, 0.8
_LARGEST_BUDGET = 2**46  # bytes, or multiply-adds, that a message advises


@dataclass(eq=False)
class Solver:
    """Answers queries about one factor graph, with rows of evidence given as arrays.

    Args:
        graph: Variables and tables.
        planner: The cached plans for this structure.
        max_bytes: Largest memory of messages, in bytes.
        max_work: Largest number of multiply-adds of an answer, all rows together.
    """

    graph: FactorGraph
    planner: Planner = field(default_factory=Planner)
    max_bytes: int = 2**32
    max_work: float = math.inf
    _row_answers: OrderedDict[bytes, RowAnswer | None] = field(
        default_factory=OrderedDict, repr=False
    )

    @cached_property
    def cpu(self) -> CpuExecutor | None:
        """The compiled executor; None if torch is used (on a GPU, or without numba)."""
        if self.graph.device.type != "cpu" or not has_numba():
            return None
        from pgnn.inference.exact.cpu_executor import CpuExecutor

        return CpuExecutor(self.graph, self.max_bytes)

    def marginals(self, codes: Codes, soft: Floats | None, wanted: Mask) -> tuple[Floats, Floats]:
        """Return ``(B,)`` log evidence and ``(B, S)`` marginals of the wanted variables.

        The marginals of impossible rows are zeros.

        Args:
            codes: ``(B, V)`` observed states, -1 where none.
            soft: ``(B, S)`` likelihoods of all states of all variables, or None.
            wanted: ``(V,)`` variables whose marginals are wanted; only they have columns.

        Raises:
            Intractable: If a plan exceeds the budget.
        """
        if len(codes) >= _MANY_ROWS and soft is None and self.cpu is not None and KERNELS.ready():
            first, kind = self.cpu.distinct(codes)
            if len(first) < _REPEATED * len(codes) and not self.graph.rowwise.any():
                log_z, out = self._marginals(codes[first], None, wanted)
                return log_z[kind], out[kind]
        return self._marginals(codes, soft, wanted)

    def _marginals(self, codes: Codes, soft: Floats | None, wanted: Mask) -> tuple[Floats, Floats]:
        """:meth:`marginals` without a search for duplicate rows."""
        log_z = np.zeros(len(codes))
        out = np.zeros((len(codes), int(self.graph.card[wanted].sum())))
        ask = Ask(wanted=wanted, soft=self.softly(soft))

        def answer(part: tuple[MakePlan, Rows], share: int) -> bool:
            """Answer some rows, unless they need more memory than a thread's share."""
            plan, rows = part[0](), part[1]
            if self.check(plan, len(rows)) > share:
                return False
            if self.cpu is not None and not plan.interim:
                self.cpu.answer(plan, codes, soft, rows, wanted, log_z, out)
            else:
                self._answer_by_torch(plan, codes, soft, rows, wanted, log_z, out)
            _fill_observed(self.graph, wanted, plan.task.observed, codes, rows, out)
            return True

        parts = self.planner.parts(self.graph, codes, ask)
        threads = min(torch.get_num_threads(), len(parts)) if self.cpu is not None else 1
        if threads > 1:  # rows that each have their own plan
            left: list[tuple[MakePlan, Rows]] = []

            def work(part: tuple[MakePlan, Rows], _: Stop) -> None:
                if not answer(part, self.max_bytes // threads):
                    left.append(part)

            interruptible([partial(work, part) for part in parts], threads)
            parts = left
        for part in parts:
            answer(part, self.max_bytes)
        if self.cpu is not None:
            self._recheck(codes, soft, wanted, log_z, out)
        out[np.isneginf(log_z)] = 0.0
        return log_z, out

    def row(self, codes: Codes, targets: Targets) -> tuple[Floats, Floats] | None:
        """Answer one row ``(1, V)`` like :meth:`marginals`; None if :class:`RowAnswer` cannot.

        It cannot if torch is used or the kernels are not compiled yet, if gradients are required,
        or if tables depend on the row.

        Raises:
            Intractable: If a plan exceeds the budget.
        """
        if not self._is_plain or not KERNELS.ready():
            return None
        answer = self._row_answers.get(targets.key)
        if answer is None:
            answer = self.row_answer(self.graph.mask(targets.mask))
            self._row_answers[targets.key] = answer
            while len(self._row_answers) > REMEMBERED:
                self._row_answers.popitem(last=False)
        return None if answer is None else answer(codes)

    def row_answer(self, wanted: Mask, observed: Mask | None = None) -> RowAnswer | None:
        """Return the object that answers single rows; None if tables depend on the row."""
        if self.cpu is None or self.graph.rowwise.any():
            return None
        from pgnn.inference.exact.row_answer import RowAnswer

        return RowAnswer(self, self.cpu, wanted, observed)

    @cached_property
    def _is_plain(self) -> bool:
        """Whether answers need no gradient and have the dtype of the kernels."""
        return not self.graph.requires_grad and self.graph.dtype == torch.float64

    def given(self, codes: Codes) -> Solver:
        """Return a solver in which factors without tables are tabulated given the evidence."""
        return self if self.graph.written_down else self.of(self.graph.given(codes))

    def log_evidence(self, codes: Codes, soft: Floats | None) -> Floats:
        """Return ``(B,)`` log evidence."""
        return self.marginals(codes, soft, np.zeros(len(self.graph.variables), np.bool_))[0]

    def joint(self, codes: Codes, soft: Floats | None, scope: Sequence[int]) -> Floats:
        """Return ``(B, K1, ..., Kn)``: the joint posterior of some variables.

        Raises:
            Intractable: If the plan, or the answer itself, exceeds the budget.
        """
        card = self.graph.card[list(scope)]
        check_size(
            f"the joint of {len(scope)} variables for {len(codes)} rows",
            math.prod(card.tolist()) * max(len(codes), 1),
            self.max_bytes,
            "Ask for fewer variables at once, or raise JunctionTree(max_bytes=...)",
        )
        graph = self.graph.with_unity(scope)
        solver = self.of(graph)
        last = graph.num_factors - 1
        belief = np.zeros(last + 1, dtype=np.bool_)
        belief[last] = True
        ask = Ask(belief=belief, soft=self.softly(soft))
        out = np.zeros((len(codes), *card))
        for plan, rows in solver.plans(codes, ask):
            part = None if soft is None else soft[rows]
            cpu = solver.executor(plan, rows)
            if cpu is not None:
                ones = np.ones(len(rows))
                _, _, joint, lost = cpu.expect(plan, codes[rows], part, ones, belief)
                out[rows] = joint.reshape(len(rows), *card)
                if len(lost):
                    again = solver.torch_rows(plan, codes, soft, rows[lost])
                    out[rows[lost]] = again.beliefs([last])[0]
            else:
                out[rows] = solver.torch_rows(plan, codes, soft, rows).beliefs([last])[0]
        return out

    def expected(self, codes: Codes, soft: Floats | None, weights: Floats) -> list[Floats]:
        """Return only the expected counts of :meth:`evidence_and_counts`."""
        return self.evidence_and_counts(codes, soft, weights)[1]

    def evidence_and_counts(
        self, codes: Codes, soft: Floats | None, weights: Floats
    ) -> tuple[Floats, list[Floats]]:
        r"""Return ``(B,)`` log evidence and :math:`\sum_b w_b\, p(x_f \mid e_b)`.

        The sums include all factors that share a table: there is one array for each source of the
        graph, in its shape, with single terms for row-wise sources. These are the gradients of the
        weighted log evidence with respect to the sources.
        """
        graph, counts = self.graph, ExpectedCounts(self.graph, len(codes))
        belief = np.ones(graph.num_factors, dtype=np.bool_)
        ask = Ask(belief=belief, soft=self.softly(soft), prune=False)
        log_z = np.zeros(len(codes))
        for plan, rows in self.plans(codes, ask):
            lost, cpu = np.arange(len(rows)), self.executor(plan, rows)
            if cpu is not None:
                part = None if soft is None else soft[rows]
                sums = cpu.expect(plan, codes[rows], part, weights[rows], graph.rowwise)
                log_z[rows], lost = sums[0], sums[3]
                counts.add(rows, *sums[1:3])
            if len(lost):
                again = self.torch_rows(plan, codes, soft, rows[lost])
                tables = again.beliefs(range(graph.num_factors))
                log_z[rows[lost]] = again.log_evidence()
                counts.add_beliefs(rows[lost], weights[rows[lost]], tables)
        return log_z, counts.by_source()

    def best(self, codes: Codes, soft: Floats | None, maximize: Mask) -> tuple[Codes, Floats]:
        """Return ``(B, V)`` best states (-1 where summed out) and ``(B,)`` log maxima."""
        states = codes.copy()
        log_top = np.zeros(len(codes))
        ask = Ask(maximize=maximize, soft=self.softly(soft))
        for plan, rows in self.plans(codes, ask):
            part, cpu = None if soft is None else soft[rows], self.executor(plan, rows)
            if cpu is not None:
                decoded, top = cpu.decode(plan, codes[rows], part)
                decoded = decoded[:, 0]
                lost = np.flatnonzero(np.isneginf(top))
                if len(lost):  # impossible, or underflow
                    again = self.torch_rows(plan, codes, soft, rows[lost])
                    decoded[lost], top[lost] = again.best()
            else:
                decoded, top = self.torch_rows(plan, codes, soft, rows).best()
            states[rows], log_top[rows] = decoded, top
        return states, log_top

    def draw(
        self, codes: Codes, soft: Floats | None, n: int, seed: int, repeatable: bool = True
    ) -> tuple[Codes, Floats]:
        """Return ``(n, B, V)`` exact posterior samples, and ``(B,)`` log evidence.

        Args:
            codes: ``(B, V)`` observed states.
            soft: ``(B, S)`` likelihoods, or None.
            n: Number of samples per row.
            seed: Random seed.
            repeatable: Whether the samples must be the same in all processes.
        """
        states = repeated(codes, n)
        log_z = np.zeros(len(codes))
        ask = Ask(soft=self.softly(soft), prune=False, repeatable=repeatable)
        for part, (plan, rows) in enumerate(self.plans(codes, ask)):
            part_seed = int(np.random.default_rng([seed, part]).integers(2**31))
            part_soft, cpu = None if soft is None else soft[rows], self.executor(plan, rows)
            if cpu is not None:
                drawn, log_z[rows] = cpu.decode(plan, codes[rows], part_soft, n, part_seed)
                for some in parts(n, drawn[:, 0].size):
                    states[some, rows] = drawn[:, some].transpose(1, 0, 2)
                lost = rows[np.isneginf(log_z[rows])]
                if len(lost):
                    again = self.torch_rows(plan, codes, soft, lost)
                    states[:, lost], log_z[lost] = again.draw(n, part_seed)
            else:
                answer = self.torch_rows(plan, codes, soft, rows)
                states[:, rows], log_z[rows] = answer.draw(n, part_seed)
        return states, log_z

    def at_rows(self, rows: Rows) -> Solver:
        """Return a solver with the row-wise tables, if any, of some rows."""
        if not self.graph.rowwise.any() or np.array_equal(rows, np.arange(self.graph.num_rows)):
            return self
        return self.of(self.graph.at_rows(rows))

    def of(self, graph: FactorGraph) -> Solver:
        """Return a solver for another graph with the same plans and budgets."""
        return Solver(graph, self.planner, self.max_bytes, self.max_work)

    def executor(self, plan: Plan, rows: Rows) -> CpuExecutor | None:
        """Return the compiled executor of a plan for some rows; None if torch executes it."""
        return None if plan.interim else self.at_rows(rows).cpu

    def check(self, plan: Plan, rows: int) -> int:
        """Return the memory of a plan in bytes; raise an error if it exceeds the budget."""
        needed, work = int(min(plan.total * 8, 1e300)), plan.multiply_adds * rows
        if plan.compilable and not plan.interim and self.cpu is not None:
            needed = self.cpu.bytes_needed(plan, rows)
        if needed > self.max_bytes:
            allowed = f" of {human_bytes(self.max_bytes)} allowed by the budget max_bytes"
            enough = f"max_bytes={needed}"
        elif work > self.max_work:
            allowed, enough = ", above the budget max_work", f"max_work={1.1 * work:.1e}"
        else:
            return needed
        advice = "Observe more variables, or query fewer targets"
        if max(needed, work) < _LARGEST_BUDGET:
            advice += f", or use JunctionTree({enough})"
        raise Intractable(
            f"an exact answer has treewidth {plan.width}, its largest table has {plan.largest:.3g} "
            f"entries: it takes {human_count(plan.multiply_adds)} multiply-adds for each row and "
            f"{human_bytes(needed)}{allowed}",
            advice,
        )

    def plans(self, codes: Codes, ask: Ask) -> Iterator[tuple[Plan, Rows]]:
        """Yield plans, all within the budget, with the rows that each answers."""
        for make, rows in self.planner.parts(self.graph, codes, ask):
            plan = make()
            self.check(plan, len(rows))
            yield plan, rows

    def softly(self, soft: Floats | None) -> Mask | None:
        """Return the variables with soft evidence in some row."""
        if soft is None:
            return None
        columns = (soft != 1.0).any(axis=0)
        return np.add.reduceat(columns, self.graph.offset[:-1]) > 0

    def torch_rows(self, plan: Plan, codes: Codes, soft: Floats | None, rows: Rows) -> TorchRows:
        """Return some rows in the form that torch answers."""
        return TorchRows(self.graph, plan, codes, soft, rows)

    def _answer_by_torch(
        self,
        plan: Plan,
        codes: Codes,
        soft: Floats | None,
        rows: Rows,
        wanted: Mask,
        log_z: Floats,
        out: Floats,
    ) -> None:
        columns = np.flatnonzero(np.repeat(plan.task.wanted[wanted], self.graph.card[wanted]))
        answer = self.torch_rows(plan, codes, soft, rows)
        out[np.ix_(rows, columns)], log_z[rows] = answer.marginals()

    def _recheck(
        self, codes: Codes, soft: Floats | None, wanted: Mask, log_z: Floats, out: Floats
    ) -> None:
        """Recompute rows whose evidence is zero in log space."""
        lost = np.flatnonzero(np.isneginf(log_z))
        if len(lost) == 0:
            return
        ask = Ask(wanted=wanted, soft=self.softly(soft))
        for plan, rows in self.planner.split(self.graph, codes[lost], ask):
            self._answer_by_torch(plan, codes, soft, lost[rows], wanted, log_z, out)
            _fill_observed(self.graph, wanted, plan.task.observed, codes, lost[rows], out)


def _fill_observed(
    graph: FactorGraph, wanted: Mask, observed: Mask, codes: Codes, rows: Rows, out: Floats
) -> None:
    """Fill in the marginals of observed variables, which are indicators."""
    certain = np.flatnonzero(wanted & observed)
    if len(certain):
        columns = graph.columns(wanted)[certain] + codes[np.ix_(rows, certain)]
        out[rows[:, None], columns] = 1.0


def model_solver(
    model: FactorModel,
    observed: Mapping[Hashable, Tensor] | None = None,
    inputs: Inputs | None = None,
    max_bytes: int = 2**32,
    max_work: float = math.inf,
    rank: tuple[int, ...] | None = None,
) -> Solver:
    """Return the solver for a model's current parameters; cached if no factor is row-wise.

    Args:
        model: The model; plans for its structure are cached.
        observed: ``(B, *shape)`` values of real variables.
        inputs: ``(B, ...)`` covariates.
        max_bytes: See :class:`Solver`.
        max_work: See :class:`Solver`.
        rank: Ranks by which elements are eliminated, if the user chose an order.
    """

    def make() -> Solver:
        planner = model.cached(("planner", rank), lambda: Planner(rank))
        return Solver(model_graph(model, observed, inputs).expanded(), planner, max_bytes, max_work)

    if observed or inputs:
        return make()
    solver: Solver = model.cached_numbers(("solver", max_bytes, max_work, rank), make)
    return solver
