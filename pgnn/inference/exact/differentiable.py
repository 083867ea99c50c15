"""Answers as tensors, differentiable where a table requires a gradient.

First derivatives of the log evidence come from the compiled kernel (they are expected counts);
derivatives of marginals, and second derivatives, from the torch executor.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.factor import Factor
from pgnn.inference.exact import torch_executor
from pgnn.inference.exact.log_partition import Kernel, log_partition, with_tables
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.rows_by_components import RowsByComponents
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Differentiable:
    """Log evidence, marginals and joints of rows of evidence.

    Args:
        solver: Solver of the model.
        observed: The evidence; soft evidence that requires a gradient becomes a table of the graph.
    """

    def __init__(self, solver: Solver, observed: RowEvidence) -> None:
        observed = solver.graph.evidence(observed)
        self.codes, self.soft = observed.codes, observed.soft
        self.log_scale = observed.soft_scale
        if torch.is_grad_enabled() and observed.soft_tensors:
            solver = self._with_soft_tables(solver, observed.soft_elements())
        self.solver = solver
        self.wanted = torch.is_grad_enabled() and solver.graph.requires_grad

    def log_evidence(self) -> Tensor:
        """Return ``(B,)`` log probabilities of the rows."""
        return self._without_plates()._log_evidence()

    def _without_plates(self) -> Differentiable:
        """Return the log evidence after whole arrays of variables have been summed out by torch."""
        graph = self.solver.graph
        if not graph.groups or self.soft is not None:
            return self
        plates = self.solver.planner.plates(graph, np.asarray((self.codes < 0).all(axis=0)))
        if not plates.steps:
            return self
        rest = copy.copy(self)
        rest.solver = self._solver_for(plates(graph))
        rest.codes = np.ascontiguousarray(self.codes[:, plates.kept])
        rest.wanted = torch.is_grad_enabled() and rest.solver.graph.requires_grad
        return rest

    def _log_evidence(self) -> Tensor:
        if not self.solver.graph.variables:  # no variable remains to be summed out
            return self.solver.graph.log_constant.expand(len(self.codes))
        if not self.wanted:
            return self.as_tensor(self.solver.log_evidence(self.codes, self.soft)) + self._scale()
        kernel = Kernel(
            evaluate=lambda graph: self._solver_for(graph).log_evidence(self.codes, self.soft),
            accumulate=lambda graph, w: self._solver_for(graph).expected(self.codes, self.soft, w),
            reference=self._log_evidence_by_torch,
            together=self._evidence_and_counts,
            rows=len(self.codes),
        )
        rows = None if self.soft is not None else RowsByComponents.of(self.solver, self.codes)
        if rows is not None:
            kernel = replace(
                kernel,
                evaluate=lambda graph: rows.log_evidence(self._solver_for(graph)),
                accumulate=lambda graph, w: rows.expected(self._solver_for(graph), w),
            )
        return log_partition(self.solver.graph, kernel) + self._scale()

    def _evidence_and_counts(self, graph: FactorGraph) -> tuple[Floats, list[Floats]]:
        weights = np.ones(len(self.codes))
        return self._solver_for(graph).evidence_and_counts(self.codes, self.soft, weights)

    def marginals(self, wanted: Mask) -> tuple[Tensor, Tensor]:
        """Return ``(B, S)`` marginals of the wanted variables, and ``(B,)`` log evidence."""
        graph = self.solver.graph
        wanted = graph.mask(wanted)
        log_z, out = self.solver.marginals(self.codes, self.soft, wanted)
        plain = self.as_tensor(out)
        if not self.wanted:
            return plain, self.as_tensor(log_z) + self._scale()
        tables = [graph.sources[k] for k in graph.learned]

        def reference(again: FactorGraph) -> Tensor:
            return self._marginals_by_torch(again, wanted)

        marginals: Tensor = _Marginals.apply(plain, reference, graph, *tables)  # type: ignore[no-untyped-call]
        return marginals, self.log_evidence()

    def joint(self, scope: Sequence[int]) -> Factor:
        """Return the joint posterior of some variables, ``(B, K1, ..., Kn)``."""
        variables = [self.solver.graph.variables[v] for v in scope]
        if not self.wanted:
            table = self.solver.joint(self.codes, self.soft, scope)
            with np.errstate(divide="ignore"):
                return Factor(variables, self.as_tensor(np.log(table)))
        graph = self.solver.graph.with_unity(scope)
        last = graph.num_factors - 1
        belief = np.arange(last + 1) == last
        solver = self._solver_for(graph)
        parts = torch.zeros(len(self.codes), *[v.num_states for v in variables]).to(graph.dtype)
        ask = Ask(belief=belief, soft=solver.softly(self.soft))
        for plan, rows in solver.plans(self.codes, ask):
            arguments = solver.torch_rows(plan, self.codes, self.soft, rows).arguments
            joint = torch_executor.beliefs(**arguments, factors=[last], create_graph=True)[0]
            parts = parts.index_put((torch.from_numpy(rows),), joint.to(parts))
        never = parts == 0  # where the logarithm has no derivative
        return Factor(variables, parts.masked_fill(never, 1.0).log().masked_fill(never, -math.inf))

    def as_tensor(self, array: Floats) -> Tensor:
        """Return an array as a tensor of the graph's dtype and device."""
        graph = self.solver.graph
        return torch.from_numpy(np.ascontiguousarray(array)).to(graph.device, graph.dtype)

    def _scale(self) -> Tensor | float:
        """Return the scale that was divided out of the soft evidence."""
        return self.as_tensor(self.log_scale) if self.soft is not None else 0.0

    def _solver_for(self, graph: FactorGraph) -> Solver:
        if graph is self.solver.graph:
            return self.solver
        return self.solver.of(graph)

    def _with_soft_tables(self, solver: Solver, tables: Mapping[Any, Tensor]) -> Solver:
        graph = solver.graph
        soft = np.ones((len(self.codes), int(graph.offset[-1])))
        if self.soft is not None:
            soft = self.soft.copy()
        scale = np.zeros(len(self.codes))
        for name, likelihood in tables.items():
            v = graph.index[name]
            soft[:, graph.offset[v] : graph.offset[v + 1]] = 1.0
            scale = scale + np.log(likelihood.detach().cpu().double().numpy().max(axis=-1))
        self.soft, self.log_scale = soft, self.log_scale - scale
        unary = {graph.index[name]: likelihood.log() for name, likelihood in tables.items()}
        return solver.of(with_tables(graph, unary))

    def _log_evidence_by_torch(self, graph: FactorGraph) -> Tensor:
        solver = self._solver_for(graph)
        rows_of, log_evidence = [], []
        for plan, rows in solver.plans(self.codes, Ask(soft=solver.softly(self.soft))):
            arguments = solver.torch_rows(plan, self.codes, self.soft, rows).arguments
            log_evidence.append(torch_executor.log_partition(**arguments))
            rows_of.append(rows)
        return _in_order(log_evidence, rows_of)

    def _marginals_by_torch(self, graph: FactorGraph, wanted: Mask) -> Tensor:
        solver = self._solver_for(graph)
        rows_of, marginals = [], []
        ask = Ask(wanted=wanted, soft=solver.softly(self.soft))
        for plan, rows in solver.plans(self.codes, ask):
            arguments = solver.torch_rows(plan, self.codes, self.soft, rows).arguments
            table, _ = torch_executor.marginals(
                **arguments, wanted=np.flatnonzero(wanted).tolist(), create_graph=True
            )
            marginals.append(table)
            rows_of.append(rows)
        return _in_order(marginals, rows_of)


