"""The mean-field engine."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.groups.factor_group import FactorGroup, weighed
from pgnn.inference.beliefs import Beliefs
from pgnn.inference.convergence import Convergence
from pgnn.inference.engine import Engine
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.loop import iterate
from pgnn.inference.mean_field.block_ascent import BlockAscent, Blocks, Slices, elements_of_blocks
from pgnn.inference.mean_field.coordinate_ascent import CoordinateAscent, MeanFieldState
from pgnn.inference.mean_field.predictor_ascent import PredictorAscent, with_bounds
from pgnn.inference.question import Question
from pgnn.limits import NOT_NEGATIVE, check_settings, check_work

Floats = NDArray[np.float64]
Block = Sequence[Hashable] | Slices


@dataclass(frozen=True)
class MeanField(Engine):
    r"""Variational inference by a product of independent distributions, with a lower bound.

    .. math:: \log Z \ge \max_q\; E_q[\log \tilde p(x)] + H(q), \qquad q(x) = \prod_i q_i(x_i)

    Coordinate ascent sets each :math:`q_i \propto \exp E_{q_{-i}}[\log \tilde p]` in turn, so that
    the bound never decreases. ``log_evidence`` is the bound, marginals are those of q. With
    ``blocks`` the distribution inside a block is exact given the others (structured mean field);
    the ascent starts from the optimum of independent elements, so that its bound is never worse.

    If tables have zeros, q must put no mass on impossible configurations. States that the zeros
    exclude are removed, and the engine searches for an initial state of positive probability. If
    none is found the bound is ``-inf``, which a warning and ``diagnostics["feasible"]`` report; if
    there provably is none, the evidence is impossible.

    The expected log of :class:`Sigmoid` and :class:`Softmax` children with very many parents, whose
    tables would be too large, has no closed form; it is bounded from below (by the tilted bound of
    Saul, Jaakkola and Jordan 1996, or the quadratic one of Jaakkola and Jordan 1996 where that is
    tighter), so that the answer is still a lower bound. Other conditionals of that size raise
    :class:`Intractable`.

    Args:
        blocks: Lists of names of variables or elements, or :class:`Slices` of an array, whose
            joint distribution is exact; elements in no block are independent.
        restarts: Number of random initialisations; the best bound of each row is kept.
        max_iterations: Largest number of sweeps over all elements (over all blocks).
        tolerance: A row has converged when no probability changes by more in a sweep.
        seed: Random seed of the initial values.
        progress: Whether to show a progress bar if it takes longer than a second.

    Raises:
        ModelError: If a setting is out of range or an element is in two blocks.
        Intractable: If a block is too wide for the exact engine, or a table too large.

    Cost:
        Per sweep one multiply-add for each table entry and element of the table's scope, ``O(K)``
        for a Potts factor; a few exponentials for each parent of a child without a table; one exact
        inference per block.

    References:
        Wainwright and Jordan (2008), Graphical models, exponential families, and variational
        inference, sections 5.3 and 5.5. Saul and Jordan (1995), Exploiting tractable
        substructures in intractable networks.

    Example:
        >>> import pgnn
        >>> a, b = pgnn.Variable("a", 2), pgnn.Variable("b", 2)
        >>> table = torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> model = pgnn.MarkovRandomField([pgnn.Factor([a, b], table)])
        >>> bound = model.query(engine=MeanField(seed=0)).log_evidence
        >>> exact = model.query().log_evidence
        >>> round(float(bound), 3), round(float(exact), 3)
        (1.718, 1.744)
        >>> together = MeanField(blocks=[["a", "b"]], seed=0)
        >>> round(float(model.query(engine=together).log_evidence), 3)
        1.744
    """

    blocks: Sequence[Block] | None = None
    restarts: int = 1
    max_iterations: int = 1000
    tolerance: float = 1e-6
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, restarts=1, max_iterations=1, tolerance=NOT_NEGATIVE)
        named = isinstance(self.blocks, str) or not isinstance(self.blocks, Iterable)
        if self.blocks is not None and named:
            raise ModelError(f"blocks must be a list of lists of names, got {self.blocks!r}")

    @property
    def kind_of_evidence(self) -> str:
        """See :meth:`Engine.kind_of_evidence`."""
        return "lower bound"

    def infer(self, question: Question) -> Beliefs:
        """See :class:`Engine`."""
        columns = question.graph.offset[-1]
        question, bounds = with_bounds(question)
        settings = question, question.log_field(), self.tolerance
        start = PredictorAscent(*settings, bounds) if bounds else CoordinateAscent(*settings)
        ascent, possible = start.possible()
        rows = np.flatnonzero(possible)
        blocks = None
        if self.blocks is not None:
            if bounds:
                raise self._cannot(
                    "does not support blocks with conditionals whose tables are too large",
                    "it without blocks, or Gibbs()",
                )
            numbers = elements_of_blocks(question.graph.elements, self.blocks)
            blocks = BlockAscent(ascent, Blocks(ascent.wiring, numbers))
        elements = len(question.graph.elements)
        check_work(f"{self.restarts:,} starts of {question.num_rows:,} rows",
                   self.restarts * question.num_rows * elements, "Take fewer restarts")  # fmt: skip
        rng = np.random.default_rng(self.seed)
        best: tuple[MeanFieldState, Floats] | None = None
        for restart in range(self.restarts):
            state, bound = self._ascend(ascent, blocks, rng, restart, rows)
            best = (state, bound) if best is None else _better(best, (state, bound))
        assert best is not None
        state, bound = best
        infeasible = rows[np.isneginf(bound[rows])]
        possible[infeasible] = ~ascent.proven_impossible(infeasible)
        beliefs = _beliefs(ascent, state, bound, possible, independent=blocks is None)
        return replace(beliefs, marginals=beliefs.marginals[:, :columns])

    def reason(self) -> str:
        """See :class:`Engine`."""
        if self.blocks is None:
            return "a product of independent distributions is fitted; its bound is below log Z"
        return "a product of exact distributions of blocks is fitted; its bound is below log Z"

    def _ascend(
        self,
        ascent: CoordinateAscent,
        blocks: BlockAscent | None,
        rng: np.random.Generator,
        restart: int,
        rows: NDArray[np.int64],
    ) -> tuple[MeanFieldState, Floats]:
        """Run the ascent from one initial state; return the last state and its bounds."""
        state = ascent.begin(ascent.start(rng, 1.0 if restart else 0.01), rows)
        label = "mean field" + (f", start {restart + 1}" if restart else "")
        options: dict[str, Any] = {"progress": self.progress, "label": label}
        state = iterate(ascent, self.max_iterations, state=state, **options).state
        if blocks is None:
            return state, ascent.bounds(state.q)
        state = blocks.begin(state.q, rows)
        state = iterate(blocks, self.max_iterations, state=state, **options).state
        return state, blocks.bounds(state.q)

    def check_rows(
        self, question: Question, log_values: Tensor, diagnostics: Mapping[str, Any], advice: str
    ) -> None:
        """See :meth:`Engine.check_rows`."""
        possible = torch.where(diagnostics["feasible"].to(log_values.device), log_values, 0.0)
        super().check_rows(question, possible, diagnostics, advice)

    def judge(self, diagnostics: Mapping[str, Any], advice: str) -> Convergence:
        """See :meth:`Engine.judge`."""
        verdict, feasible = super().judge(diagnostics, advice), diagnostics["feasible"]
        if not feasible.all():
            verdict.add(
                "no distribution of positive probability was found for "
                f"{int((~feasible).sum())} of {len(feasible)} rows, whose bound is -inf and whose "
                "marginals are those of softened tables",
                "use Gibbs(), BeliefPropagation() or JunctionTree(), or larger blocks",
            )
        return verdict


def _better(
    first: tuple[MeanFieldState, Floats], second: tuple[MeanFieldState, Floats]
) -> tuple[MeanFieldState, Floats]:
    """Return the better of two results in each row."""
    (a, bound_a), (b, bound_b) = first, second
    improved = bound_b > bound_a
    active = np.zeros(len(improved), dtype=np.bool_)
    active[a.active[~improved[a.active]]] = True
    active[b.active[improved[b.active]]] = True
    state = MeanFieldState(
        np.where(improved[:, None], b.q, a.q),
        np.flatnonzero(active),
        np.where(improved, b.iterations, a.iterations),
        np.where(improved, b.residual, a.residual),
    )
    return state, np.maximum(bound_a, bound_b)


def _beliefs(
    ascent: CoordinateAscent,
    state: MeanFieldState,
    bound: Floats,
    possible: Any,
    *,
    independent: bool,
) -> Beliefs:
    """Return the answer as tensors, impossible rows marked."""
    graph = ascent.question.graph
    q = torch.from_numpy(np.where(possible[:, None], state.q, np.nan))
    log_evidence = torch.from_numpy(np.where(possible, bound, -np.inf))
    log_evidence = log_evidence.to(graph.device, graph.dtype)
    if independent and torch.is_grad_enabled() and ascent.requires_grad:
        fitted_q = torch.from_numpy(state.q).to(graph.device)
        score = _expected_score(graph, fitted_q) + ascent.expected_bounds(fitted_q)
        log_evidence = log_evidence + (score - score.detach()).to(graph.dtype)
    converged = np.ones(len(bound), dtype=np.bool_)
    converged[state.active] = False
    return Beliefs(
        q.to(graph.device, graph.dtype),
        log_evidence,
        "lower bound",
        {
            "converged": torch.from_numpy(converged),
            "iterations": torch.from_numpy(state.iterations),
            "residual": torch.from_numpy(state.residual),
            "feasible": torch.from_numpy(~possible | ~np.isneginf(bound)),
        },
        "raise max_iterations or tolerance; the bound is still valid",
    )


def _expected_score(graph: FactorGraph, q: Tensor) -> Tensor:
    r"""``(B,)`` finite part of :math:`E_q[\log \tilde p]`, differentiable in the tables.

    At a stationary point of q its gradient is that of the bound.
    """
    field = graph.log_field.double()
    total = graph.log_constant.double() + weighed(q, field).sum(dim=1)
    for g in graph.interactions:
        total = total + _group_score(graph, g, q)
    return total


def _group_score(graph: FactorGraph, g: FactorGroup, q: Tensor) -> Tensor:
    offset, card = graph.elements.offset, graph.elements.card
    return g.expected(
        [
            q[:, torch.from_numpy(offset[s][:, None] + np.arange(card[s[0]])).to(q.device)]
            for s in g.scopes.T
        ]
    )
