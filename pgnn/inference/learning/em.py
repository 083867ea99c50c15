"""Expectation maximisation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pgnn.abilities import Inputs
from pgnn.errors import AdvisedWarning, ModelError
from pgnn.evidence.partitioned_frame import is_partitioned
from pgnn.factors.conditionals.parameter_prior import ParameterPrior
from pgnn.factors.conditionals.tabular import Prior
from pgnn.inference.convergence import Convergence
from pgnn.inference.engine import Engine
from pgnn.inference.history import RUNNING
from pgnn.inference.learner import Learner
from pgnn.inference.learning.checkpoints import Checkpoints, Keeper, digest
from pgnn.inference.learning.distributed_e_step import (
    DistributedEStep,
    check_group,
    from_first,
    is_first,
    together,
)
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.e_steps import e_step_of
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Pieces
from pgnn.inference.learning.extrapolation import Extrapolation
from pgnn.inference.learning.fit_under_way import FitUnderWay
from pgnn.inference.learning.m_step import accepting, doubts
from pgnn.inference.learning.partitioned_e_step import LearningRows, PartitionedEStep
from pgnn.inference.learning.restarts import Start
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.running_statistics import RunningStatistics, learn_from_batch
from pgnn.inference.learning.training_data import unobserved_warning
from pgnn.limits import NOT_NEGATIVE, Interval, check_settings, check_size

_SHORT = 20
"""Number of iterations after which only the best of several starts continues."""
_LEAST_MODEL = 10_000
"""Memory of a copy of the smallest model, in values."""
_UNUSED = 0.5
"""Expected number of steps in a state below which the state is reported."""


@dataclass(frozen=True)
class EM(Learner):
    r"""Expectation maximisation of networks, fields and models over time (there Baum-Welch).

    .. math:: \theta \leftarrow \arg\max_\theta E_{p(z \mid x, \theta')}[\log p(x, z \mid \theta)]
        + \log p(\theta)

    Each iteration increases the likelihood by expected counts. Complete data gives plain counts;
    unobserved variables are summed out, which is correct for cells missing at random: missingness
    may depend on observed values only. Otherwise model it by additional indicator columns
    (:func:`pgnn.missing_indicators`). States may be given as likelihoods, :func:`pgnn.likelihood`.

    Conditionals without a closed form (networks, inputs) take L-BFGS steps instead, which never
    decrease the likelihood. Conditionals that share all parameters, or whose networks share some,
    are learned together from the sum of their expected statistics; so are all potentials of a
    field, by L-BFGS. Discrete variables may be hidden, as may real ones without children or with
    only linear Gaussian children, which are integrated out.

    If hidden states are still interchangeable, they are initialised by clusters of the observations
    (k-means). Several restarts run in parallel for a few iterations each, and the best one to
    convergence.

    ``model.history`` has ``log_likelihood``, ``iterations``, ``converged``, ``trace`` (lists over
    iterations), and, for models with one state variable, ``occupancy`` (expected steps in each
    state).

    Args:
        prior: Prior of tables, such as :class:`Laplace`, or of parameters, such as
            :class:`NormalPrior`; or a mapping by name of the conditional: the name of its child;
            for a different conditional at the first step ``("initial", name)``, for the state of a
            hidden Markov model ``"initial"``. Structural zeros stay zero.
        engine: Engine that sums out unobserved variables: exact if not given;
            ``BeliefPropagation()`` or another differentiable approximation, with which the
            likelihood may decrease; or a sampling engine, such as ``Gibbs()`` (for networks): the
            trace is then that of completed rows. Models over time are unrolled for it; each
            component of a mixture uses it.
        num_samples: Number of samples per step of a sampling engine, at least one per row.
        hard: Whether to fill in the discrete states that are most probable together instead of
            summing (classification EM; segmental k-means for sequences); real values are integrated
            out. The trace is that of the completed rows.
        restarts: Number of restarts; random from the second on.
        initialize: Whether to initialise by clusters; if not given, only if states are
            interchangeable.
        batch_size: Sequences per step of streaming EM; all at once if not given.
        decay: Exponent of the step sizes :math:`(k + 2)^{-\text{decay}}` of streaming EM, in (0.5,
            1].
        accelerate: Whether to extrapolate after every two steps (SQUAREM), if that increases the
            value; it never decreases. Or another extrapolation, :class:`~pgnn.OverRelaxation`.
        max_iterations: Largest number of passes over the rows.
        tolerance: Stop when the estimated remaining gain, relative to the value, is smaller; it is
            extrapolated from the last gains (Aitken).
        checkpoints: Where to save progress; an interrupted fit resumes from there.
        distributed: Whether rows are split over the processes of ``torch.distributed`` (of a
            script that ``torchrun`` runs): each passes its own rows, and all obtain the model of
            all rows. Initial clusters are those of the first process.

    Raises:
        ModelError: If a setting is out of range.

    References:
        Baum, Petrie, Soules and Weiss (1970). Cappé and Moulines (2009), On-line EM for latent
        data models. Biernacki, Celeux and Govaert (2003), for the starts. Murphy (2002), Dynamic
        Bayesian networks, chapter 6.

    Example:
        >>> from pgnn import HiddenMarkovModel
        >>> model = HiddenMarkovModel(2, {"coin": 2})
        >>> tosses = {"coin": [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]}
        >>> model.fit(tosses, learner=EM(restarts=5), seed=0, progress=False).history["converged"]
        True
    """

    prior: Any = None
    engine: Engine | None = None
    num_samples: int = 1000
    hard: bool = False
    restarts: int = 1
    initialize: bool | None = None
    batch_size: int | None = None
    decay: float = 0.7
    accelerate: bool | type[Extrapolation] = True
    max_iterations: int = 500
    tolerance: float = 1e-7
    checkpoints: Checkpoints | None = None
    distributed: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            restarts=1,
            num_samples=1,
            max_iterations=1,
            batch_size=1,
            decay=Interval(0.5, 1.0, open_low=True),
            tolerance=NOT_NEGATIVE,
        )
        kind = self.accelerate
        if not isinstance(kind, bool) and not (
            isinstance(kind, type) and issubclass(kind, Extrapolation)
        ):
            raise ModelError(f"accelerate must be True, False or OverRelaxation, got {kind!r}")
        if self.checkpoints is not None and not isinstance(self.checkpoints, Checkpoints):
            raise ModelError(f"checkpoints must be Checkpoints(path), got {self.checkpoints!r}")
        if self.distributed and self.batch_size is not None:
            raise ModelError("batch_size needs a single process", "leave out distributed=True")
        if self.engine is not None and not isinstance(self.engine, Engine):
            raise ModelError(f"engine must be one such as pgnn.JunctionTree(), got {self.engine!r}")
        if self.prior is not None and not isinstance(self.prior, Prior | ParameterPrior | Mapping):
            raise ModelError(f"prior must be one such as Laplace(), or by name, got {self.prior!r}")

    def fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        """Fit a model; the record is in ``model.history``.

        Args:
            model: A :class:`BayesianNetwork`, :class:`MarkovRandomField`,
                :class:`HiddenMarkovModel` or :class:`DynamicBayesianNetwork`, or another model
                with their abilities.
            data: Rows, possibly with missing values or likelihoods; or sequences, see
                :class:`~pgnn.evidence.sequence_evidence.SequenceEvidence`; or a Dask frame of rows,
                whose expectations are computed on its partitions.
            weights: ``(B,)`` weights of the rows or sequences, or the name of a column.
            inputs: Covariates ``(B, ...)``; over time ``(B, T, ...)``.
            seed: Random seed of the starts and of the order of batches.
            progress: Whether to show a progress bar.

        Raises:
            DataError: If there is no data, or a row is impossible. After an error the
                model is unchanged.
            ModelError: If nothing is learnable, or a prior is invalid.
            Unsupported: If an unobserved real variable has children that are not linear Gaussian, a
                field has inputs or real variables, or conditionals with a closed form share only
                some parameters.

        Warns:
            NotConverged: If the limit was reached, the value decreased, a state is unused, or a
                variance is at its lower bound.
        """
        if self.distributed:
            check_group()
        e_step = self._e_step(model, partitioned=is_partitioned(data))
        e_step.check()
        if self.prior is not None and not e_step.pieces and not e_step.learns_other_parameters:
            raise ModelError(
                "priors need conditionals, which a field does not have", "leave out prior="
            )
        with fitting(model, self) as history:
            observed = e_step.read(data, weights, inputs)
            e_step.check_observed(observed)
            best = self._best_start(model, observed, self._priors(e_step.pieces), seed, progress)
            last = best.finish()
            model.load_state_dict(best.e_step.model.state_dict())
            history.update(
                rows=int(e_step.of_all(observed.num_rows)), **self._history_entries(best, last)
            )
        self._warn(best, last, unobserved_warning(model, observed))

    def partial_fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> None:
        """Take one step, from one batch; see :meth:`Model.partial_fit`.

        Earlier batches are discounted by ``decay``. ``model.history`` has ``batches``, and the
        ``batch_log_likelihood`` of each before its step.

        Raises:
            DataError: If there is no data, or a row is impossible.
            ModelError: If nothing is learnable, or a prior is invalid.
        """
        learn_from_batch(
            model,
            self,
            self._e_step,
            data,
            weights=weights,
            inputs=inputs,
            seed=seed,
            decay=self.decay,
            priors=lambda e_step: self._priors(e_step.pieces),
        )

    # --- helpers ------------------------------------------------------------------------------

    def _history_entries(self, best: Start, last: ExpectedStatistics) -> dict[str, Any]:
        """Write the figures of the best start."""
        noisy = best.e_step.noisy
        entries: dict[str, Any] = {
            "weight": last.weight,
            "completed_log_likelihood" if noisy else "log_likelihood": last.log_likelihood,
            "iterations": len(best.trace["log_likelihood"]),
            "converged": best.converged,
            "trace": best.trace,
        }
        if self.engine is not None:
            entries["engine"] = repr(self.engine)
        if last.occupancy is not None:
            entries["occupancy"] = last.occupancy.tolist()
        if not noisy and not (last.rows and best.e_step.shared):
            running = RunningStatistics.after_fit(best.e_step.pieces, last)
            entries |= {} if running is None else {RUNNING: running.kept()}
        return entries

    def _e_step(self, model: Any, observed: Any = None, *, partitioned: bool = False) -> EStep[Any]:
        if partitioned or isinstance(observed, LearningRows):
            if self.distributed or self.hard or self.checkpoints or self.batch_size is not None:
                raise ModelError(
                    "partitions of a frame take no distributed=, hard=, checkpoints=, batch_size=",
                    "leave them out",
                )
            return PartitionedEStep(e_step_of(model, self.engine))
        e_step = e_step_of(model, self.engine, observed, self.num_samples)
        return DistributedEStep(e_step) if self.distributed else e_step

    def _priors(self, pieces: Pieces) -> dict[Hashable, Any]:
        if self.prior is None:
            return {}
        if isinstance(self.prior, Mapping):
            unknown = [n for n in self.prior if n not in pieces]
            if unknown:
                raise ModelError(
                    f"a prior is given for {unknown[0]!r}; learnable variables are "
                    + ", ".join(map(repr, pieces))
                )
            return dict(self.prior)
        if isinstance(self.prior, Prior):
            self.prior.check({c.child.name: c for c in pieces.values()})
        return accepting(pieces, self.prior)

    def _best_start(
        self,
        model: Any,
        observed: Any,
        priors: Mapping[Hashable, Any],
        seed: int | None,
        progress: bool,
    ) -> Start:
        """Run every start for a few iterations, and the best one to convergence."""
        size = sum(p.numel() for p in model.parameters()) + _LEAST_MODEL
        check_size(f"{self.restarts:,} copies of the model", self.restarts * size,
                   advice="Take fewer restarts")  # fmt: skip
        keeper = self._keeper(model, observed, seed)
        state = self._agreed(keeper.state)
        if state is None:
            drawn = np.random.default_rng(seed).integers(2**31, size=self.restarts).tolist()
            seeds = self._agreed(lambda: drawn)
        else:
            seeds = state["seeds"]
        starts = [
            Start(self._e_step(copy.deepcopy(model), observed), observed, priors, self, s)
            for s in seeds
        ]
        run = FitUnderWay(starts, seeds, keeper)
        if state is not None:
            run.restore(state)
        else:
            self._begin(starts, observed)
        if run.best is None and self.restarts > 1:
            short = min(_SHORT, self.max_iterations)
            run.continue_fit(starts, short, progress, f"EM, {self.restarts} starts")
        best = run.chosen()
        if self.accelerate:
            best.accelerate()
        if not best.done:
            left = self.max_iterations - (_SHORT if self.restarts > 1 else 0)
            run.continue_fit([best], left, progress, "EM")
        best.settle()
        keeper.close()
        return best

    def _begin(self, starts: list[Start], observed: Any) -> None:
        """Initialise the starts."""
        for start in starts:
            start.e_step.prepare(observed)
        clustered = self.initialize
        if clustered is None:
            clustered = starts[0].e_step.symmetric(observed)
        for k, start in enumerate(starts):
            if clustered or k:
                start.initialize(at_random=k > 0)
            start.e_step.start_possible(observed)

    def _keeper(self, model: Any, observed: Any, seed: int | None) -> Keeper:
        """Return the keeper of checkpoints, for the first process only."""
        if self.checkpoints is None or (self.distributed and not is_first()):
            return Keeper(None, {})
        fields = {
            n: getattr(observed, n)
            for n in observed.__dataclass_fields__
            if n not in ("index", "whole")
        }
        settings = replace(self, checkpoints=None, max_iterations=1)
        return Keeper(
            self.checkpoints,
            {
                "settings": repr(settings),
                "seed": seed,
                "data": digest(fields),
                "model": digest(model.state_dict()),
            },
        )

    def _agreed(self, make: Callable[[], Any]) -> Any:
        """Return the value of the first process."""
        return from_first(together(make)) if self.distributed else make()

    def _warn(self, best: Start, last: ExpectedStatistics, untold: AdvisedWarning | None) -> None:
        verdict = Convergence("EM").include(untold)
        for doubt in doubts(best.e_step.pieces, last):
            verdict.include(doubt)
        occupancy = [] if last.occupancy is None else last.occupancy.tolist()
        unused = [k for k, steps in enumerate(occupancy) if steps < _UNUSED * best.unit]
        if unused:
            names = [best.e_step.states[k] for k in unused]
            verdict.add(
                f"states {names} are hardly used (fewer than {_UNUSED} expected steps)",
                "use fewer states, more restarts, or a prior",
            )
        if best.fell is not None:
            verdict.add(
                f"fell from {best.fell[0]:.6f} to {best.fell[1]:.6f}: a step without a closed "
                "form was too large, the engine is approximate, or the limit of precision was "
                "reached; stopped, and the parameters before it are kept"
            )
        elif best.stuck:
            verdict.add(
                f"no step improves the conditionals of {best.stuck}, although their gradients "
                "are not zero: the likelihood may be unbounded",
                "check the data, or use other initial parameters",
            )
        elif not best.converged:
            verdict.stopped(
                len(best.trace["log_likelihood"]),
                "raise max_iterations",
                "before the likelihood converged",
            )
        verdict.warn()
