"""Hamiltonian Monte Carlo over the real variables of a model, with discrete ones summed out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.finite import has_nan
from pgnn.factors.variable import Variable
from pgnn.inference.ancestral_draws import filled, partly_observed
from pgnn.inference.answer_columns import AnswerColumns
from pgnn.inference.continuous.chain_summary import (
    all_reals,
    codes_of,
    diagnostics_of,
    marginals_of,
    report,
    thin,
)
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.hamiltonian_chains import Draws, HamiltonianChains
from pgnn.inference.continuous.potential_energy import PotentialEnergy
from pgnn.inference.continuous.real_posterior import RealPosterior
from pgnn.inference.engine import Engine
from pgnn.inference.explanation import Explanation
from pgnn.inference.model_reader import no_posterior
from pgnn.inference.question import Question, names_of, targets_of
from pgnn.inference.samples import Samples
from pgnn.limits import Interval, check_settings, check_size, check_work

_GRADIENT = 1000
"""Estimated operations of a gradient per coordinate, a lower bound."""


@dataclass(frozen=True)
class MCMC(Engine):
    r"""The No-U-Turn sampler over the latent real variables.

    .. math:: p(r \mid e) \propto \sum_z p(z, r, e), \qquad
        p(z_i \mid e) \approx \tfrac1S \sum_s p(z_i \mid r^{(s)}, e)

    Discrete variables are summed out exactly at each gradient, and their marginals are averages of
    exact marginals given draws of the reals. Positive numbers, intervals and simplexes are
    transformed to unconstrained coordinates. All chains run in one batch.

    A program whose control flow depends on latent reals is executed by Pyro at each point; other
    programs are recorded once.

    The answer is a :class:`RealPosterior`; its ``diagnostics`` are ``r_hat`` and
    ``effective_sample_size`` of each real variable (rank-normalised; the worst of its components),
    ``divergences``, ``acceptance``, ``step_size``, ``tree_depth`` (a number for each chain),
    ``gradients``, ``compiled``, ``converged`` and ``standard_error`` of discrete marginals by name.

    Args:
        chains: Number of chains.
        warmup: Number of transitions that adapt step size and masses, and are discarded.
        samples: Number of draws of each chain.
        max_tree_depth: Trajectories have at most ``2 ** max_tree_depth`` steps.
        target_accept: Target acceptance probability; closer to 1 means smaller steps and fewer
            divergences.
        num_steps: Number of leapfrog steps of each trajectory, for plain Hamiltonian Monte Carlo;
            by default, trajectories end at a U-turn (NUTS), which is rarely worse.
        seed: The same seed gives the same draws.
        progress: Whether to show a progress bar after one second.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        One batched gradient of the log density per leapfrog step, which is ``5`` to ``50`` times
        ``warmup + samples`` gradients for most models.

    References:
        Hoffman and Gelman (2014), The No-U-Turn sampler. Betancourt (2017), A conceptual
        introduction to Hamiltonian Monte Carlo. Vehtari et al. (2021), Rank-normalization,
        folding, and localization.

    Example:
        >>> import pgnn
        >>> mean, y = pgnn.Variable("mean"), pgnn.Variable("y")
        >>> model = pgnn.BayesianNetwork(
        ...     [("mean", "y")],
        ...     {
        ...         "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
        ...         "y": pgnn.LinearGaussian(y, [mean], [1.0], 0.0, covariance=1.0),
        ...     },
        ... )
        >>> posterior = model.query("mean", {"y": 2.0}, engine=MCMC(seed=0))
        >>> abs(float(posterior["mean"].mean) - 1.0) < 0.1
        True
    """

    chains: int = 4
    warmup: int = 500
    samples: int = 1000
    max_tree_depth: int = 10
    target_accept: float = 0.8
    num_steps: int | None = None
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        probability = Interval(0.0, 1.0, open_low=True, open_high=True)
        check_settings(
            self, chains=1, samples=4, max_tree_depth=1, num_steps=1, target_accept=probability
        )

    def answer_query(self, question: Question) -> RealPosterior:
        """See :class:`Engine`; targets may be real, and default to all variables.

        Missing elements of a partially observed array are drawn given the other variables.
        """
        return self._answer(question)[0]

    def answer_with_draws(self, question: Question) -> tuple[RealPosterior, Samples]:
        """See :class:`Engine`."""
        posterior, potential, values = self._answer(question)
        n, numbers = self.chains * self.samples, question.num_cells
        check_size(f"{n:,} draws of {numbers:,} numbers", n * numbers, advice="Use fewer samples")
        flat = {k: x.flatten(end_dim=1) for k, x in values.items()}
        return posterior, _all_variables(question, potential, flat, n, self.seed)

    def _answer(
        self, question: Question
    ) -> tuple[RealPosterior, PotentialEnergy, dict[Hashable, Tensor]]:
        """Return the answer, and ``(C, n, *shape)`` draws of the latent reals."""
        model = question.model
        potential = PotentialEnergy(model, question.observed, question.inputs)
        reals, discrete = _split(question, potential)
        partly = [v.name for v in reals if v not in potential.latent]
        draws = self._run(potential)
        values = potential.values(draws.points)
        diagnostics = diagnostics_of(potential, draws, values)
        report(potential, diagnostics, self.chains * self.samples)
        asked_targets = targets_of(model, discrete)
        marginals, errors = marginals_of(potential, values, asked_targets.mask)
        order = asked_targets.order
        if order is not None:
            marginals, errors = marginals[:, torch.from_numpy(order)], errors[order]
        columns = AnswerColumns(asked_targets.variables, "this answer", states=True)
        completed = self._completed(question, potential, values, partly) if partly else {}
        latent = {v.name for v in potential.latent}
        posterior = RealPosterior(
            asked_targets.variables,
            marginals,
            reals,
            values | completed,
            latent=[v for v in model.variables.values() if v.name in latent],
            diagnostics={**diagnostics, "standard_error": columns.views(errors)},
            statistics={
                "lp": -draws.potential,
                "acceptance_rate": draws.acceptance,
                "tree_depth": draws.depth,
                "n_steps": draws.gradients,
                "diverging": draws.diverged,
                "energy": draws.energy,
            },
        )
        return posterior, potential, values

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """See :class:`Engine`; draws are spread over all chains, which are lengthened if needed."""
        engine = replace(self, seed=self.seed if seed is None else seed)
        engine = replace(engine, samples=max(self.samples, -(-n // self.chains)))
        potential = PotentialEnergy(question.model, question.observed, question.inputs)
        draws = engine._run(potential)
        values = potential.values(draws.points)
        diagnostics = diagnostics_of(potential, draws, values)
        report(potential, diagnostics, engine.chains * engine.samples)
        return _all_variables(question, potential, thin(values, n), n, engine.seed)

    def describe(self, question: Question) -> Explanation:
        """See :class:`Engine`."""
        model, potential = question.model, PotentialEnergy(question.model, question.observed)
        _split(question, potential)
        size = potential.coordinates.size
        summed = isinstance(potential.density, SummedDensity)
        hidden = len(model.elements) - int((potential.observed.codes >= 0).sum())
        return Explanation(
            engine=type(self).__name__,
            kind="estimate",
            reason=f"{self.chains} chains over {size} unconstrained real numbers"
            + (f", {hidden} discrete variables summed out at each step" if summed else ""),
            num_variables=len(model.elements) + len(potential.latent),
            num_eliminated=hidden + len(potential.latent),
            memory_bytes=8.0 * self.chains * size * (self.samples + 2 * self.max_tree_depth + 20),
        )

    def _completed(
        self,
        question: Question,
        potential: PotentialEnergy,
        values: Mapping[Hashable, Tensor],
        names: Sequence[Hashable],
    ) -> dict[Hashable, Tensor]:
        """Return ``(C, n, *shape)`` values of partially observed arrays, missing cells drawn."""
        n, variables = self.chains * self.samples, question.model.variables
        numbers = sum(variables[x].num_elements for x in names)
        check_size(f"{n:,} draws of {numbers:,} numbers", n * numbers, advice="Use fewer samples")
        flat = {k: x.flatten(end_dim=1) for k, x in values.items()}
        whole = _all_variables(question, potential, flat, n, self.seed)
        shape = (self.chains, self.samples)
        return {x: whole[x].reshape(*shape, *variables[x].shape) for x in names}

    def _run(self, potential: PotentialEnergy) -> Draws:
        size, total = potential.coordinates.size, self.warmup + self.samples
        what = f"{self.chains:,} chains of {total:,} draws of {size:,} numbers"
        numbers = 3 * self.samples * size + 8 * total + 2 * self.max_tree_depth * size
        check_size(what, self.chains * numbers, advice="Use fewer chains or samples")
        gradients = self.chains * total * (self.num_steps or 1)
        check_work(what, _GRADIENT * gradients * max(size, 1), "Use fewer chains, samples or steps")
        sampler = HamiltonianChains(
            self.warmup, self.samples, self.max_tree_depth, self.target_accept, self.num_steps
        )
        start_seed, chain_seed = np.random.SeedSequence(self.seed).generate_state(2)
        points = potential.start(self.chains, int(start_seed))
        return sampler.run(potential, points, int(chain_seed), self.progress)


def _all_variables(
    question: Question,
    potential: PotentialEnergy,
    values: Mapping[Hashable, Tensor],
    n: int,
    seed: int | None,
) -> Samples:
    """Return ``n`` draws of all variables, given those of the latent reals."""
    codes, reals = codes_of(potential, values, n, seed), all_reals(potential, values, n)
    return filled(question, Samples(tuple(question.model.variables.values()), codes, reals), seed)


def _split(question: Question, potential: PotentialEnergy) -> tuple[list[Variable], list[Hashable]]:
    """Return the real target variables, and the names of the discrete ones."""
    model, targets = question.model, question.names
    partly = [model.variables[n] for n in partly_observed(question)]
    unknown = {v.name: v for v in [*potential.latent, *partly]}
    if targets is None:
        return [*unknown.values()], [v.name for v in model.elements.variables]
    reals: list[Variable] = []
    discrete: list[Hashable] = []
    for name in names_of(targets, model.variables, model.elements):
        if name in unknown:
            reals.append(unknown[name])
        elif name not in model.variables or model.variables[name].is_discrete:
            discrete.append(name)
        elif has_nan(question.observed.reals[name]):
            raise Unsupported(
                f"{name!r} was partially observed; its missing components cannot be drawn"
            )
        else:
            raise no_posterior(question.model, name)
    return reals, discrete
