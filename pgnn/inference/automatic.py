"""The engine that is used when none is named."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import Intractable, Unsupported
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.continuous.mcmc import MCMC
from pgnn.inference.engine import Engine, FactorModel, Inputs, Names
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.explanation import Explanation, human_bytes, human_count
from pgnn.inference.posterior import Posterior
from pgnn.inference.problem import Problem
from pgnn.inference.propagation.belief_propagation import BeliefPropagation
from pgnn.inference.samples import Samples
from pgnn.inference.sampling.gibbs import Gibbs
from pgnn.inference.search.dual_decomposition import DualDecomposition

Mask = NDArray[np.bool_]

_SMALL = 3000
"""Elements of a model for which a careful plan is made at once."""

_FEW = 1e-4
"""Share of the work allowed that a row may cost for questions not to be looked at one by one."""


@dataclass(frozen=True)
class Automatic(Engine):
    """Exact where the plan fits, otherwise the approximation that suits the question.

    Marginals then come from belief propagation, most probable states from dual decomposition with
    local search, draws from Gibbs sampling. Where real variables are unknown on which something
    depends, chains of :class:`MCMC` draw these and the discrete ones are summed out. The answer
    names the engine and says why. A bare number cannot say what it is: ``log_prob`` is exact or
    raises ``Intractable``, unless an engine is named.

    Args:
        max_bytes: Memory that exact messages may take.
        max_work: Multiply-adds that an exact answer may take for all rows together (about a
            billion a second).
        seed: Of chains, where they are what answers.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> model.query("a", {"b": 1}).kind
        'exact'
    """

    max_bytes: int = 2**32
    max_work: float = 1e11
    seed: int | None = None

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
        why = self._obstacle(model, targets, evidence, inputs)
        engine: Engine = BeliefPropagation()
        if why is None:
            try:
                return self._exact.query(model, targets, evidence, inputs=inputs, errors=errors)
            except Intractable as error:
                why = str(error)
            except Unsupported as error:
                if _discrete(model):
                    raise
                why, engine = str(error), self._chains
        posterior = engine.query(model, targets, evidence, inputs=inputs, errors=errors)
        posterior.diagnostics = {"reason": why, **posterior.diagnostics}
        return posterior

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
        why = self._obstacle(model, targets, evidence, inputs)
        if why is None or k > 1:
            try:
                return self._exact.most_probable(
                    model, evidence, targets, inputs=inputs, k=k, errors=errors
                )
            except Intractable as error:
                if k > 1:
                    raise
                why = str(error)
        engine = DualDecomposition() if targets is None else BeliefPropagation()
        best = engine.most_probable(model, evidence, targets, inputs=inputs, errors=errors)
        best.diagnostics = {"reason": why, **best.diagnostics}  # type: ignore[union-attr]
        return best

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
        if self._obstacle(model, None, evidence, inputs) is None:
            try:
                return self._exact.sample(model, n, evidence, inputs=inputs, seed=seed)
            except Intractable:
                pass
            except Unsupported:
                if _discrete(model):
                    raise
                return replace(self._chains, seed=seed).sample(model, n, evidence, inputs=inputs)
        return Gibbs(seed=seed).sample(model, n, evidence, inputs=inputs, seed=seed)

    def log_prob(self, model: FactorModel, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """See :meth:`Model.log_prob`.

        Raises:
            Intractable: If the exact sum does not fit; name an engine for an estimate or a bound.
        """
        why = self._obstacle(model, [], data, inputs)
        if why is not None:
            raise Intractable(
                f"{why}; engine=BeliefPropagation() or AnnealedImportanceSampling() estimates it, "
                "MeanField() and BeliefPropagation(tree_reweighted=True) bound it"
            )
        return self._exact.log_prob(model, data, inputs=inputs)

    def explain(self, model: FactorModel, targets: Names | None, evidence: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        why = self._obstacle(model, targets, evidence, None)
        if why is None:
            try:
                told = self._exact.explain(model, targets, evidence)
            except Unsupported as error:
                if _discrete(model):
                    raise
                told = self._chains.explain(model, targets, evidence)
                return replace(told, reason=f"{told.reason}, because {error}")
            if told.fits:
                return told
            why = _too_much(told)
        told = BeliefPropagation().explain(model, targets, evidence)
        return replace(told, reason=f"{told.reason}, because {why}")

    def compile(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """See :meth:`Model.compile`."""
        return self._exact.compile(model, targets, observed)

    @property
    def _chains(self) -> MCMC:
        return MCMC(seed=self.seed)

    @property
    def _exact(self) -> JunctionTree:
        return JunctionTree(max_bytes=self.max_bytes)

    def _obstacle(
        self, model: FactorModel, targets: Names | None, evidence: Any, inputs: Inputs | None
    ) -> str | None:
        """Say why the exact answer is out of reach; None if it is worth trying."""
        alike = not inputs and _discrete(model)
        if alike and model.cached(("easy", self.max_bytes, self.max_work), self._easy(model)):
            return None
        if not alike and len(model.elements) <= _SMALL:
            return None  # tables differ from row to row: the engine itself checks the budget
        problem = Problem.read(model, evidence, inputs)
        if len(model.elements) > _SMALL:
            free: Mask = np.asarray((problem.seen.codes < 0).any(axis=0))
            if not self._narrow(problem, free):
                bound = human_bytes(self.max_bytes)
                return f"exact elimination of {int(free.sum()):,} variables needs more than {bound}"
        if not alike:
            return None
        told = self._exact.explain(model, targets, evidence)
        if told.fits and (told.multiply_adds or 0) * problem.num_rows <= self.max_work:
            return None
        return _too_much(told)

    def _easy(self, model: FactorModel) -> Callable[[], bool]:
        """Tell whether the model without evidence is so small a matter that no question is hard."""

        def easy() -> bool:
            if len(model.elements) > _SMALL:
                return False
            try:
                told = self._exact.explain(model, None, None)
            except (Intractable, Unsupported):
                return False
            return told.fits and (told.multiply_adds or 0) <= _FEW * self.max_work

        return easy

    def _narrow(self, problem: Problem, free: Mask) -> bool:
        from pgnn.inference.exact.kernels.width import narrow

        wiring = problem.graph.wiring
        most = np.log2(self.max_bytes / 8)
        return bool(
            narrow(wiring.scope_ptr, wiring.scope_var, np.log2(wiring.card), free, float(most))
        )


def _discrete(model: FactorModel) -> bool:
    return all(v.is_discrete for v in model.variables.values())


def _too_much(told: Explanation) -> str:
    work, width = human_count(told.multiply_adds or 0), told.treewidth
    if not told.fits:
        limit = "" if told.budget_bytes is None else f" of {human_bytes(told.budget_bytes)} allowed"
        return f"an exact answer needs {human_bytes(told.memory_bytes)}{limit} (treewidth {width})"
    return f"an exact answer needs {work} multiply-adds for each row (treewidth {width})"
