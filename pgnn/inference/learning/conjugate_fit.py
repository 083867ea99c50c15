"""Variational Bayes for models with conjugate conditionals."""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pgnn.abilities import Inputs
from pgnn.errors import AdvisedWarning, ModelError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.conjugate import Beliefs, Conjugate
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.conditionals.tabular import Prior
from pgnn.inference.convergence import Convergence
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.e_steps import e_step_of
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, tied
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.training_data import check_observed, unobserved_warning
from pgnn.inference.loop import Info, Run, iterate

LABEL = "variational Bayes"

if TYPE_CHECKING:
    from pgnn.inference.learning.variational_bayes import VariationalBayes


def fit_conjugate(
    model: Any,
    learner: VariationalBayes,
    data: Any,
    *,
    weights: Any,
    inputs: Inputs | None,
    seed: int | None,
    progress: bool,
) -> None:
    """Approximate the posterior of all parameters and hidden states by a product.

    Args:
        model: The model; it changes only on success.
        learner: Learner with the prior and the limits.
        data: Rows or sequences, possibly with missing values.
        weights: Weights of the rows or sequences.
        inputs: Covariates.
        seed: Random seed of the start.
        progress: Whether to show a progress bar.

    Raises:
        Unsupported: If a learnable conditional has no conjugate prior.
    """
    with fitting(model, learner) as history:
        trained = copy.deepcopy(model)
        e_step = e_step_of(trained)
        e_step.check()
        pieces = _conjugate(e_step)
        observed = e_step.read(data, weights, inputs)
        check_observed(observed)
        e_step.prepare(observed)
        priors = _priors(e_step, pieces, learner.prior, observed)
        if e_step.symmetric(observed):
            e_step.initialize(observed, int(np.random.default_rng(seed).integers(2**31)), False)
        method = _Rounds(e_step, observed, pieces, priors, learner.tolerance)
        run = iterate(method, learner.max_iterations, progress=progress, label=LABEL)
        for name, piece in pieces.items():
            piece.set_mean(method.posterior[name])
        model.load_state_dict(trained.state_dict())
        described = {n: c.described(method.posterior[n]) for n, c in pieces.items()}
        history.update(
            observed.extent,
            **bounded(method.expected, method.divergence, run),
            posterior={n: x for n, x in described.items() if not isinstance(x, dict)},
            normal_posterior={n: x for n, x in described.items() if isinstance(x, dict)},
        )
        if method.occupancy is not None:
            history["occupancy"] = method.occupancy
    judge(run, unobserved_warning(model, observed)).warn()


def judge(run: Run[Any], untold: AdvisedWarning | None) -> Convergence:
    """Return the concerns about a fit."""
    verdict = Convergence("VariationalBayes").include(untold)
    return verdict if run.converged else verdict.stopped(run.iterations, "raise max_iterations")


def bounded(expected: float, divergence: float, run: Run[Any]) -> dict[str, Any]:
    """Return the bound, its parts and the trace, for the history."""
    return {
        "lower_bound": expected - divergence,
        "expected": expected,
        "kl_divergence": divergence,
        "iterations": run.iterations,
        "converged": run.converged,
        "trace": run.history,
    }


class _Rounds:
    """Alternating updates of the posteriors of parameters and of hidden states."""

    def __init__(
        self,
        e_step: EStep[Any],
        observed: Any,
        pieces: Mapping[Hashable, Conjugate],
        priors: Mapping[Hashable, Beliefs],
        tolerance: float,
    ) -> None:
        self._e_step, self._observed, self._pieces, self._priors = e_step, observed, pieces, priors
        self._tolerance, self._bound = tolerance, -math.inf
        self._next: ExpectedStatistics | None = None
        self.posterior: dict[Hashable, Beliefs] = {}
        self.expected = self.divergence = 0.0
        self.occupancy: list[float] | None = None

    def init(self) -> None:
        """Initialise by the expectations under the current parameters."""

    def step(self, state: None) -> tuple[None, Info]:
        """One round, with the bound after it."""
        expected = self._e_step.expect(self._observed) if self._next is None else self._next
        self.divergence = 0.0
        for name, piece in self._pieces.items():
            prior = self._priors[name]
            sums = expected.sums.get(name)
            self.posterior[name] = prior if sums is None else piece.updated(prior, sums)
            piece.set_geometric_mean(self.posterior[name])
            self.divergence += piece.divergence(self.posterior[name], prior)
        self._next = self._e_step.expect(self._observed)
        self.expected = self._next.log_likelihood
        if self._next.occupancy is not None:
            self.occupancy = self._next.occupancy.tolist()
        bound, before = self.expected - self.divergence, self._bound
        self._bound = bound
        done = bound - before <= self._tolerance * max(abs(bound), 1.0)
        return None, Info(done, {"lower_bound": bound})


def _conjugate(e_step: EStep[Any]) -> dict[Hashable, Conjugate]:
    """Return the learnable conditionals.

    Raises:
        Unsupported: If one has no conjugate prior, is partly constant, or shares parameters.
    """
    pieces: dict[Hashable, Conjugate] = {}
    for name, conditional in e_step.pieces.items():
        if not isinstance(conditional, Conjugate) or conditional.inputs:
            raise Unsupported(
                f"VariationalBayes learns tables and normal distributions; {name!r} has a "
                f"{type(conditional).__name__}",
                "use EM()",
            )
        if any(not p.requires_grad for p in conditional.parameters()):
            raise Unsupported(
                f"some parameters of {name!r} are constants: VariationalBayes needs all or none "
                "of them to be learnable"
            )
        pieces[name] = conditional
    if not pieces or e_step.learns_other_parameters:
        kind = type(e_step.model).__name__
        raise Unsupported(f"VariationalBayes learns no {kind}: it has other parameters", "use EM()")
    shared = [names for names in tied(e_step.pieces) if len(names) > 1]
    if shared:
        raise Unsupported(f"{shared[0][0]!r} and {shared[0][1]!r} share parameters", "use EM()")
    return pieces


def _priors(
    e_step: EStep[Any], pieces: Mapping[Hashable, Conjugate], value: Any, observed: Any
) -> dict[Hashable, Beliefs]:
    """Return the prior of each conditional; given priors are used where they apply."""
    if isinstance(value, Mapping):
        unknown = [n for n in value if n not in pieces]
        if unknown:
            known = ", ".join(map(repr, pieces))
            raise ModelError(
                f"a prior is given for {unknown[0]!r}; learnable variables are {known}"
            )
    beliefs = {}
    for name, piece in pieces.items():
        conjugate: Any = piece
        conditional: Conditional = conjugate
        prior = value.get(name) if isinstance(value, Mapping) else value
        if isinstance(prior, Prior) and not _accepts(conditional, prior):
            prior = None
        elif not isinstance(value, Mapping) and not isinstance(prior, Prior):
            prior = prior if not conditional.child.is_discrete else None
        beliefs[name] = piece.beliefs(prior, e_step.values_of(name, conditional, observed))
    return beliefs


def _accepts(conditional: Conditional, prior: Prior) -> bool:
    return isinstance(conditional, ExponentialFamily) and conditional.accepts(prior)
