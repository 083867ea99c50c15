"""The exact engine."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import EvidenceError, Intractable
from pgnn.evidence.evidence import Evidence, over_inputs
from pgnn.factors.factor import Factor
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.engine import Engine, FactorModel, Inputs, Names
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.exact.conflict import impossible
from pgnn.inference.exact.differentiable import Differentiable
from pgnn.inference.exact.k_best import k_best
from pgnn.inference.exact.model_solver import model_solver
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.solver import Solver
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import check_errors, reader_of, scope_of, targets_of
from pgnn.inference.samples import Samples


@dataclass(frozen=True)
class JunctionTree(Engine):
    r"""Exact inference by elimination along a junction tree (Lauritzen & Spiegelhalter 1988).

    Tables are eliminated in a greedily chosen order; all marginals come from one upward and one
    downward pass, which is the reverse-mode derivative of :math:`\log Z` (Darwiche 2003). Plans
    depend on structure alone and are remembered by the model.

    Args:
        max_bytes: Memory that messages may take. A query that needs more raises ``Intractable``
            before anything is allocated; large batches are cut into pieces.

    Cost:
        Time and memory exponential in the treewidth of the graph that is left when what every row
        observes has been cut out of it.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> model.query("a", {"b": 1}, engine=JunctionTree(max_bytes=2**20))["a"].probs
        tensor([0.1111, 0.8889], dtype=torch.float64)
    """

    max_bytes: int = 2**32

    def query(
        self,
        model: FactorModel,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """See :meth:`Model.query`."""
        check_errors(errors)
        seen = over_inputs(reader_of(model).read(evidence), inputs)
        solver = self._solver(model, seen, inputs)
        asked = targets_of(model, targets)
        ask = Differentiable(solver, seen)
        marginals, log_evidence = ask.marginals(asked.mask(model.elements))
        lost = log_evidence.isneginf()
        if lost.any():
            if errors == "raise":
                raise impossible(solver, seen.codes, log_evidence.detach(), seen.batched)
            marginals = marginals.masked_fill(lost[:, None], float("nan"))
        order = asked.reordered(model.elements)
        if order is not None:
            marginals = marginals[:, torch.from_numpy(order)]

        def joint(names: tuple[Hashable, ...]) -> Factor:
            return ask.joint(scope_of(model, names))

        return Posterior(
            asked.variables,
            marginals,
            log_evidence,
            batched=seen.batched,
            kind="exact",
            engine=type(self).__name__,
            joint=joint,
            index=seen.index,
        )

    def most_probable(
        self,
        model: FactorModel,
        evidence: Any,
        targets: Names | None = None,
        *,
        inputs: Inputs | None = None,
        k: int = 1,
        errors: str = "raise",
    ) -> Assignment | KBest:
        """See :meth:`Model.most_probable`."""
        check_errors(errors)
        if k < 1:
            raise EvidenceError(f"k must be at least 1, got {k}")
        seen = over_inputs(reader_of(model).read(evidence), inputs)
        solver = self._solver(model, seen, inputs)
        asked = targets_of(model, targets)
        states, logs = k_best(solver, seen.codes, seen.soft, asked.mask(model.elements), k)
        log_prob = _tensor(logs + seen.soft_scale[:, None])
        lost = np.isneginf(logs[:, 0])
        if lost.any():
            if errors == "raise":
                raise impossible(solver, seen.codes, log_prob[:, 0], seen.batched)
            states[lost] = -1
        chosen = torch.from_numpy(states[:, :, asked.numbers].astype(np.int64))
        if k > 1:
            return KBest(asked.variables, chosen, log_prob, batched=seen.batched, index=seen.index)
        return Assignment(
            asked.variables,
            chosen[:, 0],
            log_prob[:, 0],
            batched=seen.batched,
            index=seen.index,
            upper_bound=log_prob[:, 0],
            engine=type(self).__name__,
        )

    def sample(
        self,
        model: FactorModel,
        n: int,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> Samples:
        """See :meth:`Model.sample`."""
        if n < 0:
            raise EvidenceError(f"the number of samples must not be negative, got {n}")
        seen = over_inputs(reader_of(model).read(evidence), inputs)
        solver = self._solver(model, seen, inputs)
        graph = solver.graph
        if (
            not seen.batched
            and not seen.names
            and (graph.child_factor >= 0).all()
            and graph.num_factors == len(graph.variables)
            and not graph.rowwise.any()
        ):
            probs = graph.flat_log_values.detach().exp().cpu().numpy()
            drawn = torch.from_numpy(graph.families.sample(n, probs, seed))
            return Samples(model.elements.variables, drawn.long())
        number = np.random.default_rng(seed).integers(2**31)
        states, log_z = solver.draw(seen.codes, seen.soft, n, int(number))
        if np.isneginf(log_z).any():
            raise impossible(solver, seen.codes, _tensor(log_z), seen.batched)
        codes = torch.from_numpy(states.astype(np.int64))
        return Samples(
            model.elements.variables,
            codes if seen.batched else codes[:, 0],
            batched=seen.batched,
            index=seen.index,
        )

    def log_prob(self, model: FactorModel, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """See :meth:`Model.log_prob`."""
        seen = over_inputs(reader_of(model).read(data), inputs)
        solver = self._solver(model, seen, inputs)
        graph = solver.graph
        if seen.soft is None and not graph.rowwise.any() and (seen.codes >= 0).all():
            total = graph.families.log_prob(seen.codes, graph.flat_log_values)
        else:
            total = Differentiable(solver, seen).log_evidence()
        return total if seen.batched else total[0]

    def explain(self, model: FactorModel, targets: Names | None, evidence: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        seen = reader_of(model).read(evidence)
        solver = self._solver(model, seen, None)
        wanted = targets_of(model, targets).mask(model.elements)
        ask = Ask(wanted=wanted, soft=solver.softly(seen.soft))
        codes = seen.codes if len(seen.codes) else np.full((1, len(wanted)), -1, dtype=np.int32)
        plans = solver.planner.split(solver.graph, codes, ask)
        plan, rows = max(plans, key=lambda p: p[0].total)
        fits = True
        try:
            needed = solver.check(plan, len(rows))
        except Intractable:
            fits, needed = False, int(min(plan.total * 8, 2.0**62))
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason="every unobserved variable is discrete",
            treewidth=plan.width,
            largest_table=int(min(plan.largest, 2.0**62)),
            memory_bytes=needed,
            multiply_adds=int(min(plan.multiply_adds, 2.0**62)),
            num_variables=len(solver.graph.variables),
            num_eliminated=len(plan.order),
            num_sliced=int(plan.task.observed.sum()),
            num_pruned=int(plan.task.dropped.sum()),
            fits=fits,
            budget_bytes=self.max_bytes,
            alternatives=() if fits else ("more evidence", "fewer targets", "a larger max_bytes"),
        )

    def compile(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """See :meth:`Model.compile`."""
        nothing = reader_of(model).read(None)
        return CompiledQuery(
            lambda: self._solver(model, nothing, None),
            model.elements,
            targets_of(model, targets),
            None if observed is None else targets_of(model, observed),
        )

    def _solver(self, model: FactorModel, seen: Evidence, inputs: Inputs | None) -> Solver:
        return model_solver(model, seen.reals, inputs, self.max_bytes)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