class _Marginals(Function):
    """Marginals computed by a kernel, with derivatives computed by torch."""

    @staticmethod
    def forward(
        ctx: Any,
        plain: Tensor,
        reference: Callable[[FactorGraph], Tensor],
        graph: FactorGraph,
        *tables: Tensor,
    ) -> Tensor:
        """Return the given values; ``tables`` are the graph's sources that require gradients."""
        ctx.reference, ctx.graph = reference, graph
        ctx.save_for_backward(*tables)
        return plain.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """Compute the marginals by torch and differentiate them."""
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            views = [
                t.view_as(t) if create_graph else t.detach().requires_grad_()
                for t in ctx.saved_tensors
            ]
            sources = dict(zip(ctx.graph.learned, views, strict=True))
            again = ctx.reference(ctx.graph.with_sources(sources))
            gradients = torch.autograd.grad(
                again,
                views,
                upstream[0].to(again),
                create_graph=create_graph,
                materialize_grads=True,
            )
        return (None, None, None, *gradients)


def _in_order(parts: Sequence[Tensor], rows: Sequence[NDArray[np.int64]]) -> Tensor:
    """Put the chunks of a batch back in order."""
    if len(parts) == 1:
        return parts[0]
    back = np.argsort(np.concatenate(rows), kind="stable")
    whole = torch.cat(list(parts))
    return whole[torch.from_numpy(back).to(whole.device)]
