"""Gibbs sampling: many chains, in which each element is drawn in turn given all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.cells import plain_numbers
from pgnn.inference.beliefs import Beliefs, by_name
from pgnn.inference.diagnostics import BatchSums
from pgnn.inference.engine import Engine
from pgnn.inference.expansion import WRITTEN
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.linear_predictors import split_predictors
from pgnn.inference.loop import Info, iterate
from pgnn.inference.numba_support import has_numba
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.real_units import DRAWS, RealUnitTargets, WeightedStates
from pgnn.inference.sampling.block_chains import block_chains
from pgnn.inference.sampling.cpu_gibbs import TemperedTables
from pgnn.inference.sampling.possibility import proven_impossible
from pgnn.limits import POSITIVE, Interval, check_real, check_settings, check_size, check_work

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BATCHES = 16
# values stored per column and chain: sums, squares, halves
_ROOM = 2**25


class GibbsChains(Protocol):
    """Chains for some rows of evidence, on any device."""

    def start(self) -> Ints:
        """Find states of positive probability; per row 0, 1 (stopped) or 2 (impossible)."""

    def run(self, sweeps: int) -> None:
        """Run sweeps without recording."""

    def collect(self, kept: int, thin: int) -> tuple[Any, Any]:
        """Run sweeps, and return ``(rows * C, S)`` sums of conditionals and of their squares."""

    def trace(self, kept: int, thin: int) -> Any:
        """Run sweeps, and return ``(kept, rows * C, E)`` states."""


@dataclass(frozen=True)
class Gibbs(Engine):
    r"""Gibbs sampling: Markov chains that draw one element at a time from its full conditional.

    .. math:: x_i \sim p(x_i \mid x_{-i})^{1/T} \propto
        \Bigl(\psi_i(x_i) \prod_{f \ni i} \psi_f(x_f)\Bigr)^{1/T}

    A sweep visits all unobserved elements, colour by colour: elements of one colour share no
    factor. Marginals are averages of the full conditionals (Rao-Blackwellised), which have a
    smaller variance than counts of states. Half of the chains start at states drawn from the
    factors, half at uniform possible states, so that chains that remain in different modes are
    detected: ``diagnostics["r_hat"]`` is then large, and there is a warning. The log evidence is
    not estimated: it is ``NaN``.

    ``diagnostics`` hold, for each row: ``"r_hat"``, the largest over all states of all elements;
    ``"effective_sample_size"``, the smallest; ``"converged"``, whether ``r_hat <= max_r_hat``; and
    ``"sweeps"``, of each chain; and ``"standard_error"`` (name to the standard errors of its
    marginal), by batch means.

    Args:
        chains: Number of chains ``C`` per row of evidence.
        burn_in: Number of discarded initial sweeps of each chain.
        samples: Number of recorded sweeps of each chain, for marginals.
        thin: Only every ``thin``-th sweep is recorded.
        temperature: ``T``, or one temperature per chain (for ``sample`` only). Hard evidence is not
            affected.
        seed: Random seed; the same seed gives the same answers, with any number of threads.
        max_r_hat: Largest R-hat that counts as converged.
        progress: Whether to show a progress bar if it takes longer than a second.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        Per sweep one matrix product per block of units if dense matrices join them. Otherwise
        ``O(E)`` per sweep for elements whose neighbours have up to 131,072 joint states (their full
        conditionals are tabulated), and a product of the factors' columns for others. For
        :class:`Sigmoid` and :class:`Softmax` children with many parents the linear predictors are
        updated incrementally: a visit costs the number of an element's children.

    References:
        Geman and Geman (1984), IEEE PAMI 6(6). Gelfand and Smith (1990), JASA 85(410), section
        2.3, for the marginals. Gonzalez, Low, Gretton and Guestrin (2011), AISTATS, for colours.
        Gelman et al. (2013), Bayesian Data Analysis, section 11.4, for R-hat.

    Example:
        >>> import pgnn
        >>> model = pgnn.BayesianNetwork(
        ...     [("rain", "wet")], {"rain": [0.8, 0.2], "wet": [[0.9, 0.1], [0.2, 0.8]]}
        ... )
        >>> answer = model.query("rain", {"wet": 1}, engine=Gibbs(seed=0))
        >>> print(f"{answer['rain'].probs[1]:.3f}")  # one element: its conditional is exact
        0.667
    """

    chains: int = 4
    burn_in: int = 500
    samples: int = 2000
    thin: int = 1
    temperature: float | Sequence[float] = 1.0
    seed: int | None = None
    max_r_hat: float = 1.05
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, chains=1, samples=4, thin=1, max_r_hat=Interval(1.0))
        object.__setattr__(self, "temperature", plain_numbers(self.temperature))
        if not isinstance(self.temperature, Sequence):
            check_real("temperature", self.temperature, POSITIVE)
            return
        for t in self.temperature:
            check_real("a temperature", t, POSITIVE)
        if len(self.temperature) != self.chains:
            raise ModelError(
                f"temperature must be one number, or {self.chains}, one per chain; got "
                f"{self.temperature!r}"
            )

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures of the chains."""
        if isinstance(self.temperature, Sequence):
            return tuple(float(t) for t in self.temperature)
        return (float(self.temperature),) * self.chains

    def reason(self) -> str:
        """Return a short description of the engine, for :meth:`explain`."""
        return (
            f"{self.chains} chains per row, {self.burn_in} sweeps of burn-in and "
            f"{self.samples} kept"
        )

    def answer_query(self, question: Question) -> Posterior:
        """See :class:`Engine`; posteriors of real units are mixtures over discrete samples."""
        reals = RealUnitTargets.of(question)
        if reals is None:
            return super().answer_query(question)
        whole = super().answer_query(question.about(reals.discrete))
        codes, _ = self.draw(question.about(None), DRAWS, self.seed)
        return reals.answer(question, whole, WeightedStates.drawn(codes))

    def infer(self, question: Question) -> Beliefs:
        """Average full conditionals over the chains.

        Raises:
            Unsupported: If chains have different temperatures.
            EvidenceError: If no possible state was found for some row.
        """
        rows, columns = question.num_rows, int(question.graph.elements.offset[-1])
        self._check_cost(question, self.samples, columns)
        if len(set(self.temperatures)) > 1:
            raise Unsupported(
                "marginals need a single temperature",
                "chains at different temperatures only support sample()",
            )
        marginals, errors = np.full((2, rows, columns), np.nan)
        figures = np.full((2, rows), np.nan)
        impossible, doubted = np.zeros((2, rows), dtype=np.bool_)
        for first, last in self._blocks(rows, columns):
            chains = self._chains(question, (first, last), self.seed)
            now = slice(first, last)
            impossible[now], doubted[now] = self._started(question, chains, now)
            sums = BatchSums(last - first, self.chains, columns)
            steps = _Collecting(chains, sums, self)
            iterate(steps, steps.num, progress=self.progress, label="Gibbs")
            marginals[now], errors[now] = sums.mean(), sums.standard_error()
            figures[:, now] = _figures(sums)
        _fill_observed(question, marginals, errors)
        for numbers in (marginals, errors, figures.T):
            numbers[impossible | doubted] = np.nan
        return self._beliefs(question, marginals, errors, figures, impossible)

    def draw(self, question: Question, n: int, seed: int | None) -> tuple[Tensor, None]:
        """Draw ``(n, B, E)`` states: draw ``d`` comes from chain ``d % C``.

        Draws of one chain are ``thin`` sweeps apart, and correlated.

        Raises:
            EvidenceError: If no possible state was found for some row.
        """
        rows, elements = question.num_rows, len(question.graph.elements)
        self._check_cost(question, -(-n // self.chains), elements)
        out = np.empty((n, rows, elements), dtype=np.int64)
        each = -(-n // self.chains)
        for first, last in self._blocks(rows, elements * max(each, 1)):
            chains = self._chains(question, (first, last), self.seed if seed is None else seed)
            impossible = np.zeros(rows, dtype=np.bool_)
            impossible[first:last], _ = self._started(question, chains, slice(first, last))
            self.refuse(question, impossible)
            chains.run(self.burn_in)
            trace = np.asarray(chains.trace(each, self.thin)).astype(np.int64)
            drawn = trace.reshape(each, last - first, self.chains, elements).swapaxes(1, 2)
            drawn = drawn.reshape(each * self.chains, last - first, elements)[:n]
            out[:, first:last] = drawn
        return torch.from_numpy(out), None

    def answer_log_prob(self, question: Question) -> Tensor:
        """See :meth:`Engine.answer_log_prob`; rows must be complete."""
        if not question.complete:
            raise self._cannot(
                "does not estimate the log evidence, so that rows must be complete",
                "JunctionTree(), BeliefPropagation() or ImportanceSampling()",
            )
        return super().answer_log_prob(question)

    # --- helpers ------------------------------------------------------------------------------

    def _check_cost(self, question: Question, kept: int, columns: int) -> None:
        """Check the memory and time of the recorded sweeps.

        Raises:
            Intractable: If they exceed the limits.
        """
        chains = self.chains * max(question.num_rows, 1)
        what = f"{self.chains:,} chains of {question.num_rows:,} rows"
        check_size(what, chains + 8 * self.chains * columns, advice="Take fewer chains")
        visits = chains * (self.burn_in + kept * self.thin) * len(question.graph.elements)
        check_work(f"{what} and {self.burn_in + kept * self.thin:,} sweeps", visits,
                   "Take fewer chains, samples, or burn_in, or less thin")  # fmt: skip

    def _blocks(self, rows: int, columns: int) -> Iterator[tuple[int, int]]:
        """Yield blocks of rows whose chains fit into memory."""
        step = max(1, _ROOM // (8 * self.chains * max(columns, 1)))
        for first in range(0, rows, step):
            yield first, min(first + step, rows)

    def _chains(self, question: Question, rows: tuple[int, int], seed: int | None) -> GibbsChains:
        question = _with_small_tables(question)
        graph, tables = question.graph, TemperedTables(question, self.temperatures, rows)
        words = np.random.SeedSequence(seed).generate_state(2 * rows[1] * self.chains)
        seeds = words.view(np.uint64)[rows[0] * self.chains :]
        blocks = block_chains(tables, seeds)
        if blocks is not None:
            return blocks
        visits = self.burn_in + self.samples * self.thin
        if graph.device.type == "cpu" and has_numba():
            if graph.written_down:
                from pgnn.inference.sampling.cpu_gibbs import CpuChains

                return CpuChains(tables, seeds, visits)
            rest, predictors = split_predictors(graph.elements, graph.groups)
            if all(g.written_down for g in rest):
                from pgnn.inference.sampling.predictor_chains import PredictorChains

                tables = replace(tables, question=question.over(FactorGraph(graph.elements, rest)))
                return PredictorChains(tables, seeds, visits, predictors)
        from pgnn.inference.sampling.torch_gibbs import TorchChains

        return TorchChains(tables, seeds)

    def _started(self, question: Question, chains: GibbsChains, rows: slice) -> tuple[Mask, Mask]:
        """Start the chains of some rows; return the impossible rows and the undecided ones.

        Raises:
            EvidenceError: If no possible state was found for some row, unless NaN is wanted for it.
        """
        outcome = chains.start()
        doubted = np.zeros(question.num_rows, dtype=np.bool_)
        doubted[rows] = outcome == 1
        impossible = proven_impossible(question, doubted)
        doubted &= ~impossible
        self.check_found(question, doubted)
        return impossible[rows] | (outcome == 2), doubted[rows]

    def _beliefs(
        self,
        question: Question,
        marginals: Floats,
        errors: Floats,
        figures: Floats,
        impossible: Mask,
    ) -> Beliefs:
        graph, (r_hat, size) = question.graph, figures
        converged = (r_hat <= self.max_r_hat) | impossible
        diagnostics: dict[str, Any] = {
            name: torch.from_numpy(np.ascontiguousarray(value))
            for name, value in (
                ("r_hat", r_hat), ("effective_sample_size", size), ("converged", converged)
            )
        }  # fmt: skip
        diagnostics["sweeps"] = self.burn_in + self.samples * self.thin
        numbers = torch.from_numpy(errors).to(graph.device, graph.dtype)
        diagnostics["standard_error"] = by_name(question, numbers)
        return Beliefs(
            torch.from_numpy(marginals).to(graph.device, graph.dtype),
            torch.from_numpy(np.where(impossible, -np.inf, np.nan)).to(graph.device, graph.dtype),
            diagnostics=diagnostics,
            advice="" if converged.all() else self._advice(r_hat[~converged], size[~converged]),
        )

    def _advice(self, r_hat: Floats, size: Floats) -> str:
        if np.isnan(r_hat).all():
            return "no state of positive probability was found; use JunctionTree()"
        return (
            f"the chains did not mix: R-hat is up to {np.nanmax(r_hat):.3g} (at most "
            f"{self.max_r_hat:g} is allowed) and the effective sample size down to "
            f"{np.nanmin(size):.3g}; increase samples= and burn_in=, or use JunctionTree() or "
            "BeliefPropagation()"
        )


def _with_small_tables(question: Question) -> Question:
    """Return the query with all small factors tabulated; no auxiliary element is added."""
    graph = question.graph
    if graph.written_down:
        return question
    groups = [g.as_tables() if g.num_entries <= WRITTEN else g for g in graph.groups]
    return question.over(FactorGraph(graph.elements, groups))


class _Collecting:
    """Burn-in, then batches of recorded sweeps, one per step."""

    def __init__(self, chains: GibbsChains, sums: BatchSums, engine: Gibbs) -> None:
        self._chains, self._sums, self._thin = chains, sums, engine.thin
        batches = min(_BATCHES, engine.samples)
        batches -= batches % 2
        self._burn = np.diff(np.linspace(0, engine.burn_in, 5).astype(int)).tolist()
        self._kept = np.diff(np.linspace(0, engine.samples, batches + 1).astype(int)).tolist()
        self.num = len(self._burn) + len(self._kept)

    def init(self) -> int:
        """Return the number of the first step."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Run the burn-in, or a batch of recorded sweeps."""
        batch = state - len(self._burn)
        if batch < 0:
            if self._burn[state]:
                self._chains.run(self._burn[state])
        else:
            count = self._kept[batch]
            half = int(2 * batch >= len(self._kept))
            self._sums.add(half, count, *self._chains.collect(count, self._thin))
        return state + 1, Info()


def _figures(sums: BatchSums) -> tuple[Floats, Floats]:
    """Return the largest R-hat and the smallest effective sample size of each row."""
    rows, chains, columns = sums.shape
    if not columns:
        return np.ones(rows), np.full(rows, float(sum(sums.count) * chains))
    return sums.r_hat().max(axis=1), sums.effective_sample_size().min(axis=1)


def _fill_observed(question: Question, marginals: Floats, errors: Floats) -> None:
    """Fill in elements that need no chain: observed ones, and those with a single state."""
    elements = question.graph.elements
    codes = np.where(elements.card == 1, 0, question.observed.codes)
    rows, observed = np.nonzero(codes >= 0)
    hidden = np.repeat(codes >= 0, elements.card, axis=1)
    marginals[hidden] = errors[hidden] = 0.0
    marginals[rows, elements.offset[observed] + codes[rows, observed]] = 1.0
